"""Which client API's form an error has when no route is known: 404, 405, 401, 413 and broken HTTP."""

from collections.abc import Mapping, Sequence
from typing import Any

from gpt_oss_proxy.apis.base import ClientApi

_PREFIX = "/v1"


def family(apis: Sequence[ClientApi], path: str, environ: Mapping[str, Any]) -> ClientApi:
    """Return the API that serves this path or what lies above it, else the one that claims the request, else the first.

    `path` is without a query, and may lack /v1.
    """
    below = path.removeprefix(_PREFIX)
    found = [(len(root), api) for api in apis for root in _roots(api) if below == root or below.startswith(f"{root}/")]
    if found:
        return max(found, key=lambda one: one[0])[1]
    return next((api for api in apis if api.claims(environ)), apis[0])


def _roots(api: ClientApi) -> set[str]:
    """Return the routes' paths up to their first variable."""
    return {route.path.partition("/<")[0] for route in api.routes}
