"""Each row of the ChatKit decision table, each pitfall of its wire, and whatever else a hostile server could send."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import (
    Finish,
    ReasoningDelta,
    Started,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
)
from gpt_oss_proxy.chat.request import ToolCall
from gpt_oss_proxy.errors import (
    RateLimited,
    UpstreamAuthRequired,
    UpstreamEmpty,
    UpstreamFailed,
    UpstreamIncomplete,
    UpstreamProtocolError,
    UpstreamTooLarge,
)
from gpt_oss_proxy.upstreams.chatkit.decoder import ChatKitDecoder
from tests.upstreams.decoding import (
    SIZES,
    Outcome,
    assert_cost_is_linear,
    assert_reads_do_not_matter,
    decode,
    fail,
    run,
    said,
    sse_bytes,
    thought,
)

Wire = dict[str, Any]


def decoder(*, tools: bool = False, limit: int = 2**24) -> ChatKitDecoder:
    return ChatKitDecoder(limit, tools_offered=tools)


def answer(*events: Any, tools: bool = False, cut: bool = False) -> Outcome:
    return decode(decoder(tools=tools), sse_bytes(*events), cut=cut)


def stopped(text: str = "", **rest: Any) -> Outcome:
    return Outcome(**{"text": text, "finish": "stop", **rest})


def failed(error: type, text: str = "", **rest: Any) -> Outcome:
    return Outcome(text=text, error=error, **rest)


# The published dialect's events


def item(kind: str, what: Wire) -> Wire:
    return {"type": f"thread.item.{kind}", "item": what}


def message(*texts: str, id: str = "m") -> Wire:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"id": id, "type": "assistant_message", "content": content}


def added(*texts: str, id: str = "m") -> Wire:
    return item("added", message(*texts, id=id))


def done(*texts: str, id: str = "m") -> Wire:
    return item("done", message(*texts, id=id))


def updated(kind: str, id: str = "m", **fields: Any) -> Wire:
    return {"type": "thread.item.updated", "item_id": id, "update": {"type": kind, **fields}}


def delta(text: str, *, id: str = "m", part: int = 0) -> Wire:
    return updated("assistant_message.content_part.text_delta", id, content_index=part, delta=text)


def part(kind: str, text: str, *, id: str = "m", part: int = 0) -> Wire:
    return updated(f"assistant_message.content_part.{kind}", id, content_index=part, content={"text": text})


def removed(id: str = "m") -> Wire:
    return {"type": "thread.item.removed", "item_id": id}


def task(kind: str, content: str, *, index: int = 0, type: str = "thought") -> Wire:
    return updated(f"workflow.task.{kind}", "w", task_index=index, task={"type": type, "content": content})


def workflow(*contents: str) -> Wire:
    tasks = [{"type": "thought", "content": content} for content in contents]
    return {"id": "w", "type": "workflow", "workflow": {"type": "reasoning", "tasks": tasks}}


def tool_call(call_id: str = "c", **fields: Any) -> Wire:
    call = {"id": "i", "type": "client_tool_call", "call_id": call_id, "name": "look", "arguments": {"a": 1}, **fields}
    return item("done", call)


def widget(*values: str, id: str = "x", **fields: Any) -> Wire:
    children = [{"type": "Text", "value": value} for value in values]
    return item("done", {"id": id, "type": "widget", "widget": {"type": "Card", "children": children}, **fields})


def image(url: str | None, *, id: str = "g") -> Wire:
    return item("done", {"id": id, "type": "generated_image", "image": {"id": "i", "url": url}})


REPORTS = "The model's server reports an error: "
CREATED = {"type": "thread.created", "thread": {"id": "thr_1"}}
USER = item("done", {"id": "u", "type": "user_message", "content": [{"type": "input_text", "text": "Hi"}]})
HI = [added(), delta("Hi"), done("Hi")]


# The decision table, in its order


def test_nothing_is_told_before_the_first_output():
    reader = decoder()
    assert reader.feed(sse_bytes(USER, {"type": "stream_options", "stream_options": {"allow_cancel": True}})) == []


def test_the_thread_is_told_once():
    events = run(decoder(), sse_bytes(CREATED, CREATED, *HI))[0]
    assert events == [Started("thr_1"), TextDelta("Hi"), Finish("stop")]


@pytest.mark.parametrize(
    "event",
    [
        USER,
        {"type": "stream_options", "stream_options": {"allow_cancel": True}},
        {"type": "progress_update", "text": "Searching…", "icon": "search"},
        {"type": "client_effect", "name": "highlight", "data": {}},
        {"type": "thread.updated", "thread": {"id": "thr_1", "title": "A title"}},
        {"type": "notice", "level": "warning", "message": "You have **3** messages left."},
        {"type": "notice", "level": "danger", "message": "Almost at the limit."},
        updated("assistant_message.content_part.annotation_added", content_index=0, annotation={"type": "annotation"}),
        updated("widget.streaming_text.value_delta", "x", delta="no text"),
        updated("widget.root.updated", "x", widget={}),
        updated("generated_image.updated", "g", image={"url": "https://example.com/half.png"}, progress=0.5),
        task("added", "searched", type="web_search"),
        task("added", "a file", type="file"),
        updated("an.update.of.tomorrow", "m", delta=7),
        item("done", {"id": "e", "type": "end_of_turn"}),
        item("done", {"id": "t", "type": "task", "task": {"type": "custom", "content": "x"}}),
        item("done", {"id": "s", "type": "structured_input"}),
        item("done", {"id": "h", "type": "hidden_context_item", "content": "x"}),
        item("added", {"id": "q", "type": "an_item_of_tomorrow", "content": 7}),
        {"type": "an.event.of.tomorrow", "item": 7},
        {"no": "type"},
        b"data: [DONE]\n\n",
    ],
)
def test_events_that_mean_nothing_to_a_client_change_nothing_wherever_they_come(event):
    assert answer(event, *HI) == answer(HI[0], event, *HI[1:]) == answer(*HI, event) == stopped("Hi")


def test_a_danger_notice_without_an_answer_is_the_error():
    event = {"type": "notice", "level": "danger", "message": "The **daily** budget is spent."}
    error = fail(decoder(), sse_bytes(CREATED, USER, event))
    assert type(error) is UpstreamFailed
    assert error.message == "The model's server reports an error: The **daily** budget is spent."


def test_text_of_an_item_that_opens_counts_as_sent():
    assert said(decoder(), sse_bytes(added("Hel"), delta("lo"), done("Hello"))) == ["Hel", "lo"]


def test_a_part_that_opens_tells_only_what_was_not_sent():
    events = [added("Hel"), part("added", "Hello"), delta("!"), done("Hello!")]
    assert said(decoder(), sse_bytes(*events)) == ["Hel", "lo", "!"]


def test_deltas_are_text_as_it_comes():
    assert said(decoder(), sse_bytes(added(), delta("a"), delta(""), delta(" b\n"), done("a b\n"))) == ["a", " b\n"]


def test_parts_are_separated_by_a_blank_line_whether_streamed_or_not():
    streamed = [added(), delta("one"), part("added", "", part=1), delta("two", part=1), done("one", "two")]
    assert answer(*streamed) == answer(done("one", "two")) == stopped("one\n\ntwo")


def test_an_empty_part_needs_no_separator():
    assert answer(done("", "one", "", "two")) == stopped("one\n\ntwo")


@pytest.mark.parametrize("last", [part("done", "Hello, world"), done("Hello, world")])
def test_a_done_that_has_more_text_than_the_deltas_tells_the_rest(last):
    assert said(decoder(), sse_bytes(added(), delta("Hello"), last, done("Hello, world"))) == ["Hello", ", world"]


@pytest.mark.parametrize("whole", ["Hullo", "Hullo, world", "Hell", ""])
def test_a_done_that_differs_from_the_deltas_tells_nothing(whole):
    assert answer(added(), delta("Hello"), part("done", whole), done(whole)) == stopped("Hello")


def test_text_that_comes_only_in_done_is_the_answer():
    assert answer(CREATED, USER, done("Hello")) == stopped("Hello", reference="thr_1")


def test_done_twice_is_one_answer_with_one_finish():
    assert answer(*HI, done("Hi")) == stopped("Hi")


def test_two_messages_of_a_turn_are_both_told_with_a_blank_line_between():
    second = [added(id="n"), delta("Two", id="n"), done("Two", id="n")]
    assert answer(added(), delta("One"), done("One"), *second) == stopped("One\n\nTwo")


def test_a_first_done_message_does_not_vouch_for_a_second_that_is_cut():
    assert answer(*HI, added(id="n"), delta("Tw", id="n")) == failed(UpstreamIncomplete, "Hi\n\nTw")


def test_cumulative_thoughts_are_told_once():
    events = [
        item("added", workflow()),
        task("added", "The"),
        task("updated", "The user"),
        task("updated", "The user"),
        task("added", "Second.", index=1),
        item("done", workflow("The user", "Second.")),
        *HI,
    ]
    assert thought(decoder(), sse_bytes(*events)) == ["The", " user", "\n\nSecond."]
    assert answer(*events) == stopped("Hi", reasoning="The user\n\nSecond.")


def test_long_thoughts_are_told_once_and_not_kept():
    pieces = [f"{number:06} {'thought' * 1000}" for number in range(60)]
    bodies = [sse_bytes(task("updated", "".join(pieces[: number + 1]), index=number // 30)) for number in range(60)]
    reader = decoder()
    tracemalloc.start()
    try:
        told = [sum(len(event.text) for event in reader.feed(body) or []) for body in bodies]
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told == [7007] * 30 + [31 * 7007 + 2] + [7007] * 29
    assert kept < 50_000


def test_a_thought_that_is_rewritten_follows_after_a_blank_line():
    events = [task("added", "The user"), task("updated", "A user"), task("updated", "A user!"), *HI]
    assert answer(*events) == stopped("Hi", reasoning="The user\n\nA user!")


def test_a_workflow_that_comes_only_when_done_is_reasoning():
    assert answer(item("done", workflow("One.", "Two.")), *HI) == stopped("Hi", reasoning="One.\n\nTwo.")


def cot(**entry: Any) -> Wire:
    return {"type": "thread.item_updated", "itemId": "w", "update": {"type": "cot.entry_added", "entry": entry}}


def test_older_entries_are_whole_thoughts_with_blank_lines_between_and_no_recap():
    events = [
        cot(type="thought", content="One.", summary="not this"),
        cot(type="thought", summary="Two."),
        cot(type="recap", summary="Done"),
        cot(type="thought"),
        cot(type="an entry of tomorrow", content="x"),
    ]
    assert answer(*events, *HI) == stopped("Hi", reasoning="One.\n\nTwo.")


def test_a_pending_call_of_an_offered_tool_is_told_in_two_deltas():
    events = run(decoder(tools=True), sse_bytes(CREATED, tool_call(), tool_call("d", arguments={})))[0]
    assert events == [
        Started("thr_1"),
        ToolCallDelta(0, id="c", name="look"),
        ToolCallDelta(0, arguments='{"a":1}'),
        ToolCallDelta(1, id="d", name="look"),
        ToolCallDelta(1, arguments="{}"),
        Finish("tool_calls"),
    ]


def test_a_call_that_is_repeated_is_told_once():
    look = ToolCall("c", "look", '{"a":1}')
    assert answer(tool_call(), tool_call(), tools=True) == Outcome(tool_calls=(look,), finish="tool_calls")


def test_a_call_that_is_answered_already_is_none_of_the_clients_business():
    assert answer(tool_call(status="completed", output=1), *HI, tools=True) == stopped("Hi")


def test_a_call_of_a_tool_that_was_not_offered_is_an_error():
    error = fail(decoder(), sse_bytes(tool_call()))
    assert type(error) is UpstreamFailed
    assert error.message == "The model's server asked for a tool that this request did not offer."


def test_images_are_told_as_markdown_each_once():
    events = [image("https://example.com/1.png"), image("https://example.com/1.png"), image("data:x,2", id="h")]
    text = "![generated image](https://example.com/1.png)\n\n![generated image](data:x,2)"
    assert answer(*events) == stopped(text)


def test_an_image_without_its_url_is_no_answer():
    assert answer(CREATED, image(None)) == failed(UpstreamEmpty, reference="thr_1")


@pytest.mark.parametrize(
    "text",
    [
        "Sign in to continue",
        "Please log in",
        "Login with Hugging Face",
        "Solve this CAPTCHA",
        "Verify that you are human",
        "Your session has expired",
    ],
)
def test_a_widget_that_asks_for_a_login_is_an_error_of_its_own(text):
    error = fail(decoder(), sse_bytes(CREATED, USER, widget(text)))
    assert (type(error), error.should_retry) == (UpstreamAuthRequired, False)


@pytest.mark.parametrize(
    "text", ["Rate limit", "Too many requests", "Daily quota used up", "You reached the message limit"]
)
def test_a_widget_that_speaks_of_limits_is_a_rate_limit(text):
    error = fail(decoder(), sse_bytes(widget(text)))
    assert (type(error), error.retry_after) == (RateLimited, "5")


def test_other_widgets_are_the_answer_if_there_is_no_other():
    nested = {"type": "Card", "value": "1", "children": [{"children": [{"value": "2"}]}, {"value": "3"}]}
    deep = item("done", {"id": "y", "type": "widget", "widget": nested})
    assert answer(deep) == stopped("1\n2\n3")
    assert answer(widget("A", "B"), widget("shown", id="y", copy_text="copied")) == stopped("A\nB\n\ncopied")
    assert answer(widget(copy_text="copied")) == stopped("copied")
    assert answer(widget("A"), *HI) == answer(*HI, widget("Sign in for more")) == stopped("Hi")
    assert answer(widget("A"), removed("x")) == failed(UpstreamEmpty)
    assert answer(widget()) == stopped()


def test_an_answer_that_is_removed_ends_as_filtered_and_keeps_only_what_a_stream_has_shown():
    events = [TextDelta("Hel"), TextReplaced(""), Finish("content_filter")]
    assert run(decoder(), sse_bytes(added(), delta("Hel"), removed())) == (events, None)


def test_the_error_after_a_removal_only_explains_it():
    error = {"type": "error", "code": "custom", "message": "A guardrail tripped.", "allow_retry": False}
    assert answer(added(), delta("Hel"), removed(), error) == Outcome(finish="content_filter")


def test_a_message_after_a_removal_is_the_answer():
    events = [*HI, removed(), added(id="n"), delta("I cannot.", id="n"), done("I cannot.", id="n")]
    assert answer(*events) == stopped("I cannot.")


def test_a_message_after_a_removal_begins_anew_in_a_stream_if_nothing_else_is_left():
    events = [added(), delta("Hel"), removed(), delta("No.", id="n"), done("No.", id="n")]
    said = TextReplaced("", kept=((0, 3, 6),))
    assert run(decoder(), sse_bytes(*events)) == ([TextDelta("Hel"), TextDelta("No."), said, Finish("stop")], None)
    assert said.applied("HelNo.") == "No."


def test_a_message_after_a_removal_is_separated_in_a_stream_from_what_is_left():
    events = [*HI, added(id="n"), delta("Hel", id="n"), removed("n"), delta("No.", id="o"), done("No.", id="o")]
    shown = [TextDelta(text) for text in ("Hi", "\n\nHel", "\n\nNo.")]
    said = TextReplaced("\n\n", kept=((0, 0, 2), (2, 9, 12)))
    assert run(decoder(), sse_bytes(*events)) == ([*shown, said, Finish("stop")], None)
    assert said.applied("Hi\n\nHel\n\nNo.") == "Hi\n\nNo."


def test_a_removal_takes_back_one_message_and_leaves_the_image_before_it():
    events = [image("u"), added(), delta("Hel"), removed(), *[removed("u"), removed("nothing")]]
    assert answer(*events) == Outcome(text="![generated image](u)", finish="content_filter")


def test_an_item_that_is_replaced_by_an_extension_goes_on():
    events = [*HI, item("replaced", message("Hi there"))]
    assert run(decoder(), sse_bytes(*events))[0] == [TextDelta("Hi"), TextDelta(" there"), Finish("stop")]


def test_an_item_that_is_replaced_by_another_text_is_told_at_the_end_for_those_who_can_follow():
    events = [added(), delta("Hi"), item("replaced", message("Bye", "now")), item("replaced", message("Bye", "then"))]
    assert run(decoder(), sse_bytes(*events))[0] == [TextDelta("Hi"), TextReplaced("Bye\n\nthen"), Finish("stop")]


def rewritten(events: list[Wire]) -> str:
    """Return what the items' text is in the end, by a model that keeps all of it."""
    items: dict[str, dict[int, str]] = {}

    def complete(parts: dict[int, str], index: int, text: str) -> None:
        so_far = parts.setdefault(index, "")
        parts[index] = text if text.startswith(so_far) else so_far

    for event in events:
        update = event.get("update", {})
        what = event.get("item", {})
        name = event.get("item_id") or what["id"]
        if event["type"] == "thread.item.removed":
            items.pop(name, None)
            continue
        known, parts = name in items, items.setdefault(name, {})
        new = {index: content["text"] for index, content in enumerate(what.get("content", []))}
        if "delta" in update:
            parts[update["content_index"]] = parts.get(update["content_index"], "") + update["delta"]
        elif update:
            complete(parts, update["content_index"], update["content"]["text"])
        elif (
            event["type"] == "thread.item.replaced"
            and known
            and not all(new.get(index, "").startswith(text) for index, text in parts.items())
        ):
            items[name] = new
        for index, text in new.items():
            complete(items[name], index, text)
    texts = (text for parts in items.values() for _, text in sorted(parts.items()))
    return "\n\n".join(filter(None, texts))


