"""A streamed answer as bare text, for `curl -N -H 'Accept: text/plain'`."""

from gpt_oss_proxy.chat.events import Event, TextDelta
from gpt_oss_proxy.errors import GatewayError


class TextRenderer:
    """Lists of events → the answer's text as it comes, in UTF-8. Reasoning and keep-alives are silent."""

    def render(self, events: list[Event]) -> bytes:
        """Return the text of these events, b'' if there is none."""
        return "".join(event.text for event in events if isinstance(event, TextDelta)).encode()

    def fail(self, error: GatewayError) -> bytes:
        """Return a last line that tells the error. The transfer must be aborted after it, so that curl fails too."""
        return f"\nerror: {error.message}\n".encode()
