"""OpenAI's chat completions. Source: OpenAI's API reference, POST /v1/chat/completions, and its OpenAPI document."""

from gpt_oss_proxy.apis.base import Description, Incoming, Path, Stamp
from gpt_oss_proxy.apis.openai.api import OpenAIApi, own
from gpt_oss_proxy.apis.openai.chat_completions.describe import describe
from gpt_oss_proxy.apis.openai.chat_completions.parse import parse
from gpt_oss_proxy.apis.openai.chat_completions.render import ChunkRenderer, render
from gpt_oss_proxy.chat.completion import Collector
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import dotted


class ChatCompletions(OpenAIApi):
    """`POST /chat/completions`."""

    name = "chat_completions"
    path = "/chat/completions"
    id_prefix = "chatcmpl-"

    def parse(self, incoming: Incoming) -> ChatRequest:
        """See OpenAIApi."""
        return parse(incoming, default_model=self._default_model, reasoning=self._reasoning)

    def spell(self, path: Path, request: ChatRequest) -> str:
        """Return a path like `tools[0].function.name`, or `functions[0].name` where tools came as functions."""
        match path:
            case ("tools", int(index), *rest) if own(request).has_functions:
                return dotted(("functions", index, *rest))
            case ("tools", int(index), *rest) if rest:
                return dotted(("tools", index, "function", *rest))
            case ("tools",) if own(request).has_functions:
                return "functions"
            case ("tool_choice",) if own(request).has_functions:
                return "function_call"
            case ("response_format", "schema"):
                return "response_format.json_schema.schema"
            case _:
                return dotted(path)

    def whole(self, collector: Collector, stamp: Stamp, request: ChatRequest) -> bytes:
        """Return the body of a chat.completion."""
        return render(collector.completion(), stamp, request)

    def stream(self, stamp: Stamp, request: ChatRequest) -> ChunkRenderer:
        """Return a renderer of chunks."""
        return ChunkRenderer(stamp, request)

    def describe(self) -> Description:
        """See ClientApi."""
        return describe(self.path)
