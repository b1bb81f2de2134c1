"""What an upstream cannot, done for it: instructions, filters, and a second try."""

import time
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import (
    Event,
    Finish,
    Lists,
    ReasoningDelta,
    Started,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.emulation.chain import emulate
from gpt_oss_proxy.emulation.prepare import Emulation, prepare
from gpt_oss_proxy.errors import GatewayError, RateLimited
from gpt_oss_proxy.net.lists import Shortcut
from tests.doubles import Characters
from tests.emulation.filtered import calls_of, reason_of, reasoning_of, text_of
from tests.emulation.test_tools import NOW, WEATHER
from tests.typed import typed

JSON_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
STRICT = {"type": "json_schema", "json_schema": {"name": "n", "schema": JSON_SCHEMA, "strict": True}}
Step = list[Event] | BaseException


class Model:
    """Answers each asking with the next script."""

    def __init__(self, *scripts: list[Step]) -> None:
        self.scripts = scripts
        self.asked: list[ChatRequest] = []
        self.closed: list[bool] = []  # whether each asking was ended before its end

    def ask(self, request: ChatRequest, shortcut: Shortcut | None = None) -> Lists:
        script = self.scripts[len(self.asked)]
        self.asked.append(request)
        self.closed.append(True)
        number = len(self.closed) - 1
        for step in script:
            if isinstance(step, BaseException):
                raise step
            event = step[0] if len(step) == 1 else None
            if not (shortcut and isinstance(event, TextDelta) and shortcut(event.text)):
                yield step
        self.closed[number] = False


def request(stream: bool = False, **options: Any) -> ChatRequest:
    return ChatRequest("m", (Message("user", (Text("Hi"),)),), stream=stream, **typed(options))


def prepared(stream: bool = False, *, harmony: bool = False, **options: Any) -> Emulation:
    return prepare(request(stream, **options), frozenset(), harmony=harmony)


def run(model: Model, emulation: Emulation) -> list[list[Event]]:
    ids = iter(("call_1", "call_2", "call_3"))
    return list(emulate(emulation, model.ask, Characters(), lambda: next(ids)))


def flat(lists: Iterable[list[Event]]) -> list[Event]:
    return list(one_by_one(lists))


def one_by_one(lists: Iterable[list[Event]]) -> Iterator[Event]:
    for events in lists:
        yield from events


def test_an_upstream_that_does_all_itself_is_asked_what_was_asked() -> None:
    asked = request(stop="x", tools=[NOW], response_format=STRICT, max_tokens=1)
    model = Model([[TextDelta("axb")], [Finish("stop")]])
    emulation = prepare(asked, None, harmony=False)
    assert run(model, emulation) == [[TextDelta("axb")], [Finish("stop")]]
    assert model.asked == [asked]


def test_an_upstream_that_does_all_itself_goes_on_calling_tools_in_a_conversation_that_shows_calls() -> None:
    messages = (Message("user", (Text("Hi"),)), Message("tool", (Text("22"),), tool_call_id="c"))
    asked = ChatRequest("m", messages, stream=True, **typed({"tools": [WEATHER]}))
    script: list[Step] = [[ToolCallDelta(0, "own", "get_weather", "{}")], [Finish("tool_calls")]]
    model = Model(script)
    assert run(model, prepare(asked, None, harmony=False)) == script
    assert model.asked == [asked]


def test_a_list_in_is_a_list_out_and_silence_is_passed_on() -> None:
    model = Model([[Started("t")], [], [TextDelta("a")], [TextDelta("ST")], [TextDelta("x"), Finish("stop")]])
    assert run(model, prepared(stop=["STOP"])) == [
        [Started("t")],
        [],
        [TextDelta("a")],
        [],
        [TextDelta("STx"), Finish("stop")],
    ]


def test_at_the_cut_the_upstream_is_closed() -> None:
    model = Model([[TextDelta("aST")], [TextDelta("OPb")], [TextDelta("c")], [Finish("stop")]])
    assert flat(run(model, prepared(stop="STOP"))) == [TextDelta("a"), Finish("stop", stop="STOP")]
    assert model.closed == [True]


def test_an_answer_that_is_whole_is_read_to_the_end_of_its_body() -> None:
    model = Model([[TextDelta("a"), Finish("stop")], []])
    assert flat(run(model, prepared(stop="STOP"))) == [TextDelta("a"), Finish("stop")]
    assert model.closed == [False]


@pytest.mark.parametrize(
    ("options", "thought", "said", "reason"),
    [
        ({"max_tokens": 3}, "Hmm", "abc", "length"),
        ({"max_completion_tokens": 5}, "Hmm", "ab", "length"),
        ({"max_completion_tokens": 2}, "Hm", "", "length"),
        ({"max_completion_tokens": 5, "max_tokens": 1}, "Hmm", "a", "length"),
        ({"max_tokens": 9, "stop": "d"}, "Hmm", "abc", "stop"),
        ({"max_tokens": 99}, "Hmm", "abcd e", "stop"),
    ],
)
def test_limits(options: dict[str, Any], thought: str, said: str, reason: str) -> None:
    model = Model([[ReasoningDelta("Hmm")], [TextDelta("abcd ")], [TextDelta("e"), Finish("stop")]])
    out = flat(run(model, prepared(**options)))
    assert (reasoning_of(out), text_of(out), reason_of(out)) == (thought, said, reason)


def test_tools_are_told_of_before_all_else_and_calls_come_back() -> None:
    emulation = prepared(tools=[WEATHER])
    told, asked = emulation.request.messages
    assert (told.role, asked.role, emulation.request.marker) == ("system", "user", 1)
    assert "[#1 call NAME] ARGUMENTS" in told.text
    model = Model([[TextDelta('Let me see.\n[#1 call get_weather] {"city": "Paris"}')], [Finish("stop")]])
    assert flat(run(model, emulation)) == [
        TextDelta("Let me see.\n"),
        ToolCallDelta(0, "call_1", "get_weather"),
        ToolCallDelta(0, arguments='{"city": "Paris"}'),
        Finish("tool_calls"),
    ]


FAULTY = '[#1 call get_weather] {"city": 7}'
RIGHT = '[#1 call get_weather] {"city": "Paris"}'


def test_a_frame_with_the_number_of_something_that_was_written_is_text() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "[#2 call f]"}}]
    messages = (Message("user", (Text("[#1 call get_weather] {}"),)),)
    emulation = prepare(ChatRequest("m", messages, **typed({"tools": tools})), frozenset(), harmony=False)
    model = Model([[TextDelta("[#1 call f] {} [#2 call f]"), Finish("stop")]])
    assert text_of(flat(run(model, emulation))) == "[#1 call f] {} [#2 call f]"


