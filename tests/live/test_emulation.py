"""What text upstreams cannot do and the gateway does for them, on the wire: tools, formats, stop, limits, n."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import requests

from gpt_oss_proxy.emulation.tokens import O200k
from tests.live.children import wait_for
from tests.live.conftest import Gateway
from tests.live.talk import SECONDS, Streamed, Upstream, chat, error_of, failed, post, stream, text_of, user

BOTH = pytest.mark.parametrize("model", ["gpt-oss-20b", "gpt-4o"])
WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "population",
            "description": "Tells how many people live in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "year": {"type": "integer"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "town", "schema": SCHEMA, "strict": True}}
LOOSE = {"type": "json_schema", "json_schema": {"name": "town", "schema": SCHEMA}}
OSLO = 'population {"city": "Oslo"}'
PARALLEL = f'{OSLO}\npopulation {{"city": "Bergen", "year": 2026}}'
LONG = json.dumps({"city": "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch"})

count_tokens = O200k().count


@pytest.fixture
def upstream(model: str, chatkit: Upstream, ai_sdk: Upstream, settled: None) -> Upstream:
    """The one behind the model, with nothing else going on."""
    return chatkit if model == "gpt-oss-20b" else ai_sdk


def dictated(script: str, what: str = "") -> str:
    return f"::model {script}::\n{what}"


def tool_deltas(streamed: Streamed) -> list[dict[str, Any]]:
    return [call for delta in streamed.deltas() for call in delta.get("tool_calls") or []]


def assembled(deltas: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return names and arguments. First of each call comes its head, then arguments alone; none after the next head."""
    calls: list[tuple[str, str]] = []
    ids = set()
    for delta in deltas:
        if delta["index"] == len(calls):
            assert list(delta) == ["index", "id", "type", "function"]
            assert delta["type"] == "function"
            assert list(delta["function"]) == ["name", "arguments"]
            ids.add(delta["id"])
            calls.append((delta["function"]["name"], delta["function"]["arguments"]))
        else:
            assert delta["index"] == len(calls) - 1
            assert list(delta) == ["index", "function"]
            assert list(delta["function"]) == ["arguments"]
            name, arguments = calls[-1]
            calls[-1] = (name, arguments + delta["function"]["arguments"])
    assert len(ids) == len(calls)
    return [(name, json.loads(arguments)) for name, arguments in calls]


def hear(base: str, model: str, content: str, heard: Callable[[list[dict[str, Any]]], Any], **fields: Any) -> None:
    """Read a stream until its choices' deltas are what is waited for, then leave. The model is silent meanwhile."""
    body = {"model": model, "messages": user(content), "stream": True, **fields}
    deadline = time.monotonic() + 10  # less than a keep-alive, which could push out what is held back
    deltas: list[dict[str, Any]] = []
    url = f"{base}/v1/chat/completions"
    with requests.post(url, json=body, stream=True, timeout=SECONDS) as response:
        for line in response.iter_lines(chunk_size=1):
            assert time.monotonic() < deadline, deltas
            if line:
                chunk = json.loads(line.removeprefix(b"data: "))
                assert "error" not in chunk, chunk
                deltas += [{"choice": choice["index"], **choice["delta"]} for choice in chunk["choices"]]
            if heard(deltas):
                return
    raise AssertionError(f"the stream ended, before it was left: {deltas}")


def content_of(deltas: list[dict[str, Any]], choice: int = 0) -> str:
    return "".join(delta.get("content") or "" for delta in deltas if delta["choice"] == choice)


def closes(upstream: Upstream, before: dict[str, Any], count: int = 1) -> None:
    """Wait until the upstream has seen so many clients leave; fails if there were more."""
    wait_for("the upstream's end", lambda: upstream.connections()["open"] == 0, seconds=10)
    assert upstream.connections()["closed_early"] == before["closed_early"] + count


# Tools


