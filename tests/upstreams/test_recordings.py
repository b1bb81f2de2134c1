"""What real servers sent (tests/upstreams/recordings), decoded, and what was asked of them, built by us."""

import json
from typing import Any

import pytest

from gpt_oss_proxy.chat.events import Usage
from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Text, ToolCall
from gpt_oss_proxy.errors import UpstreamAuthRequired, UpstreamFailed, UpstreamIncomplete, UpstreamProtocolError
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.upstreams.ai_sdk import AiSdk
from gpt_oss_proxy.upstreams.ai_sdk.request import build_body as build_ai_sdk_body
from gpt_oss_proxy.upstreams.base import Upstream
from gpt_oss_proxy.upstreams.chatkit import ChatKit
from gpt_oss_proxy.upstreams.chatkit.request import build_body as build_chatkit_body
from gpt_oss_proxy.upstreams.chatkit.request import build_headers
from tests.upstreams import recorded
from tests.upstreams.decoding import SIZES, TOOLS, Outcome, ask, decode

TRANSPORT = Transport(connect_timeout_seconds=1)
CHATKIT = ChatKit(TRANSPORT, base_url="http://x", dialect="older", effort_default="high", max_event_bytes=2**20)
AI_SDK = AiSdk(
    TRANSPORT,
    url="http://x",
    session_prefix="",
    image_format="image",
    message_format="content",
    max_event_bytes=2**20,
)
UPSTREAMS: dict[str, Upstream] = {
    "chatkit": CHATKIT,
    "chatkit-gptoss-reconstructed": CHATKIT,
    "aisdk-v1": AI_SDK,
    "aisdk-ui": AI_SDK,
}

HELLO = "hello brave new world"
CAFE = "café 👨\u200d👩\u200d👧 hello brave new world"
MANY = "".join(f"t{number} " for number in range(300))
LONG = "".join(f"block {number} ".ljust(4096, "x") for number in range(16))
UNICODE = (
    "caf\xe9 e\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1fa\U0001f1f3 "
    "\U0001f44d\U0001f3fd \u05e9\u05dc\u05d5\u05dd \u65e5\u672c\u8a9e line\u2028sep para\u2029sep nel\x85x "
    'vt\x0bff\x0cx quote" back\\slash new\nline crlf\r\nend tab\tx data: [DONE] 0:"fake" \x00nul \ufeffbom <think>t'
    "</think> \U0010ffff end"
)
THOUGHTS = "The user wants an answer.\n\nLet me check the facts — **carefully**.\n\nNow I can write it."
RAN_TOGETHER = THOUGHTS.replace("\n\n", "")  # AI SDK recordings: one block of reasoning whose deltas hold no breaks
IMAGE = "data:image/png;base64,iVBORw0KGgo="
SYSTEM = {"role": "system", "content": "You are a friendly assistant! Keep your responses concise and helpful."}


def chatkit(reference: str, text: str = HELLO, **rest: Any) -> Outcome:
    return Outcome(**{"reference": reference, "text": text, "finish": "stop", **rest})


def v1(prompt: int, completion: int, text: str = HELLO, **rest: Any) -> Outcome:
    return Outcome(**{"text": text, "usage": Usage(prompt, completion), "finish": "stop", **rest})


def ui(text: str = HELLO, **rest: Any) -> Outcome:
    return Outcome(**{"text": text, "finish": "stop", **rest})


def recalled(*messages: object) -> str:
    return json.dumps(messages, separators=(",", ":"))


def recalled_by_chatkit(thread: str, model: str, headers: dict[str, str]) -> str:
    said = {"type": "input_text", "text": "My name is Ada."}
    answered = {"annotations": [], "text": "My name is Ada.", "type": "output_text", "logprobs": None}
    return json.dumps(
        {
            "thread_id": thread,
            "inference_options": {"tool_choice": None, "model": model},
            "headers": {
                "host": "127.0.0.1",
                "connection": "close",
                "content-type": "application/json",
                "accept": "text/event-stream",
                **headers,
            },
            "quoted_text": "",
            "input": [
                {"role": "user", "type": "message", "content": [said]},
                {"type": "message", "content": [answered], "role": "assistant"},
                {"role": "user", "type": "message", "content": [{"type": "input_text", "text": "::recall::"}]},
            ],
        }
    )


