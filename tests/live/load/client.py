"""A client for thousands at once: it asks what its plan says, and writes down what it has heard.

`python -m tests.live.load.client PLAN` reads the plan (asking.py writes it), prints `begun` when every answer has begun
with a text, or ended, and `done` when what was heard stands in PLAN.heard, a line for each question.
"""

import asyncio
import contextlib
import json
import re
import socket
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.live.load.asking import Ask, Heard, Plan

_SECONDS = 200  # longer than any answer may take
_RESET = struct.pack("ii", 1, 0)
_TEXT = re.compile(rb'"content":"[^"]')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Connection:
    """One connection to the gateway, and what came over it for one question."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.port: int = writer.get_extra_info("sockname")[1]
        self.forget()

    def forget(self) -> None:
        self.status = 0
        self.body = b""
        self.first = 0.0

    async def ask(self, ask: Ask, host: str, began: float, begun: Callable[[], None]) -> None:
        """Read a whole answer. Raises IncompleteReadError or OSError if it is broken off."""
        message = {"role": "user", "content": ask.message}
        body = json.dumps({"model": ask.model, "messages": [message], "stream": ask.streamed}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        self.status = int(head.split()[1])
        if length := _LENGTH.search(head):
            self.body = await self._reader.readexactly(int(length[1]))
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            piece = (await self._reader.readexactly(size + 2))[:-2]
            self.body += piece
            if not self.first and _TEXT.search(piece):
                self.first = time.monotonic() - began
                begun()
        await self._reader.readexactly(2)

    def close(self, how: str = "fin") -> None:
        if how == "rst":
            with contextlib.suppress(OSError):  # the gateway was faster
                self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._writer.transport.abort()
        else:
            self._writer.close()


class Asking:
    """Everybody who asks."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._host, _, port = plan.base.removeprefix("http://").partition(":")
        self._port = int(port)
        self._questions = iter(enumerate(plan.asks))
        self._begun = 0
        self._heard: list[Heard | None] = [None] * len(plan.asks)

    async def run(self) -> list[Heard]:
        await asyncio.gather(*(self._work() for _ in range(self._plan.at_once)))
        return [heard for heard in self._heard if heard]

    def _count(self, ask: Ask, patience: asyncio.Timeout) -> None:
        if ask.hears and ask.leaves is not None:
            patience.reschedule(asyncio.get_running_loop().time() + ask.leaves)
        self._count_begun()

    def _count_begun(self) -> None:
        self._begun += 1
        if self._begun == len(self._heard):
            print("begun", flush=True)

    async def _work(self) -> None:
        kept: Connection | None = None
        for number, ask in self._questions:
            await asyncio.sleep(ask.after)
            began = time.monotonic()
            end = "clean"
            try:
                connection = kept or Connection(*await asyncio.open_connection(self._host, self._port))
            except OSError:
                self._heard[number] = Heard(end="refused")
                self._count_begun()
                continue
            connection.forget()
            try:
                limit = _SECONDS if ask.leaves is None or ask.hears else ask.leaves
                async with asyncio.timeout(limit) as patience:
                    await connection.ask(ask, self._host, began, partial(self._count, ask, patience))
            except TimeoutError:
                end = "left" if ask.leaves is not None else "hung"
            except (asyncio.IncompleteReadError, OSError, ValueError):
                end = "broken"
            ended = time.monotonic()
            if not connection.first:
                self._count_begun()
            kept = connection if end == "clean" and self._plan.keep else None
            if not kept:
                connection.close(ask.how)
            self._heard[number] = listen(connection, end)._replace(seconds=ended - began, ended_at=ended)


def listen(connection: Connection, end: str) -> Heard:
    """Return what a client makes of the bytes."""
    heard = Heard(end, connection.port, connection.status, first=connection.first)
    if end == "clean" and connection.body[:1] == b"{":
        return of_object(heard, json.loads(connection.body))
    for event in connection.body.decode(errors="replace").split("\n\n"):
        if event == "data: [DONE]":
            heard = heard._replace(done=heard.done + 1)
        elif event.startswith("data: ") and event.endswith("}"):
            heard = of_object(heard, json.loads(event[6:]))
    return heard


def of_object(heard: Heard, value: dict[str, Any]) -> Heard:
    if "error" in value:
        return heard._replace(errors=[*heard.errors, value["error"]["code"]])
    for choice in value["choices"]:
        text = choice.get("delta", choice.get("message", {})).get("content") or ""
        finishes = [*heard.finishes, choice["finish_reason"]] if choice["finish_reason"] else heard.finishes
        heard = heard._replace(text=heard.text + text, finishes=finishes)
    return heard


if __name__ == "__main__":
    path = Path(sys.argv[1])
    results = asyncio.run(Asking(Plan.read(path)).run())
    path.with_suffix(".heard").write_text("".join(f"{json.dumps(heard)}\n" for heard in results))
    print("done", flush=True)
