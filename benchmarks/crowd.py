"""The soak test's clients: each has its own session, sends one request after the other, and checks every response."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import aiohttp

from benchmarks import script
from benchmarks.script import Plan

# Longer than any response takes; a client that waits longer counts the request as lost.
PATIENCE_SECONDS = 180.0
# Anthropic's tokens have about four bytes each.
BODY_BYTES, BIG_BODY_BYTES = 24_000, 400_000
BIG_OF = 20
# One in so many of a client's requests is of this kind.
WHOLE_OF, LEAVES_OF = 9, 23
# A client that should retry later than this sends another request meanwhile.
LONGEST_PAUSE = 15.0

ANSWERED, ERROR, BROKEN, WRONG, NOTHING, LEFT = "answered", "error", "broken off", "wrong", "no response", "left by itself"


class Model(NamedTuple):
    """The model of a client's requests, and whether its responses must be exact to the byte."""

    name: str
    to_the_byte: bool
    tool: bool


# The clients use them in turn: seven in ten use Claude, one more Claude with a fallback; the other models are translated.
MODELS = (
    Model("claude-sonnet-5", to_the_byte=True, tool=False),
    Model("claude-opus-5", to_the_byte=True, tool=True),
    Model("claude-sonnet-5", to_the_byte=True, tool=True),
    Model("gpt", to_the_byte=False, tool=True),
    Model("claude-sonnet-5", to_the_byte=True, tool=False),
    Model("claude-fallback-5", to_the_byte=False, tool=True),
    Model("claude-opus-5", to_the_byte=True, tool=False),
    Model("claude-sonnet-5", to_the_byte=True, tool=True),
    Model("glm", to_the_byte=False, tool=True),
    Model("claude-haiku-5", to_the_byte=True, tool=False),
)


class Outcome(NamedTuple):
    """The result of one request. Times are those of the monotonic clock, in seconds."""

    number: int
    model: str
    kind: str
    status: int
    sent: float
    ended: float
    detail: str = ""
    # The time to the first piece, without the upstream's own time.
    first_byte: float = -1.0
    retry_after: float = 0.0


@dataclass
class Crowd:
    """A number of clients. ``outcomes`` and ``delays`` collect their results.

    Each sends its requests to the proxies at ``urls`` in turn, as a load balancer would that knows no session.
    """

    urls: Sequence[str]
    token: str
    clients: int
    pieces: tuple[int, int] = (30, 60)
    seconds: tuple[float, float] = (12.0, 28.0)
    sessions: str = "soak"
    outcomes: list[Outcome] = field(default_factory=list)
    # By model: the moment of each event, and the time from the upstream to the client.
    delays: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {model.name: [] for model in MODELS})
    # The sessions with a response of Claude, which the pool therefore knows.
    bound: set[str] = field(default_factory=set)
    streaming: int = 0
    most_streaming: int = 0
    # The number of the last request; several crowds at one upstream need different numbers.
    number: int = 0

    async def run(self, goes_on: Callable[[], bool]) -> None:
        """Let every client send requests while ``goes_on()`` is true; return after the last response."""
        async with self.connected() as http, asyncio.TaskGroup() as group:
            for client in range(self.clients):
                group.create_task(self._client(http, client, goes_on))

    async def burst(self) -> None:
        """Let every client send one request, all at the same moment."""
        async with self.connected() as http, asyncio.TaskGroup() as group:
            for client in range(self.clients):
                group.create_task(self.ask(http, client, 1))

    async def one_of_each(self) -> list[float]:
        """Send one request to every model, one after the other; return the time to each first byte."""
        async with self.connected() as http:
            return [(await self.ask(http, client, 1)).first_byte for client in range(1, 1 + len(MODELS))]

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Yield the HTTP client. It closes idle connections before the proxy does, like Claude Code."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**18) as http:
            yield http

    async def _client(self, http: aiohttp.ClientSession, client: int, goes_on: Callable[[], bool]) -> None:
        turn = 0
        # Not all at the same moment, like real users.
        await asyncio.sleep(self.seconds[0] * client / self.clients / 4)
        while goes_on():
            turn += 1
            outcome = await self.ask(http, client, turn)
            if outcome.kind != ANSWERED:
                await asyncio.sleep(min(outcome.retry_after or 0.5, LONGEST_PAUSE))

    async def ask(self, http: aiohttp.ClientSession, client: int, turn: int, session: str = "") -> Outcome:
        """Send one request, read and check its response, and keep the outcome."""
        self.number += 1
        model = MODELS[client % len(MODELS)]
        low, high = self.pieces
        pieces = low + (self.number * 7) % (high - low + 1)
        seconds = self.seconds[0] + (self.seconds[1] - self.seconds[0]) * (self.number * 13 % 29) / 28
        streams = bool((client + turn) % WHOLE_OF)
        leaves_at = pieces // 3 if streams and (client * 5 + turn) % LEAVES_OF == 0 else 0
        plan = Plan(self.number, pieces, seconds if streams else seconds / 2, model.tool, script.now())
        size = BIG_BODY_BYTES if client % BIG_OF == 0 else BODY_BYTES
        body = _body(plan, model, size, streams=streams)
        headers = {
            "x-litellm-api-key": self.token,
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
            "x-claude-code-session-id": session or f"{self.sessions}-{client}",
        }
        received = _ReceivedResponse(plan, model, streams=streams, leaves_at=leaves_at, delays=self.delays[model.name])
        self.streaming += streams
        self.most_streaming = max(self.most_streaming, self.streaming)
        try:
            url = self.urls[(client + turn) % len(self.urls)]
            async with http.post(f"{url}/v1/messages", data=body, headers=headers) as response:
                await received.read(response)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            received.failed(error)
        finally:
            self.streaming -= streams
        outcome = received.outcome(time.monotonic())
        self.outcomes.append(outcome)
        if outcome.kind == ANSWERED and model.to_the_byte:
            self.bound.add(headers["x-claude-code-session-id"])
        return outcome


