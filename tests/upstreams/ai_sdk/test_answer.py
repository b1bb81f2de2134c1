"""What both AI SDK protocols have in common."""

import pytest

from gpt_oss_proxy import sse
from gpt_oss_proxy.chat.events import Finish, ToolCallDelta
from gpt_oss_proxy.errors import UpstreamFailed
from gpt_oss_proxy.upstreams.ai_sdk.answer import AnswerDecoder, reported
from tests.upstreams.decoding import TOOLS, ask


class Bare(AnswerDecoder):
    def decode(self, record: bytes) -> None:
        self._reason = record.decode()

    def finish(self) -> None:
        self.end_answer()


def bare(**options: object) -> Bare:
    return Bare(sse.LineDecoder(1000), ask(**options))


def test_a_call_whose_output_follows_was_run_by_the_server():
    decoder = bare(**TOOLS)
    for call_id in ("a", "b"):
        decoder.call_complete({"toolCallId": call_id, "toolName": "t", "args": {}}, arguments="args")
    decoder.call_answered({"toolCallId": "a"})
    assert decoder.close() == [ToolCallDelta(0, "b", "t"), ToolCallDelta(0, arguments="{}"), Finish("tool_calls")]


def test_a_call_that_comes_again_counts_once_with_its_last_arguments():
    decoder = bare(**TOOLS)
    for city in ("Oslo", "Zürich"):
        decoder.call_complete({"toolCallId": "a", "toolName": "t", "input": {"city": city}}, arguments="input")
    assert decoder.close()[:2] == [ToolCallDelta(0, "a", "t"), ToolCallDelta(0, arguments='{"city":"Zürich"}')]


def test_calls_for_the_client_count_more_than_the_reason():
    decoder = bare(**TOOLS)
    decoder.feed(b"length\n")
    decoder.call_complete({"toolCallId": "a"}, arguments="args")
    assert decoder.close()[-1] == Finish("tool_calls")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("An error occurred.", UpstreamFailed.message),
        ("  An error\n occurred. ", UpstreamFailed.message),
        ("", UpstreamFailed.message),
        ("<html>", UpstreamFailed.message),
        (
            "Quota of sk-12345 at api.example.com exceeded",
            "The model's server reports an error: Quota of […] at […] exceeded",
        ),
    ],
)
def test_what_an_endpoint_reports_is_quoted_without_secrets(text, message):
    assert reported(text).message == message
