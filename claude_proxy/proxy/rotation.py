"""One attempt at Claude over several credentials: use one, judge the response, continue with the next one.

The headers of every response are judged before the client receives a byte. This is the only place that puts a Claude
credential on a request, and it first checks the parsed host of that request.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from claude_proxy.anthropic.errors import STATUS_OF_ERRORS
from claude_proxy.anthropic.messages import repaired, to_json, without_foreign_thinking
from claude_proxy.asgi import Headers
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.response_rules import Action, Verdict, judge
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UNIFIED, UpstreamResponse
from claude_proxy.providers.endpoints import Hosts, Origin
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.sources import Source
from claude_proxy.upstream import headers as header_policy
from claude_proxy.upstream.client import StreamedResponse
from claude_proxy.upstream.response_bounds import CODINGS

logger = logging.getLogger(__name__)

# How much of an error's body is examined.
MAX_JUDGED_BYTES = 16 * 1024
# Up to this size, the client receives Claude's errors unmodified.
MAX_CLAUDE_ERROR_BYTES = 16 * 1024 * 1024

# Sends a POST request with these headers and this body.
SendUpstream = Callable[[Headers, bytes], Awaitable[StreamedResponse]]


class EgressRefused(Exception):
    """A request with a Claude credential was addressed to a host that is not Anthropic's."""


class NoCredentialAvailable(Exception):
    """No credential of the pool can serve the request now; the pool has the reason and the time."""