LONG = "x" * 4097
LONG_TEXTS = st.sampled_from(["", "a", "ab", "b", "é", "😀", LONG, LONG + "a", LONG[1:], LONG + "é"])
ID, INDEX = st.sampled_from(["m", "n", "o"]), st.integers(0, 2)
CHANGES = st.one_of(
    st.builds(lambda text, id, index: delta(text, id=id, part=index), LONG_TEXTS, ID, INDEX),
    st.builds(lambda text, id, index: part("done", text, id=id, part=index), LONG_TEXTS, ID, INDEX),
    st.builds(
        lambda kind, texts, id: item(kind, message(*texts, id=id)),
        st.sampled_from(["added", "done", "replaced"]),
        st.lists(LONG_TEXTS, max_size=3),
        ID,
    ),
    st.builds(removed, ID),
)


@settings(deadline=None)
@given(st.lists(CHANGES, min_size=2, max_size=12), st.sampled_from([1000, 1_000_000, None]))
def test_an_answer_that_was_rewritten_is_what_its_items_say_in_the_end(events, size):
    ended = [*events, *(done(id=id) for id in ("m", "n", "o"))]
    found, error = run(decoder(), sse_bytes(*ended), size)
    assert error is None
    if any(isinstance(event, TextReplaced) for event in found):
        assert decode(decoder(), sse_bytes(*ended), size).text == rewritten(ended)


