"""Many pieces are one text, and cost little more than it."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.long_text import LongText


@given(st.lists(st.text(max_size=3), max_size=5), st.sampled_from([1, 100, 255, 256, 257, 600]))
def test_it_is_its_pieces_in_order(pieces: list[str], times: int) -> None:
    text = LongText()
    for piece in pieces * times:
        text.append(piece)
    assert str(text) == "".join(pieces * times) == str(text)
    text.replace("new ")
    text.append("end")
    assert str(text) == "new end"


def test_many_pieces_take_little_more_room_than_the_text() -> None:
    tracemalloc.start()
    try:
        text = LongText()
        for number in range(100_000):
            text.append(f"word{number:06} ")
        room, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert room < 1.5 * len(str(text))
