"""Clients of Bedrock and Vertex AI through the proxy: the real Claude Code in both modes, and what a cloud may answer.

The clouds check AWS's signature and Google's access token of every request.
"""

import base64
import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import upstream as up
from botocore.eventstream import EventStreamBuffer
from claude_code import ClaudeCode, require
from clouds import (
    ACCOUNT,
    BEARER,
    KEY,
    PROJECT,
    REGION,
    ROLE,
    SECRET,
    Clouds,
    aws_error,
    chunk,
    exception,
    framed,
    good,
    google_error,
    model_of,
    reply_of,
    stopped,
)
from processes import ROOT, STATIC_TOKEN, Proxy
from service_accounts import service_account

SONNET, HAIKU, VERTEX_SONNET = (
    "us.anthropic.claude-sonnet-5-v1:0",
    "us.anthropic.claude-haiku-5-v1:0",
    "claude-sonnet-5@20260101",
)
ARN = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:application-inference-profile/a1b2c3"
ANNA, BEN, CARL = "made-up-token-of-anna-0123", "made-up-token-of-ben-01234", "made-up-token-of-carl-0123"
CONFIG = """
model_list:
  - model_name: sonnet
    litellm_params: {{model: bedrock/{sonnet}, api_base: "{url}/aws", aws_region_name: us-east-1}}
  - model_name: sonnet
    litellm_params:
      {{model: "vertex_ai/{vertex}", vertex_location: us-east5, vertex_credentials: "{account}", api_base: "{url}"}}
  - model_name: claude-sonnet-5
    litellm_params:
      {{model: "vertex_ai/{vertex}", vertex_location: us-east5, vertex_credentials: "{account}", api_base: "{url}"}}
  - model_name: haiku
    litellm_params: {{model: bedrock/{haiku}, api_base: "{url}/aws", aws_region_name: us-east-1}}
  - model_name: keyed
    litellm_params: {{model: bedrock/us.anthropic.claude-keyed-v1:0, api_base: "{url}/aws", api_key: {bearer}}}
  - model_name: wrongly-signed
    litellm_params:
      model: bedrock/us.anthropic.claude-wrong-v1:0
      api_base: "{url}/aws"
      aws_access_key_id: {key}
      aws_secret_access_key: made-up-key-of-another-account
  - model_name: profile
    litellm_params: {{model: "bedrock/{arn}", api_base: "{url}/aws"}}
  - model_name: twice
    litellm_params: {{model: bedrock/us.anthropic.claude-first-v1:0, api_base: "{url}/aws", weight: 1}}
  - model_name: twice
    litellm_params: {{model: bedrock/us.anthropic.claude-second-v1:0, api_base: "{url}/aws", weight: 0}}
  - model_name: elsewhere
    litellm_params: {{model: openai/gpt-x, api_base: "{url}/openai", api_key: made-up-key-0123}}
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
general_settings:
  custom_auth: custom_auth.user_api_key_auth
claude_proxy:
  users:
    anna: {{models: [haiku, twice]}}
    ben: {{budget: {{month: 0.02}}}}
    carl: {{budget: {{month: 0.001}}}}
  prices:
    sonnet: {{input: 3, output: 15}}
    haiku: {{input: 1, output: 5}}
"""
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": f"overloaded {PROJECT}"}}
BODY = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
AWS, GOOGLE = (
    f"/bedrock/model/{SONNET}",
    f"/vertex_ai/v1/projects/any/locations/any/publishers/anthropic/models/{VERTEX_SONNET}",
)
STREAM, WHOLE = f"{AWS}/invoke-with-response-stream", f"{AWS}/invoke"
COUNTS = "/vertex_ai/v1/projects/any/locations/any/publishers/anthropic/models/count-tokens:rawPredict"


@pytest.fixture(scope="module")
def both() -> Iterator[Clouds]:
    made = Clouds()
    yield made
    made.close()


@pytest.fixture
def clouds(both: Clouds) -> Iterator[Clouds]:
    both.reset()
    yield both
    both.reset()


