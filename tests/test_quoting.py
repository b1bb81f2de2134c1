"""Foreign text loses its secrets, and is short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.quoting import quote


@pytest.mark.parametrize(
    ("foreign", "quoted"),
    [
        ("context too long", "context too long"),
        ("  two \n\t lines  ", "two lines"),
        ("see https://api.example.com/v1?key=1 now", "see […] now"),
        ("postgres://user:secret@db/x failed", "[…] failed"),
        ("Incorrect API key: sk-proj-abcd1234.", "Incorrect API key: […]."),
        ("https://a.example/" + "a" * 760 + " at db.internal.example", "[…] at"),
        ("hf_abcdefgh", "[…]"),
        ("Authorization: Bearer abc.def", "Authorization: […]"),
        ("Authorization: Basic bGVha2Vk==", "Authorization: […]"),
        ('{"password": "hunter2"} token=abc', '{"[…] […]'),
        ("AKIAIOSFODNN7EXAMPLE eyJhbGciOi.eyJzdWIi.c2ln", "[…] […]"),
        (
            "no Qwen2.5-Coder-32B-Instruct, gpt-4o-mini-2024-07-18",
            "no Qwen2.5-Coder-32B-Instruct, gpt-4o-mini-2024-07-18",
        ),
        ("connect to 10.0.0.7:8080 refused", "connect to […] refused"),
        ("connect ECONNREFUSED ::1:11434", "connect ECONNREFUSED […]"),
        ("connect to 2001:db8::8a2e:370:7334 failed", "connect to […] failed"),
        ("connect to 2001:db8:1:2:3:4:5:6 failed", "connect to […] failed"),
        ("no route to fe80::1", "no route to […]"),
        ("getaddrinfo ENOTFOUND chat.internal.example", "getaddrinfo ENOTFOUND […]"),
        ("localhost:3000 is down", "[…] is down"),
        ("no such file /etc/app/config.json", "no such file […]"),
        ("std::bad_alloc at 12:30:45", "std::bad_alloc at 12:30:45"),
        ("1.5 tokens a second, 3/4 done", "1.5 tokens a second, 3/4 done"),
        ("<html><body>nginx", ""),
        ("\n <!doctype html>", ""),
        ("x Traceback (most recent call last): y", ""),
        ("\ud800 half", "? half"),
        ("", ""),
    ],
)
def test_foreign_text_is_quoted_without_its_secrets(foreign: str, quoted: str) -> None:
    assert quote(foreign) == quoted


def test_a_quote_is_short() -> None:
    assert quote("a" * 10**6) == "a" * 200 + "…"
    assert quote("a" * 200) == "a" * 200
    assert [quote(" " * size + "a b c") for size in (795, 796)] == ["a b c", "a b"]  # so much of it is read


@given(st.text(st.sampled_from("a1.:-/_ \n\ud800"), max_size=1000) | st.text())
def test_a_quote_is_always_one_short_line_that_utf8_can_hold(text: str) -> None:
    quoted = quote(text)
    assert quoted.splitlines() in ([], [quoted])
    assert len(quoted.encode()) <= 4 * 201


def test_the_quote_of_an_awkward_text_is_quick() -> None:
    for awkward in ("a." * 10**6, "a-" * 10**6, "::" * 10**6, "1:" * 10**6, "/a" * 10**6, " " * 10**6):
        assert len(quote(awkward)) <= 201


@pytest.mark.parametrize("path", ["body.temperature: too high", "messages.1.reasoning", "tools.0.function.name"])
def test_the_path_of_a_field_is_no_host(path: str) -> None:
    assert quote(f"at {path}") == f"at {path}"


@pytest.mark.parametrize("host", ["db.corp.internal", "body-1.corp.internal:80", "x.messages.corp.example"])
def test_a_host_is_none_of_them(host: str) -> None:
    assert quote(f"at {host}") == "at […]"
