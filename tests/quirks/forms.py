"""Quirks of how an answer is written, and of how it ends."""

import json
from collections.abc import Mapping, Sequence

from tests.quirks.quirk import (
    HE,
    LLO,
    OSLO,
    PICTURE,
    STOP,
    TOOLS,
    Quirk,
    Right,
    call,
    chunk,
    document,
    event,
    http,
    reported,
    stream,
    whole,
)

FORMS: Mapping[str, Sequence[Quirk]] = {
    "Forms of an answer": (
        reported("json-for-a-stream", "It is read: a whole chat completion is an answer."),
        Quirk(
            "A whole answer, written over many lines, with the status 201",
            "It is read.",
            [[http(json.dumps(whole({"content": "Hello"}), indent=2).encode(), b"application/json", b"201 Created")]],
        ),
        Quirk("A whole answer without a finish reason", "It is complete.", document(whole({"content": "Hello"}, None))),
        Quirk(
            "A whole answer that is cut",
            "An error.",
            document(json.dumps(whole({"content": "Hello"})).encode()[:-9]),
            Right(code="upstream_incomplete"),
        ),
        Quirk(
            "A whole answer with `text` in place of `message`",
            "It is read.",
            document({"id": "x", "object": "text_completion", "choices": [{"text": "Hello", "finish_reason": "stop"}]}),
        ),
        Quirk(
            "A whole answer with tool calls",
            "The calls are read.",
            document(whole({"tool_calls": [call({"name": OSLO[0], "arguments": OSLO[1]}, id="a")]}, "tool_calls")),
            Right(calls=[OSLO], finish="tool_calls"),
            asked=TOOLS,
        ),
        reported("stream-under-json-type", "It is read: the first bytes decide, not the type."),
        Quirk(
            "A chunk a line, without events around",
            "They are read.",
            [
                [
                    http(
                        b"".join(json.dumps(each).encode() + b"\n" for each in (chunk(HE), chunk(LLO), STOP)),
                        b"application/x-ndjson",
                    )
                ]
            ],
        ),
        reported("sse-single-line-ends", "Each line is an event."),
        Quirk(
            "Lines that end with CR, or CR LF",
            "They are read.",
            [
                [http(b"".join(map(event, (chunk(HE), chunk(LLO), STOP, b"[DONE]"))).replace(b"\n", end))]
                for end in (b"\r",)
            ],
        ),
        Quirk(
            "An event over several `data` lines",
            "It is read as the standard has it.",
            [
                [
                    http(
                        event(chunk(HE))
                        + b"data: "
                        + json.dumps(chunk(LLO), indent=1).replace("\n", "\ndata: ").encode()
                        + b"\n\n"
                        + event(STOP)
                    )
                ]
            ],
        ),
        Quirk(
            "No line end behind the last event",
            "It is read.",
            [[http(event(chunk({"content": "Hello"})) + event(STOP).rstrip())]],
        ),
        Quirk(
            "Heartbeats that are no JSON (`ping`, `keep-alive`, `{}`)",
            "They are left out.",
            stream(b"ping", chunk(HE), b"keep-alive", b"{}", chunk(LLO), STOP),
        ),
        reported("message-in-place-of-delta", "It is read."),
        Quirk(
            "`message` in place of `delta` in each chunk, with all the text so far",
            "Only the new text is sent.",
            stream(*({"choices": [{"index": 0, "message": {"content": text}}]} for text in ("Hel", "Hello")), STOP),
        ),
        Quirk(
            "`message` with the whole text beside the last `delta`",
            "The text is not repeated.",
            stream(chunk(HE), chunk(LLO), chunk({}, "stop", message={"role": "assistant", "content": "Hello"})),
        ),
        reported("choice-index-grows", "The one choice of a chunk is the one that was asked for."),
        reported("content-as-parts", "Text parts are text, thinking parts reasoning.", Right("Hello", "a greeting")),
        Quirk(
            "`content` is one part",
            "It is read.",
            stream(chunk({"content": {"type": "text", "text": "Hello"}}), STOP),
        ),
        Quirk(
            "Images, in a field or as parts",
            "They are kept under `images`.",
            stream(
                chunk({"content": "Hel", "images": [PICTURE]}),
                chunk({"content": [{"type": "text", "text": "lo"}]}),
                STOP,
            ),
            Right("Hello", message={"images": [PICTURE]}),
        ),
        Quirk(
            "An answer that is an image alone",
            "It is an answer.",
            stream(chunk({"content": [PICTURE]}), STOP),
            Right(message={"images": [PICTURE]}),
        ),
        Quirk(
            "No output at all",
            "An error: an empty answer never ends well.",
            stream(STOP),
            Right(code="upstream_empty_response"),
        ),
        Quirk(
            "Plain text",
            "An error with that text.",
            [[http(b"no healthy backend", b"text/plain")]],
            Right(code="upstream_protocol_error", says="no healthy backend"),
        ),
        reported("think-tags-in-the-text", "It is text.", Right("<think>hm</think>Hello")),
        reported(
            "think-tags-in-the-text",
            "With `OPENAI_THINK_TAGS=on` it is reasoning.",
            Right("Hello", "hm"),
            settings={"openai_think_tags": "on"},
        ),
    ),
    "The end": (
        reported(
            "finish-max-tokens",
            "`length`: a cut answer must not look like a whole one.",
            Right("Hello", finish="length"),
        ),
        reported("finish-stop-in-every-chunk", "All of it is the answer.", Right("Hello", "hm")),
        Quirk(
            "An unknown finish reason, and `[DONE]`",
            "`stop`, and `gpt_oss_proxy_unknown_finish_reasons_total` counts it.",
            stream(chunk({"content": "Hello"}), chunk({}, "something_new")),
        ),
        Quirk(
            "An unknown finish reason, and the end of the body",
            "An error.",
            stream(chunk({"content": "Hello"}), chunk({}, "something_new"), done=False),
            Right("Hello", code="upstream_incomplete"),
        ),
        Quirk("`[DONE]` without a finish reason", "`stop`.", stream(chunk({"content": "Hello"}))),
        Quirk(
            "The end of the body without `[DONE]`",
            "A finish reason behind the last output ends the answer.",
            stream(chunk({"content": "Hello"}), STOP, done=False),
        ),
        Quirk(
            "Output behind the finish reason, and the end of the body without `[DONE]`",
            "An error.",
            stream(chunk(HE), STOP, chunk(LLO), done=False),
            Right("Hello", code="upstream_incomplete"),
        ),
        Quirk(
            "Output behind the finish reason, and `[DONE]`",
            "All of it is the answer.",
            stream(chunk(HE), STOP, chunk(LLO)),
        ),
        Quirk(
            "`tool_calls` as the reason, and no call",
            "`stop`.",
            stream(chunk({"content": "Hello"}), chunk({}, "tool_calls")),
        ),
        Quirk(
            "The reason `abort`, `network_error` or another one that is a failure",
            "An error.",
            stream(chunk({"content": "Hello"}), chunk({}, "network_error")),
            Right("Hello", code="upstream_error", says="network_error"),
        ),
    ),
}
