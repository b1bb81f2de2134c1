"""Where JSON ends, wherever it is cut."""

import json
import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.emulation.json_text import JsonReader, write_json
from tests.emulation.filtered import PLACES, cut

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text('a"\\{}[],:\n\té', max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text('a"\\,', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.text('a"\\,', max_size=3), JSON, max_size=4)


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.sampled_from(["\ud83d", "é\ude00"]), max_size=2))
def test_what_is_written_can_be_sent_and_read(value: object) -> None:
    assert json.loads(write_json(value).encode()) == value
    assert write_json({"é": ["😀"]}) == '{"é": ["😀"]}'


@given(OBJECT, st.booleans(), st.sampled_from(["", " ", "}", '"', "```", '{"a": 1}']), PLACES)
def test_the_value_is_read_to_its_end_and_no_further(
    value: object, spaced: bool, after: str, places: list[int]
) -> None:
    text = json.dumps(value, indent=1 if spaced else None, ensure_ascii=False)
    reader = JsonReader()
    rest = "".join(reader.feed(piece) for piece in cut(text + after, places))
    assert (reader.text, rest, reader.ended) == (text, after, True)


@given(OBJECT, PLACES)
def test_commas_part_the_members(value: dict[str, object], places: list[int]) -> None:
    text = json.dumps(value)
    reader = JsonReader()
    for piece in cut(text, places):
        reader.feed(piece)
    borders = [0, *reader.commas, len(text) - 1]
    members = [text[start + 1 : end] for start, end in pairwise(borders)]
    assert [json.loads(f"{{{member}}}") for member in members if value] == [{name: value[name]} for name in value]


def test_control_characters_in_strings_are_escaped() -> None:
    reader = JsonReader()
    reader.feed('{"code": "a\nb\tc\x01\\')
    reader.feed('\nd",\n"e": 1}')
    assert reader.text == '{"code": "a\\nb\\tc\\u0001\\\nd",\n"e": 1}'  # an escape that is none stays one


def test_long_strings_cost_in_proportion() -> None:
    def seconds(pieces: int) -> float:
        reader = JsonReader()
        started = time.process_time()
        reader.feed('{"a": "')
        for _ in range(pieces):
            reader.feed("some ten x")
        return time.process_time() - started

    seconds(1000)
    assert seconds(80_000) < 16 * (seconds(20_000) + 0.01)