def test_replacing_what_is_not_known_is_like_being_done():
    assert answer(item("replaced", message("Hi"))) == stopped("Hi")
    assert answer(*HI, item("replaced", {"id": "u", "type": "user_message", "content": []})) == stopped("Hi")


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ({"code": "stream.error", "allow_retry": True}, UpstreamFailed, UpstreamFailed.message),
        ({"code": "custom", "message": "Overloaded."}, UpstreamFailed, REPORTS + "Overloaded."),
        ({"code": "custom", "message": "Too many requests"}, RateLimited, REPORTS + "Too many requests"),
        ({"message": "You hit the rate limit"}, RateLimited, REPORTS + "You hit the rate limit"),
        ({"error": {"message": "Sign in first"}}, UpstreamAuthRequired, UpstreamAuthRequired.message),
        ({"detail": "at http://10.0.0.1/x"}, UpstreamFailed, REPORTS + "at […]"),
        ({"message": 7, "error": ["x"]}, UpstreamFailed, UpstreamFailed.message),
        ({"message": "<html>"}, UpstreamFailed, UpstreamFailed.message),
    ],
)
@pytest.mark.parametrize("before", [[], [added(), delta("Hel")]])
def test_an_error_is_an_error_with_and_without_output_before_it(before, event, error, message):
    found = fail(decoder(), sse_bytes(*before, {"type": "error", **event}, *HI))
    assert (type(found), found.message) == (error, message)
    assert answer(*before, {"type": "error", **event}, *HI) == failed(error, "Hel" if before else "")


