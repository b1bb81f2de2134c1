"""Whose request it is: the address of the client, behind proxies that are trusted to tell it.

Source: the de-facto standard X-Forwarded-For, to which each proxy appends the address that asked it.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddresses:
    """Finds client addresses. `trusted` are the networks of proxies, in CIDR form; a Unix socket is trusted, too."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]
        self._find = lru_cache(1024)(self._find_now)

    def find(self, environ: Mapping[str, Any]) -> str:
        """Return the rightmost address that is not a trusted proxy's; '' if there is none."""
        return self._find(environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR", ""))

    def _find_now(self, peer: str, forwarded: str) -> str:
        found = _read(peer)
        if found and not self._is_trusted(found):
            return str(found)
        for entry in reversed(forwarded.split(",")):
            address = _read(entry)
            if address is None:  # what stands before an entry that is no address cannot be trusted
                break
            found = address
            if not self._is_trusted(address):
                break
        return str(found) if found else ""

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _read(text: str) -> Address | None:
    """Return an address, with or without its port, None if it is none."""
    text = text.strip()
    if "%" in text:  # a zone may be any text
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
