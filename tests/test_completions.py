"""litellm/completions.py: LiteLLM as an endpoint of chat completions, with a fake of its function."""

import asyncio
import json

import httpx
import litellm
import pytest
from lanes import Received
from litellm.exceptions import MidStreamFallbackError
from litellm.types.utils import ModelResponse, ModelResponseStream
from stream_validator import read_message

from claude_proxy.config.deployments import Deployment, Lane, deployment
from claude_proxy.litellm.completions import (
    MAX_WAITING,
    Completions,
    Failed,
    error_of,
    failure,
    parameters,
)
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.providers.fetching import NO_HOSTS
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.proxy.lanes.attempt import Attempt
from claude_proxy.proxy.lanes.chat_lane import ChatLane
from claude_proxy.proxy.outcome import DONE
from claude_proxy.upstream.client import TimedOutError

# Pydantic warns of LiteLLM's own types.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:.* using the `ReadOnly` qualifier:UserWarning")]

GEMINI = {"model": "gemini/gemini-x", "api_key": "made-up", "rpm": None, "vertex_project": "p"}
USAGE = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107, "prompt_tokens_details": {"cached_tokens": 60}}
WHOLE = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}], "usage": USAGE
}  # fmt: skip
ERROR = {"error": {"message": "made up", "code": 429}}


def chunk(content=None, finish=None, usage=None):
    delta = {} if content is None else {"content": content}
    more = {"usage": USAGE} if usage else {}
    return ModelResponseStream(choices=[{"index": 0, "delta": delta, "finish_reason": finish}], **more)


HELLO = [chunk("hel"), chunk("lo"), chunk(None, "stop"), chunk(usage=True)]


class Stream:
    """A stream of LiteLLM: chunks or exceptions in order, and the native stop reason that is known before each."""

    def __init__(self, *chunks, native_end=None):
        self.left = [*chunks]
        self.native_end = native_end
        self.waits, self.closed = asyncio.Event(), asyncio.Event()

    def __aiter__(self):
        return self

    async def __anext__(self):
        current.get().native_end = self.native_end
        if not self.left:
            raise StopAsyncIteration
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        if found is None:
            self.waits.set()
            await asyncio.Event().wait()
        return found

    async def aclose(self):
        self.closed.set()


