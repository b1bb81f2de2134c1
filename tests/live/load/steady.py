"""Clients that ask one thing after the other while the gateway is replaced: each answer must come, and be whole."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import requests
import urllib3
from requests.adapters import HTTPAdapter

from tests.live.children import wait_for
from tests.live.talk import SECONDS, stream, text_of, user

MODEL = "gpt-oss-20b"
_PAUSE_SECONDS = 0.02  # between two questions of a client: the machine is not to be full


class Steady:
    """`waits` are the times until an answer was there, or a stream's first bytes, in seconds.

    `asks_again`: as SDKs do, once, where a kept connection is closed before a byte of the answer has come. nginx closes
    idle connections at a reload, and meets what is just being sent over one; without nginx no client should see that.
    """

    def __init__(self, base: str, *, asks_again: bool = False) -> None:
        self._base = base
        self._adapter = HTTPAdapter(max_retries=urllib3.Retry(1, connect=0, allowed_methods=None) if asks_again else 0)
        self._enough = threading.Event()
        self._clients: list[Future[None]] = []
        self.waits: list[float] = []

    def go_on(self, answers: int = 100) -> None:
        """Return when so many more answers have come, or when a client has failed."""
        wanted = len(self.waits) + answers
        wait_for("answers", lambda: len(self.waits) >= wanted or any(client.done() for client in self._clients))

    def _ask(self, post: Callable[..., requests.Response]) -> None:
        body = {"model": MODEL, "messages": user("hello")}
        while not self._enough.wait(_PAUSE_SECONDS):
            began = time.monotonic()
            assert text_of(post(f"{self._base}/v1/chat/completions", json=body, timeout=SECONDS)) == "hello"
            self.waits.append(time.monotonic() - began)

    def _ask_over_one_connection(self) -> None:
        with requests.Session() as session:
            session.mount(self._base, self._adapter)
            self._ask(session.post)

    def _read_streams_of_a_second(self) -> None:
        while not self._enough.is_set():
            answer = stream(self._base, MODEL, "::echo words=10 gap=100::")
            assert (answer.text(), answer.finishes()) == (" ".join(f"w{number}" for number in range(10)), ["stop"])
            self.waits.append(answer.pieces[0][0])

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask while the block runs, with two clients of each kind. Raises what a client has met."""
        kinds = (lambda: self._ask(requests.post), self._ask_over_one_connection, self._read_streams_of_a_second)
        with ThreadPoolExecutor() as at_once:
            self._clients += [at_once.submit(kind) for kind in kinds * 2]
            try:
                yield
            finally:
                self._enough.set()
        for client in self._clients:
            client.result()
