"""The lane to Claude's own API: sends the client's bytes with a credential, and returns Claude's bytes."""

import functools
import json
import re
from collections.abc import Callable
from dataclasses import replace

from claude_proxy.access.routes import SHARED_NAMES
from claude_proxy.anthropic.errors import Refusal, Refused, own_refusal
from claude_proxy.anthropic.sse import event_data
from claude_proxy.anthropic.usage import usage_of
from claude_proxy.anthropic.written_files import WrittenFiles
from claude_proxy.config.pool_groups import NO_GROUPS, PoolGroups
from claude_proxy.config.settings import Settings, TokenMode
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.order import Requester, admits
from claude_proxy.credentials.pool import Pool, PoolRequest
from claude_proxy.credentials.response_rules import Action
from claude_proxy.credentials.scope import COUNT_TOKENS, FAST, MESSAGES, STANDARD, Scope
from claude_proxy.providers.endpoints import Hosts, model_family
from claude_proxy.proxy.account_objects import AccountObjects
from claude_proxy.proxy.lanes.attempt import NOT_REPLAYED, STREAM, Attempt, failed_stream, messages_url, relay
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.outcome import DONE, Outcome, failed
from claude_proxy.proxy.pool_refusals import Counts, closed_pool, exhausted_pool, refused_account, refused_pool
from claude_proxy.proxy.relay import FailedStream, Renaming
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.rotation import Judged, NoCredentialAvailable, Rotation, body_for_claude
from claude_proxy.proxy.sources import PinnedSource, PoolSource, SingleSource, Source
from claude_proxy.proxy.waiting import WaitQueues
from claude_proxy.upstream.client import StreamedResponse, TimedOutError, UnreadableError, UpstreamClient, UpstreamError

# Status 400, because a login would not help: after 401 or 403, Claude Code tells its user to log in.
NO_CREDENTIAL = own_refusal(
    400,
    "No Claude credential: the pool of this proxy is empty, and the request has none of its own. The operator adds one with "
    "`claude-proxy pool add LABEL`; a user with a login of their own sends the proxy's token in the header x-litellm-api-key.",
)

NO_LOGIN = own_refusal(
    401,
    "No Claude credential: this proxy passes on the user's own login, and the request has none. Log in with Claude Code, and "
    "send the proxy's token in the header x-litellm-api-key. ANTHROPIC_AUTH_TOKEN in settings.json or the shell replaces the "
    "login: remove it.",
)

BLOCKED = (
    "claude-proxy: the network in front of Anthropic blocks the proxy's IP address: it returned an HTML page (possibly a "
    "Cloudflare challenge). No credential is at fault; the proxy's operator must use another address."
)

BUSY = own_refusal(
    503,
    "claude-proxy: every available Claude credential has reached its limit of concurrent requests (max_concurrency). "
    "Please try again in a moment.",
    [("retry-after", "1")],
)

NO_GROUP_CREDENTIAL = own_refusal(
    400,
    "claude-proxy: you may not use any Claude credential of this proxy for this model. The operator keeps them for groups "
    "(credentials.yaml, and groups under claude_proxy in config.yaml).",
)

REFUSED_KEY = own_refusal(
    503,
    "claude-proxy: Anthropic rejected the API key that this request needs, because of the batch or the files that it is about. "
    "It is the proxy's account, not yours. The operator finds the reason in the log of the proxy and on its page /pool.",
    [("x-should-retry", "false")],
)
NO_API_KEY = own_refusal(
    403,
    "claude-proxy: a subscription to Claude serves Claude Code alone. For other clients this proxy needs an API key of "
    "Anthropic that you may use, and has none: the operator adds one with `claude-proxy pool add LABEL`.",
)


