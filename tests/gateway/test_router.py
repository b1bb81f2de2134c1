"""Which upstream serves which model."""

import pytest

from gpt_oss_proxy.errors import ModelNotFound, UpstreamUnreachable
from gpt_oss_proxy.gateway.attempts import Target
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.upstreams.base import Model, Upstream
from tests.doubles import Scripted, gate


def router_of(*upstreams: Scripted, failover: dict[str, list[Target]] | None = None) -> Router:
    return Router([gate(upstream) for upstream in upstreams], failover or {})


def asked(router: Router, model: str) -> list[Upstream]:
    return [target.gate.upstream for target in router.route(model)]


def served(router: Router) -> list[str]:
    return [model.id for model in router.models()]


def test_a_model_goes_to_the_upstream_that_serves_it() -> None:
    first, second = Scripted(models=["a", "b"]), Scripted(models=["c/d"])
    router = router_of(first, second)
    assert [asked(router, model) for model in ("a", "b", "c/d")] == [[first], [first], [second]]
    assert router.model("c/d") == Model("c/d", "tests", 1_700_000_000)
    assert served(router) == ["a", "b", "c/d"]


def test_where_two_serve_the_same_model_the_first_one_does() -> None:
    first, second = Scripted(models=["a"]), Scripted(models=["b", "a"])
    router = router_of(first, second)
    assert asked(router, "a") == [first]
    assert served(router) == ["a", "b"]


@pytest.mark.parametrize("model", ["x", "", "A", "a ", "a/"])
def test_an_unknown_model_is_refused_and_those_that_exist_are_named(model: str) -> None:
    with pytest.raises(ModelNotFound) as raised:
        router_of(Scripted(models=["a", "b"]), Scripted(models=["b", "c"])).route(model)
    error = raised.value
    there_are = "There are: a, b, c."
    assert (error.message, error.param) == (f"The model {model.strip()!r} does not exist. {there_are}", "model")


def test_a_long_unknown_model_is_quoted_in_short() -> None:
    with pytest.raises(ModelNotFound) as raised:
        router_of(Scripted(models=["a"])).route("x\n" * 10_000)
    assert len(raised.value.message) < 300


def test_an_upstream_that_cannot_be_asked_hides_only_its_own_models() -> None:
    failing, good = Scripted(), Scripted(models=["a"])
    failing.served = UpstreamUnreachable()
    router = router_of(failing, good)
    assert asked(router, "a") == [good]
    assert served(router) == ["a"]


def test_a_model_that_might_be_at_an_upstream_that_cannot_be_asked_is_not_denied() -> None:
    failing = Scripted()
    failing.served = UpstreamUnreachable()
    with pytest.raises(UpstreamUnreachable):
        router_of(failing, Scripted(models=["a"])).route("b")


def test_a_model_whose_own_upstream_cannot_be_asked_is_looked_for_elsewhere() -> None:
    failing, spare = Scripted(), Scripted()
    failing.served = UpstreamUnreachable()
    router = router_of(failing, failover={"a": [Target(gate(spare), "a")]})
    assert asked(router, "a") == [spare]
    with pytest.raises(UpstreamUnreachable):
        router.route("b")


def test_the_first_model_is_the_first_listed_one() -> None:
    assert router_of(Scripted(models=[]), Scripted(models=["b", "a"]), Scripted(models=["c"])).first() == "b"
    with pytest.raises(ModelNotFound):
        router_of(Scripted(models=[])).first()


def test_what_might_be_the_first_model_is_not_replaced_by_the_next_upstream_s() -> None:
    failing = Scripted()
    failing.served = UpstreamUnreachable()
    with pytest.raises(UpstreamUnreachable):
        router_of(failing, Scripted(models=["a"])).first()


def test_models_may_come_and_go() -> None:
    upstream = Scripted(models=["a"])
    router = router_of(upstream)
    upstream.served = ["b"]
    assert asked(router, "b") == [upstream]
    assert served(router) == ["b"]


def test_a_model_s_further_upstreams_are_asked_after_its_own_in_their_order() -> None:
    own, other, third = Scripted(models=["a", "b"]), Scripted(models=["x"]), Scripted(models=[])
    spare = [Target(gate(other), "x"), Target(gate(third), "a")]
    router = router_of(own, other, failover={"a": spare})
    assert router.route("a")[1:] == tuple(spare)
    assert asked(router, "a") == [own, other, third]
    assert asked(router, "b") == [own]
    assert [door.upstream for door in router.gates] == [own, other, other, third]
