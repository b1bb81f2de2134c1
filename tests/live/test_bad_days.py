"""Bad days with two workers: upstreams that are not there, too much to do, and clients that come again."""

import contextlib
import hashlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import openai
import pytest
import requests

from tests.live.children import Child, free_port, wait_for
from tests.live.conftest import Gateway, StartGateway
from tests.live.talk import SECONDS, Upstream, chat, error_of, failed, post, stream, text_of, user
from tests.live.wire import Connection, Silent
from tests.upstreams.raw_server import CHUNKED, RawServer, chunk, close, reset, with_length

STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
WORKERS = {"WEB_CONCURRENCY": "2"}
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":%b}]}\n\n'
HI = [CHUNKED + b"\r\n", chunk(CHUNK % b"null"), chunk(CHUNK % b'"stop"'), chunk(b"data: [DONE]\n\n"), chunk(b"")]
BUSY = with_length(b"{}", status=b"503 Service Unavailable")


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    servers: list[RawServer] = []

    def start(*answers: object, port: int = 0) -> RawServer:
        servers.append(RawServer(*answers, port=port))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


Sdk = Callable[..., openai.OpenAI]


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    """Make clients that are closed in the end, for a warning about their sockets would hit another test."""
    with contextlib.ExitStack() as stack:
        yield lambda base, **options: stack.enter_context(
            openai.OpenAI(base_url=f"{base}/v1", **{"api_key": "x", **options})
        )


@pytest.fixture
def quiet() -> Iterator[Silent]:
    """A silent server of one's own: connections that nobody accepts must not be left to other tests."""
    with contextlib.closing(Silent()) as server:
        yield server


def metrics(base: str) -> dict[str, float]:
    lines = requests.get(f"{base}/metrics", timeout=SECONDS).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


# Retries and failover


@pytest.fixture(scope="module")
def port() -> int:
    """Where one server after the other listens, so that one gateway will do."""
    return free_port()


@pytest.fixture
def base(gateway: Gateway, port: int) -> str:
    """The gateway in front of it. None of its circuits opens, for one test's faults are nothing to the next."""
    return gateway(OPENAI_BASE_URL=f"http://127.0.0.1:{port}", OPENAI_MODELS="m", BREAKER_FAILURES=0)


@STREAMED
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_upstream_that_has_not_taken_a_request_is_asked_again(
    base: str, port: int, serve: Callable[..., RawServer], status: int, streamed: bool
) -> None:
    refusal = with_length(b"<html>", status=b"%d No" % status)
    server = serve([refusal], [refusal], HI, port=port)
    response = chat(base, "m", "hi", stream=streamed)
    assert (response.status_code, len(server.heads)) == (200, 3)
    assert len(set(server.bodies)) == 1


@STREAMED
@pytest.mark.parametrize("end", [close, reset], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\n", CHUNKED + b"\r\n"], ids=["nothing", "a head", "no event"]
)
def test_a_post_that_may_have_been_accepted_is_never_sent_twice(
    base: str, port: int, serve: Callable[..., RawServer], begun: bytes, end: object, streamed: bool
) -> None:
    server = serve([begun, end], port=port)
    assert chat(base, "m", "hi", stream=streamed).status_code == 502
    assert len(server.bodies) == 1


def test_another_upstream_answers_for_one_that_is_not_there(
    start_gateway: StartGateway, serve: Callable[..., RawServer], chatkit: Upstream
) -> None:
    server = serve(HI)
    nowhere = f"http://127.0.0.1:{free_port()}"
    gateway, base = start_gateway(
        BASE_URL=nowhere,
        CHATKIT_DIALECT="published",
        FAILOVER=f"gpt-oss-120b=openai+{server.url}#org/gpt-oss,gpt-oss-20b=chatkit+{chatkit.address}",
    )
    assert text_of(chat(base, "gpt-oss-120b", "hi")) == "HiHi"
    assert b'"model":"org/gpt-oss"' in server.bodies[0]
    assert text_of(chat(base, "gpt-oss-20b", "hi")) == "hi"
    assert chat(base, "gpt-oss-120b", "hi").json()["model"] == "gpt-oss-120b"
    host = urlsplit(chatkit.address).netloc
    line = f'"upstream":"chatkit-2","upstream_host":"{host}","upstream_status":null,"tries":2'
    wait_for("its line", lambda: line in gateway.text(), SECONDS)
    gateway.kill()


# Circuits


