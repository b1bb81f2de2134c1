"""ChatKit, both dialects: gpt-oss-20b and gpt-oss-120b.

Sources: the package openai-chatkit 1.6.5 (types.py, server.py, agents.py) for the published dialect; the public clients
of gpt-oss.com for its older one, which was never published. ChatKit takes one user message, so the conversation is
folded into one text, in a new thread each time. Both spellings of events are understood in either dialect.
"""

from collections.abc import Mapping

import msgspec

from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.config.settings import ChatKitDialect
from gpt_oss_proxy.errors import UpstreamProtocolError
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.upstreams.base import Model, Upstream
from gpt_oss_proxy.upstreams.chatkit.decoder import ChatKitDecoder
from gpt_oss_proxy.upstreams.chatkit.request import build_body, build_headers
from gpt_oss_proxy.upstreams.decoder import Decoder

_MODELS = (
    Model("gpt-oss-20b", "openai", 1_754_352_000),
    Model("gpt-oss-120b", "openai", 1_754_352_000),
)


class ChatKit(Upstream):
    """`POST {base_url}/chatkit`."""

    name = "chatkit"
    leaks_harmony = True

    def __init__(
        self, transport: Transport, *, base_url: str, dialect: ChatKitDialect, effort_default: str, max_event_bytes: int
    ) -> None:
        super().__init__(transport, base_url)
        self._url = f"{base_url}/chatkit"
        self._dialect = dialect
        self._effort_default = effort_default
        self._max_event_bytes = max_event_bytes
        if dialect == "older":
            self.native_options = frozenset({"effort"})

    def models(self) -> tuple[Model, ...]:
        """Return the two gpt-oss models."""
        return _MODELS

    def build(self, request: ChatRequest) -> tuple[str, Mapping[str, str], bytes]:
        """Return the POST that creates a thread."""
        headers = build_headers(request, self._dialect, self._effort_default)
        return self._url, headers, msgspec.json.encode(build_body(request, self._dialect))

    def decoder(self, headers: Mapping[str, str], request: ChatRequest) -> Decoder:
        """Return a decoder. Raises UpstreamProtocolError unless the answer is an event stream."""
        if not headers.get("Content-Type", "text/event-stream").lower().startswith("text/event-stream"):
            raise UpstreamProtocolError
        return ChatKitDecoder(self._max_event_bytes, tools_offered=request.offers_tools)