@pytest.fixture(scope="module")
def proxy(both: Clouds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("clouds")
    account = home / "account.json"
    account.write_text(json.dumps(service_account(both.tokens.url)), encoding="utf-8")
    config = CONFIG.format(
        url=both.url, sonnet=SONNET, haiku=HAIKU, vertex=VERTEX_SONNET, account=account, bearer=BEARER, arn=ARN, key=KEY
    )
    variables = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "PROXY_USER_TOKENS": f"anna={ANNA},ben={BEN},carl={CARL}",
    }
    running = Proxy(home, config, **variables).wait_ready()
    yield running
    running.stop()


def frames_of(response: httpx.Response) -> list[tuple[dict[str, str], bytes]]:
    """The frames of a stream, read by botocore, which checks each checksum."""
    buffer = EventStreamBuffer()
    buffer.add_data(response.content)
    return [(one.headers, one.payload) for one in buffer]


def words_of(response: httpx.Response) -> str:
    """The message of an error, which no account's name is in."""
    for name in (ACCOUNT, "made-up-role", PROJECT, SECRET, KEY):
        assert name not in response.text, response.text
    body = response.json()
    return str(body["message"] if "message" in body else body["error"]["message"])


# --- What passes -------------------------------------------------------------------------------------------------------------


def test_a_stream_of_bedrock(proxy: Proxy, clouds: Clouds) -> None:
    """A stream leaves in AWS's own bytes, and the request is signed and otherwise as it came."""
    sent: list[bytes] = []

    def script(seen: up.Seen) -> up.Reply:
        reply = good(seen)
        sent.extend(reply.chunks or ())
        return reply

    clouds.script = script
    body = json.dumps(BODY | {"anthropic_beta": ["one", "unknown-to-the-proxy"]}).encode()
    response = proxy.ask(body, STREAM, anthropic_beta="one,unknown-to-the-proxy", x_amzn_bedrock_guardrailidentifier="mine")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/vnd.amazon.eventstream"
    assert response.content == b"".join(sent)
    assert frames_of(response)
    (seen,) = clouds.asked
    assert seen.body == body
    assert seen.header("anthropic-beta") == "one,unknown-to-the-proxy"
    assert seen.path == f"/aws/model/{SONNET.replace(':', '%3A')}/invoke-with-response-stream"
    assert seen.header("x-amzn-bedrock-guardrailidentifier") is None
    assert STATIC_TOKEN not in seen.everything


def test_a_stream_of_vertex(proxy: Proxy, clouds: Clouds) -> None:
    """A stream of Vertex AI leaves unchanged; project and location are config.yaml's, and one access token serves requests."""
    for _ in range(2):
        response = proxy.ask(json.dumps(BODY | {"stream": True}).encode(), f"{GOOGLE}:streamRawPredict", relayed=True)
        assert response.status_code == 200, response.text
        assert b"message_stop" in response.content
    place = f"/v1/projects/{PROJECT}/locations/us-east5/publishers/anthropic/models/{VERTEX_SONNET}:streamRawPredict"
    assert {seen.path for seen in clouds.asked} == {place}
    assert len({seen.header("authorization") for seen in clouds.asked}) == 1


@pytest.mark.parametrize("path", [WHOLE, f"{GOOGLE}:rawPredict"])
def test_a_whole_message(proxy: Proxy, clouds: Clouds, path: str) -> None:
    """A message that is not streamed leaves as it came."""
    response = proxy.ask(json.dumps(BODY).encode(), path)
    assert response.json()["content"][0]["text"] == "from the cloud"
    assert response.json()["usage"]["output_tokens"] == 500
    assert len(clouds.asked) == 1


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/bedrock/model/sonnet/invoke", SONNET),
        ("/anthropic/bedrock/model/sonnet/invoke", SONNET),
        (f"/bedrock/model/{SONNET.replace(':', '%3A')}/invoke", SONNET),
        (f"/bedrock/model/{ARN.replace('/', '%2F')}/invoke", ARN),
        ("/bedrock/model/keyed/invoke", "us.anthropic.claude-keyed-v1:0"),
        (GOOGLE.replace(VERTEX_SONNET, "sonnet") + ":rawPredict", VERTEX_SONNET),
    ],
)
def test_names(proxy: Proxy, clouds: Clouds, path: str, sent: str) -> None:
    """A model is named by config.yaml or by the cloud's id; the cloud gets its id in any case."""
    response = proxy.ask(json.dumps(BODY).encode(), path)
    assert response.status_code == 200, response.text
    assert [model_of(seen) for seen in clouds.asked] == [sent]


