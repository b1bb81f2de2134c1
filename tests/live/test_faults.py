"""The fault matrix: every way in which an upstream can fail, in every protocol, streamed and not.

The upstream is faults/server.py; what it does, and what must come of it, is the table in faults/cases.py.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from tests.live.children import free_port
from tests.live.conftest import PYTHON, Start
from tests.live.faults.answers import CHATKIT, PROTOCOLS, Protocol, texts
from tests.live.faults.asking import Client, Seen, expect, new_word
from tests.live.faults.cases import ADDRESSES, ALL, CASES, GOOD_CASE, KEPT
from tests.live.faults.damage import cuts, fields, is_whole, records_before
from tests.live.faults.events import PAUSE_SECONDS, PAUSES
from tests.live.faults.matrix import QUICK, Gateways, Key, Matrix, addresses, seen_by, start_gateways
from tests.live.faults.outcomes import BROKEN, EMPTY, INCOMPLETE, MALFORMED, NOT_CONNECTED, Case
from tests.live.wire import Silent, full_backlog
from tests.upstreams.certificates import Authority, self_signed

LONGEST_HEALTH_SECONDS = 8  # of /healthz at any time; generous, for the machine has two cores
MOST_GROWN_MB = 200
FORMS = (False, True)  # streamed or not
STREAMED = pytest.mark.parametrize("streamed", FORMS, ids=["whole", "streamed"])
EACH = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.slug)
AT_THE_END = [CASES["silence-after-the-terminal-event"], CASES["status-429-and-a-body-that-stalls"]]
# What is heavy is a load, and measured.
EACH_CASE = [pytest.param(case, id=case.slug, marks=pytest.mark.alone if case.load == "heavy" else ()) for case in ALL]
EACH_LOAD = pytest.mark.parametrize("load", ["light", pytest.param("heavy", marks=pytest.mark.alone)])
CUTS = [("chunked", "fin"), ("chunked", "reset"), ("plain", "fin")]


@pytest.fixture(scope="module")
def upstream(start: Start) -> str:
    child = start("fault upstream", PYTHON, "-m", "tests.live.faults.server", "--port", "0")
    return f"http://127.0.0.1:{child.ready_port()}"


@pytest.fixture(scope="module")
def gateways(start: Start, upstream: str) -> Iterator[Gateways]:
    started = Gateways(start, upstream)
    yield started
    started.stop_watching()


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest, gateways: Gateways) -> Matrix:
    """What the selected tests want to know is asked together: they only look at what came."""
    wanted: list[Key] = []
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item, "callspec"):
            wanted += wanted_by(item.originalname, **item.callspec.params)
    return Matrix(gateways, wanted)


def wanted_by(
    test: str,
    case: Case = GOOD_CASE,
    protocol: Protocol = CHATKIT,
    streamed: bool = True,
    framing: str = "",
    end: str = "",
    load: str = "",
) -> list[Key]:
    """Return what a test looks at."""
    match test:
        case "test_a_fault_is_told_as_what_it_is":
            return [(case, protocol, form) for protocol in case.only for form in FORMS]
        case "test_text_before_a_pause_is_there_before_the_rest":
            return [(f"live {case.slug}", protocol, True)]
        case "test_an_answer_cut_at_any_byte_is_whole_or_an_error":
            return [(name, protocol, streamed) for name in cut_names(protocol, framing, end)]
        case "test_no_field_of_another_type_is_a_bug_of_ours":
            return [(name, protocol, streamed) for name in fields(protocol, streamed)]
    return []


# The matrix


@pytest.mark.parametrize("case", EACH_CASE)
def test_a_fault_is_told_as_what_it_is(matrix: Matrix, case: Case) -> None:
    runs = {(protocol.slug, form): matrix[case, protocol, form] for protocol in case.only for form in FORMS}
    wrong = {key: (run.seen, run.expected) for key, run in runs.items() if run.seen != run.expected}
    assert wrong == {}
    assert [run.healthy for run in runs.values()] == [run.expected_healthy for run in runs.values()]
    assert max(run.seconds for run in runs.values()) < case.seconds


@STREAMED
@pytest.mark.parametrize(("framing", "end"), CUTS)
@EACH
def test_an_answer_cut_at_any_byte_is_whole_or_an_error(
    matrix: Matrix, protocol: Protocol, framing: str, end: str, streamed: bool
) -> None:
    wrong = {}
    for name, position in cut_names(protocol, framing, end).items():
        seen = matrix[name, protocol, streamed]
        if seen not in after_a_cut(protocol, framing, position, streamed, seen.text):
            wrong[name] = seen
    assert wrong == {}


def cut_names(protocol: Protocol, framing: str, end: str) -> dict[str, int]:
    return {f"cut-{framing}-{end}-{position}": position for position in cuts(protocol, framing)}


def after_a_cut(protocol: Protocol, framing: str, position: int, streamed: bool, text: str) -> list[Seen]:
    """Return what may be seen of an answer that is cut there. The word in its text is the request's own."""
    before = records_before(protocol, framing, position)
    records = protocol.records(texts("?" * 8))
    heard = records if is_whole(protocol, framing, before) else records[: max(before, 0)]
    said = "".join(record.text for record in heard)
    if "?" in said:
        start = said.index("?")
        said = said.replace("?" * 8, text[start : start + 8])
    if heard is records:
        return [Seen(200, said, ("stop",))]
    if streamed and any(record.text or record.thinks for record in heard):
        return [Seen(200, said, errors=((INCOMPLETE.type, INCOMPLETE.code),))]
    # Cut inside the head, it may be no HTTP any more; cut before anything was said, an answer may be an empty one.
    may_be = [INCOMPLETE, EMPTY, *([BROKEN, MALFORMED] if before < 0 else [])]
    return [Seen(502, errors=((outcome.type, outcome.code),)) for outcome in may_be]


