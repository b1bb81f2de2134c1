"""API keys: which clients may ask. Only hashes of them are kept, and they are compared in constant time."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_oss_proxy.errors import Unauthorized

# Of Azure's and of Anthropic's clients. Authorization goes before them.
_KEY_HEADERS = ("HTTP_API_KEY", "HTTP_X_API_KEY")


class Keys:
    """The keys that open the gateway, by their SHA-256 in hex; none at all lets everybody in."""

    def __init__(self, digests: Sequence[str]) -> None:
        self._digests = tuple(digests)

    def check(self, environ: Mapping[str, Any]) -> None:
        """Let a request with one of the keys pass. Raises Unauthorized."""
        if not self._digests:
            return
        presented = hashlib.sha256(_key(environ).encode("utf-8", "surrogateescape")).hexdigest()
        # All of them, also after a match: how long it takes tells nothing.
        known = sum(hmac.compare_digest(presented, digest) for digest in self._digests)
        if not known:
            raise Unauthorized


def caller(environ: Mapping[str, Any]) -> str:
    """Return all that a request says of who asks, known or not."""
    return "\n".join(environ.get(name, "") for name in ("HTTP_AUTHORIZATION", *_KEY_HEADERS))


def _key(environ: Mapping[str, Any]) -> str:
    scheme, _, key = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        return str(key.strip())
    return next((environ[name].strip() for name in _KEY_HEADERS if environ.get(name)), "")
