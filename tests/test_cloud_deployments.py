"""config/cloud_deployments.py: a deployment's id at its cloud, and where its requests go."""

import pytest

from claude_proxy.config.cloud_deployments import (
    base_model,
    bedrock_address,
    cloud_model,
    is_meant,
    private_names,
    vertex_address,
    vertex_credentials,
    vertex_project,
)
from claude_proxy.config.deployments import deployment
from claude_proxy.providers.cloud_routes import Action, Cloud, CloudCall
from claude_proxy.providers.endpoints import Hosts

ARN = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3"
STREAM, WHOLE, COUNT = (CloudCall(Cloud.BEDROCK, action) for action in Action)


def made(model, **params):
    return deployment({"model": model, **params}, Hosts())


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        ("bedrock/us.anthropic.claude-x-v1:0", {}, "us.anthropic.claude-x-v1:0"),
        ("bedrock/converse/anthropic.claude-x", {}, "anthropic.claude-x"),
        ("bedrock/invoke/anthropic.claude-x", {}, "anthropic.claude-x"),
        ("bedrock/us-west-2/anthropic.claude-x", {}, "anthropic.claude-x"),
        (f"bedrock/{ARN}", {}, ARN),
        ("bedrock/anthropic.claude-x", {"model_id": ARN}, ARN),
        ("anthropic.claude-x", {"custom_llm_provider": "bedrock"}, "anthropic.claude-x"),
        ("bedrock/amazon.nova-pro-v1:0", {}, ""),
        ("anthropic/claude-x", {}, ""),
        ("vertex_ai/claude-x@20250101", {}, ""),
        ("bedrock/anthropic.claude-x", {"custom_llm_provider": "openai"}, ""),
    ],
)
def test_ids_of_bedrock(model, params, expected):
    """The id is LiteLLM's name without what LiteLLM reads of it, or the ARN that is named; other models have none."""
    assert cloud_model(Cloud.BEDROCK, made(model, **params)) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [("vertex_ai/claude-x@20250101", "claude-x@20250101"), ("vertex_ai/gemini-x", ""), ("bedrock/anthropic.claude-x", "")],
)
def test_ids_of_vertex(model, expected):
    """On Vertex AI only Claude's models have an id here."""
    assert cloud_model(Cloud.VERTEX, made(model)) == expected


def test_areas():
    """An area is in front of the vendor; an ARN and other ids have none."""
    assert base_model("us.anthropic.claude-x") == base_model("global.anthropic.claude-x") == "anthropic.claude-x"
    for one in ("anthropic.claude-x", ARN, "us.meta.llama", "xx.anthropic.claude-x"):
        assert base_model(one) == one


def test_names_in_a_path():
    """A model is meant by its exact id; its tokens are counted for the id in any area."""
    call = CloudCall(Cloud.BEDROCK, Action.STREAM, "us.anthropic.claude-x")
    assert is_meant(call, "us.anthropic.claude-x")
    assert not is_meant(call, "eu.anthropic.claude-x")
    assert not is_meant(call, "")
    counts = CloudCall(Cloud.BEDROCK, Action.COUNT, "anthropic.claude-x")
    assert is_meant(counts, "us.anthropic.claude-x")
    assert not is_meant(counts, "us.anthropic.claude-y")


