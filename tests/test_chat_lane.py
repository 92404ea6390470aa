"""proxy/lanes/chat_lane.py: one attempt at a provider of chat completions, its request and its response."""

import json

import aiohttp
import pytest
from lanes import NO_ANSWERS, Received, Response, Upstream
from stream_validator import read_events, read_message

from claude_proxy import __version__
from claude_proxy.anthropic.token_estimate import CHARACTERS_PER_TOKEN
from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.web_search import WebSearch
from claude_proxy.providers import compatibility
from claude_proxy.providers.endpoints import Provider
from claude_proxy.providers.fetching import NO_HOSTS
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.lanes import chat_lane
from claude_proxy.proxy.lanes.attempt import MAX_ERROR_BYTES, Attempt
from claude_proxy.proxy.lanes.chat_lane import ChatLane, HttpEndpoint
from claude_proxy.proxy.outcome import DONE
from claude_proxy.proxy.relay import StreamCapture
from claude_proxy.secret import Secret
from claude_proxy.upstream.client import READ_SECONDS, UnreachableError
from claude_proxy.upstream.search_client import SearchClient

pytestmark = pytest.mark.anyio

BASE = "https://api.groq.com/openai/v1"
OWN = "sk-ant-oat01-made-up-own"
HELLO = [{"role": "user", "content": "hi"}]
BODY = {"model": "asked", "messages": HELLO, "max_tokens": 32000}
EVENTS = {"content-type": "text/event-stream; charset=utf-8", "x-secret": "1"}
SENT = {"content-type": "text/event-stream; charset=utf-8"}
RESET = aiohttp.ClientPayloadError("reset")
NO_ROOM = "Could not finish the message because max_tokens or model output limit was reached. Please try again."
TOO_LONG = (
    "This model's maximum context length is 40960 tokens. However, you requested 44345 tokens (12345 in the messages, "
    "32000 in the completion)."
)


def groq(base=BASE, key="made-up-key", row="groq/m", **named):
    secret = Secret(key) if key else None
    named = {"row": compatibility.dialect(row, None, None)} | named
    return Deployment(Lane.CHAT, Provider.OTHER, "groq/m", "m", api_base=base, api_key=secret, **named)


def received(*, stream=False, sent=(), **more):
    return Received(raw=json.dumps(BODY | {"stream": stream} | more).encode(), sent=[*sent])


def chat_lane_of(*responses):
    """Return a lane and the upstream that it asks; a word is a token."""
    upstream = Upstream(*responses)
    return ChatLane(HttpEndpoint(upstream), Meter(lambda text: len(text.split())), lambda: NO_HOSTS), upstream


async def ask(client, *responses, lane=None, deployment=None, capture=None, fields=None, read_seconds=READ_SECONDS):
    """Make one attempt; return its outcome and the upstream."""
    lane, upstream = lane or chat_lane_of(*responses)
    attempt = Attempt(
        client.request,
        deployment or groq(),
        client.outlet,
        client.journal,
        read_seconds=read_seconds,
        capture=capture,
        fields=fields,
    )
    return await lane.attempt(attempt), upstream


async def test_the_request_is_at_the_provider():
    """The journal knows when the provider has the request."""
    for response, at_provider in ((Response(500), True), (UnreachableError("x"), False)):
        client = Received()
        await ask(client, response)
        assert client.journal.at_provider is at_provider


def completion(finish="stop", usage=(100, 7), **answer):
    counts = {"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {}
    return {"choices": [{"index": 0, "message": {"role": "assistant", **answer}, "finish_reason": finish}]} | counts


def chunk(content=None, finish=None, **more):
    delta = {} if content is None else {"content": content}
    return (
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more).encode() + b"\n\n"
    )


USAGE = chunk(choices=[], usage={"prompt_tokens": 100, "completion_tokens": 7})
STOP, END = chunk(finish="stop"), b"data: [DONE]\n\n"
WORDS = [chunk("one "), chunk("two"), STOP, USAGE, END]
ERROR = chunk(choices=[], error={"message": "made up", "code": 503})
WHOLE = Response(json=completion(content="one"))
WHOLE_CHOICE = completion(content="one")["choices"][0]


