"""proxy/lanes/claude_lane.py: one attempt at Claude, from the client's bytes to the client's response."""

import asyncio
import dataclasses
import json
from dataclasses import replace

import aiohttp
import pytest
from answers import KINDS
from lanes import CLAUDE_BODY, Received, Response, Upstream
from msgspec import structs

from claude_proxy.anthropic.opening import opening_of
from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.pool_groups import PoolGroups
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential, Terms
from claude_proxy.credentials.made_objects import MadeObject, MadeObjects, ObjectKind, fingerprint
from claude_proxy.credentials.order import ANONYMOUS, Requester
from claude_proxy.credentials.pool import Affinity, Pool, PoolRequest
from claude_proxy.credentials.response_rules import Action, Verdict
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.proxy.account_objects import AccountObjects
from claude_proxy.proxy.api_keys import ApiKeys
from claude_proxy.proxy.lanes.attempt import Attempt
from claude_proxy.proxy.lanes.claude_lane import (
    BUSY,
    NO_API_KEY,
    NO_CREDENTIAL,
    NO_GROUP_CREDENTIAL,
    NO_LOGIN,
    ClaudeLane,
    scope_of,
)
from claude_proxy.proxy.outcome import DONE
from claude_proxy.proxy.pool_refusals import Counts, exhausted_pool, refused_pool
from claude_proxy.proxy.relay import StreamCapture
from claude_proxy.secret import Secret
from claude_proxy.upstream.client import READ_SECONDS, TimedOutError, UnreachableError, UnreadableError
from claude_proxy.upstream.headers import read, session_of

pytestmark = pytest.mark.anyio

POOLED, OWN = "sk-ant-oat01-made-up-pool", "sk-ant-oat01-made-up-own"
URL = "https://api.anthropic.com/v1/messages"
NOW = 1_800_000_000.0
CLIENTS_OWN = [("authorization", f"Bearer {OWN}"), ("x-litellm-api-key", "made-up")]
RESET = aiohttp.ClientPayloadError("reset")
STREAMED = b'{"stream":true,' + CLAUDE_BODY.strip().removeprefix(b"{")


def refused(status, words, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, json={"type": "error", "error": {"type": KINDS[status], "message": words}}, headers=named)


def claude(**named):
    return Deployment(Lane.CLAUDE, Provider.CLAUDE, "anthropic/claude-x", "claude-x", **named)


class Lanes:
    """Claude's lane over an upstream, with one credential in its pool or with none."""

    def __init__(self, *responses, pooled=True, **variables):
        self.upstream = Upstream(*responses)
        settings = Settings.parse(({"CLAUDE_OAUTH_TOKENS": f"one={POOLED}"} if pooled else {}) | variables)
        self.pool = Pool(settings.credentials, affinity=Affinity.SESSION, quarantine=900, clock=lambda: NOW)
        self.lane = ClaudeLane(settings, Hosts(settings.claude_base), self.pool, self.upstream, lambda: NOW)

    async def attempt(self, received, deployment=None, *, capture=None, read_seconds=READ_SECONDS):
        attempt = Attempt(
            received.request,
            deployment or claude(),
            received.outlet,
            received.journal,
            read_seconds=read_seconds,
            capture=capture,
        )
        return await self.lane.attempt(attempt)


LIMITED = {"retry_after": "60"}


@pytest.mark.parametrize(
    ("pooled", "answer", "final"),
    [
        # About the request: another model of the fallbacks would hide it from Claude Code, which acts on it.
        (True, refused(400, "prompt is too long"), True),
        (True, refused(404, "model: claude-none"), True),
        (True, refused(429, "Error"), True),
        (True, refused(429, "Extra usage is required for long context requests."), True),
        (True, refused(400, "Third-party apps now draw from your extra usage"), True),
        (True, refused(400, "each thinking block must contain thinking"), True),
        # About Anthropic, and a 429 that names no limit: the fallbacks may answer.
        (True, refused(529, "Overloaded"), False),
        (True, refused(500, "Internal server error"), False),
        (True, refused(429, "x"), False),
        # The user's own credential.
        (False, refused(401, "OAuth access token is invalid."), True),
        (False, refused(401, "invalid x-api-key"), True),
        (False, refused(403, "OAuth token has been revoked."), True),
        (False, refused(403, "Request not allowed"), True),
        (False, refused(400, "Your credit balance is too low"), True),
        (False, refused(429, "limit", **LIMITED), False),
        (False, refused(529, "Overloaded"), False),
    ],
)
async def test_what_the_client_is_to_see(pooled, answer, final):
    """Anthropic's error is kept as it came, and no fallback replaces one that is about the request or the user's login."""
    about_the_connection = {"server": "upstream", "set-cookie": "c", "content-length": str(len(answer.body))}
    response = Response(
        answer.status, body=answer.body, headers=dict(answer.headers) | {"request-id": "r"} | about_the_connection
    )
    received = Received(sent=CLIENTS_OWN)
    outcome = await Lanes(response, pooled=pooled).attempt(received)
    headers = dict(outcome.refusal.headers)
    assert (outcome.final, outcome.refusal.status, outcome.status) == (final, answer.status, answer.status)
    assert (outcome.refusal.body, outcome.refusal.whole, headers["request-id"]) == (answer.body, True, "r")
    assert not {"server", "set-cookie", "content-length"} & set(headers)
    assert received.begun is None


