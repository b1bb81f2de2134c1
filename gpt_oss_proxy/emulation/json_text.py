"""JSON in text that arrives in pieces: finds a value's end, and escapes control characters in strings."""

import json
import re
from typing import Any

_NOTABLE = re.compile(r'["{}\[\],]')  # outside of strings
_IN_STRING = re.compile(r'["\\\x00-\x1f]')
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def write_json(value: Any) -> str:
    """Return the value's JSON text. Characters are not escaped, unless they have no UTF-8 form."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # an unpaired surrogate, which the model wrote as an escape
        return json.dumps(value)
    return text


class JsonReader:
    """Reads an object or an array up to its end. It looks only at brackets and strings, not at the grammar.

    `text` is the text so far. Control characters inside strings, which models write and JSON forbids, are escaped,
    because their meaning is clear. `depth` is the number of open brackets; `commas` are the positions in `text` of the
    commas between the members of the outermost value, since they were last cleared. `last_escape` is the position of
    the last backslash that begins an escape, `string_start` that of the last string, behind its quotation mark.
    """

    def __init__(self) -> None:
        self.text = ""
        self.depth = 0
        self.in_string = False
        self.ended = False
        self.commas: list[int] = []
        self.last_escape = 0
        self.string_start = 0
        self._escaped = False

    def feed(self, text: str) -> str:
        """Read on; return the text behind the value's end."""
        pieces: list[str] = []
        length = len(self.text)
        position = 0
        while position < len(text) and not self.ended:
            start = position
            pattern = _IN_STRING if self.in_string else _NOTABLE
            found = pattern.search(text, position)
            if self._escaped:
                found, position, self._escaped = None, position + 1, False
            elif found is None:
                position = len(text)
            else:
                position = found.end()
            piece = self._read(text[start:position], found, length)
            pieces.append(piece)
            length += len(piece)
        # With a single reference to the text, Python extends it in place instead of copying all of it.
        whole, self.text = self.text, ""
        whole += "".join(pieces)
        self.text = whole
        return text[position:]

    def _read(self, piece: str, found: re.Match[str] | None, length: int) -> str:
        if found is None:
            return piece
        sign = found[0]
        if self.in_string:
            if sign == '"':
                self.in_string = False
            elif sign == "\\":
                self._escaped = True
                self.last_escape = length + len(piece) - 1
            else:
                return piece[:-1] + _ESCAPES.get(sign, f"\\u{ord(sign):04x}")
        elif sign == '"':
            self.in_string = True
            self.string_start = length + len(piece)
        elif sign in "{[":
            self.depth += 1
        elif sign in "}]":
            self.depth -= 1
            self.ended = self.depth <= 0
        elif self.depth == 1:
            self.commas.append(length + len(piece) - 1)
        return piece