def stream_of(*chunks):
    return Response(200, headers=EVENTS, chunks=[*chunks])


def error_of(outcome):
    return json.loads(outcome.refusal.body)["error"]


# The request


@pytest.mark.parametrize(
    ("deployment", "url"),
    [
        ({}, f"{BASE}/chat/completions"),
        ({"base": f"{BASE}/"}, f"{BASE}/chat/completions"),
        ({"base": f"{BASE}/chat/completions"}, f"{BASE}/chat/completions"),
        ({"api_version": "2025-01-01"}, f"{BASE}/chat/completions?api-version=2025-01-01"),
    ],
    ids=["base", "with-a-slash", "whole-address", "version"],
)
async def test_where_a_request_goes(deployment, url):
    """The path is put behind the base unless it is there, and Azure's version behind both; the client's query stays here."""
    client = received()
    _, upstream = await ask(client, WHOLE, deployment=groq(**deployment))
    assert upstream.sent[0].url == url


@pytest.mark.parametrize("streams", [False, True])
async def test_the_headers_of_a_request(streams):
    """The provider gets the proxy's headers and its own key, and nothing of the client's."""
    sent = [
        ("User-Agent", "claude-cli/2.1.332"), ("Authorization", f"Bearer {OWN}"), ("x-api-key", OWN), ("x-app", "cli"),
        ("x-litellm-api-key", "sk-made-up-token"), ("anthropic-version", "2024-01-01"), ("anthropic-beta", "some-beta"),
        ("Accept-Encoding", "br"), ("cookie", "made-up"),
    ]  # fmt: skip
    client = received(stream=streams, sent=sent, metadata={"user_id": "anna"})
    _, upstream = await ask(client, stream_of(*WORDS) if streams else WHOLE, read_seconds=7.0)
    (request,) = upstream.sent
    assert request.headers == [
        ("accept", "text/event-stream" if streams else "application/json"),
        ("content-type", "application/json"),
        ("user-agent", f"claude-proxy/{__version__}"),
        ("accept-encoding", "gzip, deflate"),
        ("authorization", "Bearer made-up-key"),
    ]
    assert request.read_seconds == 7.0
    assert b"anna" not in request.body


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        ({}, {"authorization": "Bearer made-up-key"}),
        ({"key_header": "api-key"}, {"api-key": "made-up-key"}),
        ({"key": None}, {}),
        ({"extra_headers": (("Authorization", "Key x"), ("X-Tenant", "1"))}, {"authorization": "Key x", "x-tenant": "1"}),
    ],
    ids=["bearer", "azure", "no-key", "own"],
)
async def test_the_key(deployment, expected):
    """It goes in the header that the provider reads; ``extra_headers`` take the place of the proxy's own."""
    _, upstream = await ask(received(), WHOLE, deployment=groq(**deployment))
    names = {"authorization", "api-key", "x-api-key", "x-tenant"}
    assert {name: value for name, value in upstream.sent[0].headers if name in names} == expected


async def test_a_claude_credential_is_not_taken_for_a_providers_key():
    """A Claude credential in config.yaml for somebody else's endpoint does not leave."""
    outcome, upstream = await ask(received(), deployment=groq(key=OWN))
    assert (outcome.status, upstream.sent) == (400, [])
    assert b"made-up" not in outcome.refusal.body


async def body_of(client, fields=None, **named):
    _, upstream = await ask(client, WHOLE, deployment=groq(**named), fields=fields)
    return json.loads(upstream.sent[0].body)


async def test_the_body_of_a_request():
    """The provider gets its own model, and no field that it does not know."""
    made = await body_of(received(temperature=0.5, thinking={"type": "adaptive"}, fallbacks=["x"], api_key="made-up"))
    assert made == {"model": "m", "messages": HELLO, "max_completion_tokens": 32000, "temperature": 0.5}


async def test_a_deployments_own_values():
    """A default is for a client that says nothing; what else the deployment has goes as it is."""
    named = {"defaults": {"max_tokens": 9, "top_p": 0.5}, "extra": {"reasoning_effort": "low", "seed": 7, "user": None}}
    made = await body_of(received(), **named)
    assert (made["max_completion_tokens"], made["top_p"], made["reasoning_effort"], made["seed"]) == (32000, 0.5, "low", 7)
    assert "user" not in made


