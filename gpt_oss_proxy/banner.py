"""What the person who starts the gateway reads: its address, its models, and a request that works."""

import contextlib
import json
import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

import gevent

from gpt_oss_proxy.app import UPSTREAMS
from gpt_oss_proxy.config.settings import Settings
from gpt_oss_proxy.errors import GatewayError
from gpt_oss_proxy.upstreams.base import Model, Upstream

_SECONDS = 2.0  # for a list of models: the workers begin when it is there


def banner(settings: Settings, upstreams: Sequence[Upstream], base: str, curl: str) -> str:
    """Return the lines. `base` is the address for people, `curl` the same as curl takes it.

    A server whose models are not known is asked for them: without an answer its list is what there is to try.
    """
    known = {upstream.name: [model.id for model in _models(upstream)] for upstream in upstreams}
    models = list(dict.fromkeys(model for ids in known.values() for model in ids))
    models += [f"those of {_host(settings, name)}" for name, ids in known.items() if not ids]
    key = " -H 'Authorization: Bearer KEY'" if settings.api_keys else ""
    access = ", one of API_KEYS in place of KEY" if key else ""
    return (
        f"gpt_oss_proxy answers on {base} with {settings.web_concurrency} worker(s)"
        f"{'' if key else ', open: no API key'}.\n"
        f"Models: {', '.join(models)}\n"
        f"Try{access}:\n"
        f"  curl {curl}{_path_and_body(settings, known)}{key}"
    )


def _models(upstream: Upstream) -> tuple[Model, ...]:
    models = upstream.known_models()
    if not models:
        with contextlib.suppress(GatewayError), gevent.Timeout(_SECONDS, False):  # type: ignore[arg-type] # it is left
            models = upstream.models()
        upstream.drop_idle()
    return models


def _path_and_body(settings: Settings, known: dict[str, list[str]]) -> str:
    """Return the rest of the request: a chat, or the list of models where no model is known that would answer."""
    body: dict[str, object] = {"messages": [{"role": "user", "content": "Hello!"}]}
    # Who sets one URL means that server, and not those whose URLs are still the defaults.
    chosen = [name for name in known if UPSTREAMS[name].url(settings) != UPSTREAMS[name].url(Settings())]
    if _serving(settings.default_model, known) not in (chosen or known):
        model = next((model for name in chosen for model in known[name]), "")
        if not model:
            return "/v1/models"
        body = {"model": model, **body}
    return f"/v1/chat/completions -d {shlex.quote(json.dumps(body))}"


def _serving(model: str, known: dict[str, list[str]]) -> str:
    """Return the upstream that a request for the model goes to; "" is the default model where none is set."""
    return next(name for name, ids in known.items() if not ids or not model or model in ids)


def _host(settings: Settings, upstream: str) -> str:
    """Return where the upstream is, without what else its URL holds: that may be a password."""
    parts = urlsplit(UPSTREAMS[upstream].url(settings))
    return f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"
