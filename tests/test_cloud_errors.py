"""providers/cloud_errors.py: what a client learns of a cloud's error, and in which shape."""

import json

import pytest

from claude_proxy.anthropic.errors import own_refusal
from claude_proxy.providers.cloud_errors import cleaned, message_of, refusal, shaped
from claude_proxy.providers.cloud_routes import Cloud

ACCOUNT = "123456789012"
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/bedrock-role/session"


def error(status, message, headers=(), cloud=Cloud.BEDROCK, **more):
    body = json.dumps({"message": message} | more).encode()
    found = refusal(cloud, status, body, headers)
    return found, json.loads(found.body)["error"]


@pytest.mark.parametrize(
    "words",
    [
        f"User: {ROLE} is not authorized to perform: bedrock:InvokeModel",
        f"account {ACCOUNT} is over its limit",
        "AWS key AKIAIOSFODNN7EXAMPLE is disabled",
        "Permission denied for robot@my-project-12345.iam.gserviceaccount.com",
        "Publisher Model `projects/my-project-12345/locations/us-east5` was not found",
        f"The signature does not match. The Canonical String for this request should have been 'POST {ROLE}'",
        "bad: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101, Signature=abcdef0123456789",
    ],
)
def test_names_of_accounts(words):
    """No account, ARN, key, project, service account or signature passes."""
    found = cleaned(words)
    for name in (ACCOUNT, "assumed-role", "AKIA", "my-project", "robot", "abcdef0123456789", "POST"):
        assert name not in found


def test_words_that_pass():
    """What a client heals by keeps its words."""
    for words in ("Input is too long for requested model.", "prompt is too long: 210000 tokens > 200000 maximum"):
        assert cleaned(words) == words
    assert cleaned("in region-x of prod", ("region-x",)) == "in (private) of prod"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"message":"of AWS"}', "of AWS"),
        (b'{"Message":"of AWS, too"}', "of AWS, too"),
        (b'{"error":{"code":403,"message":"of Google","status":"PERMISSION_DENIED"}}', "of Google"),
        (b'[{"error":{"code":429,"message":"of Google, in a list"}}]', "of Google, in a list"),
        (b'{"type":"error","error":{"type":"invalid_request_error","message":"of Anthropic"}}', "of Anthropic"),
        (b"<html>", "The proxy responded with HTTP 500."),
        (b"", "The proxy responded with HTTP 500."),
    ],
)
def test_messages(body, expected):
    """The message is found in each shape."""
    assert message_of(500, body) == expected


def test_an_error_about_the_request():
    """A 400 keeps its message without names, a 422 is a 400."""
    found, inner = error(400, f"{ROLE}: messages: at least one message is required")
    assert found.status == 400
    assert "at least one message" in inner["message"]
    assert ACCOUNT not in inner["message"]
    assert error(422, "odd")[0].status == 400


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_credential(status):
    """The proxy's credential is not the client's: the status is no 401 or 403, and the message names no account."""
    found, inner = error(status, f"{ROLE} is not authorized")
    assert found.status == 502
    assert "credential" in inner["message"]
    assert ACCOUNT not in inner["message"]


def test_throttling():
    """A 429 keeps its status and retry-after, without a word of the cloud's."""
    found, inner = error(429, f"quota of {ACCOUNT}", [("Retry-After", "7"), ("x-amzn-RequestId", "r")])
    assert (found.status, inner["type"]) == (429, "rate_limit_error")
    assert ("retry-after", "7") in found.headers
    assert "x-should-retry" not in dict(found.headers)
    assert ACCOUNT not in inner["message"]


@pytest.mark.parametrize(("status", "expected"), [(404, 404), (500, 500), (503, 503), (529, 529), (424, 502), (418, 502)])
def test_other_errors(status, expected):
    """Statuses that a client handles stay; any other is an error of the cloud's."""
    found, inner = error(status, "secret words", cloud=Cloud.VERTEX)
    assert found.status == expected
    assert "secret words" not in inner["message"]


def test_the_shape_of_bedrock():
    """Bedrock's clients read the message at the top, and the type in a header."""
    headers, body = shaped(Cloud.BEDROCK, 429, own_refusal(429, "wait").body)
    assert headers == [("x-amzn-errortype", "ThrottlingException")]
    assert json.loads(body) == {"message": "wait"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 418, 500, 502, 529])
def test_a_type_for_every_status(status):
    """Each error has a type of AWS."""
    headers, _ = shaped(Cloud.BEDROCK, status, own_refusal(status, "words").body)
    assert headers[0][1].endswith("Exception")


def test_the_shape_of_vertex():
    """On Vertex AI errors are Anthropic's; what has no message is never changed."""
    body = own_refusal(429, "wait").body
    assert shaped(Cloud.VERTEX, 429, body) == ([], body)
    assert shaped(Cloud.BEDROCK, 500, b"odd") == ([], b"odd")
