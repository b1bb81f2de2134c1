"""What can be asked for."""

import pytest

from gpt_oss_proxy.errors import UpstreamUnreachable
from tests.doubles import Scripted, error_shown, gateway


def shown(model: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "tests"}


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/", "/models/"])
def test_all_models_are_listed(path: str) -> None:
    app = gateway(Scripted(models=["a", "org/b"]), Scripted(models=["c", "a"]))
    response = app.test_client().get(path)
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.json == {"object": "list", "data": [shown("a"), shown("org/b"), shown("c")]}


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize(
    ("path", "model"),
    [("a", "a"), ("org/b", "org/b"), ("org%2Fb", "org/b"), ("x:7b%20q", "x:7b q"), ("gr%C3%B6%C3%9Fe", "größe")],
)
def test_a_model_is_shown_and_its_id_may_hold_anything(prefix: str, path: str, model: str) -> None:
    app = gateway(Scripted(models=["a", "org/b", "x:7b q", "größe"]))
    response = app.test_client().get(f"{prefix}/models/{path}")
    assert (response.status_code, response.json) == (200, shown(model))


@pytest.mark.parametrize("path", ["b", "a/b", "a//b", "%ff", "a%00", "..%2Fa"])
def test_an_unknown_model_is_a_404_that_names_those_that_exist(path: str) -> None:
    response = gateway(Scripted(models=["a"])).test_client().get(f"/v1/models/{path}")
    assert response.status_code == 404
    assert response.json is not None
    error = response.json["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")
    assert error["message"].endswith(" does not exist. There are: a.")


def test_a_demonstration_says_so_at_every_model() -> None:
    client = gateway(Scripted(models=["a"]), demonstration="A small model.").test_client()
    model = {**shown("a"), "owned_by": "demonstration", "description": "A small model."}
    assert client.get("/v1/models").json == {"object": "list", "data": [model]}
    assert client.get("/v1/models/a").json == model


def test_an_upstream_that_cannot_be_asked_hides_its_models_but_does_not_deny_them() -> None:
    failing = Scripted()
    failing.served = UpstreamUnreachable()
    client = gateway(failing, Scripted(models=["a"])).test_client()
    assert client.get("/v1/models").json == {"object": "list", "data": [shown("a")]}
    assert client.get("/v1/models/a").json == shown("a")
    response = client.get("/v1/models/b")
    assert (response.status_code, response.json) == (502, error_shown(UpstreamUnreachable()))
