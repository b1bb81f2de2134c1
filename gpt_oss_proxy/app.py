"""The composition root: builds every part and is the only place where parts meet."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from flask import Blueprint, request

from gpt_oss_proxy.apis.base import ClientApi, Services
from gpt_oss_proxy.apis.family import family
from gpt_oss_proxy.apis.openai.chat_completions import ChatCompletions
from gpt_oss_proxy.apis.openai.completions import Completions
from gpt_oss_proxy.blueprints import inference, models, openapi, operations, response_middleware
from gpt_oss_proxy.blueprints.client_address import ClientAddresses
from gpt_oss_proxy.blueprints.lean_flask import LeanFlask
from gpt_oss_proxy.config.settings import Settings, SettingsError
from gpt_oss_proxy.emulation.tokens import O200k, Vocabulary
from gpt_oss_proxy.errors import GatewayError
from gpt_oss_proxy.gateway.attempts import Target
from gpt_oss_proxy.gateway.caller import Keys
from gpt_oss_proxy.gateway.circuit import Breaker
from gpt_oss_proxy.gateway.dispatch import Dispatcher
from gpt_oss_proxy.gateway.gate import UpstreamGate
from gpt_oss_proxy.gateway.limits import BodyBudget, ConcurrencyLimit
from gpt_oss_proxy.gateway.observe.health import Health
from gpt_oss_proxy.gateway.observe.metrics import Metrics
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.net.client.tls import client_context
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.net.relay import TimeLimits
from gpt_oss_proxy.stores.peers import Peers
from gpt_oss_proxy.stores.shared_counters import SharedCounters
from gpt_oss_proxy.upstreams.ai_sdk import AiSdk
from gpt_oss_proxy.upstreams.base import Upstream
from gpt_oss_proxy.upstreams.chatkit import ChatKit
from gpt_oss_proxy.upstreams.openai import OpenAI

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where workers meet; the name is prometheus_client's, gunicorn.conf.py makes it
# The first one's form of errors is that of all paths that belong to no API.
CLIENT_APIS: Sequence[Callable[[Settings, Services], ClientApi]] = (
    lambda settings, _: ChatCompletions(default_model=settings.default_model, reasoning=settings.reasoning_fields),
    lambda settings, _: Completions(default_model=settings.default_model, reasoning=settings.reasoning_fields),
)


class Protocol(NamedTuple):
    """How an upstream is built for a URL, and the setting that holds one; without one only FAILOVER can name it."""

    build: Callable[[Settings, Transport, str], Upstream]
    setting: str = ""

    def url(self, settings: Settings) -> str:
        """Return the URL that the settings give, '' if there is none."""
        return getattr(settings, self.setting) if self.setting else ""


# In the order in which they are asked who serves a model; but see build_upstreams.
UPSTREAMS: Mapping[str, Protocol] = {
    "chatkit": Protocol(
        lambda settings, transport, url: ChatKit(
            transport,
            base_url=url,
            dialect=settings.chatkit_dialect,
            effort_default=settings.reasoning_effort_default,
            max_event_bytes=settings.max_event_bytes,
        ),
        "base_url",
    ),
    "ai_sdk": Protocol(
        lambda settings, transport, url: AiSdk(
            transport,
            url=url,
            session_prefix=settings.vercel_session_prefix,
            image_format=settings.ai_sdk_image_format,
            message_format=settings.ai_sdk_message_format,
            max_event_bytes=settings.max_event_bytes,
        ),
        "vercel_minimal_api_url",
    ),
    "openai": Protocol(
        lambda settings, transport, url: OpenAI(
            transport,
            base_url=url,
            # The key is for OPENAI_BASE_URL, and no other server may see it.
            api_key=settings.openai_api_key if url == settings.openai_base_url else "",
            model_ids=settings.openai_models,
            max_event_bytes=settings.max_event_bytes,
            omit=settings.openai_omit,
            think_tags=settings.openai_think_tags == "on",
        ),
        "openai_base_url",
    ),
}


class Gateway(LeanFlask):
    """The WSGI application, and what its worker needs to know of it.

    `upstreams` are those of the settings, without those that only FAILOVER names. `write_seconds` is how long a single
    write to a client may take: all the time that an answer has, and a little for the error that ends it.
    """

    apis: Sequence[ClientApi]
    upstreams: Sequence[Upstream]
    dispatcher: Dispatcher
    board: SharedCounters
    metrics: Metrics
    bodies: BodyBudget
    write_seconds: float

    def render_error(self, error: GatewayError, path: str) -> bytes:
        """Return the body of an error, for a request that is not even HTTP; `path` is '' where it is not known."""
        return family(self.apis, path, {}).render_error(error, "").body


def create_app(
    settings: Settings | None = None,
    *,
    upstreams: Sequence[Upstream] | None = None,
    vocabulary: Vocabulary | None = None,
    client_apis: Sequence[Callable[[Settings, Services], ClientApi]] | None = None,
) -> Gateway:
    """Return the application. `settings` default to the environment's; tests put their own upstreams and words in."""
    settings = settings or Settings.from_environ(os.environ)
    if upstreams is None:
        upstreams = build_upstreams(settings)
        _check_models(settings, upstreams)
    limits = TimeLimits(
        idle=settings.request_timeout_seconds,
        total=settings.total_timeout_seconds,
        keepalive=settings.keepalive_seconds,
    )
    app = Gateway(__name__, static_folder=None)
    app.upstreams = upstreams
    app.board = SharedCounters()
    app.write_seconds = settings.total_timeout_seconds + 5
    gate = partial(_gate, app.board, settings)
    gates = [gate(upstream) for upstream in upstreams]
    router = Router(gates, build_failover(settings, gates, gate))
    places = ConcurrencyLimit(app.board, settings.max_requests)
    folder = os.environ.get(FOLDER)
    app.dispatcher = Dispatcher(
        router, limits, vocabulary or O200k(), places=places, peers=Peers(folder), retries=settings.retries
    )
    services = Services(app.dispatcher.count_prompt)
    apis = app.apis = [build(settings, services) for build in client_apis or CLIENT_APIS]
    metrics = app.metrics = Metrics(places, router.gates, folder=folder, commit=settings.commit)
    keys = Keys(settings.api_keys, (header for api in apis for header in api.key_headers))
    app.bodies = BodyBudget(settings.max_bodies_bytes)
    app.json.sort_keys = False  # type: ignore[attr-defined] # of the default provider
    app.url_map.strict_slashes = False  # a redirect would be an HTML page, and SDKs do not repeat a POST
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # a preflight gets a 405, so no foreign page may post
    response_middleware.install(app, apis, metrics, ClientAddresses(settings.trusted_proxies))
    app.register_blueprint(operations.blueprint(app.dispatcher, router, metrics, settings.commit))
    app.register_blueprint(openapi.blueprint(apis))
    for name, prefix in (("v1", "/v1"), ("bare", None)):  # without /v1 is a frequent mistake in base URLs
        views = Blueprint(name, __name__, url_prefix=prefix)
        if settings.api_keys:
            views.before_request(lambda: keys.check(request.environ))
        views.register_blueprint(inference.blueprint(apis, app.dispatcher, router, app.bodies, keys, settings))
        views.register_blueprint(models.blueprint(router, settings.demonstration))
        app.register_blueprint(views)
    return app


