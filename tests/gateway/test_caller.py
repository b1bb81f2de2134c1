"""Which clients may ask."""

import hashlib

import pytest

from gpt_oss_proxy.errors import Unauthorized
from gpt_oss_proxy.gateway.caller import Keys

HASHED = hashlib.sha256(b"sk-hashed").hexdigest()


def keys(*plain: str) -> Keys:
    return Keys([*(hashlib.sha256(key.encode()).hexdigest() for key in plain), HASHED])


@pytest.mark.parametrize("authorization", ["", "Bearer anything", "Basic eA==", "nonsense"])
def test_without_keys_everybody_may(authorization: str) -> None:
    Keys(()).check({"HTTP_AUTHORIZATION": authorization})


@pytest.mark.parametrize(
    "authorization", ["Bearer sk-plain", "bearer sk-plain", "BEARER  sk-plain ", "Bearer sk-hashed", "Bearer sk-ü"]
)
def test_a_key_that_is_known_opens(authorization: str) -> None:
    keys("sk-plain", "sk-ü").check({"HTTP_AUTHORIZATION": authorization})


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer sk-plai",
        "Bearer sk-plain2",
        "Bearer SK-PLAIN",
        "sk-plain",
        "Basic sk-plain",
        f"Bearer {HASHED}",
        f"Bearer sha256:{HASHED}",
        "Bearer \udcff",
    ],
)
def test_anything_else_does_not(authorization: str) -> None:
    with pytest.raises(Unauthorized):
        keys("sk-plain").check({"HTTP_AUTHORIZATION": authorization})


@pytest.mark.parametrize("header", ["HTTP_API_KEY", "HTTP_X_API_KEY"])
def test_the_headers_of_azure_s_and_anthropic_s_clients_hold_keys_too(header: str) -> None:
    keys("sk-plain").check({header: "sk-plain"})
    keys("sk-plain").check({header: " sk-plain ", "HTTP_AUTHORIZATION": "Basic eA=="})
    keys("sk-plain").check({header: "sk-plain", "HTTP_AUTHORIZATION": "Bearer a placeholder"})
    keys("sk-plain").check({header: "a placeholder", "HTTP_AUTHORIZATION": "Bearer sk-plain"})
    for headers in ({header: "sk-other"}, {header: "sk-other", "HTTP_AUTHORIZATION": "Basic sk-plain"}, {header: ""}):
        with pytest.raises(Unauthorized):
            keys("sk-plain").check(headers)


@pytest.mark.parametrize("header", ["HTTP_AUTHORIZATION", "HTTP_API_KEY", "HTTP_X_API_KEY"])
def test_callers_differ_by_each_of_the_headers(header: str) -> None:
    presented = Keys(()).presented
    assert len({presented({}), presented({header: "a"}), presented({header: "b"})}) == 3


def test_a_client_api_may_have_a_key_header_of_its_own() -> None:
    given = Keys([HASHED], ["x-goog-api-key"])
    given.check({"HTTP_X_GOOG_API_KEY": "sk-hashed"})
    assert given.presented({"HTTP_X_GOOG_API_KEY": "a"}) != given.presented({})
    with pytest.raises(Unauthorized):
        keys().check({"HTTP_X_GOOG_API_KEY": "sk-hashed"})
