"""One question that several clients ask with the same words, and whose answer each of them gets."""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator

from tests.live.leaving.cases import ASKED, Case, Variant
from tests.live.leaving.client import CALLER, Client, How
from tests.live.leaving.gateway import Gateway
from tests.live.leaving.leaver import PAUSE_SECONDS


@contextlib.asynccontextmanager
async def asking(gateway: Gateway, variant: Variant, *, streamed: bool) -> AsyncIterator["Question"]:
    """Give a question that was not asked before; its clients are closed in the end."""
    question = Question(gateway, variant, streamed=streamed)
    try:
        yield question
    finally:
        await question.close()


class Question:
    """See `asking`. Clients of a certain worker need `gateway.connected` around."""

    _numbers = itertools.count()

    def __init__(self, gateway: Gateway, variant: Variant, *, streamed: bool) -> None:
        self.name = f"q{next(self._numbers)}"
        self.ids: list[str] = []  # of the requests
        self._gateway = gateway
        self._body = Case(self.name, variant, ASKED, "fin", streamed, False).body
        self._clients: list[Client] = []
        self._driving: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._driving:
            self._driving.cancel()
        for client in self._clients:
            await client.drop()

    async def ask(self, retries: int | None, *, worker: int | None = None, caller: str = CALLER) -> Client:
        """Send it, as the SDKs do with this number of retries; None is no SDK."""
        client = await self._gateway.connect(worker)
        self._clients.append(client)
        self.ids.append(f"{self.name}-{len(self.ids)}")
        headers = [] if retries is None else [f"x-stainless-retry-count: {retries}"]
        client.send(b"".join(client.request(self._body, f"x-request-id: {self.ids[-1]}", *headers, caller=caller)))
        return client

    @property
    def asked(self) -> int:
        """How often the upstream was asked."""
        return len(self._gateway.upstream.answers_to(self.name))

    async def leave(self, client: Client, how: How) -> None:
        """Let a client leave, and wait as an SDK does before it asks again."""
        client.leave(how)
        await asyncio.sleep(PAUSE_SECONDS)

    def answer(self) -> None:
        """From now on the upstream answers, one after the other."""

        async def drive() -> None:
            for number in itertools.count(1):
                await (await self._gateway.upstream.asked(self.name, number)).go_on()

        self._driving = asyncio.ensure_future(drive())

    async def got(self, client: Client) -> set[int]:
        """Return the numbers of the upstream's answers of which this client's consists."""
        return {int(number) for number in re.findall(rf"{self.name}-(\d+)x", (await client.whole()).decode())}

    async def adopted(self) -> list[bool]:
        """Return what the access log says of each request, when all are over."""
        return [(await self._gateway.record_of(name))["adopted"] for name in self.ids]
