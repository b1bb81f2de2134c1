"""API keys: which clients may ask. Only hashes of them are kept, and they are compared in constant time."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_oss_proxy.errors import Unauthorized

# Of Azure's and of Anthropic's clients.
_KEY_HEADERS = ("HTTP_API_KEY", "HTTP_X_API_KEY")


class Keys:
    """The keys that open the gateway, by their SHA-256 in hex; none at all lets everybody in."""

    def __init__(self, digests: Sequence[str]) -> None:
        self._digests = tuple(digests)

    def check(self, environ: Mapping[str, Any]) -> None:
        """Let a request with one of the keys pass. Raises Unauthorized."""
        if not self._digests:
            return
        presented = [hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest() for key in _keys(environ)]
        # All of them, also after a match: how long it takes tells nothing.
        known = sum(hmac.compare_digest(one, digest) for one in presented for digest in self._digests)
        if not known:
            raise Unauthorized


def caller(environ: Mapping[str, Any]) -> str:
    """Return all that a request says of who asks, known or not."""
    return "\n".join(environ.get(name, "") for name in ("HTTP_AUTHORIZATION", *_KEY_HEADERS))


def _keys(environ: Mapping[str, Any]) -> list[str]:
    """Return all keys of a request: SDKs may send a placeholder beside the one that is meant."""
    scheme, _, key = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    given = [key] if scheme.lower() == "bearer" else []
    return [key.strip() for key in (*given, *(environ.get(name, "") for name in _KEY_HEADERS)) if key.strip()]