USER_TEXT = {"type": "text", "text": "::recall::"}
SEEN_IMAGE = {
    "type": "image",
    "image": {str(index): byte for index, byte in enumerate(b"\x89PNG\r\n\x1a\n")},
    "mimeType": "image/png",
}
WITH_IMAGE = {"role": "user", "content": [USER_TEXT, SEEN_IMAGE]}
HISTORY = (
    {"role": "system", "content": "Be terse."},
    {"role": "user", "content": [{"type": "text", "text": "My name is Ada."}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Noted."}]},
    {"role": "user", "content": [USER_TEXT]},
)
UI_IMAGE = {
    "role": "user",
    "content": [USER_TEXT, {"type": "file", "mediaType": "image/png", "data": "iVBORw0KGgo="}],
}
ASK_OSLO = (ToolCall("call_1", "askUser", '{"city":"Oslo"}'),)

CHATKIT_EXPECTED = {
    "annotation": chatkit("thr_103ba767"),
    "both-dialects-in-one-body": chatkit("thr_b426ec7f"),
    "bytes-split": chatkit("thr_cb23efa7", CAFE),
    "client-tool-call": chatkit(
        "thr_d009a3f8",
        "",
        tool_calls=(ToolCall("call_1", "get_weather", '{"city":"Zürich"}'),),
        finish="tool_calls",
    ),
    "crlf-and-pings": chatkit("thr_852049b5"),
    "done-twice": chatkit("thr_9e182589"),
    "echo": chatkit("thr_0568a7a4"),
    "empty-answer": chatkit("thr_dfdd4f29", ""),
    "error-custom-message": chatkit("thr_70586b6c", "hello brave", finish=None, error=UpstreamFailed),
    "error-mid-stream": chatkit("thr_f0069166", "hello brave", finish=None, error=UpstreamFailed),
    "generated-image": chatkit("thr_09e71ccb", f"![generated image]({IMAGE})"),
    "ignorable-events": chatkit("thr_a7570163"),
    "item-replaced": chatkit("thr_60b90e7b", "REPLACED"),
    "long-answer": chatkit("thr_25764f45", LONG),
    "many-small-deltas": chatkit("thr_7ca28eb8", MANY),
    "only-item-done": chatkit("thr_f372836e"),
    "retry-after-item": chatkit("", "My name is Ada."),
    "signin-widget": chatkit("thr_f2fa7a26", "", finish=None, error=UpstreamAuthRequired),
    "think": chatkit("thr_cc4f2041", reasoning=THOUGHTS),
    "thread-first-turn": chatkit("thr_abe57829", "My name is Ada."),
    "thread-second-turn": chatkit(
        "",
        recalled_by_chatkit(
            "thr_abe57829",
            "gpt-oss-20b",
            {"content-length": "232", "cookie": "user_id=fd44c9f2-8f4e-4b11-b68e-a9dc85b51e2f"},
        ),
    ),
    "unicode": chatkit("thr_2790d424", UNICODE),
    "unicode-chars": chatkit("thr_9c66b7d6", UNICODE.replace("e\u0301", "é")),
}
OLDER_EXPECTED = {
    "crlf-and-pings": chatkit("thr_fbc3b3c5"),
    "done-twice": chatkit("thr_0d105581"),
    "echo": chatkit("thr_d1034805"),
    "error-custom-message": chatkit("thr_ff93a520", "hello brave", finish=None, error=UpstreamFailed),
    "signin-widget": chatkit("thr_f3069783", "", finish=None, error=UpstreamAuthRequired),
    "think": chatkit("thr_3e057c2b", reasoning=THOUGHTS),
    "think-hidden": chatkit("thr_3bfbd3a6"),
    "thread-first-turn": chatkit("thr_8ea9b6f1", "My name is Ada."),
    "thread-second-turn": chatkit(
        "",
        recalled_by_chatkit(
            "thr_8ea9b6f1",
            "gpt-oss-120b",
            {
                "content-length": "198",
                "x-selected-model": "gpt-oss-120b",
                "x-reasoning-effort": "high",
                "x-show-reasoning": "true",
                "cookie": "user_id=5d2969b9-0113-49ef-b156-465599151f44",
            },
        ),
    ),
    "unicode": chatkit("thr_178ed620", UNICODE),
}
V1_EXPECTED = {
    "bytes-split": v1(52, 6, CAFE),
    "client-tool-streamed": v1(26, 0, "", tool_calls=ASK_OSLO, finish="tool_calls"),
    "echo": v1(21, 4),
    "empty-answer": v1(9, 0, ""),
    "error-mid-stream": Outcome(text="hello brave", error=UpstreamFailed),
    "error-only": Outcome(error=UpstreamFailed),
    "error-text-shown": Outcome(text="hello", error=UpstreamFailed),
    "file": v1(30, 4),
    "finish-content-filter": v1(52, 4, finish="content_filter"),
    "finish-length": v1(44, 4, finish="length"),
    "image_url-part": v1(10, 1, recalled(WITH_IMAGE)),
    "long-answer": v1(14, 16, LONG),
    "many-small-deltas": v1(14, 300, MANY),
    "minimal-attachment": v1(10, 1, recalled(SYSTEM, WITH_IMAGE)),
    "minimal-echo": v1(21, 4),
    "minimal-error-only": Outcome(error=UpstreamFailed),
    "minimal-finish-length": v1(44, 4, finish="length"),
    "minimal-history": v1(10, 1, recalled(SYSTEM, *HISTORY)),
    "minimal-image-part": v1(10, 1, recalled(SYSTEM, WITH_IMAGE)),
    "minimal-image-part-with-both-keys": v1(10, 1, recalled(SYSTEM, WITH_IMAGE)),
    "minimal-image_url-part": Outcome(error=UpstreamFailed),
    "minimal-system-content-array": Outcome(error=UpstreamFailed),
    "minimal-think": v1(38, 7),
    "recall-history": v1(10, 1, recalled(*HISTORY)),
    "server-tool-two-steps": v1(62, 5, "Let me look. It is 7 degrees."),
    "source": v1(32, 4),
    "think": v1(38, 7, reasoning=RAN_TOGETHER),
    "think-signed": v1(45, 5, reasoning="The user wants an answer."),
    "unicode": v1(11, 21, UNICODE),
    "unicode-chars": v1(22, 160, UNICODE),
}
UI_EXPECTED = {
    "v5-bytes-split": ui(CAFE),
    "v5-client-tool": ui("", tool_calls=ASK_OSLO, finish="tool_calls"),
    "v5-connection-dropped": ui("hello brave", finish=None, error=UpstreamIncomplete),
    "v5-echo": ui(),
    "v5-empty-answer": ui(""),
    "v5-error-mid-stream": ui("hello brave", finish=None, error=UpstreamFailed),
    "v5-error-only": ui("", finish=None, error=UpstreamFailed),
    "v5-error-text-shown": ui("hello", finish=None, error=UpstreamFailed),
    "v5-file": ui(),
    "v5-finish-length": ui(finish="length"),
    "v5-finish-unknown": ui(),
    "v5-long-answer": ui(LONG),
    "v5-many-small-deltas": ui(MANY),
    "v5-source": ui(),
    "v5-think": ui(reasoning=RAN_TOGETHER),
    "v5-ui-message-body": ui(recalled(UI_IMAGE)),
    "v5-unicode": ui(UNICODE),
    "v5-unicode-chars": ui(UNICODE),
    "v5-usage-in-metadata": ui(usage=Usage(37, 4)),
    "v6-bytes-split": ui(CAFE),
    "v6-client-tool": ui("", tool_calls=ASK_OSLO, finish="tool_calls"),
    "v6-connection-dropped": ui("hello brave", finish=None, error=UpstreamIncomplete),
    "v6-echo": ui(),
    "v6-empty-answer": ui(""),
    "v6-error-only": ui("", finish=None, error=UpstreamFailed),
    "v6-error-text-shown": ui("hello", finish=None, error=UpstreamFailed),
    "v6-file": ui(),
    "v6-finish-length": ui(finish="length"),
    "v6-finish-unknown": ui(),
    "v6-long-answer": ui(LONG),
    "v6-many-small-deltas": ui(MANY),
    "v6-server-tool-two-steps": ui("Let me look. It is 7 degrees."),
    "v6-source": ui(),
    "v6-think": ui(reasoning=RAN_TOGETHER),
    "v6-ui-message-body": ui(recalled(UI_IMAGE)),
    "v6-unicode-chars": ui(UNICODE),
    "v6-usage-in-metadata": ui(usage=Usage(37, 4)),
}
FOLDERS = {
    "chatkit": CHATKIT_EXPECTED,
    "chatkit-gptoss-reconstructed": OLDER_EXPECTED,
    "aisdk-v1": V1_EXPECTED,
    "aisdk-ui": UI_EXPECTED,
}
EXPECTED = {f"{folder}/{name}": outcome for folder, table in FOLDERS.items() for name, outcome in table.items()}


OTHER_OPERATIONS = {
    f"chatkit/op-{name}" for name in ("items.list", "threads.delete", "threads.get_by_id", "threads.list")
}


def test_every_recorded_answer_is_expected_to_mean_something():
    answers = {name for folder in FOLDERS for name in recorded.names(folder) if recorded.answer(name).status == 200}
    assert answers == set(EXPECTED) | OTHER_OPERATIONS


@pytest.mark.parametrize("name", sorted(OTHER_OPERATIONS))
def test_an_answer_of_json_is_no_event_stream(name):
    with pytest.raises(UpstreamProtocolError):
        CHATKIT.decoder(recorded.answer(name).headers, ask())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_answer_means_the_same_wherever_its_bytes_are_cut(name, size):
    answer = recorded.answer(name)
    decoder = UPSTREAMS[name.split("/")[0]].decoder(answer.headers, ask(**TOOLS))
    assert decode(decoder, answer.body, size, cut=answer.cut) == EXPECTED[name]


def hello(text: str = HELLO, model: str = "gpt-oss-20b") -> ChatRequest:
    return ask(text, model=model)


@pytest.mark.parametrize("name", ["echo", "think", "unicode", "bytes-split", "signin-widget", "thread-first-turn"])
def test_our_published_chatkit_body_is_the_recorded_one_but_for_an_optional_field(name):
    _, asked = recorded.asked(f"chatkit/{name}")
    text = asked["params"]["input"]["content"][0]["text"]
    assert asked["params"]["input"].pop("quoted_text") == ""
    assert build_chatkit_body(hello(text), "published") == asked


@pytest.mark.parametrize("name", recorded.names("chatkit-gptoss-reconstructed"))
def test_our_older_chatkit_request_is_the_recorded_one(name):
    headers, asked = recorded.asked(name)
    if asked["op"] != "threads.create":
        assert asked["params"].pop("threadId")  # we begin a new thread each time
        asked["op"] = "threads.create"
    text = asked["params"]["input"]["text"]
    shown = headers["x-show-reasoning"] == "true"
    request = ChatRequest("gpt-oss-120b", hello(text).messages, effort="high" if shown else "none")
    assert build_chatkit_body(request, "older") == asked
    ours = build_headers(request, "older", "high")
    if not shown:
        ours["x-reasoning-effort"] = "high"  # the recording hides what it thinks; we also ask for less of it
    assert ours == {key: value for key, value in headers.items() if key not in NOT_OURS}


NOT_OURS = ("Host", "Connection", "Content-Length", "Cookie")


def test_a_body_without_inference_options_is_refused_by_the_package_and_ours_has_them():
    assert recorded.answer("chatkit/missing-inference-options").status == 500
    assert build_chatkit_body(hello(), "published")["params"]["input"]["inference_options"] == {"model": "gpt-oss-20b"}


CHAT_ID = "11111111-2222-3333-4444-555555555555"
PICTURE = ChatRequest("gpt-4o-mini", (Message("user", (Text("::recall::"), Image(IMAGE))),))
CONVERSATION = ChatRequest(
    "gpt-4o-mini",
    (
        Message("system", (Text("Be terse."),)),
        Message("user", (Text("My name is Ada."),)),
        Message("assistant", (Text("Noted."),)),
        Message("user", (Text("::recall::"),)),
    ),
)


@pytest.mark.parametrize(
    ("name", "request_", "image_format"),
    [
        ("minimal-echo", hello(model="gpt-4o-mini"), "image"),
        ("minimal-unknown-model", hello(model="gpt-9"), "image"),
        ("minimal-history", CONVERSATION, "image"),
        ("recall-history", CONVERSATION, "attachments"),
        ("minimal-image-part-with-both-keys", PICTURE, "image"),
        ("image_url-part", PICTURE, "image_url"),
    ],
)
def test_our_ai_sdk_body_is_the_recorded_one(name, request_, image_format):
    body = build_ai_sdk_body(request_, chat_id=CHAT_ID, image_format=image_format, message_format="content")
    assert body == recorded.asked(f"aisdk-v1/{name}")[1]


def test_our_ai_sdk_attachment_is_the_recorded_one_but_for_its_optional_name():
    body = build_ai_sdk_body(PICTURE, chat_id=CHAT_ID, image_format="attachments", message_format="content")
    _, asked = recorded.asked("aisdk-v1/minimal-attachment")
    assert asked["messages"][0]["experimental_attachments"][0].pop("name") == "a.png"
    assert body == asked


@pytest.mark.parametrize("name", ["v5-ui-message-body", "v6-ui-message-body"])
def test_our_ui_message_is_the_recorded_one_but_for_its_id(name):
    body = build_ai_sdk_body(PICTURE, chat_id=CHAT_ID, image_format="image", message_format="parts")
    _, asked = recorded.asked(f"aisdk-ui/{name}")
    assert asked["messages"][0].pop("id") == "u1"
    assert len(body["messages"][0].pop("id")) == 36
    assert body == asked
