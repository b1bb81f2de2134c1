"""The example upstream of docs/development.md: a server that answers with lines of text and a last line END."""

from collections.abc import Mapping

from gpt_oss_proxy import sse
from gpt_oss_proxy.chat.events import Finish
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.emulation.fold import fold
from gpt_oss_proxy.errors import UpstreamIncomplete
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.upstreams.base import Model, Upstream
from gpt_oss_proxy.upstreams.decoder import Decoder


class LineDecoder(Decoder):
    """Each line is text; END is the terminal event."""

    def __init__(self, max_event_bytes: int) -> None:
        super().__init__(sse.LineDecoder(max_event_bytes))

    def decode(self, record: bytes) -> None:
        if record == b"END":
            self.complete = self.ended = True
        else:
            self.say(record.decode("utf-8", "replace") + "\n")

    def finish(self) -> None:
        if not self.complete:
            raise UpstreamIncomplete
        self.emit(Finish("stop"))


class Lines(Upstream):
    """`POST {url}` with the conversation as plain text."""

    name = "lines"

    def __init__(self, transport: Transport, *, url: str) -> None:
        super().__init__(transport)
        self._url = url

    def models(self) -> tuple[Model, ...]:
        return (Model("lines-1", "example", 0),)

    def build(self, request: ChatRequest) -> tuple[str, Mapping[str, str], bytes]:
        return self._url, {"Content-Type": "text/plain; charset=utf-8"}, fold(request.messages).encode()

    def decoder(self, headers: Mapping[str, str], _request: ChatRequest) -> Decoder:
        return LineDecoder(max_event_bytes=1024 * 1024)
