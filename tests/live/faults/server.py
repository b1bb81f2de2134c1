"""The fault upstream: a server that answers a chat with the fault that its message names, in each wire protocol.

`python -m tests.live.faults.server --port 0` prints `ready PORT`. The message holds `::fault NAME WORD PROTOCOL::`,
whatever the path. `GET /seen` returns what was asked: how often for each word, how often with cookies, and how often a
redirect was followed.
"""

import argparse
import collections
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import IO

from tests.live.faults.answers import PROTOCOLS, texts
from tests.live.faults.cases import CASES
from tests.live.faults.damage import damage
from tests.live.faults.sending import Answer, Step

_ASKED = re.compile(rb"::fault (\S+) (\w+) (\S+)::")
_PROTOCOLS = {protocol.slug: protocol for protocol in PROTOCOLS}
_LONGEST_BACKLOG = 1024


class Server:
    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=_LONGEST_BACKLOG)
        self.port = self._listener.getsockname()[1]
        self._words: collections.Counter[str] = collections.Counter()
        self._cookies = 0
        self._redirected = 0

    def run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.closing(connection), connection.makefile("rb") as requests, contextlib.suppress(OSError):
            while head := read_head(requests):
                length = re.search(rb"(?im)^content-length: *(\d+)", head)
                body = requests.read(int(length[1]) if length else 0)
                for step in self._steps(head, body):
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    else:
                        step(connection)

    def _steps(self, head: bytes, body: bytes) -> Iterator[Step]:
        self._cookies += b"\r\ncookie:" in head.lower()
        self._redirected += head.split()[1] == b"/redirected"
        asked = _ASKED.search(body)
        if not asked:
            seen = {"words": self._words, "cookies": self._cookies, "redirected": self._redirected}
            said = json.dumps(seen).encode()
            yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said) + said
            return
        name, word, slug = (group.decode() for group in asked.groups())
        self._words[word] += 1
        protocol = _PROTOCOLS[slug]
        case = CASES.get(name)
        answer = Answer(protocol, (case and case.texts) or texts(word), f"http://127.0.0.1:{self.port}")
        yield from case.steps(answer) if case else damage(name, answer)


def read_head(requests: IO[bytes]) -> bytes:
    """Return a request's head, b'' when there is none any more."""
    head = b""
    while line := requests.readline():
        head += line
        if line == b"\r\n":
            return head
    return b""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    server = Server(parser.parse_args().port)
    print(f"ready {server.port}", flush=True)
    server.run()
