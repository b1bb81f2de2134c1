"""Events that differ in a text only: what is taken from a stream at once, a patient reader would find there, too."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.upstreams.alike import Alike, learn

BEGIN, END = b"data: ", b"\n\n"
EVENTS = Alike(b'data: {"n":1,"text":"', b'"}\n\n')
LONG_EVENTS = Alike(b'data: {"n":1,"more":"%b","text":"' % (b"x" * 100), b'"}\n\n')
LINES = Alike(b'0:"', b'"\n')


def longer(data: bytes) -> bytes:
    """Return the same with the events that LONG_EVENTS knows."""
    return data.replace(b'{"n":1,', b'{"n":1,"more":"%b",' % (b"x" * 100))


def read(data: bytes) -> tuple[str, int]:
    """Read it, and see that with longer events it is the same."""
    text, size = EVENTS.read(data)
    assert LONG_EVENTS.read(longer(data)) == (text, len(longer(data[:size])))
    return text, size


def read_all(data: bytes) -> str:
    """Likewise."""
    text = EVENTS.read_all(data)
    assert LONG_EVENTS.read_all(longer(data)) == text
    return text


def event(text: str, **options: bool) -> bytes:
    """Return one of the events that EVENTS knows."""
    return b'data: {"n":1,"text":%b}\n\n' % json.dumps(text, **options).encode()  # type: ignore[arg-type]


def test_texts_of_events_that_come_together_are_joined() -> None:
    data = event("a") + event("") + event("b c")
    assert read(data) == ("ab c", len(data))
    assert LINES.read(b'0:"a"\n0:"b"\n') == ("ab", 12)


@pytest.mark.parametrize(
    "text", ["a", "é", "😀", 'say "Hi"', "a\\b", "two\nlines", "\t", "\x7f", "</script>", "\u2028"]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_text_is_what_json_says(text: str, ascii_only: bool) -> None:
    data = event(text, ensure_ascii=ascii_only)
    assert read(data) == (text, len(data))
    assert read(data * 3) == (text * 3, 3 * len(data))
    assert (read_all(data), read_all(data * 3)) == (text, text * 3)


@pytest.mark.parametrize(
    "rest",
    [b"d", b'data: {"n":1,"te', b'data: {"n":1,"text":"b', b'data: {"n":1,"text":"b"}\n', b'data: {"n":2}\n\n', b"\n"],
)
def test_what_is_cut_or_something_else_is_left(rest: bytes) -> None:
    assert read(event("a") + rest) == ("a", len(event("a")))
    assert read_all(event("a") + rest) == ""


@pytest.mark.parametrize("other", [b'data: {"n":2}\n\n', b'data: {"n":2,"text":"c"}\n\n', b"\n", b"data: x\n\n"])
def test_what_stands_between_two_of_them_is_not_jumped_over(other: bytes) -> None:
    assert read(event("a") + other + event("b")) == ("a", len(event("a")))
    assert read(event("a") + event("b") + other + event("c") + other) == ("ab", 2 * len(event("a")))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b'data: {"n":1,"text":"',
        b'data: {"n":1,"text":""}\n\n',
        b'data: {"n":2,"text":"a"}\n\n',
        b'\ndata: {"n":1,"text":"a"}\n\n',
        b'data: {"n":1,"text":"a","more":"b"}\n\n',
        b'data: {"n":1,"text":"a" "b"}\n\n',
        b'data: {"n":1,"text":"\\ud83d"}\n\n',
        b'data: {"n":1,"text":"\xff"}\n\n',
        b'data: {"n":1,"text":"\x01"}\n\n',
        b'data: {"n":1,"text":"\\x"}\n\n',
        b'data: {"n":1,"text":"\\"}\n\n',
        b'data: {"n":1,"text":"a\\"}\n\ndata: {"n":1,"text":"b"}\n\n',
        b'data: {"n":1,"text":"a\nb"}\n\n',
        # Two that are none, and together look like two.
        b'data: {"n":1,"text":"a\\"}\n\ndata: {"n":1,"text":"b","c"}\n\n',
        b'data: {"n":1,"text":"a","b"}\n\ndata: {"n":1,"text":"c"}\n\n',
    ],
)
def test_what_is_not_certain_is_left_to_a_patient_reader(data: bytes) -> None:
    assert read(data) == ("", 0)
    assert read_all(data) == ""


@given(
    st.lists(
        st.sampled_from(
            [
                b'data: {"n":1,"text":"',
                b'data: {"n":2,"text":"',
                b'"}\n\n',
                b'"',
                b"\\",
                b'\\"',
                b"a",
                b",",
                b'","',
                b"\n",
                b"{",
                b"}",
                b"[",
                b"]",
            ]
        )
        | st.text(max_size=2).map(event),
        max_size=12,
    ).map(b"".join)
)
def test_what_is_taken_is_what_a_patient_reader_finds(data: bytes) -> None:
    text, size = read(data)
    taken = data[:size]
    assert taken == b"" or taken.endswith(END)
    found = [json.loads(record.removeprefix(BEGIN)) for record in taken.split(END)[:-1]]
    assert "".join(value["text"] for value in found) == text
    assert all(value.keys() == {"n", "text"} for value in found)
    assert bool(text) is (size > 0)
    assert read_all(data) == (text if size == len(data) else "")


# Halves of a character: as escapes, which JSON allows, and as bytes, which UTF-8 does not.
HALVES = st.lists(
    st.sampled_from(
        [b"\\ud83d", b"\\ude00", b"\\uDBFF", b"\\", b"u", b"d83d", b"\xed\xa0\xbd", b"\xed\xb8\x80", b"a", b"\xc3\xa9"]
    ),
    max_size=6,
).map(b"".join)


@given(st.lists(HALVES, min_size=1, max_size=3))
def test_no_text_that_is_taken_holds_half_a_character(texts: list[bytes]) -> None:
    data = b"".join(b'data: {"n":1,"text":"%b"}\n\n' % text for text in texts)
    read(data)[0].encode()  # raises for a lone surrogate
    read_all(data).encode()


def test_one_of_them_teaches_what_the_others_are_like() -> None:
    known = learn(b'{"n":1,"text":"a","end":null}', "a", BEGIN, END)
    assert known is not None
    data = b'data: {"n":1,"text":"bc","end":null}\n\n'
    assert known.read(data) == ("bc", len(data))
    assert known.read(data.replace(b"null", b'"x"')) == ("", 0)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (b'{"text":"text"}', "text"),  # which of the two is it?
        (b'{"text":"a","same":"a"}', "a"),
        (b'{"text":"a\\n"}', "a\n"),
        (b'{"\\u0074ext":"\\u0061","not":"a"}', "a"),
        (b'{"text":\n"a"}', "a"),
        (b'{"text":1}', "a"),
        (b'{"text":"\xed\xa0\xbd"}x', "\ud83e"),
    ],
)
def test_from_what_is_not_certain_nothing_is_learnt(record: bytes, text: str) -> None:
    assert learn(record, text, BEGIN, END) is None