@pytest.mark.parametrize(
    ("model", "script"),
    [
        ("gpt-oss-20b", "harmony"),  # only gpt-oss slips into its own format
        ("gpt-oss-20b", "harmony piece=3"),
        *(
            (model, script)
            for model in ("gpt-oss-20b", "gpt-4o")
            for script in ("call", "call piece=1", "call piece=7", "call say=First: a look.")
        ),
    ],
)
def test_a_call_comes_as_its_head_and_then_arguments_alone(base: str, model: str, script: str) -> None:
    answer = stream(base, model, dictated(script, PARALLEL), tools=TOOLS)
    assert answer.errors() == []
    expected = [("population", {"city": "Oslo"}), ("population", {"city": "Bergen", "year": 2026})]
    assert assembled(tool_deltas(answer)) == expected
    assert answer.text().strip() == ("First: a look." if "say" in script else "")
    assert answer.finishes() == ["tool_calls"]
    assert [delta["role"] for delta in answer.deltas() if "role" in delta] == ["assistant"]


@BOTH
def test_arguments_come_while_the_model_is_still_writing(base: str, model: str, upstream: Upstream) -> None:
    before = upstream.connections()
    script = dictated("call piece=5 gap=40", f"population {LONG}")
    answer = stream(base, model, script, tools=TOOLS)
    assert assembled(tool_deltas(answer)) == [("population", json.loads(LONG))]
    pieces = [call["function"]["arguments"] for call in tool_deltas(answer) if call["function"]["arguments"]]
    assert len(pieces) >= 5
    # The pieces are spread over the time that the model needs for them, and not kept for its end.
    began, ended = answer.first_arrival('"name":"population"'), answer.first_arrival("[DONE]")
    assert ended - began > len(LONG) / 5 * 0.04 / 2
    assert upstream.connections()["served"] == before["served"] + 1


@BOTH
def test_a_call_that_is_not_ended_is_heard_already(base: str, model: str, upstream: Upstream) -> None:
    before = upstream.connections()

    def heard(deltas: list[dict[str, Any]]) -> bool:
        calls = [call["function"] for delta in deltas for call in delta.get("tool_calls") or []]
        return "".join(call["arguments"] for call in calls).startswith('{"city": "Os')

    hear(base, model, dictated("half then=stall", OSLO), heard, tools=TOOLS)
    closes(upstream, before)


