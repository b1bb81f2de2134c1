"""Workers that find each other's answers: two meeting places in one folder, over real Unix sockets."""

import contextlib
import errno
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
from gpt_oss_proxy.errors import GatewayError, InvalidField, InvalidRequest, RateLimited, UpstreamIncomplete
from gpt_oss_proxy.gateway.adoption import Adoption, RequestKey
from gpt_oss_proxy.stores.peers import Joinable, Origin, Peers
from tests.doubles import Scripted, Step

ALL: list[Event] = [
    Started("r"),
    TextDelta("ü\u2028"),
    ReasoningDelta("b"),
    TextReplaced(""),
    ToolCallDelta(1, "id", "name", "{}"),
    Usage(1, 2, 3, 4),
]
LONG = 20.0
A: list[Event] = [TextDelta("a")]
END: list[Event] = [Finish("stop")]


KEY = RequestKey("name", "body", is_named=True, retries=0)
RETRY = RequestKey("name", "body", is_named=False, retries=1)


class Worker:
    def __init__(self, folder: Path, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peers = Peers(str(folder))
        self.adoption = Adoption(self.peers)
        self.origin = Origin("first", ("seed",))
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: pid)
            self.peers.listen(self.adoption.lookup)

    def begin(self, *script: Step) -> Scripted:
        upstream = Scripted(*script)
        assert self.adoption.claim(KEY) is None
        self.adoption.record(KEY, upstream.stream(ChatRequest("m", ())), lambda: self.origin)
        return upstream

    def find(self) -> Joinable | None:
        return self.adoption.find(KEY)

    def leave(self, *script: Step) -> Scripted:
        upstream = Scripted(*script)
        self.adoption.leave(RETRY, upstream.stream(ChatRequest("m", ())), lambda: self.origin)
        return upstream

    def adopt(self) -> Joinable | None:
        return self.adoption.find(RETRY)


Workers = tuple[Worker, Worker]


def entries(worker: Worker) -> list[str]:
    return sorted(path.name for path in Path(str(worker.peers._folder)).iterdir())


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
        with contextlib.closing(call.read()) as lists:
            found.extend(events for events in lists if events)
    except GatewayError as error:
        found.append(error)
    return found


def test_an_answer_is_found_from_another_worker_while_it_runs_and_when_it_is_finished(
    workers: Workers,
) -> None:
    one, other = workers
    upstream = one.begin(ALL, 0.05, A, END)
    found = other.find()
    assert found
    assert heard(found) == [ALL, A, END]
    assert heard(other.find()) == [ALL, A, END]
    here = one.find()
    assert here
    assert (found.id, found.created, found.body, found.origin()) == (here.id, here.created, "body", one.origin)
    assert len(upstream.asked) == 1


def test_its_error_comes_along_whole(workers: Workers) -> None:
    one, other = workers
    one.begin(A, 0.05, RateLimited("Slowly.", code="c", param="p", retry_after="7", should_retry=False))
    found = other.find()
    first, error = heard(found)
    assert first == A
    assert isinstance(error, RateLimited)
    assert (error.message, error.code, error.param) == ("Slowly.", "c", "p")
    assert (error.retry_after, error.should_retry) == ("7", False)


def test_a_field_that_it_blames_can_be_spelled_by_the_other_worker_s_client_api(workers: Workers) -> None:
    one, other = workers
    one.begin(A, 0.05, InvalidField(("messages", 0), "No images.", code="unsupported_image", is_named=False))
    _, error = heard(other.find())
    assert isinstance(error, InvalidField)
    error.spell(lambda path: f"input[{path[1]}]")
    assert (error.message, error.code, error.param) == ("No images.", "unsupported_image", "input[0]")


def test_of_two_that_begin_at_once_one_is_the_first(workers: Workers) -> None:
    one, other = workers
    assert one.find() is other.find() is None
    upstream = one.begin(A, END)
    assert heard(other.adoption.claim(KEY)) == [A, END]
    assert len(upstream.asked) == 1


def test_it_comes_from_the_upstream_that_answered_in_the_end(workers: Workers) -> None:
    one, other = workers
    one.begin(A, 0.05, END)
    found = other.find()
    assert found
    with contextlib.closing(found.read()) as lists:
        assert (next(lists), found.origin()) == (A, Origin("first", ("seed",)))
        one.origin = Origin("second", ())
        assert [events for events in lists if events] == [END]
    assert found.origin() == Origin("second", ())


def test_another_request_under_the_same_key_is_refused_and_leaves_the_answer_alone(workers: Workers) -> None:
    one, other = workers
    upstream = one.begin(A, 0.05, END)
    reader = one.find()
    assert reader
    lists = reader.read()
    lists.window_seconds = LONG  # type: ignore[attr-defined] # it is one of this worker
    lists.close()
    with pytest.raises(InvalidRequest):
        other.adoption.find(RequestKey("name", "another body", is_named=True, retries=0))
    gevent.sleep(0.01)
    assert upstream.ended == 0
    assert heard(other.find()) == [A, END]


