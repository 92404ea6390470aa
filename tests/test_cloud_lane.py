"""proxy/lanes/cloud_lane.py: one request to a cloud, from a signature to the last frame."""

import base64
import json

import aiohttp
import pytest
from lanes import Received, Response, Upstream
from signatures import check_signature

from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.deployments import deployment
from claude_proxy.config.models import ActiveConfig
from claude_proxy.providers.cloud_routes import Action, Cloud, CloudCall
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.providers.event_stream import MEDIA_TYPE, frame
from claude_proxy.proxy.charge import Charge
from claude_proxy.proxy.lanes.cloud_lane import CloudLane, estimate
from claude_proxy.proxy.plan import Target
from claude_proxy.upstream.client import UnreachableError

pytestmark = pytest.mark.anyio

KEY, SECRET, REGION = "AKIAMADEUP0000000001", "made-up-secret", "us-east-1"
AWS = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "aws_region_name": REGION}
STREAM, WHOLE, COUNT = (CloudCall(Cloud.BEDROCK, action, "fast") for action in Action)
START = {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}}
DELTA = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "made up"}}
LAST = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9}}


def chunk(event):
    coded = base64.b64encode(json.dumps(event).encode()).decode()
    return frame({":message-type": "event", ":event-type": "chunk"}, json.dumps({"bytes": coded}).encode())


def exception(name, message):
    headers = {":message-type": "exception", ":exception-type": name}
    return frame(headers, json.dumps({"message": message}).encode())


def streamed(*chunks):
    return Response(200, headers={"content-type": MEDIA_TYPE}, chunks=[*chunks])


def of_aws(number=1, **more):
    return deployment({"model": f"bedrock/us.anthropic.claude-{number}", **AWS, **more}, Hosts())


async def ask(received, *responses, call=STREAM, deployments=()):
    """Make one request; return its outcome and the upstream."""
    upstream = Upstream(*responses)
    lane = CloudLane(upstream, ActiveConfig({}, {}), {})
    return await lane.serve(call, Target("fast", deployments or (of_aws(),)), received.outlet), upstream


def words_of(outcome):
    return json.loads(outcome.refusal.body)["error"]["message"]


async def test_a_signed_request():
    """The request is signed for its address and body; of the client's headers the cloud gets four, and none of AWS's."""
    sent = [
        ("Authorization", "Bearer sk-proxy"), ("x-api-key", "sk-proxy"), ("X-Amz-Date", "20200101T000000Z"),
        ("X-Amz-Security-Token", "theirs"), ("x-amzn-bedrock-guardrailidentifier", "theirs"), ("cookie", "made-up"),
        ("Anthropic-Beta", "one"), ("anthropic-beta", "two"), ("anthropic-version", "2023-06-01"),
        ("Content-Type", "application/json"), ("Accept", "application/json"),
    ]  # fmt: skip
    received = Received(sent=sent)
    outcome, upstream = await ask(received, streamed(chunk(START), chunk(LAST)))
    assert outcome.done
    (seen,) = upstream.sent
    assert not check_signature("POST", seen.url, dict(seen.headers), seen.body, {KEY: SECRET}, region=REGION)
    assert seen.body == received.raw
    assert [pair for pair in seen.headers if pair[0] == "anthropic-beta"] == [
        ("anthropic-beta", "one"),
        ("anthropic-beta", "two"),
    ]
    names = {name for name, _ in seen.headers}
    assert names == {
        "accept", "accept-encoding", "anthropic-beta", "anthropic-version", "authorization", "content-type", "user-agent",
        "x-amz-date",
    }  # fmt: skip
    assert "sk-proxy" not in str(seen.headers)


async def test_headers_of_config():
    """A deployment's own headers are sent."""
    one = of_aws(extra_headers={"X-Amzn-Bedrock-GuardrailIdentifier": "of-the-operator"})
    _, upstream = await ask(Received(), streamed(chunk(START)), deployments=(one,))
    assert upstream.sent[0].header("x-amzn-bedrock-guardrailidentifier") == "of-the-operator"


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
async def test_frames(size):
    """The client gets AWS's bytes however they arrive, and the usage is read from them."""
    whole = chunk(START) + chunk(DELTA) + chunk(LAST)
    received = Received()
    parts = [whole[place : place + size] for place in range(0, len(whole), size)]
    outcome, _ = await ask(received, streamed(*parts))
    assert outcome.done
    assert received.body == whole
    assert received.begun == (200, {"content-type": MEDIA_TYPE})
    assert received.journal.usage == Usage(7, 9)
    assert received.ended


async def test_a_stream_that_breaks_off():
    """A response that ends inside a frame, or with its connection, has no end and is recorded as interrupted."""
    for last in (chunk(DELTA)[:9], aiohttp.ClientPayloadError("reset")):
        received = Received()
        outcome, _ = await ask(received, streamed(chunk(START), last))
        assert outcome.done
        assert received.body == chunk(START)
        assert not received.ended
        assert received.journal.error == "interrupted"


