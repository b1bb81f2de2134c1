"""OpenAI's legacy completions: text in, text out. Source: OpenAI's API reference, POST /v1/completions."""

from gpt_oss_proxy.apis.base import Description, Incoming, Path, Stamp
from gpt_oss_proxy.apis.openai.api import OpenAIApi
from gpt_oss_proxy.apis.openai.completions.describe import describe
from gpt_oss_proxy.apis.openai.completions.parse import parse
from gpt_oss_proxy.apis.openai.completions.render import ChunkRenderer, render
from gpt_oss_proxy.chat.completion import Collector
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import dotted


class Completions(OpenAIApi):
    """`POST /completions`."""

    name = "completions"
    path = "/completions"
    id_prefix = "cmpl-"

    def parse(self, incoming: Incoming) -> ChatRequest:
        """See OpenAIApi."""
        return parse(incoming, default_model=self._default_model, reasoning=self._reasoning)

    def spell(self, path: Path, request: ChatRequest) -> str:  # noqa: ARG002 - of the interface
        """Return `prompt` for what is wrong with the one message that a prompt becomes."""
        match path:
            case ("messages", *_):
                return "prompt"
            case ("response_format", "schema"):
                return "response_format.json_schema.schema"
            case _:
                return dotted(path)

    def whole(self, collector: Collector, stamp: Stamp, request: ChatRequest) -> bytes:
        """Return the body of a text_completion."""
        return render(collector.completion(), stamp, request)

    def stream(self, stamp: Stamp, request: ChatRequest) -> ChunkRenderer:
        """Return a renderer of chunks."""
        return ChunkRenderer(stamp, request)

    def describe(self) -> Description:
        """See ClientApi."""
        return describe(self.path)
