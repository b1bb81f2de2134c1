"""What the text of a variable may be: each kind of value parses it, and says in words what is allowed."""

import dataclasses
import hashlib
import ipaddress
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Unusable(ValueError):
    """Part of a variable's text is unusable. The message follows the variable's name: what is wrong, and where."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """Parses a variable's text, and describes what is allowed. `parse` raises ValueError."""

    parse: Callable[[str], Any]
    allowed: str


def shown(text: str) -> str:
    """Return a variable's text as an error may show it: without passwords in URLs."""
    return repr(re.sub(r"//[^/\s]*@", "//…@", text)[:100])


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isascii() or re.search(r"[\s#?]", text):
        raise ValueError
    _ = parts.port  # raises ValueError where it is no number or out of range
    return text.rstrip("/")


def _token(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError
    return text


def _ids(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (_token(part.strip()) for part in text.split(",")))))


def _networks(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(network)) for network in _ids(text))


def number(low: float, high: float) -> Kind:
    """Return the kind of a number in this range."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # False for NaN too
            raise ValueError
        return value

    return Kind(parse, f"a number from {low:g} to {high:g}")


def integer(low: int, high: int) -> Kind:
    """Return the kind of a whole number in this range."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return Kind(parse, f"a whole number from {low} to {high}")


def choice(*values: str) -> Kind:
    """Return the kind of one of these words."""

    def parse(text: str) -> str:
        if text not in values:
            raise ValueError
        return text

    return Kind(parse, f"one of {', '.join(values)}")


def several(*values: str) -> Kind:
    """Return the kind of some of these words, separated by commas."""

    def parse(text: str) -> tuple[str, ...]:
        found = _ids(text)
        if not set(found) <= set(values):
            raise ValueError
        return found

    return Kind(parse, f"some of {', '.join(values)}, separated by commas")


def or_off(kind: Kind) -> Kind:
    """Return the same kind, or the word off, which is an empty value."""

    return Kind(lambda text: "" if text == "off" else kind.parse(text), f"{kind.allowed}, or off")


def _failover(text: str) -> tuple[tuple[str, str, str], ...]:
    """Return (model, upstream or protocol+URL, the model's id there) of each entry."""
    return tuple(_failover_entry(part.strip()) for part in text.split(",") if part.strip())


def _failover_entry(entry: str) -> tuple[str, str, str]:
    model, _, target = entry.partition("=")
    upstream, _, model_there = target.partition("#")
    protocol, plus, url = upstream.partition("+")
    if not model or not upstream:
        raise Unusable(f"holds {shown(entry)}")
    for name in (model, model_there):
        if not name.isascii() or not name.isprintable():
            raise Unusable(f"names the model {name[:100]!r}")
    try:
        address = _url(url) if plus else ""
    except ValueError:
        address = None
    if not protocol or address is None:
        raise Unusable(f"names the upstream {shown(upstream)}")
    return model, f"{protocol}{plus}{address}", model_there or model


def _keys(text: str) -> tuple[str, ...]:
    """Return the SHA-256 of each key, in hex; the keys themselves are not stored."""
    entries = [part.strip() for part in re.split(r"[,\n]", text) if part.strip()]
    if not entries:  # it would open the gateway to all
        raise Unusable("holds no key")
    return tuple(_digest(entry, f"entry {number} of {len(entries)}") for number, entry in enumerate(entries, 1))


def _digest(key: str, place: str) -> str:
    hashed = re.fullmatch(r"sha256:([0-9a-fA-F]{64})(\s+\*?-)?", key)  # sha256sum's output ends with a file's name
    if hashed:
        return hashed[1].lower()
    if not key.isascii() or not key.isprintable() or " " in key or key.startswith("sha256:"):
        raise Unusable(f"holds something unusable as {place}")
    return hashlib.sha256(key.encode()).hexdigest()


def _certificates(text: str) -> str:
    if not _holds_certificates(text):
        raise ValueError
    return text


def _folders(text: str) -> str:
    # In a folder, OpenSSL finds an authority only by the hash of its name.
    for folder in text.split(":"):
        if not any(map(_holds_certificates, map(str, Path(folder).glob("[0-9a-f]" * 8 + ".[0-9]*")))):
            raise ValueError
    return text


def _bundle(text: str) -> str:
    return _folders(text) if Path(text).is_dir() else _certificates(text)


def _holds_certificates(path: str) -> bool:
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        trusted.load_verify_locations(path)
    except OSError:  # it is missing, unreadable, or has no certificates
        return False
    return trusted.cert_store_stats()["x509"] > 0  # and not only revocation lists


def _proxy(text: str) -> str:
    url = _url(text)
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.port is None or parts.path:
        raise ValueError
    return url


CERTIFICATES = Kind(_certificates, "a readable file with certificates in PEM form")
FOLDERS = Kind(_folders, "directories of certificates, separated by colons, each prepared by `openssl rehash`")
BUNDLE = Kind(
    _bundle, "a readable file with certificates in PEM form, or a directory of them, prepared by `openssl rehash`"
)
PROXY = Kind(
    _proxy,
    "http://host:port or http://name:password@host:port, percent-encoded; a proxy that itself wants TLS (https://) is "
    "not supported",
)
URL = Kind(_url, "a URL that begins with http:// or https://, without ? and #")
NAME = Kind(_token, "text of visible ASCII characters")
KEYS = Kind(
    _keys, "keys of visible ASCII characters, or sha256: and a key's SHA-256 in hex, separated by commas or line ends"
)
FAILOVER = Kind(
    _failover,
    "MODEL=UPSTREAM, separated by commas; UPSTREAM is an upstream's name (chatkit, ai_sdk, openai), or one with + and "
    "the URL of another such server, and may end with # and the model's id there",
)
NETWORKS = Kind(_networks, "IP networks such as 10.0.0.0/8, separated by commas")
IDS = Kind(_ids, "ids of visible ASCII characters, separated by commas")
