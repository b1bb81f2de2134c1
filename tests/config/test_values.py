"""What the text of a variable may be."""

import pytest

from gpt_oss_proxy.config.values import KEYS, URL, Unusable, choice, integer, number, or_off, several, shown


def test_a_value_is_shown_without_passwords_and_not_at_length() -> None:
    assert shown("http://name:secret@host/") == "'http://…@host/'"
    assert len(shown("x" * 1000)) <= 102


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (number(0.1, 2), "0.5", 0.5),
        (integer(1, 9), "9", 9),
        (choice("a", "b"), "b", "b"),
        (several("a", "b", "c"), "b, a", ("b", "a")),
        (or_off(URL), "off", ""),
        (or_off(URL), "http://x/", "http://x"),
        (KEYS, "sha256:" + "0" * 64, ("0" * 64,)),
    ],
)
def test_a_value_that_is_allowed(kind: object, text: str, value: object) -> None:
    assert kind.parse(text) == value  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((number(0.1, 2), text) for text in ("0", "3", "nan", "inf", "x")),
        *((integer(1, 9), text) for text in ("0", "10", "1.0", "-1", "x")),
        *((choice("a"), "A"), (several("a"), "a,b"), (or_off(URL), "OFF"), (URL, "ftp://x")),
    ],
)
def test_a_value_that_is_not(kind: object, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it has no text of its own
        kind.parse(text)  # type: ignore[attr-defined]


def test_a_list_of_keys_without_a_key_says_why() -> None:
    with pytest.raises(Unusable, match="holds no key"):
        KEYS.parse(" , ")
