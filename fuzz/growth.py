"""Checks that processor time grows at most linearly with the size of each part of a request. ``make fuzz`` uses random shapes.

Times are compared within one run: a size with eight times that size, and both with a known piece of work.
"""

import asyncio
import contextlib
import functools
import gc
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from claude_proxy.anthropic import messages
from claude_proxy.asgi import Message, Receive, Scope, Send
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers import compatibility, request_fields
from claude_proxy.providers.bounds import TooLarge
from claude_proxy.proxy.request import Request, parse_body, read_view
from claude_proxy.proxy.rotation import body_for_claude
from claude_proxy.secret import Secret
from claude_proxy.server.bodies import memory_of
from claude_proxy.server.gateway import Gateway
from claude_proxy.upstream import headers
from fuzz.shapes import SHAPES

# A size is compared with eight times that size: linear work then takes 8 times as long, quadratic work 64 times. The limit is
# halfway, so that a busy machine does not cause a failure.
TIMES = 8
AT_MOST = 8**1.5
ATTEMPTS = 8
# The share of heads among random shapes, and the approximate size of a body's element.
HEADS = 0.6
BYTES_OF_AN_ELEMENT = 200
REPEATS = 3
TOKEN = "sk-made-up-token-of-the-proxy"  # noqa: S105 - made up
SETTINGS = Settings.parse({"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": "sk-made-up-master-key"})
BODY = json.dumps({"model": "glm", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}).encode()
POOLED = Credential("a", Kind.OAUTH, Secret("sk-ant-oat01-made-up-alpha"))


class Growth(NamedTuple):
    """Processor seconds at a size and at ``TIMES`` that size."""

    once: float
    more: float

    @property
    def is_linear(self) -> bool:
        """Whether the larger size takes no longer than the limit for linear work."""
        return self.more <= AT_MOST * self.once


def measured(run: Callable[[Any], object], make: Callable[[int], Any], size: int) -> Growth:
    """Return how the time of ``run(make(n))`` grows from ``size``, with several attempts because of noise."""
    small, large = make(size), make(size * TIMES)
    growth = Growth(0.0, 0.0)
    for attempt in range(ATTEMPTS):
        # A time below that of a known piece of work is too short to measure; quadratic work takes longer at the larger size.
        known = _known_seconds() if attempt else _first_known_seconds()
        once = max(_seconds(run, small), known)
        growth = Growth(once, _seconds(run, large, enough=AT_MOST * once))
        if growth.is_linear:
            break
    return growth


def _known_seconds() -> float:
    """Return the time of a known piece of work."""
    return _seconds(json.loads, b"[%s1]" % (b"1," * 10_000))


# Measured once for all first attempts; a machine that has become slower is measured again before a failure.
_first_known_seconds = functools.cache(_known_seconds)


def _seconds(run: Callable[[Any], object], value: Any, enough: float = 0.0) -> float:
    """Return the least processor time of several runs, without garbage collection; no run follows one of ``enough`` seconds."""
    times = []
    for _ in range(REPEATS):
        gc.disable()
        try:
            started = time.thread_time()
            run(value)
            times.append(time.thread_time() - started)
        finally:
            gc.enable()
        if times[-1] <= enough:
            break
    return min(times)


# --- The head of a request ---------------------------------------------------------------------------------------------------

# The parts of which a value is made. Each has revealed a non-linear pattern, in this project or elsewhere.
UNITS = (
    " ", "\t", ",", ", ", ",x-a:", " ,x-a : ", "x-a:", "a", "a ", "a,", "/", "//", "/.", "/../", "%2f", "%", "&", "=", "a=b&",
    ";", '"', "\\", "sk-ant-", "sk-ant-a ", "Bearer ", "claude-proxy/", "\xff", "\xa0",
)  # fmt: skip
NAMES = (
    *headers.TOKEN_HEADERS, headers.TOKEN_MODE, headers.SESSION, "anthropic-beta", "anthropic-version", "accept", "connection",
    "content-type", "cookie", "forwarded", "host", "origin", "te", "transfer-encoding", "user-agent", "x-forwarded-for",
    "x-header-of-tomorrow",
)  # fmt: skip
ROUTES = (
    ("GET", "/"), ("GET", "/health/readiness"), ("GET", "/pool"), ("GET", "/v1/models"), ("POST", "/v1/messages"),
    ("POST", "/anthropic/v1/messages/count_tokens"), ("POST", "/key/generate"),
)  # fmt: skip


