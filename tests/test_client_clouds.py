"""check/client_clouds.py: a settings.json with which Claude Code speaks to the proxy as to a cloud."""

import pytest

from claude_proxy.check.client_clouds import client_clouds, is_client_of_cloud
from claude_proxy.check.client_file import ClientFile

BEDROCK = {
    "CLAUDE_CODE_USE_BEDROCK": "1", "CLAUDE_CODE_SKIP_BEDROCK_AUTH": "1",
    "ANTHROPIC_BEDROCK_BASE_URL": "http://proxy.example/bedrock",
}  # fmt: skip
VERTEX = {
    "CLAUDE_CODE_USE_VERTEX": "true", "CLAUDE_CODE_SKIP_VERTEX_AUTH": "true",
    "ANTHROPIC_VERTEX_BASE_URL": "https://proxy.example/anthropic/vertex_ai/v1/",
}  # fmt: skip
BEARER = {
    "CLAUDE_CODE_USE_BEDROCK": "1", "AWS_BEARER_TOKEN_BEDROCK": "token",
    "ANTHROPIC_BEDROCK_BASE_URL": "http://proxy.example/bedrock/",
}  # fmt: skip


@pytest.mark.parametrize("values", [BEDROCK, VERTEX, BEARER])
def test_right_files(values):
    """The blocks of docs/clouds.md have no finding."""
    assert is_client_of_cloud(ClientFile(values=values))
    assert list(client_clouds(ClientFile(values=values))) == []


@pytest.mark.parametrize(
    ("values", "problem", "remedy"),
    [
        (
            {"CLAUDE_CODE_USE_BEDROCK": "1"},
            "sends the requests to a cloud and not to the proxy",
            "remove it, or add ANTHROPIC_BEDROCK_BASE_URL: http://your-server:4000/bedrock",
        ),
        ({"CLAUDE_CODE_USE_FOUNDRY": "1"}, "sends the requests to a cloud and not to the proxy", "remove it"),
        (
            VERTEX | {"ANTHROPIC_VERTEX_BASE_URL": "https://proxy.example/vertex_ai"},
            "should end with /vertex_ai/v1",
            "write https://proxy.example/vertex_ai/v1",
        ),
        (
            BEDROCK | {"ANTHROPIC_BEDROCK_BASE_URL": "http://[proxy"},
            "should end with /bedrock",
            "write http://your-server:4000/bedrock",
        ),
        (
            BEDROCK | {"CLAUDE_CODE_SKIP_BEDROCK_AUTH": "0"},
            "needs CLAUDE_CODE_SKIP_BEDROCK_AUTH beside it",
            'add "CLAUDE_CODE_SKIP_BEDROCK_AUTH": "1"',
        ),
    ],
)
def test_mistakes(values, problem, remedy):
    """What a user forgets beside a cloud's switch is an error with its remedy."""
    (found,) = client_clouds(ClientFile(values=values))
    assert problem in found.problem
    assert found.remedy == remedy


@pytest.mark.parametrize(
    "values", [{}, {"CLAUDE_CODE_USE_BEDROCK": "0"}, {"ANTHROPIC_BEDROCK_BASE_URL": "http://proxy.example"}]
)
def test_other_files(values):
    """A file without a switch, or with one that is off, has nothing to do with a cloud."""
    assert not is_client_of_cloud(ClientFile(values=values))
    assert list(client_clouds(ClientFile(values=values))) == []
