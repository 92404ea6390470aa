"""What a client gets for one request: an upstream's answer as it arrives, or what LiteLLM made of it.

1. An upstream's answer that ``begin`` has announced is the client's; what LiteLLM says from then on is for its own books.
2. Of LiteLLM's answers a success passes without LiteLLM's headers; an error is held back and replayed as Anthropic worded
   it, or put into Anthropic's shape.
3. A provider that is not Claude and says nothing for ``EARLY_SECONDS`` does not cost the client its connection: a stream
   begins without it, keep-alives follow, and an error that comes afterwards is the stream's last event.
4. When the client's user is removed, nothing more of the answer is sent but an error, where that still can be.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from claude_proxy.anthropic.errors import (
    RETRYABLE,
    Refusal,
    error_event,
    error_message,
    error_type,
    own_refusal,
    send_refusal,
    without_tracebacks,
)
from claude_proxy.anthropic.sse import KEEPALIVE, events
from claude_proxy.anthropic.usage import StreamSummary, Usage, token_counts, usage_from
from claude_proxy.asgi import Headers, Message, Send, encoded
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.credentials.stream_redaction import ErrorEventRedactor, StreamRedactor
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.exchange import Exchange
from claude_proxy.proxy.relay import KEEPALIVE_SECONDS
from claude_proxy.secret import Secret
from claude_proxy.usage.record import Record

# LiteLLM's own headers, which name api_base and the like, and its copies of the upstream's.
HIDDEN_RESPONSE_PREFIXES = ("x-litellm-", "llm_provider-")
# Claude Code 2.1.197 gives a request up that has no headers after 300 s, and a stream that has no event for as long.
EARLY_SECONDS = 60.0
CLIENT_LEFT = 499
REVOKED = own_refusal(401, "The token was removed from this proxy.")
EVENT_END = b"\n\n"
# Larger answers are not parsed for their usage, and their usage itself is smaller than this.
MAX_READ_ANSWER = 4 * 1024 * 1024
MAX_USAGE = 64 * 1024


class ClientResponse:
    """One per request. Called with LiteLLM's ASGI messages; an upstream's own answer goes by ``begin``, ``write``, ``end``."""

    def __init__(self, send: Send, exchange: Exchange, redactor: Redactor, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = send
        self._exchange = exchange
        exchange.outlet = self
        self._redactor = redactor
        self._clock = clock
        self._arrived = clock()
        self._first_byte: float | None = None
        self._error: Message | None = None
        self._held = bytearray()
        # What LiteLLM sends: a stream's counts, or a whole answer.
        self._summary = StreamSummary()
        self._whole: list[bytes] = []
        self._error_kind = ""
        self._work: asyncio.Future[None] | None = None
        self._left = False
        self._revoked = False
        # The last bytes that were sent: an event of the proxy's own may follow a whole event only.
        self._tail = b""
        # Which of the two ways the answer goes, and how far it has come.
        self.status = 0
        self.relayed = False
        self._early = False
        self._from_litellm = False
        self.ended = False
        self._cleaner: StreamRedactor | ErrorEventRedactor | None = None

    @property
    def begun(self) -> bool:
        return self.status != 0

    async def begin(self, status: int, headers: Headers) -> None:
        self.relayed = True
        if not self.begun:
            await self._start(status, encoded(headers))

    async def write(self, data: bytes) -> None:
        if data:
            await self._body(data, last=False)

    async def end(self) -> None:
        await self._body(b"", last=True)

    async def while_client_stays(self, work: Coroutine[Any, Any, None]) -> bool:
        self._work = asyncio.ensure_future(work)
        try:
            await self._work
        except asyncio.CancelledError:
            if not self._left:
                raise
            return False
        finally:
            self._work = None
        return True

    def leave(self) -> bool:
        """Take note that the client has left; return whether what is under way for it ends by that."""
        self._left = not self.ended
        if self._work is None:
            # A stream that was begun early has nobody yet who would notice.
            return self.relayed or self._from_litellm or self._error is not None or self.ended
        self._work.cancel()
        return True

    def revoke(self) -> bool:
        """Take note that the client's user was removed: what follows is not sent. Return the same as ``leave``."""
        self._revoked = not self.ended
        return self.leave()

    async def conclude(self) -> None:
        """Tell a client whose user was removed why its answer ends here.

        A stream that stands within an event, and an answer that is whole or none, ends with its connection.
        """
        if not self._revoked:
            return
        self._exchange.error = error_type(REVOKED.status)
        if not self.begun:
            self.status = REVOKED.status
            await send_refusal(self._client, REVOKED)
        elif self._exchange.streams and (not self._tail or self._tail == EVENT_END):
            body = error_event(REVOKED.body)
            await self._client({"type": "http.response.body", "body": body, "more_body": False})

    async def _send(self, message: Message) -> None:
        if self._revoked:
            return
        if message["type"] == "http.response.body":
            self._tail = (self._tail + message.get("body", b"")[-2:])[-2:]
        await self._client(message)

    async def close(self) -> None:
        """Let go of what an upstream has not been heard to the end."""
        await self._exchange.close()

    async def __call__(self, message: Message) -> None:
        """Take one of LiteLLM's messages."""
        if self.relayed or self._revoked:
            return
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                self._error = message
                return
            if self._exchange.raw_body and not 200 <= message["status"] < 300:
                # LiteLLM 1.106.2 answers with the status of some errors of a provider's, be it an error's or not.
                self._error = dict(message) | {"status": 502}
                return
            self._from_litellm = True
            if not self.begun:
                await self._start(message["status"], _visible(message["headers"]))
        elif self._error is None:
            await self._body(without_tracebacks(message.get("body", b"")), last=not message.get("more_body", False))
        else:
            self._held += message.get("body", b"")
            if not message.get("more_body", False):
                await self._refuse(self._refusal(self._error, bytes(self._held)))

    def patience(self) -> float | None:
        """Return after how many seconds of silence ``reassure`` is due; None while somebody else speaks to the client."""
        if not self._exchange.streams or self.relayed or self._from_litellm or self._error is not None:
            return None
        return (
            KEEPALIVE_SECONDS if self._early else max(0.0, self._arrived + EARLY_SECONDS - self._clock()) or KEEPALIVE_SECONDS
        )

    async def reassure(self) -> None:
        """Tell the client that its request is alive. Claude speaks for itself."""
        if self.patience() is None or self._exchange.provider in (None, Provider.CLAUDE):
            return
        if not self._early:
            self._early = True
            await self._start(200, [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")])
        await self._send({"type": "http.response.body", "body": KEEPALIVE, "more_body": True})

    def record(self, at: float) -> Record:
        """Return what is remembered of the request; ``at`` is when it arrived, in Unix seconds."""
        exchange = self._exchange
        now = self._clock()
        claude = exchange.provider is Provider.CLAUDE
        error = exchange.error or self._error_kind
        return Record(
            at=at,
            user=exchange.user,
            asked=exchange.name,
            served="" if self._error_kind else exchange.served,
            credential=exchange.labels[-1] if claude and exchange.labels else "",
            status=CLIENT_LEFT if self._left and not self._revoked else self.status,
            first_byte_seconds=(self._first_byte or now) - self._arrived,
            seconds=now - self._arrived,
            usage=self._usage(),
            failovers=tuple(exchange.failovers),
            counts_tokens=exchange.counts_tokens,
            error=error,
        )

    def _usage(self) -> Usage:
        if self._exchange.usage is not None:
            return self._exchange.usage
        self._summary.finish()
        return usage_of(b"".join(self._whole)) if self._whole else self._summary.usage

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self._revoked:
            return
        self.status = status
        clean = [(name, self._clean_header(value)) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": clean})

    async def _body(self, data: bytes, *, last: bool) -> None:
        """Send a part of a response: Claude's own message as it came, everything else without secrets."""
        if self._revoked:
            return
        if data:
            self._first_byte = self._first_byte or self._clock()
            # Of a stream of LiteLLM's each message is one event or several, whole.
            if not self.relayed and not self._exchange.streams:
                self._whole.append(data)
            elif not self.relayed and b'"usage"' in data:
                self._summary.feed(data)
        if self._cleaner is None:
            secrets = self._redactor.forms(self._secrets_of_client())
            of_claude = self.relayed and self._exchange.provider is Provider.CLAUDE
            self._cleaner = ErrorEventRedactor(secrets) if of_claude else StreamRedactor(secrets)
        data = self._cleaner.feed(data) + (self._cleaner.finish() if last else b"")
        self.ended = self.ended or last
        if data or last:
            await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _refuse(self, refusal: Refusal) -> None:
        self._error_kind = _kind(refusal) if refusal.whole else "interrupted"
        self.ended = refusal.whole
        if not refusal.whole:
            if not self.begun:
                await self._start(refusal.status, encoded(refusal.headers))
        elif not self.begun:
            self.status = refusal.status
            await send_refusal(self._send, refusal)
        else:
            await self._end_with(refusal)

    async def _end_with(self, refusal: Refusal) -> None:
        """Send an error as the last event of a stream whose status has left already."""
        self._exchange.error = self._error_kind
        event = refusal.body if b"event: error" in refusal.body else error_event(b" ".join(refusal.body.split(b"\n")))
        await self._send({"type": "http.response.body", "body": event, "more_body": False})

    def _refusal(self, start: Message, body: bytes) -> Refusal:
        exchange = self._exchange
        secrets = self._secrets_of_client()
        refusal = exchange.refusal
        if refusal is not None and exchange.first_provider in (None, Provider.CLAUDE):
            clean = self._redactor.text(refusal.body.decode("utf-8", "surrogateescape"), secrets)
            headers = [(name, self._redactor.text(value, secrets)) for name, value in refusal.headers]
            return replace(refusal, headers=headers, body=clean.encode("utf-8", "surrogateescape"))
        status = int(start["status"])
        named = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in start["headers"]]
        headers = [pair for pair in named if pair[0] in ("retry-after", "x-should-retry")]
        if status < 500 and status not in RETRYABLE and "x-should-retry" not in dict(headers):
            headers.append(("x-should-retry", "false"))
        message = self._redactor.text(error_message(body, status), secrets)
        return own_refusal(status, message, headers)

    def _secrets_of_client(self) -> list[Secret]:
        client = self._exchange.client
        return [*client.tokens, *([client.credential.secret] if client.credential else [])]

    def _clean_header(self, value: bytes) -> bytes:
        text = value.decode("latin-1")
        clean = self._redactor.text(text, self._secrets_of_client())
        return value if clean == text else clean.encode("latin-1")


def usage_of(answer: bytes) -> Usage:
    """Return the token counts of an answer in Anthropic's format, whole or as events; what a stream says last counts."""
    if answer.lstrip()[:1] != b"{":
        summary = StreamSummary()
        summary.feed(answer)
        summary.finish()
        return summary.usage
    try:
        # Reading all of a large message would keep everybody else waiting; its usage stands at the end, after the content.
        said = json.loads(answer) if len(answer) <= MAX_READ_ANSWER else {"usage": _last_usage(answer)}
    except (ValueError, RecursionError):
        return Usage()
    return usage_from(token_counts(said))


def _last_usage(answer: bytes) -> Any:
    """Return the last object of the name ``usage``. In a string, such as a model's text, the quotes would be escaped."""
    found = answer.rpartition(b'"usage"')[2][:MAX_USAGE].decode("utf-8", "replace").lstrip().removeprefix(":").lstrip()
    return json.JSONDecoder().raw_decode(found)[0]


def _kind(refusal: Refusal) -> str:
    for data in (refusal.body, *events(refusal.body)):
        try:
            error = json.loads(data)["error"]["type"]
        except (ValueError, RecursionError, LookupError, TypeError):
            continue
        if isinstance(error, str):
            return error
    return error_type(refusal.status)


def _visible(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if not pair[0].decode("latin-1").lower().startswith(HIDDEN_RESPONSE_PREFIXES)]
