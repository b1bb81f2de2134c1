"""Items know the text that was sent of each of their parts."""

from gpt_oss_proxy.upstreams.chatkit.item import Item, Part, join_texts, widget_texts


def test_a_part_grows() -> None:
    part = Part("Hel")
    part.append("lo")
    part.append("")
    assert (part.text, part.length) == ("Hello", 5)


def test_an_item_has_its_parts_in_their_order_and_no_gap_for_an_empty_one() -> None:
    item = Item()
    assert item.text == ""
    item.parts = {2: Part("c"), 0: Part("a"), 1: Part()}
    assert item.text == join_texts(["a", "c"]) == "a\n\nc"


def test_a_widget_s_texts_come_in_their_order() -> None:
    widget = {"value": "a", "children": [{"value": "b", "more": {"value": "c"}}, [{"value": 7}, {"value": "d"}], "e"]}
    assert widget_texts(widget) == ["a", "b", "c", "d"]
    assert widget_texts(None) == []