@pytest.mark.parametrize(
    ("model", "params", "environ", "expected"),
    [
        ("us.anthropic.claude-x-v1:0", {"aws_region_name": "us-east-1"}, {}, "us-east-1"),
        ("us.anthropic.claude-x-v1:0", {}, {"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "x"}, "eu-north-1"),
        ("us-west-1/anthropic.claude-x", {}, {"AWS_REGION": "eu-north-1"}, "us-west-1"),
        (ARN, {}, {"AWS_REGION": "us-east-1"}, "eu-west-1"),
        ("anthropic.claude-x", {}, {}, "us-west-2"),
    ],
)
def test_regions(model, params, environ, expected):
    """The region is that of the deployment, of its id, or of AWS's variables, in this order."""
    found = bedrock_address(STREAM, made(f"bedrock/{model}", **params), environ)
    assert found.region == expected
    assert found.url.startswith(f"https://bedrock-runtime.{expected}.amazonaws.com/model/")


@pytest.mark.parametrize(
    "name",
    [
        "arn:aws:bedrock:evil.invalid/x?:1:inference-profile/anthropic.x", "arn:aws:bedrock:a@evil.invalid#:1:x",
        "arn:aws:bedrock::1:x", "evil.invalid/anthropic.claude-x", "evil.invalid#/anthropic.claude-x", "arn:x",
        "us-east-1.evil.invalid/anthropic.claude-x", "arn:aws:bedrock:us-east-1\n:1:x",
    ],
)  # fmt: skip
def test_a_region_is_no_host(name):
    """Where a pattern lets clients choose an id, no part of it becomes another host or another path."""
    found = bedrock_address(WHOLE, made(f"bedrock/{name}"), {"AWS_REGION": "eu-west-1"})
    assert found.region == "eu-west-1"
    assert found.url.startswith("https://bedrock-runtime.eu-west-1.amazonaws.com/model/")
    assert found.url.count("/") == 5


def test_paths_of_bedrock():
    """The id is one part of the path, with every character encoded that would end it; a count is for the id without an area."""
    one = made("bedrock/us.anthropic.claude-x-v1:0", api_base="https://vpce.example/")
    assert bedrock_address(STREAM, one, {}).url == (
        "https://vpce.example/model/us.anthropic.claude-x-v1%3A0/invoke-with-response-stream"
    )
    assert bedrock_address(WHOLE, one, {}).url.endswith("/model/us.anthropic.claude-x-v1%3A0/invoke")
    assert bedrock_address(COUNT, one, {}).url.endswith("/model/anthropic.claude-x-v1%3A0/count-tokens")
    arn = bedrock_address(WHOLE, made(f"bedrock/{ARN}"), {}).url
    assert arn.endswith("%3Aapplication-inference-profile%2Fa1b2c3/invoke")


def test_the_china_region():
    """Hosts in China have another domain."""
    assert (
        "amazonaws.com.cn/" in bedrock_address(WHOLE, made("bedrock/anthropic.claude-x", aws_region_name="cn-north-1"), {}).url
    )


@pytest.mark.parametrize(
    ("params", "environ", "expected"),
    [
        ({"vertex_location": "us-east5"}, {}, "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/"),
        ({"vertex_location": "global"}, {}, "https://aiplatform.googleapis.com/v1/projects/p/locations/global/"),
        ({"vertex_location": "eu"}, {}, "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/"),
        ({}, {"VERTEXAI_LOCATION": "asia-1"}, "https://asia-1-aiplatform.googleapis.com/v1/projects/p/locations/asia-1/"),
        ({"api_base": "http://127.0.0.1:1", "vertex_location": "l"}, {}, "http://127.0.0.1:1/v1/projects/p/locations/l/"),
        ({"api_base": "http://127.0.0.1:1/v1/", "vertex_location": "l"}, {}, "http://127.0.0.1:1/v1/projects/p/locations/l/"),
    ],
)
def test_addresses_of_vertex(params, environ, expected):
    """The host is that of the location, or the one that config.yaml names."""
    one, call = made("vertex_ai/claude-x@1", **params), CloudCall(Cloud.VERTEX, Action.STREAM)
    models = f"{expected}publishers/anthropic/models"
    assert vertex_address(call, one, environ, "p").url == f"{models}/claude-x@1:streamRawPredict"
    whole, count = (CloudCall(Cloud.VERTEX, action) for action in (Action.WHOLE, Action.COUNT))
    assert vertex_address(whole, one, environ, "p").url == f"{models}/claude-x@1:rawPredict"
    assert vertex_address(count, one, environ, "p").url == f"{models}/count-tokens:rawPredict"


def test_an_address_of_one_model():
    """An address with a path is the model's own, as for LiteLLM."""
    one = made("vertex_ai/claude-x", api_base="https://gateway.example/models/claude-x")
    found = vertex_address(CloudCall(Cloud.VERTEX, Action.STREAM), one, {}, "p")
    assert found.url == "https://gateway.example/models/claude-x:streamRawPredict"


def test_projects_and_credentials():
    """config.yaml has priority over the environment; without both, they are those of the credential."""
    params, environ = (
        {"vertex_project": "own", "vertex_credentials": "file"},
        {"VERTEXAI_PROJECT": "e", "VERTEXAI_CREDENTIALS": "f"},
    )
    assert vertex_project(params, environ) == "own"
    assert vertex_project({}, environ) == "e"
    assert vertex_project({}, {}) == ""
    assert vertex_credentials(params, environ) == "file"
    assert vertex_credentials({}, environ) == "f"
    assert vertex_credentials({}, {}) is None


def test_names_that_no_client_is_shown():
    """A role and a project are private; a short word would take other words with it."""
    assert private_names(made("vertex_ai/claude-x", vertex_project="my-project")) == ("my-project",)
    assert private_names(made("bedrock/anthropic.claude-x", aws_role_name="arn:aws:iam::1:role/r", aws_session_name="x")) == (
        "arn:aws:iam::1:role/r",
    )
