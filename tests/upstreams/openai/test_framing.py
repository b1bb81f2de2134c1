"""The bytes of an answer are the same records wherever they are cut, in all forms that servers give them."""

import json
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt_oss_proxy.errors import UpstreamIncomplete, UpstreamTooLarge
from gpt_oss_proxy.upstreams.openai.decoder import OpenAIDecoder
from gpt_oss_proxy.upstreams.openai.framing import Document, Framer, is_json
from tests.doubles import measuring
from tests.upstreams.decoding import Outcome, decode

BIG = 1_000_000
SIZES = (1, 2, 3, 7, 1000)
PRETTY = json.dumps({"choices": [{"message": {"content": 'a } " ] \\ b'}}], "usage": {}}, indent=2).encode()
FLAT = json.dumps({"a": {"b": [1, {"c": "}"}]}}, indent=0).encode()  # brackets within it stand at the left, too


def read(pieces: Sequence[bytes], max_bytes: int = BIG) -> tuple[list[tuple[bool, bytes]], bytes]:
    """Return (whether it came outside of events, record) of each, and the remark."""
    framer = Framer(max_bytes)
    records = [record for piece in pieces for record in framer.feed(piece)]
    records += framer.rest()
    return [(isinstance(record, Document), record.strip()) for record in records], framer.remark


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def events(*records: bytes) -> list[tuple[bool, bytes]]:
    return [(False, record) for record in records]


def documents(*records: bytes) -> list[tuple[bool, bytes]]:
    return [(True, record) for record in records]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    ("body", "records"),
    [
        # as the standard has it
        (b"data: {}\n\ndata: [DONE]\n\n", events(b"{}", b"[DONE]")),
        (b'data: {"a":\ndata: 1}\n\n', events(b'{"a":\n1}')),
        (b'data: {"a":\ndata: {}\ndata: }\n\n', events(b'{"a":\n{}\n}')),
        (b": ping\nid: 1\nevent: x\nretry: 3\ndata:{}\n\n", events(b"{}")),
        (b"data: ping\n\ndata: {}\n\n", events(b"ping", b"{}")),
        (b"\xef\xbb\xbfdata: {}\n\n", events(b"{}")),
        # one line end between events
        (b"data: {}\ndata: {}\ndata: [DONE]\n", events(b"{}", b"{}", b"[DONE]")),
        (b"data: {}\ndata: [done]\n", events(b"{}", b"[done]")),
        (b'data: {"a":"\xe2\x80\xa8"}\ndata: [1]\n\n', events(b'{"a":"\xe2\x80\xa8"}', b"[1]")),
        # no line end at the end
        (b"data: {}\n\ndata: [DONE]", events(b"{}", b"[DONE]")),
        (b'data: {"a":\ndata: 1}', events(b'{"a":\n1}')),
        (b'data: {"a":\ndata: 1}\n', events(b'{"a":\n1}')),
        (b"data: DONE", events(b"DONE")),
        # JSON in place of events
        (b'{"a":1}', documents(b'{"a":1}')),
        (b' {"a":1} \n\n', documents(b'{"a":1}')),
        (b'\xef\xbb\xbf{"a":1}', documents(b'{"a":1}')),
        (b'\n\n[{"a":1},\n {"b":"]"}]', documents(b'[{"a":1},\n {"b":"]"}]')),
        (PRETTY, documents(PRETTY)),
        (PRETTY + b"\n", documents(PRETTY)),
        (FLAT, documents(FLAT)),
        (b'{"a":"\\ud83d","b":NaN}', documents(b'{"a":"\\ud83d","b":NaN}')),
        (b'{"a":1}\n{"a":2}\n[3]\n', documents(b'{"a":1}', b'{"a":2}', b"[3]")),
        (PRETTY + b"\n" + FLAT, documents(PRETTY, FLAT)),
        # and beside them
        (b'data: {}\n\n{"error":1}\n', [*events(b"{}"), *documents(b'{"error":1}')]),
        (b'{"a":1}\ndata: {}\n\ndata: [DONE]\n\n', [*documents(b'{"a":1}'), *events(b"{}", b"[DONE]")]),
        (b"", []),
        (b"\n\n: ping\n\n", []),
    ],
)  # fmt: skip
def test_records_are_found_in_every_form(body: bytes, records: list[tuple[bool, bytes]], end: bytes, size: int) -> None:
    assert read(cut(body.replace(b"\n", end), size)) == (records, b"")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("body", "records", "remark"),
    [
        (b"Internal Server Error", [], b"Internal Server Error"),
        (b"boom\nbang\n", [], b"boom"),
        (b"<html>\n<body>", [], b"<html>"),
        (b"{'error': 'boom'}\n", [], b"{'error': 'boom'}"),
        (b"{}{}", [], b"{}{}"),
        (b"[INFO] ready\ndata: {}\n\n", events(b"{}"), b"[INFO] ready"),
        (b"{oh no\n\ndata: {}\n\n", events(b"{}"), b"{oh no"),
        (b'{"a": "oh no\n}\ndata: {}\n\n', events(b"{}"), b'{"a": "oh no\n}'),
        (b'[1,\ndata: {}\n\n{\n"a":1}\n', [*events(b"{}"), *documents(b'{\n"a":1}')], b"[1,"),
        (b"{\nx\n}\n[1]\n", documents(b"[1]"), b"{\nx\n}"),
        (b"data: {}\n\nboom\n", events(b"{}"), b"boom"),
        (b"data: boom", [], b"boom"),
        (b"data: boom\n", [], b"boom"),
        (b"data: boom\ndata: bang", [], b"boom\nbang"),
        (b"x" * 5000, [], b"x" * 1000),
        # what is cut is no remark: it may be a part of an answer
        (b'data: {}\n\ndata: {"a', events(b"{}"), b""),
        (b'data: {"a":\n', [], b""),
        (b'{"a":[1,\n', [], b""),
        (b'{"a', [], b""),
    ],
)
def test_what_is_no_record_is_remarked(
    body: bytes, records: list[tuple[bool, bytes]], remark: bytes, size: int
) -> None:
    assert read(cut(body, size)) == (records, remark)