@pytest.mark.parametrize(("row", "has_key"), [("openai/m", True), ("groq/m", False)])
async def test_a_prompt_cache_key(row, has_key):
    """Where the format has one it is a digest of the session; the deployment's own goes first."""
    client = received(metadata={"user_id": '{"session_id": "made-up"}'})
    assert client.request.session
    assert (await body_of(client, row=row)).get("prompt_cache_key") == (client.request.session if has_key else None)
    assert (await body_of(client, row=row, extra={"prompt_cache_key": "own"}))["prompt_cache_key"] == "own"


async def test_a_request_as_litellm_has_it():
    """Of an attempt that LiteLLM has begun its fields are sent, which its other callbacks may have changed."""
    changed = {"model": "groq/m", "messages": [{"role": "user", "content": "masked"}], "max_tokens": 5}
    made = await body_of(received(), changed)
    assert made == {"model": "m", "messages": changed["messages"], "max_completion_tokens": 5}


async def test_half_a_character():
    """Most providers refuse it, so it is a question mark, in a call's arguments too; other characters stay as they are."""
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "call_0", "name": "Read", "input": {"a": "é\ud83d"}}]}
    made = await body_of(received(messages=[{"role": "user", "content": "é\ud83d"}, call, RESULT]))
    assert made["messages"][0]["content"] == "é?"
    assert json.loads(made["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"a": "é?"}


async def test_a_request_that_is_too_large(monkeypatch):
    """What is over a bound is not sent, and the client reads which."""
    monkeypatch.setattr("claude_proxy.providers.bounds.TURNS", 1)
    outcome, upstream = await ask(received(messages=HELLO * 2))
    assert (outcome.status, outcome.final, upstream.sent) == (400, True, [])
    assert "messages" in error_of(outcome)["message"]


# Responses


async def test_a_whole_answer():
    """The client gets a message with its length, the name that was asked for, and the provider's counts."""
    client = received()
    outcome, upstream = await ask(client, Response(json=completion(content="é"), headers={"request-id": "r"}))
    message = json.loads(client.body)
    assert outcome == DONE
    assert client.begun == (200, {"content-type": "application/json", "content-length": str(len(client.body))})
    assert (message["type"], message["model"], message["content"]) == ("message", "asked", [{"type": "text", "text": "é"}])
    assert (message["stop_reason"], message["usage"]["input_tokens"]) == ("end_turn", 100)
    assert (client.ended, client.journal.usage.input, client.journal.usage.output) == (True, 100, 7)
    assert upstream.sent[0].response.was_closed


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain", None])
@pytest.mark.parametrize("size", [7, 10_000])
async def test_a_streamed_answer(kind, size):
    """The client gets a Messages stream, and of the provider's headers nothing; a missing type is forgiven."""
    client, raw = received(stream=True), b"".join(WORDS)
    chunks = [raw[start : start + size] for start in range(0, len(raw), size)]
    outcome, upstream = await ask(client, Response(200, headers={"content-type": kind} if kind else {}, chunks=chunks))
    message = read_message(client.body)
    assert (outcome, client.begun, client.ended, client.journal.error) == (DONE, (200, SENT), True, "")
    assert (message["model"], message["content"]) == ("asked", [{"type": "text", "text": "one two"}])
    assert (client.journal.usage.input, client.journal.usage.output) == (100, 7)
    assert upstream.sent[0].response.was_closed


BILLED = chunk(choices=[], usage={"prompt_tokens": 100, "completion_tokens": 7, "cost": 0.25}, service_tier="flex")


@pytest.mark.parametrize("streams", [False, True])
async def test_what_decides_the_price_is_recorded(streams):
    """The provider's service tier and reported price are in the record, whether its response is whole or a stream."""
    client = received(stream=streams)
    whole = completion(content="one", usage=None) | json.loads(BILLED.removeprefix(b"data: ")) | {"choices": [WHOLE_CHOICE]}
    await ask(client, stream_of(chunk("one"), STOP, BILLED, END) if streams else Response(json=whole))
    assert client.journal.usage == Usage(100, 7, service_tier="flex", cost=250_000)


async def test_an_interrupted_stream_is_estimated():
    """A provider reports its counts at the end of a stream; of one that breaks off, the text so far is counted."""
    client = received(stream=True)
    await ask(client, stream_of(chunk("w" * 400), RESET))
    assert client.journal.error == "api_error"
    assert (client.journal.usage.input > 0, client.journal.usage.output) == (True, 400 // CHARACTERS_PER_TOKEN)


async def test_words_leave_as_they_come():
    """Each chunk's words are with the client before the next chunk is read."""
    client, seen = received(stream=True), []
    client.at_body = lambda: seen.append(client.body.count(b"text_delta"))
    await ask(client, stream_of(*WORDS))
    assert seen[:2] == [1, 2]


@pytest.mark.parametrize(("before", "begins"), [([], False), ([chunk("")], False), ([chunk("one")], True)])
async def test_an_error_in_a_stream(before, begins):
    """Before the first word nothing has left, and another target may answer; behind it the client gets an error event."""
    client = received(stream=True)
    outcome, _ = await ask(client, stream_of(*before, ERROR, STOP))
    if not begins:
        assert (client.begun, outcome.status, outcome.final) == (None, 529, False)
        assert error_of(outcome) == {"type": "overloaded_error", "message": "made up"}
        return
    assert (outcome, client.ended, client.journal.error) == (DONE, True, "overloaded_error")
    assert read_message(client.body)["error"] == {"type": "overloaded_error", "message": "made up"}


@pytest.mark.parametrize("break_", [RESET, TimeoutError(), None], ids=["reset", "silent", "ended"])
async def test_a_stream_that_breaks_off(break_):
    """Half an answer ends with an error event; before anything left it is an error, and another target may answer."""
    client, breaks = received(stream=True), [] if break_ is None else [break_]
    outcome, _ = await ask(client, stream_of(chunk("one"), *breaks))
    assert (outcome, client.ended, client.journal.error) == (DONE, True, "api_error")
    assert read_message(client.body)["error"]["type"] == "api_error"
    assert read_events(client.body)[0]["type"] == "message_start"
    client = received(stream=True)
    outcome, upstream = await ask(client, stream_of(b": wait\n\n", *breaks))
    assert (client.begun, outcome.status, outcome.final) == (None, 502, False)
    assert upstream.sent[0].response.was_closed


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "text/html"),
        (b'{"made":"up"}', "application/json"),
        (b"null", "application/json"),
        (b"", "text/event-stream"),
    ],
)
async def test_a_good_status_is_no_proof(body, kind, streams):
    """What is no answer is an error of the provider's, and nothing has left."""
    client = received(stream=streams)
    outcome, _ = await ask(client, Response(200, headers={"content-type": kind}, body=body))
    assert (client.begun, outcome.status, outcome.final) == (None, 502, False)


