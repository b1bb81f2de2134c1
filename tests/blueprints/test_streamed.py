"""The body of a stream: a server that lets it be pushed gets the same as one that iterates."""

import json
import re
import socket
from typing import Any

import gevent
import pytest
from werkzeug.test import EnvironBuilder

from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, Started, TextDelta
from gpt_oss_proxy.errors import (
    UpstreamIncomplete,
)
from tests.doubles import CHAT, HELLO, Scripted, Step, gateway, settle

LONG = 20.0
ROLE = {"role": "assistant", "content": ""}
HI: list[Event] = [TextDelta("Hi")]
END: list[Event] = [Finish("stop")]
Log = list[dict[str, Any]]


def body_of(*script: Step, headers: dict[str, str]) -> Any:
    """Return the body of a stream as a server gets it."""
    asked = {"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    builder = EnvironBuilder(CHAT, method="POST", data=json.dumps(asked), headers=headers)
    return gateway(Scripted(*script))(builder.get_environ(), lambda *_: lambda _: None)


def sent(body: Any, *, push: bool) -> list[Any]:
    """Return the kind and the words of each piece, and how it ends."""
    found: list[bytes] = []
    end = []
    try:
        if push:
            body.push(found.append)
        else:
            found.extend(body)
    except BrokenPipeError:
        end = ["broken off"]
    body.close()
    return [*((type(piece), re.sub(rb"chatcmpl-[0-9a-f]*|\d{9,}", b"", piece)) for piece in found), *end]


@pytest.mark.parametrize("accept", ["*/*", "text/plain"])
@pytest.mark.parametrize(
    "script",
    [
        [HI, END],
        [[*HI, *END]],
        [[Started("thread-1")], [], HI, [], [ReasoningDelta("Hm")], 0.001, HI, END],
        [HI, UpstreamIncomplete()],
        [HI, 0.001, UpstreamIncomplete()],
        [HI, ValueError("bug")],
        [HI],
    ],
)
def test_what_is_pushed_is_what_would_be_iterated_over(log: Log, script: list[Step], accept: str) -> None:
    pulled, pushed = (sent(body_of(*script, headers={"Accept": accept}), push=push) for push in (False, True))
    assert pushed == pulled
    assert log[0]["outcome"] == log[1]["outcome"]


def test_a_write_that_fails_is_a_client_that_has_gone(log: Log) -> None:
    def fail(_piece: bytes) -> None:
        raise ConnectionResetError

    upstream = Scripted(HI, LONG)
    builder = EnvironBuilder(CHAT, method="POST", data=json.dumps({"messages": HELLO, "stream": True}))
    body: Any = gateway(upstream)(builder.get_environ(), lambda *_: lambda _: None)
    with pytest.raises(ConnectionResetError):
        body.push(fail)
    body.close()
    settle()
    assert (upstream.ended, [line["outcome"] for line in log]) == (1, ["client_gone"])


def test_a_client_that_leaves_while_its_answer_is_pushed_sees_no_clean_end(log: Log) -> None:
    ours, clients = socket.socketpair()
    gevent.spawn_later(0.01, clients.close)
    upstream = Scripted(HI, LONG)
    builder = EnvironBuilder(
        CHAT,
        method="POST",
        data=json.dumps({"messages": HELLO, "stream": True}),
        environ_overrides={"gunicorn.socket": ours},
    )
    with ours, gevent.Timeout(2):
        body: Any = gateway(upstream)(builder.get_environ(), lambda *_: lambda _: None)
        *told, end = sent(body, push=True)
    settle()
    assert (len(told), end, upstream.ended) == (1, "broken off", 1)
    assert [line["outcome"] for line in log] == ["client_gone"]
