"""providers/cloud_routes.py: which paths of a cloud are served."""

import pytest

from claude_proxy.providers.cloud_routes import Action, Cloud, CloudCall, call_of, cloud_of, profile_of

ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"
VERTEX = "/vertex_ai/v1/projects/p/locations/us-east5/publishers/anthropic/models"


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (
            "/bedrock/model/us.anthropic.claude-x-v1:0/invoke-with-response-stream",
            CloudCall(Cloud.BEDROCK, Action.STREAM, "us.anthropic.claude-x-v1:0"),
        ),
        ("/bedrock/model/claude/invoke", CloudCall(Cloud.BEDROCK, Action.WHOLE, "claude")),
        ("/bedrock/model/anthropic.claude-x/count-tokens", CloudCall(Cloud.BEDROCK, Action.COUNT, "anthropic.claude-x")),
        (f"/bedrock/model/{ARN}/invoke", CloudCall(Cloud.BEDROCK, Action.WHOLE, ARN)),
        (f"{VERTEX}/claude-x@20250101:streamRawPredict", CloudCall(Cloud.VERTEX, Action.STREAM, "claude-x@20250101")),
        (f"{VERTEX}/claude-x:rawPredict", CloudCall(Cloud.VERTEX, Action.WHOLE, "claude-x")),
        (f"{VERTEX}/count-tokens:rawPredict", CloudCall(Cloud.VERTEX, Action.COUNT, "")),
    ],
)
def test_paths_that_reach_claude(route, expected):
    """A stream, a whole message and a count of tokens are served on each cloud, for POST alone."""
    assert call_of("POST", route) == expected
    assert cloud_of(route) is expected.cloud
    assert call_of("GET", route) is None


@pytest.mark.parametrize(
    "route",
    [
        "/bedrock",
        "/bedrock/",
        "/bedrock/model/invoke",
        "/bedrock/model//invoke",
        "/bedrock/model/x/converse",
        "/bedrock/model/x/invoke-with-bidirectional-stream",
        "/bedrock/inference-profiles",
        "/bedrock/inference-profiles/x",
        "/bedrock/knowledgebases/x/retrieve",
        f"/bedrock/model/{'x' * 300}/invoke",
        "/bedrock/model/x\n/invoke",
        "/bedrock/model/x\0/invoke",
        "/vertex_ai/v1/projects/p/locations/l/publishers/google/models/gemini-x:streamGenerateContent",
        "/vertex_ai/v1/projects/p/locations/l/publishers/google/models/gemini-x:rawPredict",
        "/vertex_ai/v1beta1/projects/p/locations/l/publishers/anthropic/models/claude-x:rawPredict",
        f"{VERTEX}/claude-x:predict",
        f"{VERTEX}/a/b:rawPredict",
        f"{VERTEX}/:rawPredict",
        f"{VERTEX}/count-tokens:streamRawPredict",
        f"{VERTEX}/{'x' * 300}:rawPredict",
        f"{VERTEX}/claude-x:rawPredict/",
        "/vertex_ai/v1/projects/../../locations/l/publishers/anthropic/models/x:rawPredict",
        "/vertex_ai/v1/projects/p/q/locations/l/publishers/anthropic/models/x:rawPredict",
    ],
)  # fmt: skip
def test_other_paths_of_a_cloud(route):
    """No other path of a cloud is served, and each still belongs to the cloud's routes."""
    assert call_of("POST", route) is None
    assert cloud_of(route) is not None


@pytest.mark.parametrize("route", ["/", "/v1/messages", "/bedrockx/model/x/invoke", "/vertex_aix", "//bedrock", "*", ""])
def test_routes_of_no_cloud(route):
    """A route whose first part only starts like a cloud's is not the cloud's."""
    assert cloud_of(route) is None


def test_inference_profiles():
    """The list of inference profiles and a single one are read with GET."""
    assert profile_of("GET", "/bedrock/inference-profiles") == ""
    assert profile_of("GET", f"/bedrock/inference-profiles/{ARN}") == ARN
    for method, route in (
        ("POST", "/bedrock/inference-profiles"),
        ("GET", "/bedrock/inference-profilesx"),
        ("GET", "/bedrock/guardrails"),
        ("GET", f"/bedrock/inference-profiles/{'x' * 300}"),
    ):
        assert profile_of(method, route) is None
