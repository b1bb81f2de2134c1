import json

import pytest

from gpt_oss_proxy.demo.conversation import Failure, Finish, TextDelta
from gpt_oss_proxy.demo.model_client import decode, failure


def chunk(**fields: object) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [], "object": "chat.completion.chunk"} | fields).encode()


ROLE = chunk(choices=[{"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": None}}])
WORD = chunk(choices=[{"index": 0, "finish_reason": None, "delta": {"content": "Bonjour 🙂"}}])
STOP = chunk(choices=[{"index": 0, "finish_reason": "length", "delta": {}}])
USAGE = chunk(usage={"prompt_tokens": 37, "completion_tokens": 10, "total_tokens": 47})
DONE = b"data: [DONE]\n\n"
ANSWER = ROLE + b":\n\n" + WORD + STOP + USAGE + DONE


@pytest.mark.parametrize("size", [1, 7, len(ANSWER)])
def test_a_stream_becomes_the_same_events_wherever_it_is_cut(size: int) -> None:
    reads = (ANSWER[start : start + size] for start in range(0, len(ANSWER), size))
    assert list(decode(reads)) == [TextDelta("Bonjour 🙂"), Finish("length", 37, 10)]


@pytest.mark.parametrize(
    "stream",
    [ROLE + WORD, ROLE + WORD + b'data: {"error":{"code":500,"message":"x"}}\n\n' + DONE, ROLE + WORD + b"data: {\n"],
)
def test_a_stream_without_its_end_is_a_failure(stream: bytes) -> None:
    assert list(decode(iter([stream]))) == [TextDelta("Bonjour 🙂"), Failure()]


def test_a_prompt_beyond_the_context_says_so() -> None:
    body = b'{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_ctx":4096}}'
    told = failure(body).message
    assert told == "This conversation is longer than the demonstration model can read (4096 tokens)."


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":{"type":"server_error","message":"no slot"}}'])
def test_other_errors_of_the_model_stay_masked(body: bytes) -> None:
    assert failure(body) == Failure()