@pytest.mark.parametrize(("allow_retry", "should_retry"), [(True, None), (False, False), (None, None)])
def test_an_error_that_allows_no_retry_says_so(allow_retry, should_retry):
    assert fail(decoder(), sse_bytes({"type": "error", "allow_retry": allow_retry})).should_retry is should_retry


@pytest.mark.parametrize("event", [{"error": "boom"}, {"detail": "boom"}, {"error": {"message": "boom"}}])
def test_an_error_without_a_type_is_an_error(event):
    assert fail(decoder(), sse_bytes(event)).message == "The model's server reports an error: boom"


def test_a_clean_end_after_done_is_a_stop():
    assert answer(CREATED, USER, *HI) == stopped("Hi", reference="thr_1")


def test_an_empty_message_is_an_empty_answer():
    assert answer(CREATED, added(), done()) == stopped(reference="thr_1")


@pytest.mark.parametrize("events", [[added()], [added(), delta("Hi")], [delta("Hi"), part("done", "Hi")]])
def test_a_clean_end_without_done_is_incomplete(events):
    assert answer(*events).error is UpstreamIncomplete


def test_a_clean_end_after_mere_reasoning_is_incomplete():
    assert answer(task("added", "Hm.")) == failed(UpstreamIncomplete, reasoning="Hm.")


