"""proxy/lanes/messages_lane.py: one attempt at a provider of Anthropic's format, its request and its response."""

import asyncio
import json

import aiohttp
import messages_streams
import pytest
from lanes import NO_ANSWERS, Received, Response, Upstream
from stream_validator import read_message

from claude_proxy import __version__
from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.web_search import WebSearch
from claude_proxy.providers import compatibility
from claude_proxy.providers.endpoints import Provider
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.lanes.attempt import Attempt
from claude_proxy.proxy.lanes.messages_lane import MAX_ERROR_BYTES, MessagesLane, fitted_body
from claude_proxy.proxy.outcome import DONE
from claude_proxy.proxy.relay import StreamCapture
from claude_proxy.secret import Secret
from claude_proxy.upstream.client import READ_SECONDS
from claude_proxy.upstream.search_client import SearchClient

pytestmark = pytest.mark.anyio

BASE = "https://api.z.ai/api/anthropic"
OWN = "sk-ant-oat01-made-up-own"
ASKED = b'{"model":"glm","messages":[{"role":"user","content":"hi"}]}'
STOPPED = b'\n\ndata: {"type":"message_stop"}\n\n'
STREAMS = ASKED[:-1] + b',"stream":true}'
RESET = aiohttp.ClientPayloadError("reset")


def kimi(base=BASE, key="made-up-key", **named):
    row = compatibility.dialect("anthropic/glm-5", None, base)
    secret = Secret(key) if key else None
    return Deployment(
        Lane.MESSAGES, Provider.ANTHROPIC_FORMAT, "anthropic/glm-5", "glm-5", api_base=base, api_key=secret, row=row, **named
    )


async def ask(received, *responses, deployment=None, capture=None, fields=None, read_seconds=READ_SECONDS):
    """Make one attempt; return its outcome and the upstream."""
    upstream = Upstream(*responses)
    deployment = deployment or kimi()
    attempt = Attempt(
        received.request,
        deployment,
        received.outlet,
        received.journal,
        read_seconds=read_seconds,
        capture=capture,
        fields=fields,
    )
    return await MessagesLane(upstream, Meter(len)).attempt(attempt), upstream


def error_of(outcome):
    return json.loads(outcome.refusal.body)["error"]


# The request


@pytest.mark.parametrize("streams", [False, True])
async def test_the_headers_of_a_request(streams):
    """The provider gets the proxy's headers, and of the client's nothing but the version and the betas that it knows.

    The key goes in both headers: Kimi reads one and OpenRouter the other.
    """
    sent = [
        ("User-Agent", "claude-cli/2.1.197"), ("Authorization", f"Bearer {OWN}"), ("x-litellm-api-key", "sk-made-up-token"),
        ("anthropic-version", "2024-01-01"), ("anthropic-beta", "some-beta,oauth-2025-04-20"), ("x-app", "cli"),
        ("Accept-Encoding", "br"), ("cookie", "made-up"),
    ]  # fmt: skip
    received = Received(raw=STREAMS if streams else ASKED, sent=sent)
    _, upstream = await ask(received, Response(200), read_seconds=7.0)
    (request,) = upstream.sent
    assert request.headers == [
        ("accept", "text/event-stream" if streams else "application/json"),
        ("content-type", "application/json"),
        ("user-agent", f"claude-proxy/{__version__}"),
        ("anthropic-version", "2024-01-01"),
        ("accept-encoding", "gzip, deflate"),
        ("x-api-key", "made-up-key"),
        ("authorization", "Bearer made-up-key"),
    ]
    assert request.read_seconds == 7.0


async def test_a_client_that_names_no_version():
    """Anthropic's API wants a version, so there is one."""
    _, upstream = await ask(Received(raw=ASKED), Response(200))
    assert upstream.sent[0].header("anthropic-version") == "2023-06-01"


