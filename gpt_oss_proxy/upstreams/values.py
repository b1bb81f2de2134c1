"""Values in upstreams' answers, read with checks: JSON, fields of objects, counts, text."""

import json
import math
from typing import Any, TypeVar

import msgspec

from gpt_oss_proxy.errors import UpstreamFailed, UpstreamProtocolError

T = TypeVar("T")
_LARGEST_COUNT = 10**12
_DEEPEST_KEPT = 100
_objects = msgspec.json.Decoder(dict[str, Any])


def json_object(record: bytes) -> dict[str, Any]:
    """Return the record's JSON object. Raises UpstreamProtocolError for anything else."""
    try:
        return _objects.decode(record)
    except (ValueError, RecursionError):
        value = json_value(record)
    if not isinstance(value, dict):
        raise UpstreamProtocolError
    return value


def json_value(record: bytes) -> Any:
    """Return the record's JSON value. Raises UpstreamProtocolError if it is malformed or too deeply nested."""
    try:
        return msgspec.json.decode(record)
    except (ValueError, RecursionError):
        pass
    try:
        # JavaScript splits surrogate pairs across strings, and writes NaN; msgspec accepts neither.
        return json.loads(record.decode())
    except (ValueError, RecursionError) as error:
        raise UpstreamProtocolError from error


def read_lines(decoder: msgspec.json.Decoder[T], records: list[bytes]) -> list[T]:
    """Return the value of each record, decoded in one call; [] if one of them does not have the expected form.

    In that case they must be parsed one by one.
    """
    try:
        values = [decoder.decode(records[0])] if len(records) == 1 else decoder.decode_lines(b"\n".join(records))
    except (ValueError, RecursionError):
        return []
    return values if len(values) == len(records) else []  # a value must not continue in the next record


def json_text(value: Any) -> str:
    """Return the JSON text of a decoded value. Raises UpstreamProtocolError for NaN and for too deep nesting."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise UpstreamProtocolError from error


def field(value: dict[str, Any], kind: type[T], name: str, other_name: str = "") -> T | None:
    """Return the field of this name, else of the other one; None if both are missing or null.

    Raises UpstreamProtocolError if it has another type.
    """
    found = value.get(name)
    if found is None and other_name:
        found = value.get(other_name)
    if found is None or isinstance(found, kind):
        return found
    raise UpstreamProtocolError


def count(value: dict[str, Any], name: str) -> int | None:
    """Return a number of tokens (or seconds); None if it is implausible: null, NaN, true, 10**30."""
    number = value.get(name)
    plausible = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _LARGEST_COUNT
    return number if plausible else None


def whole(text: str) -> str:
    """Return the text with pairs of surrogates joined, and lone ones replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def upstream_said(text: str) -> str:
    """Return the message for a failure that the upstream explained with `text`."""
    return f"The model's server reports an error: {text}" if text else UpstreamFailed.message


def kept(value: Any, depth: int = _DEEPEST_KEPT) -> Any:
    """Return a JSON value in a form that an answer can hold: texts as by `whole`, numbers as in JavaScript.

    Raises UpstreamProtocolError if it is nested deeper than 100 levels.
    """
    if not depth:
        raise UpstreamProtocolError
    match value:
        case str():
            return whole(value)
        case list():
            return [kept(item, depth - 1) for item in value]
        case dict():
            return {whole(name): kept(item, depth - 1) for name, item in value.items()}
        case int() if not -(2**63) <= value < 2**64:
            return float(value) if abs(value) < 2**1023 else None
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
