"""API keys: who may use the gateway. Only their hashes are kept, and they are compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gpt_oss_proxy.errors import Unauthorized

# Headers of Azure's and Anthropic's clients; a client API may have further ones.
_KEY_HEADERS = ("api-key", "x-api-key")


class Keys:
    """The accepted API keys, by their SHA-256 in hex. Without keys every request is accepted.

    A key is sent as a bearer token, or in one of the headers that clients use, including `further_headers`.
    """

    def __init__(self, digests: Sequence[str], further_headers: Iterable[str] = ()) -> None:
        self._digests = tuple(digests)
        names = dict.fromkeys((*_KEY_HEADERS, *further_headers))
        self._headers = tuple(f"HTTP_{name.upper().replace('-', '_')}" for name in names)

    def check(self, environ: Mapping[str, Any]) -> None:
        """Accept a request with one of the keys. Raises Unauthorized."""
        if not self._digests:
            return
        presented = [hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest() for key in self._keys(environ)]
        # Compare all keys, even after a match: the duration must not reveal anything.
        known = sum(hmac.compare_digest(one, digest) for one in presented for digest in self._digests)
        if not known:
            raise Unauthorized

    def presented(self, environ: Mapping[str, Any]) -> str:
        """Return all credentials in a request, whether known or not."""
        return "\n".join(environ.get(name, "") for name in ("HTTP_AUTHORIZATION", *self._headers))

    def _keys(self, environ: Mapping[str, Any]) -> list[str]:
        """Return all keys in a request: SDKs may send a placeholder beside the real one."""
        scheme, _, key = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        given = [key] if scheme.lower() == "bearer" else []
        return [key.strip() for key in (*given, *(environ.get(name, "") for name in self._headers)) if key.strip()]
