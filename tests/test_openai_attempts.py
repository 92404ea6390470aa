"""litellm/openai_attempts.py: what LiteLLM gets for one attempt, by deployment and kind of call."""

from types import SimpleNamespace

import pytest
from lanes import Received
from litellm.types.utils import CallTypes

from claude_proxy.config.deployments import deployment
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.litellm.chat_endpoints import chat_endpoint
from claude_proxy.litellm.lane_client import AttemptRefused
from claude_proxy.litellm.lane_pipe import PipeClient
from claude_proxy.litellm.openai_attempts import PLACEHOLDER_KEY, prepared
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.proxy.entrance import Entrance

APP = SimpleNamespace(serving=None, redactor=Redactor([]))
CHAT, RESPONSES, EMBEDDING = CallTypes.acompletion, CallTypes.aresponses, CallTypes.aembedding
CLAUDE = {"model": "anthropic/claude-sonnet-5-5"}
GLM = {"model": "anthropic/glm-5", "api_base": "https://glm.example.org", "api_key": "made-up-glm"}
VLLM = {"model": "openai/m", "api_base": "https://vllm.example.org/v1"}
OPENAI = {"model": "openai/gpt-made-up", "api_base": "https://api.openai.com/v1", "api_key": "made-up-openai"}
GEMINI = {"model": "gemini/gemini-3.1-pro", "api_key": "made-up-gemini"}


def attempt(params, call_type):
    """Prepare an attempt; return LiteLLM's arguments and the journal."""
    received = Received()
    entrance = Entrance(received.request, received.outlet, received.journal, is_openai=True)
    one = deployment(params, Hosts(), endpoint_lookup=chat_endpoint, chosen_by_litellm=True)
    return prepared(dict(params), call_type, one, entrance, APP, model="name"), entrance


@pytest.mark.parametrize("params", [CLAUDE, GLM])
def test_a_model_of_messages_is_asked_by_its_lane(params):
    """LiteLLM gets a client that makes the attempt on the lane, and no key."""
    found, entrance = attempt(params, CHAT)
    assert isinstance(found["client"], PipeClient)
    assert found["api_key"] == PLACEHOLDER_KEY
    assert entrance.journal.attempts == 0  # the lane begins it


@pytest.mark.parametrize("params", [CLAUDE, GLM, VLLM, GEMINI])
def test_a_response_is_made_of_a_chat_completion(params):
    """Everywhere but at OpenAI itself LiteLLM makes a response of a chat completion, for which it calls the hook again."""
    found, entrance = attempt(params, RESPONSES)
    assert found == params | {"use_chat_completions_api": True}
    assert entrance.journal.attempts == 0


def test_openai_itself_has_responses():
    """OpenAI's own API is asked for a response, which it does not store."""
    found, entrance = attempt(OPENAI, RESPONSES)
    assert (found["store"], found["max_retries"], "use_chat_completions_api" in found) == (False, 0, False)
    assert (entrance.journal.attempts, entrance.journal.served) == (1, "openai/gpt-made-up")


def test_the_key_of_openai_is_for_openai(monkeypatch):
    """A server without a key of its own does not get OpenAI's from the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "made-up-key-of-openai")
    found, _ = attempt(VLLM, CHAT)
    assert found["api_key"] != "made-up-key-of-openai"
    assert found["api_key"]


@pytest.mark.parametrize("params", [VLLM, GLM, GEMINI])
@pytest.mark.parametrize("call_type", [CHAT, EMBEDDING])
def test_no_claude_credential_leaves_for_another_provider(params, call_type):
    """A Claude credential as the key of another provider's model is not sent."""
    with pytest.raises(AttemptRefused, match="never sent"):
        attempt(params | {"api_key": "sk-ant-api03-made-up"}, call_type)


@pytest.mark.parametrize("params", [CLAUDE, GLM])
def test_messages_have_no_embeddings(params):
    """A model of messages makes no embeddings, in words."""
    with pytest.raises(AttemptRefused, match="makes no embeddings"):
        attempt(params, EMBEDDING)


def test_other_providers_are_litellms():
    """An attempt of LiteLLM's own begins in the journal, with the retries of the router alone."""
    found, entrance = attempt(GEMINI, CHAT)
    assert found == GEMINI | {"max_retries": 0, "drop_params": True}
    assert (entrance.journal.served, entrance.journal.model) == ("gemini/gemini-3.1-pro", "name")