@pytest.mark.parametrize("events", [[], [CREATED, USER], [b": ping\n\n"], [{"type": "tomorrow"}]])
def test_a_clean_end_with_nothing_at_all_is_an_empty_response(events):
    assert answer(*events).error is UpstreamEmpty


def test_a_connection_that_breaks_before_done_is_incomplete():
    assert answer(CREATED, USER, cut=True) == failed(UpstreamIncomplete, reference="thr_1")  # thread-without-cookie
    assert answer(added(), delta("Hel"), cut=True) == failed(UpstreamIncomplete, "Hel")


def test_a_connection_that_breaks_after_done_does_no_harm():
    assert answer(*HI, cut=True) == stopped("Hi")


def test_a_connection_that_breaks_in_the_second_message_is_incomplete():
    assert answer(*HI, added(id="n"), cut=True) == failed(UpstreamIncomplete, "Hi")


@pytest.mark.parametrize("kind", ["workflow", "task", "a_kind_of_tomorrow"])
def test_a_connection_that_breaks_while_other_work_is_open_is_incomplete(kind):
    opened, ended = ({"type": f"thread.item.{event}", "item": {"type": kind, "id": "w"}} for event in ("added", "done"))
    assert answer(*HI, opened, cut=True) == failed(UpstreamIncomplete, "Hi")
    assert answer(*HI, opened, ended, cut=True) == answer(*HI, opened, removed("w"), cut=True) == stopped("Hi")
    assert answer(opened, *HI, cut=True) == failed(UpstreamIncomplete, "Hi")
    assert answer(opened, *HI) == stopped("Hi")  # a clean end says that all is said