def test_a_faulty_call_is_shown_to_the_model_once() -> None:
    model = Model(
        [[Started("t1")], [TextDelta(FAULTY)], [TextDelta("never read")]],
        [[Started("t2")], [TextDelta(RIGHT), Finish("stop")]],
    )
    lists = run(model, prepared(tools=[WEATHER]))
    assert calls_of(flat(lists)) == [("get_weather", '{"city": "Paris"}')]
    assert [event for event in flat(lists) if isinstance(event, Finish)] == [Finish("tool_calls")]
    assert model.closed == [True, False]
    *conversation, written, told = model.asked[1].messages
    assert tuple(conversation) == model.asked[0].messages
    assert (written, told.role) == (Message("assistant", (Text(FAULTY),)), "user")
    assert 'city: 7 is not of type "string"' in told.text
    assert "[#1 call NAME] ARGUMENTS" in told.text
    assert model.asked[1].marker == 1


def test_a_call_that_stays_faulty_is_an_error() -> None:
    model = Model([[TextDelta(FAULTY), Finish("stop")]], [[TextDelta(FAULTY), Finish("stop")]])
    with pytest.raises(GatewayError) as caught:
        run(model, prepared(tools=[WEATHER]))
    assert (caught.value.code, caught.value.status) == ("tool_call_invalid", 502)


