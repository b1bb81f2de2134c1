"""One case: a client comes to its position, and leaves; then the upstream goes on, or falls silent."""

import asyncio
import contextlib

from tests.live.leaving.cases import ASKED, BODY, HEAD, Case
from tests.live.leaving.client import Client
from tests.live.leaving.gateway import Gateway
from tests.live.leaving.upstream import Answer

PAUSE_SECONDS = 0.4  # of the SDKs before a retry
_OFFERED_SECONDS = 1.0  # how long an answer is there to be adopted
# How soon an answer is closed that no retry may adopt, and one that may: in 1.0 s, and what a busy machine adds.
_LEFT_SECONDS, _KEPT_SECONDS = 2.0, 3.0
_MOMENT_SECONDS = 0.05  # for what neither client nor upstream can see


class Leaver:
    """`come` to the position, `leave`, and see what comes `after`. `client` is the one that the case is about.

    `requests` are the ids of the requests whose heads were complete.
    """

    def __init__(self, case: Case, gateway: Gateway) -> None:
        self.case = case
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        self.client: Client
        self._asked_at: list[float] = []
        self._clients: list[Client] = []
        self._other: Client | None = None  # has the same key
        self._gateway = gateway
        self._upstream = gateway.upstream

    async def run(self) -> None:
        await self.come()
        self.leave()
        await self.after()

    async def drop(self) -> None:
        """End what a failure has left open."""
        for client in self._clients:
            await client.drop()

    async def come(self) -> None:
        variant, position = self.case.variant, self.case.position
        self.client = await self._connected(0 if variant.lands else None)
        if variant.adopts:
            await self._leave_a_call_to_adopt()
        await self._ask(self.client, "last", *(["x-stainless-retry-count: 1"] if variant.adopts else self.case.headers))
        if position < ASKED:
            return
        numbers = [2] if variant.mended else [*range(1, variant.asks + 1)]
        if variant.mended:
            await (await self._upstream.asked(self.case.name)).go_on()
        self.answers = [await self._upstream.asked(self.case.name, number) for number in numbers]
        if variant.lands and not variant.adopts:
            self._other = await self._connected(1)
            await self._ask(self._other, "other", *self.case.headers)
        if variant.lands:
            await asyncio.sleep(_MOMENT_SECONDS)  # the second request has come, which the upstream is not shown
        if variant.stops:
            await self.answers[0].go_on()
        elif variant.adopts:
            await self._read_unless_asked_again()
        else:
            await self._read()

    def leave(self) -> None:
        self.client.leave(self.case.how)

    async def after(self) -> None:
        """Go on to the end of all that the case does; what the gateway still does then is its own."""
        if self.case.goes_on:
            await asyncio.gather(*(answer.go_on() for answer in self.answers))
        if self._other:
            await asyncio.sleep(_MOMENT_SECONDS)
            self._other.leave(self.case.how)
        for client in (self.client, self._other):
            if client:
                await client.gone()

    # What must come of it

    @property
    def has_adopted(self) -> bool:
        """Whether its client was seen to read an answer that another had left."""
        return self.case.variant.adopts and bool(self.client.heard) and self.case.position > ASKED

    @property
    def asked_again(self) -> bool:
        """Whether the upstream was asked again though there was an answer to adopt: for 1.0 s from its client's end."""
        if not self.case.variant.adopts or len(self._all_answers) < 2:
            return False
        first, second = self._all_answers[:2]
        seconds: float = self._gateway.records_of(self.requests[0])[0]["total_seconds"]
        # They began after the client had asked and before the upstream was: there was an answer at this time, at least.
        begins, ends = first.asked_at + seconds, self._asked_at[0] + seconds + _OFFERED_SECONDS
        return begins < self._asked_at[1] and second.asked_at < ends

    @property
    def late_seconds(self) -> float:
        """How much too late the upstream's answers were closed; below 0 in time, or not closed before their end."""
        limit = _KEPT_SECONDS if self.case.variant.headers else _LEFT_SECONDS
        left_at = max(client.left_at or 0.0 for client in self._clients)
        ends = [answer.left_at for answer in self._all_answers if answer.left_at and answer.sent < answer.terminal]
        return max((end - left_at - limit for end in ends), default=-limit)

    @property
    def timeline(self) -> str:
        """What happened when, in seconds since the beginning."""
        loop = asyncio.get_running_loop()
        events = [(client.left_at, "a client left") for client in self._clients if client.left_at]
        events += [(answer.asked_at, "the upstream was asked") for answer in self._all_answers]
        events += [(answer.left_at, "the gateway left") for answer in self._all_answers if answer.left_at]
        events += [(asked_at, "a client asked") for asked_at in self._asked_at] + [(loop.time(), "now")]
        return ", ".join(f"{when - min(events)[0]:.3f} {what}" for when, what in sorted(events))

    def outcomes(self, request: str) -> tuple[str, ...]:
        """Return what the access log may say of this request's end."""
        case = self.case
        if not request.endswith("-last"):
            return ("client_gone",) if case.variant.adopts else ("client_gone", "ok")
        if case.variant.stops:
            return ("client_gone", "ok")
        if case.position == BODY:
            return ("incomplete_body",)
        if case.position == case.variant.end:
            return ("ok",)
        terminal = min((answer.terminal for answer in self.answers), default=1)
        return ("client_gone",) if case.position < terminal and not case.goes_on else ("client_gone", "ok")

    @property
    def _all_answers(self) -> list[Answer]:
        return self._upstream.answers_to(self.case.name)

    async def _ask(self, client: Client, who: str, *headers: str) -> None:
        """Send the request; the last client only as far as its position."""
        name = f"{self.case.name}-{who}"
        position = self.case.position if who == "last" else ASKED
        in_body = position == BODY
        head, body = client.request(
            self.case.body, f"x-request-id: {name}", *headers, chunked=in_body and self.case.goes_on
        )
        if position == HEAD:
            client.send(head[:-9])
            return
        client.send(head + (body[: len(body) // 2] if in_body else body))
        if self.case.variant.has_next and not in_body:
            client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        self.requests.append(name)
        self._asked_at.append(asyncio.get_running_loop().time())

    async def _connected(self, worker: int | None) -> Client:
        self._clients.append(await self._gateway.connect(worker, buffers=not self.case.variant.stops))
        return self._clients[-1]

    async def _leave_a_call_to_adopt(self) -> None:
        """Let a first client ask and leave before its status, and wait as an SDK does before it asks again."""
        case = self.case
        first, self.client = self.client, await self._connected(0 if case.variant.lands == "same" else 1)
        await self._ask(first, "first", *case.headers)
        answer = await self._upstream.asked(case.name)
        # A stream's status goes out with its first text, that of a whole answer at its end.
        half = max(case.position, 0) // 2 if case.goes_on else 0
        await answer.go_on(min(half, 1) if case.streamed else half)
        first.leave(case.how)
        await first.gone()
        await asyncio.sleep(PAUSE_SECONDS)
        await answer.go_on(half)

    async def _read_unless_asked_again(self) -> None:
        """Read to the position, or, where an answer was not adopted, as far as it goes."""
        reading = asyncio.ensure_future(self._read())
        again = asyncio.ensure_future(self._upstream.asked(self.case.name, 2))
        try:
            await asyncio.wait({reading, again}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            again.cancel()
            reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading

    async def _read(self) -> None:
        """Have the answers sent to the position, and what can be seen of each piece read before the next."""
        case = self.case
        for answer in self.answers:
            # Of two, one may be ahead of the other.
            lag = 2 if case.goes_on and answer.number == 2 and case.variant.asks == 2 else 1
            upto = len(answer.pieces) if case.position == case.variant.end else case.position // lag
            for _, text in answer.pieces[: min(answer.sent, upto)]:
                await self._see(text)
            while answer.sent < upto:
                text = answer.send()
                await answer.is_taken()
                await self._see(text)
        if case.position == case.variant.end:
            body = await self.client.whole()
            assert self.client.status == 200, bytes(self.client.heard)
            texts = [text.strip().encode() for answer in self.answers for _, text in answer.pieces if text]
            assert all(text in body for text in texts), body
            assert case.streamed == (b"data: [DONE]" in body), body

    async def _see(self, text: str) -> None:
        if text and self.case.streamed:
            await self.client.until(text.strip().encode())
