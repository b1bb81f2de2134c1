"""Merges a second try into an answer whose first try was already sent: nothing is sent twice, and nothing is lost.

The model was asked to correct its call. Text around the new call is dropped: it repeats what was sent, or is about the
correction. If no call comes, the text is the answer; then only the repeated part is dropped.
"""

from gpt_oss_proxy.chat.events import FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.filter import Fault, Filter
from gpt_oss_proxy.errors import ResponseFormatInvalid

_SEPARATOR = "\n\n"  # between the texts of both tries, if the second does not continue the first
_LONGEST_PREFACE = 1000  # characters before a call; a longer text is an answer of its own, and is streamed


class SecondTry(Filter):
    """Lets new text through. `text` is what was sent of the first try, `reasoned` whether reasoning was.

    With `waits`, text is held until a call comes or is unlikely. With `is_json`, both texts must form one JSON value.
    """

    def __init__(self, text: str, *, reasoned: bool, waits: bool, is_json: bool) -> None:
        super().__init__()
        self._sent = text.strip()
        self._space_is_sent = bool(self._sent) and text != text.rstrip()
        self._reasoned = reasoned
        self._room = _LONGEST_PREFACE if waits else 0
        self._is_json = is_json
        self._repeated = 0  # how many characters of the sent text were repeated
        self._goes_on = False  # all of it was repeated, and new text follows separately
        self._separator = ""
        self._held: list[str] = []
        self._answers = False  # the text is the answer, and is emitted as it comes
        self._called = False

    def text(self, delta: TextDelta) -> None:
        """Hold new text until its role is certain."""
        if self._called:
            return
        if self._answers:
            self.emit(delta)
        elif new := self._new(delta.text):
            self._held.append(new)
            self._room -= len(new)
            if self._room < 0:
                self._release()

    def reasoning(self, delta: ReasoningDelta) -> None:
        """Let reasoning through unless some was sent: it would repeat that."""
        if not self._reasoned:
            self.emit(delta)

    def call(self, delta: ToolCallDelta) -> None:
        """Drop the text around a call."""
        self._called = True
        self._held.clear()
        self.emit(delta)

    def finish(self, reason: FinishReason) -> None:
        """Without a call, the text is the answer."""
        self._release()
        if not self.fault:
            self.end(reason)

    def _new(self, text: str) -> str:
        """Return the part of the text that does not repeat what was sent."""
        if self._held:
            return text
        if not self._repeated:
            text = text.lstrip()
        if self._sent.startswith(text, self._repeated):
            self._repeated += len(text)
            return ""
        rest = self._sent[self._repeated :]
        new = text.removeprefix(rest)
        if text.startswith(rest) and (self._goes_on or not self._space_is_sent or new[0].isspace()):
            self._repeated, self._goes_on = len(self._sent), True
            return new.lstrip() if self._space_is_sent else new
        self._separator = _SEPARATOR
        return self._sent[: self._repeated] + text

    def _release(self) -> None:
        if self._held and self._separator and self._is_json:
            error = ResponseFormatInvalid("The model returned no answer in the wanted format: it began twice.")
            self.fault = Fault("", error, repairable=False)
            return
        if self._held:
            self.emit(TextDelta("".join([self._separator, *self._held])))
        self._held.clear()
        self._answers = True
