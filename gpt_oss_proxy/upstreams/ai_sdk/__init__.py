"""AI SDK chat endpoints: gpt-4o and gpt-4o-mini, with images.

Sources: the npm package ai 4.1.9 to 6.0 (streamText, createDataStream, ui-message-stream), and the route of the public
repository Markeljan/minimal-chatbot. Two answer protocols: data stream v1 (AI SDK 4) and the UI message stream (5 and
later), distinguished by header, then content type, then first line.
"""

import uuid
from collections.abc import Mapping

import msgspec

from gpt_oss_proxy.chat.events import Event
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.config.settings import ImageFormat, MessageFormat
from gpt_oss_proxy.errors import UpstreamIncomplete, UpstreamProtocolError
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.sse import LineDecoder
from gpt_oss_proxy.upstreams.ai_sdk.data_stream import DataStreamDecoder
from gpt_oss_proxy.upstreams.ai_sdk.request import build_body
from gpt_oss_proxy.upstreams.ai_sdk.ui_stream import UiStreamDecoder
from gpt_oss_proxy.upstreams.base import Model, Upstream
from gpt_oss_proxy.upstreams.decoder import Decoder

_MODELS = (
    Model("gpt-4o", "openai", 1_715_367_049),
    Model("gpt-4o-mini", "openai", 1_721_172_741),
)


class AiSdk(Upstream):
    """`POST {url}`."""

    name = "ai_sdk"

    def __init__(
        self,
        transport: Transport,
        *,
        url: str,
        session_prefix: str,
        image_format: ImageFormat,
        message_format: MessageFormat,
        max_event_bytes: int,
    ) -> None:
        super().__init__(transport, url)
        self._url = url
        self._session_prefix = session_prefix
        self._image_format = image_format
        self._message_format = message_format
        self._max_event_bytes = max_event_bytes

    def models(self) -> tuple[Model, ...]:
        """Return the endpoint's two models."""
        return _MODELS

    def build(self, request: ChatRequest) -> tuple[str, Mapping[str, str], bytes]:
        """Return the POST that asks for an answer, in a new chat each time."""
        body = build_body(
            request,
            chat_id=f"{self._session_prefix}{uuid.uuid4()}",
            image_format=self._image_format,
            message_format=self._message_format,
        )
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, text/plain"}
        return self._url, headers, msgspec.json.encode(body)

    def decoder(self, headers: Mapping[str, str], request: ChatRequest) -> Decoder:
        """Return the decoder that the headers name, or one that decides by the first line."""
        return choose_decoder(headers, request, self._max_event_bytes)


def choose_decoder(headers: Mapping[str, str], request: ChatRequest, max_event_bytes: int) -> Decoder:
    """Return the decoder for an answer with these headers. Raises UpstreamProtocolError for HTML or a document."""
    content_type = headers.get("Content-Type", "").lower()
    if "X-Vercel-AI-Data-Stream" in headers:
        return DataStreamDecoder(request, max_event_bytes)
    if "X-Vercel-AI-UI-Message-Stream" in headers or content_type.startswith("text/event-stream"):
        return UiStreamDecoder(request, max_event_bytes)
    if "html" in content_type or "json" in content_type:
        raise UpstreamProtocolError
    return FirstLineDecoder(request, max_event_bytes)


class FirstLineDecoder(Decoder):
    """Waits for the first line that is not blank, then passes everything to the decoder for that line."""

    def __init__(self, request: ChatRequest, max_event_bytes: int) -> None:
        super().__init__(LineDecoder(max_event_bytes))
        self._request = request
        self._max_event_bytes = max_event_bytes
        self._head: list[bytes] = []
        self._chosen: Decoder | None = None

    def feed(self, data: bytes) -> list[Event] | None:
        """Return the chosen decoder's events for all bytes so far; None while no line is complete."""
        if self._chosen is None:
            # Blank lines have no meaning in either protocol; an endless run of them would fill the memory.
            self._head.append(data if self._head else data.lstrip(b"\r\n"))
            super().feed(data)
            data = b"".join(self._head) if self._chosen else b""
        return self._feed(self._chosen, data) if self._chosen else None

    def close(self) -> list[Event]:
        """Return the chosen decoder's last events."""
        if self._chosen is None:
            raise UpstreamIncomplete
        return self._chosen.close()

    def decode(self, record: bytes) -> None:
        """Choose a decoder by a line. Raises UpstreamProtocolError if no protocol begins like this."""
        if self._chosen or not record:
            return
        if record.startswith((b"data:", b"event:", b":")):
            self._chosen = UiStreamDecoder(self._request, self._max_event_bytes)
        elif record[1:2] == b":":
            self._chosen = DataStreamDecoder(self._request, self._max_event_bytes)
        else:
            raise UpstreamProtocolError

    def finish(self) -> None:
        """Do nothing: the chosen decoder finishes."""

    def _feed(self, chosen: Decoder, data: bytes) -> list[Event] | None:
        events = chosen.feed(data)
        self.complete, self.ended, self.failure = chosen.complete, chosen.ended, chosen.failure
        return events
