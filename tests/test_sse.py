"""Lines and events, wherever their bytes are cut."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt_oss_proxy import sse
from gpt_oss_proxy.errors import UpstreamTooLarge

BIG = 1_000_000


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def events_of(pieces: list[bytes], max_bytes: int = BIG) -> list[bytes]:
    decoder = sse.Decoder(max_bytes)
    return [event for piece in pieces for event in decoder.feed(piece)]


def lines_of(pieces: list[bytes]) -> list[bytes]:
    decoder = sse.LineDecoder(BIG)
    return [line for piece in pieces for line in decoder.feed(piece)]


def reference(body: bytes) -> list[bytes]:
    """The rules of WHATWG HTML 9.2.6, in the order in which they stand there, over the whole body at once."""
    events, buffer = [], b""
    for line in re.split(rb"\r\n|\r|\n", body.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        if line == b"":
            if buffer.removesuffix(b"\n"):
                events.append(buffer.removesuffix(b"\n"))
            buffer = b""
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            if field == b"data":
                buffer += value.removeprefix(b" ") + b"\n"
    return events


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\ndata\ndata\n\ndata:", [b"\n"]),  # the standard's own example, without the empty event
        (b": ping\n\ndata: a\n\n", [b"a"]),
        (b": ping\ndata: a\n\n", [b"a"]),
        (b"event: x\nid: 7\nretry: 3\ndata: a\n\n", [b"a"]),
        (b"database: a\n\nDATA: b\n\n data: c\n\n", []),
        (b"data: [DONE]\n\n", [b"[DONE]"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        ("data: a\u2028b\u2029c\x85d\x0be\x0cf\n\n".encode(), ["a\u2028b\u2029c\x85d\x0be\x0cf".encode()]),
        (b"data: a\x00b\n\n", [b"a\x00b"]),
        (b"data: \xff\xfe\n\n", [b"\xff\xfe"]),
        (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [b"a", b"b", b"c"]),
        (b"data: a\r\n\n", [b"a"]),
        (b"\n\n\n", []),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"", []),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_events_are_read_wherever_they_are_cut(body: bytes, events: list[bytes], size: int) -> None:
    assert events_of(cut(body, size)) == events
    assert reference(body) == events


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"a\r", b"\nb\n"], [b"a", b"b"]),
        ([b"a\r", b"", b"\n", b"\nb\n"], [b"a", b"", b"b"]),
        ([b"a", b"\n\r"], [b"a", b""]),
        ([b"\r", b"\r", b"\n"], [b"", b""]),
        ([b"\n\r\n", b"\n"], [b"", b"", b""]),
    ],
)
def test_a_return_and_a_line_feed_are_one_end_only_in_this_order(pieces: list[bytes], lines: list[bytes]) -> None:
    assert lines_of(pieces) == lines


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("position", range(20))
def test_any_line_end_may_be_cut_in_two(end: bytes, position: int) -> None:
    body = end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])
    assert events_of([body[:position], b"", body[position:]]) == [b"a\nb", b"c"]


def test_an_event_comes_with_the_bytes_that_complete_it() -> None:
    decoder = sse.Decoder(BIG)
    pieces = [b"data: a", b"\n", b"\ndata: b\n\nda", b"", b"ta: c\r", b"\r", b"\n"]
    assert [list(decoder.feed(piece)) for piece in pieces] == [[], [], [b"a", b"b"], [], [], [b"c"], []]


pieces_of_a_stream = st.lists(
    st.sampled_from([b"data: ", b"data", b"data:", b":", b" ", b"a", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"event"])
    | st.binary(max_size=4)
)


@given(pieces_of_a_stream)
def test_cutting_never_matters_and_the_standard_is_met(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    assert events_of(pieces) == events_of(cut(body, 1)) == events_of([body]) == reference(body)


@given(pieces_of_a_stream)
def test_lines_are_what_a_regular_expression_would_split(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    expected = re.split(rb"\r\n|\r|\n", body.removeprefix(b"\xef\xbb\xbf"))[:-1]
    assert lines_of(pieces) == lines_of(cut(body, 1)) == lines_of([body]) == expected


Told = tuple[list[bytes], bool]


def record_in(decoder: sse.Decoder | sse.LineDecoder, piece: bytes) -> bytes:
    """Return the record that a piece is, by what the decoder tells of its records; b'' if it is anything else."""
    plain = piece.startswith(decoder.BEGIN) and piece.endswith(decoder.END) and len(piece) <= decoder.max_bytes
    record = piece[len(decoder.BEGIN) : -len(decoder.END)]
    return record if plain and decoder.at_start and b"\n" not in record and b"\r" not in record else b""


def told(decoder: sse.Decoder | sse.LineDecoder, pieces: list[bytes], *, aside: bool) -> Told:
    """Return what the pieces complete, and whether one was too long. `aside`: a record alone is not shown to it."""
    found: list[bytes] = []
    try:
        for piece in pieces:
            if aside and (record := record_in(decoder, piece)):
                found.append(record)
            else:
                found += decoder.feed(piece)
    except UpstreamTooLarge:
        return found, True
    return found, False


@pytest.mark.parametrize(
    ("kind", "before", "at_start"),
    [
        (sse.Decoder, [], False),
        (sse.Decoder, [b"data: a\n\n"], True),
        (sse.Decoder, [b": ping\n\n"], True),
        (sse.Decoder, [b"data: a\n", b"\n"], True),
        (sse.Decoder, [b"\xef\xbb\xbfdata: a\n\n"], True),
        (sse.Decoder, [b"data: a\n\ndata: b"], False),
        (sse.Decoder, [b"data: a\n"], False),
        (sse.Decoder, [b"data: a\r"], False),
        (sse.Decoder, [b"\xef\xbb\xbf"], False),
        (sse.LineDecoder, [], False),
        (sse.LineDecoder, [b"a\n"], True),
        (sse.LineDecoder, [b"a", b"\n"], True),
        (sse.LineDecoder, [b"a\nb"], False),
        (sse.LineDecoder, [b"a\r"], False),
    ],
)
def test_it_tells_whether_the_next_byte_begins_a_record(
    kind: type[sse.Decoder | sse.LineDecoder], before: list[bytes], at_start: bool
) -> None:
    decoder = kind(BIG)
    told(decoder, before, aside=False)
    assert decoder.at_start is at_start
    assert decoder.is_within is (bool(before) and not at_start)


@given(
    st.lists(
        st.sampled_from(
            [b"data: a\n\n", b"data: bb\n\n", b"data: \n\n", b"a\n", b"\xef\xbb\xbf", b"data: ccc\n", b": \n\n"]
        )
        | st.lists(st.sampled_from([b"data: ", b"data", b":", b"a", b"\n", b"\r", b"\n\n", b"\r\n"]), max_size=6).map(
            b"".join
        )
        | st.binary(min_size=1, max_size=3)
    ),
    st.sampled_from([sse.Decoder, sse.LineDecoder]),
    st.sampled_from([3, 9, 12, BIG]),
)
@example([b"\xef\xbb\xbfdata: d\n\n", b"data: a\n\n"], sse.Decoder, BIG)
@example([b"data: a\n\n", b"\xef\xbb\xbfdata: d\n\n"], sse.Decoder, BIG)
@example([b"\xef\xbb\xbf0:1\n", b"\xef\xbb\xbf0:2\n"], sse.LineDecoder, BIG)
def test_where_a_record_begins_it_need_not_see_one_that_is_whole(
    pieces: list[bytes], kind: type[sse.Decoder | sse.LineDecoder], max_bytes: int
) -> None:
    pieces = [piece for piece in pieces if piece]  # a read that is empty is the end
    assert told(kind(max_bytes), pieces, aside=True) == told(kind(max_bytes), pieces, aside=False)


@given(st.binary(min_size=1).filter(lambda data: b"\n" not in data and b"\r" not in data))
def test_what_is_encoded_is_decoded(data: bytes) -> None:
    assert events_of([sse.encode(data)]) == [data]


def test_the_bytes_of_an_event_are_exact() -> None:
    assert sse.encode(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert sse.encode(b"[DONE]") == sse.DONE


def test_a_line_without_its_end_is_no_line() -> None:
    assert lines_of([b"a\nb"]) == [b"a"]


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize(
    ("body", "lines", "rest"),
    [
        (b"", [], b""),
        (b"a", [], b"a"),
        (b"a\nb", [b"a"], b"b"),
        (b"a\n", [b"a"], b""),
        (b"a\r", [b"a"], b""),
        (b"\xef\xbb\xbfa", [], b"a"),
        (b"\xef\xbb\xbf", [], b""),
        (b"a\n\xef\xbb\xbfb", [b"a"], b"\xef\xbb\xbfb"),
    ],
)
def test_the_last_line_may_be_had_without_its_end(body: bytes, lines: list[bytes], rest: bytes, size: int) -> None:
    decoder = sse.LineDecoder(BIG)
    assert [line for piece in cut(body, size) for line in decoder.feed(piece)] == lines
    assert (decoder.rest(), decoder.rest()) == (rest, b"")


def test_what_came_before_a_line_that_is_too_long_is_not_lost() -> None:
    decoder = sse.LineDecoder(4)
    lines = decoder.feed(b"a\nbb\nccccc\nd\n")
    assert [next(lines), next(lines)] == [b"a", b"bb"]
    with pytest.raises(UpstreamTooLarge):
        next(lines)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_line_may_be_as_long_as_the_limit_and_no_longer(size: int) -> None:
    assert events_of(cut(b"data: " + b"a" * 10 + b"\n\n", size), max_bytes=16) == [b"a" * 10]
    with pytest.raises(UpstreamTooLarge):
        events_of(cut(b"data: " + b"a" * 11 + b"\n\n", size), max_bytes=16)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("line", [b"data: aa\n", b"data\n", b"data:\n"])
def test_an_event_of_many_lines_is_bounded_too(line: bytes, size: int) -> None:
    with pytest.raises(UpstreamTooLarge):
        events_of(cut(line * 40, size), max_bytes=30)


def test_a_line_that_never_ends_is_refused_while_it_comes() -> None:
    decoder = sse.Decoder(100)
    assert [list(decoder.feed(b"x" * 10)) for _ in range(10)] == [[]] * 10
    with pytest.raises(UpstreamTooLarge):
        list(decoder.feed(b"x"))


def test_many_events_together_may_be_larger_than_the_limit_of_one() -> None:
    assert events_of([b"data: aa\n\n" * 100], max_bytes=16) == [b"aa"] * 100
