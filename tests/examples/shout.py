"""An example of a filter: text that ends with an exclamation mark is shouted."""

from gpt_oss_proxy.chat.events import TextDelta
from gpt_oss_proxy.emulation.filter import Filter


class Shout(Filter):
    """Text that ends with `!` in capitals."""

    def watches_for(self) -> str:
        return "!"

    def ends_plainly(self) -> bool:
        return True

    def text(self, delta: TextDelta) -> None:
        self.emit(TextDelta(delta.text.upper()) if delta.text.endswith("!") else delta)
