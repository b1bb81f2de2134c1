"""Model id → the upstreams that serve it, in the order in which they are tried."""

from collections.abc import Mapping, Sequence

from gpt_oss_proxy.errors import GatewayError, ModelNotFound
from gpt_oss_proxy.gateway.attempts import Target
from gpt_oss_proxy.gateway.gate import UpstreamGate
from gpt_oss_proxy.quoting import quote
from gpt_oss_proxy.upstreams.base import Model


class Router:
    """Knows which upstream serves which model, and which ones to try if it cannot be reached.

    If two upstreams serve the same id, the first one is used.
    """

    def __init__(self, gates: Sequence[UpstreamGate], failover: Mapping[str, Sequence[Target]]) -> None:
        self._gates = tuple(gates)
        self._failover = failover

    def route(self, model_id: str) -> tuple[Target, ...]:
        """Return the model's targets. Raises ModelNotFound, or the error of an upstream whose models are unknown."""
        others = tuple(self._failover.get(model_id, ()))
        try:
            gate, _ = self._find(model_id)
        except ModelNotFound:
            raise
        except GatewayError:  # the upstream that serves it cannot be asked for its models
            if others:
                return others
            raise
        return (Target(gate, model_id), *others)

    @property
    def gates(self) -> tuple[UpstreamGate, ...]:
        """All upstreams, including those that are only used for failover."""
        spare = (target.gate for targets in self._failover.values() for target in targets)
        return tuple(dict.fromkeys((*self._gates, *spare)))

    def model(self, model_id: str) -> Model:
        """Return the model. Raises as `route` does."""
        return self._find(model_id)[1]

    def models(self) -> tuple[Model, ...]:
        """Return all available models; an upstream that does not answer contributes none."""
        found: dict[str, Model] = {}
        for gate in self._gates:
            try:
                models = gate.upstream.models()
            except GatewayError:
                continue
            for model in models:
                found.setdefault(model.id, model)
        return tuple(found.values())

    def first(self) -> str:
        """Return the id of the first listed model. Raises ModelNotFound, or an upstream's error."""
        for gate in self._gates:
            for model in gate.upstream.models():
                return model.id
        raise ModelNotFound("The request names no model, and no upstream lists one.", param="model")

    def _find(self, model_id: str) -> tuple[UpstreamGate, Model]:
        failure: GatewayError | None = None
        known: list[str] = []
        for gate in self._gates:
            try:
                models = gate.upstream.models()
            except GatewayError as error:
                failure = error
                continue
            for model in models:
                if model.id == model_id:
                    return gate, model
            known += [model.id for model in models]
        if failure:  # the model might be this upstream's: "does not exist" could be wrong
            raise failure
        there_are = ", ".join(dict.fromkeys(known))
        raise ModelNotFound(f"The model {quote(model_id)!r} does not exist. There are: {there_are}.", param="model")
