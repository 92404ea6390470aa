"""A batch of Messages requests: what is checked before it is sent, and what it may cost at most. No I/O."""

import asyncio
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.anthropic.errors import MODEL_NOT_ALLOWED, Refused
from claude_proxy.anthropic.file_references import files_named_by
from claude_proxy.anthropic.messages import is_deeper_than, parsed_object, to_json
from claude_proxy.anthropic.request_view import MAX_DEPTH
from claude_proxy.anthropic.token_estimate import FRAME_TOKENS, texts_of
from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.model_access import Limits
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.users import folded
from claude_proxy.providers.model_names import is_name, served_name
from claude_proxy.proxy.plan import plan
from claude_proxy.proxy.rotation import TAGS

BATCH = "batch"
MAX_REQUESTS, MAX_MODELS = 100_000, 20
SUMMED_AT_ONCE = 1000
# Fewer bytes are no token, in any script: about four bytes are one in English, three in Chinese.
BYTES_PER_TOKEN = 3
# The largest image that Claude does not scale down.
IMAGE_TOKENS = 5_000
# Web searches of a tool without `max_uses`.
SEARCHES = 20
# Content whose size the request does not show, in JSON that the proxy has written: there, a text escapes its quotes.
_UNKNOWN_SIZE = re.compile(rb'"type":"(?:document|file|url|container_upload|search_result)"')
_CACHED, _CACHED_FOR_AN_HOUR = b'"cache_control":', b'"ttl":"1h"'
# Types of tools that the client itself executes.
OF_CLIENT = ("custom", "bash_", "text_editor_", "computer_", "memory_")


@dataclass
class Batch:
    """A batch that may be sent."""

    # The body, with the model names that Anthropic knows.
    body: bytes
    count: int
    # The names in config.yaml by the names that are sent: each with LiteLLM's name of provider and model.
    models: Mapping[str, tuple[str, str]]
    files: frozenset[str]
    # What the requests may use at most, each with its name in config.yaml and LiteLLM's name.
    most: list[tuple[str, str, Usage]] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """The names of the models in config.yaml."""
        return {name for name, _ in self.models.values()}


def parsed_batch(raw: bytes) -> dict[str, Any]:
    """Return the body of a batch in which each request names a model; raise ``Refused`` with the place of what is wrong."""
    body = parsed_object(raw)
    requests = body.get("requests")
    if not isinstance(requests, list) or not 0 < len(requests) <= MAX_REQUESTS:
        raise Refused(400, f"requests: Input should be a list of 1 to {MAX_REQUESTS} requests")
    for place, entry in enumerate(requests):
        params = entry.get("params") if isinstance(entry, dict) else None
        model = params.get("model") if isinstance(params, dict) else None
        if not isinstance(model, str) or not model or not is_name(model):
            raise Refused(400, f"requests.{place}.params.model: Field required: the name of a model")
    if is_deeper_than(body, MAX_DEPTH):
        raise Refused(400, f"The body has more than {MAX_DEPTH} nested lists and objects.")
    return body


def deployments_of(body: Mapping[str, Any], config: ActiveConfig) -> dict[str, Deployment]:
    """Return the deployments of the models in a parsed batch, by their names in config.yaml.

    Raises ``Refused`` for a model that is not served by Anthropic.
    """
    found: dict[str, Deployment] = {}
    for place, entry in enumerate(body["requests"]):
        name = served_name(entry["params"]["model"])
        if name not in found:
            where = f"requests.{place}.params.model"
            if len(found) >= MAX_MODELS:
                raise Refused(400, f"{where}: a batch may name at most {MAX_MODELS} models")
            found[name] = _deployment(name, config, where)
    return found


