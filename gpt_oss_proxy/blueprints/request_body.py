"""Reading a request's body: bounded, in bounded time, and every fault of it a 400 or 413."""

import io
import time
from collections.abc import Mapping
from typing import IO, Any

import gevent
from flask import Request
from gunicorn.http.errors import ParseException

from gpt_oss_proxy.errors import BodyTooLarge, InvalidRequest
from gpt_oss_proxy.gateway.limits import Share

_A_MOMENT = 0.001  # seconds; a limit of none or less would be no limit
_PIECE_BYTES = 64 * 1024


def read_body(
    environ: dict[str, Any], share: Share, *, max_bytes: int, silence_seconds: float, total_seconds: float
) -> bytes:
    """Return the whole body. `share` takes its length before it is read, or, if that is not said, each piece of it.

    Raises BodyTooLarge, Overloaded, or InvalidRequest if it is broken, slow, or a foreign page's.
    """
    _refuse_foreign_forms(environ)
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise InvalidRequest("Send the body uncompressed, without Content-Encoding.", code="unsupported_encoding")
    length = _length(environ)
    if length is not None and length > max_bytes:
        raise _too_large(max_bytes)
    if length is not None:
        share.take(length)
    body = _read(environ, share, length, max_bytes, silence_seconds, time.monotonic() + total_seconds)
    if length is not None and len(body) < length:
        raise InvalidRequest("The body ended before its Content-Length.", code="incomplete_body")
    return body


def _read(
    environ: dict[str, Any], share: Share, left: int | None, max_bytes: int, silence_seconds: float, due: float
) -> bytes:
    # Not Flask's stream: it cuts a chunked body at its limit without a word.
    stream = environ["wsgi.input"]
    if left is None and not environ.get("wsgi.input_terminated"):
        return b""
    if left is not None and isinstance(stream, io.BytesIO):  # it has come with its head
        return stream.read(left)
    pieces: list[bytes] = []
    size = 0
    try:
        while left is None or left > size:
            # gunicorn waits for as much as it is asked for: never ask for more than may come.
            most = max_bytes + 1 if left is None else left
            wanted = min(_PIECE_BYTES, most - size)
            piece = _read_before(stream, wanted, max(min(silence_seconds, due - time.monotonic()), _A_MOMENT))
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            if size > max_bytes:
                raise _too_large(max_bytes)
            if left is None:
                share.take(len(piece))
    except (OSError, ParseException, ValueError) as error:
        raise InvalidRequest("The body is broken: its transfer coding is not valid.", code="incomplete_body") from error
    return b"".join(pieces)


def _length(environ: Mapping[str, Any]) -> int | None:
    """Return how long the body is, None if it is not said."""
    text = environ.get("CONTENT_LENGTH") or ""
    return int(text) if text.isascii() and text.isdecimal() and "HTTP_TRANSFER_ENCODING" not in environ else None


def _read_before(stream: IO[bytes], size: int, seconds: float) -> bytes:
    timeout = gevent.Timeout(seconds)
    try:
        with timeout:
            return stream.read(size)
    except gevent.Timeout as error:
        if error is not timeout:
            raise
        # gunicorn would take what still comes of it for the next request: Body.failed ends the connection.
        stream.failed = True  # type: ignore[attr-defined]
        raise InvalidRequest("The body did not arrive in time.", code="incomplete_body") from error


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request's body is larger than {max_bytes} bytes. Send less, or smaller images.")


def _refuse_foreign_forms(environ: dict[str, Any]) -> None:
    # A foreign web page can post a form or text without asking first (CORS preflight), but not application/json.
    if "HTTP_ORIGIN" in environ and Request(environ, populate_request=False).mimetype != "application/json":
        raise InvalidRequest(
            "A request from a web page must have the Content-Type application/json.", code="unsupported_content_type"
        )