class Litellm:
    """A fake of ``litellm.acompletion``: records its arguments, and returns or raises the given result."""

    def __init__(self, answer, retry_after=None, native_end=None):
        self.answer = answer
        self.retry_after, self.native_end = retry_after, native_end
        self.called = {}
        self.entrance = None

    async def __call__(self, **params):
        self.called, self.entrance = params, current.get()
        self.entrance.retry_after, self.entrance.native_end = self.retry_after, self.native_end
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def ask(monkeypatch, answer, *, stream=True, params=GEMINI, retry_after=None, native_end=None, leaves=None, **more):
    """Make one attempt of the lane; return the client, the outcome and the fake."""
    fake = Litellm(answer, retry_after, native_end)
    monkeypatch.setattr(litellm, "acompletion", fake)
    body = {"model": "asked", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": stream} | more
    client = Received(json.dumps(body).encode())
    attempt = Attempt(client.request, deployment(params, Hosts()), client.outlet, client.journal, 7.0)
    lane = ChatLane(Completions(), Meter(len), lambda: NO_HOSTS)
    asking = asyncio.ensure_future(lane.attempt(attempt))
    if leaves is not None:
        await leaves.wait()
        asking.cancel()
        await asyncio.wait({asking})
        return client, None, fake
    return client, await asking, fake


async def test_a_stream(monkeypatch):
    """Chunks are translated like an endpoint's, and the counts are the provider's."""
    stream = Stream(*HELLO)
    client, outcome, _ = await ask(monkeypatch, stream)
    found = read_message(client.body)
    assert (outcome, found["content"]) == (DONE, [{"type": "text", "text": "hello"}])
    assert (found["usage"]["input_tokens"], found["usage"]["cache_read_input_tokens"]) == (40, 60)
    await stream.closed.wait()


async def test_a_whole_response(monkeypatch):
    """A whole response is translated like an endpoint's."""
    client, outcome, _ = await ask(monkeypatch, ModelResponse(**WHOLE), stream=False)
    assert (outcome, json.loads(client.body)["content"]) == (DONE, [{"type": "text", "text": "hello"}])


async def test_a_whole_response_in_the_place_of_a_stream(monkeypatch):
    """A whole response, which LiteLLM returns for some providers, becomes a stream for the client."""
    client, _, _ = await ask(monkeypatch, ModelResponse(**WHOLE))
    assert read_message(client.body)["content"] == [{"type": "text", "text": "hello"}]


async def test_half_a_character(monkeypatch):
    """A lone surrogate in a chunk does not end the stream; one in a request is replaced for LiteLLM."""
    client, _, fake = await ask(
        monkeypatch, Stream(chunk("a\ud83d"), *HELLO), messages=[{"role": "user", "content": "b\ud83d"}]
    )
    assert read_message(client.body)["stop_reason"] == "end_turn"
    assert fake.called["messages"] == [{"role": "user", "content": "b?"}]


# What LiteLLM is called with


async def test_the_request(monkeypatch):
    """LiteLLM gets the deployment's parameters and the translated request, and neither retries nor logs."""
    _, _, fake = await ask(
        monkeypatch, Stream(*HELLO), params=GEMINI | {"max_tokens": 9, "timeout": 3, "num_retries": 4, "chat_server": "vllm"}
    )
    assert fake.called == {
        "model": "gemini/gemini-x", "api_key": "made-up", "vertex_project": "p", "drop_params": True, "timeout": 7.0,
        "num_retries": 0, "max_retries": 0, "no-log": True, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


async def test_what_a_deployment_says_of_dropped_parameters(monkeypatch):
    """The deployment's own value of ``drop_params`` applies."""
    _, _, fake = await ask(monkeypatch, Stream(*HELLO), params=GEMINI | {"drop_params": False})
    assert fake.called["drop_params"] is False


async def test_the_hooks_find_the_request(monkeypatch):
    """LiteLLM runs in its own context, which has an entrance with the provider's row; the caller's context has none."""
    _, _, fake = await ask(monkeypatch, Stream(*HELLO))
    assert (fake.entrance.row.name, current.get()) == ("gemini", None)


async def test_within_a_request_that_has_entered_litellm(monkeypatch):
    """The attempt has its own entrance, and the request's entrance is unchanged."""
    client = Received()
    outer = Entrance(client.request, client.outlet, client.journal)
    token = current.set(outer)
    try:
        _, _, fake = await ask(monkeypatch, Stream(*HELLO, native_end="STOP"))
        assert current.get() is outer
    finally:
        current.reset(token)
    assert fake.entrance is not outer
    assert outer.native_end is None


# Errors

RATE_LIMIT = litellm.RateLimitError(f"litellm.RateLimitError: GeminiException - {json.dumps(ERROR)}", "gemini", "m")
LAZY = MidStreamFallbackError("made up", "m", "gemini", RATE_LIMIT)


@pytest.mark.parametrize("error", [RATE_LIMIT, LAZY], ids=["at-once", "when-it-is-read"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_has_a_status(monkeypatch, error, stream):
    """The error has the provider's status, message and ``retry-after``, even after LiteLLM has returned a stream."""
    client, outcome, _ = await ask(monkeypatch, Stream(error) if stream else error, stream=stream, retry_after="20")
    assert (client.begun, outcome.status, outcome.retry_after) == (None, 429, 20.0)
    assert json.loads(outcome.refusal.body)["error"] == {"type": "rate_limit_error", "message": "made up"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_silence_is_a_504(monkeypatch, stream):
    """A timeout of LiteLLM is reported like an endpoint's."""
    error = litellm.Timeout("late", "m", "gemini")
    _, outcome, _ = await ask(monkeypatch, Stream(error) if stream else error, stream=stream)
    assert outcome.status == 504


@pytest.mark.parametrize("error", [RATE_LIMIT, litellm.Timeout("late", "m", "gemini"), ValueError("made up")])
async def test_an_error_in_a_stream_ends_it(monkeypatch, error):
    """The client keeps the content so far, followed by an error event."""
    client, outcome, _ = await ask(monkeypatch, Stream(chunk("hel"), error))
    assert (outcome, read_message(client.body)["type"]) == (DONE, "error")


async def test_an_end_that_is_none(monkeypatch):
    """LiteLLM reports a normal end; without the provider's stop reason that is an error."""
    client, _, _ = await ask(monkeypatch, Stream(*HELLO, native_end=""))
    assert read_message(client.body)["type"] == "error"


async def test_a_whole_response_without_an_end(monkeypatch):
    """A whole response without a stop reason is an error with a status, so a fallback may be used."""
    _, outcome, _ = await ask(monkeypatch, ModelResponse(**WHOLE), stream=False, native_end="")
    assert (outcome.status, outcome.final) == (502, False)


async def test_a_client_that_leaves_ends_the_stream(monkeypatch):
    """LiteLLM's stream is closed."""
    stream = Stream(chunk("hel"), None)
    await ask(monkeypatch, stream, leaves=stream.waits)
    await stream.closed.wait()


async def test_no_more_is_read_than_the_client_takes(monkeypatch):
    """LiteLLM's stream is read only a few chunks ahead of the client."""
    stream = Stream(*[chunk("x") for _ in range(3 * MAX_WAITING)])
    monkeypatch.setattr(litellm, "acompletion", Litellm(stream))
    client = Received(json.dumps({"model": "m", "messages": [1], "stream": True}).encode())
    one = Deployment(Lane.COMPLETION, Provider.OTHER, "gemini/x", "gemini/x", params=GEMINI)
    response = await Completions().send(Attempt(client.request, one, client.outlet, client.journal), b'{"stream": true}')
    for _ in range(10 * MAX_WAITING):
        await asyncio.sleep(0)
    assert len(stream.left) >= MAX_WAITING
    response.close()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (httpx.ConnectError("refused"), 500), (litellm.BadRequestError("m", "m", "p"), 400), (RATE_LIMIT, 429), (LAZY, 429),
        (litellm.APIError(200, "odd", "p", "m"), 500),
    ],
)  # fmt: skip
def test_the_status_of_an_error(error, status):
    """The status is always an error status, whatever LiteLLM raises."""
    assert failure(error).status == status


def test_a_host_that_cannot_be_reached():
    """The host is named with the reason, like on the other lanes, without Python's objects."""
    words = (
        "litellm.InternalServerError: GeminiException - Cannot connect to host generative.invalid:443 "
        "ssl:<ssl.SSLContext object at 0x7f42> [Name or service not known]"
    )
    found = failure(litellm.InternalServerError(words, "p", "m"))
    assert found == Failed(502, error_of("generative.invalid:443 cannot be reached: Name or service not known."))


def test_a_time_out_is_ours():
    """A timeout becomes the client library's own error, which the lane knows."""
    assert isinstance(failure(litellm.Timeout("late", "m", "p")), TimedOutError)


def test_nothing_is_changed_in_place():
    """A deployment's parameters are the same for each of its attempts."""
    client, one = Received(), deployment(GEMINI, Hosts())
    before = dict(one.params)
    parameters(Attempt(client.request, one, client.outlet, client.journal), {"messages": []})["messages"].append(1)
    assert one.params == before