@pytest.mark.parametrize(
    "answer",
    [
        refused(401, "invalid x-api-key"),
        refused(401, "OAuth authentication is currently not supported."),
        refused(403, "This credential is only authorized for use with Claude Code"),
    ],
)
async def test_a_pooled_refusal_is_not_the_clients(answer):
    """A 401 or 403 of a pooled credential would make Claude Code drop the user's own login, so it is a 503 that says why."""
    outcome = await Lanes(answer).attempt(Received())
    body = json.loads(outcome.refusal.body)
    assert (outcome.refusal.status, body["type"], outcome.final) == (503, "error", False)
    assert "operator" in body["error"]["message"]
    assert dict(outcome.refusal.headers)["x-should-retry"] == "false"
    assert b"made-up" not in outcome.refusal.body


@pytest.mark.parametrize("all_rejected", [False, True], ids=["exhausted", "refused"])
async def test_nobody_usable_is_what_the_pool_says(all_rejected):
    """With nobody to ask nothing is sent, the client gets what the pool says, and to retries and fallbacks it is a 429."""
    lanes, received = Lanes(), Received()
    (one,) = [each.credential for each in lanes.pool.snapshot()]
    if all_rejected:
        lanes.pool.confirm(one, REJECTED)
    else:
        lanes.pool.record_response(
            one, Verdict(Action.NEXT, "limit reached", ((EVERYTHING, NOW + 90),)), UpstreamResponse(429, {})
        )
    outcome = await lanes.attempt(received)
    seconds = lanes.pool.retry_after("x")
    wanted = refused_pool(seconds) if all_rejected else exhausted_pool(seconds, NOW, lanes.pool.claim(Scope("x")), Counts(1, 0))
    assert (outcome.refusal, outcome.status, outcome.final) == (wanted, 429, False)
    assert (received.journal.labels, lanes.upstream.sent) == ([], [])


async def test_nobody_usable_after_an_answer():
    """A response that puts the pool's last credential out is not shown: the pool says what there is to say."""
    lanes, received = Lanes(refused(401, "OAuth access token is invalid.")), Received()
    outcome = await lanes.attempt(received)
    assert outcome.refusal == refused_pool(lanes.pool.retry_after("x"))
    assert (outcome.status, received.journal.labels) == (429, ["one"])


# Whose credential, and where to


@pytest.mark.parametrize(
    ("pooled", "variables", "sent", "key", "used"),
    [
        (True, {}, CLIENTS_OWN, None, POOLED),
        (True, {}, [*CLIENTS_OWN, ("x-claude-token-mode", "passthrough")], None, OWN),
        (True, {"CLAUDE_TOKEN_MODE": "passthrough"}, CLIENTS_OWN, None, OWN),
        (True, {"CLAUDE_TOKEN_MODE": "passthrough"}, [*CLIENTS_OWN, ("x-claude-token-mode", "rotate")], None, POOLED),
        (False, {}, CLIENTS_OWN, "sk-ant-api03-made-up-key", OWN),
        (False, {}, [], "sk-ant-api03-made-up-key", "sk-ant-api03-made-up-key"),
        (True, {"CLAUDE_TOKEN_MODE": "passthrough"}, [], "sk-ant-oat01-made-up-key", "sk-ant-oat01-made-up-key"),
        (True, {}, [], "sk-ant-api03-made-up-key", POOLED),
    ],
    ids=["pool", "asked-for", "set", "asked-back", "no-pool", "deployments", "deployments-oauth", "pool-before-deployments"],
)
async def test_whose_credential(pooled, variables, sent, key, used):
    """The pool's in its mode, else the client's own, else the deployment's; the request's own word on the mode goes first."""
    lanes = Lanes(Response(200), pooled=pooled, **variables)
    assert await lanes.attempt(Received(sent=sent), claude(api_key=Secret(key) if key else None)) == DONE
    (request,) = lanes.upstream.sent
    name, value = ("x-api-key", used) if "api03" in used else ("authorization", f"Bearer {used}")
    assert [pair for pair in request.headers if "made-up" in pair[1]] == [(name, value)]


