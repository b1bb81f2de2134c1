"""Each row of the table of quirks is played with real sockets, streamed and whole, alone and in a tool loop."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from gpt_oss_proxy.app import build_upstreams
from gpt_oss_proxy.config.settings import Settings
from tests.doubles import chunks, gateway
from tests.quirks.page import page
from tests.quirks.quirk import CASES, HELLO, OSLO, TOOLS, Quirk, Right, call, calling, chunk, stream
from tests.quirks.table import ALL
from tests.upstreams.raw_server import RawServer, close

STATUSES = {
    **dict.fromkeys(("upstream_rejected", "content_filter", "context_length_exceeded"), 400),
    "upstream_rate_limited": 429,
    "upstream_unavailable": 503,
    **dict.fromkeys(("upstream_incomplete", "upstream_error", "upstream_protocol_error"), 502),
    **dict.fromkeys(("upstream_empty_response", "upstream_auth_required", "upstream_not_found"), 502),
}
PLAYED_ELSEWHERE = {
    "azure-key-header",
    "models-as-a-bare-list",
    "path-double-slash",
    "tool-name-brew-check",
    "tool-nullable",
    "tool-result-without-a-call",
    "answer-sent-back-to-a-strict-server",
}


def test_the_page_is_up_to_date() -> None:
    written = (Path(__file__).parents[1] / "docs/openai-upstreams.md").read_text()
    assert written == page(), "python -m tests.quirks.page > docs/openai-upstreams.md"


def test_every_case_is_played() -> None:
    assert {path.stem for path in CASES.glob("*.json")} == {
        quirk.name for quirk in ALL if quirk.name
    } | PLAYED_ELSEWHERE


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("quirk", ALL, ids=lambda quirk: quirk.slug)
def test_what_a_server_does_becomes_what_is_right(quirk: Quirk, streamed: bool) -> None:
    with playing(quirk) as server:
        _compare(seen(_ask(server, quirk.asked, quirk.settings, streamed), streamed), quirk.right)
        body = server.bodies[-1].decode()
    assert all(text in body for text in quirk.sent)
    assert not any(text in body for text in quirk.not_sent)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("quirk", [quirk for quirk in ALL if not quirk.right.code], ids=lambda quirk: quirk.slug)
def test_a_tool_loop_of_three_rounds_ends_with_the_right_answer(quirk: Quirk, streamed: bool) -> None:
    """A server with odd calls makes two of them; one with odd texts ends the loop with its own."""
    usual = Quirk("", "", calling([call({"name": OSLO[0], "arguments": OSLO[1]}, index=0, id="call_a")]))
    rounds = [quirk, quirk, PLAIN] if quirk.right.calls else [usual, usual, quirk]
    last = HELLO if quirk.right.calls else quirk.right
    messages = [*quirk.asked.get("messages", [{"role": "user", "content": "Hi"}])]
    ids: list[str] = []
    with playing(*rounds) as server:
        for played in rounds:
            asked = {**played.asked, **TOOLS, "messages": messages}
            found = seen(_ask(server, asked, quirk.settings, streamed), streamed)
            ids += found["ids"]
            messages += [{**found["message"], "role": "assistant"}, *map(_result, found["ids"])]
        bodies = [json.loads(body) for body in server.bodies]
    _compare(found, last)
    for name, value in quirk.right.calls_have.items():
        assert bodies[-1]["messages"][-2]["tool_calls"][0][name] == value
    results = [message["tool_call_id"] for message in bodies[-1]["messages"] if message["role"] == "tool"]
    assert results == ids


PLAIN = Quirk("", "", stream(chunk({"content": "Hello"}), chunk({}, "stop")))


def _result(call_id: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": call_id, "content": "7 degrees"}


def test_ids_that_are_made_for_calls_are_never_the_same() -> None:
    (quirk,) = (one for one in ALL if one.name == "call-without-id")
    with playing(quirk, quirk) as server:
        found = [seen(_ask(server, quirk.asked, {}, False), False)["ids"] for _ in range(2)]
    assert found[0] != found[1]


@contextlib.contextmanager
def playing(*quirks: Quirk) -> Iterator[RawServer]:
    answers = [[*map(_step, answer), close] for quirk in quirks for answer in quirk.sends]
    server = RawServer(*answers)
    try:
        yield server
        assert len(server.bodies) == len(answers)
    finally:
        server.stop()


def _step(step: bytes | float) -> Any:
    return step if isinstance(step, bytes) else lambda _connection: time.sleep(step)


def _ask(server: RawServer, asked: Mapping[str, Any], settings: Mapping[str, Any], streamed: bool) -> TestResponse:
    known = Settings(**{"openai_base_url": f"{server.url}/v1", "openai_models": ("m",), **settings})
    app = gateway(*(one for one in build_upstreams(known) if one.name == "openai"), retries=0)
    fields = {"messages": [{"role": "user", "content": "Hi"}], **asked, "model": "m", "stream": streamed}
    if streamed:
        fields["stream_options"] = {**asked.get("stream_options", {}), "include_usage": True}
    return app.test_client().post("/v1/chat/completions", data=json.dumps(fields))


def seen(answer: TestResponse, streamed: bool) -> dict[str, Any]:
    """Return what a client makes of an answer: the parts of Right, under its names."""
    if answer.status_code != 200:
        return {"status": answer.status_code, "finish": None, **_failure(answer.get_json()["error"])}
    if not streamed:
        value = answer.get_json()
        choice = value["choices"][0]
        return _seen(value, choice["message"], choice["finish_reason"], value["usage"])
    found: dict[str, Any] = {"message": {}, "failure": {}, "finish": None, "usage": None, "answer": {}}
    for part in chunks(answer.get_data()):
        if part == "[DONE]":
            continue
        if "error" in part:
            found["failure"] = _failure(part["error"])
            continue
        found["answer"].update(part)
        found["usage"] = part.get("usage") or found["usage"]
        for choice in part["choices"]:
            _add(found["message"], choice["delta"])
            found["finish"] = choice["finish_reason"] or found["finish"]
    return _seen(found["answer"], found["message"], found["finish"], found["usage"]) | found["failure"]


def _failure(error: dict[str, Any]) -> dict[str, Any]:
    return {"code": error["code"], "says": error["message"]}


def _seen(value: dict[str, Any], message: dict[str, Any], finish: str | None, usage: Any) -> dict[str, Any]:
    calls = message.get("tool_calls") or []
    return {
        "status": 200,
        "text": message.get("content") or "",
        "reasoning": message.get("reasoning") or "",
        "calls": [(call["function"]["name"], call["function"]["arguments"]) for call in calls],
        "ids": [call["id"] for call in calls],
        "call fields": calls,
        "finish": finish,
        "message": message,
        "answer": value,
        "usage": usage and (usage["prompt_tokens"], usage["completion_tokens"]),
    }


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Put deltas together, as OpenAI's SDKs do."""
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault(name, [])
            for call in value:
                if call["index"] == len(calls):
                    calls.append({**call, "function": {**call["function"]}})
                else:
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        elif name == "reasoning_details":
            for detail in value:
                _add_detail(message.setdefault(name, []), detail)
        elif isinstance(value, str):
            message[name] = message.get(name, "") + value
        else:
            message[name] = [*message.get(name, []), *value]


def _add_detail(details: list[dict[str, Any]], detail: dict[str, Any]) -> None:
    same = next((one for one in details if one["index"] == detail["index"]), None)
    if same is None:
        details.append({**detail})
    else:
        same.update(detail, text=same["text"] + detail["text"])


def _compare(found: dict[str, Any], right: Right) -> None:
    if right.code:
        assert (found["code"], found["finish"]) == (right.code, None)
        assert right.says in found["says"]
        if found["status"] == 200:  # it had begun
            assert found["text"] == right.text
        else:
            assert found["status"] == STATUSES[right.code]
        return
    assert found["status"] == 200, found
    assert (found["text"], found["reasoning"], found["calls"]) == (right.text, right.reasoning, list(right.calls))
    assert found["finish"] == right.finish
    assert all(found["ids"])
    assert len(set(found["ids"])) == len(found["ids"])
    for name, value in right.calls_have.items():
        assert found["call fields"][0][name] == value
    assert {name: found["message"].get(name) for name in right.message} == dict(right.message)
    assert {name: found["answer"].get(name) for name in right.answer} == dict(right.answer)
    if right.usage:
        assert found["usage"] == right.usage