async def test_betas_that_the_provider_knows():
    """Of all the client's betas, in whatever headers, those go that the row has."""
    row = compatibility.Dialect("made-up", betas=frozenset({"b-2", "c-3"}))
    deployment = Deployment(Lane.MESSAGES, Provider.ANTHROPIC_FORMAT, "anthropic/glm-5", "glm-5", api_base=BASE, row=row)
    received = Received(raw=ASKED, sent=[("anthropic-beta", "a-1,b-2"), ("Anthropic-Beta", "c-3")])
    _, upstream = await ask(received, Response(200), deployment=deployment)
    assert upstream.sent[0].header("anthropic-beta") == "b-2,c-3"


async def test_headers_of_the_deployment():
    """``extra_headers`` take the place of the proxy's own; without a key there is none."""
    deployment = kimi(key=None, extra_headers=(("User-Agent", "mine"), ("x-tenant", "1")))
    _, upstream = await ask(Received(raw=ASKED), Response(200), deployment=deployment)
    headers = dict(upstream.sent[0].headers)
    assert (headers["user-agent"], headers["x-tenant"]) == ("mine", "1")
    assert not {"x-api-key", "authorization"} & set(headers)


async def test_a_claude_credential_is_not_taken_for_a_providers_key():
    """A Claude credential in config.yaml for somebody else's endpoint does not leave."""
    outcome, upstream = await ask(Received(raw=ASKED), deployment=kimi(key=OWN))
    assert (outcome.status, upstream.sent) == (400, [])
    assert b"made-up" not in outcome.refusal.body


@pytest.mark.parametrize(
    ("base", "url"),
    [(BASE, f"{BASE}/v1/messages"), (f"{BASE}/v1/messages", f"{BASE}/v1/messages")],
    ids=["base", "whole-address"],
)
async def test_where_a_request_goes(base, url):
    """The path is put behind the base unless it is there; the client's query is Anthropic's, and stays."""
    _, upstream = await ask(Received(raw=ASKED, query="beta=true"), Response(200), deployment=kimi(base))
    assert upstream.sent[0].url == url


def fitted(body, *, fields=None, **named):
    received = Received(raw=body if isinstance(body, bytes) else json.dumps(body).encode())
    return fitted_body(Attempt(received.request, kimi(**named), received.outlet, received.journal, fields=fields))


HI = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]


def test_the_body_of_a_request():
    """The provider gets its own model, the history as it understands it, and no field that is not the Messages API's."""
    thought = {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "EqQB"}]}
    body = {
        "model": "glm", "messages": [*HI, thought], "max_tokens": 5, "temperature": 0.5, "stream": True, "fallbacks": ["x"],
        "api_key": "made-up", "metadata": {"user_id": "anna"}, "thinking": {"type": "enabled", "budget_tokens": 1024},
    }  # fmt: skip
    assert json.loads(fitted(body)) == {
        "model": "glm-5", "messages": HI, "max_tokens": 5, "temperature": 0.5, "stream": True,
    }  # fmt: skip


def test_a_deployments_own_values():
    """A default is for a client that says nothing; thinking is the deployment's, whatever the client says."""
    named = {"defaults": {"max_tokens": 9, "temperature": 1.0}, "thinking": {"thinking": {"type": "enabled"}}}
    made = json.loads(fitted({"model": "glm", "messages": HI, "max_tokens": 5, "thinking": {"type": "disabled"}}, **named))
    assert (made["max_tokens"], made["temperature"], made["thinking"]) == (5, 1.0, {"type": "enabled"})


def test_a_request_as_litellm_has_it():
    """Of an attempt that LiteLLM has begun its fields are sent, which its other callbacks may have changed."""
    changed = {"model": "glm", "messages": [{"role": "user", "content": [{"type": "text", "text": "masked"}]}], "max_tokens": 5}
    assert json.loads(fitted(ASKED, fields=changed)) == changed | {"model": "glm-5"}


def test_half_a_character():
    """Most providers refuse it, so it is a question mark; every other character stays as it is."""
    sent = fitted(b'{"model":"glm","messages":[{"role":"user","content":"caf\xc3\xa9 \\ud83d\\ude00 \\ud83d"}]}')
    assert "café 😀 ?" in sent.decode("utf-8")


