"""Responses that go to the server as they are.

Werkzeug's own goes through its headers once more, and puts two frames of Python between the server and each piece of a
stream; nothing here needs what they do (relative locations, text to encode, HEAD, which the server knows). `Reply` is
one of Flask's, `Chat` is what an answer of a model needs and no more.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Response


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
        self._closers: list[Callable[[], Any]] = []

    def call_on_close(self, closer: Callable[[], Any]) -> None:
        """Call this when the answer is over, however it ends, after those that came before, whatever they raise."""
        self._closers.append(closer)

    def __call__(self, _environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Begin the answer, and return its body."""
        try:
            start_response("200 OK", self.headers)
        except BaseException:  # nobody will close a body that was not returned
            self._close()
            raise
        return Pieces(self._body, self._close)

    def _close(self) -> None:
        with contextlib.ExitStack() as closing:
            for closer in reversed(self._closers):  # the last that is pushed is called first
                closing.callback(closer)
            if close := getattr(self._body, "close", None):
                close()