class Head(NamedTuple):
    """A request's head, with header values as Latin-1 text."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]


def header(route: tuple[str, str], name: str, unit: str, token: str = TOKEN) -> Callable[[int], Head]:
    """One header with a long value, which starts and ends with a letter so that no server strips it."""
    own = ((headers.PROXY_TOKEN, token),) if name != headers.PROXY_TOKEN else ()
    return lambda size: Head(*route, "", (*own, (name, f"a{unit * (size // len(unit))}b")))


def many_headers(route: tuple[str, str], name: str, unit: str) -> Callable[[int], Head]:
    """One header, repeated many times."""
    return lambda size: Head(*route, "", ((headers.PROXY_TOKEN, TOKEN), *((name, unit),) * (size // (len(name) + len(unit)))))


def path(method: str, unit: str) -> Callable[[int], Head]:
    """A long path."""
    return lambda size: Head(method, "/anthropic" + unit * (size // len(unit)), "", ((headers.PROXY_TOKEN, TOKEN),))


def query(route: tuple[str, str], unit: str) -> Callable[[int], Head]:
    """A long query."""
    return lambda size: Head(*route, unit * (size // len(unit)), ((headers.PROXY_TOKEN, TOKEN),))


async def _inner(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def status_of(head: Head) -> int:
    """Send a head through the gateway and to Claude, and return the response's status."""
    status: list[int] = []
    pending: list[Message] = [{"type": "http.request", "body": BODY, "more_body": False}]

    async def receive() -> Message:
        return pending.pop() if pending else await asyncio.Event().wait() or {}

    async def send(message: Message) -> None:
        status.append(message.get("status", 0))

    scope: Mapping[str, Any] = {
        "type": "http",
        "method": head.method,
        "path": head.path,
        "raw_path": head.path.encode(),
        "query_string": head.query.encode("latin-1"),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in head.headers],
        "client": ("127.0.0.1", 1),
    }
    # A new gateway each time, because one that has received wrong tokens delays further ones.
    asyncio.run(Gateway(_inner, SETTINGS, Redactor([POOLED.secret]))(dict(scope), receive, send))
    headers.for_claude(head.headers, POOLED)
    return status[0]


def random_head(choice: random.Random) -> tuple[str, Callable[[int], Head]]:
    """Return a part of a head with a variable length, and its description."""
    unit = "".join(choice.choices(UNITS, k=choice.randint(1, 4)))
    route, name = choice.choice(ROUTES), choice.choice(NAMES)
    kinds: list[Callable[[int], Head]] = [
        header(route, name, unit), header(route, name, unit, token="wrong"), many_headers(route, name, unit),  # noqa: S106
        path(route[0], unit), query(route, unit),
    ]  # fmt: skip
    place = choice.randrange(len(kinds))
    words = ("header", "header with a wrong token", "many headers", "path", "query")[place]
    return f"{words}: {route} {name} {unit!r}", kinds[place]


# --- The body of a request ---------------------------------------------------------------------------------------------------


def random_body(choice: random.Random) -> tuple[str, Callable[[int], bytes]]:
    """Return one or two shapes of a body with a variable number of elements, and their description."""
    names = choice.sample([*SHAPES], k=choice.randint(1, 2))

    def make(size: int) -> bytes:
        fields = {name: value for shape in names for name, value in SHAPES[shape](size).items()}
        return json.dumps({"model": "glm", "max_tokens": 1, **fields}).encode()

    return f"body: {' and '.join(names)}", make


def worked(raw: bytes) -> None:
    """Do everything that is done to a body for Claude and for each kind of provider."""
    memory_of(raw)
    seen = read_view(raw)
    body = parse_body(raw)
    request = Request(headers.read([]), [], raw, seen)
    assert request.session is None or len(request.session) < BYTES_OF_AN_ELEMENT
    for model in (seen.model, "other"):
        body_for_claude(request, model)
    messages.without_foreign_thinking(body["messages"])
    messages.for_provider(body)
    messages.repaired(body)
    for row in (*compatibility.ROWS, compatibility.STRICT):
        with contextlib.suppress(TooLarge):
            request_fields.translated(body, row)


def random_shape(choice: random.Random, size: int) -> tuple[str, Callable[[Any], object], Callable[[int], Any], int]:
    """Return a part of a request with a variable length: its description, what is measured, what makes it, and a size."""
    if choice.random() < HEADS:
        words, head = random_head(choice)
        return words, status_of, head, size
    words, body = random_body(choice)
    return words, worked, body, size // BYTES_OF_AN_ELEMENT
