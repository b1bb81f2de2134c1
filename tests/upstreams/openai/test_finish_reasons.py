"""Why an answer ended, in every spelling in use."""

import pytest

from gpt_oss_proxy.upstreams.openai.finish_reasons import REASONS, Ending, ending_of


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        *((reason, "stop") for reason in ("stop", "STOP", "end_turn", "eos", "eos_token", "stop_sequence", "COMPLETE")),
        *((reason, "length") for reason in ("length", "MAX_TOKENS", "max_tokens", "model_length", "max_output_tokens")),
        *((reason, "tool_calls") for reason in ("tool_calls", "tool-calls", "tool_use", "function_call", "TOOL_CALL")),
        *((reason, "content_filter") for reason in ("content_filter", "content-filter", "SAFETY", "RECITATION")),
        *((reason, "content_filter") for reason in ("sensitive", "refusal", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST")),
        *((reason, "error") for reason in ("error", "abort", "cancelled", "network_error", "ERROR", "Canceled")),
        ("insufficient_system_resource", "error"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        (" Max Tokens\n", "length"),
        ("something new", None),
        ("", None),
    ],
)
def test_every_spelling_has_its_meaning_and_an_unknown_one_has_none(reason: str, ending: Ending | None) -> None:
    assert ending_of(reason) == ending


def test_each_word_of_the_table_is_there_once_and_is_found() -> None:
    words = [word for spellings in REASONS.values() for word in spellings]
    assert len(set(words)) == len(words)
    for ending, spellings in REASONS.items():
        for word in spellings:
            assert ending_of(word) == ending_of(word.upper()) == ending_of(word.replace("_", "-")) == ending


def test_openais_own_reasons_stand_first() -> None:
    assert all(spellings[0] == ending for ending, spellings in REASONS.items())
