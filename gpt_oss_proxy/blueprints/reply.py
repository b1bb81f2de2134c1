"""Responses that go to the server as they are.

Werkzeug's own goes through its headers once more, and puts two frames of Python between the server and each piece of a
stream; nothing here needs what they do (relative locations, text to encode, HEAD, which the server knows). `Reply` is
one of Flask's, `Chat` is what an answer of a model needs and no more.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from flask import Response


def call_each(closers: Iterable[Callable[[], Any]]) -> None:
    """Call one after the other, whatever those before have raised. Raises the last error, with the others before it.

    A contextlib.ExitStack would do the same, and cost each request 3 to 9 µs.
    """
    left = iter(closers)
    for closer in left:
        try:
            closer()
        except BaseException:  # it is raised again, behind the others
            call_each(left)
            raise


class Pieces:
    """A body as WSGI wants it: to be iterated over, then closed. A body that can write its pieces itself has `push`."""

    def __init__(self, pieces: Iterable[bytes], closed: Callable[[], Any]) -> None:
        self._pieces = pieces
        self.close = closed
        self.push: Callable[[Callable[[bytes], None]], None] | None = getattr(pieces, "push", None)

    def __iter__(self) -> Iterator[bytes]:
        """Return the pieces' own iterator: no frame of ours is entered for one."""
        return iter(self._pieces)


class Reply(Response):
    """See the module. A body is bytes, or an iterable of bytes."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Begin the answer, and return its body."""
        start_response(self.status, list(self.headers))
        body: Any = () if environ["REQUEST_METHOD"] == "HEAD" else self.response
        return Pieces(body, self.close)


class Chat:
    """A model's answer as a WSGI application, which Flask takes from a view like a response."""

    def __init__(self, body: Iterable[bytes], content_type: str, *headers: tuple[str, str]) -> None:
        self.headers = [("Content-Type", content_type), *headers]
        self._body = body
        self._closers: list[Callable[[], Any]] = [body.close] if hasattr(body, "close") else []

    def call_on_close(self, closer: Callable[[], Any]) -> None:
        """Call this when the answer is over, however it ends, after those that came before, whatever they raise."""
        self._closers.append(closer)

    def __call__(self, _environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Begin the answer, and return its body."""
        try:
            start_response("200 OK", self.headers)
        except BaseException:  # a body that was not returned is not closed by the server
            call_each(self._closers)
            raise
        return Pieces(self._body, partial(call_each, self._closers))