def test_two_workers_share_a_circuit_that_opens_tells_so_and_closes_again(start_gateway: StartGateway) -> None:
    port = free_port()
    gateway, base = start_gateway(
        OPENAI_BASE_URL=f"http://127.0.0.1:{port}",
        OPENAI_MODELS="m",
        BREAKER_FAILURES="5",
        BREAKER_SECONDS="1",
        RETRIES="0",
        **WORKERS,
    )
    codes = [failed(chat(base, "m", "hi"))[2] for _ in range(12)]
    assert codes == ["upstream_unreachable"] * 5 + ["circuit_open"] * 7
    assert requests.get(f"{base}/readyz", timeout=SECONDS).json()["circuits"]["openai"] == "open"
    assert metrics(base)['gpt_oss_proxy_upstream_circuit_open{upstream="openai"}'] == 1
    refused = chat(base, "m", "hi")
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert failed(chat(base, "gpt-oss-20b", "hi"))[2] != "circuit_open"
    wait_for("the probe's failure", lambda: failed(chat(base, "m", "hi"))[2] == "upstream_unreachable", seconds=10)
    assert failed(chat(base, "m", "hi"))[2] == "circuit_open"

    server = RawServer(HI, port=port)
    wait_for("the circuit to close", lambda: chat(base, "m", "hi").status_code == 200, seconds=20)
    assert [chat(base, "m", "hi").status_code for _ in range(10)] == [200] * 10
    server.stop()
    gateway.kill()


# Limits of concurrency


def test_above_its_places_the_gateway_says_so_at_once_and_a_killed_worker_s_places_come_back(
    start_gateway: StartGateway, quiet: Silent
) -> None:
    gateway, base = start_gateway(
        BASE_URL=quiet.address, MAX_REQUESTS="6", MAX_REQUESTS_PER_UPSTREAM="4", RETRIES="0", **WORKERS
    )
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(contextlib.closing(Connection(base)))
            waiting.post({"model": "gpt-oss-20b", "messages": user("hi")})
            stack.enter_context(quiet.accept())
        began = time.monotonic()
        refused = chat(base, "gpt-oss-20b", "hi")
        assert failed(refused) == (503, "overloaded_error", "overloaded")
        assert refused.headers["retry-after"] == "5"
        assert time.monotonic() - began < 2
        running = metrics(base)
        assert running["gpt_oss_proxy_running"] == running['gpt_oss_proxy_upstream_running{upstream="chatkit"}'] == 4
        for worker in workers_of(gateway):
            os.kill(worker, signal.SIGKILL)
    wait_for("new workers", lambda: healthy(base) and metrics(base)["gpt_oss_proxy_running"] == 0, seconds=20)
    gateway.kill()


def healthy(base: str) -> bool:
    try:
        return requests.get(f"{base}/healthz", timeout=SECONDS).status_code == 200
    except requests.ConnectionError:
        return False


def workers_of(gateway: Child) -> list[int]:
    with open(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children") as children:
        return [int(pid) for pid in children.read().split()]


# Requests that come twice, whichever worker they come to


@pytest.mark.usefixtures("settled")
def test_a_retry_adopts_what_its_first_try_left_from_any_worker(start_gateway: StartGateway, chatkit: Upstream) -> None:
    gateway, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published", **WORKERS)
    before = chatkit.connections()
    said = "::echo gap=150:: one two three four five six seven"
    bodies = [{"model": "gpt-oss-20b", "messages": user(f"{said} {n}")} for n in range(4)]
    for number, body in enumerate(bodies, 1):
        with contextlib.closing(Connection(base)) as client:
            client.post(body, "x-stainless-retry-count: 0")
            wait_for("the first try", lambda n=number: chatkit.connections()["served"] == before["served"] + n)
            time.sleep(0.2)
        time.sleep(0.2)  # an SDK's pause is about half a second
        again = post(base, body, {"x-stainless-retry-count": "1"})
        assert [word in again.text for word in ("one", f"{number - 1}")] == [True] * 2
    after = chatkit.connections()
    assert after["served"] - before["served"] == len(bodies)
    assert after["closed_early"] == before["closed_early"]
    gateway.stop()
    lines = [json.loads(line) for line in gateway.text().splitlines() if '"path":"/v1/chat/completions"' in line]
    assert [(line["adopted"], line["tries"], line["outcome"]) for line in lines] == [
        (False, 1, "client_gone"),
        (True, 0, "ok"),
    ] * len(bodies)


@pytest.mark.usefixtures("settled")
def test_retries_of_an_answer_that_has_its_client_are_answers_of_their_own(
    start_gateway: StartGateway, chatkit: Upstream
) -> None:
    gateway, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published", **WORKERS)
    before = chatkit.connections()["served"]
    body = {"model": "gpt-oss-20b", "messages": user("::echo gap=50:: one two three")}
    with ThreadPoolExecutor(10) as at_once:
        answers = [at_once.submit(post, base, body, {"x-stainless-retry-count": f"{n % 3}"}) for n in range(10)]
        assert len({future.result().json()["id"] for future in answers}) == 10
    assert chatkit.connections()["served"] == before + 10
    gateway.kill()


@pytest.mark.usefixtures("settled")
def test_of_many_with_the_same_idempotency_key_at_the_same_moment_one_is_asked(
    start_gateway: StartGateway, chatkit: Upstream
) -> None:
    gateway, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published", **WORKERS)
    for number in range(5):
        before = chatkit.connections()["served"]
        body = {"model": "gpt-oss-20b", "messages": user("::echo gap=50:: one two three"), "stream": True}
        with ThreadPoolExecutor(10) as at_once:
            key = {"Idempotency-Key": f"key-{number}"}
            answers = [at_once.submit(post, base, body, key) for _ in range(10)]
            assert len({future.result().content for future in answers}) == 1
        assert chatkit.connections()["served"] == before + 1
    gateway.kill()


@pytest.mark.usefixtures("settled")
def test_an_sdk_client_that_really_leaves_ends_the_upstreams_work_within_a_second(
    start_gateway: StartGateway, sdk: Sdk, chatkit: Upstream
) -> None:
    gateway, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published", **WORKERS)
    client = sdk(base)
    answer = client.chat.completions.create(model="gpt-oss-20b", messages=user("::stall after=2::"), stream=True)
    next(iter(answer))
    before = chatkit.connections()["closed_early"]
    answer.close()
    left_at = time.time()
    wait_for("the upstream's end", lambda: chatkit.connections()["closed_early"] > before, seconds=10)
    assert chatkit.connections()["last_closed_at"] - left_at < 1
    gateway.kill()


# What SDKs are told


@STREAMED
def test_a_time_out_of_an_sdk_is_its_own(start_gateway: StartGateway, sdk: Sdk, quiet: Silent, streamed: bool) -> None:
    gateway, base = start_gateway(BASE_URL=quiet.address)
    client = sdk(base, timeout=0.5, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="gpt-oss-20b", messages=user("hi"), stream=streamed)
    gateway.kill()


@pytest.mark.usefixtures("settled")
def test_an_sdk_that_gave_up_too_early_gets_the_answer_by_its_retry(
    start_gateway: StartGateway, sdk: Sdk, chatkit: Upstream
) -> None:
    gateway, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published", **WORKERS)
    before = chatkit.connections()["served"]
    client = sdk(base, timeout=1.2, max_retries=1)
    said = user("::echo gap=300:: one two three four five six")  # 1.8 s, the retry comes after 1.6 to 1.7
    answer = client.chat.completions.create(model="gpt-oss-20b", messages=said)
    assert answer.choices[0].message.content == "one two three four five six"
    assert chatkit.connections()["served"] == before + 1
    gateway.kill()


def test_when_our_retries_are_used_up_the_sdk_makes_no_further_requests(
    base: str, port: int, sdk: Sdk, serve: Callable[..., RawServer]
) -> None:
    server = serve([BUSY], port=port)
    client = sdk(base, max_retries=2)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="m", messages=user("hi"))
    assert raised.value.code == "upstream_unavailable"
    assert len(server.heads) == 3


