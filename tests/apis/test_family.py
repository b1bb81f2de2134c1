"""The form of an error is that of the client API to which its path belongs."""

from collections.abc import Mapping
from typing import Any

import pytest

from gpt_oss_proxy.apis.base import (
    ClientApi,
    Description,
    DirectRoute,
    HttpAnswer,
    Incoming,
    ModelRoute,
    Path,
    Stamp,
    StreamRenderer,
)
from gpt_oss_proxy.apis.family import family
from gpt_oss_proxy.chat.completion import Collector
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError


class Fake(ClientApi):
    """A client API of which only the routes and the header by which it knows its clients matter."""

    header = ""

    def claims(self, environ: Mapping[str, Any]) -> bool:
        return bool(self.header) and self.header in environ

    def spell(self, path: Path, request: ChatRequest) -> str:
        raise NotImplementedError

    def spell_ignored(self, fields: tuple[str, ...], request: ChatRequest) -> tuple[str, ...]:
        raise NotImplementedError

    def whole(self, collector: Collector, stamp: Stamp, request: ChatRequest) -> bytes:
        raise NotImplementedError

    def stream(self, stamp: Stamp, request: ChatRequest) -> StreamRenderer:
        raise NotImplementedError

    def render_error(self, error: GatewayError, request_id: str) -> HttpAnswer:
        raise NotImplementedError

    def describe(self) -> Description:
        raise NotImplementedError


def asked(incoming: Incoming) -> ChatRequest:
    raise NotImplementedError


def answer(incoming: Incoming) -> HttpAnswer:
    raise NotImplementedError


class First(Fake):
    name = "first"
    routes = (ModelRoute("/chat", asked),)


class Letters(Fake):
    name = "letters"
    header = "HTTP_LETTERS_VERSION"
    routes = (
        ModelRoute("/letters", asked),
        DirectRoute("GET", "/letters/<id>", answer),
        ModelRoute("/deployments/<path:model>/letters", asked),
    )


class Stamps(Fake):
    name = "stamps"
    header = "HTTP_STAMPS_VERSION"
    routes = (DirectRoute("GET", "/letters/stamps/<id>", answer),)


APIS = (First(), Letters(), Stamps())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/letters", "letters"),
        ("/letters", "letters"),
        ("/letters/", "letters"),
        ("/v1/letters/", "letters"),
        ("/v1/letters/1/pages", "letters"),
        ("/letters/1", "letters"),
        ("/v1/letters/stamps/2", "stamps"),
        ("/letters/stamps/2", "stamps"),
        ("/v1/letters/stamps", "stamps"),
        ("/v1/letters/stamps2", "letters"),
        ("/v1/deployments/x/other", "letters"),
        ("/v1/lettersets", "first"),
        ("/v1/other/letters", "first"),
        ("/v1/v1/letters", "first"),
        ("/v1/models", "first"),
        ("/nothing", "first"),
        ("/v1", "first"),
        ("/", "first"),
        ("", "first"),
    ],
)
def test_the_longest_path_above_decides_and_else_the_first_api(path: str, name: str) -> None:
    assert family(APIS, path, {}).name == name


@pytest.mark.parametrize("apis", [APIS, APIS[::-1]])
def test_the_longest_path_decides_in_whatever_order_the_apis_are(apis: tuple[ClientApi, ...]) -> None:
    paths = ("/v1/letters/stamps/2", "/v1/letters/2", "/v1/chat")
    assert [family(apis, path, {}).name for path in paths] == ["stamps", "letters", "first"]
    assert family(apis, "/nothing", {}) is apis[0]


def test_a_client_that_says_which_api_it_speaks_gets_its_form_where_the_path_says_nothing() -> None:
    environ = {"HTTP_LETTERS_VERSION": "1"}
    paths = ("/nothing", "/v1/chat", "/v1/letters/stamps/2")
    assert [family(APIS, path, environ).name for path in paths] == ["letters", "first", "stamps"]


def test_of_two_apis_that_claim_a_request_the_first_gets_it() -> None:
    environ = {"HTTP_STAMPS_VERSION": "1", "HTTP_LETTERS_VERSION": "1"}
    assert family(APIS, "/nothing", environ).name == "letters"
    assert family(APIS, "/nothing", {"HTTP_STAMPS_VERSION": "1"}).name == "stamps"