async def test_without_any_credential():
    """Without pool, key and login nothing is sent. A fallback may respond for an empty pool, but not for a missing login."""
    for mode, refusal, status, final in (("rotate", NO_CREDENTIAL, 400, False), ("passthrough", NO_LOGIN, 401, True)):
        lanes = Lanes(pooled=False, CLAUDE_TOKEN_MODE=mode)
        outcome = await lanes.attempt(Received())
        assert (outcome.refusal, outcome.status, outcome.final, lanes.upstream.sent) == (refusal, status, final, [])
        assert final or outcome.why == "no credential in the pool"


@pytest.mark.parametrize(
    ("sent", "user_id", "model", "wanted"),
    [
        ([], None, "claude-opus-4-8", ("", "opus")),
        ([("x-claude-code-session-id", "s")], None, "claude-sonnet-5", ("s", "sonnet")),
        ([], '{"session_id": "b"}', "claude-fable-5-1", ("b", "fable")),
        # A subagent's own id is not its session.
        ([("x-claude-code-session-id", "s"), ("x-claude-code-agent-id", "a")], None, "claude-haiku-4-5", ("s", "haiku")),
    ],
    ids=["opening", "header", "body", "subagent"],
)
def test_what_a_request_wants_of_the_pool(sent, user_id, model, wanted):
    """The session is the client's and the family is the deployment's model's; a subagent stays with its session."""
    lanes = Lanes(CLAUDE_POOL_MAX_WAIT_SECONDS="7")
    raw = json.dumps(json.loads(CLAUDE_BODY) | {"model": "an-alias"} | ({"metadata": {"user_id": user_id}} if user_id else {}))
    received = Received(raw=raw.encode(), sent=sent)
    scope = scope_of(received.request, model)
    attempt, requester = Attempt(received.request, claude(), received.outlet, received.journal), Requester("anna")
    source = lanes.lane._source(attempt, scope, requester)
    named = session_of(read([("x-claude-code-session-id", wanted[0])]), None)
    session = named or opening_of(received.request.raw, received.request.user, "")
    assert (source._request, source._wait_left) == ((session, (wanted[1], "messages", "standard"), requester, named is None), 7)


LIMIT = Verdict(Action.NEXT, "limit", ((EVERYTHING, NOW + 3600),))
REJECTED = Verdict(Action.NEXT, "refused", rejected=True)


def nobody(*verdicts):
    """Return status, headers and words of what a client is told when each credential has met with one of these."""
    lanes = Lanes(CLAUDE_OAUTH_TOKENS=",".join(f"c{place}={POOLED}{place}" for place in range(len(verdicts))))
    for place, verdict in enumerate(verdicts):
        lanes.pool.record_response(lanes.pool.state(f"c{place}").credential, verdict, UpstreamResponse(429, {}))
    refusal = lanes.lane._pool_refusal(Scope("opus"), ANONYMOUS)
    return refusal.status, dict(refusal.headers), json.loads(refusal.body)["error"]["message"]


async def test_a_pool_that_is_busy_is_a_503_for_a_moment():
    """When only the limit of requests at once keeps credentials away, the client is told so, and to come back in a second."""
    lanes, received = Lanes(), Received()
    (one,) = [each.credential for each in lanes.pool.snapshot()]
    lanes.pool.replace_credentials([replace(one, terms=Terms(max_concurrency=1))])
    lanes.pool.choose(PoolRequest())
    outcome = await lanes.attempt(received)
    assert (outcome.refusal, outcome.status, outcome.final) == (BUSY, 429, False)
    assert (BUSY.status, dict(BUSY.headers)["retry-after"]) == (503, "1")
    assert lanes.upstream.sent == []


async def test_a_request_of_a_group_without_a_credential():
    """Whose groups have no credential gets none of others: an error that says why; in the group it is served."""
    lanes, received = Lanes(Response(200, json={})), Received(user="Anna")
    (one,) = [each.credential for each in lanes.pool.snapshot()]
    lanes.pool.replace_credentials([replace(one, terms=Terms(groups=frozenset({"red"})))])
    outcome = await lanes.attempt(received)
    assert (outcome.refusal, outcome.final) == (NO_GROUP_CREDENTIAL, False)
    assert outcome.why == "no credential of the pool is for this user"
    assert (NO_GROUP_CREDENTIAL.status, lanes.upstream.sent) == (400, [])
    lanes.lane._groups = lambda: PoolGroups({"anna": frozenset({"red"})}, {})
    assert await lanes.attempt(Received(user="Anna")) == DONE