class _ReceivedResponse:
    """One response, as it arrives."""

    def __init__(self, plan: Plan, model: Model, *, streams: bool, leaves_at: int, delays: list[tuple[float, float]]) -> None:
        self._plan = plan
        self._model = model
        self._streams = streams
        self._leaves_at = leaves_at
        self._delays = delays
        self._body = bytearray()
        self._seen = 0
        self._status = 0
        self._kind, self._detail = NOTHING, ""
        self._first_byte = -1.0
        self._retry_after = 0.0

    async def read(self, response: aiohttp.ClientResponse) -> None:
        """Read the response to its end, or to the place where the client leaves."""
        self._status = response.status
        self._kind = BROKEN
        rest = b""
        async for chunk in response.content.iter_any():
            moment = script.now()
            self._body += chunk
            if response.status != 200 or not self._streams:
                continue
            # A piece may be split between two chunks: keep what follows the last whole line.
            text = rest + chunk
            rest = text[text.rfind(b"\n") + 1 :]
            if not self._took(text[: len(text) - len(rest)], moment):
                self._kind = WRONG
                response.close()
                return
            if self._leaves_at and self._seen >= self._leaves_at:
                self._kind = LEFT
                response.close()
                return
        self._complete(response)

    def _took(self, text: bytes, moment: int) -> bool:
        """Record the pieces of some whole lines; return whether they are this stream's, in order."""
        for number, place, sent in script.PIECE.findall(text):
            if (int(number), int(place)) != (self._plan.number, self._seen):
                self._detail = f"{number.decode()}.{place.decode()} instead of {self._plan.number}.{self._seen}"
                return False
            if self._seen == 0:
                self._first_byte = (int(sent) - self._plan.sent) / 1e6
            else:
                self._delays.append((moment / 1e6, (moment - int(sent)) / 1e6))
                if self._seen == 1:
                    self._first_byte += (moment - int(sent)) / 1e6
            self._seen += 1
        return True

    def _complete(self, response: aiohttp.ClientResponse) -> None:
        if response.status != 200:
            self._kind = ERROR
            self._detail = self._body[:200].decode("utf-8", "replace")
            self._retry_after = float(response.headers.get("retry-after", "0"))
            return
        body = bytes(self._body)
        if b"event: error" in body:
            self._kind, self._detail = ERROR, "an error ended the stream"
            return
        wrong = script.mistake(self._plan, self._model.name, body, streams=self._streams, to_the_byte=self._model.to_the_byte)
        self._kind, self._detail = (WRONG, wrong) if wrong else (ANSWERED, "")

    def failed(self, error: Exception) -> None:
        """Record a connection that ended, or a response that could not be read."""
        self._detail = f"{type(error).__name__}: {error}"[:200]

    def outcome(self, moment: float) -> Outcome:
        """Return the outcome."""
        plan = self._plan
        return Outcome(
            plan.number, self._model.name, self._kind, self._status, plan.sent / 1e6, moment, self._detail, self._first_byte,
            self._retry_after,
        )  # fmt: skip


def _body(plan: Plan, model: Model, size: int, *, streams: bool) -> bytes:
    tools = [
        {"name": name, "description": f"The tool {name}. " * 20, "input_schema": {"type": "object", "properties": {}}}
        for name in (script.TOOL, "Read", "Bash")
    ]
    filler = "Some lines of a file that was read before. " * ((size - 2000) // 86)
    messages = [
        {"role": "user", "content": [{"type": "text", "text": filler}]},
        {"role": "assistant", "content": [{"type": "text", "text": filler}]},
        {"role": "user", "content": plan.words()},
    ]
    return json.dumps(
        {"model": model.name, "max_tokens": 4000, "stream": streams, "tools": tools, "messages": messages}
    ).encode()
