"""proxy/lanes/demo_lane.py: a response that is made inside the proxy, whole or as events."""

import json

import pytest
from lanes import Received

from claude_proxy.anthropic.usage import usage_of
from claude_proxy.config.deployments import Lane, deployment
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.lanes.attempt import Attempt
from claude_proxy.proxy.lanes.demo_lane import DemoLane
from claude_proxy.proxy.outcome import DONE
from claude_proxy.proxy.relay import StreamCapture

pytestmark = pytest.mark.anyio

DEMO = deployment({"model": "anthropic/demo", "api_base": "http://demo.invalid"}, Hosts())


async def ask(*, stream, capture=None):
    raw = json.dumps({"model": "claude-demo", "messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()
    client = Received(raw)
    said = ["two lines\nof text", "another time"]
    outcome = await DemoLane(lambda: said.pop(0)).attempt(
        Attempt(client.request, DEMO, client.outlet, client.journal, capture=capture)
    )
    assert outcome == DONE
    assert said == ["another time"]
    return client


def test_the_deployment():
    """The lane serves a deployment whose address leads nowhere, as config.yaml.example has it."""
    assert (DEMO.lane, DEMO.provider) == (Lane.DEMO, Provider.DEMO)


async def test_a_whole_message():
    """The client gets a message with the name that it asked for, its length, and counts that are recorded."""
    client = await ask(stream=False)
    status, headers = client.begun
    assert (status, headers) == (200, {"content-type": "application/json", "content-length": str(len(client.body))})
    said = json.loads(client.body)
    assert (said["model"], said["content"]) == ("claude-demo", [{"type": "text", "text": "two lines\nof text"}])
    assert client.ended
    assert client.journal.usage == usage_of(client.body)
    assert client.journal.usage.output > 0


async def test_a_stream():
    """A client that wants events gets them, from the message's start to its end, and without a length."""
    client = await ask(stream=True)
    assert client.begun == (200, {"content-type": "text/event-stream; charset=utf-8"})
    data = [json.loads(event.split(b"data: ")[1]) for event in client.body.split(b"\n\n")[:-1]]
    assert (data[0]["type"], data[0]["message"]["model"], data[-1]["type"]) == ("message_start", "claude-demo", "message_stop")
    assert "".join(each["delta"].get("text", "") for each in data if "delta" in each) == "two lines\nof text"
    assert client.ended
    assert client.journal.usage == usage_of(client.body)


@pytest.mark.parametrize("stream", [True, False])
async def test_litellm_gets_a_copy(stream):
    """Of an attempt that LiteLLM has begun it hears what the client got."""
    capture = StreamCapture(copies=True)
    client = await ask(stream=stream, capture=capture)
    assert capture.copy == client.body


async def test_nothing_of_the_lanes_is_in_the_journal_of_another():
    """Who is asked is noted by who makes the attempt; the lane notes the counts alone."""
    client = await ask(stream=False)
    assert (client.journal.attempts, client.journal.provider) == (Journal().attempts, None)