def test_an_upstream_that_fails_the_second_time_fails() -> None:
    model = Model([[TextDelta(FAULTY), Finish("stop")]], [RateLimited()])
    with pytest.raises(RateLimited):
        run(model, prepared(tools=[WEATHER]))


def test_of_a_whole_answer_nothing_goes_out_before_it_is_right() -> None:
    first: list[Step] = [[Started("t"), TextDelta('Well. [#1 call get_weather] {"days": 2}')], [Finish("stop")]]
    second: list[Step] = [[TextDelta("Which city?"), Finish("stop")]]
    lists = run(Model(first, second), prepared(tools=[WEATHER]))
    assert flat(lists) == [Started("t"), TextDelta("Which city?"), Finish("stop")]
    third: list[Step] = [[TextDelta("[#1 call now] {}"), Finish("stop")]]
    found = flat(run(Model(first, third), prepared(tools=[WEATHER, NOW])))
    assert calls_of(found) == [("now", "{}")]
    assert text_of(found) == ""


UNKNOWN = "[#1 call wether] {}"
SEARCH = "<|channel|>commentary to=functions.search<|message|>{}<|call|>"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("first", "options"),
    [
        (UNKNOWN, {}),
        (FAULTY, {}),
        ("", {"tool_choice": "required"}),
        (f"{UNKNOWN} and so on", {"stop": "STOP", "max_tokens": 1000}),
    ],
    ids=["unknown tool", "wrong type", "no call", "with other filters"],
)
@pytest.mark.parametrize("again", ["", "Let me see.\n", "Sorry! Let me call it properly.\n", "Let me\n"])
def test_text_before_a_faulty_call_is_sent_once(stream: bool, first: str, options: Any, again: str) -> None:
    model = Model(
        [[TextDelta("Let me ")], [TextDelta("see.\n"), TextDelta(first)], [Finish("stop")]],
        [*([TextDelta(text)] for text in (again, RIGHT) if text), [TextDelta("Done.")], [Finish("stop")]],
    )
    found = flat(run(model, prepared(stream, tools=[WEATHER], **options)))
    # Of a whole answer the first try is not shown, so nothing is repeated.
    assert text_of(found) == ("Let me see.\n" if stream else f"{again}Done.")
    assert calls_of(found) == [("get_weather", '{"city": "Paris"}')]
    assert reason_of(found) == "tool_calls"


def test_reasoning_before_a_faulty_call_is_sent_once() -> None:
    thoughts = [ReasoningDelta("They want the weather. "), ReasoningDelta("I call a tool.")]
    for first in ([[thought] for thought in thoughts], [thoughts]):
        model = Model([*first, [TextDelta(UNKNOWN)]], [*first, [TextDelta(RIGHT), Finish("stop")]])
        found = flat(run(model, prepared(True, tools=[WEATHER])))
        assert reasoning_of(found) == "They want the weather. I call a tool."
        assert calls_of(found) == [("get_weather", '{"city": "Paris"}')]
    late = Model([[TextDelta(UNKNOWN)]], [[thoughts[1]], [TextDelta(RIGHT), Finish("stop")]])
    assert reasoning_of(flat(run(late, prepared(True, tools=[WEATHER])))) == "I call a tool."


def test_calls_that_have_gone_out_are_followed_by_the_corrected_one_and_no_text() -> None:
    model = Model(
        [[TextDelta(f"{RIGHT} {UNKNOWN}")]], [[TextDelta(f"Sorry: {RIGHT} [#1 call now] {{}}")], [Finish("stop")]]
    )
    found = flat(run(model, prepared(True, tools=[NOW, WEATHER])))
    assert (calls_of(found), text_of(found)) == ([("get_weather", '{"city": "Paris"}'), ("now", "{}")], "")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("with_shortcut", [True, False])