@STREAMED
@EACH
def test_no_field_of_another_type_is_a_bug_of_ours(matrix: Matrix, protocol: Protocol, streamed: bool) -> None:
    wrong = {}
    for name in fields(protocol, streamed):
        seen = matrix[name, protocol, streamed]
        told = all(code.startswith("upstream_") for _, code in seen.errors)
        if not (told and seen.status in (200, 502) and len(seen.finishes) + len(seen.errors) == 1):
            wrong[name] = seen
    assert wrong == {}


@pytest.mark.parametrize("case", PAUSES, ids=lambda case: case.slug)
@EACH
def test_text_before_a_pause_is_there_before_the_rest(matrix: Matrix, protocol: Protocol, case: Case) -> None:
    answer = matrix[f"live {case.slug}", protocol, True]
    assert answer.finishes() == ["stop"]
    assert answer.first_arrival("an die Welt.") - answer.first_arrival("Grüße an") > PAUSE_SECONDS / 2


# What needs a gateway for itself


@STREAMED
@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.slug)
@EACH
def test_a_kept_connection_that_dies_harms_at_most_the_next_request(
    gateways: Gateways, protocol: Protocol, case: Case, streamed: bool
) -> None:
    client = gateways.quick(protocol).clients[protocol]
    word = new_word()
    assert client.ask(case.slug, word, streamed) == expect(GOOD_CASE, GOOD_CASE.outcome, word, streamed)
    time.sleep(case.pause_seconds)
    word = new_word()
    assert client.ask(GOOD_CASE.slug, word, streamed) == expect(GOOD_CASE, case.outcome, word, streamed)
    seen, expected = client.healthy(streamed)
    assert seen == expected


@STREAMED
@pytest.mark.parametrize("case", AT_THE_END, ids=lambda case: case.slug)
@EACH
def test_a_short_limit_of_silence_does_not_spoil_an_answer_that_is_there(
    gateways: Gateways, protocol: Protocol, case: Case, streamed: bool
) -> None:
    run = gateways.short.clients[protocol].run(case, streamed)
    assert run.seen == run.expected


# What is true of the whole run: of that in which files run side by side, and of the other


