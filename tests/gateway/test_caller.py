"""Which clients may ask."""

import hashlib

import pytest

from gpt_oss_proxy.errors import Unauthorized
from gpt_oss_proxy.gateway.caller import Keys, caller

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
    assert len({caller({}), caller({header: "a"}), caller({header: "b"})}) == 3
