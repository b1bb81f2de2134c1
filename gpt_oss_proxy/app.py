"""The composition root: builds every part and is the only place where parts meet."""

import os
from collections.abc import Callable, Mapping, Sequence

from flask import Blueprint, Flask

from gpt_oss_proxy.apis import chat_completions
from gpt_oss_proxy.apis.base import ClientApi
from gpt_oss_proxy.blueprints import every_answer, inference, models, operations
from gpt_oss_proxy.chat.tokens import Count, load_o200k
from gpt_oss_proxy.gateway.access_log import log_to_stdout
from gpt_oss_proxy.gateway.dispatch import Dispatcher
from gpt_oss_proxy.gateway.relay import TimeLimits
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.settings import Settings, SettingsError
from gpt_oss_proxy.upstreams.ai_sdk import AiSdk
from gpt_oss_proxy.upstreams.base import Upstream
from gpt_oss_proxy.upstreams.chatkit import ChatKit
from gpt_oss_proxy.upstreams.openai import OpenAI
from gpt_oss_proxy.upstreams.transport import Transport

CLIENT_APIS: Mapping[str, ClientApi] = {
    "chat_completions": chat_completions,
}

# In the order in which they are asked who serves a model.
UPSTREAMS: tuple[Callable[[Settings, Transport], Upstream | None], ...] = (
    lambda settings, transport: ChatKit(
        transport,
        base_url=settings.base_url,
        dialect=settings.chatkit_dialect,
        effort_default=settings.reasoning_effort_default,
        max_event_bytes=settings.max_event_bytes,
    ),
    lambda settings, transport: AiSdk(
        transport,
        url=settings.vercel_minimal_api_url,
        session_prefix=settings.vercel_session_prefix,
        image_format=settings.ai_sdk_image_format,
        message_format=settings.ai_sdk_message_format,
        max_event_bytes=settings.max_event_bytes,
    ),
    lambda settings, transport: (
        OpenAI(
            transport,
            base_url=settings.openai_base_url,
            api_key=settings.openai_api_key,
            model_ids=settings.openai_models,
            max_event_bytes=settings.max_event_bytes,
        )
        if settings.openai_base_url
        else None
    ),
)


class Gateway(Flask):
    """The WSGI application, and the dispatcher that its worker tells to drain."""

    dispatcher: Dispatcher


def create_app(
    settings: Settings | None = None, *, upstreams: Sequence[Upstream] | None = None, count: Count | None = None
) -> Gateway:
    """Return the application. `settings` default to the environment's; tests put their own upstreams and counter in."""
    settings = settings or Settings.from_environ(os.environ)
    if upstreams is None:
        upstreams = build_upstreams(settings)
        _check_default_model(settings, upstreams)
    limits = TimeLimits(
        idle=settings.request_timeout_seconds,
        total=settings.total_timeout_seconds,
        keepalive=settings.keepalive_seconds,
    )
    router = Router(upstreams)
    app = Gateway(__name__, static_folder=None)
    app.dispatcher = Dispatcher(router, limits, count or load_o200k())
    app.json.sort_keys = False  # type: ignore[attr-defined] # of the default provider
    app.url_map.strict_slashes = False  # a redirect would be an HTML page, and SDKs do not repeat a POST
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # a preflight gets a 405, so no foreign page may post
    every_answer.install(app)
    app.register_blueprint(operations.blueprint(app.dispatcher))
    for name, prefix in (("v1", "/v1"), ("bare", None)):  # without /v1 is a frequent mistake in base URLs
        views = Blueprint(name, __name__, url_prefix=prefix)
        views.register_blueprint(inference.blueprint(CLIENT_APIS, app.dispatcher, settings))
        views.register_blueprint(models.blueprint(router, settings.demonstration))
        app.register_blueprint(views)
    log_to_stdout()
    return app


def _check_default_model(settings: Settings, upstreams: Sequence[Upstream]) -> None:
    if settings.openai_base_url and not settings.openai_models:
        return  # only that server knows its models, and it may be down while we start
    ids = [model.id for upstream in upstreams for model in upstream.models()]
    if settings.default_model not in ids:
        raise SettingsError(f"DEFAULT_MODEL holds {settings.default_model!r}; allowed: one of {', '.join(ids)}")


def build_upstreams(settings: Settings) -> tuple[Upstream, ...]:
    """Return the upstreams that the settings name, each with a session of its own."""
    built = (
        build(settings, Transport(connect_timeout_seconds=settings.connect_timeout_seconds)) for build in UPSTREAMS
    )
    return tuple(upstream for upstream in built if upstream)
