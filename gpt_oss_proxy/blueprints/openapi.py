"""What this service takes and answers, for programs: GET /openapi.json."""

from collections.abc import Sequence

import msgspec
from flask import Blueprint, Response

from gpt_oss_proxy import __version__
from gpt_oss_proxy.apis.base import ClientApi
from gpt_oss_proxy.apis.document import document
from gpt_oss_proxy.blueprints.reply import Reply


def blueprint(apis: Sequence[ClientApi]) -> Blueprint:
    """Return the route, for these client APIs."""
    routes = Blueprint("openapi", __name__)
    body = msgspec.json.encode(document(apis, version=__version__))

    @routes.get("/openapi.json")
    def show() -> Response:
        return Reply(body, mimetype="application/json")

    return routes
