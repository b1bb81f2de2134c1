"""Settings, read once from the environment: the only place that knows a variable's name, default and range.

Adding a setting is adding one field to `Settings`; its row in docs/configuration.md is generated.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from gpt_oss_proxy.config.values import (
    BUNDLE,
    CERTIFICATES,
    FAILOVER,
    FOLDERS,
    IDS,
    KEYS,
    NAME,
    NETWORKS,
    PROXY,
    URL,
    Kind,
    Unusable,
    choice,
    integer,
    number,
    or_off,
    several,
    shown,
)

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


def _setting(kind: Kind, default: Any, help: str, *, unit: str = "", secret: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, "help": help, "unit": unit, "secret": secret})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings for operators. The variable of a field is its name in capitals."""

    base_url: str = _setting(
        or_off(URL), "https://api.gpt-oss.com", "ChatKit server of gpt-oss-20b and gpt-oss-120b; /chatkit is added"
    )
    default_model: str = _setting(  # "" = the first listed
        NAME, "gpt-oss-120b", "model of a request that names none; with BASE_URL=off the first listed one, unless set"
    )
    request_timeout_seconds: float = _setting(
        number(0.1, 3600), 30.0, "longest silence of an upstream, before the first event and between events", unit="s"
    )
    reasoning_effort_default: str = _setting(
        choice(*EFFORTS), "high", "reasoning effort of a request that names none (ChatKit, older dialect)"
    )
    vercel_minimal_api_url: str = _setting(
        or_off(URL), "https://minimal-chatbot.vercel.app/api/chat", "AI SDK chat endpoint of gpt-4o and gpt-4o-mini"
    )
    vercel_session_prefix: str = _setting(NAME, "", "put before the chat id that the AI SDK endpoint gets")
    port: int = _setting(integer(1, 65535), 3000, "port to listen on")

    host: str = _setting(NAME, "0.0.0.0", "address to listen on")  # noqa: S104 - Render and containers need all
    web_concurrency: int = _setting(integer(1, 256), 2, "worker processes")
    connect_timeout_seconds: float = _setting(
        number(0.1, 600),
        5.0,
        "longest wait for a connection to an upstream: name, TCP, proxy and TLS together",
        unit="s",
    )
    total_timeout_seconds: float = _setting(number(0.1, 86400), 600.0, "longest time of a whole answer", unit="s")
    keepalive_seconds: float = _setting(
        number(0.05, 3600), 15.0, "time without output after which a stream gets an empty chunk", unit="s"
    )
    graceful_timeout_seconds: int = _setting(
        integer(1, 86400), 30, "time that running answers get when the process gets SIGTERM", unit="s"
    )
    max_body_bytes: int = _setting(integer(1024, 1024 * _MEBIBYTE), 32 * _MEBIBYTE, "largest request", unit="bytes")
    max_bodies_bytes: int = _setting(
        integer(1024, 64 * 1024 * _MEBIBYTE),
        256 * _MEBIBYTE,
        "bodies of a worker's requests that no upstream has accepted yet, at least MAX_BODY_BYTES; above it is a 503",
        unit="bytes",
    )
    max_event_bytes: int = _setting(
        integer(65536, 1024 * _MEBIBYTE), 16 * _MEBIBYTE, "largest single event of an upstream", unit="bytes"
    )
    max_requests: int = _setting(
        integer(1, 1_000_000), 4000, "chats that run at the same time, in all workers; above it is a 503"
    )
    max_requests_per_upstream: int = _setting(
        integer(1, 1_000_000), 3500, "chats that run at the same time at one upstream, in all workers"
    )
    retries: int = _setting(
        integer(0, 10), 2, "how often a request that no upstream has accepted is tried again, before the first byte"
    )
    failover: tuple[tuple[str, str, str], ...] = _setting(
        FAILOVER, (), "fallback upstreams for a model, tried in order when its own is unreachable"
    )
    breaker_failures: int = _setting(
        integer(0, 10_000),
        10,
        "consecutive requests that cannot reach an upstream before its circuit opens; 0 = never",
    )
    breaker_seconds: float = _setting(
        number(0.1, 3600), 10.0, "how long a circuit stays open, up to eight times longer if its probes fail", unit="s"
    )
    api_keys: tuple[str, ...] = _setting(
        KEYS, (), "keys, one of which each client must send; nothing = no key is needed", secret=True
    )
    reasoning_fields: ReasoningFields = _setting(
        choice(*REASONING_FIELDS),
        "both",
        "where answers show reasoning: in both fields, in one of them, in the text between think tags, or not at all",
    )
    chatkit_dialect: ChatKitDialect = _setting(
        choice(*get_args(ChatKitDialect)),
        "older",
        "how requests to BASE_URL are spelled: older (gpt-oss.com) or published (the openai-chatkit package)",
    )
    ai_sdk_image_format: ImageFormat = _setting(
        choice(*get_args(ImageFormat)),
        "image",
        "how images go to the AI SDK endpoint: image (a part with both keys), image_url, attachments",
    )
    ai_sdk_message_format: MessageFormat = _setting(
        choice(*get_args(MessageFormat)),
        "content",
        "how messages go to the AI SDK endpoint: content (AI SDK 4), parts (AI SDK 5 and later)",
    )
    openai_base_url: str = _setting(
        or_off(URL), "", "URL of any OpenAI-compatible server, with its /v1; nothing = not used"
    )
    openai_api_key: str = _setting(NAME, "", "key for OPENAI_BASE_URL", secret=True)
    openai_models: tuple[str, ...] = _setting(
        IDS, (), "ids that are served at OPENAI_BASE_URL, whatever else has them; nothing = ask its /models"
    )
    openai_omit: tuple[Omittable, ...] = _setting(
        several(*get_args(Omittable)),
        (),
        "what is not sent to OPENAI_BASE_URL: stream_options, the developer role (system in its place), reasoning of "
        "earlier turns, stream (answers come whole); it is also left out where the server refuses it",
    )
    openai_think_tags: Literal["on", "off"] = _setting(
        choice("on", "off"), "off", "on: a leading <think>…</think> in the text of OPENAI_BASE_URL is reasoning"
    )
    upstream_http: UpstreamHttp = _setting(
        choice(*get_args(UpstreamHttp)),
        "fast",
        "how upstreams are spoken to: fast (our adapter of requests) or requests (its own, slower one)",
    )
    ca_file: str = _setting(
        CERTIFICATES,
        "",
        "certificates of private authorities that are trusted for upstreams, in addition to all others",
    )
    ssl_cert_file: str = _setting(CERTIFICATES, "", "authorities in place of those of Mozilla that come with certifi")
    ssl_cert_dir: str = _setting(FOLDERS, "", "authorities in place of certifi's, beside those of SSL_CERT_FILE")
    requests_ca_bundle: str = _setting(
        BUNDLE, "", "authorities in place of certifi's, of SSL_CERT_FILE's and of SSL_CERT_DIR's"
    )
    upstream_proxy: str = _setting(
        PROXY, "", "forward proxy for all upstreams but those on loopback; nothing = no proxy", secret=True
    )
    trusted_proxies: tuple[str, ...] = _setting(
        NETWORKS,
        ("127.0.0.0/8", "::1/128"),
        "networks of proxies whose X-Forwarded-For is believed, separated by commas",
    )
    git_commit: str = _setting(NAME, "", "commit that /healthz and /metrics show")
    render_git_commit: str = _setting(NAME, "", "the same, as Render sets it")
    demonstration: str = _setting(Kind(str, "any text"), "", "shown at every model of /v1/models; set by `make demo`")

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
    kind: Kind = field.metadata["kind"]
    try:
        return kind.parse(text)
    except ValueError as error:
        held = "something unusable" if field.metadata["secret"] else shown(text)
        wrong = str(error) if isinstance(error, Unusable) else f"holds {held}"
        raise SettingsError(f"{variable} {wrong}; allowed: {kind.allowed}") from error