def test_nonsense_after_the_answer_does_no_harm():
    assert answer(*HI, b"data: <html>\n\n") == stopped("Hi")


def test_an_error_after_the_answer_is_an_error():
    assert answer(*HI, {"type": "error", "message": "no"}) == failed(UpstreamFailed, "Hi")


def test_completeness_comes_with_done_and_goes_with_the_next_item():
    reader = decoder()
    seen = []
    for event in (CREATED, added(), delta("Hi"), done("Hi"), added(id="n"), done(id="n")):
        reader.feed(sse_bytes(event))
        seen.append((reader.complete, reader.ended))
    assert seen == [(False, False)] * 3 + [(True, False), (False, False), (True, False)]


# Both spellings


@pytest.mark.parametrize(
    "name",
    ["thread.item.done", "thread.item_done", "Thread.Item_Done", "thread_item_done"],
)
def test_event_names_are_understood_in_either_spelling(name):
    assert answer({**done("Hi"), "type": name}) == stopped("Hi")


def test_keys_are_understood_in_camel_case():
    update = {"type": "assistant_message.content_part.text_delta", "contentIndex": 1, "delta": "two"}
    events = [added(), delta("one"), {"type": "thread.item_updated", "itemId": "m", "update": update}]
    assert answer(*events, done("one", "two")) == stopped("one\n\ntwo")
    thoughts = {"type": "workflow.task.added", "taskIndex": 0, "task": {"type": "thought", "content": "Hm."}}
    event = {"type": "thread.item_updated", "itemId": "w", "update": thoughts}
    assert answer(event, item("done", workflow("Hm.")), *HI) == stopped("Hi", reasoning="Hm.")
    assert answer(*HI, {"type": "thread.item_removed", "itemId": "m"}) == Outcome(finish="content_filter")


def anonymous(text: str) -> Wire:
    """No public client of the older dialect reads the ids of updates: perhaps they have none."""
    return {"type": "thread.item_updated", "update": delta(text)["update"]}


def test_deltas_without_an_item_id_belong_to_the_message_that_is_done_after_them():
    assert answer(CREATED, anonymous("Hel"), anonymous("lo"), done("Hello")) == stopped("Hello", reference="thr_1")


def test_deltas_without_an_item_id_belong_to_the_open_message():
    assert answer(added(), anonymous("Hel"), anonymous("lo"), done("Hello")) == stopped("Hello")


def test_two_messages_of_deltas_without_an_item_id_stay_two():
    events = [anonymous("One"), done("One"), anonymous("Two"), done("Two", id="n")]
    assert answer(*events) == stopped("One\n\nTwo")


def test_nothing_at_all_may_have_an_item_id():
    whole = message("Hello")
    del whole["id"]
    assert answer(anonymous("Hel"), anonymous("lo"), item("done", whole), item("done", whole)) == stopped("Hello")


def test_a_delta_without_its_wrapper_is_text():
    assert answer(delta("Hel")["update"], delta("lo")["update"], done("Hello")) == stopped("Hello")


# The bytes


@pytest.mark.parametrize("size", SIZES)
def test_line_ends_comments_missing_spaces_and_several_data_lines_do_not_matter(size):
    text = "line\u2028sep para\u2029sep nel\x85x café 👍🏽"
    lines = json.dumps(delta(text), indent=1, ensure_ascii=False).encode().split(b"\n")
    body = (
        b": ping\r\n\r\nevent: message\r\nid: 7\r\n"
        + b"data:%b\r\n\r\n" % json.dumps(added()).encode()
        + b"".join(b"data: %b\n" % line for line in lines)
        + b"\n: ping\n\n"
        + b"data: %b\r\r" % json.dumps(done(text), ensure_ascii=False).encode()
    )
    assert decode(decoder(), body, size) == stopped(text)