class ClaudeLane:
    """One per process."""

    def __init__(
        self,
        settings: Settings,
        hosts: Hosts,
        pool: Pool,
        client: UpstreamClient,
        clock: Callable[[], float],
        *,
        groups: Callable[[], PoolGroups] = lambda: NO_GROUPS,
        objects: AccountObjects | None = None,
    ) -> None:
        """``objects`` knows with which API key each file was made."""
        self._settings = settings
        self._hosts = hosts
        self._pool = pool
        self._client = client
        self._clock = clock
        self._groups = groups
        self._objects = objects
        self._queues = WaitQueues()

    async def attempt(self, attempt: Attempt) -> Outcome:
        """Try one credential after another until a response is final or none is left.

        A request with files only goes to the API key that has them; no other model can read them either.
        """
        request = attempt.request
        names = attempt.deployment.model, request.name
        requester = self._groups().requester(request.user, *names, groups=request.groups, known=self._pool.groups)
        if request.api_keys_only:
            requester = requester._replace(api_keys_only=True)
        try:
            key = await self._objects.key_of_request(request, requester) if self._objects is not None else None
        except Refused as refused:
            return failed(refused.status, refused.refusal(), final=True)
        outcome = await self._attempt(attempt, requester, key)
        return outcome if key is None or outcome.done else replace(outcome, final=True)

    async def _attempt(self, attempt: Attempt, requester: Requester, key: Credential | None) -> Outcome:
        """Make the attempt, with ``key`` alone if there is one."""
        request, deployment = attempt.request, attempt.deployment
        scope = scope_of(request, deployment.model)
        source: Source | None = PinnedSource(self._pool, key) if key is not None else None
        source = source or await offloaded(len(request.raw), self._source, attempt, scope, requester)
        if source is None:
            if request.api_keys_only:
                return failed(NO_API_KEY.status, NO_API_KEY, of_pool=True, cause="no API key for a client of another API")
            if self._mode(request) is TokenMode.ROTATE:
                return failed(NO_CREDENTIAL.status, NO_CREDENTIAL, of_pool=True, cause="no credential in the pool")
            return failed(NO_LOGIN.status, NO_LOGIN, final=True)
        if source.pooled:
            self._pool.record_requested(scope)
        attempt.journal.of_client = not source.pooled and key is None and request.client.credential is not None
        rotation = Rotation(
            source,
            request,
            attempt.journal,
            scope=scope,
            cooldown=self._settings.cooldown_seconds,
            clock=self._clock,
            redact=attempt.outlet.redact,
        )
        url = self._url(attempt)
        content = await offloaded(len(request.raw), body_for_claude, request, deployment.model)
        sent = attempt.journal.record_sent
        send = functools.partial(self._client.send, url, read_seconds=attempt.read_seconds, on_sent=sent)
        try:
            while True:
                judged = await rotation.send(self._hosts, url, content, send, deployment.extra_headers)
                try:
                    outcome = await self._taken(attempt, rotation, judged, source)
                finally:
                    judged.response.close()
                if outcome is not None:
                    return outcome
        except NoCredentialAvailable:
            refusal = self._pool_refusal(scope, requester)
            cause = "no credential of the pool is for this user" if refusal is NO_GROUP_CREDENTIAL else ""
            return failed(429, refusal, of_pool=True, cause=cause)
        except UpstreamError as error:
            return unreachable(error)
        finally:
            rotation.release()

    async def _taken(self, attempt: Attempt, rotation: Rotation, judged: Judged, source: Source) -> Outcome | None:
        """Return the outcome of a response; None if its first event shows that another credential should be used."""
        if judged.response.status >= 400:
            return refused(judged, source)
        try:
            return await self._passed(attempt, judged.response, judged.credential)
        except FailedStream as error:
            if rotation.goes_on_after(judged, error.kind, event_data(error.body)):
                return None
            return failed_stream(error, replayed(judged.response), judged.response.status)

    async def _passed(self, attempt: Attempt, response: StreamedResponse, credential: Credential) -> Outcome:
        if reason := response.rejection_reason:
            return failed(502, own_refusal(502, f"Anthropic {reason}.", []))
        streams = attempt.request.streams and response.media_type == STREAM
        written = self._objects.written_files(attempt.request, credential) if self._objects is not None else None
        return await (self._stream if streams else self._whole)(attempt, response, written)

    async def _stream(self, attempt: Attempt, response: StreamedResponse, written: WrittenFiles | None) -> Outcome:
        outlet, headers = attempt.outlet, replayed(response)

        def failure(error: FailedStream | UpstreamError) -> Outcome:
            if isinstance(error, FailedStream):
                raise error
            return _broken(response, error)

        renaming = Renaming(*renamed(attempt.request.model, attempt.deployment.model))
        return await relay(
            attempt,
            response,
            renaming if written is None else Searched(renaming, written),
            failure,
            begin=lambda: outlet.begin(response.status, headers, of_claude=True),
        )

    async def _whole(self, attempt: Attempt, response: StreamedResponse, written: WrittenFiles | None) -> Outcome:
        outlet = attempt.outlet
        try:
            content = await response.read()
        except UpstreamError as error:
            return _broken(response, error)
        attempt.journal.usage = usage_of(content)
        if attempt.capture is not None:
            attempt.capture.feed(content)
        if written is not None:
            written.whole(content)
        body = Renaming(*renamed(attempt.request.model, attempt.deployment.model)).whole(content)
        await outlet.begin(response.status, [*replayed(response), ("content-length", str(len(body)))], of_claude=True)
        await outlet.end(body)
        return DONE

    def _url(self, attempt: Attempt) -> str:
        path = messages_url(attempt.deployment.api_base or self._settings.claude_base)
        path += "/count_tokens" if attempt.request.counts_tokens else ""
        return f"{path}?{attempt.request.query}" if attempt.request.query else path

    def _source(self, attempt: Attempt, scope: Scope, requester: Requester) -> Source | None:
        request, client = attempt.request, attempt.request.client
        has_pool = self._pool.has_any(requester) if request.api_keys_only else len(self._pool) > 0
        if self._mode(request) is TokenMode.ROTATE and has_pool:
            pool_request = PoolRequest(request.session, scope, requester, request.starts_conversation)
            # Users with a shared name are distinguished by session name: an opening may itself cause a refusal.
            caller = f"{request.user} {request.named_session}" if request.user in SHARED_NAMES else request.user
            return PoolSource(
                self._pool, pool_request, caller=caller, max_wait=self._settings.max_wait_seconds, queues=self._queues
            )
        if client.credential and not request.api_keys_only:
            return SingleSource(client.credential)
        key = attempt.deployment.api_key
        own = Credential.of("deployment", key.reveal()) if key else None
        return SingleSource(own) if own and not (request.api_keys_only and own.kind is not Kind.API_KEY) else None

    def _mode(self, request: Request) -> TokenMode:
        return TokenMode(request.client.mode) if request.client.mode else self._settings.mode

    def _pool_refusal(self, scope: Scope, requester: Requester) -> Refusal:
        if not self._pool.has_any(requester):
            return NO_GROUP_CREDENTIAL
        if self._pool.is_busy(scope, requester):
            return BUSY
        seconds = self._pool.retry_after(scope, requester)
        if self._pool.is_disabled:
            return closed_pool(seconds)
        if self._pool.all_rejected(scope, requester):
            return refused_pool(seconds)
        counts = Counts.of(one for one in self._pool.snapshot() if admits(one.credential, requester))
        return exhausted_pool(seconds, self._clock(), self._pool.claim(scope, requester), counts)


