"""Which upstream serves which model."""

import pytest

from gpt_oss_proxy.errors import ModelNotFound, UpstreamUnreachable
from gpt_oss_proxy.gateway.router import Router
from tests.doubles import Scripted


def served(router: Router) -> list[str]:
    return [model.id for model in router.models()]


def test_a_model_goes_to_the_upstream_that_serves_it() -> None:
    first, second = Scripted(models=["a", "b"]), Scripted(models=["c/d"])
    router = Router([first, second])
    assert [router.route(model) for model in ("a", "b", "c/d")] == [first, first, second]
    assert served(router) == ["a", "b", "c/d"]


def test_where_two_serve_the_same_model_the_first_one_does() -> None:
    first, second = Scripted(models=["a"]), Scripted(models=["b", "a"])
    router = Router([first, second])
    assert router.route("a") is first
    assert served(router) == ["a", "b"]


@pytest.mark.parametrize("model", ["x", "", "A", "a ", "a/"])
def test_an_unknown_model_is_refused_and_those_that_exist_are_named(model: str) -> None:
    with pytest.raises(ModelNotFound) as raised:
        Router([Scripted(models=["a", "b"]), Scripted(models=["b", "c"])]).route(model)
    error = raised.value
    there_are = "There are: a, b, c."
    assert (error.message, error.param) == (f"The model {model.strip()!r} does not exist. {there_are}", "model")


def test_a_long_unknown_model_is_quoted_in_short() -> None:
    with pytest.raises(ModelNotFound) as raised:
        Router([Scripted(models=["a"])]).route("x\n" * 10_000)
    assert len(raised.value.message) < 300


def test_an_upstream_that_cannot_be_asked_hides_only_its_own_models() -> None:
    failing, good = Scripted(), Scripted(models=["a"])
    failing.served = UpstreamUnreachable()
    router = Router([failing, good])
    assert router.route("a") is good
    assert served(router) == ["a"]


def test_a_model_that_might_be_at_an_upstream_that_cannot_be_asked_is_not_denied() -> None:
    failing = Scripted()
    failing.served = UpstreamUnreachable()
    with pytest.raises(UpstreamUnreachable):
        Router([failing, Scripted(models=["a"])]).route("b")


def test_models_may_come_and_go() -> None:
    upstream = Scripted(models=["a"])
    router = Router([upstream])
    upstream.served = ["b"]
    assert router.route("b") is upstream
    assert served(router) == ["b"]
