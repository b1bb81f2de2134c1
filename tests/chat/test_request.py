"""What a client asks, as values."""

import pytest

from gpt_oss_proxy.chat.request import Image, Message, Part, PassthroughPart, Text


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((), ""),
        ((Text(""),), ""),
        ((Text(" a\n"),), " a\n"),
        ((Text("a"), Text("b")), "a\nb"),
        ((Text("a"), Image("data:,"), Text("b")), "a\nb"),
        ((Image("data:,"), PassthroughPart("file", {"file": {}})), ""),
    ],
)
def test_the_text_of_a_message_is_that_of_its_text_parts(parts: tuple[Part, ...], text: str) -> None:
    assert Message("user", parts).text == text