class Searched:
    """An editor of a stream whose files are recorded before the client gets their ids: a ``StreamEditor``."""

    def __init__(self, editor: Renaming, written: WrittenFiles) -> None:
        self._editor = editor
        self._written = written

    def feed(self, chunk: bytes) -> bytes:
        self._written.feed(chunk)
        return self._editor.feed(chunk)

    def finish(self) -> bytes:
        return self._editor.finish()


def scope_of(request: Request, model: str) -> Scope:
    """Return the scope of a request, by Anthropic's limits."""
    endpoint = COUNT_TOKENS if request.counts_tokens else MESSAGES
    return Scope(model_family(model), endpoint, FAST if request.view.speed == FAST else STANDARD)


@functools.lru_cache(maxsize=1000)
def renamed(requested: str, sent: str) -> tuple[bytes, re.Pattern[bytes]]:
    """Return the name to write into a response, and the pattern of the names to replace: dated forms, and ``sent``."""
    name = json.dumps(sent, ensure_ascii=False).encode("utf-8", "surrogatepass")[1:-1]
    replacement = json.dumps(requested, ensure_ascii=False).encode("utf-8", "surrogatepass")
    date = rb"-\d{8}" if requested == sent else rb"(?:-\d{8})?"
    return replacement, re.compile(rb'"' + re.escape(name) + date + rb'"')


def replayed(response: StreamedResponse) -> list[tuple[str, str]]:
    """Return the headers of a response that the client gets."""
    return [pair for pair in response.headers if pair[0] not in NOT_REPLAYED]


def _broken(response: StreamedResponse, error: UpstreamError) -> Outcome:
    """Return the outcome of an incomplete response: the client's response ends where Anthropic's did."""
    if isinstance(error, UnreadableError):
        return failed(502, own_refusal(502, f"Anthropic {error}.", []))
    return failed(502, Refusal(response.status, replayed(response), b"", whole=False))


def refused(judged: Judged, source: Source) -> Outcome:
    """Return the outcome of an error of Anthropic; the client receives it unchanged, unless it is about the proxy's account."""
    status, action = judged.response.status, judged.verdict.action
    of_account = status in (401, 403) or judged.verdict.rejected or bool(judged.verdict.unconfirmed)
    if action is Action.BLOCKED:
        return failed(503, own_refusal(503, BLOCKED, [("x-should-retry", "false")]))
    if of_account and (source.pooled or isinstance(source, PinnedSource)):
        # Claude Code would show it as an error of the user's own account; after 401 and 403 it deletes the user's login.
        shown = refused_account(60) if judged.verdict.unconfirmed else refused_pool(60)
        return failed(status, shown if source.pooled else REFUSED_KEY)
    final = action in (Action.CLIENT, Action.API_KEY, Action.REPAIR) or (action is Action.NEXT and status != 429)
    return failed(status, Refusal(status, replayed(judged.response), judged.body), final=final)


def unreachable(error: UpstreamError) -> Outcome:
    """Return the outcome of an attempt to which there is no response."""
    late = isinstance(error, TimedOutError)
    words = "Anthropic did not respond to the proxy in time" if late else "The proxy cannot reach Anthropic"
    if isinstance(error, UnreadableError):
        words = "The proxy cannot read Anthropic's response"
    status = 504 if late else 502
    cause = "no response in time" if late else "" if isinstance(error, UnreadableError) else f"cannot be reached: {error}"
    return failed(status, own_refusal(status, f"{words} ({error}).", []), cause=cause)