def test_a_pool_that_rests_is_a_429_with_its_return():
    """When every credential rests the client is told when the first one is back, and by which of its limits."""
    of_opus = Verdict(Action.NEXT, "limit", ((Scope("opus"), NOW + 86400),))
    status, headers, words = nobody(Verdict(Action.NEXT, "limit", ((EVERYTHING, NOW + 7200),)), of_opus)
    assert words.startswith("claude-proxy: all 2 Claude credentials are rate-limited until ")
    assert (status, 7200 <= int(headers["retry-after"]) <= 7211) == (429, True)
    assert int(headers["anthropic-ratelimit-unified-reset"]) == NOW + int(headers["retry-after"])
    assert headers["anthropic-ratelimit-unified-representative-claim"] == "five_hour"
    _, headers, _ = nobody(Verdict(Action.NEXT, "limit", ((EVERYTHING, NOW + 3 * 86400),)), of_opus)
    assert headers["anthropic-ratelimit-unified-representative-claim"] == "seven_day"


def test_a_pool_that_is_out_is_a_503():
    """When it is refusals that keep every credential away, the operator has to act; one limit among them makes it a 429."""
    status, headers, _ = nobody(REJECTED, REJECTED)
    assert (status, int(headers["retry-after"]) >= 900) == (503, True)
    status, _, words = nobody(REJECTED, LIMIT, REJECTED)
    assert (status, "1 of 3 Claude credentials is rate-limited" in words, "rejected the other 2" in words) == (429, True, True)


def test_a_closed_pool_is_a_503():
    """When every credential is paused, or has a login that has expired, that is said, with a number of seconds to wait."""
    lanes = Lanes(CLAUDE_OAUTH_TOKENS=f"a={POOLED}")
    one = lanes.pool.state("a").credential
    for closed in (dataclasses.replace(one, terms=Terms(paused=True)), dataclasses.replace(one, expires=NOW)):
        lanes.pool.replace_credentials([closed])
        refusal = lanes.lane._pool_refusal(Scope("opus"), ANONYMOUS)
        assert (refusal.status, b"paused" in refusal.body) == (503, True)
        assert 0 < int(dict(refusal.headers)["retry-after"]) < 120


@pytest.mark.parametrize(
    ("callers", "all_rejected"),
    [
        ((("anna", "s"), ("anna", "t")), False),
        ((("anna", None), ("ben", None)), True),
        ((("static", "s"), ("static", "t")), True),
        ((("static", "s"), ("static", "s")), False),
    ],
    ids=["one-user", "two-users", "shared-name", "shared-session"],
)
async def test_who_counts_as_another_caller(callers, all_rejected):
    """A refusal is confirmed by another user, or by another session of those who share a name."""
    lanes = Lanes(*[refused(400, "This organization has been disabled.")] * 2)
    for user, session in callers:
        sent = [("x-claude-code-session-id", session)] if session else []
        await lanes.attempt(Received(sent=sent, user=user))
    assert lanes.pool.cooling_down(Scope("x")) == ({"one"} if all_rejected else set())


@pytest.mark.parametrize(
    ("query", "counts", "base", "url"),
    [
        ("", False, None, URL),
        ("beta=true", False, None, f"{URL}?beta=true"),
        ("beta=true&x=a%20b", False, None, f"{URL}?beta=true&x=a%20b"),
        ("beta=true", True, None, f"{URL}/count_tokens?beta=true"),
        ("", False, "https://api.anthropic.com/v1/messages", URL),
        ("", True, "https://api.anthropic.com/v1/messages", f"{URL}/count_tokens"),
        ("@evil.tld/", False, None, f"{URL}?@evil.tld/"),
    ],
    ids=["none", "beta", "more", "count", "whole-address", "count-at-whole-address", "trick"],
)
async def test_where_a_request_goes(query, counts, base, url):
    """The client's query reaches Claude as it came, and moves the request nowhere; a count has its own path."""
    lanes = Lanes(Response(200))
    await lanes.attempt(Received(query=query, counts_tokens=counts), claude(api_base=base))
    assert [request.url for request in lanes.upstream.sent] == [url]


async def test_a_base_of_the_operators():
    """``ANTHROPIC_API_BASE`` is asked in the place of Anthropic's own address."""
    lanes = Lanes(Response(200), ANTHROPIC_API_BASE="http://127.0.0.1:9100/prefix")
    await lanes.attempt(Received())
    assert lanes.upstream.sent[0].url == "http://127.0.0.1:9100/prefix/v1/messages"


