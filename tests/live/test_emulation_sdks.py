"""Tools and structured answers through what people use: OpenAI's SDKs, LangChain, the AI SDK, the Agents SDK.

Behind both text upstreams stands the scripted model (servers/scripted_model.py): it sees only the prompt, and obeys it.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import agents
import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, ConfigDict, SecretStr

from tests.live.conftest import needs
from tests.live.sdks import NodeScript
from tests.live.talk import SECONDS, user

BOTH = pytest.mark.parametrize("model", ["gpt-oss-20b", "gpt-4o"])

PEOPLE = {"Oslo": 717710, "Bergen": 291940}
SUM = "Together 1009650 people."
AGENT = "::model agent:: Oslo, Bergen"
ROUNDS = ["population Oslo", "population Bergen", "add 717710 291940"]
TOWN: dict[str, Any] = {"name": "Oslo", "people": 717710}
TOWN_JSON = json.dumps(TOWN)
OSLO = 'population {"city": "Oslo"}'
PARALLEL = f'{OSLO}\npopulation {{"city": "Bergen"}}'
# Whatever the model does first, the client sees one good call. Only gpt-oss slips into its harmony format.
_MANNERS = ["call", "call say=Let me look.", "call piece=1", "malformed", "wrongtype", "unknown"]
MANNERS = pytest.mark.parametrize(
    ("model", "script"),
    [("gpt-oss-20b", "harmony"), *((model, script) for model in ("gpt-oss-20b", "gpt-4o") for script in _MANNERS)],
)
SHAPES = ["json schema=1", "json piece=3", "fenced schema=1", "badjson", "badjson cut=1"]

TOOL_SCHEMAS: Any = [
    {
        "type": "function",
        "function": {
            "name": "population",
            "description": "How many people live there.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    },
]


class Population(BaseModel):
    """How many people live there."""

    model_config = ConfigDict(extra="forbid")
    city: str


class Town(BaseModel):
    """A town and its people."""

    model_config = ConfigDict(extra="forbid")
    name: str
    people: int


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves this machine: no telemetry, and no name is looked up."""
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "false")
    agents.set_tracing_disabled(True)
    look_up = socket.getaddrinfo

    def only_loopback(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host in ("127.0.0.1", "localhost", b"127.0.0.1", b"localhost"), f"{host} is not this machine"
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", only_loopback)


# openai-python


@pytest.fixture
def client(base: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, timeout=SECONDS) as client:
        yield client


def dictated(script: str, what: str) -> list[Any]:
    return user(f"::model {script}::\n{what}")


def called(calls: Any) -> list[tuple[str, Any]]:
    """Return names and arguments of the calls, whose ids are all different."""
    assert len({call.id for call in calls}) == len(calls)
    assert all(call.id and call.type == "function" for call in calls)
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls]


@MANNERS
def test_python_create_gives_the_call(client: openai.OpenAI, model: str, script: str) -> None:
    completion = client.chat.completions.create(
        model=model, messages=dictated(script, OSLO), tools=TOOL_SCHEMAS, tool_choice="required"
    )
    [choice] = completion.choices
    assert called(choice.message.tool_calls) == [("population", {"city": "Oslo"})]
    assert choice.finish_reason == "tool_calls"
    prose = "Let me look." if "say" in script else None
    assert (choice.message.content or "").strip() == (prose or "")


@MANNERS
def test_python_stream_helper_builds_the_call(client: openai.OpenAI, model: str, script: str) -> None:
    deltas, done = [], []
    with client.chat.completions.stream(
        model=model,
        messages=dictated(script, OSLO),
        tools=[openai.pydantic_function_tool(Population, name="population")],
    ) as events:
        for event in events:
            if event.type == "tool_calls.function.arguments.delta":
                deltas.append(event.arguments_delta)
            if event.type == "tool_calls.function.arguments.done":
                done.append((event.name, event.parsed_arguments))
        [choice] = events.get_final_completion().choices
    assert done == [("population", Population(city="Oslo"))]
    assert json.loads("".join(deltas)) == {"city": "Oslo"}
    assert called(choice.message.tool_calls) == [("population", {"city": "Oslo"})]
    assert choice.finish_reason == "tool_calls"


