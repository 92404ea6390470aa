"""LiteLLM's administration: which of its routes are served, and what a request to one may contain. No LiteLLM types.

1. A route is served only if a row of ``SERVED`` lists it. Every other one is closed, also for the master key.
2. A request must not make LiteLLM read a variable of the environment, a file or a secret store: LiteLLM 1.106.2 returns such
   values in responses and sends them to hosts. References to them are refused in path, query and body.
3. A request must not name a host, a credential or code for LiteLLM to use: only ``config.yaml`` does that.
4. LiteLLM gets the checked body, serialised again, so it cannot read it in another way.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from claude_proxy.anthropic.errors import Refused
from claude_proxy.asgi import Message, Send

# LiteLLM's pages send a few kilobytes; lists of keys or members for a bulk change are the largest.
MAX_BODY_BYTES = 1024 * 1024
# Levels of lists and objects, including those of JSON inside strings.
MAX_DEPTH = 64
BODILESS = frozenset({204, 304})
# How many layers of escapes are decoded: one each for the URL, the form and the JSON, and some to spare.
MAX_LAYERS = 6


class Served(NamedTuple):
    """A row: the purpose of the routes, and the routes by method. ``{}`` is any one part of a path."""

    purpose: str
    routes: Mapping[str, str]
    database_only: bool = False


_DAILY = " ".join(
    f"/{subject}/daily/activity{view}"
    for subject in ("customer", "organization", "tag", "team", "user")
    for view in ("", "/aggregated", "/aggregated/keys", "/aggregated/model_top_keys", "/aggregated/search", "/export")
)

SERVED: tuple[Served, ...] = (
    Served("this proxy's own usage", {"GET": "/usage.csv"}),
    Served(
        "whether the models of config.yaml respond, each with its own key at its own host",
        {"GET": "/health /health/latest /health/history /health/backlog /health/license /health/shared-status"},
    ),
    Served("the models of config.yaml, without their keys", {"GET": "/model/info /model_group/info"}),
    Served("prices and numbers of models", {"GET": "/model/deprecations /model/cost_map/source /model/settings"}),
    Served(
        "statistics of models",
        {"GET": "/model/metrics /model/metrics/exceptions /model/metrics/slow_responses /model/streaming_metrics"},
    ),
    Served(
        "virtual keys",
        {
            "GET": "/key/info /key/list /key/aliases /key/spend/report",
            "POST": "/key/generate /key/service-account/generate /key/update /key/bulk_update /key/delete /key/block "
            "/key/unblock /key/regenerate /key/{}/regenerate /key/{}/reset_spend",
        },
    ),
    Served(
        "users of LiteLLM's database",
        {
            "GET": "/user/info /user/list /user/filter/ui /user/available_roles /user/available_users /user/spend/report",
            "POST": "/user/new /user/update /user/bulk_update /user/delete /user/password/change",
        },
    ),
    Served(
        "teams",
        {
            "GET": "/team/info /team/list /team/available /team/filter/ui /team/permissions_list /team/metadata_schema "
            "/team/spend/by_user /team/spend/report /team/{}/members/me",
            "POST": "/team/new /team/update /team/delete /team/block /team/unblock /team/member_add /team/bulk_member_add "
            "/team/member_update /team/member_delete /team/model/add /team/model/delete /team/permissions_update "
            "/team/permissions_bulk_update /team/key/bulk_update /team/{}/member/{}/reset_budget "
            "/team/{}/member/{}/reset_spend",
            "PATCH": "/team/{}",
        },
    ),
    Served(
        "organizations",
        {
            "GET": "/organization/info /organization/list /organization/spend/report",
            "POST": "/organization/new /organization/info /organization/member_add",
            "PATCH": "/organization/update /organization/member_update",
            "DELETE": "/organization/delete /organization/member_delete",
        },
    ),
    Served(
        "budgets",
        {
            "GET": "/budget/list /budget/settings",
            "POST": "/budget/new /budget/info /budget/update /budget/delete",
        },
    ),
    Served(
        "customers",
        {
            "GET": "/customer/info /customer/list",
            "POST": "/customer/new /customer/update /customer/delete /customer/block /customer/unblock",
        },
    ),
    Served(
        "tags",
        {
            "GET": "/tag/list /tag/distinct /tag/dau /tag/wau /tag/mau /tag/summary /tag/user-agent/per-user-analytics",
            "POST": "/tag/new /tag/info /tag/update /tag/delete",
        },
    ),
    Served(
        "spend by day",
        {"GET": f"{_DAILY} /user/daily/activity/aggregated/cache_leakage_keys /user/daily/activity/aggregated/users"},
    ),
    Served(
        "spend and activity",
        {
            "GET": "/spend/keys /spend/users /spend/tags /spend/logs /spend/logs/v2 /spend/logs/ui /spend/logs/ui/{} "
            "/spend/logs/session/ui /global/spend /global/spend/keys /global/spend/logs /global/spend/models "
            "/global/spend/provider /global/spend/report /global/spend/tags /global/spend/teams "
            "/global/spend/all_tag_names /global/all_end_users /global/activity /global/activity/model "
            "/global/activity/cache_hits /global/activity/exceptions /global/activity/exceptions/deployment",
            "POST": "/global/spend/end_users /global/spend/refresh /global/spend/reset",
        },
    ),
    Served(
        "what LiteLLM's pages request about themselves",
        {
            "GET": "/get/ui_settings /get/ui_theme_settings /get/user_banner /get/internal_user_settings "
            "/get/default_team_settings /get/allowed_ips /callbacks/list"
        },
    ),
    Served("LiteLLM's cache of responses, emptied", {"POST": "/cache/delete /cache/flushall"}),
    Served(
        "the same for LiteLLM's pages",
        {
            "GET": "/v2/model/info /v2/team/list /v2/user/info /sso/get/ui_settings /sso/readiness /audit /audit/{}",
            "POST": "/v2/key/info",
            "PATCH": "/v2/organization/{}",
        },
        database_only=True,
    ),
    Served(
        "invitations of users, and their first sign-in",
        {
            "GET": "/invitation/info /onboarding/get_token",
            "POST": "/invitation/new /invitation/update /invitation/delete /onboarding/claim_token",
        },
        database_only=True,
    ),
    Served(
        "projects",
        {"GET": "/project/info /project/list", "POST": "/project/new /project/update", "DELETE": "/project/delete"},
        database_only=True,
    ),
    Served(
        "groups of models that keys may use",
        {
            "GET": "/access_group/list /access_group/{}/info /access_group/{}/budget",
            "POST": "/access_group/new",
            "PUT": "/access_group/{}/update /access_group/{}/budget",
            "DELETE": "/access_group/{}/delete /access_group/{}/budget",
        },
        database_only=True,
    ),
)

# Why a route of LiteLLM is closed, by the start of its path; the longest match applies.
CLOSED: Mapping[str, str] = {
    "/cache": "it shows the address and the password of the cache, and connects to one that the request names",
    "/callbacks/configs": "callbacks are set in config.yaml",
    "/config": "it shows and changes settings that contain secrets; they are set in config.yaml",
    "/credentials": "it stores and shows providers' keys; they are set in .env",
    "/get/config/callbacks": "it shows variables of the environment",
    "/get/latest_release_info": "it sends a request to a host that config.yaml does not name",
    "/get/mcp_": "MCP is not served",
    "/get/sso_settings": "it shows the secret of the sign-in",
    "/get/websearch_interception_settings": "tools are set in config.yaml",
    "/guardrails": "it returns variables of the environment, sends requests to hosts that a request names, and runs code",
    "/health/deployment_warnings": "it shows how the proxy is built",
    "/health/drain": "it stops the proxy from serving",
    "/health/readiness/details": "it shows how the proxy is built",
    "/health/services": "it sends messages to other services",
    "/health/test_connection": "it sends a key to the host that the request names",
    "/key/health": "it sends a record to the hosts that a key names",
    "/model": "models are set in config.yaml; a new one could send a provider's key to any host",
    "/model_group/make_public": "models are set in config.yaml",
    "/policies": "guardrails are set in config.yaml",
    "/router": "it shows the router's settings, including the password of its Redis",
    "/settings": "it shows callbacks and their settings",
    "/spend/calculate": "it fetches what the request names",
    "/spend/capture_rate": "it sends a request to a host that config.yaml does not name",
    "/sso": "sign-in is by name and password",
    "/team": "callbacks are set in config.yaml; a team's could send its conversations, and keys, to any host",
    "/v2/guardrails": "guardrails are set in config.yaml",
    "/v2/rerank": "it calls a model",
}

# Names of fields that hold a host, a credential or code for LiteLLM, at any place in a body.
_REFUSED_FIELDS = frozenset(
    {
        "api_base", "api_key", "api_url", "azure_ad_token", "aws_web_identity_token", "base_url", "callback", "callback_name",
        "callback_vars", "callbacks", "custom_code", "extra_body", "extra_headers", "failure_callback",
        "litellm_credential_name", "litellm_params", "logging", "model_list", "secret_manager_settings", "success_callback",
        "user_config", "vertex_credentials", "webhook_url",
    }
)  # fmt: skip
_REFUSED_ENDINGS = ("_api_base", "_api_key", "_base_url", "_endpoint", "_endpoint_url", "_host", "_secret_key")
# LiteLLM replaces these with the value of a variable, a file or a token: litellm/secret_managers/main.py.
_REFERENCE = re.compile(r"os\.environ/|oidc/(?:google|circleci|circleci_v2|github|azure|file|env|env_path)/")
_UNICODE_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def _shape(route: str) -> tuple[str, ...]:
    return tuple(route.split("/"))


_EXACT: dict[tuple[str, str], bool] = {}
_PATTERNS: list[tuple[str, tuple[str, ...], bool]] = []
for _row in SERVED:
    for _method, _routes in _row.routes.items():
        for _route in _routes.split():
            if "{}" in _route:
                _PATTERNS.append((_method, _shape(_route), _row.database_only))
            else:
                _EXACT[_method, _route] = _row.database_only


def is_served(method: str, route: str, *, database: bool) -> bool:
    """Whether a route of administration is served; with a database there are more."""
    needs_database = _EXACT.get((method, route))
    if needs_database is not None:
        return database or not needs_database
    parts = _shape(route)
    return any(
        (database or not needs) and method == named and len(parts) == len(shape) and all(map(_fits, shape, parts))
        for named, shape, needs in _PATTERNS
    )


def _fits(wanted: str, part: str) -> bool:
    return bool(part) if wanted == "{}" else wanted == part


def why_closed(route: str) -> str:
    """Return why a route is closed; empty for a route outside of LiteLLM's administration."""
    found = [prefix for prefix in CLOSED if route.startswith(prefix)]
    return CLOSED[max(found, key=len)] if found else ""