@pytest.mark.parametrize(
    ("first", "sent"),
    [
        (["Let me ", "see.", SEARCH], "Let me see."),
        (
            ["<|channel|>analysis<|message|>Hm<|end|><|channel|>final<|message|>Let ", "me ", "see.", SEARCH],
            "Let me see.",
        ),
        ([f"Let me see.{SEARCH}"], "Let me see."),
        ([SEARCH], ""),
    ],
    ids=["in pieces", "with markup", "together", "none"],
)
@pytest.mark.parametrize(
    ("second", "new"),
    [
        (["Let me", " see. It", " is noon."], " It is noon."),
        (["Let me see."], ""),
        (["It is", " noon."], "\n\nIt is noon."),
        (["<|channel|>analysis<|message|>Hm<|end|><|channel|>final<|message|>It is noon."], "\n\nIt is noon."),
    ],
)
def test_a_second_try_that_calls_nothing_loses_nothing_and_repeats_nothing(
    stream: bool, with_shortcut: bool, first: list[str], sent: str, second: list[str], new: str
) -> None:
    model = Model(*([*([TextDelta(text)] for text in texts), [Finish("stop")]] for texts in (first, second)))
    found: list[Event] = []
    shortcut = (lambda text: not found.append(TextDelta(text))) if with_shortcut else None
    for events in emulate(prepared(stream, harmony=True), model.ask, Characters(), str, shortcut):
        found += events
    if not sent:
        new = "".join(second).rpartition("|>")[2]
    assert text_of(found) == sent + new
    assert len(reasoning_of(found)) in (0, 2)
    assert reason_of(found) == "stop"


def test_text_that_was_taken_back_before_a_fault_has_not_gone_out() -> None:
    model = Model(
        [[TextDelta("<|channel|>final<|message|>old")], [TextReplaced(f"Let me see. {SEARCH}"), Finish("stop")]],
        [[TextDelta("Let me see. It is noon.")], [Finish("stop")]],
    )
    found = flat(run(model, prepared(harmony=True)))
    assert found == [
        TextDelta("old"),
        TextReplaced("Let me see. "),
        TextDelta("It is noon."),
        Finish("stop"),
    ]


@pytest.mark.parametrize(
    ("first", "options"),
    [
        ([[ReasoningDelta("Hm.")], [TextDelta(UNKNOWN)]], {"tools": [WEATHER]}),  # there is no text to repeat
        ([[TextDelta("Well. ")], [TextDelta(SEARCH)]], {}),  # no call can come
    ],
)
def test_an_answer_of_a_second_try_streams(first: list[Step], options: dict[str, Any]) -> None:
    model = Model(first, [[TextDelta("It ")], [TextDelta("is ")], [TextDelta("noon.")], [Finish("stop")]])
    said = [text_of(events) for events in run(model, prepared(True, harmony=True, **options))]
    assert [text.strip() for text in said if text][-3:] == ["It", "is", "noon."]


def test_json_of_a_stream_is_sent_once_whether_a_call_follows_it_or_not() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": JSON_SCHEMA}}
    first: list[Step] = [[TextDelta('Here: {"a": 1}\n')], [TextDelta(UNKNOWN)]]
    for second, calls in ((f'{{"a": 1}} {RIGHT}', 1), ('```{"a": 1}```', 0)):
        model = Model(list(first), [[TextDelta(second)], [Finish("stop")]])
        found = flat(run(model, prepared(True, tools=[WEATHER], response_format=form)))
        assert (text_of(found), len(calls_of(found))) == ('{"a": 1}', calls)
    model = Model(list(first), [[TextDelta('{"a": 2}')], [Finish("stop")]])
    with pytest.raises(GatewayError, match="began twice"):
        run(model, prepared(True, tools=[WEATHER], response_format=form))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_a_stop_word_before_a_faulty_call_ends_the_answer(stream: bool, together: bool) -> None:
    texts = [f"a STOP {FAULTY}"] if together else ["a ST", "OP", FAULTY]
    model = Model([*([TextDelta(text)] for text in texts), [Finish("stop")]])
    found = flat(run(model, prepared(stream, tools=[WEATHER], stop="STOP")))
    assert (text_of(found), reason_of(found), len(model.asked)) == ("a ", "stop", 1)


def test_an_answer_with_calls_ends_with_calls_whatever_follows_them() -> None:
    model = Model([[TextDelta(f"{RIGHT}\nSTOP")], [Finish("stop")]])
    found = flat(run(model, prepared(True, tools=[WEATHER], stop="STOP")))
    assert (len(calls_of(found)), reason_of(found)) == (1, "tool_calls")