@BOTH
def test_python_gets_parallel_calls_and_hands_in_their_results(client: openai.OpenAI, model: str) -> None:
    messages = dictated("call", PARALLEL)
    completion = client.chat.completions.create(model=model, messages=messages, tools=TOOL_SCHEMAS)
    message = completion.choices[0].message
    assert called(message.tool_calls) == [("population", {"city": "Oslo"}), ("population", {"city": "Bergen"})]
    messages.append(message.model_dump(exclude_none=True))
    for call, people in zip(message.tool_calls or [], PEOPLE.values(), strict=True):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(people)})
    completion = client.chat.completions.create(model=model, messages=messages, tools=TOOL_SCHEMAS)
    assert completion.choices[0].message.content == "The tools say: 717710; 291940."
    assert completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "population"}}], ids=["required", "named"]
)
@BOTH
def test_python_gets_a_call_that_was_required(client: openai.OpenAI, model: str, choice: Any) -> None:
    messages = dictated("nocall", OSLO)
    completion = client.chat.completions.create(model=model, messages=messages, tools=TOOL_SCHEMAS, tool_choice=choice)
    assert called(completion.choices[0].message.tool_calls) == [("population", {"city": "Oslo"})]
    with client.chat.completions.stream(
        model=model,
        messages=messages,
        tools=[openai.pydantic_function_tool(Population, name="population")],
        tool_choice=choice,
    ) as events:
        streamed = events.get_final_completion().choices[0].message
    assert called(streamed.tool_calls) == [("population", {"city": "Oslo"})]
    # What the model said instead at first has been heard already.
    assert streamed.content in (None, "", "I would rather talk.")


@BOTH
def test_python_may_get_a_text_where_no_call_was_required(client: openai.OpenAI, model: str) -> None:
    completion = client.chat.completions.create(model=model, messages=dictated("nocall", OSLO), tools=TOOL_SCHEMAS)
    assert completion.choices[0].message.content == "I would rather talk."
    assert completion.choices[0].message.tool_calls is None
    assert completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("script", SHAPES)
@BOTH
def test_python_parse_gives_the_object(client: openai.OpenAI, model: str, script: str) -> None:
    completion = client.chat.completions.parse(model=model, messages=dictated(script, TOWN_JSON), response_format=Town)
    assert completion.choices[0].message.parsed == Town(**TOWN)
    assert json.loads(completion.choices[0].message.content or "") == TOWN
    assert completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("script", SHAPES)
@BOTH
def test_python_stream_helper_parses_the_object(client: openai.OpenAI, model: str, script: str) -> None:
    with client.chat.completions.stream(
        model=model, messages=dictated(script, TOWN_JSON), response_format=Town
    ) as events:
        told = "".join(event.delta for event in events if event.type == "content.delta")
        completion = events.get_final_completion()
    assert completion.choices[0].message.parsed == Town(**TOWN)
    assert json.loads(told) == TOWN


@pytest.mark.parametrize(
    ("script", "what", "fields", "code"),
    [
        ("wrongtype always=1", OSLO, {"tools": TOOL_SCHEMAS}, "tool_call_invalid"),
        ("malformed always=1", OSLO, {"tools": TOOL_SCHEMAS}, "tool_call_invalid"),
        ("nocall always=1", OSLO, {"tools": TOOL_SCHEMAS, "tool_choice": "required"}, "tool_call_invalid"),
        ("badjson always=1 cut=1", TOWN_JSON, {"response_format": {"type": "json_object"}}, "response_format_invalid"),
    ],
)
@BOTH
def test_python_raises_what_cannot_be_mended(
    client: openai.OpenAI, model: str, script: str, what: str, fields: dict[str, Any], code: str
) -> None:
    asked = {"model": model, "messages": dictated(script, what), **fields}
    with pytest.raises(openai.InternalServerError) as whole:
        client.chat.completions.create(**asked)
    assert (whole.value.status_code, whole.value.code) == (502, code)
    with pytest.raises(openai.APIError) as streamed:
        list(client.chat.completions.create(**asked, stream=True))
    assert streamed.value.code == code


