"""Fields in pieces are what they are as a whole."""

import copy
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.chat.extra import ExtraFields
from tests.doubles import measuring

Fields = dict[str, Any]


def joined(*pieces: Fields) -> Fields:
    """Return what the pieces are together. They stay as they are."""
    before = copy.deepcopy(pieces)
    fields = ExtraFields()
    for piece in pieces:
        fields.add(piece)
    value = fields.value()
    assert fields.value() == value
    assert pieces == before
    return value


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        ([], {}),
        ([{"a": 1, "b": None, "c": [{}], "d": {"e": "f"}}], {"a": 1, "b": None, "c": [{}], "d": {"e": "f"}}),
        # texts grow, numbers are told anew
        ([{"signature": "c2"}, {"signature": "ln"}], {"signature": "c2ln"}),
        ([{"a": 1}, {"a": 2}], {"a": 2}),
        ([{"a": "x"}, {"a": 2}, {"a": "y"}], {"a": "y"}),
        ([{"a": []}, {"a": "y"}, {"a": {"text": "z"}}], {"a": {"text": "z"}}),
        # lists grow
        ([{"annotations": [{"type": "url_citation"}]}, {"annotations": [{"type": "url_citation"}, 7]}],
         {"annotations": [{"type": "url_citation"}, {"type": "url_citation"}, 7]}),
        ([{"images": []}, {"images": ["x"]}], {"images": ["x"]}),
        # OpenRouter's reasoning_details
        ([{"reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0, "format": "x"}]},
          {"reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0}]},
          {"reasoning_details": [{"type": "reasoning.text", "signature": "s", "text": None, "index": 0}]},
          {"reasoning_details": [{"type": "reasoning.encrypted", "data": "ZW5j", "id": "r1", "index": 0}]},
          {"reasoning_details": [{"type": "reasoning.summary", "summary": "c", "index": 1}]}],
         {"reasoning_details": [
             {"type": "reasoning.text", "text": "ab", "index": 0, "format": "x", "signature": "s"},
             {"type": "reasoning.encrypted", "data": "ZW5j", "id": "r1", "index": 0},
             {"type": "reasoning.summary", "summary": "c", "index": 1}]}),
        # pieces that come together
        ([{"a": [{"index": 0, "text": "a"}, {"index": 1, "text": "b"}, {"index": 0, "text": "c"}]}],
         {"a": [{"index": 0, "text": "ac"}, {"index": 1, "text": "b"}]}),
        # ids and types are told anew, and fields may come late
        ([{"a": [{"index": 0, "id": "x"}]}, {"a": [{"index": 0, "id": "x", "text": "a"}]},
          {"a": [{"index": 0, "id": "y", "text": "b"}]}], {"a": [{"index": 0, "id": "y", "text": "ab"}]}),
        # an index that is none
        ([{"a": [{"index": "0", "text": "a"}]}, {"a": [{"index": "0", "text": "b"}]}],
         {"a": [{"index": "0", "text": "a"}, {"index": "0", "text": "b"}]}),
        ([{"a": [{"index": 0, "type": [1], "text": "a"}]}, {"a": [{"index": 0, "type": [1], "text": "b"}]}],
         {"a": [{"index": 0, "type": [1], "text": "ab"}]}),
        # OpenAI's audio
        ([{"audio": {"id": "x"}}, {"audio": {"transcript": "a"}}, {"audio": {"transcript": "b", "data": "AA"}},
          {"audio": {"data": "BB"}}, {"audio": {"expires_at": 7}}],
         {"audio": {"id": "x", "transcript": "ab", "data": "AABB", "expires_at": 7}}),
        ([{"a": {"text": {"b": 1}}}, {"a": {"text": "x"}}, {"a": {"text": "y"}}], {"a": {"text": "xy"}}),
    ],
)  # fmt: skip
def test_each_kind_of_field_grows_in_its_way(pieces: list[Fields], whole: Fields) -> None:
    assert joined(*pieces) == whole


def test_what_was_returned_stays_as_it_is() -> None:
    fields = ExtraFields()
    fields.add({"a": "x", "b": [{"index": 0, "text": "x"}], "c": {"text": "x"}})
    value = fields.value()
    before = copy.deepcopy(value)
    fields.add({"a": "y", "b": [{"index": 0, "text": "y"}, 7], "c": {"text": "y", "d": 1}})
    assert value == before


TEXTS = st.text("ab", max_size=4)
ELEMENTS = st.one_of(
    st.integers(),
    st.fixed_dictionaries({"type": st.sampled_from(["text", "citation"]), "url": TEXTS}),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "signature": TEXTS,
        "annotations": st.lists(ELEMENTS, max_size=4),
        "audio": st.fixed_dictionaries({"id": TEXTS, "data": TEXTS, "transcript": TEXTS}),
        "details": st.lists(st.fixed_dictionaries({"text": TEXTS, "signature": TEXTS}), max_size=3).map(
            lambda items: [{"index": index, "type": "text", **item} for index, item in enumerate(items)]
        ),
    },
)


def in_pieces(fields: Fields, draw: Any) -> list[Fields]:
    """Return a server's stream of these fields, cut where it pleases."""
    pieces: list[Fields] = []

    def cut(value: Any) -> tuple[Any, Any]:
        place = draw(st.integers(0, len(value)))
        return value[:place], value[place:]

    for name, value in fields.items():
        match name:
            case "audio":
                data, transcript = cut(value["data"]), cut(value["transcript"])
                pieces += [{name: {**value, "data": data[0], "transcript": transcript[0]}}]
                pieces += [{name: {"data": data[1], "transcript": transcript[1]}}]
            case "details":
                pieces.append({name: []})
                for item in value:
                    first, rest = cut(item["text"])
                    pieces += [{name: [{"index": item["index"], "type": "text", "text": first}]}]
                    pieces += [{name: [{**item, "text": rest}]}]
            case _:
                pieces += [{name: piece} for piece in cut(value)]
    return pieces


@settings(max_examples=100, deadline=None, derandomize=True)
@given(FIELDS, st.data())
def test_fields_in_pieces_equal_the_whole(fields: Fields, data: st.DataObject) -> None:
    pieces = in_pieces(fields, data.draw)
    assert joined(*pieces) == joined(fields) == fields
    place = data.draw(st.integers(0, len(pieces)))
    assert joined(joined(*pieces[:place]), *pieces[place:]) == fields, "it goes on where another one was"


PIECES: dict[str, Any] = {
    "text": lambda number: {"a": "x"},
    "list": lambda number: {"a": [number]},
    "elements": lambda number: {"a": [{"index": number, "text": "x"}]},
    "one element": lambda number: {"a": [{"index": 0, "text": "x"}]},
    "object": lambda number: {"a": {"text": "x"}},
}


@pytest.mark.parametrize("kind", PIECES)
def test_no_pieces_cost_more_than_their_length(kind: str) -> None:
    def seconds(number: int) -> float:
        pieces = [PIECES[kind](each) for each in range(number)]
        fields = ExtraFields()
        with measuring():
            begun = time.process_time()
            for piece in pieces:
                fields.add(piece)
            fields.value()
            return time.process_time() - begun

    # Once is enough, unless something else has just kept the processor busy.
    assert any(seconds(40_000) < 0.1 + 16 * seconds(5_000) for _ in range(3))