async def test_a_whole_answer_is_no_stream():
    """Where a stream was asked for and the other came."""
    client = received(stream=True)
    outcome, _ = await ask(client, WHOLE)
    assert (client.begun, outcome.status) == (None, 502)


async def test_a_stream_that_nobody_asked_for():
    """Its message is the answer, and its error the error."""
    client = received(stream=False)
    assert (await ask(client, stream_of(*WORDS)))[0] == DONE
    assert json.loads(client.body)["type"] == "message"
    client = received(stream=False)
    outcome, _ = await ask(client, stream_of(ERROR))
    assert (client.begun, outcome.status) == (None, 529)


@pytest.mark.parametrize("streams", [True, False])
async def test_an_error_with_a_good_status(streams):
    """It keeps its words and its kind; one about the length is said in the words that Claude Code knows."""
    long = {"error": {"code": 400, "message": "request (24071 tokens) exceeds the available context size (8192 tokens)"}}
    for response in (Response(200, json=long), stream_of(chunk(choices=[], **long))):
        client = received(stream=streams)
        outcome, _ = await ask(client, response)
        assert (client.begun, outcome.status) == (None, 400)
        assert json.loads(outcome.refusal.body)["error"]["message"] == "prompt is too long: 24071 tokens > 8192 maximum"