def test_an_event_without_its_closing_blank_line_is_no_event():
    assert answer(*HI[:2], sse_bytes(HI[2])[:-1]) == failed(UpstreamIncomplete, "Hi")


def test_halves_of_a_character_are_joined_across_deltas_and_a_lone_one_is_replaced():
    body = b"".join(
        b"data: %b\n\n" % json.dumps(event).encode()
        for event in (delta("a\ud83d"), delta("\ude00b"), delta("\ud83d"), done())
    )
    assert said(decoder(), body) == ["a", "😀b", "\ufffd"]


@pytest.mark.parametrize("size", SIZES)
def test_an_event_above_the_limit_is_too_large_wherever_it_is_cut(size):
    assert decode(decoder(limit=1000), sse_bytes(delta("x" * 2000)), size) == failed(UpstreamTooLarge)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("data", [b"hello", b"7", b"[]", b"null", b'"x"', b"{", b"\xff", b'{"a":' * 5000, b"<html>"])
def test_what_is_no_json_object_is_a_protocol_error(data, size):
    assert decode(decoder(), b"data: %b\n\n" % data, size) == failed(UpstreamProtocolError)


ODD = [7, -1, 1.5, True, "x", [], ["x"], {}, {"x": 1}, None, 10**18, 10**30]


def odd_events() -> list[Wire]:
    shapes = [
        CREATED,
        USER,
        *HI,
        part("done", "x"),
        task("added", "x"),
        cot(type="thought", content="x"),
        removed(),
        widget("x"),
        tool_call(),
        image("u"),
        item("replaced", message("y")),
        item("done", workflow("x")),
        {"type": "notice", "level": "danger", "message": "x"},
        {"type": "error", "message": "x", "allow_retry": True},
    ]
    return [changed for shape in shapes for changed in changes(shape)]


def changes(value: Any) -> list[Any]:
    """Return the value with each of its inner values replaced by each odd one."""
    if isinstance(value, dict):
        return [*ODD, *({**value, key: odd} for key, inner in value.items() for odd in changes(inner))]
    if isinstance(value, list):
        return [*ODD, *([odd] for inner in value for odd in changes(inner))]
    return ODD


def test_a_value_of_the_wrong_type_anywhere_is_ignored_or_one_of_our_errors():
    for event in odd_events():
        body = sse_bytes(CREATED, delta("x"), event, done("x"))
        run(decoder(tools=True), body)  # raises nothing
        run(decoder(tools=True), sse_bytes(event, event))


@pytest.mark.parametrize("index", [10**18, -1, 10**30, True])
def test_absurd_indexes_cost_nothing(index):
    update = {"type": "assistant_message.content_part.text_delta", "content_index": index, "delta": "x"}
    events = [{"type": "thread.item.updated", "item_id": "m", "update": update}, task("added", "t", index=index)]
    assert answer(*events, done()) == stopped("x", reasoning="t")


@pytest.mark.parametrize("index", [1.0, "1", [1]])
def test_an_index_that_is_no_whole_number_is_a_protocol_error(index):
    update = {"type": "assistant_message.content_part.text_delta", "content_index": index, "delta": "x"}
    assert answer({"type": "thread.item.updated", "item_id": "m", "update": update}) == failed(UpstreamProtocolError)


@pytest.mark.parametrize("depth", [500, 900, 930, 950, 960, 970, 980, 990, 1000, 100_000])
def test_deep_arguments_are_told_or_a_protocol_error(depth):
    arguments = b"[" * depth + b"]" * depth
    body = b'data: {"type":"thread.item.done","item":{"type":"client_tool_call","call_id":"c","arguments":%b}}\n\n'
    assert decode(decoder(tools=True), body % arguments).error in (None, UpstreamProtocolError)


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999"])
def test_arguments_are_json_or_a_protocol_error(number):
    body = (
        b'data: {"type":"thread.item.done","item":{"type":"client_tool_call","call_id":"c","arguments":{"a":%b}}}\n\n'
    )
    assert decode(decoder(tools=True), body % number) == failed(UpstreamProtocolError)


def repeated(number: int, *events: Wire) -> bytes:
    return sse_bytes(*events) * number


def numbered(number: int, make: Callable[[int], list[Wire]]) -> bytes:
    return b"".join(sse_bytes(*make(index)) for index in range(number))


def long(number: int) -> str:
    return "x" * 200 * number


