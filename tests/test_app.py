"""The composition root: parts meet, and unusable settings stop the start."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import get_args

import pytest

from gpt_oss_proxy.apis.openai.errors import error_body
from gpt_oss_proxy.app import UPSTREAMS, build_failover, build_upstreams, create_app
from gpt_oss_proxy.chat.events import Finish
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.config.settings import Settings, SettingsError, UpstreamHttp
from gpt_oss_proxy.errors import Unauthorized, UpstreamTls
from tests.doubles import HELLO, Characters, Scripted, ask, gate, gateway
from tests.upstreams.certificates import Authority
from tests.upstreams.raw_server import RawServer, with_length

NOWHERE = "http://localhost:1/v1"
ALONE = Settings(base_url="", vercel_minimal_api_url="", default_model="", openai_base_url=NOWHERE)
ANSWER = with_length(b'{"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]}')


def served(settings: Settings) -> list[tuple[str, list[str]]]:
    return [(upstream.name, [model.id for model in upstream.models()]) for upstream in build_upstreams(settings)]


def test_the_contracts_models_are_served_by_its_upstreams() -> None:
    assert served(Settings()) == [
        ("chatkit", ["gpt-oss-20b", "gpt-oss-120b"]),
        ("ai_sdk", ["gpt-4o", "gpt-4o-mini"]),
    ]


def test_a_further_upstream_is_there_as_soon_as_it_has_a_url() -> None:
    settings = Settings(openai_base_url="http://localhost:1/v1", openai_models=("a", "org/b"))
    assert ("openai", ["a", "org/b"]) in served(settings)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        (Settings(base_url=""), ["ai_sdk"]),
        (Settings(vercel_minimal_api_url=""), ["chatkit"]),
        (Settings(base_url="", openai_base_url=NOWHERE, openai_models=("a",)), ["openai", "ai_sdk"]),
        (Settings(base_url="", openai_base_url=NOWHERE), ["ai_sdk", "openai"]),
    ],
)
def test_an_upstream_that_is_off_is_not_there(settings: Settings, left: list[str]) -> None:
    assert [upstream.name for upstream in build_upstreams(settings)] == left


def test_without_any_upstream_there_is_no_start() -> None:
    with pytest.raises(
        SettingsError, match=r"^no upstream is left: BASE_URL and VERCEL_MINIMAL_API_URL are off, OPENAI"
    ):
        create_app(Settings(base_url="", vercel_minimal_api_url="", default_model=""), vocabulary=Characters())


def test_a_model_that_a_setting_names_is_served_there_and_listed_once() -> None:
    server = RawServer([ANSWER])
    settings = Settings(openai_base_url=server.url, openai_models=("gpt-4o", "gpt-oss-20b"))
    client = create_app(settings, vocabulary=Characters()).test_client()
    models = client.get("/v1/models").get_json()["data"]
    assert sorted(model["id"] for model in models) == ["gpt-4o", "gpt-4o-mini", "gpt-oss-120b", "gpt-oss-20b"]
    assert [model["id"] for model in models if model["created"] == 0] == ["gpt-4o", "gpt-oss-20b"]  # as the server's
    assert ask(client, model="gpt-4o").get_json()["choices"][0]["message"]["content"] == "Hi."
    server.stop()


def test_without_a_default_the_first_listed_model_is_taken_at_the_time_of_the_request() -> None:
    server = RawServer([with_length(b'{"data": [{"id": "first"}, {"id": "second"}]}')], [ANSWER])
    answer = ask(create_app(dataclasses.replace(ALONE, openai_base_url=server.url)).test_client())
    assert (answer.status_code, answer.get_json()["model"]) == (200, "first")
    assert json.loads(server.bodies[-1])["model"] == "first"
    server.stop()


def test_a_server_that_is_down_has_no_first_model_but_its_own_error() -> None:
    answer = ask(create_app(ALONE, vocabulary=Characters()).test_client())
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (502, "upstream_unreachable")


def test_a_model_that_the_path_names_goes_before_that_of_the_body() -> None:
    server = RawServer([ANSWER])
    settings = dataclasses.replace(ALONE, openai_base_url=server.url, openai_models=("b", "a"))
    client = create_app(settings, vocabulary=Characters()).test_client()
    answer = client.post("/openai/deployments/a/chat/completions", data=json.dumps({"model": "b", "messages": HELLO}))
    assert answer.get_json()["model"] == "a"
    server.stop()


@pytest.mark.parametrize(("idle", "grace"), [(30, 2), (1, 0.5), (0.1, 0.05)])
def test_a_whole_answer_is_not_taken_for_one_that_has_fallen_silent(idle: float, grace: float) -> None:
    upstreams = build_upstreams(Settings(request_timeout_seconds=idle))
    assert {upstream.grace_seconds for upstream in upstreams} == {grace}


LISTED = with_length(b'{"data": [{"id": "far"}]}')


def listed(settings: Settings) -> list[str]:
    """Return the models that the server at OPENAI_BASE_URL lists."""
    return [model.id for model in build_upstreams(settings)[-1].models()]


@pytest.mark.parametrize("http", get_args(UpstreamHttp))
@pytest.mark.parametrize("name", ["ca_file", "ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle"])
def test_upstreams_are_trusted_whose_authority_a_setting_names(tmp_path: Path, name: str, http: UpstreamHttp) -> None:
    private = Authority(tmp_path)
    (tmp_path / "f3eaf3dc.0").write_bytes(private.pem)  # where OpenSSL looks for that name
    server = RawServer([LISTED], tls=private.server("127.0.0.1"))
    settings = Settings(openai_base_url=server.url, upstream_http=http)
    path = tmp_path if name == "ssl_cert_dir" else private.path
    assert listed(dataclasses.replace(settings, **{name: str(path)})) == ["far"]  # type: ignore[arg-type]
    with pytest.raises(UpstreamTls):
        listed(settings)
    server.stop()


@pytest.mark.parametrize("http", get_args(UpstreamHttp))
def test_upstreams_are_asked_through_the_proxy_that_a_setting_names(http: UpstreamHttp) -> None:
    proxy = RawServer([LISTED])
    settings = Settings(openai_base_url="http://upstream.test/v1", upstream_http=http, upstream_proxy=proxy.url)
    assert listed(settings) == ["far"]
    proxy.stop()


def test_each_upstream_has_connections_of_its_own() -> None:
    upstreams = build_upstreams(everywhere())
    assert len({id(upstream._transport) for upstream in upstreams}) == len(upstreams) == len(UPSTREAMS)


def test_the_application_routes_what_the_contract_names_with_and_without_v1() -> None:
    app = create_app(Settings(), vocabulary=Characters())
    routes = {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    inference = ("/chat/completions", "/completions")
    below = {("POST", path) for path in inference} | {
        (method, path) for method in ("GET", "HEAD") for path in ("/models", "/models/<path:model_id>")
    }
    below |= {("POST", f"{prefix}/deployments/<path:model>{path}") for path in inference for prefix in ("", "/openai")}
    operations = {
        (method, path)
        for method in ("GET", "HEAD")
        for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")
    }
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
            "DEFAULT_MODEL holds 'b'; allowed: one of a, gpt-oss-20b, gpt-oss-120b, gpt-4o, gpt-4o-mini",
        ),
        (Settings(base_url=""), "DEFAULT_MODEL holds 'gpt-oss-120b'; allowed: one of gpt-4o, gpt-4o-mini"),
        (Settings(base_url="", default_model=""), ""),
        (Settings(default_model="b", openai_base_url="http://localhost:1/v1"), ""),  # only that server knows
    ],
)
def test_a_default_model_that_nobody_serves_stops_the_start(settings: Settings, stop: str) -> None:
    try:
        create_app(settings, vocabulary=Characters())
    except SettingsError as error:
        stopped = str(error)
    else:
        stopped = ""
    assert stopped == stop


def test_without_settings_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", "gpt-4o-mini")
    monkeypatch.setenv("DEMONSTRATION", "Only a test.")
    response = create_app(vocabulary=Characters()).test_client().get("/v1/models/gpt-4o")
    assert response.json is not None
    assert response.json["description"] == "Only a test."
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SettingsError):
        create_app(vocabulary=Characters())


def test_without_a_vocabulary_it_is_o200k() -> None:
    app = create_app(Settings())
    assert app.dispatcher._vocabulary.count("Hello, world!") == 4


def failover(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    """Who else is asked for which model, by name, and for which model there."""
    gates = [gate(upstream) for upstream in build_upstreams(settings)]
    found = build_failover(settings, gates, gate)
    return {
        model: [(target.gate.upstream.name, target.model) for target in targets] for model, targets in found.items()
    }


def test_failover_names_upstreams_that_are_there_and_others_by_their_url() -> None:
    settings = Settings.from_environ(
        {
            "OPENAI_BASE_URL": "http://localhost:1/v1",
            "OPENAI_MODELS": "a",
            "FAILOVER": "gpt-oss-120b=chatkit+http://localhost:2, gpt-oss-120b=openai#org/gpt-oss,"
            "gpt-oss-20b=chatkit+http://localhost:2/,gpt-4o=ai_sdk+http://localhost:3/api/chat#gpt-4o-mini",
        }
    )
    assert failover(settings) == {
        "gpt-oss-120b": [("chatkit-2", "gpt-oss-120b"), ("openai", "org/gpt-oss")],
        "gpt-oss-20b": [("chatkit-2", "gpt-oss-20b")],
        "gpt-4o": [("ai_sdk-2", "gpt-4o-mini")],
    }


def test_the_key_of_one_server_is_not_sent_to_another() -> None:
    settings = Settings(
        openai_base_url="http://localhost:1/v1",
        openai_models=("a",),
        openai_api_key="sk-secret",
        failover=(("a", "openai+http://localhost:2/v1", "a"),),
    )
    (spare,) = build_failover(settings, [gate(upstream) for upstream in build_upstreams(settings)], gate)["a"]
    url, headers, _ = spare.gate.upstream.build(ChatRequest("a", ()))
    assert url == "http://localhost:2/v1/chat/completions"
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("settings", "named", "why"),
    [
        (Settings(), "openai", "OPENAI_BASE_URL is not set"),
        (Settings(base_url="", default_model=""), "chatkit", "BASE_URL is off"),
        (Settings(vercel_minimal_api_url=""), "ai_sdk", "VERCEL_MINIMAL_API_URL is off"),
    ],
)
def test_failover_to_an_upstream_that_is_not_configured_stops_the_start(
    settings: Settings, named: str, why: str
) -> None:
    model = build_upstreams(settings)[0].models()[0].id
    with pytest.raises(SettingsError, match=f"^FAILOVER names {named}, but {why}$"):
        create_app(dataclasses.replace(settings, failover=((model, named, "a"),)), vocabulary=Characters())


def test_readyz_and_metrics_know_every_upstream() -> None:
    app = create_app(
        Settings(failover=(("gpt-4o", "ai_sdk+http://localhost:2/chat", "gpt-4o"),)), vocabulary=Characters()
    )
    response = app.test_client().get("/readyz").json
    assert response == {
        "status": "ready",
        "circuits": {"chatkit": "closed", "ai_sdk": "closed", "ai_sdk-2": "closed"},
    }
    assert b'gpt_oss_proxy_upstream_circuit_open{upstream="ai_sdk-2"} 0.0' in app.test_client().get("/metrics").data


SK_1 = hashlib.sha256(b"sk-1").hexdigest()
KEYED = ("/v1/models", "/models", "/v1/models/model-1", "/v1/chat/completions", "/chat/completions")
OPEN = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")


@pytest.mark.parametrize("path", KEYED)
def test_with_keys_the_api_is_closed_to_those_who_have_none(path: str) -> None:
    client = gateway(Scripted([Finish("stop")]), api_keys=(SK_1,)).test_client()
    method = "POST" if path.endswith("completions") else "GET"
    body = json.dumps({"messages": HELLO}) if method == "POST" else None
    for headers in ({}, {"Authorization": "Bearer sk-2"}):
        refused = client.open(path, method=method, data=body, headers=headers)
        assert (refused.status_code, refused.data) == (401, error_body(Unauthorized()))
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert client.open(path, method=method, data=body, headers={"Authorization": "Bearer sk-1"}).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_probes_need_no_key(path: str) -> None:
    assert gateway(Scripted(), api_keys=(SK_1,)).test_client().get(path).status_code == 200


def test_every_protocol_has_an_upstream_of_its_name_that_failover_can_name() -> None:
    settings = everywhere()
    upstreams = build_upstreams(settings)
    assert {upstream.name for upstream in upstreams} == set(UPSTREAMS)
    found = build_failover(
        dataclasses.replace(settings, failover=tuple(("m", name, "m") for name in UPSTREAMS)),
        [gate(upstream) for upstream in upstreams],
        gate,
    )
    assert [target.gate.upstream.name for target in found["m"]] == list(UPSTREAMS)


def everywhere() -> Settings:
    """Return settings in which each protocol has its URL."""
    return Settings(**{protocol.setting: "http://localhost:1" for protocol in UPSTREAMS.values()})


def test_failover_to_a_protocol_that_is_not_known_stops_the_start() -> None:
    with pytest.raises(
        SettingsError, match=r"^FAILOVER names the upstream 'lines'; allowed: one of chatkit, ai_sdk, openai"
    ):
        create_app(Settings(failover=(("gpt-4o", "lines", "gpt-4o"),)), vocabulary=Characters())


def test_failover_for_a_model_that_nobody_serves_stops_the_start() -> None:
    with pytest.raises(
        SettingsError, match=r"^FAILOVER names the model 'typo', which no upstream serves; allowed: one of"
    ):
        create_app(Settings(failover=(("typo", "chatkit", "gpt-oss-20b"),)), vocabulary=Characters())