async def test_a_request_that_is_too_large(monkeypatch):
    """What is over a bound is not sent, and the client reads which."""
    monkeypatch.setattr("claude_proxy.providers.bounds.TURNS", 1)
    outcome, upstream = await ask(Received(raw=json.dumps({"model": "glm", "messages": HI * 2}).encode()))
    assert (outcome.status, outcome.refusal.status, upstream.sent) == (400, 400, [])
    assert "messages" in error_of(outcome)["message"]


# Streams


START = b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-x"}}\n\n'
THOUGHT = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"thinking"}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
EVENTS = {"content-type": "text/event-stream", "request-id": "r", "server": "s"}


async def test_another_providers_stream_loses_its_thinking():
    """Of another provider's stream the client gets the filtered events and the type, and LiteLLM all of it."""
    received, capture = Received(raw=STREAMS), StreamCapture(copies=True)
    outcome, upstream = await ask(received, Response(200, headers=EVENTS, chunks=[START, THOUGHT, STOP]), capture=capture)
    assert (outcome, received.begun) == (DONE, (200, {"content-type": "text/event-stream"}))
    assert THOUGHT not in received.body
    assert b'"model":"glm"' in received.body
    assert (received.ended, capture.copy) == (True, START + THOUGHT + STOP)
    assert upstream.sent[0].response.was_closed


@pytest.mark.parametrize(
    ("chunks", "kind", "status"),
    [
        ([b'{"type":"error","error":{"type":"not_found_error","message":"no such model"}}'], "application/json", 404),
        ([b'{"type":"message","content":[]}'], "application/json", 502),
        ([b"<html>"], "text/html", 502),
        ([b"<html>"], "text/event-stream", 500),
        ([], "text/event-stream", 500),
        ([START, STOP], "text/plain", None),
        ([START, STOP], None, None),
    ],
)
async def test_another_providers_stream_has_events(chunks, kind, status):
    """Where a stream was asked for, a whole body and a stream without events are errors; a missing type is forgiven."""
    received = Received(raw=STREAMS)
    outcome, _ = await ask(received, Response(200, headers={"content-type": kind} if kind else {}, chunks=chunks))
    assert outcome.status == (status or 200)
    assert received.begun == (None if status else (200, {"content-type": "text/event-stream; charset=utf-8"}))


async def test_a_stream_that_begins_with_an_error():
    """Nothing has left: its words are the provider's error, and another target may answer."""
    received = Received(raw=STREAMS)
    outcome, _ = await ask(received, Response(200, headers=EVENTS, chunks=[ERROR]))
    assert (received.begun, outcome.status, outcome.final) == (None, 529, False)
    assert (outcome.refusal.status, error_of(outcome)) == (529, {"type": "overloaded_error", "message": "Overloaded"})


async def test_a_stream_that_ends_with_an_error_is_a_failure():
    """The client has the error event already; the record counts a failure."""
    received = Received(raw=STREAMS)
    outcome, _ = await ask(received, Response(200, headers=EVENTS, chunks=[START, ERROR]))
    assert (outcome, received.body.endswith(ERROR), received.journal.error) == (DONE, True, "overloaded_error")


@pytest.mark.parametrize("break_", [RESET, TimeoutError()], ids=["reset", "silent"])
async def test_a_stream_that_breaks_off_is_a_failure(caplog, break_):
    """What was dropped stays without an end, and is logged with the model's name; before anything left it is an error."""
    received = Received(raw=STREAMS)
    outcome, _ = await ask(received, Response(200, headers=EVENTS, chunks=[START, STOP, break_]))
    assert (outcome, received.ended, received.journal.error) == (DONE, False, "interrupted")
    assert "anthropic/glm-5 broke off its response" in caplog.text
    received = Received(raw=STREAMS)
    outcome, _ = await ask(received, Response(200, headers=EVENTS, chunks=[break_]))
    assert (received.begun, outcome.status, outcome.final) == (None, 502, False)


