"""Model id → the upstream that serves it."""

from collections.abc import Sequence

from gpt_oss_proxy.errors import GatewayError, ModelNotFound, quote
from gpt_oss_proxy.upstreams.base import Model, Upstream


class Router:
    """Knows which upstream serves which model. Where two serve the same id, the first one does."""

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        self._upstreams = tuple(upstreams)

    def route(self, model_id: str) -> Upstream:
        """Return the model's upstream. Raises ModelNotFound, or the error of an upstream that could not be asked."""
        failure: GatewayError | None = None
        known: list[str] = []
        for upstream in self._upstreams:
            try:
                ids = [model.id for model in upstream.models()]
            except GatewayError as error:
                failure = error
                continue
            if model_id in ids:
                return upstream
            known += ids
        if failure:  # it might have been this upstream's: to say that it does not exist could be a lie
            raise failure
        there_are = ", ".join(dict.fromkeys(known))
        raise ModelNotFound(f"The model {quote(model_id)!r} does not exist. There are: {there_are}.", param="model")

    def models(self) -> tuple[Model, ...]:
        """Return all models that can be asked for now; an upstream that does not answer has none."""
        found: dict[str, Model] = {}
        for upstream in self._upstreams:
            try:
                models = upstream.models()
            except GatewayError:
                continue
            for model in models:
                found.setdefault(model.id, model)
        return tuple(found.values())
