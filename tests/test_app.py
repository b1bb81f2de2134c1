"""The composition root: parts meet, and unusable settings stop the start."""

import pytest

from gpt_oss_proxy.app import CLIENT_APIS, UPSTREAMS, build_upstreams, create_app
from gpt_oss_proxy.settings import Settings, SettingsError
from gpt_oss_proxy.upstreams.base import Upstream


def served(settings: Settings) -> list[tuple[str, list[str]]]:
    return [(upstream.name, [model.id for model in upstream.models()]) for upstream in build_upstreams(settings)]


def test_the_contracts_models_are_served_by_its_upstreams() -> None:
    assert served(Settings()) == [
        ("chatkit", ["gpt-oss-20b", "gpt-oss-120b"]),
        ("ai_sdk", ["gpt-4o", "gpt-4o-mini"]),
    ]


def test_a_further_upstream_is_there_as_soon_as_it_has_a_url() -> None:
    settings = Settings(openai_base_url="http://localhost:1/v1", openai_models=("a", "org/b"))
    assert served(settings)[2:] == [("openai", ["a", "org/b"])]


def test_each_upstream_has_connections_of_its_own() -> None:
    upstreams: list[Upstream] = list(build_upstreams(Settings(openai_base_url="http://localhost:1/v1")))
    assert len({id(upstream._transport) for upstream in upstreams}) == len(UPSTREAMS) == 3


def test_the_application_routes_what_the_contract_names_with_and_without_v1() -> None:
    app = create_app(Settings(), count=len)
    routes = {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    below = {("POST", api.PATH) for api in CLIENT_APIS.values()} | {
        (method, path) for method in ("GET", "HEAD") for path in ("/models", "/models/<path:model_id>")
    }
    operations = {(method, path) for method in ("GET", "HEAD") for path in ("/", "/healthz", "/readyz", "/metrics")}
    assert routes == below | {(method, f"/v1{path}") for method, path in below} | operations


@pytest.mark.parametrize(
    ("settings", "stop"),
    [
        (Settings(default_model="gpt-4o"), ""),
        (
            Settings(default_model="gpt-9"),
            "DEFAULT_MODEL holds 'gpt-9'; allowed: one of gpt-oss-20b, gpt-oss-120b, gpt-4o, gpt-4o-mini",
        ),
        (Settings(default_model="b", openai_base_url="http://localhost:1/v1", openai_models=("a", "b")), ""),
        (
            Settings(default_model="b", openai_base_url="http://localhost:1/v1", openai_models=("a",)),
            "DEFAULT_MODEL holds 'b'; allowed: one of gpt-oss-20b, gpt-oss-120b, gpt-4o, gpt-4o-mini, a",
        ),
        (Settings(default_model="b", openai_base_url="http://localhost:1/v1"), ""),  # only that server knows
    ],
)
def test_a_default_model_that_nobody_serves_stops_the_start(settings: Settings, stop: str) -> None:
    try:
        create_app(settings, count=len)
    except SettingsError as error:
        stopped = str(error)
    else:
        stopped = ""
    assert stopped == stop


def test_without_settings_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", "gpt-4o-mini")
    monkeypatch.setenv("DEMONSTRATION", "Only a test.")
    response = create_app(count=len).test_client().get("/v1/models/gpt-4o")
    assert response.json is not None
    assert response.json["description"] == "Only a test."
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SettingsError):
        create_app(count=len)


def test_without_a_counter_o200k_counts() -> None:
    app = create_app(Settings())
    assert app.dispatcher._count("Hello, world!") == 4
