"""Attempts of LiteLLM for clients with OpenAI's API: which are made on a lane, and what LiteLLM gets for its own.

Depends on LiteLLM's shapes (1.106.2), like ``litellm/callback.py``; ``tests/test_contract.py`` guards it.
"""

from collections.abc import Mapping
from typing import Any

from litellm.types.utils import CallTypes

from claude_proxy.anthropic.errors import own_refusal
from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.litellm.chat_endpoints import NO_KEY, has_responses_alone
from claude_proxy.litellm.lane_client import AttemptRefused
from claude_proxy.litellm.lane_pipe import PipeClient
from claude_proxy.providers.endpoints import is_openai_itself
from claude_proxy.proxy.entrance import Entrance
from claude_proxy.proxy.outcome import failed
from claude_proxy.server.application import App

# LiteLLM calls Anthropic only with a key; the lane sets the real credential on the request.
PLACEHOLDER_KEY = "set-by-claude-proxy"
# Lanes of the Messages format, into which LiteLLM translates a chat completion.
OF_MESSAGES = (Lane.CLAUDE, Lane.MESSAGES, Lane.DEMO)
# LiteLLM's router makes the retries that config.yaml asks for, and drops what a provider does not accept.
OF_EVERY_ATTEMPT = {"max_retries": 0, "drop_params": True}


def prepared(
    kwargs: dict[str, Any], call_type: CallTypes | None, one: Deployment, entrance: Entrance, app: App, *, model: str
) -> dict[str, Any]:
    """Return LiteLLM's arguments for one attempt at a deployment of ``model``. Raises ``AttemptRefused``.

    1. A model with the Messages format, so also Claude, is asked by its lane, with a chat completion that LiteLLM translates.
    2. A response of the Responses API is requested at OpenAI itself and at Azure; anywhere else LiteLLM makes it of a chat
       completion, and calls the hook again for that.
    3. No Claude credential goes to another provider, and OpenAI's key to no other server than OpenAI's.
    """
    if one.lane is not Lane.CLAUDE and is_claude_credential(str(kwargs.get("api_key") or "")):
        _refuse(entrance, 400, "A Claude credential is never sent to a provider other than Anthropic.")
    if call_type is CallTypes.aresponses and not _has_responses(one, kwargs):
        return kwargs | {"use_chat_completions_api": True}
    if one.lane in OF_MESSAGES:
        if call_type is not CallTypes.acompletion:
            _refuse(entrance, 400, f"model: {entrance.request.name} makes no embeddings.")
        client = PipeClient(app.serving, entrance, one, app.redactor, model=model)
        return kwargs | OF_EVERY_ATTEMPT | {"api_key": PLACEHOLDER_KEY, "client": client}
    if call_type is CallTypes.acompletion and _becomes_response(one, kwargs):
        return kwargs  # LiteLLM calls the hook again for the response
    entrance.journal.begin(one.provider, one.served, model, Lane.LITELLM)
    entrance.row = one.row
    entrance.native_end = None
    entrance.leave_lanes()
    own: dict[str, Any] = {"store": False} if call_type is CallTypes.aresponses else {}
    if one.lane is Lane.CHAT:
        own["api_key"] = one.api_key.reveal() if one.api_key else NO_KEY
    return kwargs | OF_EVERY_ATTEMPT | own


def _has_responses(one: Deployment, kwargs: Mapping[str, Any]) -> bool:
    """Whether the Responses API itself is asked."""
    name, _, model = one.served.partition("/")
    return (name == "openai" and is_openai_itself(kwargs.get("api_base") or one.api_base)) or (
        name == "azure" and (has_responses_alone(model) or has_responses_alone(one.served))
    )


def _becomes_response(one: Deployment, kwargs: Mapping[str, Any]) -> bool:
    """Whether LiteLLM makes a chat completion of a response, because the model has nothing else."""
    _, _, model = one.served.partition("/")
    return _has_responses(one, kwargs) and (has_responses_alone(model) or model.startswith("responses/"))


def _refuse(entrance: Entrance, status: int, words: str) -> None:
    """Record why an attempt is not made, so that a fallback may respond, and raise ``AttemptRefused``."""
    entrance.record(failed(status, own_refusal(status, words)))
    raise AttemptRefused(words)