async def test_a_client_that_leaves_ends_the_stream(caplog):
    """The provider is let go, and LiteLLM has what had come until then, for its books."""
    caplog.set_level("INFO")
    received, capture, upstream = (
        Received(raw=STREAMS),
        StreamCapture(copies=True),
        Upstream(Response(200, headers=EVENTS, chunks=[START] * 3)),
    )
    attempt = Attempt(received.request, kimi(), received.outlet, received.journal, capture=capture)
    task = asyncio.ensure_future(MessagesLane(upstream, Meter(len)).attempt(attempt))

    def leave():
        received.outlet.leave()
        task.cancel()

    received.at_body = leave
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (capture.copy, upstream.sent[0].response.was_closed) == (START, True)
    assert received.journal.at_provider
    assert "the client disconnected during a response of anthropic/glm-5" in caplog.text


# Whole responses


ERROR_BODY = b'{"type":"error","error":{"type":"not_found_error","message":"no such model"}}'
MESSAGE = b'{"type":"message","content":[]}'


async def test_another_providers_whole_answer():
    """A whole message loses its thinking, and has its length, an id and the name that was asked for."""
    thought = {"type": "thinking", "thinking": "x", "signature": ""}
    said = {"type": "message", "model": "glm-5", "content": [thought, {"type": "text", "text": "é"}], "stop_reason": "end_turn"}
    said |= {"usage": {"input_tokens": 3, "output_tokens": 4}}
    received = Received(raw=ASKED)
    outcome, upstream = await ask(received, Response(200, json=said, headers={"request-id": "r"}))
    message = json.loads(received.body)
    assert (outcome, message["model"], message["content"]) == (DONE, "glm", [{"type": "text", "text": "é"}])
    assert message["id"].startswith("msg_")
    length = str(len(received.body))
    assert received.begun == (200, {"content-type": "application/json", "content-length": length})
    assert (received.ended, received.journal.usage.input, received.journal.usage.output) == (True, 3, 4)
    assert upstream.sent[0].response.was_closed


async def test_another_providers_id_stays():
    """A message with an id keeps it."""
    received = Received(raw=ASKED)
    await ask(received, Response(200, json={"type": "message", "id": "msg_made_up", "content": []}))
    assert json.loads(received.body)["id"] == "msg_made_up"


async def test_another_providers_whole_answer_is_litellms():
    """Of an attempt that LiteLLM has begun a whole message is left to its hooks, which take the thinking out."""
    received, capture = Received(raw=ASKED), StreamCapture(copies=True)
    outcome, _ = await ask(received, Response(200, headers={"content-type": "application/json"}, body=MESSAGE), capture=capture)
    assert (outcome, received.begun, capture.copy) == (DONE, None, MESSAGE)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (ERROR_BODY, "application/json", 404),
        (b"<html>", "text/html", 502),
        (b"null", "application/json", 502),
        (b'{"made":"up"}', "application/json", 502),
        (MESSAGE, "application/json", None),
        (MESSAGE, "text/plain", None),
        (
            b"data: " + json.dumps({"type": "message_start", "message": json.loads(MESSAGE)}).encode() + STOPPED,
            "text/event-stream",
            None,
        ),
        (b"data: {}" + STOPPED, "text/event-stream", 502),
    ],
)
async def test_another_providers_good_status_is_no_proof(body, kind, status):
    """Of a provider in Anthropic's format an error with a good status is an error, and so is what is no message."""
    received = Received(raw=ASKED)
    outcome, _ = await ask(received, Response(200, headers={"content-type": kind}, body=body))
    assert (outcome.status, outcome.final, received.begun is None) == (status or 200, status is None, status is not None)


# Errors