async def test_an_exception_after_the_first_frame():
    """An exception leaves in its own bytes, or without the account that it names, and is recorded as an error."""
    received, plain = Received(), exception("modelStreamErrorException", "no account here")
    await ask(received, streamed(chunk(START), plain))
    assert received.body == chunk(START) + plain
    assert received.journal.error == "api_error"
    received = Received()
    await ask(received, streamed(chunk(START), exception("throttlingException", "of 123456789012")))
    assert b"123456789012" not in received.body
    assert received.journal.error == "rate_limit_error"


@pytest.mark.parametrize(
    "failed",
    [
        Response(503, json={"message": "busy"}),
        Response(403, json={"message": "not you"}),
        Response(307, headers={"location": "https://evil.invalid"}),
        Response(200, json={"no": "stream"}),
        streamed(exception("throttlingException", "slow down")),
        streamed(b"not a frame, but long enough to be one"),
        streamed(),
        UnreachableError("connection refused"),
    ],
)
async def test_the_next_deployment(failed):
    """Whatever fails before the first event is tried at the next deployment."""
    received = Received()
    outcome, upstream = await ask(received, failed, streamed(chunk(START)), deployments=(of_aws(1), of_aws(2)))
    assert outcome.done
    assert received.body == chunk(START)
    assert len({one.url for one in upstream.sent}) == 2
    assert len(received.journal.failovers) == 1


async def test_an_error_in_the_request():
    """An error about the request is not tried again, and keeps its words."""
    received = Received()
    outcome, upstream = await ask(received, Response(400, json={"message": "bad field"}), deployments=(of_aws(1), of_aws(2)))
    assert (outcome.status, outcome.final, words_of(outcome)) == (400, True, "bad field")
    assert len(upstream.sent) == 1


async def test_no_credential(monkeypatch, caplog):
    """Without a credential nothing is sent; the log says what is missing, and the client where to ask."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    one = deployment({"model": "bedrock/us.anthropic.claude-x", "aws_profile_name": "nobody"}, Hosts())
    outcome, upstream = await ask(Received(), deployments=(one,))
    assert outcome.status == 502
    assert "no usable credential" in words_of(outcome)
    assert not upstream.sent
    assert any("ProfileNotFound" in record.getMessage() for record in caplog.records)


async def test_whole_messages_and_counts():
    """A whole message passes with its usage, a count without."""
    message = {"type": "message", "usage": {"input_tokens": 3, "output_tokens": 4}}
    received = Received()
    await ask(received, Response(200, json=message), call=WHOLE)
    assert json.loads(received.body) == message
    assert received.journal.usage == Usage(3, 4)
    received = Received(counts_tokens=True)
    await ask(received, Response(200, json={"inputTokens": 5}), call=COUNT)
    assert json.loads(received.body) == {"inputTokens": 5}
    assert received.journal.usage is None


async def test_a_count_that_is_refused():
    """A refused count is an estimate; one whose request is wrong is an error."""
    received = Received(counts_tokens=True)
    outcome, _ = await ask(received, Response(403, json={"message": "no"}), call=COUNT)
    assert outcome.done
    assert json.loads(received.body)["inputTokens"] > 0
    outcome, _ = await ask(Received(counts_tokens=True), Response(400, json={"message": "bad"}), call=COUNT)
    assert outcome.status == 400


def test_estimates():
    """The request inside of Bedrock's body is estimated, and anything else by its length."""
    inner = json.dumps({"messages": [{"role": "user", "content": "x" * 400}]}).encode()
    body = json.dumps({"input": {"invokeModel": {"body": base64.b64encode(inner).decode()}}}).encode()
    assert estimate(COUNT, body) == estimate(CloudCall(Cloud.VERTEX, Action.COUNT), inner) == 104
    for odd in (b'{"input": {"converse": {}}}', b'{"input": 1}', b"[]", b'{"input": {"invokeModel": {"body": "%"}}}'):
        assert estimate(COUNT, odd) >= 1


async def test_the_cost_of_an_interrupted_stream():
    """What has passed counts by its text, and not by the size of AWS's frames."""

    class Tab:
        amount = 0

        def set(self, amount):
            self.amount = amount

    long = chunk(DELTA | {"delta": {"type": "text_delta", "text": "x" * 400}})
    received, tab = Received(), Tab()
    received.outlet.charge = Charge(tab, received.journal, "fast", lambda _model, _served, usage: usage.output)
    await ask(received, streamed(chunk(START), *[long] * 10, aiohttp.ClientPayloadError("reset")))
    await received.outlet.charge.finish()
    assert 900 <= tab.amount <= 1100
