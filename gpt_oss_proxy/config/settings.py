"""Settings, read once from the environment: the only place that knows a variable's name, default and range.

Adding a setting is adding one field to `Settings`; its row in docs/configuration.md is generated.
"""

import dataclasses
import hashlib
import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

ChatKitDialect = Literal["older", "published"]
UpstreamHttp = Literal["fast", "requests"]
ImageFormat = Literal["image", "image_url", "attachments"]
MessageFormat = Literal["content", "parts"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Omittable = Literal["stream_options", "developer", "reasoning", "stream"]
ReasoningFields = Literal["both", "reasoning", "reasoning_content", "think-tags", "hidden"]

EFFORTS, REASONING_FIELDS = get_args(Effort), get_args(ReasoningFields)
_MEBIBYTE = 1024 * 1024


class SettingsError(ValueError):
    """A variable has an unusable value. The text is one line: its name, its value, what is allowed."""


class _Unusable(ValueError):
    """Part of a variable's text is unusable. The message follows the variable's name: what is wrong, and where."""


@dataclasses.dataclass(frozen=True)
class _Kind:
    """Parses a variable's text, and describes what is allowed. `parse` raises ValueError."""

    parse: Callable[[str], Any]
    allowed: str


def _shown(text: str) -> str:
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


def _number(low: float, high: float) -> _Kind:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # False for NaN too
            raise ValueError
        return value

    return _Kind(parse, f"a number from {low:g} to {high:g}")


def _integer(low: int, high: int) -> _Kind:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return _Kind(parse, f"a whole number from {low} to {high}")


def _choice(*values: str) -> _Kind:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError
        return text

    return _Kind(parse, f"one of {', '.join(values)}")


def _several(*values: str) -> _Kind:
    def parse(text: str) -> tuple[str, ...]:
        found = _ids(text)
        if not set(found) <= set(values):
            raise ValueError
        return found

    return _Kind(parse, f"some of {', '.join(values)}, separated by commas")


def _or_off(kind: _Kind) -> _Kind:
    return _Kind(lambda text: "" if text == "off" else kind.parse(text), f"{kind.allowed}, or off")


def _failover(text: str) -> tuple[tuple[str, str, str], ...]:
    """Return (model, upstream or protocol+URL, the model's id there) of each entry."""
    return tuple(_failover_entry(part.strip()) for part in text.split(",") if part.strip())


def _failover_entry(entry: str) -> tuple[str, str, str]:
    model, _, target = entry.partition("=")
    upstream, _, model_there = target.partition("#")
    protocol, plus, url = upstream.partition("+")
    if not model or not upstream:
        raise _Unusable(f"holds {_shown(entry)}")
    for name in (model, model_there):
        if not name.isascii() or not name.isprintable():
            raise _Unusable(f"names the model {name[:100]!r}")
    try:
        address = _url(url) if plus else ""
    except ValueError:
        address = None
    if not protocol or address is None:
        raise _Unusable(f"names the upstream {_shown(upstream)}")
    return model, f"{protocol}{plus}{address}", model_there or model


def _keys(text: str) -> tuple[str, ...]:
    """Return the SHA-256 of each key, in hex; the keys themselves are not stored."""
    entries = [part.strip() for part in re.split(r"[,\n]", text) if part.strip()]
    if not entries:  # it would open the gateway to all
        raise _Unusable("holds no key")
    return tuple(_digest(entry, f"entry {number} of {len(entries)}") for number, entry in enumerate(entries, 1))


def _digest(key: str, place: str) -> str:
    hashed = re.fullmatch(r"sha256:([0-9a-fA-F]{64})(\s+\*?-)?", key)  # sha256sum's output ends with a file's name
    if hashed:
        return hashed[1].lower()
    if not key.isascii() or not key.isprintable() or " " in key or key.startswith("sha256:"):
        raise _Unusable(f"holds something unusable as {place}")
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


_CERTIFICATES = _Kind(_certificates, "a readable file with certificates in PEM form")
_FOLDERS = _Kind(_folders, "directories of certificates, separated by colons, each prepared by `openssl rehash`")
_BUNDLE = _Kind(
    _bundle, "a readable file with certificates in PEM form, or a directory of them, prepared by `openssl rehash`"
)
_PROXY = _Kind(
    _proxy,
    "http://host:port or http://name:password@host:port, percent-encoded; a proxy that itself wants TLS (https://) is "
    "not supported",
)
_URL = _Kind(_url, "a URL that begins with http:// or https://, without ? and #")
_NAME = _Kind(_token, "text of visible ASCII characters")
_KEYS = _Kind(
    _keys, "keys of visible ASCII characters, or sha256: and a key's SHA-256 in hex, separated by commas or line ends"
)
_FAILOVER = _Kind(
    _failover,
    "MODEL=UPSTREAM, separated by commas; UPSTREAM is an upstream's name (chatkit, ai_sdk, openai), or one with + and "
    "the URL of another such server, and may end with # and the model's id there",
)
_NETWORKS = _Kind(_networks, "IP networks such as 10.0.0.0/8, separated by commas")
_IDS = _Kind(_ids, "ids of visible ASCII characters, separated by commas")


def _setting(kind: _Kind, default: Any, help: str, *, unit: str = "", secret: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, "help": help, "unit": unit, "secret": secret})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings for operators. The variable of a field is its name in capitals."""

    base_url: str = _setting(
        _or_off(_URL), "https://api.gpt-oss.com", "ChatKit server of gpt-oss-20b and gpt-oss-120b; /chatkit is added"
    )
    default_model: str = _setting(  # "" = the first listed
        _NAME, "gpt-oss-120b", "model of a request that names none; with BASE_URL=off the first listed one, unless set"
    )
    request_timeout_seconds: float = _setting(
        _number(0.1, 3600), 30.0, "longest silence of an upstream, before the first event and between events", unit="s"
    )
    reasoning_effort_default: str = _setting(
        _choice(*EFFORTS), "high", "reasoning effort of a request that names none (ChatKit, older dialect)"
    )
    vercel_minimal_api_url: str = _setting(
        _or_off(_URL), "https://minimal-chatbot.vercel.app/api/chat", "AI SDK chat endpoint of gpt-4o and gpt-4o-mini"
    )
    vercel_session_prefix: str = _setting(_NAME, "", "put before the chat id that the AI SDK endpoint gets")
    port: int = _setting(_integer(1, 65535), 3000, "port to listen on")

    host: str = _setting(_NAME, "0.0.0.0", "address to listen on")  # noqa: S104 - Render and containers need all
    web_concurrency: int = _setting(_integer(1, 256), 2, "worker processes")
    connect_timeout_seconds: float = _setting(
        _number(0.1, 600),
        5.0,
        "longest wait for a connection to an upstream: name, TCP, proxy and TLS together",
        unit="s",
    )
    total_timeout_seconds: float = _setting(_number(0.1, 86400), 600.0, "longest time of a whole answer", unit="s")
    keepalive_seconds: float = _setting(
        _number(0.05, 3600), 15.0, "longest silence of ours in a stream; then an empty chunk is sent", unit="s"
    )
    graceful_timeout_seconds: int = _setting(
        _integer(1, 86400), 30, "time that running answers get when the process gets SIGTERM", unit="s"
    )
    max_body_bytes: int = _setting(_integer(1024, 1024 * _MEBIBYTE), 32 * _MEBIBYTE, "largest request", unit="bytes")
    max_bodies_bytes: int = _setting(
        _integer(1024, 64 * 1024 * _MEBIBYTE),
        256 * _MEBIBYTE,
        "requests in a worker that no upstream has yet, all together, at least MAX_BODY_BYTES; above it is a 503",
        unit="bytes",
    )
    max_event_bytes: int = _setting(
        _integer(65536, 1024 * _MEBIBYTE), 16 * _MEBIBYTE, "largest single event of an upstream", unit="bytes"
    )
    max_requests: int = _setting(
        _integer(1, 1_000_000), 4000, "chats that run at the same time, in all workers; above it is a 503"
    )
    max_requests_per_upstream: int = _setting(
        _integer(1, 1_000_000), 3500, "chats that run at the same time at one upstream, in all workers"
    )
    retries: int = _setting(
        _integer(0, 10), 2, "how often a request that no upstream has taken is tried again, before the first byte"
    )
    failover: tuple[tuple[str, str, str], ...] = _setting(
        _FAILOVER, (), "who else is asked for a model, in order, when its upstream is not there"
    )
    breaker_failures: int = _setting(
        _integer(0, 10_000), 10, "requests in a row that find an upstream not there, until it is left alone; 0 = never"
    )
    breaker_seconds: float = _setting(
        _number(0.1, 3600), 10.0, "how long it is left alone, up to eight times longer if it stays away", unit="s"
    )
    api_keys: tuple[str, ...] = _setting(
        _KEYS, (), "keys that clients must have one of; nothing = no key is needed", secret=True
    )
    reasoning_fields: ReasoningFields = _setting(
        _choice(*REASONING_FIELDS),
        "both",
        "where answers show reasoning: in both fields, in one of them, in the text between think tags, or nowhere",
    )
    chatkit_dialect: ChatKitDialect = _setting(
        _choice(*get_args(ChatKitDialect)),
        "older",
        "how requests to BASE_URL are spelled: older (gpt-oss.com) or published (the openai-chatkit package)",
    )
    ai_sdk_image_format: ImageFormat = _setting(
        _choice(*get_args(ImageFormat)),
        "image",
        "how images go to the AI SDK endpoint: image (a part with both keys), image_url, attachments",
    )
    ai_sdk_message_format: MessageFormat = _setting(
        _choice(*get_args(MessageFormat)),
        "content",
        "how messages go to the AI SDK endpoint: content (AI SDK 4), parts (AI SDK 5 and later)",
    )
    openai_base_url: str = _setting(_or_off(_URL), "", "any OpenAI-compatible server, with its /v1; nothing = not used")
    openai_api_key: str = _setting(_NAME, "", "key for OPENAI_BASE_URL", secret=True)
    openai_models: tuple[str, ...] = _setting(
        _IDS, (), "ids that are served at OPENAI_BASE_URL, whatever else has them; nothing = ask its /models"
    )
    openai_omit: tuple[Omittable, ...] = _setting(
        _several(*get_args(Omittable)),
        (),
        "what is not sent to OPENAI_BASE_URL: stream_options, the developer role (system in its place), reasoning of "
        "earlier turns, stream (answers come whole); it is also left out where the server refuses it",
    )
    openai_think_tags: Literal["on", "off"] = _setting(
        _choice("on", "off"), "off", "on: a leading <think>…</think> in the text of OPENAI_BASE_URL is reasoning"
    )
    upstream_http: UpstreamHttp = _setting(
        _choice(*get_args(UpstreamHttp)),
        "fast",
        "how upstreams are spoken to: fast (our adapter of requests) or requests (its own, slower one)",
    )
    ca_file: str = _setting(
        _CERTIFICATES, "", "certificates of private authorities that may vouch for upstreams, beside all others"
    )
    ssl_cert_file: str = _setting(_CERTIFICATES, "", "authorities in place of those of Mozilla that come with certifi")
    ssl_cert_dir: str = _setting(_FOLDERS, "", "authorities in place of certifi's, beside those of SSL_CERT_FILE")
    requests_ca_bundle: str = _setting(
        _BUNDLE, "", "authorities in place of certifi's, of SSL_CERT_FILE's and of SSL_CERT_DIR's"
    )
    upstream_proxy: str = _setting(
        _PROXY, "", "forward proxy for all upstreams but those on loopback; nothing = no proxy", secret=True
    )
    trusted_proxies: tuple[str, ...] = _setting(
        _NETWORKS,
        ("127.0.0.0/8", "::1/128"),
        "networks of proxies whose X-Forwarded-For is believed, separated by commas",
    )
    git_commit: str = _setting(_NAME, "", "commit that /healthz and /metrics tell")
    render_git_commit: str = _setting(_NAME, "", "the same, as Render sets it")
    demonstration: str = _setting(_Kind(str, "any text"), "", "shown at every model of /v1/models; set by `make demo`")

    @property
    def commit(self) -> str:
        """The commit of this build, '' if unknown."""
        return self.git_commit or self.render_git_commit

    @classmethod
    def variables(cls) -> tuple[str, ...]:
        """Return the names of all variables that are read."""
        fields = dataclasses.fields(cls)
        secret = (f"{field.name.upper()}_FILE" for field in fields if field.metadata["secret"])
        return (*(field.name.upper() for field in fields), *secret)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Return the settings from `environ`. Raises SettingsError."""
        values = {}
        for field in dataclasses.fields(cls):
            variable, text = _read(field, environ)
            if text:  # an empty variable counts as not set, as Docker and Render users expect
                values[field.name] = _parse(field, variable, text)
        if values.get("base_url") == "":  # off, and so is its default model
            values.setdefault("default_model", "")
        settings = cls(**values)
        if settings.max_bodies_bytes < settings.max_body_bytes:  # the largest allowed request would never be accepted
            raise SettingsError(
                f"MAX_BODIES_BYTES holds '{settings.max_bodies_bytes}'; allowed: "
                f"a whole number that is not below MAX_BODY_BYTES, {settings.max_body_bytes}"
            )
        return settings


def _read(field: "dataclasses.Field[Any]", environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that holds the field's text, and the text. Raises SettingsError."""
    name, in_file = field.name.upper(), f"{field.name.upper()}_FILE"
    text, path = environ.get(name, "").strip(), environ.get(in_file, "").strip()
    if not path or not field.metadata["secret"]:
        return name, text
    if text:
        raise SettingsError(f"{name} and {in_file} are both set; allowed: one of them")
    try:
        text = Path(path).read_text("utf-8").strip()
    except (OSError, ValueError) as error:  # the path is not shown: it may be the secret, in the wrong variable
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{in_file} names a file that cannot be read: {why}") from error
    if not text:
        raise SettingsError(f"{in_file} names an empty file")
    return in_file, text


def _parse(field: "dataclasses.Field[Any]", variable: str, text: str) -> Any:
    kind: _Kind = field.metadata["kind"]
    try:
        return kind.parse(text)
    except ValueError as error:
        held = "something unusable" if field.metadata["secret"] else _shown(text)
        wrong = str(error) if isinstance(error, _Unusable) else f"holds {held}"
        raise SettingsError(f"{variable} {wrong}; allowed: {kind.allowed}") from error