@pytest.mark.parametrize(
    ("response", "status", "words", "kept"),
    [
        (Response(418, headers={"retry-after": "7"}, body=b'{"error":{"message":"short and stout"}}'), 418, "short and stout",
         {"retry-after": "7", "x-should-retry": "false"}),
        (Response(429, headers={"retry-after": "7", "x-secret": "1"}, body=b'{"error":{"message":"slow"}}'), 429, "slow",
         {"retry-after": "7"}),
        (Response(400, headers={"x-should-retry": "true"}, body=b'{"error":"odd"}'), 400, "odd", {"x-should-retry": "true"}),
        (Response(500, body=b"<html>"), 500, "The proxy responded with HTTP 500.", {}),
        (Response(400, body=b'"' + b"x" * MAX_ERROR_BYTES * 3), 400, "HTTP 400", {"x-should-retry": "false"}),
        (Response(400, headers={"content-encoding": "gzip"}, body=b"no gzip"), 400, "HTTP 400", {"x-should-retry": "false"}),
        (Response(503, chunks=[b"{", RESET]), 503, "HTTP 503", {}),
    ],
    ids=["words", "retry-after", "should-retry", "page", "large", "undecodable", "broken-off"],
)  # fmt: skip
async def test_a_providers_error(response, status, words, kept):
    """The client gets the status, the words in Anthropic's shape, and when to ask again; a repetition of no use is named so."""
    outcome, upstream = await ask(Received(raw=ASKED), response)
    assert (outcome.status, outcome.refusal.status, outcome.final) == (status, status, False)
    assert words in error_of(outcome)["message"]
    assert dict(outcome.refusal.headers) == {"content-type": "application/json"} | kept
    assert upstream.sent[0].response.was_closed


async def test_a_large_error_is_not_read_to_its_end():
    """Of an error's body the beginning is read."""
    _, upstream = await ask(Received(raw=ASKED), Response(400, chunks=[b"x" * MAX_ERROR_BYTES] * 3))
    assert len(upstream.sent[0].response.left) == 2


