"""An example of a client API: letters. A POST asks a model, a GET by its id shows an answer again.

It has errors, named events and a key header of its own, and state that is given to it: where its letters are kept.
"""

import json
from collections.abc import Mapping, MutableMapping
from typing import Any

from gpt_oss_proxy import sse
from gpt_oss_proxy.apis.base import (
    ClientApi,
    Description,
    DirectRoute,
    HttpAnswer,
    Incoming,
    ModelRoute,
    Path,
    Stamp,
)
from gpt_oss_proxy.apis.json_body import parse_object
from gpt_oss_proxy.chat.completion import Collector
from gpt_oss_proxy.chat.events import Event, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.errors import GatewayError, InvalidField, NotFound

Letters = MutableMapping[str, str]  # id → text


class LetterApi(ClientApi):
    """`POST /letters` with `{"to": …, "about": …}`, and `GET /letters/{id}`."""

    name = "letters"
    id_prefix = "letter-"
    key_headers = ("x-stamp",)

    def __init__(self, letters: Letters) -> None:
        self._letters = letters
        self.routes = (
            ModelRoute("/letters", self._parse),
            DirectRoute("GET", "/letters/<letter_id>", self._show),
        )

    def _parse(self, incoming: Incoming) -> ChatRequest:
        value = parse_object(incoming.body)
        if not isinstance(value.get("about"), str):
            raise InvalidField(("about",), "it must be text.")
        ask = f"Write a letter to {value.get('to', 'a friend')} about {value['about']}."
        return ChatRequest(
            value.get("model", ""),
            (Message("user", (Text(ask),)),),
            stream=bool(value.get("stream")),
            stop=tuple(value.get("until", ())),
            emulate=frozenset({"stop"}),
            counts_first=True,
            own=value.get("to", "a friend"),
        )

    def _show(self, incoming: Incoming) -> HttpAnswer:
        letter_id = incoming.path["letter_id"]
        if letter_id not in self._letters:
            raise NotFound(f"There is no letter {letter_id[:40]}.")
        return HttpAnswer(_json({"id": letter_id, "text": self._letters[letter_id]}))

    def headers(self, request_id: str) -> tuple[tuple[str, str], ...]:
        return (("letter-for", request_id),)

    def spell(self, path: Path, request: ChatRequest) -> str:
        return "/".join(map(str, path))

    def spell_ignored(self, fields: tuple[str, ...], request: ChatRequest) -> tuple[str, ...]:
        return fields

    def whole(self, collector: Collector, stamp: Stamp, request: ChatRequest) -> bytes:
        (choice,) = collector.completion().choices
        self._letters[stamp.id] = choice.text
        return _json({"id": stamp.id, "to": request.own, "text": choice.text, "ended_by": choice.stop})

    def stream(self, stamp: Stamp, request: ChatRequest) -> "LetterStream":
        return LetterStream(self._letters, stamp)

    def render_error(self, error: GatewayError, request_id: str) -> HttpAnswer:
        body = _json({"wrong": error.message, "request": request_id})
        return HttpAnswer(body, 418 if error.status == 404 else error.status)

    def describe(self) -> Description:
        operation: Mapping[str, Any] = {"responses": {"200": {"description": "The letter."}}}
        return Description({"/letters": {"post": operation}, "/letters/{id}": {"get": operation}}, {})


class LetterStream:
    """Batches of events → events named `line`, and one named `letter` at the end, when it has been kept."""

    def __init__(self, letters: Letters, stamp: Stamp) -> None:
        self._letters = letters
        self._stamp = stamp
        self._text: list[str] = []

    def feed(self, events: list[Event]) -> bytes:
        texts = [event.text for event in events if isinstance(event, TextDelta)]
        self._text += texts
        return b"".join(sse.encode(_json(text), "line") for text in texts)

    def end(self, events: list[Event]) -> bytes:
        last = self.feed(events)
        self._letters[self._stamp.id] = "".join(self._text)
        return last + sse.encode(_json({"id": self._stamp.id, "request": self._stamp.request_id}), "letter")

    def fail(self, error: GatewayError) -> bytes:
        return sse.encode(_json({"wrong": error.message}), "torn")


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