@BOTH
def test_the_whole_answer_has_content_null_and_calls(base: str, model: str) -> None:
    answer = chat(base, model, dictated("call", PARALLEL), tools=TOOLS).json()
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    assert [list(call) for call in calls] == [["id", "type", "function"]] * 2
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [
        {"city": "Oslo"},
        {"city": "Bergen", "year": 2026},
    ]
    assert answer["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("written", ["Hello there", "a [b", "x <b", "list[0] [#", "1 < 2", "see [#x"])
@BOTH
def test_text_is_not_held_back_because_of_tools(base: str, model: str, written: str) -> None:
    """While the model is silent all is there that cannot begin a call; no more than a marker's beginning is missing."""
    sure = written.removesuffix("[#")
    hear(
        base,
        model,
        dictated("say then=stall", f"{written[:1]}¦{written[1:]}"),
        lambda deltas: content_of(deltas).startswith(sure.rstrip()),
        tools=TOOLS,
    )


@BOTH
def test_words_are_the_same_with_tools_as_without(base: str, model: str) -> None:
    text = dictated("say", "¦".join(f"w{n} " for n in range(40)))
    without, told = stream(base, model, text), stream(base, model, text, tools=TOOLS)
    assert told.text() == without.text()
    assert told.finishes() == ["stop"]


@BOTH
def test_a_foreign_marker_is_text(base: str, model: str) -> None:
    words = '[#1 call population] {"city": "Oslo"}'
    assert text_of(chat(base, model, dictated("say", words), tools=TOOLS)) == words
    assert stream(base, model, dictated("say", words), tools=TOOLS).text() == words


@BOTH
def test_no_tools_are_told_where_none_may_be_called(base: str, model: str) -> None:
    answer = chat(base, model, dictated("call", OSLO), tools=TOOLS, tool_choice="none")
    assert text_of(answer) == "Nobody has told me how to call a tool."


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("script", ["harmonytext", "harmonytext piece=2"])
@WAYS
def test_the_thoughts_of_harmony_are_reasoning(base: str, script: str, streamed: bool, tools: list[Any]) -> None:
    model = "gpt-oss-20b"
    text = dictated(script, "It is so.")
    if streamed:
        answer = stream(base, model, text, tools=tools)
        told = (answer.text(), "".join(delta.get("reasoning") or "" for delta in answer.deltas()))
    else:
        message = chat(base, model, text, tools=tools).json()["choices"][0]["message"]
        told = (message["content"], message["reasoning"])
    assert told == ("It is so.", "The user wants an answer.")


@pytest.mark.parametrize("script", ["malformed", "wrongtype", "unknown"])
@BOTH
def test_a_bad_call_costs_one_more_turn_that_says_why(base: str, model: str, script: str, upstream: Upstream) -> None:
    served = upstream.connections()["served"]
    answer = chat(base, model, dictated(script, OSLO), tools=TOOLS).json()
    assert json.loads(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}
    assert upstream.connections()["served"] == served + 2
    told = json.dumps(upstream.last()["body"])
    faulty = {"malformed": '{"city": "Oslo"', "wrongtype": '{"city": []}', "unknown": "no_such_tool"}[script]
    assert json.dumps(faulty)[1:-1] in told


@WAYS
@pytest.mark.parametrize(
    ("script", "what", "fields", "code"),
    [
        ("wrongtype always=1", OSLO, {"tools": TOOLS}, "tool_call_invalid"),
        ("malformed always=1", OSLO, {"tools": TOOLS}, "tool_call_invalid"),
        ("unknown always=1", OSLO, {"tools": TOOLS}, "tool_call_invalid"),
        ("nocall always=1", OSLO, {"tools": TOOLS, "tool_choice": "required"}, "tool_call_invalid"),
        ("badjson always=1", '{"name": "x"}', {"response_format": FORMAT}, "response_format_invalid"),
        ("badjson always=1 cut=1", '{"name": "x"}', {"response_format": FORMAT}, "response_format_invalid"),
    ],
    ids=lambda value: value if isinstance(value, str) and "always" in value else None,
)
@BOTH
def test_what_cannot_be_mended_is_an_error(
    base: str, model: str, script: str, what: str, fields: dict[str, Any], code: str, streamed: bool, upstream: Upstream
) -> None:
    served = upstream.connections()["served"]
    answer = chat(base, model, dictated(script, what), stream=streamed, **fields)
    if streamed and answer.status_code == 200:
        *_, event, done, end = answer.text.split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        assert json.loads(event.removeprefix("data: "))["error"]["code"] == code
        assert '"finish_reason":"' not in answer.text
    else:
        assert failed(answer) == (502, "upstream_error", code)
    assert upstream.connections()["served"] == served + 2


@BOTH
def test_a_bad_call_after_text_is_an_error_event(base: str, model: str) -> None:
    answer = stream(base, model, dictated("unknown always=1", OSLO), tools=TOOLS)
    spoken = stream(base, model, dictated("call say=Well, well.", 'population {"year": 1}'), tools=TOOLS)
    assert [error["code"] for error in spoken.errors()] == ["tool_call_invalid"]
    assert spoken.text().strip() == "Well, well."
    assert spoken.finishes() == []
    assert b"no_such_tool" not in answer.body.split(b'"error"')[0]


@WAYS
@BOTH
def test_null_for_an_optional_member_costs_no_second_turn(
    base: str, model: str, streamed: bool, upstream: Upstream
) -> None:
    served = upstream.connections()["served"]
    text = dictated("call piece=3", 'population {"year": null, "city": "Oslo"}')
    if streamed:
        calls = assembled(tool_deltas(stream(base, model, text, tools=TOOLS)))
    else:
        [call] = chat(base, model, text, tools=TOOLS).json()["choices"][0]["message"]["tool_calls"]
        calls = [(call["function"]["name"], json.loads(call["function"]["arguments"]))]
    assert calls == [("population", {"city": "Oslo"})]
    assert upstream.connections()["served"] == served + 1


@pytest.mark.parametrize("script", ["unknown", "wrongtype", "malformed", "nocall"])
@WAYS
@BOTH
def test_what_is_said_and_thought_before_a_bad_call_comes_once(
    base: str, model: str, script: str, streamed: bool, upstream: Upstream
) -> None:
    served = upstream.connections()["served"]
    text = dictated(f"{script} say=First: a look. think=I must call.", OSLO)
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required" if script == "nocall" else "auto"}
    if streamed:
        answer = stream(base, model, text, **fields)
        assert (answer.errors(), answer.finishes()) == ([], ["tool_calls"])
        said, calls = answer.text(), assembled(tool_deltas(answer))
        thought = "".join(delta.get("reasoning") or "" for delta in answer.deltas())
    else:
        message = chat(base, model, text, **fields).json()["choices"][0]["message"]
        said, thought = message["content"], message["reasoning"]
        calls = [
            (call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message["tool_calls"]
        ]
    # What a model says in place of a call that it must make cannot be known to be no answer.
    assert said.removesuffix("I would rather talk.").strip() == "First: a look."
    assert thought == "I must call."
    assert calls == [("population", {"city": "Oslo"})]
    assert upstream.connections()["served"] == served + 2


@pytest.mark.parametrize("model", ["gpt-oss-20b", "gpt-4o"])
def test_tools_work_in_the_other_dialects_too(
    gateway: Gateway, chatkit: Upstream, ai_sdk: Upstream, model: str
) -> None:
    base = gateway(
        BASE_URL=f"{chatkit.address}/older",
        CHATKIT_DIALECT="older",
        VERCEL_MINIMAL_API_URL=f"{ai_sdk.address}/ui/api/chat",
        AI_SDK_MESSAGE_FORMAT="parts",
    )
    answer = stream(base, model, dictated("wrongtype", PARALLEL), tools=TOOLS)
    assert [arguments["city"] for _, arguments in assembled(tool_deltas(answer))] == ["Oslo", "Bergen"]
    message = chat(base, model, dictated("call", OSLO), tools=TOOLS).json()["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "717710"}
    messages = [*user(dictated("call", OSLO)), message, result]
    assert text_of(post(base, {"model": model, "messages": messages, "tools": TOOLS})) == "The tools say: 717710."


def test_tools_work_through_the_chatbots_own_address(gateway: Gateway, ai_sdk: Upstream) -> None:
    base = gateway(VERCEL_MINIMAL_API_URL=f"{ai_sdk.address}/api/chat")
    answer = stream(base, "gpt-4o", dictated("call", PARALLEL), tools=TOOLS)
    assert [arguments["city"] for _, arguments in assembled(tool_deltas(answer))] == ["Oslo", "Bergen"]


@WAYS
@BOTH
def test_one_call_at_a_time_ends_the_upstreams_work_after_the_first(
    base: str, model: str, streamed: bool, upstream: Upstream
) -> None:
    before = upstream.connections()
    fields: dict[str, Any] = {"tools": TOOLS, "parallel_tool_calls": False}
    text = dictated("call then=stall", PARALLEL)
    if streamed:
        assert assembled(tool_deltas(stream(base, model, text, **fields))) == [("population", {"city": "Oslo"})]
    else:
        assert len(chat(base, model, text, **fields).json()["choices"][0]["message"]["tool_calls"]) == 1
    closes(upstream, before)


@BOTH
def test_the_limit_can_cut_a_call(base: str, model: str, upstream: Upstream) -> None:
    before = upstream.connections()
    many = json.dumps({"city": "one two three four five six seven " * 5})
    answer = stream(base, model, dictated("call then=stall", f"population {many}"), tools=TOOLS, max_tokens=20)
    assert (answer.finishes(), answer.errors()) == (["length"], [])
    pieces = [call["function"]["arguments"] for call in tool_deltas(answer)]
    assert many.startswith("".join(pieces))
    assert '"city": "one two three' in "".join(pieces)
    assert len("".join(pieces)) < len(many)
    closes(upstream, before)


@WAYS
@BOTH
def test_functions_are_called_as_they_were_before_tools(base: str, model: str, streamed: bool) -> None:
    functions = [tool["function"] for tool in TOOLS]
    if streamed:
        answer = stream(base, model, dictated("wrongtype", OSLO), functions=functions)
        calls = [delta["function_call"] for delta in answer.deltas() if "function_call" in delta]
        assert [call["name"] for call in calls if "name" in call] == ["population"]
        told, finishes = "".join(call["arguments"] for call in calls), answer.finishes()
    else:
        choice = chat(base, model, dictated("wrongtype", OSLO), functions=functions).json()["choices"][0]
        told, finishes = choice["message"]["function_call"]["arguments"], [choice["finish_reason"]]
    assert (json.loads(told), finishes) == ({"city": "Oslo"}, ["function_call"])


def test_a_question_with_an_image_can_have_tools(base: str, ai_sdk: Upstream) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://images.example/oslo.png"}}
    content = [{"type": "text", "text": dictated("wrongtype", OSLO)}, image]
    answer = stream(base, "gpt-4o", content, tools=TOOLS)
    assert assembled(tool_deltas(answer)) == [("population", {"city": "Oslo"})]
    assert "images.example" in json.dumps(ai_sdk.last()["body"])


def test_the_usage_of_a_mended_answer_is_that_of_both_tries(base: str) -> None:
    """What the AI SDK's server reports: its words, five for a good call, and for the faulty one as many."""
    text = dictated("malformed", OSLO)
    usage = chat(base, "gpt-4o", text, tools=TOOLS).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (2 * len(text), 5 + 5)


# Formats


@pytest.mark.parametrize("script", ["json", "json piece=1", "fenced", "fenced piece=2", "badjson"])
@WAYS
@BOTH
def test_only_the_json_comes(base: str, model: str, script: str, streamed: bool) -> None:
    text = dictated(script, '{"name": "Oslo"}')
    if streamed:
        answer = stream(base, model, text, response_format=FORMAT)
        assert (answer.errors(), answer.finishes()) == ([], ["stop"])
        told = answer.text()
    else:
        told = text_of(chat(base, model, text, response_format=FORMAT))
    assert json.loads(told) == {"name": "Oslo"}


@pytest.mark.parametrize("wanted", [LOOSE, {"type": "json_object"}], ids=["loose schema", "json_object"])
@BOTH
def test_json_that_is_not_strict_streams_while_it_is_written(
    base: str, model: str, wanted: Any, upstream: Upstream
) -> None:
    """So what has gone out cannot be mended any more: it ends with an error."""
    before = upstream.connections()
    text = dictated("say then=stall", 'Here: ¦{"name": "Os¦lo')
    hear(base, model, text, lambda deltas: content_of(deltas) == '{"name": "Oslo', response_format=wanted)
    closes(upstream, before)
    faulty = stream(base, model, dictated("badjson cut=1", '{"name": "x"}'), response_format=wanted)
    assert [error["code"] for error in faulty.errors()] == ["response_format_invalid"]
    assert faulty.finishes() == []
    assert (
        text_of(chat(base, model, dictated("badjson cut=1", '{"name": "x"}'), response_format=wanted))
        == '{"name": "x"}'
    )


# Stop


@pytest.mark.parametrize("stop", ["WORLD", ["never", "WORLD"]], ids=["one", "several"])
@pytest.mark.parametrize("words", ["Hello WORLD more", "Hello W¦OR¦LD more", "Hello ¦W¦O¦R¦L¦D", "Hello WORLDWORLD"])
@WAYS
@BOTH
def test_stop_cuts_and_ends_the_upstreams_work(
    base: str, model: str, words: str, stop: Any, streamed: bool, upstream: Upstream
) -> None:
    before = upstream.connections()
    text = dictated("say then=stall", words)
    if streamed:
        answer = stream(base, model, text, stop=stop)
        assert (answer.text(), answer.finishes()) == ("Hello ", ["stop"])
        assert all(part not in answer.body for part in (b"W", b"OR", b"LD"))
    else:
        whole = chat(base, model, text, stop=stop)
        assert text_of(whole) == "Hello "
        assert whole.json()["choices"][0]["finish_reason"] == "stop"
    closes(upstream, before)


@pytest.mark.parametrize("words", ["Hello WOR", "Hello W¦O¦R", "Hello WOR¦LX¦ WO", "Hello WWOR¦L"])
@BOTH
def test_what_only_begins_like_a_stop_is_all_there(base: str, model: str, words: str, upstream: Upstream) -> None:
    before = upstream.connections()
    answer = stream(base, model, dictated("say", words), stop=["WORLD"])
    assert (answer.text(), answer.finishes()) == (words.replace("¦", ""), ["stop"])
    closes(upstream, before, 0)


# Limits


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@WAYS
@BOTH
def test_the_limit_cuts_and_ends_the_upstreams_work(
    base: str, model: str, name: str, streamed: bool, upstream: Upstream
) -> None:
    before = upstream.connections()
    limit: dict[str, Any] = {name: 3}
    text = dictated("say then=stall", "one two three four five six seven eight")
    if streamed:
        answer = stream(base, model, text, **limit, stream_options={"include_usage": True})
        told, finishes, usage = answer.text(), answer.finishes(), answer.chunks()[-1]["usage"]
    else:
        body = chat(base, model, text, **limit).json()
        [choice] = body["choices"]
        told, finishes, usage = choice["message"]["content"], [choice["finish_reason"]], body["usage"]
    assert (told, finishes) == ("one two three", ["length"])
    assert usage["completion_tokens"] == 3
    assert usage["prompt_tokens"] >= count_tokens(text)
    assert usage["total_tokens"] == usage["prompt_tokens"] + 3
    closes(upstream, before)


@BOTH
def test_a_limit_that_is_not_reached_changes_nothing(base: str, model: str, upstream: Upstream) -> None:
    before = upstream.connections()
    answer = stream(base, model, dictated("say", "one two three"), max_tokens=100)
    assert (answer.text(), answer.finishes()) == ("one two three", ["stop"])
    closes(upstream, before, 0)


# Several choices


def several(options: str = "") -> str:
    """Return an order to answer each time otherwise."""
    return f"::model choice id={uuid.uuid4().hex} {options}".rstrip() + "::"


@BOTH
def test_three_choices_are_three_answers(base: str, model: str, upstream: Upstream) -> None:
    served = upstream.connections()["served"]
    text = several()
    body = chat(base, model, text, n=3).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    told = sorted(choice["message"]["content"] for choice in body["choices"])
    assert told == [f"choice {n} of them" for n in (1, 2, 3)]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["stop"] * 3
    assert upstream.connections()["served"] == served + 3
    # The AI SDK's server counts words; ours are o200k's.
    each = 4 if model == "gpt-4o" else count_tokens("choice 1 of them")
    assert body["usage"]["completion_tokens"] == 3 * each
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 3 * each
    # Three prompts are what the upstream has read.
    assert body["usage"]["prompt_tokens"] == 3 * chat(base, model, text).json()["usage"]["prompt_tokens"]


@BOTH
def test_three_choices_stream_in_one(base: str, model: str) -> None:
    answer = stream(base, model, several("gap=5"), n=3, stream_options={"include_usage": True})
    *chunks, last = answer.chunks()
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    told = {n: "".join(c["delta"].get("content") or "" for c in choices if c["index"] == n) for n in range(3)}
    assert sorted(told.values()) == [f"choice {n} of them" for n in (1, 2, 3)]
    for n in range(3):
        mine = [choice for choice in choices if choice["index"] == n]
        assert mine[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in mine if choice["finish_reason"]] == ["stop"]
        assert mine[-1]["finish_reason"] == "stop"
    assert {chunk["id"] for chunk in chunks} == {last["id"]}
    assert (last["choices"], last["usage"]["completion_tokens"] > 0) == ([], True)


@BOTH
def test_choices_run_at_the_same_time_and_end_with_their_client(base: str, model: str, upstream: Upstream) -> None:
    before = upstream.connections()
    hear(
        base,
        model,
        several("then=stall"),
        lambda deltas: all(content_of(deltas, n).endswith("of them") for n in range(3)),
        n=3,
    )
    closes(upstream, before, 3)


@WAYS
@BOTH
def test_a_choice_that_fails_fails_the_request(base: str, model: str, streamed: bool, upstream: Upstream) -> None:
    text = several("fail=2")
    if streamed:
        answer = stream(base, model, text, n=3)
        assert [error["code"] for error in answer.errors()] == ["upstream_error"]
        assert "error" in answer.chunks()[-1]
    else:
        assert error_of(chat(base, model, text, n=3))["code"] == "upstream_error"
    wait_for("the upstream's end", lambda: upstream.connections()["open"] == 0, seconds=10)


@BOTH
def test_each_choice_may_call_tools(base: str, model: str) -> None:
    body = chat(base, model, dictated("wrongtype", OSLO), tools=TOOLS, n=2).json()
    calls = [choice["message"]["tool_calls"][0] for choice in body["choices"]]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"city": "Oslo"}] * 2
    assert calls[0]["id"] != calls[1]["id"]
