"""What all client APIs share."""

import pytest

from gpt_oss_proxy.apis.base import ClientApi, Incoming, ModelRoute
from gpt_oss_proxy.app import CLIENT_APIS
from gpt_oss_proxy.chat.completion import Collector
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.config.settings import Settings
from tests.doubles import SERVICES

APIS = [build(Settings(), SERVICES) for build in CLIENT_APIS]


def test_a_header_is_found_however_its_name_is_written() -> None:
    incoming = Incoming(b"", {"HTTP_X_KEY": "a"})
    assert [incoming.header(name) for name in ("x-key", "X-Key", "x-other")] == ["a", "a", ""]


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_every_client_api_has_a_name_and_a_route_to_a_model_and_describes_it(api: ClientApi) -> None:
    assert [other.name for other in APIS].count(api.name) == 1
    asking = [route for route in api.routes if isinstance(route, ModelRoute) and "<" not in route.path]
    described = api.describe()
    assert asking
    assert {route.path for route in asking} <= set(described.paths)
    assert described.schemas


def test_what_an_api_does_not_say_is_as_usual() -> None:
    api = APIS[0]
    assert type(api.collector(ChatRequest("m", ()))) is Collector
    assert (api.claims({}), api.key_headers, ClientApi.bare_text(api, ChatRequest("m", ()))) == (False, (), None)