@pytest.mark.parametrize(("response", "status"), NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_who_did_not_answer_is_named_in_plain_words(response, status):
    """The client reads which host it was, and nothing of where it pointed; another target may answer."""
    received = Received(raw=ASKED)
    outcome, _ = await ask(received, response)
    assert (received.begun, outcome.status, outcome.refusal.status, outcome.final) == (None, status, status, False)
    assert error_of(outcome)["message"].startswith("api.z.ai ")
    assert b"evil" not in outcome.refusal.body


# Searches of the web


SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
PEARS = Response(json={"results": [{"title": "Pears", "url": "https://pears.invalid/", "content": "ripe"}]})
CALLS_SEARCH = {"type": "tool_use", "id": "toolu_s", "name": "web_search", "input": {"query": "ripe pears"}}
SEARXNG = WebSearch("searxng", "http://searxng:8080/search")
EVENTS = {"content-type": "text/event-stream"}
SLOW = Response(429, headers={"retry-after": "7"}, json={"error": {"type": "rate_limit_error", "message": "slow"}})


def searching(*, stream):
    choice = {"type": "tool", "name": "web_search"}
    return Received(raw=json.dumps(json.loads(ASKED) | {"tools": [SEARCH], "tool_choice": choice, "stream": stream}).encode())


def said(stream, *blocks):
    """A response with these blocks, in the form that was asked for."""
    if stream:
        return Response(200, headers=EVENTS, chunks=[messages_streams.stream(*blocks)])
    return Response(json=messages_streams.whole(*blocks))


async def search(received, *responses, endpoint=SEARXNG, **more):
    """Make one attempt with a search endpoint; return its outcome and what was sent."""
    models = [*responses]
    upstream = Upstream(lambda sent: PEARS if sent.url.startswith("http://searxng") else models.pop(0))
    attempt = Attempt(received.request, kimi(), received.outlet, received.journal, **more)
    lane = MessagesLane(upstream, Meter(len), SearchClient(upstream, lambda: endpoint))
    return await lane.attempt(attempt), upstream


def message_in(received):
    return read_message(received.body) if received.request.streams else json.loads(received.body)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_of_the_web(stream):
    """The model is offered the search, and asked again with what was found; the client gets one message."""
    received = searching(stream=stream)
    outcome, upstream = await search(received, said(stream, CALLS_SEARCH), said(stream, {"type": "text", "text": "pears"}))
    message = message_in(received)
    assert (outcome, received.ended, received.journal.error) == (DONE, True, "")
    assert [block["type"] for block in message["content"]] == ["server_tool_use", "web_search_tool_result", "text"]
    assert (message["model"], message["stop_reason"]) == ("glm", "end_turn")
    assert message["usage"]["server_tool_use"] == {"web_search_requests": 1}
    assert received.journal.usage == Usage(200, 14)  # the search is not the provider's
    first, _, second = (sent for sent in upstream.sent)
    sent, again = json.loads(first.body), json.loads(second.body)
    assert ([tool["name"] for tool in sent["tools"]], sent["tool_choice"]["name"]) == (["web_search"], "web_search")
    assert again["tool_choice"] == {"type": "auto"}
    called, result = again["messages"][-2:]
    assert called == {"role": "assistant", "content": [CALLS_SEARCH]}
    assert result["content"][0]["tool_use_id"] == "toolu_s"
    assert "- Pears: https://pears.invalid/" in result["content"][0]["content"]
    assert all(sent.response.was_closed for sent in upstream.sent)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_without_an_endpoint(stream):
    """The tool is not offered, and the model is told in a sentence."""
    received = searching(stream=stream)
    _, upstream = await search(received, said(stream, {"type": "text", "text": "none"}), endpoint=None)
    (sent,) = [json.loads(each.body) for each in upstream.sent]
    assert not {"tools", "tool_choice"} & {*sent}
    assert sent["system"].startswith("There is no web search")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("responses", [[SLOW], [Response(200, json={"type": "error", "error": {"type": "rate_limit_error"}})]])
async def test_a_first_round_that_is_refused(stream, responses):
    """It is an error of the attempt's, as without a search."""
    received = searching(stream=stream)
    outcome, _ = await search(received, *responses)
    assert (received.begun, outcome.status) == (None, 429)


async def test_a_second_round_that_is_refused():
    """A stream ends with the provider's error; a whole answer is that error."""
    received = searching(stream=True)
    outcome, _ = await search(received, said(1, CALLS_SEARCH), SLOW)
    assert (outcome, message_in(received)["error"]["message"]) == (DONE, "slow")
    received = searching(stream=False)
    outcome, upstream = await search(received, said(0, CALLS_SEARCH), SLOW)
    assert (received.begun, outcome.status, outcome.retry_after) == (None, 429, 7.0)
    assert all(sent.response.was_closed for sent in upstream.sent)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("response", "status"), NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_a_search_of_who_does_not_answer(response, status, stream):
    """The client reads which host it was, and nothing has left."""
    received = searching(stream=stream)
    outcome, _ = await search(received, response)
    assert (received.begun, outcome.refusal.status in (status, 502)) == (None, True)
    assert b"evil" not in outcome.refusal.body


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_that_litellm_has_begun(stream):
    """LiteLLM has a copy of the one message."""
    received, capture = searching(stream=stream), StreamCapture(copies=True)
    fields = json.loads(received.raw)
    outcome, _ = await search(
        received, said(stream, CALLS_SEARCH), said(stream, {"type": "text", "text": "pears"}), capture=capture, fields=fields
    )
    message = read_message(capture.copy) if stream else json.loads(capture.copy)
    assert (outcome, message["content"][-1]) == (DONE, {"type": "text", "text": "pears"})


async def test_a_search_in_a_request_that_is_too_large(monkeypatch):
    """What is over a bound is not sent, in whichever round."""
    for turns, sent in ((0, 0), (2, 2)):
        monkeypatch.setattr("claude_proxy.providers.bounds.TURNS", turns)
        outcome, upstream = await search(searching(stream=False), said(0, CALLS_SEARCH))
        assert (outcome.status, outcome.final, len(upstream.sent)) == (400, True, sent)
