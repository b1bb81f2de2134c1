"""Damage by the byte and by the field: a good answer cut at any place, and each of its fields replaced.

Its names say all that the server needs: `cut-FRAMING-END-POSITION`, `field-RECORD-PATH-VALUE`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.live.faults.answers import Protocol, Record, texts, write
from tests.live.faults.sending import LAST, UNTIL_CLOSE, Answer, Step, chunks, fin, reset

VALUES: dict[str, Any] = {"null": None, "number": 7, "string": "x", "list": ["x"], "object": {"x": 1}, "bool": True}
_WORD = "a1b2c3d4"  # of the length that requests have
_EVERY = 101  # bytes between two cuts; before the last bytes, where every one is cut at
_LAST_BYTES = 40
_CUT = re.compile(r"cut-(chunked|plain)-(fin|reset)-(\d+)")
_FIELD = re.compile(r"field-(\d+)-(.*)-(\w+)")


def damage(name: str, answer: Answer) -> Iterator[Step]:
    """Yield the steps of the answer with the damage of this name."""
    if cut := _CUT.fullmatch(name):
        yield _wire(answer, cut[1])[: int(cut[3])]
        yield fin if cut[2] == "fin" else reset
    elif found := _FIELD.fullmatch(name):
        frames = list(answer.frames)
        index = int(found[1])
        frames[index] = answer.protocol.encode(Record(_replace(_data(answer, index), found[2], VALUES[found[3]])))
        yield from (answer.head(), *chunks(frames), LAST)
    else:
        raise ValueError(name)


# Cuts


def cuts(protocol: Protocol, framing: str) -> list[int]:
    size = len(_wire(_sample(protocol), framing))
    return sorted({*range(0, size, _EVERY), *range(size - _LAST_BYTES, size)})


def records_before(protocol: Protocol, framing: str, position: int) -> int:
    """Return how many records are whole at this place of the answer; -1 inside its head."""
    answer = _sample(protocol)
    end = len(_head(answer, framing))
    if position < end:
        return -1
    whole = 0
    for frame in answer.frames:
        piece = chunks([frame])[0] if framing == "chunked" else frame
        if position < end + len(piece) - (2 if framing == "chunked" else 0):  # without the chunk's own line end
            break
        whole += 1
        end += len(piece)
    return whole


def is_whole(protocol: Protocol, framing: str, records: int) -> bool:
    """Return whether the answer counts as complete after so many records: a clean end needs less than a break."""
    return records > len(_sample(protocol).frames) + (protocol.end if framing == "chunked" else protocol.last)


def _wire(answer: Answer, framing: str) -> bytes:
    if framing == "chunked":
        return b"".join((_head(answer, framing), *chunks(answer.frames), LAST))
    return b"".join((_head(answer, framing), *answer.frames))


def _head(answer: Answer, framing: str) -> bytes:
    return answer.head() if framing == "chunked" else answer.head(framing=UNTIL_CLOSE)


def _sample(protocol: Protocol) -> Answer:
    return Answer(protocol, texts(_WORD), "")


# Fields


def fields(protocol: Protocol, streamed: bool) -> list[str]:
    """Return the names of the damages to fields; of the records that bring text the first will do.

    What a record means is the same for streams, so for them one of five is enough.
    """
    answer = _sample(protocol)
    deltas = [record.text for record in protocol.records(texts(_WORD))]
    names = [
        f"field-{index}-{path}-{value}"
        for index, delta in enumerate(deltas)
        if not delta or index < len(answer.half)
        for path in _paths(_data(answer, index))
        for value in VALUES
    ]
    return names[::5] if streamed else names


def _data(answer: Answer, index: int) -> str:
    frame = answer.frames[index].decode()
    return frame.removeprefix("data: ").strip("\n")


def _split(data: str) -> tuple[str, Any]:
    """Return a record's code, '' where there is none, and its JSON value."""
    code = data[:2] if data[1:2] == ":" else ""
    return code, None if data == "[DONE]" else json.loads(data[len(code) :])


def _paths(data: str) -> Iterator[str]:
    def walk(value: Any, path: str) -> Iterator[str]:
        yield path
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in pairs:
            yield from walk(inner, f"{path}.{key}")

    if data != "[DONE]":
        yield from walk(_split(data)[1], "$")


def _replace(data: str, path: str, new: Any) -> str:
    code, value = _split(data)
    *way, last = path.split(".")
    if not way:
        return code + write(new)
    node = value
    for key in way[1:]:
        node = node[int(key) if isinstance(node, list) else key]
    node[int(last) if isinstance(node, list) else last] = new
    return code + write(value)
