"""Recordings of real servers' answers: NAME.http is what they sent, NAME.req what they were asked."""

import json
from pathlib import Path
from typing import Any

import msgspec
from requests.structures import CaseInsensitiveDict

FOLDER = Path(__file__).parent / "recordings"


class Recording(msgspec.Struct, frozen=True):
    """One answer without its HTTP: `cut` says that the connection broke before the end of the body."""

    status: int
    headers: CaseInsensitiveDict[str]
    body: bytes
    cut: bool


def names(folder: str) -> list[str]:
    """Return the recordings of a folder, as `folder/name`."""
    return sorted(f"{folder}/{path.stem}" for path in (FOLDER / folder).glob("*.http"))


def answer(name: str) -> Recording:
    """Return NAME.http."""
    head, _, body = (FOLDER / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = CaseInsensitiveDict(line.split(": ", 1) for line in lines)
    cut = False
    if headers.get("Transfer-Encoding") == "chunked":
        body, cut = _without_chunks(body)
    return Recording(int(status.split()[1]), headers, body, cut)


def asked(name: str) -> tuple[CaseInsensitiveDict[str], Any]:
    """Return the headers and the JSON of NAME.req."""
    head, _, body = (FOLDER / f"{name}.req").read_bytes().partition(b"\r\n\r\n")
    return CaseInsensitiveDict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:]), json.loads(
        body
    )


def _without_chunks(body: bytes) -> tuple[bytes, bool]:
    chunks = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return b"".join(chunks), False
        chunks.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(chunks), True
