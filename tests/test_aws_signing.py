"""upstream/aws_signing.py: which AWS credentials sign a request, and the signature itself."""

import hashlib
import hmac
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from signatures import check_signature

from claude_proxy.upstream.aws_signing import AwsCredentials, AwsKeys, signed
from claude_proxy.upstream.cloud_credentials import CloudCredentialError

pytestmark = pytest.mark.anyio

KEY, SECRET = "AKIAMADEUP0000000001", "made-up-secret-key/0123456789+abcdefghij"
OWN = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
URL = "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-x-v1%3A0/invoke"
STS = (
    '<AssumeRole{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRole{0}Result><Credentials>'
    "<AccessKeyId>ASIAMADEUP0000000002</AccessKeyId><SecretAccessKey>of-the-role</SecretAccessKey>"
    "<SessionToken>made-up-session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
    "<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>"
    "</AssumeRole{0}Result></AssumeRole{0}Response>"
)


@pytest.fixture
def sts():
    """AWS's service for roles: keeps what it was asked, and gives every caller the role's keys."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            asked.append((form, self.headers.get("authorization", "")))
            body = STS.format("WithWebIdentity" if "WithWebIdentity" in form["Action"][0] else "").encode()
            self.send_response(200)
            self.send_header("content-type", "text/xml")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("token", [None, "made-up-session-token"])
@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 3_000_000])
def test_the_signature(token, body):
    """A request is signed for its path, its body, its host and the session's token, as AWS computes it."""
    headers = dict(signed(AwsKeys(KEY, SECRET, token), URL, "us-east-1", [("content-type", "application/json")], body))
    problem = check_signature("POST", URL, headers, body, {KEY: SECRET}, region="us-east-1")
    assert not problem
    assert headers.get("x-amz-security-token") == token
    assert check_signature("POST", URL, headers, body + b"x", {KEY: SECRET}, region="us-east-1")
    assert check_signature("POST", URL.replace("us.", "eu."), headers, body, {KEY: SECRET}, region="us-east-1")
    assert check_signature("POST", URL, headers, body, {KEY: "another"}, region="us-east-1")


def test_keys_are_not_shown():
    """The keys of a signature have no text."""
    assert SECRET not in f"{AwsKeys(KEY, SECRET, 'token')!r}{AwsKeys(KEY, SECRET, 'token')}"


async def test_keys_in_config():
    """A deployment's own keys have priority over the environment's."""
    assert await AwsCredentials({}).keys(OWN, "us-east-1") == AwsKeys(KEY, SECRET, None)


async def test_keys_of_the_environment(monkeypatch):
    """Without a parameter, the keys are those of AWS's variables."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT00001")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    found = await AwsCredentials({}).keys({}, "us-east-1")
    assert found == AwsKeys("AKIAENVIRONMENT00001", "of-the-environment", "session")


async def test_a_profile(monkeypatch, tmp_path):
    """A profile's keys come from AWS's file."""
    (tmp_path / "credentials").write_text(
        f"[team]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n", encoding="utf-8"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert await AwsCredentials({}).keys({"aws_profile_name": "team"}, "us-east-1") == AwsKeys(KEY, SECRET, None)
    with pytest.raises(CloudCredentialError, match="ProfileNotFound"):
        await AwsCredentials({}).keys({"aws_profile_name": "nobody"}, "us-east-1")


async def test_a_role(sts):
    """A role is assumed once with the deployment's keys, and its keys sign."""
    url, asked = sts
    params = OWN | {"aws_role_name": "arn:aws:iam::123456789012:role/r", "aws_sts_endpoint": url, "aws_external_id": "outside"}
    credentials = AwsCredentials({})
    for _ in range(2):
        found = await credentials.keys(params, "us-east-1")
    assert found == AwsKeys("ASIAMADEUP0000000002", "of-the-role", "made-up-session")
    ((form, authorization),) = asked
    assert form["RoleArn"] == [params["aws_role_name"]]
    assert form["ExternalId"] == ["outside"]
    assert f"Credential={KEY}/" in authorization


async def test_a_web_identity(sts, tmp_path):
    """A role of a web identity is assumed with the token in the file, and without a signature."""
    url, asked = sts
    token = tmp_path / "token"
    token.write_text("made-up-identity\n", encoding="utf-8")
    params = {"aws_role_name": "arn:aws:iam::1:role/r", "aws_sts_endpoint": url, "aws_web_identity_token": str(token)}
    assert (await AwsCredentials({}).keys(params, "us-east-1")).token == "made-up-session"
    ((form, authorization),) = asked
    assert form["WebIdentityToken"] == ["made-up-identity"]
    assert not authorization


async def test_no_credentials(monkeypatch):
    """Without any credentials there is one error, in words."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(CloudCredentialError, match="there are no AWS credentials"):
        await AwsCredentials({}).keys({}, "us-east-1")


@pytest.mark.parametrize(
    ("params", "environ", "expected"),
    [
        ({"api_key": "of-config"}, {"AWS_BEARER_TOKEN_BEDROCK": "of-environment"}, "of-config"),
        ({}, {"AWS_BEARER_TOKEN_BEDROCK": "of-environment"}, "of-environment"),
        (OWN, {"AWS_BEARER_TOKEN_BEDROCK": "of-environment"}, ""),
        ({"aws_profile_name": "team"}, {"AWS_BEARER_TOKEN_BEDROCK": "of-environment"}, ""),
        ({}, {}, ""),
    ],
)
def test_api_keys_of_bedrock(params, environ, expected):
    """A deployment's API key, then its own credentials, then the environment's API key."""
    assert AwsCredentials(environ).bearer(params) == expected


def test_the_check_of_the_tests():
    """The tests' own computation is that of AWS's example for the signing key."""
    key = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    for part in ("20150830", "us-east-1", "iam", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