@EACH_LOAD
def test_no_redirect_was_followed_no_cookie_kept_and_nothing_asked_twice(
    matrix: Matrix, upstream: str, load: str
) -> None:
    seen = seen_by(upstream)
    assert seen["redirected"] == 0
    assert seen["cookies"] == 0
    assert {word: times for word, times in seen["words"].items() if times != 1} == {}


@EACH_LOAD
def test_no_gateway_kept_others_waiting(matrix: Matrix, gateways: Gateways, load: str) -> None:
    assert max(gateway.slowest_health for gateway in gateways) < LONGEST_HEALTH_SECONDS


@EACH_LOAD
def test_no_gateway_grew(matrix: Matrix, gateways: Gateways, load: str) -> None:
    now, largest = zip(*(gateway.grown_mb() for gateway in gateways), strict=True)
    assert max(now) < MOST_GROWN_MB
    assert max(largest) < 2 * MOST_GROWN_MB


@EACH_LOAD
def test_no_gateway_stumbled(matrix: Matrix, gateways: Gateways, load: str) -> None:
    for gateway in gateways:
        said = gateway.child.text()
        assert "Traceback" not in said, said[said.index("Traceback") :][:5000]
        assert "internal_error" not in said


# Addresses


@pytest.fixture(scope="module")
def astray(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A gateway for each of ADDRESSES, by its name."""
    folder = tmp_path_factory.mktemp("certificates")
    private, known = Authority(folder), Authority(folder, "known")
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(contextlib.closing(Silent()))
        refusing = stack.enter_context(answering(b"HTTP/1.1 403 No\r\n\r\n"))
        urls = {
            "a port without a listener": f"http://127.0.0.1:{free_port()}",
            "a name that does not exist": "http://does-not-exist.invalid",
            "a proxy that does not let us through": "https://upstream.test",
            "https to a server that speaks http": stack.enter_context(answering(b"HTTP/1.1 400 No\r\n\r\n")),
            "a certificate of an unknown authority": stack.enter_context(answering(private.server("127.0.0.1"))),
            "a certificate that is its own authority": stack.enter_context(
                answering(self_signed(folder, "127.0.0.1")[0])
            ),
            "a certificate that has expired": stack.enter_context(answering(known.server("127.0.0.1", ended=True))),
            "a certificate of another host": stack.enter_context(answering(known.server("127.0.0.2"))),
            "https to a server that hangs up": stack.enter_context(answering(b"")),
            "https to a server that says nothing": silent.address.replace("http:", "https:"),
            "a server that takes no connections": stack.enter_context(full_backlog()),
        }
        more = {"a proxy that does not let us through": {"UPSTREAM_PROXY": refusing.replace("https:", "http:")}}
        patience = {case.name: "0.5" if case.outcome == NOT_CONNECTED else "10" for case in ADDRESSES}
        settings = {
            name: {
                **QUICK,
                "CA_FILE": str(known.path),
                "CONNECT_TIMEOUT_SECONDS": patience[name],
                **addresses(url),
                **more.get(name, {}),
            }
            for name, url in urls.items()
        }
        yield {name: base for name, (_, base) in start_gateways(start, settings).items()}


@contextlib.contextmanager
def answering(how: bytes | ssl.SSLContext) -> Iterator[str]:
    """Give the https address of a server that says these bytes to all, or shakes hands with its certificate."""

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if isinstance(how, ssl.SSLContext):
                how.wrap_socket(connection, server_side=True).close()
            else:
                connection.recv(65536)
                connection.sendall(how)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                answer(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@STREAMED
@EACH
@pytest.mark.parametrize("case", ADDRESSES, ids=lambda case: case.slug)
def test_an_address_where_no_connection_comes_about_is_told_as_what_it_is(
    astray: dict[str, str], case: Case, protocol: Protocol, streamed: bool
) -> None:
    client = Client(astray[case.name], protocol, ("invalid",))
    began = time.monotonic()
    assert client.ask(case.slug, new_word(), streamed) == expect(case, case.outcome, "", streamed)
    assert time.monotonic() - began < case.seconds