def test_a_retry_adopts_from_another_worker_what_was_left_there_once(workers: Workers) -> None:
    one, other = workers
    upstreams = [one.leave([TextDelta(letter)], 0.05, END) for letter in "ab"]
    upstreams += [other.leave([TextDelta("c")], 0.05, END)]
    found = [heard(other.adopt())[0] for _ in upstreams]
    assert found == [[TextDelta("c")], [TextDelta("a")], [TextDelta("b")]]
    assert other.adopt() is one.adopt() is None
    assert [len(upstream.asked) for upstream in upstreams] == [1, 1, 1]
    assert entries(one) == ["1.sock", "2.sock"]


def test_an_adopter_of_another_worker_that_leaves_ends_the_answer(workers: Workers) -> None:
    one, other = workers
    upstream = one.leave(A, LONG)
    found = other.adopt()
    assert found
    lists = found.read()
    assert next(lists) == A
    lists.close()
    gevent.sleep(0.05)
    assert upstream.ended == 1


def test_an_adopter_that_is_gone_before_it_reads_ends_the_answer(workers: Workers) -> None:
    one, other = workers
    upstream = one.leave(A, LONG)
    found = other.adopt()
    assert found
    found.read().close()
    gevent.sleep(0.05)
    assert upstream.ended == 1


def test_more_answers_than_can_be_offered_are_found_by_their_own_worker(workers: Workers) -> None:
    one, other = workers
    for _ in range(10):
        one.leave(A, 0.05, END)
    assert len([name for name in entries(one) if name.startswith("name")]) == 8
    assert [heard(other.adopt()) for _ in range(8)] == [[A, END]] * 8
    assert other.adopt() is None
    assert [heard(one.adopt()) for _ in range(2)] == [[A, END]] * 2


def test_what_is_forgotten_is_begun_anew(workers: Workers) -> None:
    one, other = workers
    one.begin(UpstreamIncomplete())
    gevent.sleep(0.05)
    assert entries(one) == ["1.sock", "2.sock"]
    assert other.find() is None
    other.begin(A, END)
    assert heard(one.find()) == [A, END]


def test_a_worker_that_is_dead_is_not_waited_for(workers: Workers, tmp_path: Path) -> None:
    one, _ = workers
    folder = Path(str(one.peers._folder))
    os.symlink("99.sock", folder / "name")
    assert one.find() is one.adoption.claim(KEY) is None
    assert os.readlink(folder / "name") == "1.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "98.sock"))  # nobody listens
    os.symlink("98.sock", folder / "other")
    assert one.peers.find("other", "body") is None


def test_a_worker_that_dies_in_the_middle_leaves_an_incomplete_answer(workers: Workers) -> None:
    one, other = workers
    one.begin(A, 20.0)
    found = other.find()
    assert found
    with contextlib.closing(found.read()) as lists:
        assert next(lists) == A
        found._connection.shutdown(socket.SHUT_RD)  # type: ignore[attr-defined]
        with pytest.raises(UpstreamIncomplete):
            next(lists)


def test_a_socket_that_a_dead_worker_has_left_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "1.sock"))
    one, other = Worker(tmp_path, 1, monkeypatch), Worker(tmp_path, 2, monkeypatch)
    one.begin(A, END)
    with gevent.Timeout(5):
        assert heard(other.find()) == [A, END]


def test_without_a_folder_there_are_no_others() -> None:
    peers = Peers(None)
    peers.listen(lambda _name: None)
    assert peers.find("name", "body") is peers.claim("name", "body") is peers.adopt("name", "body") is None
    assert peers.offer("name") == ""
    peers.release("name")


def test_names_are_given_up_by_their_owner_only(workers: Workers) -> None:
    one, other = workers
    one.peers.claim("x", "body")
    other.peers.release("x")
    claim = Path(str(one.peers._folder)) / "x"
    assert os.readlink(claim) == "1.sock"
    other.peers.claim("x", "body")  # its owner knows no such answer
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
    assert heard(other.find()) == [A, END]


def test_a_folder_that_is_lost_means_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    one = Worker(folder, 1, monkeypatch)
    shutil.rmtree(folder)
    with gevent.Timeout(5):
        assert one.find() is None
        one.begin(A, END)
        assert heard(one.find()) == [A, END]
        late = Worker(folder, 2, monkeypatch)
        assert late.find() is None
    one.peers.bury(2)


def test_of_a_dead_worker_nothing_is_left(workers: Workers) -> None:
    one, other = workers
    other.peers.claim("x", "body")
    other.peers.offer("y")
    one.peers.claim("z", "body")
    one.peers.bury(2)
    assert entries(one) == ["1.sock", "z"]


def test_who_reads_here_is_counted(workers: Workers) -> None:
    one, other = workers
    one.begin(A, 0.05, END)
    found = other.find()
    assert found
    with contextlib.closing(found.read()) as lists:
        assert next(iter(lists)) == A
        assert one.peers.lent == 1
        list(lists)
    gevent.sleep(0.02)
    assert one.peers.lent == 0


def test_a_folder_that_cannot_be_read_does_not_end_the_master(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: Path) -> Iterator[Path]:
        raise OSError(errno.EMFILE, "no descriptor is left")

    monkeypatch.setattr(Path, "iterdir", fail)
    workers[0].peers.bury(2)
