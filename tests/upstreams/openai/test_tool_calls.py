"""Which call an element belongs to, in all the ways in which servers write their calls."""

import itertools
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import ToolCallDelta
from gpt_oss_proxy.chat.request import ToolCall
from gpt_oss_proxy.errors import UpstreamProtocolError
from gpt_oss_proxy.upstreams.openai.tool_calls import ToolCalls, new_call_id
from tests.doubles import collect, measuring

Element = dict[str, Any]


class Told:
    """Calls that write down what they tell. Ids that are made are `new-1`, `new-2`, …"""

    def __init__(self) -> None:
        self.events: list[ToolCallDelta] = []
        ids = itertools.count(1)
        self.calls = ToolCalls(self._emit, lambda: f"new-{next(ids)}")

    def _emit(
        self, index: int, *, call_id: str = "", name: str = "", arguments: str = "", extra: Element | None = None
    ) -> None:
        self.events.append(ToolCallDelta(index, call_id, name, arguments, dict(extra or {})))

    @property
    def joined(self) -> tuple[ToolCall, ...]:
        return collect([[*self.events]]).choices[0].tool_calls


def element(index: Any = None, call_id: Any = None, name: Any = None, arguments: Any = None, **extra: Any) -> Element:
    """Return an element without the fields that are None."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {key: value for key, value in (("index", index), ("id", call_id)) if value is not None}
    return {**fields, "type": "function", "function": function, **extra}


def told(*deltas: Any) -> tuple[ToolCall, ...]:
    """Return the calls of these elements, each in a delta of its own."""
    found = Told()
    for delta in deltas:
        found.calls.take(delta)
    found.calls.finish()
    assert_is_well_formed(found.events)
    return found.joined


def assert_is_well_formed(events: list[ToolCallDelta]) -> None:
    begun = 0
    for event in events:
        if event.name:
            assert (event.index, bool(event.id)) == (begun, True), "calls are counted without gaps, and have an id"
            begun += 1
        assert event.index < begun


def call(call_id: str, name: str, arguments: str = "{}", **extra: Any) -> ToolCall:
    return ToolCall(call_id, name, arguments, extra)


OSLO, ROME = '{"city":"Oslo"}', '{"city":"Rome"}'


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        # as OpenAI has it
        ([element(0, "a", "f", ""), element(0, arguments='{"x"'), element(0, arguments=":1}")],
         [call("a", "f", '{"x":1}')]),
        ([element(0, "a", "f", "{"), element(1, "b", "g", "{"), element(0, arguments="}"), element(1, arguments="}")],
         [call("a", "f"), call("b", "g")]),
        # with id and name each time
        ([element(0, "a", "f", '{"x"'), element(0, "a", "f", ":1}")], [call("a", "f", '{"x":1}')]),
        # an id that is empty is none
        ([element(0, "a", "f", '{"x"'), element(0, "", "", ":1}")], [call("a", "f", '{"x":1}')]),
        # a new id begins a call, even under a used index
        ([element(0, "a", "f", OSLO), element(0, "b", "f", ROME)], [call("a", "f", OSLO), call("b", "f", ROME)]),
        ([element(0, "a", "f"), element(0, "b", "f")], [call("a", "f"), call("b", "f")]),
        ([element(0, "a", "f", "{"), element(0, "b", "f", OSLO), element(0, "a", arguments="}")],
         [call("a", "f"), call("b", "f", OSLO)]),
        ([element(0, "a", "f", OSLO), element(0, "b"), element(0, "b", "g")], [call("a", "f", OSLO), call("b", "g")]),
        # without an id another name does
        ([element(0, name="f", arguments=OSLO), element(0, name="g", arguments=ROME)],
         [call("new-1", "f", OSLO), call("new-2", "g", ROME)]),
        ([element(0, name="f", arguments=OSLO), element(0, name="f", arguments=ROME)],
         [call("new-1", "f", OSLO), call("new-2", "f", ROME)]),
        ([element(0, name="f"), element(0, name="g")], [call("new-1", "f"), call("new-2", "g")]),
        ([element(0, "a", "f", OSLO), element(0, name="f", arguments=ROME)],
         [call("a", "f", OSLO), call("new-1", "f", ROME)]),
        # but not the same one that comes with each piece, or behind the arguments
        ([element(0, name="f", arguments='{"x":'), element(0, name="f", arguments='{"}":1'),
          element(0, name="f", arguments="}}")], [call("new-1", "f", '{"x":{"}":1}}')]),
        ([element(0, name="f", arguments=OSLO), element(0, name="f", arguments="")], [call("new-1", "f", OSLO)]),
        ([element(0, name="f"), element(0, name="f", arguments=OSLO)], [call("new-1", "f", OSLO)]),
        # else the index decides
        ([element(0, name="f"), element(1, name="f"), element(0, arguments=OSLO), element(1, arguments=ROME)],
         [call("new-1", "f", OSLO), call("new-2", "f", ROME)]),
        ([element("0", name="f"), element(0, arguments=OSLO)], [call("new-1", "f", OSLO)]),
        ([element(-1, name="f", arguments=OSLO), element(10**18, name="f", arguments=ROME)],
         [call("new-1", "f", OSLO), call("new-2", "f", ROME)]),
        # and where there is none, elements are whole calls
        ([element(name="f", arguments=OSLO), element(name="f", arguments=ROME)],
         [call("new-1", "f", OSLO), call("new-2", "f", ROME)]),
        ([element(name="f"), element(name="f")], [call("new-1", "f"), call("new-2", "f")]),
        ([[element(None, "a", "f", OSLO), element(None, "b", "f", ROME)]],
         [call("a", "f", OSLO), call("b", "f", ROME)]),
        ([element(True, name="f"), element(True, name="f")], [call("new-1", "f"), call("new-2", "f")]),
        # unless they bring neither name nor id
        ([element(None, "a", "f"), element(arguments="{"), element(arguments="}")], [call("a", "f")]),
        # an id may come late
        ([element(0, name="f"), element(0, "a", arguments=OSLO)], [call("new-1", "f", OSLO)]),
        ([element(0, arguments="{"), element(0, "a", arguments="}"), element(0, name="f")], [call("a", "f")]),
        ([element(0, name="f"), element(0, "a", arguments=OSLO), element(0, "b", "f", ROME)],
         [call("new-1", "f", OSLO), call("b", "f", ROME)]),
        # and so may a name
        ([element(0, "a", ""), element(0, "a", "f", OSLO)], [call("a", "f", OSLO)]),
        ([element(0, "a", arguments='{"x"'), element(0, arguments=":"), element(0, name="f", arguments="1}")],
         [call("a", "f", '{"x":1}')]),
        ([element(0, arguments=OSLO), element(0, "a", "f")], [call("a", "f", OSLO)]),
        ([element(arguments=OSLO), element(name="f")], [call("new-1", "f", OSLO)]),
        ([element(0, "a"), element(1, "b", "g", ROME), element(0, "a", "f", OSLO)],
         [call("b", "g", ROME), call("a", "f", OSLO)]),
        # one id for all calls
        ([element(0, "x", "f", OSLO), element(1, "x", "g", ROME)], [call("x", "f", OSLO), call("new-1", "g", ROME)]),
        # ids that are numbers
        ([element(0, 0, "f", OSLO), element(0, 1, "f", ROME)], [call("0", "f", OSLO), call("1", "f", ROME)]),
        # an object in place of a list, and a call without `function` around it
        ([element(0, "a", "f", OSLO)], [call("a", "f", OSLO)]),
        ([[{"id": "a", "name": "f", "arguments": {"city": "Oslo"}}]], [call("a", "f", OSLO)]),
        # what says nothing is nothing
        ([[], {}, element(7), element(0, "a", "f")], [call("a", "f")]),
        ([element(0, "a", "f"), {}, element(1, arguments="")], [call("a", "f")]),
    ],
)  # fmt: skip
def test_each_element_finds_its_call(deltas: list[Any], calls: list[ToolCall]) -> None:
    assert told(*deltas) == tuple(calls)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (None, "{}"),
        ("", "{}"),
        (" \n", " \n{}"),
        ({}, "{}"),
        ({"city": "Zürich", "n": [1, None]}, '{"city":"Zürich","n":[1,null]}'),
        ([], "[]"),
        ("{not json", "{not json"),
    ],
)
def test_arguments_may_be_an_object_or_missing(arguments: Any, text: str) -> None:
    assert told(element(0, "a", "f", arguments)) == (call("a", "f", text),)


def test_a_call_is_told_when_its_name_is_known_and_then_as_it_comes() -> None:
    found = Told()
    found.calls.take([element(0, "a", arguments="{")])
    assert (found.events, bool(found.calls)) == ([], False)
    found.calls.take([element(0, name="f")])
    assert (found.events, bool(found.calls)) == ([ToolCallDelta(0, "a", "f"), ToolCallDelta(0, arguments="{")], True)
    found.calls.take([element(0, arguments="}")])
    found.calls.take([element(0, arguments="")])
    found.calls.finish()
    assert found.events[2:] == [ToolCallDelta(0, arguments="}")]


@pytest.mark.parametrize(
    "deltas",
    [
        [element(0, arguments="{}")],
        [element(0, "a")],
        [element(0, "a", "f", "{}"), element(0, "b", arguments="{}")],
        [element(0, name="f"), element(0, "a", arguments="{"), element(0, "b", arguments="}")],
        [element(0, "a", arguments="{"), element(0, "b", "f", "{}")],
        [{"type": "custom", "id": "a", "custom": {"name": "f", "input": "x"}}],
    ],
)
def test_a_call_that_never_gets_a_name_is_an_error(deltas: list[Element]) -> None:
    with pytest.raises(UpstreamProtocolError):
        told(*deltas)


@pytest.mark.parametrize("elements", [7, "x", [7], [None], [[]], [element(0, "a", "f"), "x"]])
def test_what_is_no_call_is_a_protocol_error(elements: Any) -> None:
    with pytest.raises(UpstreamProtocolError):
        Told().calls.take(elements)


def test_an_id_that_is_made_is_unlike_all_others() -> None:
    ids = {new_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(each.startswith("call_") for each in ids)


def test_fields_beside_a_call_are_kept_whenever_they_come() -> None:
    google = {"google": {"thought_signature": "c2ln"}}
    early = told(element(0, "a", extra_content=google, nothing=None), element(0, name="f"))
    late = told(element(0, "a", "f"), element(0, extra_content=google))
    flat = told({"id": "a", "name": "f", "extra_content": google})
    assert early == late == flat == (call("a", "f", extra_content=google),)


def test_the_older_spelling_is_one_call() -> None:
    found = Told()
    for function in ({"name": "f", "arguments": ""}, {"arguments": '{"x"'}, {"name": None, "arguments": ":1}"}):
        found.calls.take_older(function)
    found.calls.finish()
    assert found.joined == (call("new-1", "f", '{"x":1}'),)
    with pytest.raises(UpstreamProtocolError):
        found.calls.take_older("f")


NAMES = st.sampled_from(["f", "g"])
TEXTS = st.sampled_from([OSLO, ROME, '{"a":"}\\"{"}', "{}"])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(NAMES, TEXTS), min_size=1, max_size=4),
    st.lists(st.integers(0, 20), max_size=6),
    st.sampled_from(["id", "index", "both", "ids under one index", "names under one index"]),
    st.booleans(),
)
def test_calls_are_the_same_wherever_their_arguments_are_cut(
    calls: list[tuple[str, str]], cuts: list[int], by: str, repeats: bool
) -> None:
    """`repeats`: the server says the id and the name again with each piece."""
    deltas = []
    for number, (name, arguments) in enumerate(calls):
        call_id = f"c{number}" if "id" in by or by == "both" else None
        index = 0 if "one index" in by else number if by != "id" else None
        if by == "index" or by.startswith("names"):
            call_id = None
        places = sorted({min(cut, len(arguments)) for cut in cuts} | {0, len(arguments)})
        for start, stop in itertools.pairwise(places):
            is_first = start == 0
            deltas.append(
                element(
                    index,
                    call_id if is_first or repeats or index is None else None,
                    name if is_first or repeats else None,
                    arguments[start:stop],
                )
            )
    assert [(found.name, found.arguments) for found in told(*deltas)] == calls


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.builds(
            element,
            st.sampled_from([None, 0, 1, "1"]),
            st.sampled_from([None, "", "a", "b", 7]),
            st.sampled_from([None, "", "f", "g"]),
            st.sampled_from([None, "", "{", "}", "{}", {}]),
            x=st.sampled_from([None, 1]),
        )
    )
)
def test_any_elements_are_well_formed_calls_or_an_error(deltas: list[Element]) -> None:
    try:
        calls = told(*deltas)
    except UpstreamProtocolError:
        return
    assert len({found.id for found in calls}) == len(calls)


@pytest.mark.parametrize("arguments", ["y", "{", "}", " ", '{"a":"', "{}"])
def test_a_name_that_comes_with_each_piece_costs_no_more_than_its_length(arguments: str) -> None:
    def seconds(pieces: int) -> float:
        calls = ToolCalls(lambda *_, **__: None, lambda: "call_1")
        piece = element(0, name="f", arguments=arguments)
        with measuring():
            begun = time.process_time()
            for _ in range(pieces):
                calls.take(piece)
            return time.process_time() - begun

    # Once is enough, unless something else has just kept the processor busy.
    assert any(seconds(24_000) < 0.1 + 16 * seconds(3_000) for _ in range(3))


@pytest.mark.parametrize("name", ["parameters", "input"])
def test_arguments_have_other_names(name: str) -> None:
    found = told([{"id": "a", "function": {"name": "f", name: {"a": 1}}}])
    assert [call.arguments for call in found] == ['{"a":1}']


def test_two_whole_calls_under_one_id_are_two_and_one_that_is_told_again_is_one() -> None:
    first, second = (element(0, "a", name="f", arguments=text) for text in ('{"a":1}', '{"a":2}'))
    assert [call.arguments for call in told(first, second)] == ['{"a":1}', '{"a":2}']
    assert [call.arguments for call in told(first, first)] == ['{"a":1}']
