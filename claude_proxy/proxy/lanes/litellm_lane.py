"""The lane to LiteLLM's app: relays its response as it arrives, and converts its errors to an outcome."""

from typing import Any

from claude_proxy.anthropic.errors import STATUS_OF_ERRORS, refusal_of, without_tracebacks
from claude_proxy.anthropic.sse import error_of, events, json_object
from claude_proxy.anthropic.usage import StreamSummary, usage_of
from claude_proxy.asgi import Message
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.outcome import DONE, Outcome, failed
from claude_proxy.proxy.response import ClientResponse

# The end of the type of LiteLLM's error for a model that a virtual key, its user or its team may not use. It has the status
# 403, after which Claude Code tells its user to log in.
MODEL_DENIED = "_model_access_denied"
# LiteLLM's own headers, such as one with api_base, and its copies of the upstream's headers.
HIDDEN_HEADERS = ("x-litellm-", "llm_provider-")


class LitellmResponse:
    """ASGI ``send`` for one call of LiteLLM's app. If a lane has already sent the response, LiteLLM's copy is dropped."""

    def __init__(self, outlet: ClientResponse, journal: Journal, *, streams: bool, only_success: bool) -> None:
        """With ``only_success``, a status between success and error is an error, too."""
        self._outlet = outlet
        self._journal = journal
        self._streams = streams
        self._only_success = only_success
        self._error: Message | None = None
        # The start message of a stream without content so far, and the data so far.
        self._begin: dict[str, Any] | None = None
        self._early = b""
        self._held = bytearray()
        self._passes = False
        # The usage of a stream, or a whole response.
        self._summary = StreamSummary()
        self._whole = bytearray()

    async def __call__(self, message: Message) -> None:
        """Process one of LiteLLM's messages."""
        if message["type"] == "http.response.start":
            await self._start(message)
        elif self._error is not None:
            self._held += message.get("body", b"")
        elif self._passes:
            await self._body(without_tracebacks(message.get("body", b"")), last=not message.get("more_body", False))

    def outcome(self) -> Outcome:
        """Return the outcome of the request, after LiteLLM has finished."""
        if self._error is None or self._outlet.begun:
            return DONE
        body = bytes(self._held)
        status = 400 if _denies_model(body) else int(self._error["status"])
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._error["headers"]]
        return failed(status, refusal_of(status, body, headers))

    async def _start(self, message: Message) -> None:
        status = int(message["status"])
        if status >= 400:
            self._error = message
        elif self._only_success and not 200 <= status < 300:
            # LiteLLM 1.106.2 passes on the status of some provider errors, even if it is not an error status.
            self._error = dict(message) | {"status": 502}
        elif not self._outlet.begun:
            self._passes = True
            self._begin = dict(message)
            if not self._streams:
                await self._begun()

    async def _begun(self) -> None:
        """Send the status, after the first event has shown that it is not an error."""
        message, self._begin = self._begin, None
        if message is not None:
            named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            shown = [pair for pair in named if not pair[0].lower().startswith(HIDDEN_HEADERS)]
            self._journal.summary = self._summary if self._streams else None
            await self._outlet.begin(int(message["status"]), shown)

    async def _body(self, data: bytes, *, last: bool) -> None:
        if self._begin is not None:
            data = self._early = self._early + data
            if kind := error_of(data):
                # LiteLLM 1.106.2 starts some streams before it calls the provider, and puts its error in them.
                self._error = self._begin | {"status": STATUS_OF_ERRORS.get(kind, 502)}
                self._held += [*events(data)][-1]
                return
            if not last and all(map(_has_no_content, events(data))):
                return
            await self._begun()
        if not self._streams:
            self._whole += data
        elif b'"usage"' in data:  # each message contains complete events
            self._summary.feed(data)
            self._journal.usage = self._summary.usage  # a client may disconnect before the end
        if last:
            self._summary.finish()
            self._journal.usage = usage_of(bytes(self._whole)) if self._whole else self._summary.usage
        await self._outlet.write(data)
        if last:
            await self._outlet.end()


def _has_no_content(data: bytes) -> bool:
    """Return whether an event contains no content yet."""
    return (json_object(data) or {}).get("type") in ("message_start", "ping")


def _denies_model(body: bytes) -> bool:
    error = (json_object(body) or {}).get("error")
    return isinstance(error, dict) and str(error.get("type")).endswith(MODEL_DENIED)