@pytest.mark.parametrize("form", [STRICT, {"type": "json_object"}])
def test_json_that_is_whole_ends_the_answer(form: Any) -> None:
    model = Model([[TextDelta('{"a": 1}')], [TextDelta("\n")], [TextDelta("and so on")]])
    found = flat(run(model, prepared(True, response_format=form)))
    assert (text_of(found), reason_of(found), model.closed) == ('{"a": 1}', "stop", [True])


def test_a_long_event_is_looked_at_in_parts() -> None:
    model = Model([[Started("t"), TextDelta("a" * 100_000)], [TextDelta("b"), Finish("stop")]])
    lists = run(model, prepared(True, stop="STOP"))
    assert len(lists) > 10
    assert text_of(flat(lists)) == "a" * 100_000 + "b"


@pytest.mark.parametrize("shortcut", [None, bool])
def test_what_is_kept_of_a_long_answer_is_little_more_than_its_text(shortcut: Shortcut | None) -> None:
    model = Model([TextDelta(f"{number:05} word ")] for number in range(10_000))  # type: ignore[arg-type]
    lists = iter(emulate(prepared(True, harmony=True), model.ask, Characters(), str, shortcut))
    tracemalloc.start()
    try:
        for _ in lists:
            pass
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.5 * 10_000 * 11


@pytest.mark.parametrize(
    "pieces",
    [
        ["{", *["\n"] * 40_000],
        ["<|start|>"] * 20_000,
        ["<|start|>" * 20_000],
        ['[#1 call f] {"', *["a"] * 20_000],
        ['[#1 call f] {"a": "', *["\\"] * 20_000],
        ["[#1 call f] {} " * 10_000],
    ],
    ids=["space", "tags", "tags at once", "a long name", "escapes", "calls at once"],
)
def test_no_text_costs_more_than_in_proportion(pieces: list[str]) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    emulation = prepared(True, harmony=True, tools=tools, response_format={"type": "json_object"}, stop=["a" * 99])
    model = Model([*([TextDelta(piece)] for piece in pieces), [Finish("length")]])
    started = time.process_time()
    list(emulate(emulation, model.ask, Characters(), str))
    assert time.process_time() - started < 4


@pytest.mark.parametrize("stream", [True, False])
def test_strict_json_is_held_until_it_fits(stream: bool) -> None:
    model = Model(
        [[TextDelta('{"a": "x"}')], [Finish("stop")]],
        [[TextDelta('Sorry: {"a"')], [TextDelta(": 1}"), Finish("stop")]],
    )
    lists = run(model, prepared(stream, response_format=STRICT))
    assert flat(lists) == [TextDelta('{"a": 1}'), Finish("stop")]
    assert "must fit this JSON schema" in model.asked[1].messages[-1].text


def test_json_that_is_not_strict_streams_and_an_invalid_end_is_an_error() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": JSON_SCHEMA}}
    model = Model([[TextDelta('```\n{"a": ')], [TextDelta('"x"}\n```')], [Finish("stop")]])
    said: list[Event] = []
    with pytest.raises(GatewayError) as caught:
        said.extend(one_by_one(emulate(prepared(True, response_format=form), model.ask, Characters(), str)))
    assert caught.value.code == "response_format_invalid"
    assert said == [TextDelta('{"a": '), TextDelta('"x"}')]
    assert len(model.asked) == 1


def test_tools_and_json_go_together() -> None:
    emulation = prepared(tools=[WEATHER], response_format=STRICT, stop=["]"])
    assert calls_of(flat(run(Model([[TextDelta(RIGHT), Finish("stop")]]), emulation)))
    model = Model([[TextDelta('Well: {"a": 1}'), Finish("stop")]])
    assert text_of(flat(run(model, emulation))) == '{"a": 1}'