def checked_batch(
    body: dict[str, Any], user: str, deployments: Mapping[str, Deployment], limits: Limits, windows: Mapping[str, int]
) -> Batch:
    """Return a user's batch, whose parsed body it changes; raise ``Refused`` for a model that the user may not use.

    ``windows`` has the context window of each model, in tokens.
    """
    models: dict[str, tuple[str, str]] = {}
    files: set[str] = set()
    most = []
    for place, entry in enumerate(body["requests"]):
        params = entry["params"]
        name = served_name(params["model"])
        _check_access(limits, user, name, params, f"requests.{place}.params")
        one = deployments[name]
        params["model"] = one.model
        params.pop(TAGS, None)
        models.setdefault(one.model, (name, one.served))
        files |= files_named_by(params)
        most.append((name, one.served, most_of(params, windows[name])))
    return Batch(to_json(body), len(most), models, frozenset(files), most)


def _deployment(name: str, config: ActiveConfig, where: str) -> Deployment:
    try:
        found = plan(name, config).first.deployments
    except Refused as refused:
        raise Refused(400, f"{where}: {refused}", reason=refused.reason) from None
    one = next((one for one in found if one.lane is Lane.CLAUDE), None)
    if one is None:
        raise Refused(400, f"{where}: {name} is not Claude at Anthropic, and batches are for Claude models only")
    return one


def _check_access(limits: Limits, user: str, name: str, params: Mapping[str, Any], where: str) -> None:
    """Raise ``Refused`` if the user may not use the model, or a model that the request configures for Claude."""
    if folded(user) in limits.patterns and (forbidden := limits.forbidden(user, name, to_json(params))):
        raise Refused(400, f"{where}: {limits.refusal(user, forbidden)}", reason=MODEL_NOT_ALLOWED)


def most_of(params: Mapping[str, Any], window: int) -> Usage:
    """Return the tokens that one request may use at most, at the rates of batches.

    A request with a document, a file, an address or a tool of Anthropic's server has an input of unknown size: the window.
    """
    written = to_json(params)
    hosted = [tool for tool in _objects(params.get("tools")) if _is_hosted(tool)]
    texts, images = texts_of([params.get("system"), params.get("messages"), written_tools(params)])
    taken = len("\n".join(texts).encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN
    taken += FRAME_TOKENS * len(texts) + IMAGE_TOKENS * images
    if hosted or params.get("mcp_servers") or _UNKNOWN_SIZE.search(written):
        taken = window
    taken = min(max(1, taken), window)
    made, speed, region = params.get("max_tokens"), params.get("speed"), params.get("inference_geo")
    cached = taken if _CACHED in written else 0
    return Usage(
        input=taken - cached,
        output=min(made, window) if type(made) is int and made > 0 else 0,
        cache_write=cached,
        cache_write_1h=cached if _CACHED_FOR_AN_HOUR in written else 0,
        web_searches=sum(_searches(tool) for tool in hosted),
        service_tier=BATCH,
        speed=speed if isinstance(speed, str) else "",
        region=region if isinstance(region, str) else "",
    )


def written_tools(params: Mapping[str, Any]) -> list[str]:
    """Return the descriptions of the tools as texts."""
    return [json.dumps(tool, ensure_ascii=False) for tool in _objects(params.get("tools"))]


def _objects(value: Any) -> Collection[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else ()


def _is_hosted(tool: Mapping[str, Any]) -> bool:
    """Whether Anthropic's server executes a tool, and so adds to the input by itself."""
    kind = tool.get("type")
    return isinstance(kind, str) and not kind.startswith(OF_CLIENT)


def _searches(tool: Mapping[str, Any]) -> int:
    if not str(tool.get("type")).startswith("web_search"):
        return 0
    uses = tool.get("max_uses")
    return uses if type(uses) is int and uses > 0 else SEARCHES


async def total(most: Iterable[tuple[str, str, Usage]], cost: Callable[[str, str, Usage], int | None]) -> int:
    """Return what a batch costs, in micro-USD; a model without a known price costs nothing.

    Other requests are served in between.
    """
    found = 0
    for number, (name, served, usage) in enumerate(most, start=1):
        found += cost(name, served, usage) or 0
        if number % SUMMED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return found
