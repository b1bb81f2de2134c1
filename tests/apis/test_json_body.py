"""A body is one JSON object that every parser reads alike, or a 400."""

import json
import time
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.apis import json_body
from gpt_oss_proxy.apis.json_body import convert, parse_object
from gpt_oss_proxy.errors import InvalidRequest

PREFIX = "The body must be a JSON object: "


def refusal(body: bytes) -> str:
    with pytest.raises(InvalidRequest) as raised:
        parse_object(body)
    error = raised.value
    assert (error.status, error.code, error.param) == (400, "invalid_json", None)
    assert error.message.startswith(PREFIX)
    return error.message.removeprefix(PREFIX)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b' \t\r\n{"a": [1, -2.5, true, null, "\\u00e9"]}\n', {"a": [1, -2.5, True, None, "é"]}),
        ('{"ключ": "👋\u2028\x7f"}'.encode(), {"ключ": "👋\u2028\x7f"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a": "\\\\ud800"}', {"a": "\\ud800"}),
        (b'{"a": {"b": 1}, "b": {"b": 2}}', {"a": {"b": 1}, "b": {"b": 2}}),
        (b'{"a": 18446744073709551615, "b": -9223372036854775808}', {"a": 2**64 - 1, "b": -(2**63)}),
        (b'{"a": 1e308, "b": -0.0, "c": 1e-999}', {"a": 1e308, "b": -0.0, "c": 0.0}),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
        (b'{"": 1}', {"": 1}),
    ],
)
def test_an_object_is_read(body: bytes, value: dict[str, Any]) -> None:
    assert parse_object(body) == value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting value at line 1, column 1."),
        (b"model=gpt-4o&stream=1", "Expecting value at line 1, column 1."),
        (b'{"a": 1', "Expecting ',' delimiter at line 1, column 8."),
        (b'{"a":\n}', "Expecting value at line 2, column 1."),
        (b"{'a': 1}", "Expecting property name enclosed in double quotes at line 1, column 2."),
        (b'{"a": 1}}', "Extra data at line 1, column 9."),
        (b"{}{}", "Extra data at line 1, column 3."),
        (b'{"a": "\n"}', "Invalid control character at at line 1, column 8."),
        (b'{"a": "\\x"}', "Invalid \\escape at line 1, column 8."),
        (b'{"a": 01}', "Expecting ',' delimiter at line 1, column 8."),
        (b'{"a": .5}', "Expecting value at line 1, column 7."),
        (b'{"a": 0x1}', "Expecting ',' delimiter at line 1, column 8."),
        (b'{"a": undefined}', "Expecting value at line 1, column 7."),
        (b"[]", "it is not an object."),
        (b'"{}"', "it is not an object."),
        (b"1", "it is not an object."),
        (b"null", "it is not an object."),
        (b'{"a": NaN}', "NaN is no JSON number."),
        (b'{"a": Infinity}', "Infinity is no JSON number."),
        (b'{"a": [-Infinity]}', "-Infinity is no JSON number."),
        (b'{"a": 1e999}', "a number is too large."),
        (b'{"a": -1e999}', "a number is too large."),
        (b'{"a": 1' + b"0" * 400 + b".5}", "a number is too large."),
        (b'{"a": 18446744073709551616}', "a number is too large."),
        (b'{"a": -9223372036854775809}', "a number is too large."),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number is too large."),
        (b'{"a": -' + b"9" * 1_000_000 + b"}", "a number is too large."),
        (b'{"a": 1, "a": 1}', "a name stands twice in the same object."),
        (b'{"a": [{"b": 1, "\\u0062": 2}]}', "a name stands twice in the same object."),
        (b'{"a": "\xff"}', "it is not valid UTF-8 text."),
        (b'{"a": "\xc3"}', "it is not valid UTF-8 text."),
        (b'{"a": "\xed\xa0\x80"}', "it is not valid UTF-8 text."),
        (b'{"a": "\xc0\xaf"}', "it is not valid UTF-8 text."),
        (b'{"a": "\\ud800"}', "it is not valid UTF-8 text."),
        (b'{"a": "\\ude00\\ud83d"}', "it is not valid UTF-8 text."),
        (b'{"a": [{"\\uDFFF": 1}]}', "it is not valid UTF-8 text."),
        ('{"a": 1}'.encode("utf-16"), "it is not valid UTF-8 text."),
        ('{"a": 1}'.encode("utf-16-be"), "Expecting value at line 1, column 1."),
        ('{"a": 1}'.encode("utf-32-le"), "Expecting property name enclosed in double quotes at line 1, column 2."),
        (b'\xef\xbb\xbf{"a": 1}', "it begins with a byte order mark."),
        (b'{"a": ' * 100_000, "it is nested too deeply."),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "it is nested too deeply."),
        (b'{"a": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", "it is nested too deeply."),
    ],
)
def test_anything_else_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    assert refusal(body) == reason


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 0.' + b"1" * 2_000_000 + b"}",
        b'{"a": "' + b"\\ud83d\\ude00" * 200_000 + b'"}',
        b'{"a": [' + b"{}," * 49_000 + b"{}]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(99_000)) + b"}",
    ],
    ids=["digits", "escapes", "objects", "names"],
)
def test_a_large_body_is_read_quickly(body: bytes) -> None:
    before = time.process_time()
    parse_object(body)
    assert time.process_time() - before < 2


