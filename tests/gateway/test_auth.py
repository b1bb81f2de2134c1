"""Which clients may ask."""

import hashlib

import pytest

from gpt_oss_proxy.errors import Unauthorized
from gpt_oss_proxy.gateway.auth import Keys

HASHED = "sha256:" + hashlib.sha256(b"sk-hashed").hexdigest()


@pytest.mark.parametrize("authorization", ["", "Bearer anything", "Basic eA==", "nonsense"])
def test_without_keys_everybody_may(authorization: str) -> None:
    Keys(()).check(authorization)


@pytest.mark.parametrize(
    "authorization", ["Bearer sk-plain", "bearer sk-plain", "BEARER  sk-plain ", "Bearer sk-hashed", "Bearer sk-ü"]
)
def test_a_key_that_is_known_opens(authorization: str) -> None:
    Keys(("sk-plain", HASHED, "sk-ü")).check(authorization)


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
        f"Bearer {HASHED.removeprefix('sha256:')}",
        "Bearer \udcff",
    ],
)
def test_anything_else_does_not(authorization: str) -> None:
    with pytest.raises(Unauthorized):
        Keys(("sk-plain", HASHED)).check(authorization)


def test_no_key_is_kept_as_it_is() -> None:
    assert "sk-plain" not in repr(vars(Keys(("sk-plain",))))
