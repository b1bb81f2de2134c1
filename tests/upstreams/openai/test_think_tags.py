"""A leading <think>…</think> is told from the text behind it, wherever the answer is cut."""

import itertools
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt_oss_proxy.upstreams.openai.think_tags import ThinkTags
from tests.doubles import measuring


def told(pieces: list[str]) -> list[tuple[bool, str]]:
    """Return (whether it is reasoning, text), with neighbours of a kind joined."""
    tags = ThinkTags()
    found = [each for piece in pieces for each in tags.feed(piece)] + list(tags.rest())
    assert all(text for _, text in found)
    assert list(tags.rest()) == []
    return [
        (thinks, "".join(text for _, text in group)) for thinks, group in itertools.groupby(found, lambda each: each[0])
    ]


def thought(text: str) -> tuple[bool, str]:
    return True, text


def said(text: str) -> tuple[bool, str]:
    return False, text


CASES = [
    ("", []),
    ("Hello", [said("Hello")]),
    (" \n Hello", [said(" \n Hello")]),
    ("<think>hm</think>Hello", [thought("hm"), said("Hello")]),
    ("\n <think>hm</think>Hello", [thought("hm"), said("Hello")]),
    ("<think>\n\nhm\n</think>\n\nHello\n", [thought("hm\n"), said("Hello\n")]),
    ("<think>\n\n</think>\n\nHello", [said("Hello")]),
    ("<think></think>", []),
    ("<think>\n", []),
    ("<think>hm", [thought("hm")]),
    ("<think>hm</thin", [thought("hm</thin")]),
    ("<think>a < b </ c</</think>d", [thought("a < b </ c</"), said("d")]),
    ("<think>a<think>b</think>c", [thought("a<think>b"), said("c")]),
    ("<think>a</think>b<think>c</think>", [thought("a"), said("b<think>c</think>")]),
    ("<think>a</think> </think>", [thought("a"), said(" </think>")]),
    ("<thi", [said("<thi")]),
    ("  ", [said("  ")]),
    ("<thinking>hm</thinking>", [said("<thinking>hm</thinking>")]),
    ("<THINK>hm</THINK>", [said("<THINK>hm</THINK>")]),
    ("Hm. <think>hm</think>", [said("Hm. <think>hm</think>")]),
    (" " * 100 + "<think>a</think>b", [thought("a"), said("b")]),
    (" " * 101 + "<think>a</think>", [said(" " * 101 + "<think>a</think>")]),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("text", "parts"), CASES)
def test_only_a_leading_thought_is_reasoning(text: str, parts: list[tuple[bool, str]], size: int) -> None:
    assert told([text[start : start + size] for start in range(0, len(text), size)]) == parts


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "think>", "</", "\n", " ", "a", "<thi", "nk>", ""])))
@example(["<think>", "\n", "a", "</think>", "\n", "b"])
@example([" " * 90, " " * 20, "<think>", "a"])
def test_it_never_matters_where_the_text_is_cut(pieces: list[str]) -> None:
    assert told(pieces) == told(["".join(pieces)]) == told(list("".join(pieces)))


@pytest.mark.parametrize(
    ("pieces", "lists"),
    [
        (["<think>", "a", "b</th", "ink>", "c"], [[], [thought("a")], [thought("b")], [], [said("c")]]),
        (["He", "llo"], [[said("He")], [said("llo")]]),
        (["<", "b>"], [[], [said("<b>")]]),
        (["<think>a</think>b", "", "\n"], [[thought("a"), said("b")], [], [said("\n")]]),
    ],
)
def test_what_can_be_told_is_told_at_once(pieces: list[str], lists: list[list[tuple[bool, str]]]) -> None:
    tags = ThinkTags()
    assert [list(tags.feed(piece)) for piece in pieces] == lists


@pytest.mark.parametrize(
    ("pieces", "over"),
    [
        ([], False),
        ([" <thi"], False),
        (["Hello"], True),
        (["<think>a"], False),
        (["<think>a</think>"], False),  # line ends behind the tag are none of the text
        (["<think>a</think>\n"], False),
        (["<think>a</think>\n", "b"], True),
    ],
)
def test_it_is_over_when_all_that_follows_is_text(pieces: list[str], over: bool) -> None:
    tags = ThinkTags()
    for piece in pieces:
        list(tags.feed(piece))
    assert tags.over is over


@pytest.mark.parametrize("pieces", [[" "], ["<think>"], ["<think>", "<"], ["<think>", "</"], ["<think></think>", "\n"]])
def test_no_text_costs_more_than_its_length(pieces: list[str]) -> None:
    def seconds(times: int) -> float:
        with measuring():
            begun = time.process_time()
            told([*pieces, *pieces[-1:] * times])
            return time.process_time() - begun

    # Once is enough, unless something else has just kept the processor busy.
    assert any(seconds(80_000) < 0.1 + 16 * seconds(10_000) for _ in range(3))