async def test_what_is_sent():
    """Claude gets the client's body with the deployment's model, the deployment's headers, and the attempt's patience."""
    lanes = Lanes(Response(200))
    deployment = Deployment(
        Lane.CLAUDE,
        Provider.CLAUDE,
        "anthropic/claude-y",
        "claude-y",
        extra_headers=(("x-extra", "1"), ("x-api-key", "made-up")),
    )
    await lanes.attempt(Received(), deployment, read_seconds=7.0)
    (request,) = lanes.upstream.sent
    assert json.loads(request.body) == json.loads(CLAUDE_BODY) | {"model": "claude-y"}
    assert (request.header("x-extra"), request.header("x-api-key"), request.read_seconds) == ("1", None, 7.0)


# Streams


START = b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-x"}}\n\n'
THOUGHT = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"thinking"}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
CLAUDES_HEADERS = {
    "request-id": "r", "anthropic-ratelimit-unified-status": "allowed", "retry-after": "7", "x-new": "1", "set-cookie": "c",
    "server": "s", "strict-transport-security": "max-age=1", "alt-svc": "h3", "content-type": "text/event-stream",
}  # fmt: skip


def streaming(*chunks):
    return Response(200, headers=CLAUDES_HEADERS, chunks=chunks)


async def test_claudes_stream_goes_to_the_client():
    """The client gets Claude's bytes and headers, without what is about the connection; LiteLLM gets a copy of all of it."""
    lanes, received, capture = Lanes(streaming(START, THOUGHT, STOP)), Received(raw=STREAMED), StreamCapture(copies=True)
    assert await lanes.attempt(received, capture=capture) == DONE
    assert received.begun == (
        200,
        {
            name: value
            for name, value in CLAUDES_HEADERS.items()
            if name in ("request-id", "retry-after", "x-new", "content-type", "anthropic-ratelimit-unified-status")
        },
    )
    assert (received.body, received.ended, received.journal.error) == (START + THOUGHT + STOP, True, "")
    assert capture.copy == received.body
    assert lanes.upstream.sent[0].response.was_closed


async def test_a_stream_names_the_model_that_was_asked_for():
    """The client reads the name that it asked for; the copy for LiteLLM has Claude's."""
    received, capture = Received(raw=STREAMED.replace(b"claude-x", b"alias")), StreamCapture(copies=True)
    await Lanes(streaming(START, STOP)).attempt(received, capture=capture)
    assert (received.body, capture.copy) == (START.replace(b"claude-x", b"alias") + STOP, START + STOP)


async def test_a_stream_that_ends_with_an_error_is_a_failure():
    """The client has the error event already; the record counts a failure, and nobody else may answer."""
    received = Received(raw=STREAMED)
    assert await Lanes(streaming(START, ERROR)).attempt(received) == DONE
    assert (received.body, received.ended, received.journal.error) == (START + ERROR, True, "overloaded_error")


async def test_a_stream_that_breaks_off_is_a_failure(caplog):
    """What was dropped stays without an end, is logged with the model's name, and is not tried again."""
    received, lanes = Received(raw=STREAMED), Lanes(streaming(START, RESET))
    assert await lanes.attempt(received) == DONE
    assert (received.body, received.ended, received.journal.error) == (START, False, "interrupted")
    assert "anthropic/claude-x broke off its response" in caplog.text
    assert lanes.upstream.sent[0].response.was_closed


async def test_a_stream_that_breaks_off_at_once():
    """Nothing has left: another target may answer; else the client's connection closes as the upstream's did."""
    received = Received(raw=STREAMED)
    outcome = await Lanes(streaming(RESET)).attempt(received)
    assert (received.begun, outcome.final, outcome.status) == (None, False, 502)
    assert (outcome.refusal.status, outcome.refusal.body, outcome.refusal.whole) == (200, b"", False)


@pytest.mark.parametrize(
    ("kind", "status", "final"),
    [
        ("overloaded_error", 529, False),
        ("api_error", 500, False),
        ("error_of_tomorrow", 500, False),
        ("invalid_request_error", 400, True),
        ("request_too_large", 413, True),
    ],
)
async def test_a_stream_that_begins_with_an_error(kind, status, final):
    """Nothing has left: as with a status, retries and fallbacks follow one that is not about the request itself.

    In the end the client gets the stream as it came.
    """
    event = ERROR.replace(b"overloaded_error", kind.encode())
    received = Received(raw=STREAMED)
    outcome = await Lanes(streaming(event)).attempt(received)
    assert (received.begun, outcome.final, outcome.status) == (None, final, status)
    refusal = outcome.refusal
    assert (refusal.status, refusal.body, dict(refusal.headers)["request-id"]) == (200, event, "r")


