"""What stands for the network where a lane is tested: responses as aiohttp has them, and both ends of a request."""

import asyncio
import json as json_module
from dataclasses import dataclass, field

import aiohttp

from claude_proxy.credentials.redaction import Redactor
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request, read_view
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.upstream.client import READ_SECONDS, StreamedResponse, TimedOutError, UnreachableError, UnreadableError
from claude_proxy.upstream.headers import read

CLAUDE_BODY = b'{"model":"claude-x","messages":[{"role":"user","content":"hi"}]}'


class Response:
    """What an upstream is to respond with, as often as it is asked. A chunk that is an exception is raised in its turn."""

    def __init__(self, status=200, *, headers=None, json=None, body=b"", chunks=None):
        self.status = status
        self.body = body if json is None else json_module.dumps(json).encode()
        self.chunks = [self.body] if chunks is None else chunks
        self.headers = [*({} if json is None else {"content-type": "application/json"}).items(), *(headers or {}).items()]


class Raw:
    """One response in the shape of aiohttp's, on its way."""

    def __init__(self, response):
        self.status = response.status
        self.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        self.content = self
        self.left = [chunk for chunk in response.chunks if chunk]
        self.was_read = self.was_closed = False

    async def readany(self):
        await asyncio.sleep(0)  # a reader may be cancelled here, as on a network
        self.was_read = True
        chunk = self.left.pop(0) if self.left else b""
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def is_eof(self):
        return not self.left

    def close(self):
        self.was_closed = True

    release = close


@dataclass
class Sent:
    """A request as it left a lane."""

    url: str
    headers: list
    body: bytes
    read_seconds: float = READ_SECONDS
    response: Raw | None = None
    method: str = "POST"

    def header(self, name):
        return next((value for each, value in self.headers if each.lower() == name), None)


class Upstream:
    """An ``UpstreamClient`` whose responses come in order, or from a function of the request. Exceptions are raised."""

    def __init__(self, *responses):
        self.responses = [*responses]
        self.sent = []

    async def send(self, url, headers, body, *, read_seconds=READ_SECONDS, method="POST", on_sent=lambda: None):
        one = Sent(url, [*headers], body, read_seconds, method=method)
        self.sent.append(one)
        response = self.responses[0](one) if callable(self.responses[0]) else self.responses.pop(0)
        if not isinstance(response, UnreachableError):
            on_sent()
        if isinstance(response, Exception):
            raise response
        one.response = Raw(response)
        return StreamedResponse(one.response)

    @property
    def credentials(self):
        """Who was asked, by the last letter of what was sent."""
        return "".join((each.header("authorization") or each.header("x-api-key"))[-1] for each in self.sent)


@dataclass
class Received:
    """The client's end of one request: what ASGI was sent, with ``at_body`` called at each part of the body."""

    raw: bytes = CLAUDE_BODY
    sent: list = field(default_factory=list)
    query: str = ""
    counts_tokens: bool = False
    user: str = ""
    messages: list = field(default_factory=list)
    at_body: object = None

    def __post_init__(self):
        self.request = Request(
            read(self.sent), self.sent, self.raw, read_view(self.raw), self.query, self.user, self.counts_tokens
        )
        self.journal = Journal()
        self.outlet = ClientResponse(self._send, self.request, Redactor([]), self.journal)

    async def _send(self, message):
        self.messages.append(message)
        if self.at_body is not None and message["type"] == "http.response.body":
            self.at_body()

    @property
    def begun(self):
        """Status and headers; None as long as nothing has left."""
        if not self.messages:
            return None
        headers = [(name.decode(), value.decode()) for name, value in self.messages[0]["headers"]]
        assert len(dict(headers)) == len(headers), headers
        return self.messages[0]["status"], dict(headers)

    @property
    def body(self):
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def ended(self):
        return len(self.messages) > 1 and not self.messages[-1].get("more_body", False)


# What is no answer of a provider's, and the status that the client gets.
NO_ANSWERS = {
    "moved": (Response(307, headers={"location": "https://evil.invalid"}), 502),
    "coding": (Response(200, headers={"content-encoding": "br"}), 502),
    "lying": (Response(200, headers={"content-encoding": "gzip"}, body=b"no gzip"), 502),
    "broken-off": (Response(200, chunks=[b"{", aiohttp.ClientPayloadError("reset")]), 502),
    "silent": (Response(200, chunks=[b"{", TimeoutError()]), 504),
    "unreachable": (UnreachableError("ClientConnectorError"), 502),
    "unreadable": (UnreadableError("sent a body that cannot be decoded"), 502),
    "late": (TimedOutError("late"), 504),
}
