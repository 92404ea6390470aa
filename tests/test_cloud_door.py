"""server/cloud_door.py: what is refused before any cloud is asked, and in which form."""

import json

import pytest

from claude_proxy.access.routes import Caller, Role
from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.models import ActiveConfig
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.cloud_routes import Action, Cloud, CloudCall
from claude_proxy.proxy.plan import no_price_needed
from claude_proxy.server.bodies import BodyBudget
from claude_proxy.server.cloud_door import CloudDoor, named
from claude_proxy.server.doors import Head
from claude_proxy.upstream.headers import read

pytestmark = pytest.mark.anyio

ANNA = Caller(Role.USER, None, "anna")
INVOKE = "/bedrock/model/x/invoke"


async def nothing():
    """The process has its state."""


def door(**config):
    return CloudDoor(None, None, ActiveConfig(config, {}), Redactor([]), lacks_price=no_price_needed, ready=nothing)


async def refused(path, *, method="POST", caller=ANNA, body=b"{}", **config):
    """Return status, headers and body of a refusal."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    with BodyBudget(10**9).open("anna") as memory:
        served = door(**config)
        shaped = served.in_format(path, send)
        await served.serve({"method": method, "path": path}, Head(read([]), [], caller), memory, receive, shaped)
    start, content = sent
    return start["status"], dict(start["headers"]), json.loads(content["body"])


def test_the_routes_of_the_door():
    """Every path of a cloud belongs to the door, by every method, so that none reaches LiteLLM."""
    for path in ("/bedrock", "/bedrock/x", "/vertex_ai", "/vertex_ai/v1/projects", INVOKE):
        assert door().serves("GET", path)
        assert door().serves("POST", path)
    assert not door().serves("POST", "/v1/messages")


@pytest.mark.parametrize("path", ["/bedrock/model/x/converse", "/bedrock"])
async def test_other_paths(path):
    """Another path of Bedrock is a 404 in AWS's shape, with its length."""
    status, headers, body = await refused(path)
    assert status == 404
    assert "it serves Claude's models, and no other part of Bedrock" in body["message"]
    assert headers[b"x-amzn-errortype"] == b"ResourceNotFoundException"
    assert int(headers[b"content-length"]) == len(json.dumps(body))


async def test_other_paths_of_vertex():
    """Another path of Vertex AI is a 404 in Anthropic's shape."""
    status, _, body = await refused("/vertex_ai/v1/x")
    assert (status, body["error"]["type"]) == (404, "not_found_error")


async def test_virtual_keys():
    """LiteLLM's virtual keys, whose models and budgets only LiteLLM knows, cannot be used; not even to list models."""
    key = Caller(Role.KEY, None, "key")
    assert "Virtual keys cannot use" in (await refused(INVOKE, caller=key))[2]["message"]
    assert "Virtual keys" in (await refused("/bedrock/inference-profiles", method="GET", caller=key))[2]["message"]


async def test_settings_that_need_litellm():
    """A guardrail, or whatever else only LiteLLM applies, is not bypassed."""
    status, _, body = await refused(INVOKE, guardrails=[{"guardrail_name": "g"}])
    assert status == 400
    assert "config.yaml has guardrails, which needs LiteLLM" in body["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"x", b'{"model": 7}', b"[" * 10_000])
async def test_odd_bodies(body):
    """A body that is no JSON object is a 400."""
    assert (await refused(INVOKE, body=body))[0] == 400


def test_the_model_of_a_count():
    """On Vertex AI the body of a count names the model."""
    call = CloudCall(Cloud.VERTEX, Action.COUNT)
    assert named(call, b'{"model": "claude-x"}').model == "claude-x"
    for raw in (b"{}", b'{"model": ""}', b'{"model": "a\\nb"}'):
        with pytest.raises(Refused, match="model"):
            named(call, raw)


async def test_what_is_no_error():
    """A good response and its parts pass as they are."""
    sent = []

    async def send(message):
        sent.append(message)

    messages = [
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b"},
    ]
    shaped = door().in_format("/bedrock/model/x/invoke", send)
    for message in messages:
        await shaped(message)
    assert sent == messages
