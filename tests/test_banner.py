"""What the start prints, for each way in which upstreams can be set."""

import hashlib
import json
import shlex
from typing import Any

import pytest

from gpt_oss_proxy import banner as module
from gpt_oss_proxy.app import build_upstreams
from gpt_oss_proxy.banner import banner
from gpt_oss_proxy.config.settings import Settings
from tests.upstreams.raw_server import RawServer, with_length

SERVER = "http://ada:secret@models.example:8000/v1"
FOUR = "gpt-oss-20b, gpt-oss-120b, gpt-4o, gpt-4o-mini"


@pytest.fixture(autouse=True)
def _in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.01)


def printed(**environ: str) -> list[str]:
    settings = Settings.from_environ(environ)
    return banner(settings, build_upstreams(settings), "http://localhost:3000", "http://localhost:3000").splitlines()


def asked(command: str) -> tuple[str, dict[str, Any]]:
    """Return the path that the command asks, and its body."""
    _, url, *rest = shlex.split(command)
    return url.removeprefix("http://localhost:3000"), json.loads(rest[1]) if "-d" in rest else {}


def test_without_any_setting_it_is_short() -> None:
    assert printed() == [
        "gpt_oss_proxy answers on http://localhost:3000 with 2 worker(s), open: no API key.",
        f"Models: {FOUR}",
        "Try:",
        "  curl http://localhost:3000/v1/chat/completions -d "
        """'{"messages": [{"role": "user", "content": "Hello!"}]}'""",
    ]


OWN = {"OPENAI_BASE_URL": SERVER}
NO_DEFAULTS = {"BASE_URL": "off", "VERCEL_MINIMAL_API_URL": "off"}


@pytest.mark.parametrize(
    ("environ", "model"),
    [
        ({"BASE_URL": "http://a.example"}, None),
        ({"BASE_URL": "off"}, None),
        ({"VERCEL_MINIMAL_API_URL": "http://a.example/chat"}, "gpt-4o"),
        ({"VERCEL_MINIMAL_API_URL": "http://a.example/chat", "DEFAULT_MODEL": "gpt-4o-mini"}, None),
        ({**OWN, "OPENAI_MODELS": "it's,b"}, "it's"),
        ({**OWN, "OPENAI_MODELS": "a,b", "DEFAULT_MODEL": "b"}, None),
        ({**OWN, "OPENAI_MODELS": "a,b", "DEFAULT_MODEL": "gpt-4o"}, "a"),
        ({**OWN, "OPENAI_MODELS": "gpt-oss-120b"}, None),
        ({**OWN, "OPENAI_MODELS": "a,b", "BASE_URL": "off"}, None),
        ({**OWN, "BASE_URL": "http://a.example"}, None),
        ({**OWN, "DEFAULT_MODEL": "a"}, None),
        ({**OWN, **NO_DEFAULTS}, None),
    ],
)
def test_the_command_asks_a_model_of_an_upstream_that_was_set(environ: dict[str, str], model: str | None) -> None:
    path, body = asked(printed(**environ)[-1])
    assert (path, body.get("model")) == ("/v1/chat/completions", model)


@pytest.mark.parametrize("environ", [OWN, {**OWN, "BASE_URL": "off"}])
def test_where_no_model_of_it_is_known_the_command_asks_for_the_list(environ: dict[str, str]) -> None:
    assert asked(printed(**environ)[-1]) == ("/v1/models", {})


def test_it_lists_the_models_once_and_what_only_the_server_knows_by_its_host() -> None:
    assert printed(**OWN, OPENAI_MODELS="a,gpt-4o")[1] == ("Models: a, gpt-4o, gpt-oss-20b, gpt-oss-120b, gpt-4o-mini")
    assert printed(**OWN)[1] == f"Models: {FOUR}, those of models.example:8000"
    assert printed(OPENAI_BASE_URL="https://models.example/v1", **NO_DEFAULTS)[1] == "Models: those of models.example"


def test_with_keys_the_command_has_a_place_for_one() -> None:
    lines = printed(API_KEYS="sk-secret")
    assert lines[0] == "gpt_oss_proxy answers on http://localhost:3000 with 2 worker(s)."
    assert lines[2] == "Try, one of API_KEYS in place of KEY:"
    assert lines[3].endswith(" -H 'Authorization: Bearer KEY'")


def test_nothing_secret_is_printed() -> None:
    text = "\n".join(printed(**OWN, API_KEYS="sk-secret", OPENAI_API_KEY="sk-secret"))
    assert "secret" not in text
    assert hashlib.sha256(b"sk-secret").hexdigest() not in text


def test_a_server_whose_models_are_not_known_is_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 5)
    server = RawServer([with_length(b'{"data":[{"id":"a"},{"id":"b"}]}')])
    _, models, _, command = printed(OPENAI_BASE_URL=f"{server.url}/v1", **NO_DEFAULTS)
    server.stop()
    assert models == "Models: a, b"
    assert asked(command)[0] == "/v1/chat/completions"


def test_a_server_beside_the_defaults_is_the_one_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 5)
    server = RawServer([with_length(b'{"data":[{"id":"a"}]}')])
    command = printed(OPENAI_BASE_URL=f"{server.url}/v1")[-1]
    server.stop()
    assert asked(command)[1]["model"] == "a"


def test_a_server_that_is_down_holds_nothing_up() -> None:
    assert asked(printed(OPENAI_BASE_URL="http://127.0.0.1:9/v1")[-1])[0] == "/v1/models"