# Keys and metrics


def test_keys_are_asked_for_and_never_shown(start_gateway: StartGateway, sdk: Sdk, chatkit: Upstream) -> None:
    hashed = hashlib.sha256(b"sk-two").hexdigest()
    gateway, base = start_gateway(
        BASE_URL=chatkit.address, CHATKIT_DIALECT="published", API_KEYS=f"sk-one,sha256:{hashed}"
    )
    error = error_of(chat(base, "gpt-oss-20b", "hi"))
    assert (error["status"], error["type"], error["code"]) == (401, "authentication_error", "invalid_api_key")
    for key, works in (("sk-one", True), ("sk-two", True), ("sk-three", False), (hashed, False)):
        client = sdk(base, api_key=key, max_retries=0)
        with contextlib.nullcontext() if works else pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="gpt-oss-20b", messages=user("hi"))
    counted = requests.get(f"{base}/metrics", timeout=SECONDS).text
    gateway.stop()
    assert not any(key in gateway.text() + counted for key in ("sk-one", "sk-two", "sk-three", hashed))


def test_metrics_are_summed_over_all_workers_those_that_died_included(
    start_gateway: StartGateway, chatkit: Upstream
) -> None:
    gateway, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published", **WORKERS)
    with ThreadPoolExecutor(10) as at_once:
        list(at_once.map(lambda _: text_of(chat(base, "gpt-oss-20b", "hi")), range(40)))
    assert stream(base, "gpt-oss-20b", "hi").finishes() == ["stop"]
    ok = 'gpt_oss_proxy_requests_total{model="gpt-oss-20b",outcome="ok",status="200",stream="%s",upstream="chatkit"}'

    def counted(whole: int) -> bool:
        told = [metrics(base) for _ in range(4)]
        return Counter((one.get(ok % "false"), one.get(ok % "true")) for one in told) == {(whole, 1): 4}

    # A request is counted a second late at most, and when its connection is free again.
    wait_for("all to be counted", lambda: counted(40), seconds=10)
    os.kill(workers_of(gateway)[0], signal.SIGKILL)
    wait_for("the other worker", lambda: healthy(base) and counted(40), seconds=20)
    for _ in range(8):
        chat(base, "gpt-oss-20b", "hi")
    gateway.process.send_signal(signal.SIGHUP)
    wait_for("what the workers had not counted before they ended", lambda: healthy(base) and counted(48), seconds=20)
    gateway.kill()
