"""Any OpenAI-compatible server: vLLM, llama.cpp, Ollama, …

Source: OpenAI's API reference, chat completions (create, streaming). A request is passed on with all its fields; the
answer is requested as a stream if the server supports it, and decoded into the same neutral events as any other.
"""

import logging
from collections.abc import Collection, Mapping
from functools import partial

import msgspec
import requests

from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.config.settings import Omittable
from gpt_oss_proxy.errors import GatewayError, UpstreamProtocolError
from gpt_oss_proxy.net.client.transport import HTTPStatusError, Transport
from gpt_oss_proxy.quoting import quote
from gpt_oss_proxy.upstreams.base import Model, Upstream
from gpt_oss_proxy.upstreams.decoder import Decoder
from gpt_oss_proxy.upstreams.model_list import ModelList
from gpt_oss_proxy.upstreams.openai.concessions import Concessions, Wire
from gpt_oss_proxy.upstreams.openai.decoder import OpenAIDecoder
from gpt_oss_proxy.upstreams.openai.models import read_models
from gpt_oss_proxy.upstreams.openai.request import build_body
from gpt_oss_proxy.upstreams.status_error import error_from_status, read_status

_log = logging.getLogger(__name__)
_MODELS_TIMEOUT_SECONDS = 5.0
_MODELS_BYTES = 4 * 1024 * 1024


class OpenAI(Upstream):
    """`POST {base_url}/chat/completions`, `GET {base_url}/models`."""

    name = "openai"
    native_options = None

    def __init__(
        self,
        transport: Transport,
        *,
        base_url: str,
        api_key: str,
        model_ids: tuple[str, ...],
        max_event_bytes: int,
        omit: Collection[Omittable] = (),
        think_tags: bool = False,
    ) -> None:
        super().__init__(transport, base_url)
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._fixed = tuple(Model(model_id, "openai", 0) for model_id in model_ids)
        self._max_event_bytes = max_event_bytes
        self._concessions = Concessions(omit)
        self._think_tags = think_tags
        self._listed = ModelList(self._ask_models)

    def models(self) -> tuple[Model, ...]:
        """Return the configured models, or those that the server lists (see ModelList)."""
        return self._fixed or self._listed.get()

    def known_models(self) -> tuple[Model, ...]:
        """Return the configured models."""
        return self._fixed

    def build(self, request: ChatRequest) -> tuple[str, Mapping[str, str], bytes]:
        """Return the POST that asks for a streamed answer."""
        return self._post(build_body(request))

    def send(self, request: ChatRequest) -> requests.Response:
        """Return the response to the request, or to what is left of it after refusals."""
        return self._concessions.send(build_body(request), partial(self._send, request.trace))

    def decoder(self, headers: Mapping[str, str], _request: ChatRequest) -> Decoder:
        """Return a decoder. Only an HTML page is rejected: streams and whole answers come under any content type."""
        if "html" in headers.get("Content-Type", "").lower():
            raise UpstreamProtocolError
        return OpenAIDecoder(
            self._max_event_bytes, think_tags=self._think_tags, unknown_reason=self._note_unknown_reason
        )

    def _note_unknown_reason(self, reason: str) -> None:
        if not self.unknown_reasons:  # log it once per worker; metrics count all
            _log.warning("%s: the finish reason %r is not known, and taken for `stop`", self.name, quote(reason))
        self.unknown_reasons += 1

    def _send(self, trace: Mapping[str, str], body: Wire) -> requests.Response:
        url, headers, data = self._post(body)
        return self.post(url, {**headers, **trace}, data)

    def _post(self, body: Wire) -> tuple[str, Mapping[str, str], bytes]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **self._headers}
        return f"{self._base_url}/chat/completions", headers, msgspec.json.encode(body)

    def _ask_models(self) -> tuple[Model, ...]:
        try:
            return read_models(self._fetch_models())
        except GatewayError as error:
            _log.warning("%s: its models cannot be listed: %s", self.name, error.reason or error.code)
            raise

    def _fetch_models(self) -> bytes:
        try:
            return self._transport.fetch(
                f"{self._base_url}/models",
                headers=self._headers,
                max_bytes=_MODELS_BYTES,
                timeout_seconds=_MODELS_TIMEOUT_SECONDS,
            )
        except HTTPStatusError as error:
            raise error_from_status(read_status(error)) from error