class Refusals:
    """Account refusals (status 400) of one request; the request itself may have caused them.

    Five rules:

    1. The first refusal rejects no credential; another credential is used.
    2. If that credential serves the request, the refusal is confirmed, and the first credential is rejected.
    3. If a second credential gives the same refusal, the request may be at fault: no third one is used; a fallback responds.
    4. The same refusal of the same credential for another caller's request also confirms it.
    5. One request rejects at most one credential.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._met: set[str] = set()
        self._first: tuple[Credential, Verdict] | None = None
        self._done = False

    def meet(self, credential: Credential, verdict: Verdict) -> Verdict:
        """Record a refusal; return the verdict that these rules produce."""
        repeated = verdict.unconfirmed in self._met
        self._met.add(verdict.unconfirmed)
        seen_by_another = self._source.suspect(credential, verdict.unconfirmed)
        if repeated:
            reason = (
                "gave the same refusal as the previous credential; neither is rejected until another user's request gets it"
            )
            return verdict._replace(action=Action.ROUTER, reason=reason)
        if seen_by_another and not self._done:
            self._confirm(credential, verdict, "another caller's request received the same refusal")
            return verdict._replace(unconfirmed="")
        if self._first is None:
            self._first = credential, verdict
        return verdict

    def served(self) -> None:
        """Reject the credential that refused first, because another one has served the request."""
        if self._first is not None and not self._done:
            self._confirm(*self._first, "another credential served the same request")

    def _confirm(self, credential: Credential, verdict: Verdict, evidence: str) -> None:
        self._done = True
        self._source.confirm(credential, verdict)
        what = "is rejected" if verdict.rejected else "is rate-limited"
        logger.warning("credential %s %s: %s, and %s", credential.label, what, verdict.reason, evidence)


class Judged(NamedTuple):
    """A response with its verdict on the credential; ``body`` is the whole body of an error, and empty otherwise."""

    response: StreamedResponse
    verdict: Verdict
    body: bytes
    credential: Credential
    sent: float


class Rotation:
    """The credentials of one attempt; the journal lists the used ones, and why each was abandoned.

    The caller must call ``release`` at the end of the response; until then the credential is occupied.
    """

    def __init__(
        self,
        source: Source,
        request: Request,
        journal: Journal,
        *,
        scope: Scope,
        cooldown: float,
        clock: Callable[[], float],
        redact: Callable[[str], str],
    ) -> None:
        self._source = source
        self._request = request
        self._journal = journal
        self._scope = scope
        self._cooldown = cooldown
        self._clock = clock
        self._redact = redact
        self._refusals = Refusals(source)
        self._unknown: list[tuple[Credential, UpstreamResponse]] = []
        self._tried: frozenset[str] = frozenset()
        # The credential in use, and the next one if it is already known.
        self._held: Credential | None = None
        self._next: Credential | None = None
        self._tried_other = self._repaired = False

    async def send(self, hosts: Hosts, url: str, content: bytes, post: SendUpstream, extra: Headers = ()) -> Judged:
        """Send the request with one credential after another until a response is final. Also called after ``goes_on``.

        Raises ``NoCredentialAvailable`` if no credential of the pool can serve the request, also after some refused it;
        ``EgressRefused`` for a host that is not Anthropic's; and the errors of ``post``.
        """
        if not hosts.is_claude(url):
            origin = Origin.of(url)
            raise EgressRefused(f"{origin.host if origin else 'the URL'} is not Anthropic's host")
        judged: Judged | None = None
        while True:
            credential = await self._next_credential()
            if credential is None:
                if judged is None or not judged.verdict.unconfirmed:
                    raise NoCredentialAvailable
                # No other credential can show whether the request is at fault: a fallback responds.
                return judged._replace(verdict=judged.verdict._replace(action=Action.ROUTER))
            self._held = credential
            self._tried |= {credential.label}
            self._journal.use(credential.label)
            judged = await self._send_with(credential, content, post, extra)
            if judged.verdict.action is Action.REPAIR and not self._repaired and (fixed := repaired(json.loads(content))):
                self._repaired, content = True, to_json(fixed)
                judged = await self._send_with(credential, content, post, extra)
            if not self.goes_on(judged):
                if judged.response.status >= 400 and judged.verdict.reason:
                    self._journal.fail(f"{judged.verdict.reason} (HTTP {judged.response.status})")
                return judged

    def goes_on(self, judged: Judged) -> bool:
        """Return whether another credential is used instead of this response."""
        credential, verdict = judged.credential, judged.verdict
        if verdict.action is Action.TRY_ONE_OTHER and not self._tried_other:
            self._tried_other = True
        elif verdict.action is Action.API_KEY:
            self._tried |= self._source.others(credential)
        elif verdict.action is not Action.NEXT:
            return False
        self._next = self._source.choose(self._tried)
        if self._next is None and (verdict.action is not Action.NEXT or not self._source.pooled):
            return False
        self._journal.leave(credential.label, f"{verdict.reason} (HTTP {judged.response.status})")
        self._journal.record_failed()
        self.release()
        return True

    def release(self) -> None:
        """Release the credential in use."""
        if self._held is not None:
            self._source.release(self._held)
            self._held = None

    def goes_on_after(self, judged: Judged, kind: str, body: bytes) -> bool:
        """Return whether another credential is used after a stream whose first event is an error.

        Only a rate limit leads to that. The error is treated as a response with the matching status, also by the source.
        """
        status = STATUS_OF_ERRORS.get(kind, 500)
        verdict = judge(self._upstream_response(judged.credential, judged.response, status, body, judged.sent), self._cooldown)
        if not verdict.cooldowns and verdict.action is not Action.TRY_ONE_OTHER:
            return False
        return self.goes_on(self._judge(judged.credential, judged.response, status, body, judged.sent))

    async def _send_with(self, credential: Credential, content: bytes, post: SendUpstream, extra: Headers) -> Judged:
        """Send the request with one credential; return its verdict, which the source has recorded."""
        sent = self._clock()
        response = await post(self._headers(credential, extra), content)
        self._journal.learn_request_id(response.first_headers)
        body = b""
        if response.status >= 400:
            try:
                body = await response.read(cut_at=MAX_CLAUDE_ERROR_BYTES)
            finally:
                response.close()
        return self._judge(credential, response, response.status, body, sent)

    def _headers(self, credential: Credential, extra: Headers) -> Headers:
        sent = header_policy.for_claude(self._request.headers, credential)
        if extra:
            added = [pair for pair in extra if header_policy.may_be_added(pair[0])]
            names = {name.lower() for name, _ in added}
            sent = [*(pair for pair in sent if pair[0].lower() not in names), *added]
        return [*sent, ("accept-encoding", CODINGS)]

    async def _next_credential(self) -> Credential | None:
        """Return an available credential, one to probe, or one that became available while waiting."""
        credential, self._next = self._next, None
        credential = credential or self._source.choose(self._tried) or self._source.probe(self._tried)
        while credential is None:
            left = await self._source.wait(self._tried)
            if left is None:
                break
            self._tried, credential = left, self._source.choose(left)
        return credential

    def _upstream_response(
        self, credential: Credential, response: StreamedResponse, status: int, body: bytes, sent: float
    ) -> UpstreamResponse:
        headers, now = response.first_headers, self._clock()
        judged = body[:MAX_JUDGED_BYTES]
        return UpstreamResponse(status, headers, judged, self._scope, now, credential.kind, sent, self._redact)

    def _judge(self, credential: Credential, response: StreamedResponse, status: int, body: bytes, sent: float) -> Judged:
        parsed = self._upstream_response(credential, response, status, body, sent)
        verdict = judge(parsed, self._cooldown)
        self._source.record_response(credential, verdict, parsed)
        if verdict.unknown:
            due = self._source.record_unknown_refusal(credential, parsed)
            self._unknown.append((credential, parsed))
            if due and verdict.action is Action.CLIENT:
                verdict = verdict._replace(action=Action.TRY_ONE_OTHER, reason="refused again with an unknown error")
        if verdict.unconfirmed and self._source.pooled:
            verdict = self._refusals.meet(credential, verdict)
        elif verdict.action is Action.DONE:
            self._refusals.served()
            for doubted, refusal in self._unknown:
                self._source.confirm_unknown_refusal(doubted, refusal)
        _report(credential, verdict, parsed, pooled=self._source.pooled)
        return Judged(response, verdict, body, credential, sent)


# The field of tags for a gateway.
TAGS = "tags"


def body_for_claude(request: Request, model: str) -> bytes:
    """Return the body for Claude: the client's, with the deployment's model and without thinking of other providers.

    It is the same bytes if neither changes and there are no tags, which are for the proxy; otherwise values and order stay.
    """
    view = request.view
    tagged = view.tags is not None
    if view.model == model and not view.needs_rewrite and not tagged:
        return request.raw
    body: dict[str, Any] = {name: value for name, value in request.body.items() if name != TAGS}
    history = body.get("messages")
    changed = without_foreign_thinking(history) if isinstance(history, list) else history
    if view.model == model and changed is history and not tagged:
        return request.raw
    return to_json(body | {"model": model} | ({"messages": changed} if changed is not history else {}))


def _report(credential: Credential, verdict: Verdict, parsed: UpstreamResponse, *, pooled: bool) -> None:
    """Log what the operator may have to act on, with the credential's label."""
    if verdict.action is Action.DONE or not verdict.reason or (verdict.action is Action.ROUTER and not verdict.unconfirmed):
        return
    level = logging.WARNING if pooled and verdict.action is not Action.REPAIR else logging.INFO
    if verdict.proxy_fault:
        level = logging.ERROR
    claim = parsed.headers.get(f"{UNIFIED}representative-claim", "")
    logger.log(
        level,
        "credential %s: %s (HTTP %d%s)%s; %s",
        credential.label,
        verdict.reason,
        parsed.status,
        f", {claim}" if claim else "",
        f': "{verdict.explanation}"' if verdict.explanation else "",
        verdict.action.value,
    )
