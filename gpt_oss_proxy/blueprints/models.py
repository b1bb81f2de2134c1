"""The models that can be asked for: GET /v1/models and /v1/models/{id}."""

from typing import Any

from flask import Blueprint, Response, jsonify

from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.upstreams.base import Model


def blueprint(router: Router, demonstration: str) -> Blueprint:
    """Return the routes. `demonstration` is the description of every model, if it is not ''."""
    routes = Blueprint("models", __name__)

    def show(model: Model) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": model.id,
            "object": "model",
            "created": model.created,
            "owned_by": model.owned_by,
            **({} if model.context_length is None else {"context_length": model.context_length}),
        }
        return {**shown, "owned_by": "demonstration", "description": demonstration} if demonstration else shown

    @routes.get("/models")
    def list_models() -> Response:
        return jsonify({"object": "list", "data": [show(model) for model in router.models()]})

    @routes.get("/models/<path:model_id>")
    def get_model(model_id: str) -> Response:
        return jsonify(show(router.model(model_id)))

    return routes