PIECES = st.sampled_from(
    [
        *(
            b"data: ",
            b"data:",
            b"data: {}",
            b"data: [DONE]",
            b"data: [",
            b"event: x",
            b": ping",
            b"x",
            b" ",
            b'"',
            b"\\",
        ),
        *(b"{", b"}", b"[", b"]", b'{"a":', b"1", b"\n", b"\n\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\xff"),
    ]
)
CUTS = st.lists(st.integers(0, 60), max_size=5)


@given(st.lists(PIECES, max_size=12), CUTS)
@example([b"data: {}", b"\n", b'{"a":', b"\n", b"data: {}", b"\n\n"], [3, 9])
def test_it_never_matters_where_the_bytes_are_cut(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pieces)
    places = [0, *sorted(min(place, len(body)) for place in cuts), len(body)]
    expected = read([body])
    assert read(cut(body, 1)) == expected
    assert read(pieces) == expected
    assert read([body[start:stop] for start, stop in pairwise(places)]) == expected


@given(st.lists(PIECES, max_size=12), st.integers(1, 12), CUTS)
def test_a_limit_holds_wherever_the_bytes_are_cut(pieces: list[bytes], limit: int, cuts: list[int]) -> None:
    body = b"".join(pieces)

    def found(pieces: Sequence[bytes]) -> list[bytes | None]:
        framer, records = Framer(limit), list[bytes | None]()
        try:
            for piece in pieces:
                for record in framer.feed(piece):
                    records.append(record.strip())
            records += framer.rest()
        except UpstreamTooLarge:
            records.append(None)
        return records

    places = [0, *sorted(min(place, len(body)) for place in cuts), len(body)]
    expected = found([body])
    assert all(len(record) <= limit for record in expected if record is not None)
    assert found(cut(body, 1)) == expected
    assert found([body[start:stop] for start, stop in pairwise(places)]) == expected