def check_address(route: str, query: str) -> None:
    """Raise ``Refused`` for a path or a query that contains a reference."""
    _check_text(route)
    _check_text(query)


def checked_body(raw: bytes) -> bytes:
    """Return the body for LiteLLM, as JSON; raise ``Refused`` for one that LiteLLM must not get."""
    if len(raw) > MAX_BODY_BYTES:
        raise Refused(413, "Request exceeds the maximum size")
    if not raw.strip():
        return b""
    _check_text(raw.decode("utf-8", "replace"))
    try:
        body = json.loads(raw)
        written = json.dumps(body, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(body, dict | list):
        raise Refused(400, "The body should be a JSON object or list.")
    _check_value(body, MAX_DEPTH)
    return written


def _check_value(value: Any, depth: int) -> None:
    if depth == 0:
        raise Refused(400, f"The body has more than {MAX_DEPTH} lists and objects inside each other.")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_text(name)
            if _is_refused(name) and not _is_empty(inner):
                raise Refused(403, f"{name[:60]}: hosts, credentials and code are not taken from a request.")
            _check_value(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check_value(inner, depth - 1)
    elif isinstance(value, str):
        _check_text(value)
        if value.lstrip()[:1] in ("{", "["):
            _check_inner(value, depth)


def _check_inner(text: str, depth: int) -> None:
    """Check JSON inside a string: LiteLLM parses some fields that way."""
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        return
    _check_value(inner, depth - 1)


def _is_refused(name: str) -> bool:
    lower = name.strip().lower().replace("-", "_")
    return lower in _REFUSED_FIELDS or lower.endswith(_REFUSED_ENDINGS)


def _is_empty(value: Any) -> bool:
    """Whether a value is empty: LiteLLM's pages also send fields that were not filled in."""
    if isinstance(value, dict):
        return all(map(_is_empty, value.values()))
    if isinstance(value, list):
        return all(map(_is_empty, value))
    return value is None or value is False or value == ""


def _check_text(text: str) -> None:
    if any(_REFERENCE.search(layer.lower()) for layer in _layers(text)):
        raise Refused(
            403, "The request refers to a variable, a file or a token of the server, which administration does not allow."
        )


def _layers(text: str) -> Iterator[str]:
    """Yield a text, and what its escapes decode to: those of URLs and forms, and those of JSON."""
    for _ in range(MAX_LAYERS):
        yield text
        if "\\" not in text and "%" not in text:
            return
        below = _UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), unquote_plus(text))
        below = below.replace("\\", "")
        if below == text:
            return
        text = below


def redacted(send: Send, clean: Callable[[str], str]) -> Send:
    """Return a ``send`` that waits for the whole response, and sends it without the known secrets."""
    begun: list[Message] = []
    body = bytearray()

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            begun.append(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body", False) or not begun:
            return
        start = begun.pop()
        data = clean(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        headers = [(name, clean(value.decode("latin-1")).encode("latin-1")) for name, value in start["headers"]]
        headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
        if start["status"] not in BODILESS:
            headers.append((b"content-length", str(len(data)).encode()))
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": data, "more_body": False})

    return sent
