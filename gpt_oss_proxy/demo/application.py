"""The demo upstream as a WSGI application: POST /chatkit and POST /api/chat, streamed, one event per write."""

import re
import socket
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import gevent
from gevent import GreenletExit
from greenlet import greenlet

from . import ai_sdk_wire, chatkit_wire
from .chatkit_wire import ChatKitRequest, Ids
from .conversation import Answer, ConnectionCut, Event, Failure, Message, Question, Refused, TextDelta
from .threads import Thread, Threads

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream

CLIENT_SOCKET = "gpt_oss_proxy.demo.client_socket"
"""Where the server puts the client's socket into the environ; without it a client that leaves is noticed at a write."""

_USER_ID = re.compile(r"(?:^|;\s*)user_id=([^;\s]+)")


class ClientGone(GreenletExit):
    """Raised in the greenlet of a request whose client has closed its connection."""


class Upstream:
    """The application. `answer` is the model, or the echo."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._threads = Threads()
        self._routes = {"/chatkit": self._chatkit, "/api/chat": self._ai_sdk}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            route = self._routes.get(environ.get("PATH_INFO", ""))
            if route is None:
                raise Refused("404 Not Found", b'{"detail":"Not Found"}', "application/json")
            if environ["REQUEST_METHOD"] != "POST":
                raise Refused("405 Method Not Allowed", b'{"detail":"Method Not Allowed"}', "application/json")
            headers, stream = route(environ, _read(environ["wsgi.input"]))
        except Refused as refused:
            headers = [("content-type", refused.content_type), ("content-length", str(len(refused.body)))]
            start_response(refused.status, headers)
            return [refused.body]
        start_response("200 OK", headers)
        client = environ.get(CLIENT_SOCKET)
        return stream if client is None else _while_connected(client, stream)

    def _ai_sdk(self, _environ: WSGIEnvironment, body: bytes) -> tuple[list[tuple[str, str]], Iterator[bytes]]:
        request = ai_sdk_wire.parse(body)
        encoder = (
            ai_sdk_wire.UiMessageEncoder()
            if request.ui_stream
            else ai_sdk_wire.DataStreamEncoder(str(uuid.uuid4()), f"msg-{uuid.uuid4().hex[:24]}")
        )
        events = iter([Failure()]) if request.unreadable else self._answer(request.question)
        return list(encoder.headers), _stream(encoder, events)

    def _chatkit(self, environ: WSGIEnvironment, body: bytes) -> tuple[list[tuple[str, str]], Iterator[bytes]]:
        request = chatkit_wire.parse(body, environ.get("HTTP_X_SELECTED_MODEL", ""))
        headers = [("content-type", chatkit_wire.CONTENT_TYPE)]
        cookie = _USER_ID.search(environ.get("HTTP_COOKIE", ""))
        owner = cookie[1] if cookie else str(uuid.uuid4())
        if cookie is None:
            headers.append(("set-cookie", f"user_id={owner}; HttpOnly; Path=/; SameSite=lax"))
        return headers, self._turn(request, owner)

    def _turn(self, request: ChatKitRequest, owner: str) -> Iterator[bytes]:
        thread_id = request.thread_id or f"thr_{uuid.uuid4().hex[:8]}"
        ids = Ids(thread_id, f"msg_{uuid.uuid4().hex[:8]}", f"msg_{uuid.uuid4().hex[:16]}")
        encoder = chatkit_wire.Encoder(request, ids, lambda: datetime.now().isoformat())
        if request.thread_id is None:
            thread = Thread(owner)
            yield encoder.thread_created()
        else:
            thread = self._thread(request.thread_id, owner)
        if request.attachments:  # there is no store, so every id is unknown
            raise ConnectionCut
        messages = (*thread.messages, Message("user", request.text))
        self._threads.keep(thread_id, Thread(owner, messages))
        events = self._answer(Question(request.model, messages))
        texts: list[str] = []
        yield from _stream(encoder, _collecting(events, texts))
        self._threads.keep(thread_id, Thread(owner, (*messages, Message("assistant", "".join(texts)))))

    def _thread(self, thread_id: str, owner: str) -> Thread:
        thread = self._threads.find(thread_id, owner)
        if thread is None:
            raise ConnectionCut
        return thread


def _read(body: "InputStream") -> bytes:
    try:
        return body.read()
    except OSError as error:  # raised by gevent if a chunked body breaks off
        raise Refused("400 Bad Request", b"Bad Request", "text/plain") from error


def _collecting(events: Iterator[Event], texts: list[str]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, TextDelta):
            texts.append(event.text)
        yield event


def _stream(
    encoder: chatkit_wire.Encoder | ai_sdk_wire.DataStreamEncoder | ai_sdk_wire.UiMessageEncoder,
    events: Iterator[Event],
) -> Iterator[bytes]:
    yield encoder.opening()
    for event in events:
        yield encoder.encode(event)


def _while_connected(client: socket.socket, stream: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the stream; if its client closes, end it at once, even while it waits for the model."""
    request = gevent.getcurrent()
    watcher = gevent.spawn(_end_when_closed, client, request)
    try:
        yield from stream
    finally:
        watcher.kill()  # it blocks until the watcher ends, because the next request is read from the same socket


def _end_when_closed(client: socket.socket, request: greenlet) -> None:
    try:
        if client.recv(1, socket.MSG_PEEK):
            return  # the next request has arrived on the same connection
    except OSError:
        pass  # a reset: the client has gone, too
    gevent.kill(request, ClientGone)


def application(answer: Answer) -> WSGIApplication:
    """Return the WSGI application for an `answer` function."""
    return Upstream(answer)
