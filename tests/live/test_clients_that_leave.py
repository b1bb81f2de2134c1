"""When the client is gone, the upstream's connection is closed within a second, also while the upstream is silent."""

import contextlib
import socket
import struct
import time

import pytest

from tests.live.children import wait_for
from tests.live.conftest import Gateway
from tests.live.talk import Upstream, user
from tests.live.wire import Connection, Silent

MODELS = pytest.mark.parametrize("model", ["gpt-oss-120b", "gpt-4o"])
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST instead of FIN


def begin(base: str, model: str, text: str, *, streamed: bool) -> Connection:
    """Send a chat, and return the connection without waiting for the answer."""
    connection = Connection(base)
    connection.post({"model": model, "messages": user(text), "stream": streamed})
    return connection


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize("after", [0, 2])
@STREAMED
@MODELS
def test_a_client_that_leaves_while_the_upstream_is_silent_ends_the_upstreams_work(
    base: str, chatkit: Upstream, ai_sdk: Upstream, settled: None, model: str, after: int, streamed: bool, how: str
) -> None:
    upstream = chatkit if model == "gpt-oss-120b" else ai_sdk
    before = upstream.connections()
    with contextlib.closing(begin(base, model, f"::stall after={after}::", streamed=streamed)) as client:
        if streamed and after:
            client.read_until(b"w1")
        else:
            wait_for("the upstream's request", lambda: upstream.connections()["open"] == 1)
            time.sleep(0.1)  # and for its first words, which cannot be seen from here
        assert upstream.connections()["closed_early"] == before["closed_early"]
        if how == "resets":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        left_at = time.time()
    wait_for("the upstream's end", lambda: upstream.connections()["closed_early"] > before["closed_early"], seconds=10)
    assert upstream.connections()["last_closed_at"] - left_at < 1


@STREAMED
@MODELS
def test_a_client_that_leaves_before_the_upstream_has_answered_at_all_ends_the_call(
    gateway: Gateway, silent: Silent, model: str, streamed: bool
) -> None:
    base = gateway(BASE_URL=silent.address, VERCEL_MINIMAL_API_URL=silent.address)
    client = begin(base, model, "hi", streamed=streamed)
    with silent.accept() as upstream:
        heard = b""
        while b'"hi"' not in heard:
            heard += upstream.recv(65536)
        client.close()
        left_at = time.monotonic()
        assert upstream.recv(65536) == b""
        assert time.monotonic() - left_at < 1


def test_the_next_request_on_a_kept_connection_is_answered_after_one_whose_upstream_failed(base: str) -> None:
    with contextlib.closing(Connection(base)) as client:
        for text, status in (("::drop after=1::", 502), ("hello", 200), ("::status code=500::", 502), ("hello", 200)):
            client.post({"model": "gpt-oss-120b", "messages": user(text)})
            assert client.answer().status == status


def test_a_client_that_pauses_still_gets_everything(base: str) -> None:
    words = 10_000
    with contextlib.closing(begin(base, "gpt-4o", f"::echo words={words}::", streamed=True)) as client:
        client.read_until(b"w1 ")
        time.sleep(1)  # more than the buffers between hold comes meanwhile
        heard = client.read_until(b"[DONE]")
    assert f"w{words - 1}".encode() in heard