async def test_a_client_that_leaves_ends_the_stream(caplog):
    """The upstream is let go, and what had come until then is there, for the record and for LiteLLM's books."""
    caplog.set_level("INFO")
    lanes, received, capture = Lanes(streaming(START, STOP)), Received(raw=STREAMED), StreamCapture(copies=True)
    task = asyncio.ensure_future(lanes.attempt(received, capture=capture))

    def leave():
        received.outlet.leave()
        task.cancel()

    received.at_body = leave
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (received.body, capture.copy, received.journal.usage) == (START, START, capture.summary.usage)
    assert "the client disconnected during a response of anthropic/claude-x" in caplog.text
    assert lanes.upstream.sent[0].response.was_closed


async def test_the_request_is_at_the_provider():
    """The journal knows when Anthropic has the request: not if there is no credential, and not if there is no connection."""
    for response, at_provider in ((streaming(START, STOP), True), (UnreachableError("x"), False)):
        received = Received(raw=STREAMED)
        await Lanes(response).attempt(received)
        assert received.journal.at_provider is at_provider


# Whole responses


WHOLE = {"content-type": "application/json", "request-id": "r"}


async def test_claudes_whole_answer_goes_to_the_client():
    """A whole response has its length and the name that was asked for; LiteLLM's copy has Claude's."""
    body = b'{"type":"message", "model":"claude-x" ,"content":[],"usage":{"input_tokens":3,"output_tokens":4}}'
    lanes, capture = Lanes(Response(200, headers=WHOLE, body=body)), StreamCapture(copies=True)
    received = Received(raw=CLAUDE_BODY.replace(b"claude-x", b"alias"))
    assert await lanes.attempt(received, capture=capture) == DONE
    seen = body.replace(b"claude-x", b"alias")
    assert (received.body, received.ended) == (seen, True)
    assert received.begun == (200, WHOLE | {"content-length": str(len(seen))})
    assert capture.copy == body
    assert (received.journal.usage.input, received.journal.usage.output) == (3, 4)
    assert lanes.upstream.sent[0].response.was_closed


async def test_a_whole_answer_that_breaks_off():
    """The client has seen nothing: another target may answer; else its connection closes as the upstream's did."""
    received = Received()
    outcome = await Lanes(Response(200, headers=WHOLE, chunks=[b'{"type"', RESET])).attempt(received)
    assert (received.begun, outcome.status, outcome.final, outcome.refusal.whole) == (None, 502, False, False)


@pytest.mark.parametrize(
    "response",
    [
        Response(302, headers={"location": "https://evil.invalid"}),
        Response(200, headers={"content-encoding": "br"}),
        Response(200, headers=WHOLE | {"content-encoding": "gzip"}, body=b"no gzip"),
        Response(200, headers=CLAUDES_HEADERS | {"content-encoding": "gzip"}, body=b"no gzip"),
    ],
    ids=["moved", "coding", "whole-lying", "stream-lying"],
)
async def test_what_is_no_answer(response):
    """A redirection, and what cannot be decoded, is an error of the proxy's own words; the client does not see where to."""
    lanes, received = Lanes(response), Received()
    outcome = await lanes.attempt(received)
    assert (received.begun, outcome.status, outcome.refusal.status, outcome.final) == (None, 502, 502, False)
    assert json.loads(outcome.refusal.body)["error"]["message"].startswith("Anthropic ")
    assert b"evil" not in outcome.refusal.body
    assert "x-should-retry" not in dict(outcome.refusal.headers)
    assert lanes.upstream.sent[0].response.was_closed


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UnreachableError("refused"), 502, "The proxy cannot reach Anthropic"),
        (TimedOutError("late"), 504, "Anthropic did not respond to the proxy in time"),
        (UnreadableError("sent a body that cannot be decoded"), 502, "The proxy cannot read Anthropic's response"),
        (
            Response(400, headers={"content-encoding": "gzip"}, body=b"no gzip"),
            502,
            "The proxy cannot read Anthropic's response",
        ),
        (Response(400, headers={"content-encoding": "br"}, body=b"x"), 502, "The proxy cannot read Anthropic's response"),
        (Response(500, chunks=[b"{", RESET]), 502, "The proxy cannot reach Anthropic"),
    ],
    ids=["unreachable", "late", "unreadable", "error-lying", "error-in-a-coding", "error-broken-off"],
)
async def test_who_cannot_be_reached_is_named_in_plain_words(error, status, words):
    """When Anthropic does not answer at all, the client reads so in words of the proxy's own, and may try again."""
    outcome = await Lanes(error).attempt(Received())
    body = json.loads(outcome.refusal.body)
    assert (outcome.status, outcome.refusal.status, outcome.final, body["error"]["type"]) == (
        status,
        status,
        False,
        "api_error",
    )
    assert body["error"]["message"].startswith(words)
    assert "x-should-retry" not in dict(outcome.refusal.headers)


