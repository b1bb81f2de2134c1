"""Decoding as bytes come: what a record tells, what an error loses and what not, and where an answer ends."""

import json

import pytest

from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, Started, TextDelta, ToolCallDelta
from gpt_oss_proxy.errors import UpstreamFailed, UpstreamTooLarge
from gpt_oss_proxy.upstreams import decoder as module
from gpt_oss_proxy.upstreams.decoder import Decoder
from tests.upstreams.decoding import Lines


def test_bytes_that_complete_no_record_are_told_apart_from_records_that_tell_nothing():
    decoder = Lines()
    assert [decoder.feed(data) for data in (b'"a', b'"', b"\n", b'""\n', b'"b"\n"c"\n')] == [
        None,
        None,
        [TextDelta("a")],
        [],
        [TextDelta("bc")],
    ]


def taking(*reads: bytes) -> tuple[list[str], list[Event]]:
    """Return what takes the shortcut, and the events of what does not. From the first read the decoder learns."""
    decoder = Lines()
    taken: list[str] = []
    fed: list[Event] = []
    for read in reads:
        if not decoder.take(lambda text: not taken.append(text), read):
            fed += decoder.feed(read) or []
    decoder.complete = True
    return taken, fed + decoder.close()


def test_a_text_with_escapes_takes_the_shortcut():
    written = [json.dumps(text).encode() + b"\n" for text in ("a", "é", "你好, мир", "😀!", "a\ud83d", "\ude00b", "ü")]
    assert b"\\u" in written[1]
    taken, fed = taking(*written)
    assert taken == ["é", "你好, мир", "😀!", "ü"]
    assert fed == [TextDelta("a"), TextDelta("a"), TextDelta("😀b"), Finish("stop")]  # the halves of one in two events


def test_a_text_behind_half_a_character_waits_for_it():
    taken, fed = taking(b'"a"\n', b'"\\ud83d"\n', '"é"\n'.encode(), b'"b"\n')
    assert (taken, fed) == (["b"], [TextDelta("a"), TextDelta("\ufffdé"), Finish("stop")])


def test_blank_lines_are_no_sign_of_life():
    assert Lines().feed(b"\n\r\n\n") is None


def test_an_error_does_not_lose_the_events_before_it():
    decoder = Lines()
    assert decoder.feed(b'"a"\nfail\n"b"\n') == [TextDelta("a")]
    assert type(decoder.failure) is UpstreamFailed


def test_a_record_above_the_limit_is_a_failure():
    decoder = Lines()
    assert decoder.feed(b"x" * 1001) == []
    assert type(decoder.failure) is UpstreamTooLarge


def test_an_answer_that_grows_without_end_is_a_failure(monkeypatch):
    monkeypatch.setattr(module, "_LONGEST_ANSWER", 10)
    for grow in (Decoder.say, Decoder.think, lambda decoder, text: decoder.call(0, arguments=text)):
        decoder = Lines()
        grow(decoder, "x" * 10)
        with pytest.raises(UpstreamTooLarge):
            grow(decoder, "x")


@pytest.mark.parametrize("nonsense", [b"{\n", b"x" * 2000])
def test_what_is_no_record_ends_an_answer_that_is_whole(nonsense):
    decoder = Lines()
    assert decoder.feed(b'"a"\ndone\n' + nonsense) == [TextDelta("a")]
    assert (decoder.failure, decoder.ended) == (None, True)


def test_records_after_the_end_are_not_read():
    decoder = Lines()
    assert decoder.feed(b'"a"\nEND\n"b"\nfail\n') == [TextDelta("a")]
    assert (decoder.ended, decoder.failure) == (True, None)
    assert decoder.close() == [Finish("stop")]


def test_half_characters_of_text_and_reasoning_wait_each_for_its_own_half():
    decoder = Lines()
    decoder.say("\ud83d")
    decoder.think("\ud83d")
    decoder.say("\ude00")
    decoder.think("x\udbff")
    decoder.say("a\ud83d")
    decoder.complete = True
    assert decoder.close() == [
        TextDelta("😀"),
        ReasoningDelta("\ufffdx"),
        TextDelta("a"),
        ReasoningDelta("\ufffd"),
        TextDelta("\ufffd"),
        Finish("stop"),
    ]


@pytest.mark.parametrize("reference", ["", "a\ud83d", "é", "a b", "a" * 129, "http://10.1.2.3/a", "db.internal", "::1"])
def test_what_may_be_more_than_an_id_is_no_reference(reference):
    decoder = Lines()
    decoder.start(reference)
    decoder.start("thr_1-a=")
    decoder.complete = True
    assert decoder.close() == [Started("thr_1-a="), Finish("stop")]


def test_empty_text_and_a_second_start_are_no_events():
    decoder = Lines()
    decoder.start("a")
    decoder.start("b")
    decoder.say("")
    decoder.think("")
    decoder.call(7, call_id="\ud83d", name="\ud83d", arguments="\ud83d")
    decoder.complete = True
    assert decoder.close() == [Started("a"), ToolCallDelta(7, "\ufffd", "\ufffd", "\ufffd"), Finish("stop")]