def test_counts_of_bedrock(proxy: Proxy, clouds: Clouds) -> None:
    """Tokens are counted for the id without its area; a count that AWS refuses is an estimate."""
    body = json.dumps({"input": {"invokeModel": {"body": base64.b64encode(json.dumps(BODY).encode()).decode()}}}).encode()
    path = f"/bedrock/model/{SONNET.removeprefix('us.')}/count-tokens"
    assert proxy.ask(body, path).json() == {"inputTokens": 4711}
    assert model_of(clouds.asked[0]) == SONNET.removeprefix("us.")
    clouds.script = lambda _: aws_error(403, "AccessDeniedException", f"{ROLE} may not bedrock:CountTokens")
    assert 0 < proxy.ask(body, path).json()["inputTokens"] < 100


def test_counts_of_vertex(proxy: Proxy, clouds: Clouds) -> None:
    """The cloud gets its own id in the body of a count."""
    body = json.dumps({"model": "sonnet", "messages": BODY["messages"]}).encode()
    assert proxy.ask(body, COUNTS).json() == {"input_tokens": 4711}
    assert clouds.asked[0].json == {"model": VERTEX_SONNET, "messages": BODY["messages"]}
    clouds.script = lambda _: google_error(403, "PERMISSION_DENIED", PROJECT)
    assert 0 < proxy.ask(body, COUNTS).json()["input_tokens"] < 100
    assert "model" in words_of(proxy.ask(b"{}", COUNTS))


def test_the_first_event_at_once(proxy: Proxy, clouds: Clouds) -> None:
    """A frame reaches the client while the cloud has not sent the next one."""
    go_on = threading.Event()
    first, *others = [chunk(event) for event in up.events_of(up.message(up.text("slowly")))]

    def frames() -> Iterator[bytes]:
        yield first
        go_on.wait(20)
        yield from others

    clouds.script = lambda _: up.Reply(headers={"content-type": "application/vnd.amazon.eventstream"}, chunks=frames())
    with (
        httpx.Client(trust_env=False, timeout=30) as client,
        client.stream("POST", f"{proxy.url}{STREAM}", content=json.dumps(BODY), headers=headers()) as response,
    ):
        parts = response.iter_raw()
        received = next(parts)
        assert received == first
        go_on.set()
        assert b"".join(parts) == b"".join(others)


def headers(token: str = STATIC_TOKEN) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}


def test_usage(proxy: Proxy, clouds: Clouds) -> None:
    """A request is in the list of requests with its user, model, tokens, price and lane."""
    for path in (STREAM, WHOLE, f"{GOOGLE}:streamRawPredict"):
        proxy.ask(json.dumps(BODY | {"stream": True} if "stream" in path.lower() else BODY).encode(), path, relayed=True)
    with httpx.Client(trust_env=False) as client:
        rows = client.get(f"{proxy.url}/pool/requests?lane=cloud", headers=headers()).json()["requests"]
    newest = rows[:3]
    assert {row["model"] for row in newest} == {"sonnet"}
    assert {row["served"] for row in newest} == {f"bedrock/{SONNET}", f"vertex_ai/{VERTEX_SONNET}"}
    assert {(row["input"], row["output"]) for row in newest} == {(1000, 500)}
    assert {row["lane"] for row in newest} == {"cloud"}