def test_harmony_is_no_text_and_its_calls_are_calls() -> None:
    text = "<|channel|>analysis<|message|>Hm<|end|><|channel|>commentary to=functions.now<|message|>{}<|call|>"
    model = Model([[TextDelta(text), Finish("stop")]])
    assert flat(run(model, prepared(harmony=True, tools=[NOW]))) == [
        ReasoningDelta("Hm"),
        ToolCallDelta(0, "call_1", "now"),
        ToolCallDelta(0, arguments="{}"),
        Finish("tool_calls"),
    ]
    model = Model([[TextDelta(text), Finish("stop")]], [[TextDelta("It is noon."), Finish("stop")]])
    assert flat(run(model, prepared(harmony=True))) == [ReasoningDelta("Hm"), TextDelta("It is noon."), Finish("stop")]


def test_usage_is_that_of_all_tries_or_left_to_be_counted() -> None:
    first: list[Step] = [[TextDelta(FAULTY), Usage(10, 5, 1, 2), Finish("stop")]]
    second: list[Step] = [[TextDelta(RIGHT), Usage(20, 6), Finish("stop")]]
    tools = prepared(tools=[NOW, WEATHER])  # the first is cut before it tells
    assert not any(isinstance(event, Usage) for event in flat(run(Model(first, second), tools)))
    missing: list[Step] = [[TextDelta("No.")], [Usage(10, 5, 1, 2), Finish("stop")]]
    required = prepared(tools=[WEATHER], tool_choice="required")
    assert flat(run(Model(missing, second), required))[-2:] == [Usage(30, 11, 1, 2), Finish("tool_calls")]
    streamed = prepared(True, tools=[WEATHER], tool_choice="required")
    found = flat(run(Model([list(step) for step in missing], second), streamed))
    assert (text_of(found), found[-2:]) == ("No.", [Usage(30, 11, 1, 2), Finish("tool_calls")])
    cut = Model([[TextDelta("abc"), Usage(1, 1), Finish("stop")]])
    assert flat(run(cut, prepared(stop="b"))) == [TextDelta("a"), Finish("stop", stop="b")]


def test_text_that_is_taken_back_is_filtered_anew_while_nobody_has_seen_it() -> None:
    script: list[Step] = [[TextDelta("old")], [TextReplaced("new STOP x"), Finish("stop")]]
    whole = flat(run(Model(script), prepared(stop="STOP")))
    assert whole == [TextDelta("old"), TextReplaced("new "), Finish("stop", stop="STOP")]
    kept: list[Step] = [[TextDelta("a "), TextDelta("old")], [TextReplaced("new STOP x", ((0, 0, 2),)), Finish("stop")]]
    assert flat(run(Model(kept), prepared(stop="STOP")))[2:] == [TextReplaced("a new "), Finish("stop", stop="STOP")]
    streamed = flat(run(Model(script), prepared(True, stop="STOP")))
    assert streamed == [TextDelta("old"), Finish("stop")]
    held = flat(
        run(Model([[TextDelta('{"a"')], [TextReplaced('{"a": 1}'), Finish("stop")]]), prepared(response_format=STRICT))
    )
    assert held == [TextReplaced('{"a": 1}'), Finish("stop")]


@pytest.mark.parametrize("options", [{"stop": "xyz"}, {"max_tokens": 30_000}])
def test_a_long_text_comes_in_parts_between_which_others_have_their_turn(options: dict[str, Any]) -> None:
    model = Model([[TextDelta("ab" * 20_000)], [Finish("stop")]])
    lists = run(model, prepared(True, **options))
    texts = [len(event.text) for events in lists for event in events if isinstance(event, TextDelta)]
    assert max([0, *texts]) <= 8192
    assert all(not (lists[at] and lists[at + 1]) for at in range(4))  # a sign of life behind each


def test_a_held_answer_tells_its_beginning_also_when_all_of_it_comes_at_once() -> None:
    model = Model([[Started("t"), TextDelta('{"a": 1}'), Finish("stop")]])
    lists = run(model, prepared(False, response_format={"type": "json_object"}))
    assert flat(lists) == [Started("t"), TextDelta('{"a": 1}'), Finish("stop")]


