"""The official SDKs behind one face: Python's, synchronous and asynchronous, and Node's. Values are plain JSON."""

import asyncio
import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, Protocol

import openai

CLIENTS = Path(__file__).parent / "clients"
SECONDS = 30


@dataclasses.dataclass
class SdkError(Exception):
    """What the SDK raised: its class, and what it knows."""

    name: str
    status: int | None
    code: str | None
    param: str | None
    type: str | None
    message: str
    retry_after: str | None
    request_id: str | None


class Sdk(Protocol):
    """One SDK. Everything raises SdkError. A stream whose iterator is closed early is closed in the SDK's own way."""

    def create(self, base: str, retries: int = 0, **body: Any) -> dict[str, Any]: ...

    def stream(self, base: str, **body: Any) -> Iterator[dict[str, Any]]: ...

    def helper(self, base: str, **body: Any) -> dict[str, Any]:
        """Return what the SDK's own `.stream()` makes of a stream."""

    def models(self, base: str) -> list[str]: ...

    def model(self, base: str, model_id: str) -> dict[str, Any]: ...


def _options(base: str, retries: int = 0) -> dict[str, Any]:
    return {"base_url": f"{base}/v1", "api_key": "none", "max_retries": retries, "timeout": SECONDS}


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Turn what the Python SDK raises into SdkError."""
    try:
        yield
    except openai.APIError as error:
        status = error if isinstance(error, openai.APIStatusError) else None
        raise SdkError(
            name=type(error).__name__,
            status=status.status_code if status else None,
            code=error.code,
            param=error.param,
            type=error.type,
            message=error.message,
            retry_after=status.response.headers.get("retry-after") if status else None,
            request_id=status.request_id if status else None,
        ) from error


class Python:
    """openai.OpenAI, a client for each address."""

    def __init__(self) -> None:
        self._clients: dict[Any, openai.OpenAI] = {}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def create(self, base: str, retries: int = 0, **body: Any) -> dict[str, Any]:
        with _ours():
            return self._client(base, retries).chat.completions.create(**body).model_dump()

    def stream(self, base: str, **body: Any) -> Iterator[dict[str, Any]]:
        with _ours(), self._client(base).chat.completions.create(**body, stream=True) as chunks:
            for chunk in chunks:
                yield chunk.model_dump()

    def helper(self, base: str, **body: Any) -> dict[str, Any]:
        with _ours(), self._client(base).chat.completions.stream(**body) as events:
            return events.get_final_completion().model_dump()

    def models(self, base: str) -> list[str]:
        with _ours():
            return [model.id for model in self._client(base).models.list()]

    def model(self, base: str, model_id: str) -> dict[str, Any]:
        with _ours():
            return self._client(base).models.retrieve(model_id).model_dump()

    def _client(self, base: str, retries: int = 0) -> openai.OpenAI:
        if (base, retries) not in self._clients:
            self._clients[base, retries] = openai.OpenAI(**_options(base, retries))
        return self._clients[base, retries]


class PythonAsync:
    """openai.AsyncOpenAI, in one event loop for all calls."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._clients: dict[Any, openai.AsyncOpenAI] = {}

    def close(self) -> None:
        for client in self._clients.values():
            self._runner.run(client.close())
        self._runner.close()

    def create(self, base: str, retries: int = 0, **body: Any) -> dict[str, Any]:
        with _ours():
            return self._run(self._client(base, retries).chat.completions.create(**body)).model_dump()

    def stream(self, base: str, **body: Any) -> Iterator[dict[str, Any]]:
        with _ours():
            chunks = self._run(self._client(base).chat.completions.create(**body, stream=True))
            try:
                while chunk := self._run(anext(chunks, None)):
                    yield chunk.model_dump()
            finally:
                self._run(chunks.close())

    def helper(self, base: str, **body: Any) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            async with self._client(base).chat.completions.stream(**body) as events:
                return (await events.get_final_completion()).model_dump()

        with _ours():
            return self._run(ask())

    def models(self, base: str) -> list[str]:
        async def ask() -> list[str]:
            return [model.id async for model in self._client(base).models.list()]

        with _ours():
            return self._run(ask())

    def model(self, base: str, model_id: str) -> dict[str, Any]:
        with _ours():
            return self._run(self._client(base).models.retrieve(model_id)).model_dump()

    def _client(self, base: str, retries: int = 0) -> openai.AsyncOpenAI:
        if (base, retries) not in self._clients:
            self._clients[base, retries] = openai.AsyncOpenAI(**_options(base, retries))
        return self._clients[base, retries]

    def _run(self, work: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await work

        return self._runner.run(wait())


class NodeScript:
    """A script of clients/ in one process for all calls: JSON objects, a line each, go in and come out."""

    def __init__(self, node: str, name: str) -> None:
        self._process = subprocess.Popen(
            [node, str(CLIENTS / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def send(self, request: dict[str, Any]) -> None:
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        assert line, "the Node script ended"
        return json.loads(line)


class Node:
    """The npm package openai."""

    def __init__(self, node: str) -> None:
        self._script = NodeScript(node, "node_sdk.mjs")

    def close(self) -> None:
        self._script.close()

    def create(self, base: str, retries: int = 0, **body: Any) -> dict[str, Any]:
        return self._ask(base, "create", body, retries)

    def stream(self, base: str, **body: Any) -> Iterator[dict[str, Any]]:
        self._script.send({"base": base, "method": "stream", "body": body, "retries": 0})
        ended = False
        try:
            while not ended:
                outcome = self._script.receive()
                ended = "chunk" not in outcome
                if not ended:
                    yield outcome["chunk"]
            self._value(outcome)
        finally:
            if not ended:
                self._script.send({"method": "abort"})
                while "chunk" in self._script.receive():
                    pass

    def helper(self, base: str, **body: Any) -> dict[str, Any]:
        return self._ask(base, "helper", body)

    def models(self, base: str) -> list[str]:
        return self._ask(base, "models", None)

    def model(self, base: str, model_id: str) -> dict[str, Any]:
        return self._ask(base, "model", model_id)

    def _ask(self, base: str, method: str, body: Any, retries: int = 0) -> Any:
        self._script.send({"base": base, "method": method, "body": body, "retries": retries})
        return self._value(self._script.receive())

    def _value(self, outcome: dict[str, Any]) -> Any:
        if error := outcome.get("error"):
            names = ("name", "status", "code", "param", "type", "message", "retryAfter", "requestID")
            raise SdkError(*(error.get(name) for name in names))
        return outcome["value"]