# --- What a cloud answers besides --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (aws_error(400, "ValidationException", f"{ROLE}: Input is too long for requested model."), 400, "Input is too long"),
        (aws_error(403, "AccessDeniedException", f"{ROLE} is not authorized"), 502, "credential"),
        (aws_error(404, "ResourceNotFoundException", f"no model in {ACCOUNT}"), 404, "does not have this model"),
        (aws_error(429, "ThrottlingException", f"too many tokens of {ACCOUNT}", retry_after="3"), 429, "throttling"),
        (aws_error(503, "ServiceUnavailableException", ACCOUNT), 503, "cannot respond"),
        (framed(exception("throttlingException", f"slow down, {ACCOUNT}")), 429, "throttling"),
        (framed(exception("validationException", f"{ROLE}: max_tokens: too many")), 400, "max_tokens: too many"),
        (framed(exception("internalServerException", ROLE)), 500, "cannot respond"),
        (framed(b'{"message": "not a frame"}'), 502, "cannot be read"),
        (framed(), 500, "cannot respond"),
        (reply_of({"message": "no stream"}), 502, "without a stream"),
    ],
)
def test_errors_before_the_first_event(proxy: Proxy, clouds: Clouds, reply: up.Reply, status: int, words: str) -> None:
    """An error has AWS's shape, no account's name, and a status that Claude Code handles; retry-after passes."""
    clouds.script = lambda _: reply
    response = proxy.ask(json.dumps(BODY).encode(), STREAM)
    assert response.status_code == status
    assert words in words_of(response)
    assert response.headers["x-amzn-errortype"].endswith("Exception")
    assert response.headers.get("retry-after") == reply.headers.get("retry-after")


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (google_error(403, "PERMISSION_DENIED", f"Permission denied on resource project {PROJECT}."), 502),
        (google_error(429, "RESOURCE_EXHAUSTED", f"Quota of {PROJECT}"), 429),
        (up.anthropic_error(529, "overloaded_error", f"overloaded {PROJECT}"), 529),
        (up.anthropic_error(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), 400),
        (up.Reply(headers={"content-type": "text/event-stream"}, chunks=up.sse(OVERLOADED)), 529),
    ],
)  # fmt: skip
def test_errors_of_vertex(proxy: Proxy, clouds: Clouds, reply: up.Reply, status: int) -> None:
    """On Vertex AI an error has Anthropic's shape, and its words only if the error is about the request."""
    clouds.script = lambda _: reply
    response = proxy.ask(json.dumps(BODY | {"stream": True}).encode(), f"{GOOGLE}:streamRawPredict")
    assert response.status_code == status
    assert ("prompt is too long" in words_of(response)) == (status == 400)
    assert response.json()["type"] == "error"


def test_an_exception_in_a_stream(proxy: Proxy, clouds: Clouds) -> None:
    """An exception in a stream is a frame that names no account, with valid checksums; the frames before stay as they are."""
    first = chunk(up.events_of(up.message(up.text("half")))[0])
    clouds.script = lambda _: framed(first, exception("modelStreamErrorException", f"{ROLE} failed"))
    response = proxy.ask(json.dumps(BODY).encode(), STREAM)
    assert response.content.startswith(first)
    (_, last) = frames_of(response)[-1]
    assert json.loads(last) == {"message": "(an ARN) failed"}


@pytest.mark.parametrize("ending", ["dropped", "ended"])
def test_a_truncated_stream(proxy: Proxy, clouds: Clouds, ending: str) -> None:
    """A stream that ends inside a frame is no complete response."""
    events = [chunk(event) for event in up.events_of(up.message(up.text("half")))]
    clouds.script = lambda _: framed(*stopped(events, 2), drop=ending == "dropped")
    with pytest.raises(httpx.RemoteProtocolError):
        proxy.ask(json.dumps(BODY).encode(), STREAM)
    proxy.logged("broke off its response")


def test_the_next_deployment(proxy: Proxy, clouds: Clouds) -> None:
    """The next deployment responds when the first one fails before its first event, and not after an error in the request."""

    def script(seen: up.Seen) -> up.Reply | None:
        return framed(exception("throttlingException", "slow down")) if "first" in seen.path else None

    clouds.script = script
    response = proxy.ask(json.dumps(BODY).encode(), "/bedrock/model/twice/invoke-with-response-stream")
    assert response.status_code == 200
    assert [model_of(seen) for seen in clouds.asked] == [f"us.anthropic.claude-{name}-v1:0" for name in ("first", "second")]
    clouds.reset()
    clouds.script = lambda _: aws_error(400, "ValidationException", "no")
    assert proxy.ask(json.dumps(BODY).encode(), "/bedrock/model/twice/invoke").status_code == 400
    assert len(clouds.asked) == 1


