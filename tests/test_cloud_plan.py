"""proxy/cloud_plan.py: which model of config.yaml a client of a cloud means."""

import pytest

from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.models import ActiveConfig
from claude_proxy.providers.cloud_routes import Action, Cloud, CloudCall
from claude_proxy.proxy.cloud_plan import check_ready, cloud_target, profile, profiles

ID = "us.anthropic.claude-x"
BEDROCK, VERTEX = {"model": f"bedrock/{ID}"}, {"model": "vertex_ai/claude-x"}
CLAUDE = {"model": "anthropic/claude-x"}
ENTRIES = [
    ("fast", [BEDROCK]), ("mixed", [CLAUDE, BEDROCK, VERTEX]), ("plain", [CLAUDE]),
    ("guarded", [{"model": "bedrock/us.anthropic.claude-g", "guardrailConfig": {"guardrailIdentifier": "g"}}]),
    ("half", [{"model": "bedrock/us.anthropic.claude-h", "rpm": 3}, {"model": "bedrock/us.anthropic.claude-h"}]),
    ("unready", [{"model": "bedrock/us.anthropic.claude-y", "aws_secret_access_key": "os.environ/NEVER_SET"}]),
]  # fmt: skip


def config(users=None):
    loaded = {"model_list": [{"model_name": name, "litellm_params": one} for name, every in ENTRIES for one in every]}
    if users:
        loaded["claude_proxy"] = {"users": users}
    models = dict(ENTRIES)

    def lookup(name):
        every = models.get(name, ())
        return [{key: "" if str(value).startswith("os.environ/") else value for key, value in one.items()} for one in every]

    return ActiveConfig(loaded, {}, lookup=lookup)


def target(name, *, cloud=Cloud.BEDROCK, user="anna", users=None):
    return cloud_target(CloudCall(cloud, Action.STREAM, name), config(users), user)


def test_a_name_of_config():
    """A name in config.yaml means its deployments on that cloud, and no others."""
    assert [one.served for one in target("mixed").deployments] == [f"bedrock/{ID}"]
    assert [one.served for one in target("mixed", cloud=Cloud.VERTEX).deployments] == ["vertex_ai/claude-x"]
    assert target("claude-proxy/mixed").name == "mixed"


def test_an_id_of_the_cloud():
    """An id means the first model with a deployment of it that the user may use."""
    assert target(ID).name == "fast"
    assert target(ID, users={"anna": {"models": ["mixed"]}}).name == "mixed"
    assert target(ID, users={"anna": {"models": ["plain"]}}).name == "fast"
    assert target("claude-x", cloud=Cloud.VERTEX).name == "mixed"


@pytest.mark.parametrize("name", ["plain", "eu.anthropic.claude-x", "claude-x", "../fast", "FAST", "", "us.anthropic.*"])
def test_names_of_no_model(name):
    """Nothing else means a model: not another area, and not a model that is elsewhere."""
    assert target(name) is None


def test_a_model_that_is_not_there():
    """The error names the model and the cloud, or the variable that is missing."""
    call = CloudCall(Cloud.BEDROCK, Action.STREAM, "nobody")
    with pytest.raises(Refused, match="nobody is not a model of this proxy on Bedrock") as refused:
        check_ready(call, None, config())
    assert refused.value.status == 404
    with pytest.raises(Refused, match="NEVER_SET") as refused:
        check_ready(call, target("unready"), config())
    assert refused.value.status == 400


def test_what_only_litellm_applies():
    """A deployment with a guardrail or a limit of LiteLLM's router is not used, because neither would apply."""
    call = CloudCall(Cloud.BEDROCK, Action.STREAM, "guarded")
    with pytest.raises(Refused, match="guarded has guardrailConfig in "):
        check_ready(call, target("guarded"), config())
    assert len(target("half").deployments) == 2
    assert len(check_ready(call, target("half"), config()).deployments) == 1


def test_profiles():
    """A user's models on Bedrock are listed as inference profiles, each with the model behind it; ARNs are not."""
    found = profiles(config({"anna": {"models": ["fast"]}}), "anna")["inferenceProfileSummaries"]
    assert [one["inferenceProfileId"] for one in found] == [ID]
    assert found[0]["models"][0]["modelArn"].endswith("/anthropic.claude-x")
    assert {one["inferenceProfileId"] for one in profiles(config(), "anna")["inferenceProfileSummaries"]} >= {ID}
    assert profile(config(), "anna", "fast") == profile(config(), "anna", ID) == found[0]
    for name, users in (("nobody", None), ("plain", None), ("fast", {"anna": {"models": ["plain"]}})):
        with pytest.raises(Refused, match="is not an inference profile"):
            profile(config(users), "anna", name)
