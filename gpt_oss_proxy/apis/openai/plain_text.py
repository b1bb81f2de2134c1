"""A streamed answer as bare text, for `curl -N -H 'Accept: text/plain'`."""

from gpt_oss_proxy.apis.openai.reasoning import ReasoningFormat, placing
from gpt_oss_proxy.chat.events import Choice, Event, TextDelta
from gpt_oss_proxy.errors import GatewayError


class TextRenderer:
    """Batches of events → the first choice's text as it comes, in UTF-8.

    Keep-alives are silent, and so is reasoning, unless it is to stand within the text.
    """

    def __init__(self, opening: str, reasoning: ReasoningFormat) -> None:
        """`opening` is the text that the answer begins with."""
        self._opening = opening
        self._place = placing(reasoning)

    def feed(self, events: list[Event]) -> bytes:
        """Return the text of these events, b'' if there is none."""
        texts, self._opening = [self._opening], ""
        index = 0
        for event in self._place(events) if self._place else events:
            if isinstance(event, Choice):
                index = event.index
            elif isinstance(event, TextDelta) and index == 0:
                texts.append(event.text)
        return "".join(texts).encode()

    end = feed

    def fail(self, error: GatewayError) -> bytes:
        """Return a last line with the error. The transfer must be aborted after it, so that curl fails too."""
        return f"\nerror: {error.message}\n".encode()