def test_a_client_that_leaves(proxy: Proxy, clouds: Clouds) -> None:
    """A client that disconnects ends the request to the cloud."""
    left = threading.Event()

    def frames() -> Iterator[bytes]:
        try:
            events = [chunk(event) for event in up.events_of(up.message(up.text("on and on")))]
            yield events[0]
            yield events[1]
            for _ in range(2000):
                yield events[2]
                left.wait(0.01)
        finally:
            left.set()

    clouds.script = lambda _: up.Reply(headers={"content-type": "application/vnd.amazon.eventstream"}, chunks=frames())
    with (
        httpx.Client(trust_env=False, timeout=30) as client,
        client.stream("POST", f"{proxy.url}{STREAM}", content=json.dumps(BODY), headers=headers()) as response,
    ):
        next(response.iter_raw())
    assert left.wait(20)


# --- What the proxy refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [STREAM, f"{GOOGLE}:rawPredict"])
def test_a_wrong_token(proxy: Proxy, clouds: Clouds, path: str) -> None:
    """A token that is not the proxy's reaches no cloud, and neither does AWS's own signature."""
    for token in ("wrong", None):
        assert proxy.ask(json.dumps(BODY).encode(), path, token=token).status_code == 401
    signed = {"authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/bedrock/aws4_request"}
    assert proxy.ask(json.dumps(BODY).encode(), path, token=None, **signed).status_code == 401
    assert not clouds.asked


def test_a_model_that_is_not_allowed(proxy: Proxy, clouds: Clouds) -> None:
    """A user's models are the same as on every route, whatever the body names besides."""
    assert "anna may not use" in words_of(proxy.ask(json.dumps(BODY).encode(), STREAM, token=ANNA))
    fallbacks = json.dumps(BODY | {"fallbacks": [{"model": "sonnet"}]}).encode()
    assert "may not use" in words_of(proxy.ask(fallbacks, f"/bedrock/model/{HAIKU}/invoke", token=ANNA))
    named = json.dumps(BODY | {"model": "sonnet"}).encode()
    assert "may not use" in words_of(proxy.ask(named, f"/bedrock/model/{HAIKU}/invoke", token=ANNA))
    assert not clouds.asked
    assert proxy.ask(json.dumps(BODY).encode(), f"/bedrock/model/{HAIKU}/invoke", token=ANNA).status_code == 200


def test_a_spent_budget(proxy: Proxy, clouds: Clouds) -> None:
    """Responses of a cloud cost what its model costs, and a spent budget is said in words."""
    for path in (STREAM, f"{GOOGLE}:streamRawPredict"):
        body = json.dumps(BODY | ({"stream": True} if "vertex" in path else {})).encode()
        assert proxy.ask(body, path, token=BEN, relayed=True).status_code == 200
    for path in (STREAM, f"{GOOGLE}:streamRawPredict"):
        response = proxy.ask(json.dumps(BODY).encode(), path, token=BEN)
        assert response.status_code == 429
        assert "Your monthly budget ($0.02) is spent" in words_of(response)
        assert response.headers["x-should-retry"] == "false"
    assert len(clouds.asked) == 2


