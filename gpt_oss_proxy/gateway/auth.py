"""API keys: which clients may ask. Only hashes of them are kept, and they are compared in constant time."""

import hashlib
import hmac
from collections.abc import Sequence

from gpt_oss_proxy.errors import Unauthorized

_HASHED = "sha256:"


class Keys:
    """The keys that open the gateway, each as it is or as `sha256:` and its hash in hex; none at all lets all in."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = tuple(
            key.removeprefix(_HASHED) if key.startswith(_HASHED) else _digest(key.encode()) for key in keys
        )

    def check(self, authorization: str) -> None:
        """Let a request with this Authorization header pass. Raises Unauthorized."""
        if not self._digests:
            return
        scheme, _, key = authorization.partition(" ")
        presented = _digest(key.strip().encode("utf-8", "surrogateescape")) if scheme.lower() == "bearer" else ""
        # All of them, also after a match: how long it takes tells nothing.
        if sum(hmac.compare_digest(presented, digest) for digest in self._digests) == 0:
            raise Unauthorized


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