last_lists = st.tuples(
    st.booleans(),
    st.lists(st.sampled_from(["a", "", "<", "<|channel|>analysis<|message|>hm<|end|>", "[#1 call f] {}", "STOP"])),
    st.sampled_from(
        [[], [Usage(1, 2)], [ReasoningDelta("r")], [ToolCallDelta(0, "c", "f", "{}")], [TextReplaced("b")]]
    ),
    st.sampled_from(["stop", "length"]),
).map(
    lambda drawn: [
        *([Started("x")] if drawn[0] else []),
        *map(TextDelta, drawn[1]),
        *drawn[2],
        Finish(drawn[3]),
    ]
)


@given(
    st.lists(st.sampled_from([[], [TextDelta("a")], [TextDelta("<|cha")], [Usage(3, 4)]]), max_size=2),
    last_lists,
    st.sampled_from([{}, {"stop": "STOP"}, {"max_tokens": 2}, {"tools": [WEATHER]}]),
    st.booleans(),
)
def test_an_end_that_nothing_changes_is_the_end_that_all_filters_would_let_through(
    before: list[list[Event]], last: list[Event], options: dict[str, Any], harmony: bool
) -> None:
    def told() -> Any:
        model = Model([*map(list, before), list(last)], [[TextDelta("b"), Finish("stop")]])
        lists = emulate(prepared(True, harmony=harmony, **options), model.ask, Characters(), lambda: "id")
        found: list[Any] = []
        try:
            found.extend(lists)
        except GatewayError as error:
            found.append(repr(error))
        return found, model.asked

    at_once = told()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpt_oss_proxy.emulation.chain._Try._are_all", lambda _try, _events: False)
        assert told() == at_once


@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "b c",
                "<|channel|>analysis<|message|>",
                "<|end|>",
                "STO",
                "P",
                "[#1 ",
                "call get_weather] {",
                "}",
                "{",
            ]
        ),
        max_size=8,
    ),
    st.sampled_from(
        [{}, {"stop": "STOP"}, {"max_tokens": 6}, {"tools": [WEATHER]}, {"response_format": {"type": "json_object"}}]
    ),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_a_shortcut_is_taken_by_what_no_filter_would_change_and_leaves_nothing_out(
    texts: list[str], options: dict[str, Any], harmony: bool, stream: bool, data: st.DataObject
) -> None:
    script: list[Step] = [[TextDelta(text)] for text in texts]
    second: list[Step] = [[TextDelta("b")], [Finish("stop")]]
    is_open = data.draw(st.lists(st.booleans(), min_size=10, max_size=10))

    def told(*, with_shortcut: bool) -> Any:
        model = Model([*script, [Finish("stop")]], second)
        found: list[Any] = []
        opened = iter(is_open * 2)

        def shortcut(text: str) -> bool:
            if is_taken := next(opened):
                found.append(TextDelta(text))
            return is_taken

        emulation = prepared(stream, harmony=harmony, **options)
        lists = emulate(emulation, model.ask, Characters(), lambda: "id", shortcut if with_shortcut else None)
        try:
            for events in lists:
                found += events
        except GatewayError as error:
            found.append(repr(error))
        return found, model.asked

    assert told(with_shortcut=True) == told(with_shortcut=False)


def test_nothing_takes_a_shortcut_past_what_is_held_back_or_behind_the_end() -> None:
    told: list[str] = []

    def shortcut(text: str) -> bool:
        told.append(text)
        return True

    model = Model([[TextDelta('{"a": 1}')], [TextDelta(" ")], [Finish("stop")]])
    lists = emulate(prepared(response_format=STRICT), model.ask, Characters(), str, shortcut)
    assert flat(lists) == [TextDelta('{"a": 1}'), Finish("stop")]
    model = Model([[TextDelta("ab")], [TextDelta("cd")], [TextDelta("x" * 10_000)], [Finish("stop")]])
    lists = emulate(prepared(True, harmony=True), model.ask, Characters(), str, shortcut)
    assert flat(lists) == [TextDelta("x" * 8192), TextDelta("x" * 1808), Finish("stop")]
    assert told == ["ab", "cd"]
