"""The paths by which a client of Bedrock or Vertex AI reaches Claude, as the clouds document them. Plain values, no I/O.

No other path of either cloud is served.
"""

import re
from enum import Enum
from typing import NamedTuple

from claude_proxy.providers.model_names import is_name


class Cloud(Enum):
    """A cloud that offers Claude, by its name in messages."""

    BEDROCK = "Bedrock"
    VERTEX = "Vertex AI"


class Action(Enum):
    """What a request asks of a model: a stream, a whole message, or the number of its tokens."""

    STREAM = "stream"
    WHOLE = "whole"
    COUNT = "count"


class CloudCall(NamedTuple):
    """One request to a cloud. ``model`` is the name in the path; empty if the body has it."""

    cloud: Cloud
    action: Action
    model: str = ""


# The first part of each path, and LiteLLM's prefix of the cloud's models.
PREFIXES = {"/bedrock": Cloud.BEDROCK, "/vertex_ai": Cloud.VERTEX}
LITELLM_PREFIXES = {Cloud.BEDROCK: "bedrock", Cloud.VERTEX: "vertex_ai"}
_BEDROCK_MODEL = "/bedrock/model/"
# The model's name may be an ARN, whose encoded slash the server has decoded.
_BEDROCK_ACTIONS = {
    "/invoke-with-response-stream": Action.STREAM,
    "/invoke": Action.WHOLE,
    "/count-tokens": Action.COUNT,
}
# Claude Code reads which profiles there are, and which model is behind one, to choose its models and to count tokens.
_PROFILES = "/bedrock/inference-profiles"
# The project and the location are the client's; those of config.yaml apply.
_VERTEX = re.compile(
    r"/vertex_ai/v1/projects/[^/]{1,128}/locations/[^/]{1,64}/publishers/anthropic/models/"
    r"(?P<model>[^/:]{1,256}):(?P<verb>streamRawPredict|rawPredict)"
)
_VERTEX_ACTIONS = {"streamRawPredict": Action.STREAM, "rawPredict": Action.WHOLE}
_VERTEX_COUNT = "count-tokens"


def cloud_of(route: str) -> Cloud | None:
    """Return the cloud whose client sends a request to this route; None for any other route."""
    first = "/".join(route.split("/", 2)[:2])
    return PREFIXES.get(first)


def call_of(method: str, route: str) -> CloudCall | None:
    """Return what a request asks for, by its method and decoded path; None for a path that is not served."""
    if method != "POST":
        return None
    if route.startswith(_BEDROCK_MODEL):
        rest = route.removeprefix(_BEDROCK_MODEL)
        for end, action in _BEDROCK_ACTIONS.items():
            name = rest.removesuffix(end)
            if name != rest:
                return CloudCall(Cloud.BEDROCK, action, name) if name and is_name(name) else None
        return None
    found = _VERTEX.fullmatch(route)
    if found is None or not is_name(found["model"]):
        return None
    if found["model"] == _VERTEX_COUNT:
        return CloudCall(Cloud.VERTEX, Action.COUNT) if found["verb"] == "rawPredict" else None
    return CloudCall(Cloud.VERTEX, _VERTEX_ACTIONS[found["verb"]], found["model"])


def profile_of(method: str, route: str) -> str | None:
    """Return the id of the inference profile of Bedrock that is read; empty for the list of all; None for another route."""
    if method != "GET" or not (route == _PROFILES or route.startswith(f"{_PROFILES}/")):
        return None
    name = route.removeprefix(_PROFILES).removeprefix("/")
    return name if is_name(name) else None
