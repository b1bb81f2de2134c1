"""What OpenAI-compatible servers do otherwise than OpenAI, and what becomes of it: the table that test_quirks.py plays.

Some rows are cases from public reports of other gateways' bugs: files in `cases`, with the exact bytes.
"""

from collections.abc import Mapping, Sequence

from tests.quirks.forms import FORMS
from tests.quirks.quirk import (
    CITED,
    DETAILS,
    OSLO,
    ROME,
    STOP,
    TOOLS,
    Quirk,
    Right,
    call,
    calling,
    chunk,
    document,
    event,
    http,
    refuses,
    reported,
    stream,
    whole,
)

QUIRKS: Mapping[str, Sequence[Quirk]] = {
    **FORMS,
    "Tool calls": (
        reported(
            "parallel-calls-share-index-0", "A new id is a new call.", Right(calls=[OSLO, ROME], finish="tool_calls")
        ),
        reported("call-without-id", "It gets one that no other call has.", Right(calls=[OSLO], finish="tool_calls")),
        reported("call-empty-arguments", "They are `{}`.", Right(calls=[("now", "{}")], finish="tool_calls")),
        reported(
            "call-name-arrives-late", "The call is sent with that name.", Right(calls=[OSLO], finish="tool_calls")
        ),
        reported(
            "call-thought-signature",
            "It is kept beside the call, and passed back when the client sends it.",
            Right(
                calls=[OSLO],
                finish="tool_calls",
                calls_have={"extra_content": {"google": {"thought_signature": "c2ln"}}},
            ),
        ),
        Quirk(
            "A signature within the function",
            "It is kept there, and passed back when the client sends it.",
            calling([call({"name": OSLO[0], "arguments": OSLO[1], "thought_signature": "c2ln"}, index=0, id="a")]),
            Right(
                calls=[OSLO],
                finish="tool_calls",
                calls_have={"function": {"name": OSLO[0], "arguments": OSLO[1], "thought_signature": "c2ln"}},
            ),
            asked=TOOLS,
        ),
        Quirk(
            "The arguments are an object",
            "They are its JSON.",
            calling([call({"name": OSLO[0], "arguments": {"city": "Oslo"}}, index=0, id="a")]),
            Right(calls=[("get_weather", '{"city":"Oslo"}')], finish="tool_calls"),
            asked=TOOLS,
        ),
        Quirk(
            "Arguments come before the name",
            "They are sent after the name.",
            calling(
                [call({"arguments": '{"city": '}, index=0, id="a")],
                [call({"name": "get_weather", "arguments": '"Oslo"}'}, index=0)],
            ),
            Right(calls=[OSLO], finish="tool_calls"),
            asked=TOOLS,
        ),
        Quirk(
            "Neither id nor index",
            "Each element is a whole call.",
            calling([call({"name": name, "arguments": text}) for name, text in (OSLO, ROME)]),
            Right(calls=[OSLO, ROME], finish="tool_calls"),
            asked=TOOLS,
        ),
        Quirk(
            "No id, and a second name under the same index",
            "It is a second call.",
            calling(*([call({"name": name, "arguments": text}, index=0)] for name, text in (OSLO, ROME))),
            Right(calls=[OSLO, ROME], finish="tool_calls"),
            asked=TOOLS,
        ),
        Quirk(
            "Id and name with each piece of the arguments",
            "It is one call.",
            calling(
                *([call({"name": OSLO[0], "arguments": text}, index=0, id="a")] for text in ('{"city"', ': "Oslo"}'))
            ),
            Right(calls=[OSLO], finish="tool_calls"),
            asked=TOOLS,
        ),
        Quirk(
            "`function_call`, the older spelling",
            "It is a call.",
            stream(
                chunk({"function_call": {"name": OSLO[0], "arguments": ""}}),
                chunk({"function_call": {"arguments": OSLO[1]}}),
                chunk({}, "function_call"),
            ),
            Right(calls=[OSLO], finish="tool_calls"),
            asked=TOOLS,
        ),
        Quirk(
            "`stop` as the reason of calls",
            "`tool_calls`.",
            calling([call({"name": OSLO[0], "arguments": OSLO[1]}, index=0, id="a")], finish="stop"),
            Right(calls=[OSLO], finish="tool_calls"),
            asked=TOOLS,
        ),
    ),
    "Fields that are kept": (
        reported("annotations", "They are in the message.", Right("Hello", message={"annotations": CITED})),
        reported(
            "reasoning-details",
            "They are in the message, and passed back when the client sends them.",
            Right("Hello", "hm", message={"reasoning_details": DETAILS}),
        ),
        Quirk(
            "`reasoning_details` alone, in pieces",
            "Their text is the reasoning, too; whole answers have them put together.",
            stream(
                chunk({"reasoning_details": [{"type": "reasoning.text", "text": "h", "index": 0}]}),
                chunk({"reasoning_details": [{"type": "reasoning.text", "text": "m", "signature": "s", "index": 0}]}),
                chunk({"content": "Hello"}),
                STOP,
            ),
            Right(
                "Hello",
                "hm",
                message={"reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0, "signature": "s"}]},
            ),
        ),
        Quirk(
            "`system_fingerprint`, `timings`, `citations` beside the choices",
            "They are in the answer; a stream has them with its finish reason.",
            stream(
                {**chunk({"content": "Hel"}), "system_fingerprint": "fp_1"},
                {**chunk({"content": "lo"}), "system_fingerprint": "fp_1", "citations": ["https://example.org/"]},
                {**STOP, "timings": {"predicted_n": 2}},
            ),
            Right(
                "Hello",
                answer={
                    "system_fingerprint": "fp_1",
                    "citations": ["https://example.org/"],
                    "timings": {"predicted_n": 2},
                },
            ),
        ),
        reported("usage-in-a-choice", "It is read.", Right("Hello", usage=(1336, 31))),
        Quirk(
            "Usage as `input_tokens` and `output_tokens`",
            "It is read.",
            stream(chunk({"content": "Hello"}), {**STOP, "usage": {"input_tokens": 5, "output_tokens": 6}}),
            Right("Hello", usage=(5, 6)),
        ),
    ),
    "What a server refuses": (
        reported(
            "stream-options-refused",
            "It is asked again without, which is remembered for an hour. `OPENAI_OMIT=stream_options` says it before.",
            not_sent=["stream_options"],
        ),
        Quirk(
            "The role `developer` is refused",
            "The message is the system's.",
            refuses(
                b"400 Bad Request",
                {"error": {"message": "unknown role: developer"}},
                *stream(chunk({"content": "Hello"}), STOP),
            ),
            asked={"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
            sent=['"role":"system"'],
            not_sent=["developer"],
        ),
        Quirk(
            "Streaming is refused",
            "The answer is asked for whole.",
            refuses(
                b"400 Bad Request",
                {"error": {"message": "Unsupported value: 'stream' does not support true.", "param": "stream"}},
                *document(whole({"role": "assistant", "content": "Hello"})),
            ),
            sent=['"stream":false'],
            not_sent=["stream_options"],
        ),
        Quirk(
            "A field of an earlier answer is refused",
            "It is not sent back.",
            refuses(
                b"422 Unprocessable Entity",
                {
                    "detail": [
                        {"loc": ["body", "messages", 1, "reasoning_content"], "msg": "Extra inputs are not permitted"}
                    ]
                },
                *stream(chunk({"content": "Hello"}), STOP),
            ),
            asked={
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {
                        "role": "assistant",
                        "content": "Ho",
                        "reasoning": "hm",
                        "reasoning_content": "hm",
                        "annotations": [],
                    },
                    {"role": "user", "content": "Hi"},
                ]
            },
            sent=['"reasoning":"hm"'],
            not_sent=["reasoning_content", "annotations"],
        ),
        Quirk(
            "The effort `max` is refused",
            "`xhigh` is asked for, then `high`.",
            refuses(
                b"400 Bad Request",
                {"error": {"message": "reasoning_effort: no max"}},
                *stream(chunk({"content": "Hello"}), STOP),
            ),
            asked={"reasoning_effort": "max"},
            sent=['"reasoning_effort":"xhigh"'],
        ),
        reported("reasoning-effort-max", "It is passed on.", Right("ok"), sent=['"reasoning_effort":"max"']),
        reported(
            "stream-options-further",
            "They are passed on.",
            Right("ok"),
            sent=["include_obfuscation", "continuous_usage_stats"],
        ),
        reported(
            "video-and-audio-urls", "They are passed on.", Right("ok"), sent=["video_url", "https://example.org/a.mp4"]
        ),
    ),
    "Errors": (
        reported(
            "error-body-as-array",
            "The client gets its message.",
            Right(code="upstream_rejected", says="web_search_options"),
        ),
        reported(
            "error-json-in-a-200",
            "An error with its message.",
            Right(code="upstream_error", says="model is loading"),
        ),
        reported(
            "error-429-in-the-stream",
            "A 429 where nothing has gone out.",
            Right(code="upstream_rate_limited", says="Too many requests just now"),
        ),
        Quirk(
            "An error with a number in the middle of a stream",
            "An error with that number's code.",
            stream(chunk({"content": "Hello"}), {"error": {"code": 503, "message": "busy"}}, done=False),
            Right("Hello", code="upstream_unavailable", says="busy"),
        ),
        Quirk(
            "`object: error`, as vLLM has it, within a stream",
            "An error with its message.",
            stream({"object": "error", "message": "out of memory", "type": "BadRequestError", "code": 400}),
            Right(code="upstream_rejected", says="out of memory"),
        ),
        Quirk(
            "An error behind events, without an event around",
            "An error with its message.",
            [[http(event(chunk({"content": "Hello"})) + b'{"error": "worker died"}\n')]],
            Right("Hello", code="upstream_error", says="worker died"),
        ),
        Quirk(
            "`detail`, as FastAPI has it",
            "The client gets its message.",
            document(
                {"detail": [{"loc": ["body", "top_k"], "msg": "too high", "type": "x"}]},
                status=b"422 Unprocessable Entity",
            ),
            Right(code="upstream_rejected", says="body.top_k: too high"),
        ),
        Quirk(
            "An error that is a text",
            "The client gets its message.",
            document({"error": "no such thing as top_k"}, status=b"400 Bad Request"),
            Right(code="upstream_rejected", says="no such thing as top_k"),
        ),
        reported(
            "content-filter-400",
            "The code is kept.",
            Right(code="content_filter", says="Filtered by policy."),
        ),
        Quirk(
            "A prompt that is too long, in words alone",
            "`context_length_exceeded`, by which agents know it.",
            document(
                {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400},
                status=b"400 Bad Request",
            ),
            Right(code="context_length_exceeded", says="maximum context length"),
        ),
        Quirk(
            "The status 529",
            "503 `upstream_unavailable`.",
            document({"error": {"message": "Overloaded"}}, status=b"529 Overloaded"),
            Right(code="upstream_unavailable", says="Overloaded"),
        ),
        Quirk(
            "The status 401 or 403",
            "502 `upstream_auth_required`: it is the operator's to mend.",
            document({"error": {"message": "bad key"}}, status=b"401 Unauthorized"),
            Right(code="upstream_auth_required"),
        ),
        Quirk(
            "The status 404 that is not about the model",
            "502 `upstream_not_found`.",
            document(b"nothing here", b"text/plain", b"404 Not Found"),
            Right(code="upstream_not_found"),
        ),
    ),
}
ALL = [quirk for quirks in QUIRKS.values() for quirk in quirks]
