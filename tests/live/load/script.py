"""What the load upstream is told to do: a line in the user's message, and the bytes that it means.

The good answers are those of the fault matrix (faults/answers.py), with as many words as one likes.
"""

import re
from typing import NamedTuple

from tests.live.faults.answers import CHATKIT, DATA_STREAM, OPENAI, UI_STREAM, Protocol, texts

PROTOCOLS: dict[str, Protocol] = {"chatkit": CHATKIT, "data": DATA_STREAM, "ui": UI_STREAM, "openai": OPENAI}
_LINE = re.compile(r"::load ([\w= ]*)::")


class Script(NamedTuple):
    """One answer. The upstream gets it as `::load NAME=VALUE ...::`; what is as by default need not be named."""

    protocol: str = "data"
    word: str = "w"  # stands in the answer, lest answers get mixed up
    framing: str = "chunked"  # chunked, length, or plain: until the connection's end
    words: int = 0  # so many words are the answer; 0: the fault matrix's awkward text
    gap: int = 0  # milliseconds between two pieces
    cut: int = 0  # so many bytes are sent, head included, and then the connection ends; 0: all of it
    how: str = "fin"  # ... in this way; or rst
    pieces: int = 0  # what is cut comes in so many pieces
    stall: int = -1  # so many records are sent, then nothing more; 0: not even the head
    hold: int = -1  # so many records are sent, the others when GET /release is asked
    flood: int = 0  # an endless answer in deltas of so many letters, as fast as the connection takes them

    def line(self) -> str:
        told = {name: value for name, value in self._asdict().items() if value != self._field_defaults[name]}
        return "::load " + " ".join(f"{name}={value}" for name, value in told.items()) + "::"

    @classmethod
    def find(cls, body: str) -> "Script | None":
        """Return the script in a request's body, None if there is none."""
        found = _LINE.search(body)
        if not found:
            return None
        told = dict(pair.split("=") for pair in found[1].split())
        return cls(**{name: type(cls._field_defaults[name])(value) for name, value in told.items()})

    @property
    def model(self) -> str:
        return PROTOCOLS[self.protocol].model

    def texts(self) -> tuple[str, ...]:
        if self.words:
            return tuple(f"{self.word}{number} " for number in range(self.words))
        return texts(self.word)

    def text(self) -> str:
        """Return what a client must have heard in the end."""
        return "".join(self.texts())

    def wire(self) -> list[bytes]:
        """Return the head, each record as it is framed, and the last chunk or b''."""
        protocol = PROTOCOLS[self.protocol]
        records = [protocol.encode(record) for record in protocol.records(self.texts())]
        if self.framing == "chunked":
            framing = b"Transfer-Encoding: chunked"
            records = [b"%x\r\n%b\r\n" % (len(record), record) for record in records]
        elif self.framing == "length":
            framing = b"Content-Length: %d" % sum(map(len, records))
        else:
            framing = b"Connection: close"
        head = b"\r\n".join((b"HTTP/1.1 200 OK", *protocol.headers, framing, b"", b""))
        return [head, *records, b"0\r\n\r\n" if self.framing == "chunked" else b""]