COSTLY: dict[str, Callable[[int], bytes]] = {
    "done after each delta": lambda n: (
        sse_bytes(delta(long(n))) + repeated(n, delta("y"), part("done", "z"), part("added", "z"), done("z"))
    ),
    "removals": lambda n: sse_bytes(done(long(n))) + repeated(n, added("y", id="n"), removed("n")),
    "replacements": lambda n: (
        sse_bytes(done(long(n)), added("y", id="n"))
        + repeated(n, item("replaced", message("a", id="n")), item("replaced", message("b", id="n")))
    ),
    "rewritten thoughts": lambda n: (
        sse_bytes(task("added", long(n))) + repeated(n, task("updated", "a"), task("updated", "b"))
    ),
    "calls": lambda n: numbered(n, lambda index: [tool_call(str(index))]),
    "messages": lambda n: numbered(n, lambda index: [added("x", id=str(index)), done("x", id=str(index))]),
    "parts": lambda n: numbered(n, lambda index: [delta("x", part=index)]) + repeated(n, delta("y")),
    "thoughts": lambda n: numbered(n, lambda index: [task("added", "x", index=-index)]),
    "widgets": lambda n: numbered(n, lambda index: [widget("x", id=str(index))]),
    "deltas without ids": lambda n: repeated(n, CREATED, anonymous("x")),
    "data lines": lambda n: b"data: {\n" + b"data: \n" * 10 * n + b"data: }\n\n",
}


@pytest.mark.parametrize("name", COSTLY)
def test_no_sequence_of_events_costs_more_than_its_length(name):
    assert_cost_is_linear(lambda: decoder(tools=True), COSTLY[name])


# Anything at all

NAMES = st.sampled_from(
    [
        "thread.created",
        "thread.item.added",
        "thread.item_updated",
        "thread.item.done",
        "thread.item.removed",
        "thread.item.replaced",
        "notice",
        "error",
        "assistant_message",
        "workflow",
        "client_tool_call",
        "generated_image",
        "widget",
        "user_message",
        "thought",
        "cot.entry_added",
        "workflow.task.updated",
        "assistant_message.content_part.text_delta",
        "assistant_message.content_part.done",
    ]
)
KEYS = st.sampled_from(
    [
        "type",
        "item",
        "item_id",
        "itemId",
        "update",
        "delta",
        "content",
        "content_index",
        "id",
        "text",
        "entry",
        "task",
        "task_index",
        "workflow",
        "tasks",
        "widget",
        "value",
        "image",
        "url",
        "message",
        "error",
        "arguments",
        "call_id",
        "name",
        "thread",
        "copy_text",
        "status",
    ]
)
IDS = st.sampled_from(["m", "n", "", "pending", "\ud83d", "\ude00"])
EVENTS = st.recursive(
    NAMES | IDS | st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | st.text(max_size=8),
    lambda inner: st.dictionaries(KEYS, inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=10,
)


def known_event(name: str, **fields: Any) -> Any:
    return st.fixed_dictionaries({"type": st.just(name)}, optional=fields)


TEXTS = st.sampled_from(["", "a", "ab", "abc", "b", "\ud83d", "\ude00x"])
MESSAGES = st.builds(lambda texts, id: message(*texts, id=id), st.lists(TEXTS, max_size=2), IDS)
PLAUSIBLE = st.one_of(
    st.builds(lambda kind, what: item(kind, what), st.sampled_from(["added", "done", "replaced"]), MESSAGES),
    st.builds(lambda text, id, index: delta(text, id=id, part=index), TEXTS, IDS, st.integers(-1, 2)),
    st.builds(lambda text, id, index: part("done", text, id=id, part=index), TEXTS, IDS, st.integers(-1, 2)),
    st.builds(removed, IDS),
    st.builds(lambda text, index: task("updated", text, index=index), TEXTS, st.integers(0, 1)),
    st.builds(lambda text: cot(type="thought", content=text), TEXTS),
    st.builds(tool_call, IDS),
    st.builds(widget, TEXTS),
    st.builds(lambda url, id: image(url, id=id), TEXTS, IDS),
    st.just(CREATED),
    known_event("error", message=TEXTS, allow_retry=st.booleans()),
    EVENTS,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(PLAUSIBLE, max_size=8), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]))
def test_any_events_give_events_or_one_of_our_errors_wherever_they_are_cut(events, end):
    body = b"".join(b"data: %b%b" % (json.dumps(event).encode(), end) for event in events)
    assert_reads_do_not_matter(lambda: decoder(tools=True), body)


def test_reasoning_and_text_keep_their_order():
    events = [task("added", "Hm."), delta("Hi"), task("updated", "Hm. More."), done("Hi")]
    found = run(decoder(), sse_bytes(*events))[0]
    assert found == [ReasoningDelta("Hm."), TextDelta("Hi"), ReasoningDelta(" More."), Finish("stop")]