async def test_a_stream_that_nobody_asked_for_is_read_whole():
    """A client that asked for a whole response gets it within the bounds of one, whatever Claude calls it."""
    received = Received()
    assert await Lanes(streaming(START, STOP)).attempt(received) == DONE
    assert (received.body, received.begun[1]["content-length"]) == (START + STOP, str(len(START + STOP)))


# --- Requests with files -----------------------------------------------------------------------------------------------------

WITH_FILE = b'{"model":"claude-x","messages":[{"role":"user","content":[{"type":"container_upload","file_id":"file_a"}]}]}'
HOLDER, OTHER = "sk-ant-api03-made-up-holder", "sk-ant-api03-made-up-other"


class WithFiles(Lanes):
    """A lane whose pool has several keys, one of which has anna's file."""

    def __init__(self, *responses, **variables):
        super().__init__(*responses, CLAUDE_API_KEYS=f"holder={HOLDER},other={OTHER}", **variables)
        settings = Settings.parse(
            {"CLAUDE_OAUTH_TOKENS": f"one={POOLED}", "CLAUDE_API_KEYS": f"holder={HOLDER},other={OTHER}"} | variables
        )
        made = self.made = MadeObjects(lambda: NOW)
        made.add(MadeObject(ObjectKind.FILE, "file_a", "anna", fingerprint(Credential.of("holder", HOLDER)), NOW))
        keys = ApiKeys(settings, ActiveConfig({}, {}), self.pool, lambda: NOW)
        objects = AccountObjects(made, keys, confirmed, clock=lambda: NOW)
        self.lane = ClaudeLane(settings, Hosts(settings.claude_base), self.pool, self.upstream, lambda: NOW, objects=objects)


async def confirmed():
    return True


async def test_a_file_pins_the_key():
    """A request with a file goes to the key that has it, and to no other, not even to a subscription; others do not."""
    lanes = WithFiles(*[Response(200, json={"type": "message"})] * 3)
    for _ in range(2):
        received = Received(WITH_FILE, user="Anna")
        assert await lanes.attempt(received) == DONE
        assert (received.journal.labels, received.journal.of_client) == (["holder"], False)
    await lanes.attempt(Received(user="anna"))
    assert [sent.header("x-api-key") for sent in lanes.upstream.sent] == [HOLDER, HOLDER, None]


async def test_what_is_requested_of_the_pool():
    """The pool knows which model families clients request, also if it serves none of them; a client's own login is not its."""
    lanes = Lanes(refused(529, "Overloaded"))
    await lanes.attempt(Received())
    (one,) = lanes.pool.snapshot()
    assert one.requested == {scope_of(Received().request, claude().model).family}
    own = Lanes(refused(529, "Overloaded"), CLAUDE_TOKEN_MODE="passthrough")
    await own.attempt(Received(sent=CLIENTS_OWN))
    assert own.pool.snapshot()[0].requested == frozenset()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CLAUDE_OAUTH_TOKENS": f"one={POOLED}"}, "Anthropic refused an account of this proxy. It is not your account"),
        ({"CLAUDE_OAUTH_TOKENS": f"one={POOLED},two={POOLED}2"}, "Anthropic refused an account of this proxy. It is not your"),
        (
            {"CLAUDE_API_KEYS": "one=sk-ant-api03-made-up-1,two=sk-ant-api03-made-up-2"},
            "These are the proxy's accounts, not yours.",
        ),
    ],
    ids=["token", "tokens", "keys"],
)
@pytest.mark.parametrize("answer", [refused(400, "Your credit balance is too low"), refused(402, "Payment required")])
async def test_a_refusal_of_the_proxys_accounts(variables, words, answer):
    """A fallback may respond; without one, the client reads whose account it is, and not Anthropic's words about it."""
    lanes = Lanes(*[answer] * 2, pooled=False, **variables)
    outcome = await lanes.attempt(Received())
    message = json.loads(outcome.refusal.body)["error"]["message"]
    expected = words if answer.status == 400 else "These are the proxy's accounts, not yours."
    assert (outcome.final, outcome.refusal.status) == (False, 503)
    assert expected in message
    assert "operator" in message
    assert "credit" not in message
    assert dict(outcome.refusal.headers)["x-should-retry"] == "false"