async def test_an_error_in_a_whole_answer():
    """It has its own status, names the host, and says when to ask again."""
    said = {"error": {"message": "slow", "code": 429}}
    outcome, _ = await ask(received(), Response(json=said, headers={"Retry-After": "7"}))
    assert (outcome.status, outcome.retry_after) == (429, 7.0)
    assert error_of(outcome) == {"type": "rate_limit_error", "message": "api.groq.com: slow"}


# Calls


CALLED = {"role": "assistant", "content": [{"type": "tool_use", "id": "call_0", "name": "mcp.read", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_0", "content": "x"}]}
TOOLS = [{"name": "mcp.read", "input_schema": {"type": "object"}}]


@pytest.mark.parametrize("streams", [False, True])
async def test_calls_of_a_conversation_that_has_some(streams):
    """An id that the history has becomes another one, and a name that was spelled for the provider is read back."""
    client = received(stream=streams, messages=[*HELLO, CALLED, RESULT], tools=TOOLS)

    def respond(sent):
        name = json.loads(sent.body)["tools"][0]["function"]["name"]
        assert name != "mcp.read"
        call = {"index": 0, "id": "call_0", "type": "function", "function": {"name": name, "arguments": "{}"}}
        if not streams:
            return Response(json=completion("tool_calls", tool_calls=[call]))
        delta = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
        return stream_of(chunk(choices=[delta]), END)

    await ask(client, respond)
    message = read_message(client.body) if streams else json.loads(client.body)
    (block,) = message["content"]
    assert (block["name"], block["input"], message["stop_reason"]) == ("mcp.read", {}, "tool_use")
    assert block["id"] not in ("", "call_0")


# Errors


@pytest.mark.parametrize(
    ("response", "status", "words", "kept"),
    [
        (Response(418, headers={"retry-after": "7"}, body=b'{"error":{"message":"short and stout"}}'), 418, "short and stout",
         {"retry-after": "7", "x-should-retry": "false"}),
        (Response(429, headers={"Retry-After": "7", "x-secret": "1"}, body=b'{"error":{"message":"slow"}}'), 429, "slow",
         {"retry-after": "7"}),
        (Response(503, headers={"retry-after": "9"}, body=b'{"error":"busy"}'), 503, "busy", {"retry-after": "9"}),
        (Response(400, headers={"x-should-retry": "true"}, body=b'{"error":"odd"}'), 400, "odd", {"x-should-retry": "true"}),
        (Response(422, body=b'{"detail":"extra_forbidden"}'), 400, "extra_forbidden", {"x-should-retry": "false"}),
        (Response(500, body=b"<html>"), 500, "The proxy responded with HTTP 500.", {}),
        (Response(400, body=b'"' + b"x" * MAX_ERROR_BYTES * 3), 400, "HTTP 400", {"x-should-retry": "false"}),
        (Response(503, chunks=[b"{", RESET]), 503, "HTTP 503", {}),
    ],
    ids=["words", "retry-after", "busy", "should-retry", "unprocessable", "page", "large", "broken-off"],
)  # fmt: skip
@pytest.mark.parametrize("streams", [False, True])
async def test_a_providers_error(response, status, words, kept, streams):
    """The client gets the status, the words in Anthropic's shape, and when to ask again."""
    client = received(stream=streams)
    outcome, upstream = await ask(client, response)
    assert (client.begun, outcome.status, outcome.refusal.status, outcome.final) == (None, status, status, False)
    assert words in error_of(outcome)["message"]
    assert dict(outcome.refusal.headers) == {"content-type": "application/json"} | kept
    assert upstream.sent[0].response.was_closed


@pytest.mark.parametrize(("response", "status"), NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_who_did_not_answer_is_named_in_plain_words(response, status):
    """The client reads which host it was, and nothing of where it pointed; another target may answer."""
    client = received()
    outcome, _ = await ask(client, response)
    assert (client.begun, outcome.status, outcome.refusal.status, outcome.final) == (None, status, status, False)
    assert error_of(outcome)["message"].startswith("api.groq.com ")
    assert b"evil" not in outcome.refusal.body


# What is too long


@pytest.mark.parametrize("status", [400, 413, 422, 500])
async def test_a_conversation_that_is_too_long(status):
    """The client reads Anthropic's sentence, by which it helps itself, with the provider's numbers."""
    outcome, _ = await ask(received(), Response(status, json={"error": {"message": TOO_LONG}}))
    assert (outcome.status, error_of(outcome)["type"]) == (400, "invalid_request_error")
    words = "input length and `max_tokens` exceed context limit: 12345 + 32000 > 40960"
    assert error_of(outcome)["message"].startswith(words)


async def test_a_code_says_that_it_is_too_long():
    """Where the words do not; the numbers are an estimate."""
    said = {"error": {"message": "made up", "code": "context_length_exceeded"}}
    outcome, _ = await ask(received(messages=[{"role": "user", "content": "word " * 500}]), Response(400, json=said))
    assert "prompt is too long: 504 tokens > 503 maximum" in error_of(outcome)["message"]


async def test_a_learned_window(caplog):
    """The next request to that deployment asks for as much as there is room for, and the log has the numbers."""
    caplog.set_level("INFO", chat_lane.__name__)
    lane = chat_lane_of(Response(400, json={"error": {"message": TOO_LONG.replace("40960", "20960")}}), WHOLE, WHOLE)
    await ask(received(), lane=lane)
    _, upstream = await ask(received(), lane=lane)
    lowered = json.loads(upstream.sent[1].body)["max_completion_tokens"]
    assert 20000 < lowered < 20960
    assert f"groq/m has a context window of 20960 tokens: lowered max_tokens from 32000 to {lowered}" in caplog.text
    await ask(received(max_tokens=100), lane=lane)
    assert json.loads(upstream.sent[2].body)["max_completion_tokens"] == 100


async def test_a_window_without_room():
    """Where hardly a word would fit the request goes as it is, and the provider says what is wrong."""
    lane = chat_lane_of(Response(400, json={"error": {"message": TOO_LONG.replace("40960", "900")}}), WHOLE)
    await ask(received(), lane=lane)
    _, upstream = await ask(received(messages=[{"role": "user", "content": "word " * 800}]), lane=lane)
    assert json.loads(upstream.sent[1].body)["max_completion_tokens"] == 32000


async def test_learned_windows_are_bounded(monkeypatch):
    """Clients choose some of the names."""
    monkeypatch.setattr(chat_lane, "MAX_WINDOWS", 2)
    lane, _ = chat_lane_of()
    for name in ("a", "b", "a", "c"):
        lane.learn_window(name, 1000)
    assert [*lane._windows] == ["a", "c"]


@pytest.mark.parametrize("capture", [None, StreamCapture(copies=True)], ids=["direct", "through-litellm"])
@pytest.mark.parametrize("streams", [False, True])
async def test_no_room_for_a_word(streams, capture):
    """A model that stopped at its limit before its first word has answered with nothing, as Anthropic has it."""
    client, capture = received(stream=streams), capture and StreamCapture(copies=True)
    outcome, _ = await ask(client, Response(400, json={"error": {"message": NO_ROOM}}), capture=capture)
    body = capture.copy if capture else client.body
    message = read_message(body) if streams else json.loads(body)
    assert (outcome, message["content"], message["stop_reason"], message["model"]) == (DONE, [], "max_tokens", "asked")
    assert message["usage"]["input_tokens"] == client.journal.usage.input > 0
    assert (client.begun is None) == (capture is not None and not streams)


# Token counts


@pytest.mark.parametrize("streams", [False, True])
async def test_counts_are_learned(streams):
    """Where the provider does not count, the client gets about what it counted before for a request of that size."""
    long = [{"role": "user", "content": "word " * 2000}]
    answers = (
        [stream_of(chunk("one"), STOP, chunk(choices=[], usage={"prompt_tokens": 4000, "completion_tokens": 1}), END),
         stream_of(chunk("one"), STOP, END)]
        if streams
        else [Response(json=completion(content="one", usage=(4000, 1))), Response(json=completion(content="one", usage=None))]
    )  # fmt: skip
    lane = chat_lane_of(*answers)
    for _ in answers:
        client = received(stream=streams, messages=long)
        await ask(client, lane=lane)
    message = read_message(client.body) if streams else json.loads(client.body)
    assert message["usage"]["input_tokens"] == pytest.approx(4000, rel=0.01)
    assert client.journal.usage.input == pytest.approx(4000, rel=0.01)


# Searches of the web


SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8, "allowed_domains": ["pears.invalid"]}
ASKED = {"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}}
PEARS = Response(json={"results": [{"title": "Pears", "url": "https://pears.invalid/", "content": "ripe"}]})
CALLS_SEARCH = {
    "index": 0, "id": "c1", "type": "function", "function": {"name": "web_search", "arguments": '{"query": "ripe pears"}'},
}  # fmt: skip
SEARXNG = WebSearch("searxng", "http://searxng:8080/search")
FAILED = Response(429, headers={"retry-after": "7"}, json={"error": {"message": "slow"}})


def answers(streams, second=None):
    """A provider that searches once and answers, and a search endpoint."""
    if streams:
        delta = {"index": 0, "delta": {"tool_calls": [CALLS_SEARCH]}, "finish_reason": "tool_calls"}
        models = [stream_of(chunk(choices=[delta]), USAGE, END), stream_of(*WORDS)]
    else:
        models = [
            Response(json=completion("tool_calls", tool_calls=[CALLS_SEARCH])),
            Response(json=completion(content="one two")),
        ]
    models[1:] = [second] if second else models[1:]

    def respond(sent):
        return PEARS if sent.url.startswith("http://searxng") else models.pop(0)

    return respond


def searching_lane(respond, endpoint=SEARXNG):
    upstream = Upstream(respond)
    return ChatLane(
        HttpEndpoint(upstream),
        Meter(lambda text: len(text.split())),
        lambda: NO_HOSTS,
        SearchClient(upstream, lambda: endpoint),
    ), upstream


@pytest.mark.parametrize("streams", [False, True])
async def test_a_search_of_the_web(streams):
    """The model is offered the search, and asked again with what was found; the client gets one message."""
    client = received(stream=streams, **ASKED)
    outcome, upstream = await ask(client, lane=searching_lane(answers(streams)))
    first, search, second = upstream.sent
    message = read_message(client.body) if streams else json.loads(client.body)
    assert (outcome, client.ended, client.journal.error) == (DONE, True, "")
    assert [block["type"] for block in message["content"]] == ["server_tool_use", "web_search_tool_result", "text"]
    assert message["content"][0]["input"] == {"query": "ripe pears"}
    assert message["usage"]["server_tool_use"] == {"web_search_requests": 1}
    assert (message["usage"]["input_tokens"], client.journal.usage) == (200, Usage(200, 14))  # the search is not the provider's
    assert (message["stop_reason"], message["model"]) == ("end_turn", "asked")
    sent = json.loads(first.body)
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["web_search"]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "web_search"}}
    assert (search.url, b"site%3Apears.invalid" in search.body) == (SEARXNG.url, True)
    again = json.loads(second.body)
    assert again["tool_choice"] == "auto"
    called, result = again["messages"][-2:]
    assert called["tool_calls"][0]["function"] == CALLS_SEARCH["function"]
    assert (result["role"], result["tool_call_id"]) == ("tool", called["tool_calls"][0]["id"])
    assert "- Pears: https://pears.invalid/\n  ripe" in result["content"]
    assert (sent.get("stream"), again.get("stream")) == ((True, True) if streams else (None, None))
    assert all(each.response.was_closed for each in upstream.sent)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_search_without_an_endpoint(streams):
    """The tool is not offered, nobody is searched at, and the model is told in a sentence."""
    client = received(stream=streams, system="You search.", **ASKED)
    _, upstream = await ask(client, stream_of(*WORDS) if streams else WHOLE)
    (sent,) = [json.loads(each.body) for each in upstream.sent]
    assert not {"tools", "tool_choice"} & {*sent}
    assert sent["messages"][0]["content"].startswith("You search.\n\nThere is no web search")


async def test_a_request_without_a_search():
    """It is what it is without an endpoint."""
    lane, upstream = searching_lane(lambda _: WHOLE)
    await ask(received(), lane=(lane, upstream))
    assert json.loads(upstream.sent[0].body) == await body_of(received())


@pytest.mark.parametrize("streams", [False, True])
async def test_an_endpoint_that_is_gone(streams):
    """A search that can be made no more is one that failed."""
    endpoints = [SEARXNG]
    lane, upstream = searching_lane(answers(streams))
    lane._web = SearchClient(upstream, lambda: endpoints.pop() if endpoints else None)
    client = received(stream=streams, **ASKED)
    await ask(client, lane=(lane, upstream))
    message = read_message(client.body) if streams else json.loads(client.body)
    assert message["content"][1]["content"]["error_code"] == "unavailable"
    assert len(upstream.sent) == 2


async def test_a_second_round_that_is_refused():
    """A stream ends with the provider's error; a whole answer is that error, and another target may answer."""
    client = received(stream=True, **ASKED)
    outcome, _ = await ask(client, lane=searching_lane(answers(streams=True, second=FAILED)))
    assert (outcome, client.journal.error) == (DONE, "rate_limit_error")
    assert read_message(client.body)["error"] == {"type": "rate_limit_error", "message": "slow"}
    client = received(**ASKED)
    outcome, upstream = await ask(client, lane=searching_lane(answers(streams=False, second=FAILED)))
    assert (client.begun, outcome.status, outcome.retry_after, outcome.final) == (None, 429, 7.0, False)
    assert all(each.response.was_closed for each in upstream.sent)


@pytest.mark.parametrize(("second", "status"), NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_a_second_round_that_is_no_answer(second, status):
    """It is told as the first one's would be, as far as something can still be told."""
    client = received(**ASKED)
    outcome, _ = await ask(client, lane=searching_lane(answers(streams=False, second=second)))
    assert (client.begun, outcome.status) == (None, status)
    client = received(stream=True, **ASKED)
    await ask(client, lane=searching_lane(answers(streams=True, second=second)))
    assert (client.ended, read_message(client.body)["type"]) == (True, "error")


@pytest.mark.parametrize("streams", [False, True])
async def test_a_first_round_that_is_an_error(streams):
    """It is the attempt's, as without a search."""
    for response in (stream_of(ERROR), Response(json={"error": {"message": "made up", "code": 503}})):
        client = received(stream=streams, **ASKED)
        outcome, _ = await ask(client, lane=searching_lane(lambda _, response=response: response))
        assert (client.begun, outcome.status) == (None, 529)
    client = received(stream=streams, **ASKED)
    outcome, _ = await ask(client, lane=searching_lane(lambda _: Response(200, chunks=[RESET])))
    assert (client.begun, outcome.status) == (None, 502)


async def test_a_conversation_that_grows_over_a_bound(monkeypatch):
    """What is found may make a request too large; then it is not sent."""
    monkeypatch.setattr("claude_proxy.providers.bounds.TURNS", 2)
    outcome, upstream = await ask(received(**ASKED), lane=searching_lane(answers(streams=False)))
    assert (outcome.status, outcome.final, len(upstream.sent)) == (400, True, 2)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_search_that_litellm_has_begun(streams):
    """LiteLLM has a copy of the one message."""
    client, capture = received(stream=streams, **ASKED), StreamCapture(copies=True)
    fields = BODY | ASKED | ({"stream": True} if streams else {})
    outcome, _ = await ask(client, lane=searching_lane(answers(streams)), capture=capture, fields=fields)
    message = read_message(capture.copy) if streams else json.loads(capture.copy)
    assert (outcome, message["content"][-1]) == (DONE, {"type": "text", "text": "one two"})


# An attempt that LiteLLM has begun


async def test_a_whole_answer_is_litellms():
    """LiteLLM sends it, after whatever looks at its responses."""
    client, capture = received(), StreamCapture(copies=True)
    outcome, _ = await ask(client, WHOLE, capture=capture)
    assert (outcome, client.begun, json.loads(capture.copy)["content"][0]["text"]) == (DONE, None, "one")
    assert client.journal.usage.input == 100


async def test_a_stream_is_the_clients():
    """It goes straight to the client, and LiteLLM has a copy of what the client got."""
    client, capture = received(stream=True), StreamCapture(copies=True)
    outcome, _ = await ask(client, stream_of(*WORDS), capture=capture)
    assert (outcome, capture.copy) == (DONE, client.body)
    assert read_message(capture.copy)["content"] == [{"type": "text", "text": "one two"}]
