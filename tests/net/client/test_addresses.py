"""Looking a server's name up: once for all, and anew when nobody is there."""

import socket

import gevent
import pytest

from gpt_oss_proxy.net.client import addresses
from gpt_oss_proxy.net.client.addresses import Addresses

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]


class Names:
    """Looks names up as told, and counts."""

    def __init__(self, answer: object) -> None:
        self.asked = 0
        self.answer = answer

    def __call__(self, *_args: object, **_options: object) -> object:
        self.asked += 1
        gevent.sleep(0.01)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names(FOUND)
    monkeypatch.setattr(socket, "getaddrinfo", names)
    return names


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", ("127.0.0.1", 80)), ("::1", ("::1", 80, 0, 0)), ("2001:db8::7", ("2001:db8::7", 80, 0, 0))],
)
def test_digits_are_read_and_not_looked_up(names, host, address):
    assert [found[4] for found in Addresses(host, 80).find()] == [address]
    assert names.asked == 0


def test_a_name_is_looked_up_once_for_all_who_ask_and_believed_for_a_moment(names):
    there = Addresses("models.internal", 80)
    assert [greenlet.get() for greenlet in [gevent.spawn(there.find) for _ in range(9)]] == [FOUND] * 9
    assert there.find() == FOUND
    assert names.asked == 1


def test_a_name_is_looked_up_again_later_and_when_nobody_was_there(names, monkeypatch):
    there = Addresses("models.internal", 80)
    there.find()
    there.doubt()
    there.find()
    assert names.asked == 2
    monkeypatch.setattr(addresses, "_BELIEVED_SECONDS", -1.0)
    there.doubt()
    there.find()
    there.find()
    assert names.asked == 4


@pytest.mark.parametrize("failure", [socket.gaierror(socket.EAI_NONAME, "unknown"), UnicodeError("no name")])
def test_all_who_wait_for_a_failing_look_up_are_told_and_the_next_one_looks_again(names, failure, capfd):
    names.answer = failure
    there = Addresses("models.internal", 80)

    def outcome() -> object:
        try:
            return there.find()
        except (OSError, ValueError) as error:
            return error

    assert [greenlet.get() for greenlet in [gevent.spawn(outcome) for _ in range(3)]] == [failure] * 3
    assert names.asked == 1
    names.answer = FOUND
    assert there.find() == FOUND
    assert capfd.readouterr().err == ""


def test_who_leaves_while_the_name_is_looked_up_takes_it_from_nobody(names):
    there = Addresses("models.internal", 80)
    first, second = gevent.spawn(there.find), gevent.spawn(there.find)
    gevent.sleep(0)
    first.kill()
    assert second.get() == FOUND
    assert names.asked == 1


def test_digits_are_never_doubted(names):
    there = Addresses("127.0.0.1", 80)
    there.doubt()
    assert there.find()
    assert names.asked == 0
