"""The response to one client, from the first byte to the end: a state machine over ASGI's ``send``.

States and transitions; a combination that is not in the table sends nothing.

| state     | event                    | next    | sends                                              |
| --------- | ------------------------ | ------- | -------------------------------------------------- |
| WAITING   | ``begin``                | PASSING | status and headers                                 |
| WAITING   | ``reassure``             | EARLY   | the status of a stream, and a keep-alive           |
| WAITING   | ``refuse``               | ENDED   | an error response                                  |
| WAITING   | ``refuse``, not whole    | PASSING | the status of an incomplete response, without end  |
| EARLY     | ``reassure``             | EARLY   | a keep-alive                                       |
| EARLY     | ``begin``                | PASSING | nothing, the status has already been sent          |
| EARLY     | ``refuse``               | ENDED   | an error event                                     |
| EARLY     | ``refuse``, not whole    | PASSING | nothing                                            |
| PASSING   | ``write``                | PASSING | a part of the body                                 |
| PASSING   | ``end``                  | ENDED   | the end                                            |
| not ENDED | ``leave``                | LEFT    | nothing, the client has disconnected               |
| not ENDED | ``revoke``, ``cut``      | LEFT    | an error, by ``conclude``, if it is still possible |

A response without an end closes the client's connection, because the upstream's response was incomplete too.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from typing import NamedTuple

from claude_proxy.anthropic.errors import Refusal, error_event, error_type, kind_of, own_refusal, send_refusal
from claude_proxy.anthropic.sse import KEEPALIVE
from claude_proxy.anthropic.usage import Usage
from claude_proxy.asgi import Headers, Send, encoded
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.credentials.stream_redaction import ErrorEventRedactor, StreamRedactor, Unchanged
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.charge import Charge
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request
from claude_proxy.secret import Secret
from claude_proxy.upstream.headers import Client
from claude_proxy.usage.prices import Prices
from claude_proxy.usage.record import Record

# Claude Code 2.1.197 gives up after 300 s without headers, and after 300 s without an event in a stream.
EARLY_SECONDS = 60.0
KEEPALIVE_SECONDS = 15.0
CLIENT_LEFT = 499
DISCONNECTED = "the client disconnected"
REVOKED = own_refusal(401, "The token was removed from this proxy.")
EVENT_END = b"\n\n"
# The header that names the rule that chose the model.
RULE = "x-claude-proxy-rule"


class StreamFormat(NamedTuple):
    """The proxy's own events in a stream: an error, made of one in Anthropic's shape, and a keep-alive."""

    error: Callable[[bytes], bytes] = error_event
    keepalive: bytes = KEEPALIVE


MESSAGES = StreamFormat()


class State(Enum):
    """The progress of a response."""

    WAITING = auto()
    EARLY = auto()
    PASSING = auto()
    ENDED = auto()
    LEFT = auto()


class ClientResponse:
    """The outlet of one request. Only this class knows whether a byte has been sent."""

    def __init__(
        self,
        send: Send,
        request: Request,
        redactor: Redactor,
        journal: Journal,
        clock: Callable[[], float] = time.monotonic,
        *,
        stream_format: StreamFormat = MESSAGES,
    ) -> None:
        self._client = send
        self._format = stream_format
        self.request = request
        self._redactor = redactor
        self.journal = journal
        self._clock = clock
        self._arrived = clock()
        self._first_byte: float | None = None
        self.state = State.WAITING
        self.status = 0
        self._error_kind = ""
        self._rule = ""
        # The reason for a response that was cut although the client is connected.
        self._cut: Refusal | None = None
        # The last bytes that were sent: the proxy's own event may only follow a complete event.
        self._tail = b""
        # The length of the body so far.
        self._size = 0
        self._cleaner: StreamRedactor | ErrorEventRedactor | Unchanged | None = None
        # The request's cost; None without budgets.
        self.charge: Charge | None = None

    @property
    def begun(self) -> bool:
        """Whether the response has started, so that no other response may replace it."""
        return self.state not in (State.WAITING, State.EARLY)

    @property
    def left(self) -> bool:
        """Whether the client has disconnected or may not receive more of the response."""
        return self.state is State.LEFT

    def redact(self, text: str) -> str:
        """Return a text for the operator without the proxy's secrets and the client's."""
        return self._redactor.text(text, _secrets_of(self.request.client))

    def follow(self, rule: str) -> None:
        """Record the rule of ``config.yaml`` that chose the model; the response names it in a header."""
        self._rule = rule

    async def begin(self, status: int, headers: Headers, *, of_claude: bool = False, unchanged: bool = False) -> None:
        """Send the status. From now on no retry and no fallback is possible. With ``unchanged``, the body keeps its bytes."""
        if self.begun:
            return
        early, self.state = self.state is State.EARLY, State.PASSING
        if of_claude:
            # A message of Claude is sent unchanged.
            self._cleaner = ErrorEventRedactor(partial(_forms_of_secrets, self._redactor, self.request.client))
        if unchanged:
            self._cleaner = Unchanged()
        if not early:
            headers = self.charge.headers(headers) if self.charge else headers
            await self._start(status, self._clean_headers(headers))

    async def write(self, data: bytes, *, content: bytes | None = None) -> None:
        """Send a part of the body: Claude's own message unchanged, everything else without secrets.

        ``content`` has the events in ``data``, if that is another format than the Messages API's.
        """
        if not data or self.state is not State.PASSING:
            return
        if self.charge is not None:
            await self.charge.passing(data if content is None else content)
        ready = self._cleaned(data)
        if ready:
            self._count(ready)
            await self._client({"type": "http.response.body", "body": ready, "more_body": True})

    def _cleaned(self, data: bytes) -> bytes:
        """Return what can be sent now of a part of the body."""
        if self._first_byte is None:
            self._first_byte = self._clock()
        if self._cleaner is None:
            self._cleaner = StreamRedactor(_forms_of_secrets(self._redactor, self.request.client))
        return self._cleaner.feed(data)

    async def end(self, last: bytes = b"") -> None:
        """Send the last part and the end."""
        if self.charge is not None and self.state is State.PASSING:
            await self.charge.ending()
            if last:
                await self.charge.passing(last)
        if self.state is not State.PASSING:
            return
        rest = self._cleaned(last) if last else b""
        rest += self._cleaner.finish() if self._cleaner is not None else b""
        self.state = State.ENDED
        await self._send_body(rest, more=False)

    async def refuse(self, refusal: Refusal) -> None:
        """Send an error; if the status of a stream has been sent, the error is its last event."""
        if self.begun:
            return
        refusal = self._clean(refusal)
        self._error_kind = kind_of(refusal) if refusal.whole else "interrupted"
        early = self.state is State.EARLY
        if not refusal.whole:
            self.state = State.PASSING
            if not early:
                await self._start(refusal.status, encoded(refusal.headers))
            return
        self.state = State.ENDED
        if not early:
            self.status, self._size = refusal.status, len(refusal.body)
            await send_refusal(self._client, replace(refusal, headers=[*refusal.headers, *self._own_headers()]))
            return
        self.journal.error = self._error_kind
        event = refusal.body if b"event: error" in refusal.body else self._format.error(b" ".join(refusal.body.split(b"\n")))
        await self._send_body(event, more=False)

    def patience(self) -> float | None:
        """Return the seconds of silence until ``reassure`` is due; None if it is never due."""
        if not self.request.streams or self.begun:
            return None
        early = self.state is State.EARLY
        return KEEPALIVE_SECONDS if early else max(0.0, self._arrived + EARLY_SECONDS - self._clock()) or KEEPALIVE_SECONDS

    async def reassure(self) -> None:
        """Send a keep-alive, except in a response of Claude."""
        if self.patience() is None or self.journal.provider in (None, Provider.CLAUDE):
            return
        if self.state is State.WAITING:
            self.state = State.EARLY
            headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
            await self._start(200, encoded(self.charge.headers(headers) if self.charge else headers))
        await self._send_body(self._format.keepalive, more=True)

    def leave(self) -> bool:
        """Record that the client has disconnected; return whether that ends an unfinished response."""
        if self.state is State.ENDED:
            return False
        self.state = State.LEFT
        return True

    def revoke(self) -> bool:
        """Stop sending, because the client's user was removed. Returns the same as ``leave``."""
        return self.cut(REVOKED)

    def cut(self, why: Refusal) -> bool:
        """Stop sending, for this reason. Returns the same as ``leave``."""
        is_cut = self.leave()
        self._cut = why if is_cut else None
        return is_cut

    @property
    def has_room(self) -> bool:
        """Whether an error can be sent now: nothing has been sent, or a stream is between two events."""
        return not self.status or (self.request.streams and (not self._tail or self._tail == EVENT_END))

    async def conclude(self) -> None:
        """Send the reason for which the response was cut.

        A stream in the middle of an event, and a response that is not a stream, only close the connection.
        """
        if self._cut is None:
            return
        self.journal.error = error_type(self._cut.status)
        if not self.has_room:
            return
        if not self.status:
            self.status, self._size = self._cut.status, len(self._cut.body)
            await send_refusal(self._client, self._cut)
        else:
            await self._send_body(self._format.error(self._cut.body), more=False)

    def record(self, at: float, prices: Prices | None = None) -> Record:
        """Return the usage record of the request; ``at`` is its arrival, in Unix seconds."""
        journal, request = self.journal, self.request
        now = self._clock()
        claude = journal.provider is Provider.CLAUDE
        left = self.left and self._cut is None
        return Record(
            at=at,
            user=request.user,
            requested=request.name,
            served="" if self._error_kind else journal.served,
            credential=journal.labels[-1] if claude and journal.labels else "",
            status=CLIENT_LEFT if left else self.status,
            first_byte_seconds=(self._first_byte or now) - self._arrived,
            seconds=now - self._arrived,
            usage=journal.usage or Usage(),
            failovers=tuple(journal.failovers),
            no_fallback=journal.no_fallback,
            counts_tokens=request.counts_tokens,
            error=journal.error or self._error_kind,
            model="" if self._error_kind else journal.model or request.name,
            groups=request.groups,
            rule=self._rule,
            project=request.project,
            cost=self._cost(prices),
            lane=journal.lane.name.lower() if journal.lane else "",
            attempts=journal.attempts_made(journal.error or self._error_kind or (DISCONNECTED if left else "")),
            request_id=journal.request_id,
            size=self._size,
        )

    def _cost(self, prices: Prices | None) -> int | None:
        """Return what the response costs the proxy's operator, in micro-USD; None if no price is known.

        A count of tokens, an error, and a response to the client's own login cost nothing.
        """
        journal, request = self.journal, self.request
        if journal.usage is None or request.counts_tokens or self._error_kind:
            return 0
        if request.client.credential is not None and journal.labels[-1:] == [request.client.credential.label]:
            return 0
        return prices.cost(journal.model or request.name, journal.served, journal.usage) if prices else None

    def _own_headers(self) -> list[tuple[str, str]]:
        """Return the headers that the proxy adds to a response."""
        return [(RULE, self._rule)] if self._rule else []

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        if own := self._own_headers():
            headers = [*headers, *encoded(own)]
        await self._client({"type": "http.response.start", "status": status, "headers": headers})

    def _count(self, data: bytes) -> None:
        self._size += len(data)
        self._tail = data[-2:] if len(data) > 1 else (self._tail + data)[-2:]

    async def _send_body(self, data: bytes, *, more: bool) -> None:
        self._count(data)
        await self._client({"type": "http.response.body", "body": data, "more_body": more})

    def _clean(self, refusal: Refusal) -> Refusal:
        secrets = _secrets_of(self.request.client)
        body = self._redactor.text(refusal.body.decode("utf-8", "surrogateescape"), secrets)
        headers = [(name, self._redactor.text(value, secrets)) for name, value in refusal.headers]
        return replace(refusal, headers=headers, body=body.encode("utf-8", "surrogateescape"))

    def _clean_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        secrets = _secrets_of(self.request.client)
        together = "\n".join([value for _, value in headers])
        if self._redactor.text(together, secrets) != together:
            headers = [(name, self._redactor.text(value, secrets)) for name, value in headers]
        return encoded(headers)


def _forms_of_secrets(redactor: Redactor, client: Client) -> list[bytes]:
    return redactor.forms(_secrets_of(client))


def _secrets_of(client: Client) -> list[Secret]:
    return [*client.tokens, *([client.credential.secret] if client.credential else [])]
