"""Which clients may ask."""

import hashlib

import pytest

from gpt_oss_proxy.errors import Unauthorized
from gpt_oss_proxy.gateway.auth import Keys

HASHED = hashlib.sha256(b"sk-hashed").hexdigest()


def keys(*plain: str) -> Keys:
    return Keys([*(hashlib.sha256(key.encode()).hexdigest() for key in plain), HASHED])


@pytest.mark.parametrize("authorization", ["", "Bearer anything", "Basic eA==", "nonsense"])
def test_without_keys_everybody_may(authorization: str) -> None:
    Keys(()).check(authorization)


@pytest.mark.parametrize(
    "authorization", ["Bearer sk-plain", "bearer sk-plain", "BEARER  sk-plain ", "Bearer sk-hashed", "Bearer sk-ü"]
)
def test_a_key_that_is_known_opens(authorization: str) -> None:
    keys("sk-plain", "sk-ü").check(authorization)


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
        keys("sk-plain").check(authorization)
