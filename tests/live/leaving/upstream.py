"""An upstream in the test's own event loop: it sends each piece of an answer when the test says so.

It speaks the wire protocols of the load tests (load/script.py), each at a path of its own. A request names its case in
its text, `::case NAME::`; the answers to one name are numbered, and each says its number in all its words.
"""

import asyncio
import re
import ssl
from collections.abc import Callable

from tests.live.leaving.unread import Unread
from tests.live.load.script import PROTOCOLS

WORDS = 9  # more than any queue within the gateway takes ahead
_BACKLOG = 4096
_LOOK_SECONDS = 0.001
_TAKEN_SECONDS = 1.0  # after which a gateway that has read nothing, on a busy machine too, will not
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_NAME = re.compile(rb"::case ([^:]+)::")
_PATHS = {b"/chatkit": "chatkit", b"/ai": "data", b"/v1/chat/completions": "openai"}

Texts = Callable[[str, int, bytes], list[str] | None]  # (name, number, request) → what is answered, None as usual


def words(name: str, number: int) -> list[str]:
    """Return the texts of the answer with this number."""
    return [f"{name}-{number}x{index} " for index in range(WORDS)]


def piece_count(protocol: str) -> int:
    """Return how many pieces an answer has: its head, its records, its last chunk."""
    return len(PROTOCOLS[protocol].records(words("", 1))) + 2


class Answer:
    """One request that has come, and its answer. `pieces` are (bytes, the text that a client reads then, or "")."""

    def __init__(
        self, transport: asyncio.WriteTransport, unread: Unread, protocol: str, texts: list[str], number: int
    ) -> None:
        wire = PROTOCOLS[protocol]
        lines = (b"HTTP/1.1 200 OK", *wire.headers, b"Transfer-Encoding: chunked", b"", b"")
        records = wire.records(texts)
        framed = [(wire.encode(record), record.text) for record in records]
        self.pieces = [
            (b"\r\n".join(lines), ""),
            *((b"%x\r\n%b\r\n" % (len(data), data), text) for data, text in framed),
            (b"0\r\n\r\n", ""),
        ]
        # From then on the gateway waits for nothing but the end of the transfer.
        self.terminal = len(records) + wire.end + 2
        self.number = number
        self.asked_at = asyncio.get_running_loop().time()
        self.sent = 0
        self.left_at: float | None = None
        self._transport = transport
        self._unread = unread
        self._ports = transport.get_extra_info("peername")[1], transport.get_extra_info("sockname")[1]

    @property
    def is_open(self) -> bool:
        """Whether something is still to be sent, and the gateway is there to read it."""
        return self.sent < len(self.pieces) and self.left_at is None

    def send(self) -> str:
        """Send the next piece; return its text. Nothing, if the gateway has left."""
        data, text = self.pieces[self.sent]
        self.sent += 1
        if self.left_at is None:
            self._transport.write(data)
        return text

    def abort(self) -> None:
        """Break the connection off."""
        self.sent = len(self.pieces)
        self._transport.abort()

    async def is_taken(self) -> bool:
        """Return whether the gateway has read all that was sent, once it has, or when it reads no more for a while."""
        loop = asyncio.get_running_loop()
        left, changed_at = self._not_taken, loop.time()
        while left and self.left_at is None:
            if loop.time() > changed_at + _TAKEN_SECONDS:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
            before, left = left, self._not_taken
            changed_at = changed_at if left == before else loop.time()
        return True

    @property
    def _not_taken(self) -> int:
        """The bytes that wait here, and there."""
        return self._transport.get_write_buffer_size() + self._unread.bytes_at(*self._ports)

    async def go_on(self, upto: int | None = None) -> None:
        """Send so many pieces, or all, if the gateway stays: each when it has read the one before, while it reads."""
        reads = True
        while self.is_open and self.sent < (len(self.pieces) if upto is None else upto):
            self.send()
            reads = reads and await self.is_taken()


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: "Upstream") -> None:
        self._upstream = upstream
        self._answer: Answer | None = None
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._upstream.connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.connections.discard(self._transport)
        if self._answer and self._answer.is_open:
            self._answer.left_at = asyncio.get_running_loop().time()

    def data_received(self, data: bytes) -> None:
        self._heard += data
        end = self._heard.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._heard, 0, end + 2)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self._heard) >= size:
            asked, self._heard = self._heard[:size], self._heard[size:]
            self._answer = self._upstream.take(self._transport, asked)


class Upstream:
    """The server. `texts` may say what is answered instead of the usual words."""

    def __init__(self, texts: Texts) -> None:
        self.connections: set[asyncio.WriteTransport] = set()
        self._texts = texts
        self._answers: dict[str, list[Answer]] = {}
        self._news = asyncio.Event()
        self._unread = Unread()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=_BACKLOG, ssl=tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        self._server.close()
        for connection in self.connections:
            connection.abort()
        while self.connections:
            await asyncio.sleep(0)
        await self._server.wait_closed()
        self._unread.close()

    @property
    def open(self) -> int:
        """How many answers are not over."""
        return sum(answer.is_open for answers in self._answers.values() for answer in answers)

    def answers_to(self, name: str) -> list[Answer]:
        """Return the answers to all requests with this name that have come."""
        return self._answers.get(name, [])

    async def asked(self, name: str, number: int = 1) -> Answer:
        """Wait until this has been asked so often; return the answer with that number."""
        while len(self.answers_to(name)) < number:
            await self._news.wait()
        return self._answers[name][number - 1]

    def take(self, transport: asyncio.WriteTransport, request: bytes) -> Answer:
        name = _NAME.search(request)
        assert name, request
        answers = self._answers.setdefault(name[1].decode(), [])
        number = len(answers) + 1
        texts = self._texts(name[1].decode(), number, request) or words(name[1].decode(), number)
        answers.append(Answer(transport, self._unread, _PATHS[request.split()[1]], texts, number))
        self._news.set()
        self._news = asyncio.Event()
        return answers[-1]