def test_inference_profiles(proxy: Proxy, clouds: Clouds) -> None:
    """A user's models are listed as profiles, without a request to AWS, and not without a token."""
    path = "/bedrock/inference-profiles"
    with httpx.Client(trust_env=False, base_url=proxy.url) as client:
        found = client.get(path, headers=headers(ANNA)).json()["inferenceProfileSummaries"]
        one = client.get(f"{path}/haiku", headers=headers(ANNA))
        hidden = client.get(f"{path}/sonnet", headers=headers(ANNA))
        assert client.get(path).status_code == 401
    assert HAIKU in {each["inferenceProfileId"] for each in found}
    assert SONNET not in {each["inferenceProfileId"] for each in found}
    assert one.json()["models"][0]["modelArn"].endswith(f"/{HAIKU.removeprefix('us.')}")
    assert (hidden.status_code, hidden.json()) == (404, {"message": "sonnet is not an inference profile of this proxy"})
    assert not clouds.upstream.seen


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/bedrock/model/nobody/invoke", 404),
        ("/bedrock/model/elsewhere/invoke", 404),
        ("/bedrock/model/eu.anthropic.claude-sonnet-5-v1:0/invoke", 404),
        ("/bedrock/model/us.anthropic.*/invoke", 404),
        (f"/bedrock/model/{SONNET}/converse", 404),
        ("/bedrock/model/%2e%2e%2fsonnet/invoke", 404),
        ("/bedrock/model/../model/sonnet/invoke", 404),
        ("/bedrock/model/%252e%252e/invoke", 404),
        (f"/bedrock/model/{'x' * 5000}/invoke", 404),
        ("/bedrock/model/a%0d%0ab/invoke", 404),
        ("/bedrock/inference-profiles", 404),
        ("/bedrock/knowledgebases/x/retrieve", 404),
        (f"/vertex_ai/v1/projects/{PROJECT}/locations/x/publishers/google/models/gemini:streamGenerateContent", 404),
        ("/vertex_ai/v1/projects/..%2f..%2fx/locations/x/publishers/anthropic/models/sonnet:rawPredict", 404),
        ("/vertex_ai/v1/projects/x/locations/x/publishers/anthropic/models/nobody:rawPredict", 404),
        ("/bedrock//model/sonnet/invoke", 404),
    ],
)
def test_paths(proxy: Proxy, clouds: Clouds, path: str, status: int) -> None:
    """No other path of a cloud is served, and no path leads past the model's name."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    connection.putrequest("POST", path, skip_host=False)  # as it stands: httpx would resolve the dots
    body = json.dumps(BODY).encode()
    for name, value in (headers() | {"content-length": str(len(body))}).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    assert response.status == status, response.read()
    response.read()
    connection.close()
    assert not clouds.asked


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b"[" * 100_000, b'"text"'])
def test_odd_bodies(proxy: Proxy, clouds: Clouds, body: bytes) -> None:
    """A body that is no JSON object reaches no cloud."""
    assert proxy.ask(body, WHOLE).status_code == 400
    assert not clouds.asked


def test_nothing_secret_is_logged(proxy: Proxy, clouds: Clouds) -> None:
    """The operator's log has why a cloud refused, and no key, token or signature."""
    clouds.script = lambda _: aws_error(403, "AccessDeniedException", "made-up reason of AWS")
    proxy.ask(json.dumps(BODY).encode(), STREAM)
    proxy.logged("made-up reason of AWS")
    for secret in (SECRET, BEARER, "Signature=", "ya29.", "BEGIN PRIVATE KEY", BEN, ANNA):
        assert secret not in proxy.output


def test_a_wrong_signature(proxy: Proxy, clouds: Clouds) -> None:
    """A signature that AWS rejects is the operator's matter: the client learns of no account, and its token is valid."""
    response = proxy.ask(json.dumps(BODY).encode(), "/bedrock/model/wrongly-signed/invoke")
    assert response.status_code == 502
    assert "does not accept the proxy's credential" in words_of(response)
    assert len(clouds.asked) == 1
    proxy.logged("the signature does not match")


def test_no_credential(proxy: Proxy, clouds: Clouds, both: Clouds) -> None:
    """Without an access token of Google's the client learns only that the operator can find the reason."""
    clouds.script = lambda _: google_error(401, "UNAUTHENTICATED", "expired")
    both.tokens.status = 400
    try:
        for _ in range(2):  # the first response makes the proxy forget its token
            response = proxy.ask(json.dumps(BODY).encode(), f"{GOOGLE}:rawPredict")
            assert response.status_code == 502
        assert "no usable credential" in words_of(response)
        proxy.logged("Google gives no access token")
    finally:
        both.tokens.status = 200


# --- The real Claude Code ----------------------------------------------------------------------------------------------------


