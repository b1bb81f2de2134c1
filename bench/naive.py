"""The naive form of a ChatKit gateway, for reference: what one writes first with Flask and requests.

Every token is read with iter_lines, parsed and rendered by the standard json, and yielded alone. It knows one upstream,
one event, and no errors.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import requests
from flask import Flask, Response, request

app = Flask(__name__)
session = requests.Session()


@app.post("/v1/chat/completions")
def chat_completions() -> Response:
    """Answer a chat, streamed or whole."""
    asked: dict[str, Any] = request.get_json()
    text = asked["messages"][-1]["content"]
    answer = session.post(
        os.environ["BASE_URL"] + "/chatkit",
        json={"type": "threads.create", "params": {"input": {"content": [{"type": "input_text", "text": text}]}}},
        stream=True,
        timeout=30,
    )
    stamp = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked["model"]}
    if asked.get("stream"):
        return Response(_stream(answer, stamp), content_type="text/event-stream")
    choice = {"message": {"role": "assistant", "content": "".join(_deltas(answer))}, "finish_reason": "stop"}
    return Response(json.dumps({**stamp, "choices": [{"index": 0, **choice}]}), content_type="application/json")


def _stream(answer: requests.Response, stamp: dict[str, Any]) -> Iterator[str]:
    for delta in _deltas(answer):
        choice = {"index": 0, "delta": {"content": delta}, "finish_reason": None}
        yield f"data: {json.dumps({**stamp, 'choices': [choice]})}\n\n"
    yield f"data: {json.dumps({**stamp, 'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})}\n\n"
    yield "data: [DONE]\n\n"


def _deltas(answer: requests.Response) -> Iterator[str]:
    for line in answer.iter_lines():
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if event["type"] == "thread.item.updated":
                yield event["update"]["delta"]
