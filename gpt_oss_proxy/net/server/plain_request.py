"""Parses the head of a plain HTTP/1.1 request into its WSGI environment, with few calls, most of them in C.

Nearly all requests are plain: one read has the whole head, each header once, and none of them changes how the
connection goes on. gunicorn's own parser would read these requests alike; anything unusual, ambiguous or hostile is
left to that parser, which is widely tested.

Sources: RFC 9112 (HTTP/1.1), PEP 3333 (WSGI).
"""

import re
from functools import lru_cache
from typing import Any

import msgspec

_MOST_HEAD_BYTES = 8190
_MOST_HEADERS = 100
_END = b"\r\n\r\n"
_CONTROLS = bytes({*range(32), 127} - {9})
_LONGEST_LINE = 4094  # characters; gunicorn's limit
# After a CONNECT the connection no longer carries HTTP, whatever the answer is.
_LINE = re.compile(r"(?!CONNECT )([A-Z]{3,7}) (/(?!/)[A-Za-z0-9._~/-]*)(?:\?([!\"$-~]+))? HTTP/1\.1")
_NAME = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")  # RFC 9110's token, but "_": it would look like "-"
# Headers that change the framing, the connection or the path.
_ODD = frozenset({"TRANSFER-ENCODING", "EXPECT", "UPGRADE", "HTTP2-SETTINGS", "SCRIPT-NAME", "PATH-INFO"})
_CONNECTION = {"": True, "keep-alive": True, "close": False}


class PlainRequest(msgspec.Struct):
    """A request's head. `environ` holds its fields; `size` is its bytes, `length` those of the body behind it."""

    environ: dict[str, Any]
    size: int
    length: int
    keep_alive: bool


def read_plain(data: bytes) -> PlainRequest | None:
    """Return the request that `data` begins with, None if it is not plain or its head is incomplete."""
    end = data.find(_END, 0, _MOST_HEAD_BYTES)
    if end < 0:
        return None
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    line = _read_line(first)
    # Line ends are the only controls.
    if (
        not line
        or len(first) > _LONGEST_LINE
        or len(lines) > _MOST_HEADERS
        or len(data[:end].translate(None, _CONTROLS)) != end - 2 * len(lines)
    ):
        return None
    environ = dict(line)
    for text in lines:
        name, colon, value = text.partition(":")
        key = _key(name) if len(name) <= 64 else ""
        if not key or not colon or key in environ:
            return None
        environ[key] = value.strip(" \t")
    keep_alive = _CONNECTION.get(environ.get("HTTP_CONNECTION", "").lower())
    length = environ.get("CONTENT_LENGTH", "0")
    if keep_alive is None or not (length.isascii() and length.isdecimal()) or len(length) > 15:
        return None
    return PlainRequest(environ, end + len(_END), int(length), keep_alive)


@lru_cache(256)
def _read_line(line: str) -> tuple[tuple[str, str], ...]:
    """Return the fields of the request line, () if it is not plain. Cached, because clients repeat it."""
    found = _LINE.fullmatch(line)
    if not found:
        return ()
    method, path, query = found.groups("")
    target = f"{path}?{query}" if query else path
    return ("REQUEST_METHOD", method), ("PATH_INFO", path), ("QUERY_STRING", query), ("RAW_URI", target)


@lru_cache(1024)
def _key(name: str) -> str:
    """Return a header's key, '' if the name is invalid or not plain."""
    upper = name.upper()
    if not _NAME.fullmatch(name) or upper in _ODD:
        return ""
    key = upper.replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
