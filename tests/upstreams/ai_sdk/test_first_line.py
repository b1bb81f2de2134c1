"""Which of the two protocols an answer speaks: by header, then content type, then first line."""

import pytest
from requests.structures import CaseInsensitiveDict

from gpt_oss_proxy.errors import UpstreamFailed, UpstreamIncomplete, UpstreamProtocolError, UpstreamTooLarge
from gpt_oss_proxy.upstreams.ai_sdk import FirstLineDecoder, choose_decoder
from gpt_oss_proxy.upstreams.ai_sdk.data_stream import DataStreamDecoder
from gpt_oss_proxy.upstreams.ai_sdk.ui_stream import UiStreamDecoder
from tests.upstreams.decoding import SIZES, Outcome, ask, decode

V1 = {"X-Vercel-AI-Data-Stream": "v1"}
UI = {"x-vercel-ai-ui-message-stream": "v1"}


@pytest.mark.parametrize(
    ("headers", "decoder"),
    [
        ({**V1, "Content-Type": "text/plain; charset=utf-8"}, DataStreamDecoder),
        ({**V1, "Content-Type": "text/event-stream"}, DataStreamDecoder),
        ({**UI, "Content-Type": "text/event-stream"}, UiStreamDecoder),
        ({**UI, "Content-Type": "text/plain"}, UiStreamDecoder),
        ({"Content-Type": "Text/Event-Stream; charset=utf-8"}, UiStreamDecoder),
        ({"Content-Type": "text/plain"}, FirstLineDecoder),
        ({"Content-Type": "application/octet-stream"}, FirstLineDecoder),
        ({}, FirstLineDecoder),
    ],
)
def test_the_header_decides_then_the_content_type_then_the_first_line(headers, decoder):
    assert type(choose_decoder(CaseInsensitiveDict(headers), ask(), 1000)) is decoder


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/json", "application/xhtml+xml"])
def test_a_page_or_a_document_is_a_protocol_error(content_type):
    with pytest.raises(UpstreamProtocolError):
        choose_decoder(CaseInsensitiveDict({"Content-Type": content_type}), ask(), 1000)


def first_line(limit: int = 2**20) -> FirstLineDecoder:
    return FirstLineDecoder(ask(), limit)


V1_BODY = b'f:{"messageId":"m"}\n0:"Hi"\nd:{"finishReason":"length"}\n'
UI_BODY = (
    b'data: {"type":"text-delta","delta":"Hi"}\n\ndata: {"type":"finish","finishReason":"length"}\n\ndata: [DONE]\n\n'
)
HI = Outcome(text="Hi", finish="length")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("blank", [b"", b"\n", b"\r\n\r\n", b"\n" * 5000])
@pytest.mark.parametrize(
    "body",
    [
        V1_BODY,
        V1_BODY.replace(b"\n", b"\r\n"),
        b"2:[]\n" + V1_BODY,
        b"z:tomorrow\n" + V1_BODY,
        UI_BODY,
        UI_BODY.replace(b"\n", b"\r\n"),
        b": ping\n\n" + UI_BODY,
        b"event: message\n" + UI_BODY,
        UI_BODY.replace(b"data: ", b"data:"),
    ],
)
def test_the_first_line_that_is_not_blank_decides(body, blank, size):
    assert decode(first_line(limit=1000), blank + body, size) == HI


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("line", [b"<!doctype html>", b'{"error":"x"}', b"[1]", b"hello", b" ", b"\xff\xfe", b"\x00"])
def test_any_other_first_line_is_a_protocol_error(line, size):
    assert decode(first_line(), line + b"\n" + V1_BODY, size) == Outcome(error=UpstreamProtocolError)


@pytest.mark.parametrize("body", [b"", b"\n\n", b'0:"Hi"', b"<html>"])
def test_a_body_without_a_first_line_is_incomplete(body):
    assert decode(first_line(), body) == Outcome(error=UpstreamIncomplete)


@pytest.mark.parametrize("size", SIZES)
def test_a_first_line_above_the_limit_is_too_large(size):
    assert decode(first_line(limit=1000), b'0:"' + b"x" * 1000 + b'"\n', size) == Outcome(error=UpstreamTooLarge)


@pytest.mark.parametrize("size", SIZES)
def test_the_chosen_decoder_s_state_is_its_own(size):
    assert decode(first_line(), V1_BODY, size, cut=True) == HI
    assert decode(first_line(), V1_BODY[:-5], size, cut=True) == Outcome(text="Hi", error=UpstreamIncomplete)
    assert decode(first_line(), UI_BODY + b"data: x\n\n", size) == HI
    assert decode(first_line(), b'0:"Hi"\n3:"x"\n', size) == Outcome(text="Hi", error=UpstreamFailed)


def test_bytes_that_end_no_line_are_no_sign_of_life():
    decoder = first_line()
    assert [decoder.feed(piece) for piece in (b"\n", b"0:", b'"Hi', b'"\n')][:3] == [None, None, None]
