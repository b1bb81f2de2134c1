"""Items know enough of the text of each of their parts to compare it with another, and where it was emitted."""

from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.upstreams.chatkit.item import Item, Part, join_texts, pieces_of, widget_texts


def grown(*pieces: str) -> Part:
    part = Part()
    for piece in pieces:
        part.append(piece)
    return part


@given(
    st.lists(st.text("ab", max_size=3) | st.sampled_from(["\ud83d", "\ude00", "é" * 3000, "a" * 4096]), max_size=5),
    st.text("ab", max_size=2),
    st.data(),
)
def test_a_part_knows_which_texts_begin_with_it(pieces: list[str], more: str, data: st.DataObject) -> None:
    text = "".join(pieces)
    for part in (grown(*pieces), Part(text)):
        assert part.length == len(text)
        assert part.begins(text)
        assert part.begins(text + more)
        assert not text or not part.begins(text[:-1])
        if text:
            place = data.draw(st.integers(0, len(text) - 1))
            assert not part.begins(text[:place] + "c" + text[place + 1 :] + more)


def test_a_character_that_was_cut_is_not_the_whole_one() -> None:
    for before in ("", "a" * 5000):
        assert not grown(before, "\ud83d", "\ude00").begins(f"{before}😀 and more")
        assert not grown(f"{before}\ud83d").begins(f"{before}?")


def test_an_item_is_empty_until_a_part_has_text() -> None:
    item = Item()
    assert item.is_empty
    item.parts = {0: Part(), 1: grown("")}
    assert item.is_empty
    item.parts[2] = grown("", "a")
    assert not item.is_empty


def test_parts_come_in_their_order_and_no_gap_for_an_empty_one() -> None:
    item, other = Item(), Item()
    said = grown("c")
    said.places = [(0, 1), (4, 5)]
    item.parts = {2: said, 0: Part("a\ud83d"), 1: Part()}
    other.parts = {0: Part("b")}
    assert list(pieces_of([item, Item(), other])) == ["a\ufffd", "\n\n", "", (0, 1), (4, 5), "\n\n", "b"]
    assert join_texts(["a", "", "c"]) == "a\n\nc"


def test_a_widget_s_texts_come_in_their_order() -> None:
    widget = {"value": "a", "children": [{"value": "b", "more": {"value": "c"}}, [{"value": 7}, {"value": "d"}], "e"]}
    assert widget_texts(widget) == ["a", "b", "c", "d"]
    assert widget_texts(None) == []