def _check_models(settings: Settings, upstreams: Sequence[Upstream]) -> None:
    if not upstreams:
        raise SettingsError(
            "no upstream is left: BASE_URL and VERCEL_MINIMAL_API_URL are off, OPENAI_BASE_URL is not set"
        )
    known = [upstream.known_models() for upstream in upstreams]
    if not all(known):
        return  # only that server knows its models, and it may be down while we start
    ids = list(dict.fromkeys(model.id for models in known for model in models))
    allowed = f"allowed: one of {', '.join(ids)}"
    if settings.default_model not in ["", *ids]:
        raise SettingsError(f"DEFAULT_MODEL holds {settings.default_model!r}; {allowed}")
    for model, _, _ in settings.failover:
        if model not in ids:
            raise SettingsError(f"FAILOVER names the model {model!r}, which no upstream serves; {allowed}")


def build_upstreams(settings: Settings) -> tuple[Upstream, ...]:
    """Return the upstreams that the settings name, each with a session of its own.

    A server whose models the settings name goes first: they are served there, also where another one has the same id.
    """
    names = [name for name, protocol in UPSTREAMS.items() if protocol.url(settings)]
    names.sort(key=lambda name: name != "openai" or not settings.openai_models)
    return tuple(_build(UPSTREAMS[name], settings, UPSTREAMS[name].url(settings)) for name in names)


def build_failover(
    settings: Settings, gates: Sequence[UpstreamGate], gate: Callable[[Upstream], UpstreamGate]
) -> dict[str, list[Target]]:
    """Return who else is asked for which model; servers that only FAILOVER names are built here, each once."""
    known = {gate.upstream.name: gate for gate in gates}
    found: dict[str, list[Target]] = {}
    for model, named, model_there in settings.failover:
        if named not in known:
            protocol, plus, url = named.partition("+")
            if protocol not in UPSTREAMS:
                names = ", ".join(UPSTREAMS)
                raise SettingsError(
                    f"FAILOVER names the upstream {named!r}; allowed: one of {names}, or one with + and a URL, "
                    "for example openai+http://host/v1"
                )
            if not plus:
                variable = UPSTREAMS[protocol].setting
                missing = "off" if getattr(Settings, variable) else "not set"
                raise SettingsError(f"FAILOVER names {named}, but {variable.upper()} is {missing}")
            upstream = _build(UPSTREAMS[protocol], settings, url)
            upstream.name = f"{protocol}-{1 + sum(name.startswith(protocol) for name in known)}"
            known[named] = gate(upstream)
        found.setdefault(model, []).append(Target(known[named], model_there))
    return found


def _build(protocol: Protocol, settings: Settings, url: str) -> Upstream:
    transport = Transport(
        connect_timeout_seconds=settings.connect_timeout_seconds,
        fast=settings.upstream_http == "fast",
        tls=client_context(
            bundle=settings.requests_ca_bundle,
            file=settings.ssl_cert_file,
            folders=settings.ssl_cert_dir,
            added=settings.ca_file,
        ),
        proxy=settings.upstream_proxy,
    )
    upstream = protocol.build(settings, transport, url)
    # An answer that is whole must not be taken for one that has fallen silent.
    upstream.grace_seconds = min(upstream.grace_seconds, settings.request_timeout_seconds / 2)
    return upstream


def _gate(board: SharedCounters, settings: Settings, upstream: Upstream) -> UpstreamGate:
    breaker = Breaker(board, failures=settings.breaker_failures, seconds=settings.breaker_seconds)
    health = Health(board, upstream.name, upstream.host)
    return UpstreamGate(upstream, breaker, ConcurrencyLimit(board, settings.max_requests_per_upstream), health)
