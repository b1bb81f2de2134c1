"""A streamed answer as bare text, for `curl -N -H 'Accept: text/plain'`."""

from gpt_oss_proxy.apis.openai.reasoning import placing
from gpt_oss_proxy.chat.events import Choice, Event, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError


class TextRenderer:
    """Lists of events → the first choice's text as it comes, in UTF-8, after its prompt if that is to be echoed.

    Keep-alives are silent, and so is reasoning, unless it is to stand within the text.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._opening = request.messages[0].text if "echo" in request.spelling else ""
        self._place = placing(request.reasoning_format)

    def render(self, events: list[Event]) -> bytes:
        """Return the text of these events, b'' if there is none."""
        told, self._opening = [self._opening], ""
        index = 0
        for event in self._place(events) if self._place else events:
            if isinstance(event, Choice):
                index = event.index
            elif isinstance(event, TextDelta) and index == 0:
                told.append(event.text)
        return "".join(told).encode()

    def fail(self, error: GatewayError) -> bytes:
        """Return a last line that tells the error. The transfer must be aborted after it, so that curl fails too."""
        return f"\nerror: {error.message}\n".encode()
