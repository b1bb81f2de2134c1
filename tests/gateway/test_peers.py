"""Workers that find each other's calls: two meeting places in one folder, over real Unix sockets."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import socket

from gpt_oss_proxy.chat.events import (
    Event,
    Finish,
    ReasoningDelta,
    Started,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, RateLimited, UpstreamIncomplete
from gpt_oss_proxy.gateway.peers import Joinable, Peers
from gpt_oss_proxy.gateway.sharing import Identity, Sharing
from tests.doubles import Scripted, Step

ALL: list[Event] = [
    Started("r"),
    TextDelta("ü\u2028"),
    ReasoningDelta("b"),
    TextReplaced(""),
    ToolCallDelta(1, "id", "name", "{}"),
    Usage(1, 2, 3, 4),
]
A: list[Event] = [TextDelta("a")]
END: list[Event] = [Finish("stop")]


class Worker:
    def __init__(self, folder: Path, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peers = Peers(str(folder))
        self.calls = Sharing(self.peers)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: pid)
            self.peers.listen(self.calls.find)

    def begin(self, *script: Step) -> Scripted:
        upstream = Scripted(*script)
        self.calls.begin(Identity("name", "body", again=False), upstream.stream(ChatRequest("m", ())))
        return upstream

    def join(self) -> Joinable | None:
        return self.calls.join(Identity("name", "body", again=True))


Workers = tuple[Worker, Worker]


@pytest.fixture
def workers(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Worker, Worker]]:
    folder = tmp_path_factory.mktemp("run")
    with gevent.Timeout(5):
        yield Worker(folder, 1, monkeypatch), Worker(folder, 2, monkeypatch)


def heard(call: Joinable | None) -> list[object]:
    assert call
    found: list[object] = []
    try:
        found.extend(events for events in call.read() if events)
    except GatewayError as error:
        found.append(error)
    return found


def test_a_call_is_joined_from_another_worker_while_it_runs_and_when_it_is_finished(
    workers: Workers,
) -> None:
    one, other = workers
    upstream = one.begin(ALL, 0.05, A, END)
    joined = other.join()
    assert joined
    assert heard(joined) == [ALL, A, END]
    assert heard(other.join()) == [ALL, A, END]
    here = one.join()
    assert here
    assert (joined.id, joined.created, joined.body) == (here.id, here.created, "body")
    assert len(upstream.asked) == 1


def test_its_error_comes_along_whole(workers: Workers) -> None:
    one, other = workers
    one.begin(A, 0.05, RateLimited("Slowly.", code="c", param="p", retry_after="7", should_retry=False))
    joined = other.join()
    first, error = heard(joined)
    assert first == A
    assert isinstance(error, RateLimited)
    assert (error.body(), error.retry_after, error.should_retry) == (
        RateLimited("Slowly.", code="c", param="p").body(),
        "7",
        False,
    )


def test_of_two_that_begin_at_once_one_is_the_first(workers: Workers) -> None:
    one, other = workers
    assert one.join() is None
    upstream = one.begin(A, END)
    joined = other.join()
    assert heard(joined) == [A, END]
    assert len(upstream.asked) == 1


def test_what_is_forgotten_is_begun_anew(workers: Workers) -> None:
    one, other = workers
    one.begin(UpstreamIncomplete())
    gevent.sleep(0.05)
    assert other.join() is None
    other.begin(A, END)
    assert heard(one.join()) == [A, END]


def test_a_worker_that_is_dead_is_not_waited_for(workers: Workers, tmp_path: Path) -> None:
    one, _ = workers
    folder = Path(str(one.peers._folder))
    os.symlink("99.sock", folder / "name")
    assert one.join() is None
    assert os.readlink(folder / "name") == "1.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "98.sock"))  # nobody listens
    os.symlink("98.sock", folder / "other")
    assert one.peers.find("other") is None


def test_a_worker_that_dies_in_the_middle_leaves_an_incomplete_answer(workers: Workers) -> None:
    one, other = workers
    one.begin(A, 20.0)
    joined = other.join()
    assert joined
    lists = joined.read()
    assert next(lists) == A
    joined._connection.shutdown(socket.SHUT_RD)  # type: ignore[attr-defined]
    with pytest.raises(UpstreamIncomplete):
        next(lists)


def test_whoever_joined_and_leaves_does_not_keep_the_call_alive(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt_oss_proxy.gateway.sharing._RETURN_SECONDS", 0.05)
    one, other = workers
    upstream = one.begin(A, 20.0)
    joined = other.join()
    assert joined
    lists = joined.read()
    assert next(lists) == A
    lists.close()
    gevent.sleep(0.3)
    assert upstream.ended == 1


def test_a_socket_that_a_dead_worker_has_left_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "1.sock"))
    one, other = Worker(tmp_path, 1, monkeypatch), Worker(tmp_path, 2, monkeypatch)
    one.begin(A, END)
    with gevent.Timeout(5):
        assert heard(other.join()) == [A, END]


def test_without_a_folder_there_are_no_others() -> None:
    peers = Peers(None)
    peers.listen(lambda _name: None)
    assert peers.find("name") is None
    peers.claim("name")
    peers.release("name")


def test_names_are_given_up_by_their_owner_only(workers: Workers) -> None:
    one, other = workers
    one.peers.claim("x")
    other.peers.release("x")
    claim = Path(str(one.peers._folder)) / "x"
    assert os.readlink(claim) == "1.sock"
    other.peers.claim("x")
    assert os.readlink(claim) == "2.sock"
    one.peers.release("x")
    other.peers.release("x")
    assert not claim.is_symlink()


@pytest.mark.parametrize("said", [b"", b"\n", b"\xff\xff\n", b"x" * 10_000, b"../../etc/passwd\n"])
def test_nonsense_on_the_socket_does_no_harm(workers: Workers, said: bytes) -> None:
    one, other = workers
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(Path(str(one.peers._folder)) / "1.sock"))
        stranger.sendall(said)
    gevent.sleep(0.02)
    one.begin(A, END)
    assert heard(other.join()) == [A, END]


def test_a_folder_that_is_lost_means_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    one = Worker(folder, 1, monkeypatch)
    shutil.rmtree(folder)
    with gevent.Timeout(5):
        assert one.join() is None
        one.begin(A, END)
        assert heard(one.join()) == [A, END]
        late = Worker(folder, 2, monkeypatch)
        assert late.join() is None
    one.peers.bury(2)


def test_of_a_dead_worker_nothing_is_left(workers: Workers) -> None:
    one, other = workers
    other.peers.claim("x")
    other.peers.claim("y")
    one.peers.claim("z")
    one.peers.bury(2)
    assert sorted(path.name for path in Path(str(one.peers._folder)).iterdir()) == ["1.sock", "z"]


def test_who_reads_here_is_counted(workers: Workers) -> None:
    one, other = workers
    one.begin(A, 0.05, END)
    joined = other.join()
    assert joined
    lists = joined.read()
    assert next(iter(lists)) == A
    assert one.peers.lent == 1
    list(lists)
    gevent.sleep(0.02)
    assert one.peers.lent == 0