@pytest.mark.parametrize("user", ["ben", ""])
async def test_a_file_of_somebody_else_is_not_sent(user):
    """A file that is not the user's is a 404, as one that does not exist, and no other model is tried."""
    lanes = WithFiles()
    outcome = await lanes.attempt(Received(WITH_FILE, user=user))
    assert (outcome.status, outcome.final, lanes.upstream.sent) == (404, True, [])
    assert json.loads(outcome.refusal.body)["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (refused(429, "limit", **LIMITED), 429),
        (refused(529, "Overloaded"), 529),
        (refused(401, "made up"), 503),
        (refused(400, "Your credit balance is too low"), 503),
        (UnreachableError("connection refused"), 502),
    ],
)
async def test_an_error_of_the_key_with_the_file_is_final(answer, status):
    """No other credential and no fallback could read the file, so the error is the client's; the pool learns from it."""
    lanes = WithFiles(answer)
    outcome = await lanes.attempt(Received(WITH_FILE, user="anna"))
    assert (outcome.refusal.status, outcome.final, len(lanes.upstream.sent)) == (status, True, 1)
    (holder,) = (one for one in lanes.pool.snapshot() if one.credential.label == "holder")
    assert bool(holder.cooldowns) is (status in (429, 503))


async def test_a_file_of_the_clients_own_account():
    """A client's own credential has files that the proxy does not know of."""
    lanes = WithFiles(Response(200, json={"type": "message"}), CLAUDE_TOKEN_MODE="passthrough")
    received = Received(WITH_FILE, sent=CLIENTS_OWN, user="ben")
    assert await lanes.attempt(received) == DONE
    assert (received.journal.labels, received.journal.of_client) == (["client"], True)


WRITES = b'{"model":"claude-x","tools":[{"type":"code_execution_1"}],"messages":[{"role":"user","content":"hi"}]}'
OUTPUT = {"type": "code_execution_result", "content": [{"type": "code_execution_output", "file_id": "file_b"}]}
BLOCK = {"type": "code_execution_tool_result", "content": OUTPUT}
AS_EVENT = b"data: " + json.dumps({"type": "content_block_start", "content_block": BLOCK}).encode() + b"\n\n"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("variables", "sent", "raw", "user"),
    [
        ({"CLAUDE_OAUTH_TOKENS": ""}, (), WRITES, "anna"),
        ({}, (), WRITES, None),
        ({"CLAUDE_TOKEN_MODE": "passthrough"}, [("x-api-key", OTHER)], WRITES, None),
        ({"CLAUDE_OAUTH_TOKENS": ""}, (), CLAUDE_BODY, None),
    ],
    ids=["key", "subscription", "own", "no-tool"],
)
async def test_a_file_that_claude_writes(streams, variables, sent, raw, user):
    """A file that Claude writes on an API key is the user's; one on a subscription or a client's account is nobody's."""
    message = Response(200, json={"type": "message", "content": [BLOCK]})
    if streams:
        raw = b'{"stream":true,' + raw.removeprefix(b"{")
        message = Response(200, headers={"content-type": "text/event-stream"}, chunks=[AS_EVENT[:60], AS_EVENT[60:]])
    lanes = WithFiles(message, **variables)
    received = Received(raw, sent=[*sent], user="Anna")
    assert await lanes.attempt(received) == DONE
    made = lanes.made.find(ObjectKind.FILE, "file_b")
    assert (made and made.user) == user
    keys = {fingerprint(Credential.of("x", secret)) for secret in (HOLDER, OTHER)}
    assert made is None or made.key in keys


KEY = "sk-ant-api03-made-up-key"


@pytest.mark.parametrize(
    ("variables", "deployment", "sent"),
    [
        ({"CLAUDE_API_KEYS": f"key={KEY}"}, claude(), KEY),
        ({"CLAUDE_API_KEYS": f"key={KEY}", "CLAUDE_TOKEN_MODE": "passthrough"}, claude(), None),
        ({}, claude(), None),
        ({}, claude(api_key=Secret(KEY)), KEY),
        ({}, claude(api_key=Secret(POOLED)), None),
        ({"CLAUDE_TOKEN_MODE": "passthrough"}, claude(api_key=Secret(KEY)), KEY),
    ],
)
async def test_a_request_that_may_use_api_keys_only(variables, deployment, sent):
    """It gets an API key of the pool or of the deployment, and never a subscription's token or the client's login."""
    lanes = Lanes(Response(json={"model": "claude-x", "content": []}), **variables)
    received = Received(sent=CLIENTS_OWN)
    received.request = structs.replace(received.request, api_keys_only=True)
    outcome = await lanes.attempt(received, deployment)
    assert [one.header("x-api-key") for one in lanes.upstream.sent] == ([sent] if sent else [])
    assert all(one.header("authorization") is None for one in lanes.upstream.sent)
    assert outcome.refusal is (None if sent else NO_API_KEY)
    assert outcome.done or not outcome.final
