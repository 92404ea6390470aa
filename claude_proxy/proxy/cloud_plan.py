"""Which model of config.yaml a client of a cloud means, and its deployments on that cloud. Plain values, no I/O."""

from collections.abc import Iterator
from typing import Any

from claude_proxy.anthropic.errors import MODEL_NOT_READY, UNKNOWN_MODEL, Refused
from claude_proxy.config.cloud_deployments import base_model, cloud_model, is_meant, unknown_parameters
from claude_proxy.config.models import ActiveConfig, model_names
from claude_proxy.providers.cloud_routes import Action, Cloud, CloudCall
from claude_proxy.providers.model_names import served_name
from claude_proxy.proxy.plan import Target


def cloud_target(call: CloudCall, config: ActiveConfig, user: str) -> Target | None:
    """Return the model that a request means; None for one that config.yaml does not have on this cloud.

    A name in config.yaml has priority over the cloud's id of a model. If several models have deployments with the id, the first
    one that the user may use is meant.
    """
    found = [*_candidates(call, config)]
    return next((one for one in found if config.limits.allows(user, one.name)), found[0] if found else None)


def check_ready(call: CloudCall, target: Target | None, config: ActiveConfig) -> Target:
    """Return the target with the deployments that can be used; raise ``Refused`` for an unknown model, and for one without any.

    A deployment with a parameter that only LiteLLM applies is not used: the parameter may be a guardrail.
    """
    if target is None:
        words = f"model: {call.model} is not a model of this proxy on {call.cloud.value}"
        raise Refused(404, words, reason=UNKNOWN_MODEL)
    if missing := config.missing(target.name):
        words = f"{target.name} is not ready: set {' and '.join(missing)} on the proxy (.env) and restart it."
        raise Refused(400, words, reason=MODEL_NOT_READY)
    usable = tuple(one for one in target.deployments if not unknown_parameters(one))
    if not usable:
        names = ", ".join(unknown_parameters(target.deployments[0]))
        words = f"{target.name} has {names} in config.yaml, which only LiteLLM applies; use /v1/messages for this model."
        raise Refused(400, words, reason=MODEL_NOT_READY)
    return target._replace(deployments=usable)


def profiles(config: ActiveConfig, user: str) -> dict[str, Any]:
    """Return the user's models on Bedrock as AWS lists its inference profiles, so that Claude Code chooses among them."""
    names = [name for name in model_names(config.loaded) if "*" not in name and config.limits.allows(user, name)]
    ids = {cloud_model(Cloud.BEDROCK, one): None for name in names for one in config.deployments(name)}
    return {"inferenceProfileSummaries": [_profile(one) for one in ids if _is_plain(one)]}


def profile(config: ActiveConfig, user: str, name: str) -> dict[str, Any]:
    """Return one of these, by a name in config.yaml or the cloud's id. Raises ``Refused``.

    Claude Code counts tokens for the model behind a profile. The model behind an ARN is not known here.
    """
    call = CloudCall(Cloud.BEDROCK, Action.WHOLE, name)
    target = cloud_target(call, config, user)
    found = cloud_model(Cloud.BEDROCK, target.deployments[0]) if target else ""
    if target is None or not _is_plain(found) or not config.limits.allows(user, target.name):
        raise Refused(404, f"{name} is not an inference profile of this proxy")
    return _profile(found)


def _is_plain(model: str) -> bool:
    return bool(model) and not model.startswith("arn:")


def _profile(model: str) -> dict[str, Any]:
    return {
        "inferenceProfileId": model,
        "inferenceProfileName": model,
        "inferenceProfileArn": f"arn:aws:bedrock:::inference-profile/{model}",
        "models": [{"modelArn": f"arn:aws:bedrock:::foundation-model/{base_model(model)}"}],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    }


def _candidates(call: CloudCall, config: ActiveConfig) -> Iterator[Target]:
    own = served_name(call.model)
    if found := tuple(one for one in config.deployments(own) if cloud_model(call.cloud, one)):
        yield Target(own, found)
    for name in model_names(config.loaded):
        if "*" in name or name == own:
            continue
        if found := tuple(one for one in config.deployments(name) if is_meant(call, cloud_model(call.cloud, one))):
            yield Target(name, found)