def block(variable: str, proxy: Proxy, token: str = STATIC_TOKEN) -> dict[str, str]:
    """The variables of a block in docs/clouds.md, with this proxy's address and a token."""
    page = (ROOT / "docs" / "clouds.md").read_text(encoding="utf-8")
    blocks = [json.loads(text)["env"] for text in re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
    (found,) = (one for one in blocks if variable in one)
    return {
        name: value.replace("http://your-server:4000", proxy.url).replace("the-token-of-anna", token)
        for name, value in found.items()
    }


@pytest.fixture
def client(tmp_path: Path, proxy: Proxy) -> Callable[..., ClaudeCode]:
    """Return Claude Code with nothing but a block of docs/clouds.md."""
    require()

    def make(variable: str, token: str = STATIC_TOKEN, **more: str) -> ClaudeCode:
        made = ClaudeCode(tmp_path, proxy.url)
        made.environment = block(variable, proxy, token) | {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_MAX_RETRIES": "1"} | more
        return made

    return make


BEDROCK_MODE, VERTEX_MODE, BEARER_MODE = "CLAUDE_CODE_SKIP_BEDROCK_AUTH", "CLAUDE_CODE_USE_VERTEX", "AWS_BEARER_TOKEN_BEDROCK"


@pytest.mark.parametrize(("mode", "path"), [(BEDROCK_MODE, "/aws/model/"), (VERTEX_MODE, "/v1/projects/")])
def test_a_tool_loop(client: Callable[..., ClaudeCode], clouds: Clouds, mode: str, path: str) -> None:
    """The block is all that Claude Code needs: it runs a tool and has its answer, and no token of the proxy reaches a cloud."""

    def script(seen: up.Seen) -> up.Reply:
        if b"tool_result" in seen.body:
            return good(seen, up.text("the tool said made-up-output"))
        return good(seen, up.tool("Bash", {"command": "echo made-up-output", "description": "Say it"}))

    clouds.script = script
    run = client(mode).run("Run the tool", "--allowedTools", "Bash")
    assert (run.code, run.result, run.retries) == (0, "the tool said made-up-output", 0)
    assert len(clouds.asked) == 2
    for seen in clouds.asked:
        assert seen.path.startswith(path)
        assert STATIC_TOKEN not in seen.everything
        assert "effort-2025-11-24" in (seen.header("anthropic-beta") or "")
        assert seen.header("x-claude-code-session-id") is None


def test_counts_of_claude_code(client: Callable[..., ClaudeCode], clouds: Clouds) -> None:
    """With the proxy's token as Bedrock's key, Claude Code reads the models of config.yaml and has its tokens counted."""
    run = client(BEARER_MODE).run("/context")
    assert run.code == 0
    assert "Context Usage" in run.result
    counted = [seen for seen in clouds.asked if seen.path.endswith("/count-tokens")]
    assert {model_of(seen) for seen in counted} == {SONNET.removeprefix("us.")}


@pytest.mark.parametrize(
    ("mode", "token", "words"),
    [
        (BEDROCK_MODE, "sk-wrong-token-0123456789", "The token is not this proxy's"),
        (BEDROCK_MODE, ANNA, "anna may not use sonnet on this proxy. Allowed: haiku, twice."),
        (VERTEX_MODE, CARL, "Your monthly budget ($0.00) is spent"),
    ],
)
def test_what_a_user_is_told(
    client: Callable[..., ClaudeCode], proxy: Proxy, clouds: Clouds, mode: str, token: str, words: str
) -> None:
    """Claude Code shows the proxy's own words."""
    if token == CARL:
        proxy.ask(json.dumps(BODY).encode(), f"{GOOGLE}:rawPredict", token=CARL)
        clouds.reset()
    run = client(mode, token).run("Say hello")
    assert words in run.result
    assert not clouds.asked


def test_a_client_that_heals(client: Callable[..., ClaudeCode], clouds: Clouds) -> None:
    """Claude Code repeats a request that AWS throttles, and has its answer."""
    throttled = iter([framed(exception("throttlingException", f"slow down, {ACCOUNT}"))])
    clouds.script = lambda _: next(throttled, None)
    run = client(BEDROCK_MODE).run("Say hello")
    assert (run.result, run.retries) == ("from the cloud", 1)
