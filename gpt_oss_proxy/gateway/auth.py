"""API keys: which clients may ask. Only hashes of them are kept, and they are compared in constant time."""

import hashlib
import hmac
from collections.abc import Sequence

from gpt_oss_proxy.errors import Unauthorized


class Keys:
    """The keys that open the gateway, by their SHA-256 in hex; none at all lets everybody in."""

    def __init__(self, digests: Sequence[str]) -> None:
        self._digests = tuple(digests)

    def check(self, authorization: str) -> None:
        """Let a request with this Authorization header pass. Raises Unauthorized."""
        if not self._digests:
            return
        scheme, _, key = authorization.partition(" ")
        presented = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
        # All of them, also after a match: how long it takes tells nothing.
        known = sum(hmac.compare_digest(presented, digest) for digest in self._digests)
        if not known or scheme.lower() != "bearer":
            raise Unauthorized