@pytest.mark.parametrize("line", [b"{\n", b"[1,\n", b"data: [\n"])
def test_a_record_of_many_lines_is_bounded(line: bytes) -> None:
    with pytest.raises(UpstreamTooLarge):
        read([line * 100], 50)


def test_many_documents_together_may_be_larger_than_the_limit_of_one() -> None:
    assert read([b'{\n"a":1}\n' * 50], 20) == (documents(*[b'{\n"a":1}'] * 50), b"")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
def test_a_whole_answer_needs_no_finish_reason_and_a_chunk_does(end: bytes, size: int) -> None:
    answer = b'{"choices":[{"message":{"content":"Hi"},"finish_reason":null}]}'
    assert decode(OpenAIDecoder(BIG), answer + end, size) == Outcome(text="Hi", finish="stop")
    assert decode(OpenAIDecoder(BIG), b"data: " + answer + end, size).error is UpstreamIncomplete
    assert decode(OpenAIDecoder(BIG), answer[:-1] + end, size) == Outcome(error=UpstreamIncomplete)


def test_a_record_comes_with_the_line_that_makes_it_whole() -> None:
    framer = Framer(BIG)
    pieces = [b"data: {}", b"\n", b"\n", b"{", b"\n}", b"\n", b"data: ping\n", b"\n"]
    assert [list(framer.feed(piece)) for piece in pieces] == [[], [b"{}"], [], [], [], [b"{\n}"], [], [b"ping"]]


@pytest.mark.parametrize(
    ("pieces", "is_within", "at_start"),
    [
        ([], False, False),
        ([b"data: {}\n"], False, True),
        ([b"data: {}\n\n"], False, True),
        ([b"data: ping\n"], True, False),
        ([b"dat"], True, False),
        ([b'{"a":\n'], True, False),
        ([b'{"a":\n', b"1}\n"], False, True),
    ],
)
def test_it_tells_whether_it_is_within_a_record(pieces: list[bytes], is_within: bool, at_start: bool) -> None:
    framer = Framer(BIG)
    for piece in pieces:
        list(framer.feed(piece))
    assert (framer.is_within, framer.at_start) == (is_within, at_start)


@pytest.mark.parametrize(
    ("text", "json"),
    [
        (b"{}", True),
        (b"[]", True),
        (b'{"a":[1,null,"\\ud83d"]}', True),
        (b"", False),
        (b"7", False),
        (b'"a"', False),
        (b"{", False),
        (b"{]", False),
        (b"{}{}", False),
        (b"{'a':1}", False),
        (b" {}", False),
        (b"[" * 100_000 + b"]" * 100_000, False),
    ],
)
def test_only_an_object_or_an_array_is_json(text: bytes, json: bool) -> None:
    assert is_json(text) is json


@pytest.mark.parametrize("line", [b"}\n", b"[\n", b'{"\n', b'"\\"\n', b"data: [\n", b"data: {}\n", b"]\n[\n", b"x\n"])
@pytest.mark.parametrize("head", [b"", b"{\n", b"[\n{\n"])
def test_no_lines_cost_more_than_their_length(head: bytes, line: bytes) -> None:
    def seconds(lines: int) -> float:
        with measuring():
            begun = time.process_time()
            read([head + line * lines], 10_000_000)
            return time.process_time() - begun

    # Once is enough, unless something else has just kept the processor busy.
    assert any(seconds(24_000) < 0.1 + 16 * seconds(3_000) for _ in range(3))


def test_no_line_costs_more_than_its_length() -> None:
    def seconds(size: int) -> float:
        with measuring():
            begun = time.process_time()
            read([b'{"' + b'\\"' * size + b"\n"], 10_000_000)
            return time.process_time() - begun

    assert any(seconds(400_000) < 0.1 + 16 * seconds(50_000) for _ in range(3))