def outcome(body: bytes) -> dict[str, Any] | str:
    try:
        return parse_object(body)
    except InvalidRequest as error:
        return f"{error.status} {error.code} {error.message.removeprefix(PREFIX)}"


@given(st.binary() | st.text().map(str.encode) | st.text('{}[]",:\\u019dDeE-+. tfn', max_size=30).map(str.encode))
def test_any_bytes_are_an_object_or_a_refusal(body: bytes) -> None:
    read = outcome(body)
    assert isinstance(read, dict) or read.startswith("400 invalid_json ")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=3), st.booleans())
def test_what_json_can_say_is_unchanged_and_can_be_written_again(value: dict[str, Any], escaped: bool) -> None:
    read = parse_object(json.dumps(value, ensure_ascii=escaped).encode())
    assert read == value
    assert json.loads(msgspec.json.encode(read)) == value


@pytest.mark.parametrize("depth", [1, 100, 500, 900, 950, 1000, 1100])
def test_nesting_is_accepted_only_as_deep_as_it_can_be_written_again(depth: int) -> None:
    read = outcome(b'{"a":' + b"[" * depth + b'"\\ud83d\\ude00"' + b"]" * depth + b"}")
    if isinstance(read, dict):
        assert msgspec.json.encode(read).count(b"[") == depth < 1000
    else:
        assert depth > 500
        assert read == "400 invalid_json it is nested too deeply."


class _Inner(msgspec.Struct):
    count: int
    names: list[str] = []


class _Outer(msgspec.Struct):
    inner: _Inner | None = None
    many: list[_Inner] = []
    weights: dict[Annotated[str, msgspec.Meta(max_length=3)], float] = {}


@pytest.mark.parametrize(
    ("value", "param", "message"),
    [
        ([], None, "The body: Expected `object`, got `array`."),
        ({"inner": 1}, "inner", "inner: Expected `object | null`, got `int`."),
        ({"inner": {"count": "1"}}, "inner.count", "inner.count: Expected `int`, got `str`."),
        ({"inner": {"count": True}}, "inner.count", "inner.count: Expected `int`, got `bool`."),
        ({"many": [{"count": 1}, 2]}, "many[1]", "many[1]: Expected `object`, got `int`."),
        (
            {"many": [{"count": 1, "names": ["a", None]}]},
            "many[0].names[1]",
            "many[0].names[1]: Expected `str`, got `null`.",
        ),
        ({"weights": {"a": "x"}}, "weights[...]", "weights[...]: Expected `float`, got `str`."),
        ({"weights": {"long": 1}}, "weights", "A name in weights: Expected `str` of length <= 3."),
    ],
)
def test_a_wrong_type_is_told_with_its_path(value: object, param: str | None, message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        convert(value, _Outer)
    error = raised.value
    assert (error.code, error.param, error.message) == ("invalid_type", param, message)


@pytest.mark.parametrize(
    ("value", "param"), [({"inner": {}}, "inner.count"), ({"many": [{"count": 1}, {"names": []}]}, "many[1].count")]
)
def test_a_missing_field_is_told_by_the_path_where_it_belongs(value: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        convert(value, _Outer)
    error = raised.value
    assert (error.code, error.param, error.message) == ("missing_required_parameter", param, f"{param} is required.")


def test_depth_is_no_matter_where_anything_may_stand() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert convert({"a": deep}, dict[str, Any])["a"] is deep


def test_what_is_right_is_converted() -> None:
    assert convert({"inner": {"count": 1}, "unknown": 2}, _Outer) == _Outer(_Inner(1))


LIMIT = json_body._MOST_VALUES


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b"1," * LIMIT + b"1]}",
        b'{"a":' + b"[[]," * LIMIT + b"1]}",
        b'{"a":[' + b"{}," * LIMIT + b"1]}",
        b'{"a":["' + b'","' * LIMIT + b'"]}',
        b'"' * 4 * LIMIT + b"," * 2 * LIMIT,
        b'"\\\\",' * 10 * LIMIT,
    ],
    ids=["numbers", "lists", "objects", "strings", "quotes", "escapes"],
)
def test_a_body_of_too_many_values_is_refused_before_it_is_read(body: bytes) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest) as raised:
        parse_object(body)
    assert raised.value.message == f"The body must be a JSON object: it holds more than {LIMIT} values."
    assert time.process_time() - began < 1


@pytest.mark.parametrize("text", ["a,b,[{" * LIMIT, '\\",' * LIMIT, '",{' * LIMIT])
def test_commas_and_brackets_in_text_are_no_values(text: str) -> None:
    assert parse_object(json.dumps({"a": text}).encode()) == {"a": text}
