"""A request's body → a JSON object, strictly: what no two parsers would read alike is refused.

Source: RFC 8259, with the names of an object unique, numbers finite and strings encodable as UTF-8.
"""

import json
import re
from typing import Any, NoReturn, TypeVar

import msgspec

from gpt_oss_proxy.errors import InvalidRequest
from gpt_oss_proxy.quoting import quote

T = TypeVar("T")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BEFORE_A_VALUE = (b",", b"[", b"{")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
# The last path is msgspec's own; what the client wrote may stand before it, at any length.
_PLACE = re.compile(r"(?P<message>.*) - at `(?P<key>key` in `)?\$\.?(?P<path>[^`]*)`", re.DOTALL)
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # what a JSON writer in any language can pass on
_LONGEST_NUMBER = 20  # digits and sign of these
_MOST_VALUES = 100_000  # a million small ones would keep a worker, and all its streams, busy for seconds


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the body's object. Raises InvalidRequest with code invalid_json."""
    if _is_longer_than(body, _MOST_VALUES):
        raise _invalid(f"it holds more than {_MOST_VALUES} values")
    try:
        text = body.decode("utf-8")
        if text.startswith("\ufeff"):
            raise _invalid("it begins with a byte order mark")
        value = _decoder.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise _invalid("it is nested too deeply") from error
    except UnicodeError as error:
        raise _invalid("it is not valid UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except ValueError as error:
        raise _invalid(str(error)) from error
    if not isinstance(value, dict):
        raise _invalid("it is not an object")
    return value


def convert(value: Any, kind: type[T]) -> T:
    """Return the value as the wanted type.

    Raises InvalidRequest with the path of the fault, its code invalid_type or missing_required_parameter.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _fault(str(error)) from error


def _fault(text: str) -> InvalidRequest:
    place = _PLACE.fullmatch(text)
    message, param = (place["message"], place["path"]) if place else (text, "")
    if missing := _MISSING.fullmatch(message):
        param = f"{param}.{missing[1]}".removeprefix(".")
        return InvalidRequest(f"{param} is required.", code="missing_required_parameter", param=param)
    where = f"A name in {param}" if place and place["key"] else param or "The body"
    return InvalidRequest(f"{where}: {quote(message)}.", code="invalid_type", param=param or None)


def _is_longer_than(body: bytes, values: int) -> bool:
    """Return whether there are more values than that, without reading them."""
    if sum(map(body.count, _BEFORE_A_VALUE)) <= values:
        return False
    # Text has commas, too; to look past it costs more, and is seldom needed.
    most_strings = 2 * values  # a value has at most a name and a text
    bare, strings = _STRING.subn(b"", body, count=most_strings)
    return strings == most_strings or sum(map(bare.count, _BEFORE_A_VALUE)) > values


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body must be a JSON object: {reason}.", code="invalid_json")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in the same object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:  # an infinity
        raise ValueError("a number is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER or not _SMALLEST <= int(text) <= _LARGEST:
        raise ValueError("a number is too large")
    return int(text)


_decoder = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
)
