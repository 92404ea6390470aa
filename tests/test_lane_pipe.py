"""litellm/lane_pipe.py: LiteLLM's attempt on a lane, whose message LiteLLM reads while it arrives."""

import asyncio
import json

import aiohttp
import httpx
import pytest
from lanes import Received, Response, Upstream

from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.pool import Affinity, Pool
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.litellm.lane_pipe import LaneFailed, PipeClient
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.entrance import Entrance
from claude_proxy.proxy.lanes.claude_lane import ClaudeLane
from claude_proxy.proxy.serving import Serving

pytestmark = pytest.mark.anyio

TOKEN, KEY, OWN = "sk-ant-oat01-made-up-plan", "sk-ant-api03-made-up-key", "sk-ant-oat01-made-up-own"
CLAUDE = Deployment(Lane.CLAUDE, Provider.CLAUDE, "anthropic/claude-x", "claude-x")
BODY = {"model": "claude-x", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
MESSAGE = {"type": "message", "model": "claude-x", "content": [], "usage": {"input_tokens": 3, "output_tokens": 2}}
START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
DELTA = b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":2}}\n\n'
STREAM = {"content-type": "text/event-stream"}


class World:
    """A lane with a subscription and, unless it is left out, an API key; and the request of a client with its own login."""

    def __init__(self, *responses, keys=f"key={KEY}"):
        self.upstream = Upstream(*responses)
        settings = Settings.parse({"CLAUDE_OAUTH_TOKENS": f"plan={TOKEN}", "CLAUDE_API_KEYS": keys})
        pool = Pool(settings.credentials, affinity=Affinity.SESSION, quarantine=900, clock=lambda: 1_800_000_000.0)
        lane = ClaudeLane(settings, Hosts(settings.claude_base), pool, self.upstream, lambda: 1_800_000_000.0)
        serving = Serving({Lane.CLAUDE: lane}, ActiveConfig({}, {}), meter=Meter(len))
        own = [("authorization", f"Bearer {OWN}"), ("x-made-up", "a"), ("anthropic-beta", "oauth-2025-04-20")]
        received = Received(sent=own)
        self.entrance = Entrance(received.request, received.outlet, received.journal, is_openai=True)
        self.client = PipeClient(serving, self.entrance, CLAUDE, Redactor([]), model="claude-x")

    async def post(self, **more):
        headers = {"x-api-key": "placeholder", "anthropic-version": "2023-06-01", "x-stainless-os": "a"}
        return await self.client.post("https://api.anthropic.com/v1/messages", headers=headers, **more)


async def test_a_whole_message():
    """LiteLLM gets the lane's message, asked with the API key and without a header of the client's; the usage is Claude's."""
    world = World(Response(json=MESSAGE))
    response = await world.post(json=BODY)
    assert (response.status_code, response.json()["usage"]["output_tokens"]) == (200, 2)
    (sent,) = world.upstream.sent
    headers = {name.lower(): value for name, value in sent.headers}
    assert headers["x-api-key"] == KEY
    assert not {"authorization", "x-made-up", "anthropic-beta", "x-stainless-os"} & {*headers}
    assert (world.entrance.journal.usage.input, world.entrance.last.done) == (3, True)


async def test_a_stream_arrives_in_parts():
    """A stream is read while it arrives."""
    world = World(Response(headers=STREAM, chunks=[START, DELTA]))
    response = await world.post(data=json.dumps(BODY | {"stream": True}), stream=True)
    assert [part async for part in response.aiter_bytes()] == [START, DELTA]
    assert world.entrance.journal.usage.output == 2


async def test_a_stream_without_an_end():
    """A stream that breaks off is an error for LiteLLM, too."""
    world = World(Response(headers=STREAM, chunks=[START, aiohttp.ClientPayloadError("reset")]))
    response = await world.post(data=json.dumps(BODY | {"stream": True}), stream=True)
    with pytest.raises(httpx.RemoteProtocolError, match="broke off"):
        await response.aread()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error(stream):
    """LiteLLM gets the status and the message of an error; the client gets the lane's own."""
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: too many"}}
    world = World(Response(400, json=error))
    with pytest.raises(LaneFailed) as caught:
        await world.post(data=json.dumps(BODY | {"stream": stream}), stream=stream)
    assert (caught.value.status_code, caught.value.text) == (400, "max_tokens: too many")
    assert world.entrance.last.status == 400


async def test_a_pool_of_subscriptions():
    """Without an API key nothing is sent, and the error says why."""
    world = World(Response(json=MESSAGE), keys="")
    with pytest.raises(LaneFailed, match="a subscription to Claude serves Claude Code alone"):
        await world.post(json=BODY)
    assert world.upstream.sent == []
    assert world.entrance.last.status == 403


async def test_a_request_that_ends_early():
    """The end of the client's request ends the lane's work."""
    waiting = asyncio.Event()

    class Endless(Upstream):
        async def send(self, *_, **__):
            waiting.set()
            await asyncio.get_running_loop().create_future()

    world = World()
    world.client._serving._lanes[Lane.CLAUDE]._client = Endless()
    post = asyncio.ensure_future(world.post(json=BODY))
    await waiting.wait()
    post.cancel()
    await asyncio.wait({post})
    await world.entrance.close()
    assert not [task for task in asyncio.all_tasks() if "PipeClient._run" in repr(task)]
