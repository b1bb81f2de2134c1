"""What OpenAI's APIs have in common: the value that their renderers need, their error form, how fields are spelled."""

import abc
from collections.abc import Mapping
from typing import Any

import msgspec

from gpt_oss_proxy.apis.base import ClientApi, HttpAnswer, Incoming, ModelRoute, Path, Route, StreamRenderer
from gpt_oss_proxy.apis.openai.errors import error_body
from gpt_oss_proxy.apis.openai.plain_text import TextRenderer
from gpt_oss_proxy.apis.openai.reasoning import ReasoningFormat
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, dotted

# Values that ask for nothing but what happens anyway.
_HARMLESS: Mapping[str, tuple[Any, ...]] = {"logprobs": (False,), "modalities": (["text"],), "store": (False,)}
_NAMES = {
    "effort": "reasoning_effort",
    "sampling.bias": "logit_bias",
}
# Azure's clients name the model in the path.
_DEPLOYMENTS = ("/openai/deployments", "/deployments")


class Own(msgspec.Struct, frozen=True):
    """What the renderers need of a request, as `ChatRequest.own`.

    `reasoning` is where an answer shows it. `names` are the request's further fields in their order. `has_functions`
    says that tools came as `functions`, `has_echo` that a text begins with its prompt.
    """

    reasoning: ReasoningFormat = "both"
    names: tuple[str, ...] = ()
    has_functions: bool = False
    has_echo: bool = False


def own(request: ChatRequest) -> Own:
    """Return the value of a request that came through one of OpenAI's APIs."""
    value: Own = request.own
    return value


class OpenAIApi(ClientApi):
    """One of OpenAI's APIs: a POST to `path`, and the same below a deployment's name."""

    path: str

    def __init__(self, *, default_model: str, reasoning: ReasoningFormat) -> None:
        """`default_model` is asked for where a request names none, `reasoning` is where the operator wants it shown."""
        self._default_model = default_model
        self._reasoning = reasoning
        below = (f"{root}/<path:model>{self.path}" for root in _DEPLOYMENTS)
        self.routes: tuple[Route, ...] = tuple(ModelRoute(path, self.parse) for path in (self.path, *below))

    @abc.abstractmethod
    def parse(self, incoming: Incoming) -> ChatRequest:
        """Return what a request asks for. Raises InvalidRequest."""

    def spell(self, path: Path, request: ChatRequest) -> str:  # noqa: ARG002 - of the interface
        """See ClientApi."""
        return dotted(path)

    def spell_ignored(self, fields: tuple[str, ...], request: ChatRequest) -> tuple[str, ...]:
        """Return the names in the order of the request's body, then all others."""
        passed = request.passthrough
        names = {
            _NAMES.get(field) or field.removeprefix("passthrough." if field.startswith("passthrough.") else "sampling.")
            for field in fields
            if not field.startswith("messages.")
        }
        of_body = [name for name in own(request).names if name in names]
        ignored = [name for name in of_body if passed.get(name, ...) not in _HARMLESS.get(name, ())]
        effort = [name for name in ("reasoning_effort",) if name in names]
        return (*ignored, *effort, *(field for field in fields if field.startswith("messages.")))

    def bare_text(self, request: ChatRequest) -> StreamRenderer:
        """Return the renderer of the first choice's text, after its prompt if that is to be echoed."""
        prompt = request.messages[0].text if own(request).has_echo else ""
        return TextRenderer(prompt, own(request).reasoning)

    def render_error(self, error: GatewayError, request_id: str) -> HttpAnswer:  # noqa: ARG002 - of the interface
        """Return OpenAI's error object."""
        return HttpAnswer(error_body(error), error.status)
