"""What upstreams say, sound or not."""

from typing import Any

import msgspec
import pytest

from gpt_oss_proxy.errors import UpstreamFailed, UpstreamProtocolError
from gpt_oss_proxy.upstreams.values import count, field, json_object, json_text, json_value, kept, upstream_said, whole


@pytest.mark.parametrize(
    ("record", "value"),
    [
        (b'{"a":[1,2.5,true,null,"\xc3\xa9"]}', {"a": [1, 2.5, True, None, "é"]}),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\ud83d"', "\ud83d"),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b" 7 ", 7),
        (b"1e999", float("inf")),
        (b"9" * 30, int("9" * 30)),
    ],
)
def test_json_is_read_as_strangers_write_it(record, value):
    assert json_value(record) == value


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"{}{}",
        b"\xff",
        b'"\xed\xa0\xbd"',
        b"[" * 100_000,
        b"9" * 5000,
        b"{'a':1}",
        b'"\n"',
        b"undefined",
        "{}".encode("utf-16"),
    ],
)
def test_what_is_no_json_is_a_protocol_error(record):
    with pytest.raises(UpstreamProtocolError):
        json_value(record)


@pytest.mark.parametrize("record", [b"[]", b"7", b"null", b'"x"', b"true", b"x"])
def test_what_is_no_object_is_a_protocol_error(record):
    with pytest.raises(UpstreamProtocolError):
        json_object(record)


def test_json_text_is_compact_and_not_escaped():
    assert json_text({"city": "Zürich", "a": [1, None]}) == '{"city":"Zürich","a":[1,null]}'


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), nested(5000)])
def test_a_value_that_json_cannot_hold_is_a_protocol_error(value):
    with pytest.raises(UpstreamProtocolError):
        json_text({"a": value})


def test_a_field_is_the_first_of_its_names_that_is_there():
    assert field({"b": "x"}, str, "a", "b") == field({"a": "x", "b": "y"}, str, "a", "b") == "x"
    assert field({"a": None, "b": ""}, str, "a", "b") == ""
    assert field({}, str, "a") is None


@pytest.mark.parametrize("value", [7, [], {}, False])
def test_a_field_of_another_type_is_a_protocol_error(value):
    with pytest.raises(UpstreamProtocolError):
        field({"a": value}, str, "a")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (7, 7),
        (10**12 - 1, 10**12 - 1),
        (10**12, None),
        (-1, None),
        (True, None),
        (7.0, None),
        ("7", None),
        (None, None),
    ],
)
def test_a_count_is_a_number_that_makes_sense(value, number):
    assert count({"a": value}, "a") == number
    assert count({}, "a") is None


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("é😀", "é😀"),
        ("\ud83d\ude00", "😀"),
        ("a\ud83d", "a\ufffd"),
        ("\ude00b", "\ufffdb"),
        ("\ud83d\ud83d\ude00", "\ufffd😀"),
    ],
)
def test_surrogates_are_joined_or_replaced(text, mended):
    assert whole(text) == mended


@pytest.mark.parametrize(
    ("value", "held"),
    [
        *((value, value) for value in (None, True, 7, -(2**63), 2**64 - 1, 1.5, "é😀", [], {}, {"a": [{"b": "c"}]})),
        ("a\ud83d", "a\ufffd"),
        ({"\ud83d\ude00": ["\ude00", {"a": "\ud83d"}]}, {"😀": ["\ufffd", {"a": "\ufffd"}]}),
        ([10**30, -(2**63) - 1, 2**64], [1e30, -(2.0**63), 2.0**64]),
        ([10**400, -(10**400), float("inf"), float("nan")], [None, None, None, None]),
    ],
)
def test_what_is_kept_can_be_held_by_an_answer(value, held):
    assert kept(value) == held
    assert msgspec.json.decode(msgspec.json.encode(kept(value))) == held


def test_what_is_kept_is_not_deeper_than_others_can_read():
    assert kept(nested(99)) == nested(99)
    for value in (nested(100), nested(5000), {"a": {"b": nested(98)}}):
        with pytest.raises(UpstreamProtocolError):
            kept(value)


def test_what_an_upstream_said_is_the_message_if_it_said_something():
    assert upstream_said("boom") == "The model's server reports an error: boom"
    assert upstream_said("") == UpstreamFailed.message