# openai-node and the AI SDK


@pytest.fixture(scope="module")
def jobs(node_modules: None) -> Iterator[NodeScript]:
    with contextlib.closing(NodeScript(needs("node"), "node_emulation.mjs")) as script:
        yield script


RunNode = Callable[[str, str, str], Any]


@pytest.fixture
def run_node(jobs: NodeScript, base: str) -> RunNode:
    """Return the outcome of a job of node_emulation.mjs: its value, or its error."""

    def run(job: str, model: str, text: str) -> Any:
        jobs.send({"job": job, "base": base, "model": model, "text": text})
        return jobs.receive()

    return run


@pytest.fixture
def node(run_node: RunNode) -> RunNode:
    """Return the value of a job."""

    def run(job: str, model: str, text: str) -> Any:
        outcome = run_node(job, model, text)
        assert "value" in outcome, outcome
        return outcome["value"]

    return run


@MANNERS
def test_node_stream_helper_builds_the_call(node: RunNode, model: str, script: str) -> None:
    told = node("stream", model, f"::model {script}::\n{OSLO}")
    [call] = told["choice"]["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("population", {"city": "Oslo"})
    assert json.loads("".join(told["deltas"])) == {"city": "Oslo"}
    assert told["choice"]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("job", ["runTools", "runToolsStreamed"])
@BOTH
def test_node_runs_tools_to_the_end(node: RunNode, model: str, job: str) -> None:
    assert node(job, model, AGENT) == {"final": SUM, "asked": ROUNDS}


@pytest.mark.parametrize("script", SHAPES)
@BOTH
def test_node_parses_the_object(node: RunNode, model: str, script: str) -> None:
    text = f"::model {script}::\n{TOWN_JSON}"
    assert node("parse", model, text) == TOWN
    told = node("streamFormat", model, text)
    assert told["parsed"] == TOWN
    assert json.loads("".join(told["deltas"])) == TOWN


@BOTH
def test_node_parses_the_arguments_of_parallel_calls(node: RunNode, model: str) -> None:
    calls = node("parseTools", model, f"::model wrongtype::\n{PARALLEL}")
    assert calls == [["population", {"city": "Oslo"}], ["population", {"city": "Bergen"}]]


@pytest.mark.parametrize("job", ["generateObject", "generateObjectInJsonMode"])
@pytest.mark.parametrize("script", ["json", "fenced", "badjson cut=1"])
@BOTH
def test_ai_sdk_generates_the_object(node: RunNode, model: str, job: str, script: str) -> None:
    assert node(job, model, f"::model {script}::\n{TOWN_JSON}") == TOWN


@BOTH
def test_ai_sdk_streams_the_object(node: RunNode, model: str) -> None:
    told = node("streamObject", model, f"::model fenced piece=3::\n{TOWN_JSON}")
    assert told == {"object": TOWN, "last": TOWN}


@pytest.mark.parametrize("job", ["generateText", "streamText"])
@BOTH
def test_ai_sdk_goes_all_steps(node: RunNode, model: str, job: str) -> None:
    told = node(job, model, AGENT)
    assert (told["final"], told["asked"]) == (SUM, ROUNDS)
    assert told["steps"] == ["tool-calls"] * 3 + ["stop"]
    assert told["finishReason"] == "stop"


@BOTH
def test_ai_sdk_is_told_of_calls_that_cannot_be_mended(run_node: RunNode, model: str) -> None:
    text = f"::model wrongtype always=1::\n{OSLO}"
    error = run_node("generateText", model, text)["error"]
    assert error["status"] == 502
    assert json.loads(error["responseBody"])["error"]["code"] == "tool_call_invalid"
    assert "error" in run_node("streamText", model, text)


# LangChain


@tool
def population(city: str) -> int:
    """How many people live there."""
    return PEOPLE[city]


@tool
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


def chat_model(base: str, model: str) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{base}/v1", api_key=SecretStr("none"), model=model, max_retries=0, timeout=SECONDS)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@BOTH
def test_langchain_binds_tools_for_an_agents_rounds(base: str, model: str, streamed: bool) -> None:
    bound = chat_model(base, model).bind_tools([population, add])
    messages: list[Any] = [HumanMessage(AGENT)]
    rounds = []
    answer = ask_langchain(bound, messages, streamed)
    while answer.tool_calls:
        messages.append(answer)
        for call in answer.tool_calls:
            rounds.append(" ".join([call["name"], *map(str, call["args"].values())]))
            result = {"population": population, "add": add}[call["name"]].invoke(call["args"])
            messages.append(ToolMessage(str(result), tool_call_id=call["id"]))
        answer = ask_langchain(bound, messages, streamed)
    assert (answer.content, rounds) == (SUM, ROUNDS)


def ask_langchain(bound: Any, messages: list[Any], streamed: bool) -> Any:
    if not streamed:
        answer = bound.invoke(messages)
        assert isinstance(answer, AIMessage)
        return answer
    whole: AIMessageChunk | None = None
    for chunk in bound.stream(messages):
        whole = chunk if whole is None else whole + chunk
    return whole


# LangChain writes its streamed chunks out and in again, with what it has parsed into them.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("script", ["json schema=1", "fenced", "badjson"])
@BOTH
def test_langchain_structured_output_by_json_schema(base: str, model: str, script: str, streamed: bool) -> None:
    structured = chat_model(base, model).with_structured_output(Town, method="json_schema", strict=True)
    text = f"::model {script}::\n{TOWN_JSON}"
    assert (list(structured.stream(text))[-1] if streamed else structured.invoke(text)) == Town(**TOWN)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("script", ["call", "wrongtype", "nocall"])
@BOTH
def test_langchain_structured_output_by_function_calling(base: str, model: str, script: str, streamed: bool) -> None:
    structured = chat_model(base, model).with_structured_output(Town, method="function_calling")
    text = f"::model {script}::\nTown {TOWN_JSON}"
    assert (list(structured.stream(text))[-1] if streamed else structured.invoke(text)) == Town(**TOWN)


# The Agents SDK


def run_agent(base: str, model: str, text: str, streamed: bool, output_type: type[BaseModel] | None = None) -> Any:
    """Return the final output of an agent with two tools, and what the tools were asked."""
    asked: list[str] = []

    @agents.function_tool(name_override="population")
    def look_up(city: str) -> str:
        """How many people live there."""
        asked.append(f"population {city}")
        return json.dumps({"population": PEOPLE[city]})

    @agents.function_tool(name_override="add")
    def sum_up(a: int, b: int) -> int:
        """The sum."""
        asked.append(f"add {a} {b}")
        return a + b

    async def run() -> Any:
        options: dict[str, Any] = {"base_url": f"{base}/v1", "api_key": "none", "max_retries": 0, "timeout": SECONDS}
        async with openai.AsyncOpenAI(**options) as client:
            agent = agents.Agent(
                name="Counter",
                instructions="You count people.",
                model=agents.OpenAIChatCompletionsModel(model=model, openai_client=client),
                tools=[look_up, sum_up],
                output_type=output_type,
            )
            if not streamed:
                return (await agents.Runner.run(agent, text)).final_output
            result = agents.Runner.run_streamed(agent, text)
            async for _ in result.stream_events():
                pass
            return result.final_output

    return asyncio.run(run()), asked


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@BOTH
def test_an_agent_of_several_rounds_ends_with_the_right_answer(base: str, model: str, streamed: bool) -> None:
    assert run_agent(base, model, AGENT, streamed) == (SUM, ROUNDS)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@BOTH
def test_an_agent_can_have_tools_and_a_typed_answer(base: str, model: str, streamed: bool) -> None:
    assert run_agent(base, model, f"::model json::\n{TOWN_JSON}", streamed, Town) == (Town(**TOWN), [])
