"""A real ChatKit upstream, in both dialects, steered by a directive in the user's text (README.md lists them).

POST /chatkit is PyPI openai-chatkit 1.6.5 itself; POST /older/chatkit is the older dialect over the same app.
Source: the package's guide "prepare your app for production", for the FastAPI glue.
"""

import argparse
import contextlib
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from chatkit.server import StreamingResult
from chatkit_app import MemoryStore, ScriptedServer, Turn, parse_directive
from chatkit_older import publish, respell
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HTML = "<html><h1>Bad gateway</h1></html>"


class ConnectionDropped(Exception):
    """Raised inside a body: uvicorn then closes the connection without the last chunk."""


class Gauge:
    """Counts chat requests, keeps the last one, and notices a client that leaves before the end of its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.connections: dict[str, Any] = {"open": 0, "closed_early": 0, "served": 0, "last_closed_at": None}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        ended = False

        async def watched_receive() -> Message:
            nonlocal ended
            message = await receive()
            if message["type"] == "http.disconnect" and not ended:
                ended = True
                self.connections["closed_early"] += 1
                self.connections["last_closed_at"] = time.time()
            return message

        async def watched_send(message: Message) -> None:
            nonlocal ended
            ended = ended or (message["type"] == "http.response.body" and not message.get("more_body", False))
            await send(message)

        self.connections["open"] += 1
        self.connections["served"] += 1
        try:
            await self._app(scope, watched_receive, watched_send)
        finally:
            self.connections["open"] -= 1


app = FastAPI()
gauge = Gauge(app)
chatkit = ScriptedServer(MemoryStore())
last: dict[str, Any] = {"headers": None, "body": None}


def scripted_status(body: Any) -> Response | None:
    """Return the error that a ::status:: directive asks for, if the body has one."""
    try:
        text = "\n".join(part["text"] for part in body["params"]["input"]["content"])
    except (KeyError, TypeError):
        return None  # the package shall say what it thinks of such a body
    directive = parse_directive(text)
    if directive.name != "status":
        return None
    seconds = directive.options.get("retry_after")
    headers = {"retry-after": seconds} if seconds else {}
    code = directive.number("code", 500)
    match directive.options.get("body", "json"):
        case "html":
            return Response(HTML, code, headers, media_type="text/html")
        case "empty":
            return Response(None, code, headers)
    return JSONResponse({"detail": directive.options.get("message", "scripted")}, code, headers)


@app.post("/chatkit")
async def published_dialect(request: Request) -> Response:
    body = await keep(request)
    return scripted_status(decoded(body)) or await answer(request, body)


@app.post("/older/chatkit")
async def older_dialect(request: Request) -> Response:
    body = await keep(request)
    try:
        published = publish(body, request.headers.get("x-selected-model"))
    except ValueError as error:
        reason = explain(error) if isinstance(error, ValidationError) else str(error)
        return JSONResponse({"detail": reason}, 400)
    show_reasoning = request.headers.get("x-show-reasoning") == "true"
    return scripted_status(decoded(body)) or await answer(request, published, show_reasoning)


def explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(key) for key in first['loc'])}: {first['msg']}"


async def keep(request: Request) -> bytes:
    body = await request.body()
    last.update(headers=dict(request.headers), body=decoded(body))
    return body


def decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


async def answer(request: Request, body: bytes, older_with_reasoning: bool | None = None) -> Response:
    """Run the package. None means the published spelling, else the older one, with or without reasoning."""
    turn = Turn(request.cookies.get("user_id") or str(uuid.uuid4()), dict(request.headers))
    result = await chatkit.process(body, turn)
    if isinstance(result, StreamingResult):
        events = aiter(result) if older_with_reasoning is None else respell(aiter(result), older_with_reasoning)
        response: Response = StreamingResponse(until_dropped(events, turn), media_type="text/event-stream")
    else:
        response = Response(result.json, media_type="application/json")
    if "user_id" not in request.cookies:
        response.set_cookie("user_id", turn.user_id, httponly=True)
    return response


async def until_dropped(events: AsyncIterator[bytes], turn: Turn) -> AsyncIterator[bytes]:
    async for event in events:
        yield event
    if turn.dropped:
        raise ConnectionDropped


@app.get("/connections")
async def connections() -> dict[str, Any]:
    return gauge.connections


@app.get("/last")
async def last_request() -> dict[str, Any]:
    return last


class ReadyServer(uvicorn.Server):
    """A server that says when it is ready, and that SIGTERM kills at once, stalled requests or not."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"ready {sockets[0].getsockname()[1]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    listener = socket.create_server(("127.0.0.1", parser.parse_args().port))
    # h11, because uvicorn would take another parser when one is installed, with other bytes on the wire.
    config = uvicorn.Config(gauge, http="h11", ws="none", lifespan="off", log_level="critical", access_log=False)
    ReadyServer(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
