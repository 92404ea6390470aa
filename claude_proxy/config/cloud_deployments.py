"""Deployments of Claude on Bedrock and Vertex AI: the model's id at the cloud, and where the cloud is. Plain values, no I/O."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from claude_proxy.config.deployments import UNDERSTOOD, Deployment
from claude_proxy.providers.cloud_routes import LITELLM_PREFIXES, Action, Cloud, CloudCall

# Parameters that these requests follow, besides those that start like a cloud's own. Defaults for a body have no effect.
_PREFIXES = ("aws_", "vertex_")
_KNOWN = UNDERSTOOD | {"model_id", "chat_server"}
# Parts of LiteLLM's name of a model on Bedrock that select how LiteLLM sends a request.
_ROUTES = ("converse/", "invoke/")
# The vendor in an id of Bedrock. An ARN does not name one.
_VENDOR = "anthropic."
_ARN = "arn:"
# Where an id of Bedrock says where requests may be processed: us.anthropic.claude-x.
AREAS = ("us", "eu", "apac", "au", "jp", "ca", "sa", "me", "af", "global", "us-gov")
# A client chooses a part of the id if the deployment's name is a pattern, and the region becomes a part of the host.
_REGION = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]{1,16}){2,4}")
DEFAULT_REGION = "us-west-2"
REGION_VARIABLES = ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION")
LOCATION_VARIABLES = ("VERTEXAI_LOCATION", "VERTEX_LOCATION")
DEFAULT_LOCATION = "us-central1"
# Vertex AI's locations of several regions have hosts of their own.
_MULTI_REGIONS = ("us", "eu")
_ACTIONS = {Action.STREAM: "invoke-with-response-stream", Action.WHOLE: "invoke", Action.COUNT: "count-tokens"}
_VERBS = {Action.STREAM: "streamRawPredict", Action.WHOLE: "rawPredict"}


class Address(NamedTuple):
    """Where a request to a cloud goes; ``region`` is what AWS's signature names."""

    url: str
    region: str


def cloud_model(cloud: Cloud, one: Deployment) -> str:
    """Return the cloud's id of a deployment's model; empty if the deployment is not Claude on this cloud."""
    params = one.params or {}
    prefix = LITELLM_PREFIXES[cloud]
    model, named = str(params.get("model") or ""), params.get("custom_llm_provider")
    if named not in (None, prefix) or not (named == prefix or model.startswith(f"{prefix}/")):
        return ""
    name = model.removeprefix(f"{prefix}/")
    if cloud is Cloud.VERTEX:
        return name if name.startswith("claude") else ""
    for route in _ROUTES:
        name = name.removeprefix(route)
    if not name.startswith(_ARN):
        name = name.rpartition("/")[2]  # LiteLLM's name may have a region in front
    if arn := params.get("model_id"):
        name = str(arn)
    return name if name.startswith(_ARN) or _VENDOR in name else ""


def base_model(model: str) -> str:
    """Return an id of Bedrock without the area in front: anthropic.claude-x. Other ids are returned unchanged."""
    area, dot, rest = model.partition(".")
    return rest if dot and area in AREAS and rest.startswith(_VENDOR) else model


def is_meant(call: CloudCall, model: str) -> bool:
    """Whether the name in a path is this id of the cloud. Tokens are counted for the id without its area."""
    if not model:
        return False
    if call.cloud is Cloud.BEDROCK and call.action is Action.COUNT:
        return base_model(call.model) == base_model(model)
    return call.model == model


def bedrock_address(call: CloudCall, one: Deployment, environ: Mapping[str, str]) -> Address:
    """Return where a request for a deployment on Bedrock goes, by LiteLLM's parameters and AWS's variables."""
    params, model = one.params or {}, cloud_model(Cloud.BEDROCK, one)
    region = _region(params, model, environ)
    base = params.get("api_base") or params.get("aws_bedrock_runtime_endpoint") or environ.get("AWS_BEDROCK_RUNTIME_ENDPOINT")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    base = str(base or f"https://bedrock-runtime.{region}.{suffix}").rstrip("/")
    if call.action is Action.COUNT:
        model = base_model(model)
    return Address(f"{base}/model/{quote(model, safe='-_.~')}/{_ACTIONS[call.action]}", region)


def _region(params: Mapping[str, Any], model: str, environ: Mapping[str, str]) -> str:
    if named := params.get("aws_region_name"):
        return str(named)
    if model.startswith(_ARN) and (found := model.split(":", 4)[3:4]) and _REGION.fullmatch(found[0]):
        return found[0]
    name = str(params.get("model") or "").removeprefix("bedrock/")
    for route in _ROUTES:
        name = name.removeprefix(route)
    before = name.partition("/")[0] if "/" in name and not name.startswith(_ARN) else ""
    if _REGION.fullmatch(before):
        return before
    return next((value for name in REGION_VARIABLES if (value := environ.get(name, "").strip())), DEFAULT_REGION)


def vertex_address(call: CloudCall, one: Deployment, environ: Mapping[str, str], project: str) -> Address:
    """Return where a request for a deployment on Vertex AI goes; ``project`` is that of the credential or of config.yaml."""
    params, model = one.params or {}, cloud_model(Cloud.VERTEX, one)
    place = params.get("vertex_location") or params.get("vertex_ai_location")
    location = str(place or next((value for name in LOCATION_VARIABLES if (value := environ.get(name))), DEFAULT_LOCATION))
    host = f"{location}-aiplatform.googleapis.com"
    if location == "global":
        host = "aiplatform.googleapis.com"
    elif location in _MULTI_REGIONS:
        host = f"aiplatform.{location}.rep.googleapis.com"
    base = str(params.get("api_base") or f"https://{host}").rstrip("/")
    counts = call.action is Action.COUNT
    verb = "rawPredict" if counts else _VERBS[call.action]
    if urlsplit(base).path not in ("", "/v1"):  # LiteLLM takes such an address for that of the model itself
        return Address(f"{base}:{verb}", "")
    at = f"{quote(project, safe=':.-_')}/locations/{quote(location, safe='-')}"
    named = "count-tokens" if counts else quote(model, safe="-_.~@")
    return Address(f"{base.removesuffix('/v1')}/v1/projects/{at}/publishers/anthropic/models/{named}:{verb}", "")


def vertex_project(params: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return the project that config.yaml or the environment names; empty for that of the credential."""
    return str(params.get("vertex_project") or params.get("vertex_ai_project") or environ.get("VERTEXAI_PROJECT") or "")


def vertex_credentials(params: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    """Return a service account's file, its JSON, or the parsed JSON; None for the credentials of the environment."""
    named = params.get("vertex_credentials") or params.get("vertex_ai_credentials")
    return named or environ.get("VERTEXAI_CREDENTIALS") or None


def unknown_parameters(one: Deployment) -> tuple[str, ...]:
    """Return the parameters of a deployment that only LiteLLM applies, such as a guardrail or a limit of its router."""
    params = one.params or {}
    named = (name for name, value in params.items() if value is not None and value is not False)
    return tuple(sorted(name for name in named if name not in _KNOWN and not name.startswith(_PREFIXES)))


def private_names(one: Deployment) -> tuple[str, ...]:
    """Return the names in a deployment that no client is shown."""
    params = one.params or {}
    names = ("vertex_project", "vertex_ai_project", "aws_role_name", "aws_session_name", "aws_profile_name", "model_id")
    return tuple(str(params[name]) for name in names if len(str(params.get(name) or "")) > 3)
