"""An upstream for thousands at once: it does what the Script in the user's message says, in one process.

`python -m tests.live.load.upstream --port 0` prints `ready PORT`. `GET /seen` returns what it has seen, see Seen;
`GET /release` lets go on what is held, and returns the same.
"""

import argparse
import asyncio
import dataclasses
import json
import re
import socket
import struct
import time

from tests.live.load.script import PROTOCOLS, Script

_BACKLOG = 4096
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_RESET = struct.pack("ii", 1, 0)


@dataclasses.dataclass
class Seen:
    """What the upstream has seen; times are of the monotonic clock, which all processes share."""

    open: int = 0  # answers it is working on
    served: int = 0  # answers it has begun
    left: int = 0  # answers whose client left before their end
    last_left_at: float = 0.0
    sent: int = 0  # bytes of floods that the kernel has taken
    held: int = 0  # answers that wait to be released


class Gate:
    """Where held answers wait."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._opened = asyncio.Event()

    async def wait(self) -> None:
        self._seen.held += 1
        try:
            await self._opened.wait()
        finally:
            self._seen.held -= 1

    def open(self) -> None:
        """Let go all that wait now."""
        self._opened.set()
        self._opened = asyncio.Event()


class Connection(asyncio.Protocol):
    def __init__(self, seen: Seen, gate: Gate) -> None:
        self._seen = seen
        self._gate = gate
        self._heard = b""
        self._work: asyncio.Task[None] | None = None
        self._room = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._room.set()
        self.resume_writing = self._room.set
        self.pause_writing = self._room.clear
        transport.set_write_buffer_limits(0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._work:
            self._seen.open -= 1
            self._seen.left += 1
            self._seen.last_left_at = time.monotonic()
            self._work.cancel()
            self._work = None

    def data_received(self, data: bytes) -> None:
        self._heard += data
        end = self._heard.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._heard, 0, end)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self._heard) < size:
            return
        asked, self._heard = self._heard[:size], self._heard[size:]
        script = Script.find(asked.decode())
        if script:
            self._seen.open += 1
            self._seen.served += 1
            self._work = asyncio.get_running_loop().create_task(self._answer(script))
        else:
            if asked.startswith(b"GET /release "):
                self._gate.open()
            said = json.dumps(dataclasses.asdict(self._seen)).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said)
            self._transport.write(head + said)

    async def _answer(self, script: Script) -> None:
        if script.flood:
            await self._flood(script)
        elif script.stall == 0:
            await asyncio.Event().wait()
        elif script.cut:
            await self._cut(script)
        else:
            for number, piece in enumerate(script.wire()):
                if number == script.stall + 1 > 0:
                    await asyncio.Event().wait()
                if number == script.hold + 1 > 0:
                    await self._gate.wait()
                self._transport.write(piece)
                if script.gap:
                    await asyncio.sleep(script.gap / 1000)
            self._end("fin" if script.framing == "plain" else "")

    async def _cut(self, script: Script) -> None:
        whole = b"".join(script.wire())[: script.cut]
        step = -(-len(whole) // max(script.pieces, 1))
        for begin in range(0, len(whole), step):
            self._transport.write(whole[begin : begin + step])
            if script.gap:
                await asyncio.sleep(script.gap / 1000)
        self._end(script.how)

    async def _flood(self, script: Script) -> None:
        protocol = PROTOCOLS[script.protocol]
        head, *records = script._replace(framing="plain").wire()
        begin = protocol.records(script.texts())
        first = next(index for index, record in enumerate(begin) if record.text)
        record = protocol.records(["x" * script.flood])[first]
        self._transport.write(head + b"".join(records[:first]))
        piece = protocol.encode(record)
        while True:
            await self._room.wait()
            self._transport.write(piece)
            self._seen.sent += len(piece)
            await asyncio.sleep(0)

    def _end(self, how: str) -> None:
        self._seen.open -= 1
        self._work = None
        if how == "rst":
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        elif how:
            self._transport.close()


async def serve(port: int) -> None:
    seen = Seen()
    gate = Gate(seen)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(seen, gate), "127.0.0.1", port, backlog=_BACKLOG)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))
