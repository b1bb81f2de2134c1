"""`content` is read in all forms that servers give it."""

from typing import Any

import pytest

from gpt_oss_proxy.errors import UpstreamProtocolError
from gpt_oss_proxy.upstreams.openai.content import read_content, thoughts_of

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
CITED = {"type": "output_text", "text": "Hi", "annotations": [{"type": "url_citation"}]}
AUDIO = {"type": "audio", "audio": {"data": "AA=="}}


def text(*texts: str) -> list[Any]:
    return [("text", each) for each in texts]


def reasoning(*texts: str) -> list[Any]:
    return [("reasoning", each) for each in texts]


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        (None, []),
        ("", []),
        ([], []),
        ({}, []),
        ("Hi", text("Hi")),
        (["Hi", "!"], text("Hi", "!")),
        ([["Hi"], None, ""], text("Hi")),
        ({"type": "text", "text": "Hi"}, text("Hi")),
        ([{"type": "text", "text": "H"}, {"type": "text", "text": "i"}], text("H", "i")),
        ({"type": "output_text", "text": "Hi"}, text("Hi")),
        ({"type": "refusal", "refusal": "No."}, text("No.")),
        ({"text": "Hi"}, text("Hi")),
        ({"text": {"value": "Hi", "annotations": []}}, text("Hi")),
        ({"content": [{"text": "Hi"}]}, text("Hi")),
        ({"type": ["odd"], "text": "Hi"}, text("Hi")),
        ({"type": "text", "text": ""}, []),
        ({"type": "text", "text": None}, []),
        ({"type": "text"}, []),
        # Mistral
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}, "Hi"],
         [*reasoning("hm"), *text("Hi")]),
        # Databricks
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, {"type": "text", "text": "Hi"}],
         [*reasoning("hm"), *text("Hi")]),
        ({"type": "thought", "text": "hm"}, reasoning("hm")),
        ({"type": "thinking", "thinking": ["a", {"text": "b"}, {"type": "output_text", "text": "c"}]},
         reasoning("a", "b", "c")),
        # what is neither is kept
        ([{"type": "text", "text": "See: "}, PICTURE], [*text("See: "), ("images", PICTURE)]),
        ([AUDIO], [("content_parts", AUDIO)]),
        ([{"type": "redacted_thinking", "data": "x"}], [("content_parts", {"type": "redacted_thinking", "data": "x"})]),
        ([{"audio": 1}], [("content_parts", {"audio": 1})]),
        # and so is what is more
        ([SIGNED], [*reasoning("hm"), ("content_parts", SIGNED)]),
        ([CITED], [*text("Hi"), ("content_parts", CITED)]),
        ([{**CITED, "annotations": []}], text("Hi")),
    ],
)  # fmt: skip
def test_texts_thoughts_and_other_parts_are_told_in_their_order(content: Any, pieces: list[Any]) -> None:
    assert list(read_content(content)) == pieces


def nested(depth: int, around: Any) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = around(value)
    return value


@pytest.mark.parametrize("depth", [20, 500, 900, 990])
@pytest.mark.parametrize(
    "around",
    [
        lambda value: [value],
        lambda value: {"type": "text", "text": value},
        lambda value: {"type": "thinking", "thinking": [value]},
    ],
    ids=["lists", "texts", "thoughts"],
)
def test_content_without_a_bottom_is_a_protocol_error(around: Any, depth: int) -> None:
    with pytest.raises(UpstreamProtocolError):
        list(read_content(nested(depth, around)))


@pytest.mark.parametrize("content", [7, True, 1.5, [7], {"text": 7}, {"type": "thinking", "thinking": False}])
def test_what_is_no_content_is_a_protocol_error(content: Any) -> None:
    with pytest.raises(UpstreamProtocolError):
        list(read_content(content))


@pytest.mark.parametrize(
    ("details", "thoughts"),
    [
        (None, ""),
        ({}, ""),
        ([], ""),
        ([{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.text", "text": "b", "signature": "s"}], "ab"),
        ([{"type": "reasoning.summary", "summary": "hm"}], "hm"),
        ([{"type": "reasoning.encrypted", "data": "ZW5j"}], ""),
        ([7, None, {"text": 7}, {"text": ["x"]}, {"text": None, "summary": "hm"}], "hm"),
    ],
)
def test_the_text_of_reasoning_details_is_read(details: Any, thoughts: str) -> None:
    assert thoughts_of(details) == thoughts
