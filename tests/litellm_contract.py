"""What the code relies on in LiteLLM, a row each: what, where, how to see it, and how it looks when it is gone."""

import asyncio
import importlib
import importlib.metadata
import inspect
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import EnumType
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import litellm
import openai
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.router import Router
from litellm.types.utils import CallTypes
from pydantic import BaseModel

from claude_proxy.access.routes import MODEL_ROUTES, PUBLIC_ROUTES
from claude_proxy.litellm.callback import ClaudeProxy
from claude_proxy.litellm.lane_client import AttemptRefused, PlainClient
from claude_proxy.litellm.router import UPDATED
from claude_proxy.usage.request_log import LITELLM_LOGGERS

HOOKS = sorted(name for name in vars(ClaudeProxy) if name.startswith("async_"))
# Nothing listens there: a request that does not take our client ends at once.
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Fact:
    """``wrong`` returns what is different, or nothing; ``spoil`` makes it different."""

    what: str
    where: str
    look: str
    wrong: Callable[[], str]
    spoil: Callable[[pytest.MonkeyPatch], object]

    def told(self) -> str:
        found = self.wrong()
        version = importlib.metadata.version("litellm")
        return found and f"LiteLLM {version}: {found}. {self.where} relies on it: {self.what}. Look at {self.look}."


def resolve(path: str) -> Any:
    """Return what ``module:name.name`` names."""
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in filter(None, names.split(".")):
        found = getattr(found, name)
    return found


# --- names, parameters, fields -----------------------------------------------------------------------------------------------


def missing(path: str) -> str:
    try:
        resolve(path)
    except (ImportError, AttributeError):
        return f"there is no {path.partition(':')[2]} in {path.partition(':')[0]}"
    return ""


def owner(path: str) -> tuple[str, str]:
    """Return the path of what holds it, and its own name."""
    holder, _, name = path.replace(":", ":.", 1).rpartition(".")
    return holder.replace(":.", ":"), name


def take_away(path: str, patch: pytest.MonkeyPatch) -> None:
    holder, name = owner(path)
    found = resolve(holder)
    if isinstance(found, EnumType):  # gives up no member
        above, name = owner(holder)
        patch.setattr(resolve(above), name, SimpleNamespace())
        return
    places = (found, *type(found).__mro__) if not isinstance(found, (type, ModuleType)) else (found,)
    for place in places:
        if name in vars(place):
            patch.delattr(place, name)


def lacks_parameters(path: str, names: set[str]) -> str:
    if told := missing(path):
        return told
    gone = names - set(inspect.signature(resolve(path)).parameters)
    return f"{path} does not take {', '.join(sorted(gone))}" if gone else ""


def lacks_fields(path: str, names: set[str]) -> str:
    model: type[BaseModel] = resolve(path)
    gone = names - set(model.model_fields)
    return f"{path} has no field {', '.join(sorted(gone))}" if gone else ""


def replace_by_nothing(path: str, patch: pytest.MonkeyPatch) -> None:
    holder, name = owner(path)
    patch.setattr(resolve(holder), name, lambda: None)


NAMES = {
    "litellm.proxy.proxy_server:app": "bootstrap.py puts the gateway around it",
    "litellm.proxy.proxy_server:app.middleware_stack": "app.py, bootstrap.py: where the gateway goes",
    "litellm.proxy.proxy_server:app.build_middleware_stack": "bootstrap.py, when callbacks are loaded before the first request",
    "litellm.proxy.proxy_server:llm_router": "router.py finds who serves a model, and changes it",
    "litellm.proxy.proxy_server:llm_model_list": "router.py, for LiteLLM's own lists",
    "litellm.proxy.proxy_server:user_config_file_path": "bootstrap.py reads the same config.yaml",
    "litellm.proxy.proxy_server:prisma_client": "custom_auth.py looks a session up",
    "litellm.proxy.proxy_server:user_api_key_cache": "custom_auth.py looks a session up",
    "litellm.proxy._types:UI_TEAM_ID": "custom_auth.py tells a session of the pages from a key",
    "litellm.proxy._types:LitellmUserRoles.PROXY_ADMIN": "custom_auth.py names the administrator",
    "litellm:request_timeout": "router.py, when a timeout is taken out of config.yaml",
    "litellm:fallbacks": "router.py, beside those of config.yaml",
    "litellm:default_fallbacks": "router.py, beside those of config.yaml",
    "litellm:model_cost": "prices.py",
    "litellm.exceptions:MidStreamFallbackError": "completions.py looks for what it stands for",
    "litellm:expose_router_debug_in_errors": "bootstrap.py keeps the router's inside out of errors",
    "litellm:anthropic_sse_ping_interval_seconds": "bootstrap.py leaves keep-alives to the hook for streams",
    "litellm:aclient_session": "bootstrap.py: the HTTP client for chat completions",
    "litellm:require_auth_for_metrics_endpoint": "bootstrap.py leaves /metrics to the gateway",
    "litellm.types.utils:CallTypes.anthropic_messages": "callback.py tells the two calls of the deployment hook apart",
    "litellm.types.utils:CallTypes.acompletion": "callback.py, openai_attempts.py",
    "litellm.types.utils:CallTypes.aresponses": "callback.py, openai_attempts.py",
    "litellm.types.utils:CallTypes.aembedding": "callback.py, openai_attempts.py",
    "litellm.responses.main:_pop_use_chat_completions_api_kw": "openai_attempts.py has responses made of chat completions",
    "aiohttp.client_proto:ResponseHandler": "patches.py ends an answer whose rest is no HTTP",
    "httpx:AsyncClient._transport_for_url": "patches.py guards the responses of every client of httpx",
    "httpx:Client._transport_for_url": "patches.py, for requests that block their thread",
    "aiohttp:ClientSession._request": "patches.py follows no redirection with aiohttp",
    "aiohttp:StreamReader.readany": "patches.py bounds what aiohttp reads as a whole",
    "requests.sessions:SessionRedirectMixin.get_redirect_target": "patches.py follows no redirection with requests",
    "litellm.litellm_core_utils.streaming_handler:CustomStreamWrapper": "patches.py bounds what is kept of a stream's chunks",
    "litellm.llms.custom_httpx.aiohttp_transport:LiteLLMAiohttpTransport._proxy_from_env": "patches.py, for NO_PROXY",
    "litellm:post_call_rules": "patches.py keeps a stream's text where they read it",
}
PARAMETERS = {
    "litellm.llms.custom_httpx.http_handler:AsyncHTTPHandler.post": (
        {"url", "data", "headers", "timeout", "stream"},
        "lane_client.py",
    ),
    "litellm.llms.base_llm.chat.transformation:BaseLLMException": ({"status_code", "message", "headers"}, "lane_client.py"),
    "litellm.exceptions:BadRequestError": ({"message", "model", "llm_provider"}, "lane_client.py, AttemptRefused"),
    "litellm.exceptions:Timeout": ({"message", "model", "llm_provider"}, "lane_client.py"),
    "litellm.proxy._types:ProxyException": ({"message", "type", "param", "code", "headers"}, "custom_auth.py"),
    "litellm.proxy._types:hash_token": ({"token"}, "custom_auth.py"),
    "litellm.proxy.auth.auth_checks:_can_object_call_model": (
        {"model", "llm_router", "models", "object_type"},
        "custom_auth.py",
    ),
    "litellm.proxy.auth.auth_checks:get_key_object": (
        {"hashed_token", "prisma_client", "user_api_key_cache"},
        "custom_auth.py",
    ),
    "litellm.proxy.auth.auth_checks:get_user_object": (
        {"user_id", "user_id_upsert", "prisma_client", "user_api_key_cache"},
        "custom_auth.py",
    ),
    "litellm.proxy.types_utils.utils:get_instance_fn": ({"value", "config_file_path"}, "config.yaml's entry files"),
    "litellm.llms.anthropic.chat.handler:make_call": ({"client"}, "lane_pipe.py, streams"),
    "litellm.llms.anthropic.chat.handler:AnthropicChatCompletion.acompletion_function": ({"client"}, "lane_pipe.py"),
    "litellm:aresponses": ({"store"}, "openai_attempts.py"),
    "litellm.utils:token_counter": ({"model", "text"}, "bootstrap.py, count_tokens"),
    "litellm.utils:register_model": ({"model_cost"}, "prices.py"),
    "litellm.router:Router.get_model_list": ({"model_name"}, "router.py, deployments_of"),
    "litellm.router:Router.get_deployment": ({"model_id"}, "callback.py, a deployment's own parameters"),
    "litellm.router:Router.set_model_list": ({"model_list"}, "router.py"),
    "litellm.router:Router.validate_fallbacks": ({"fallback_param"}, "router.py"),
    "litellm.router:Router.update_settings": ({"kwargs"}, "router.py"),
    "litellm_proxy_extras.utils:ProxyExtrasDBManager.run_migration_job": ({"use_migrate", "use_v2_resolver"}, "database.py"),
}
FIELDS = {
    "litellm.proxy._types:UserAPIKeyAuth": (
        {"api_key", "key_alias", "user_id", "user_role", "allowed_routes", "models", "team_id", "team_models"},
        "custom_auth.py",
    ),
    "litellm.types.router:RetryPolicy": (
        {
            "RateLimitErrorRetries", "AuthenticationErrorRetries", "BadRequestErrorRetries", "TimeoutErrorRetries",
            "ContentPolicyViolationErrorRetries", "InternalServerErrorRetries",
        },
        "config.yaml.example, router.py",
    ),
}  # fmt: skip
ROUTER_ATTRIBUTES = {
    "pattern_router", "provider_default_deployment_ids", "deployment_names", "model_list", "fallbacks",
    "content_policy_fallbacks", *UPDATED,
}  # fmt: skip
# The variables that `claude-proxy serve` sets, and the file of LiteLLM's that reads each.
VARIABLES = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "litellm.litellm_core_utils.get_model_cost_map",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "litellm.anthropic_beta_headers_manager",
    "LITELLM_MODE": "litellm",
    "LITELLM_DONT_SHOW_FEEDBACK_BOX": "litellm.proxy.proxy_server",
    "LITELLM_LOG": "litellm._logging",
    "LITELLM_MASTER_KEY": "litellm.proxy.proxy_server",
    "CONFIG_FILE_PATH": "litellm.proxy.proxy_server",
    "DISABLE_SCHEMA_UPDATE": "litellm.proxy.db.prisma_client",
}


def router(*models: str, **settings: Any) -> Router:
    """Return a router of deployments in Anthropic's format, or of the provider that stands in front of the name."""
    listed = [
        {
            "model_name": model.rpartition("/")[2],
            "litellm_params": {"model": model if "/" in model else f"anthropic/{model}", "api_base": NOWHERE, "api_key": "k"},
        }
        for model in models
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteLLM's own, from pydantic
        return Router(model_list=listed, disable_cooldowns=True, **settings)


def lacks_attributes() -> str:
    made = router("m")
    gone = sorted(name for name in ROUTER_ATTRIBUTES if not hasattr(made, name))
    made.discard()
    return f"a router has no {', '.join(gone)}" if gone else ""


def source(module: str) -> str:
    return Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")


def reads_not(variable: str, module: str) -> str:
    return "" if f'"{variable}"' in source(module) else f"{module} does not read {variable}"


def lacks_loggers() -> str:
    gone = [name for name in LITELLM_LOGGERS if name not in logging.Logger.manager.loggerDict]
    return f"LiteLLM has no logger {', '.join(gone)}" if gone else ""


def lacks_routes() -> str:
    wanted = sorted(MODEL_ROUTES | {("GET", path) for path in PUBLIC_ROUTES})
    gone = [" ".join(one) for one in wanted if not is_route(*one)]
    return f"LiteLLM has no {', '.join(gone)}" if gone else ""


def is_route(method: str, path: str) -> bool:
    """Whether there is somebody who answers; asked, because LiteLLM adds some of its routes at the first request for them."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(proxy_server.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
            return await client.request(method, path)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteLLM's own, from pydantic
        return asyncio.run(send()).status_code not in (404, 405)


def static_facts() -> Iterator[Fact]:
    for path, where in NAMES.items():
        yield Fact(f"{path.partition(':')[2]} is there", where, path, partial(missing, path), partial(take_away, path))
    for path, (names, where) in PARAMETERS.items():
        what = f"it takes {', '.join(sorted(names))}"
        yield Fact(what, where, path, partial(lacks_parameters, path, names), partial(replace_by_nothing, path))
    for path, (names, where) in FIELDS.items():
        what = f"it has {', '.join(sorted(names))}"
        spoil = partial(lambda path, name, patch: patch.delitem(resolve(path).model_fields, name), path, min(names))
        yield Fact(what, where, path, partial(lacks_fields, path, names), spoil)
    for variable, module in VARIABLES.items():
        yield Fact(
            f"{variable} means what it did", "serve_command.py, serve", module, partial(reads_not, variable, module),
            lambda patch: patch.setattr("litellm_contract.source", lambda _: ""),
        )  # fmt: skip
    yield Fact(
        "its attributes are replaced when config.yaml changes", "router.py", "litellm.router:Router", lacks_attributes,
        lambda patch: patch.setattr("litellm_contract.ROUTER_ATTRIBUTES", {"made_up"}),
    )  # fmt: skip
    yield Fact(
        "it logs through them", "request_log.py cuts their tracebacks and takes secrets out", "litellm._logging", lacks_loggers,
        lambda patch: patch.setattr("litellm_contract.LITELLM_LOGGERS", ("made-up",)),
    )  # fmt: skip
    yield Fact(
        "the gateway lets these routes through, and its own stand in front of some", "routes.py, bootstrap.py",
        "litellm.proxy.proxy_server:app.routes", lacks_routes,
        lambda patch: patch.setattr("litellm_contract.MODEL_ROUTES", frozenset({("POST", "/v1/made-up")})),
    )  # fmt: skip


# --- one request through LiteLLM's own app, in this process ------------------------------------------------------------------

MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
EVENTS = (
    {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
)
STREAM = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS)
COMPLETION = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
}  # fmt: skip
# What LiteLLM strips thinking for and sends the request again by itself, unless the error is a BaseLLMException.
SIGNATURE = "messages.1.content.0: Invalid `signature` in `thinking` block"
STATUS = {"overloaded": 529, "invalid": 400}


def upstream(request: httpx.Request) -> httpx.Response:
    body = json.loads(request.content)
    if request.url.path.endswith("/chat/completions"):
        return httpx.Response(200, json=COMPLETION)
    if body["model"] in STATUS:
        error = {"type": "error", "error": {"type": "made_up_error", "message": SIGNATURE}}
        return httpx.Response(STATUS[body["model"]], json=error)
    if body.get("stream"):
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=STREAM)
    return httpx.Response(200, json=MESSAGE)


class Recorder(CustomLogger):
    """A callback with the hooks of ours. It does with what it gets what ours does, and notes that it was called."""

    client, header, allowed_routes = "client", "provider_specific_header", "allowed_routes"
    changes: dict[str, Any] = {}  # noqa: RUF012 - replaced by a scenario, never written to
    refuses: Callable[[str], Exception] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.types: list[object] = []
        self.given: dict[str, Any] = {}
        self.requests: list[httpx.Request] = []
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return upstream(request)

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> Any:
        self.calls.append("async_pre_call_hook")
        return data | self.changes

    async def async_filter_deployments(
        self, model: Any, healthy_deployments: Any, messages: Any, request_kwargs: Any = None, parent_otel_span: Any = None
    ) -> Any:
        self.calls.append("async_filter_deployments")
        return [one for one in healthy_deployments if one["litellm_params"]["model"] != "anthropic/left-out"]

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> Any:
        self.calls.append("async_pre_call_deployment_hook")
        self.types.append(call_type)
        if self.refuses:
            raise self.refuses("made up")
        if call_type is not CallTypes.anthropic_messages:
            return kwargs | {"client": openai.AsyncOpenAI(api_key="k", base_url=NOWHERE, http_client=self.http, max_retries=0)}
        self.given = kwargs
        header = {"custom_llm_provider": "anthropic", "extra_headers": {"anthropic-beta": "made-up-beta"}}
        own = {} if "openai" in kwargs["model"] or kwargs.get("custom_llm_provider") == "openai" else {
            self.client: PlainClient(self.http), self.header: header
        }  # fmt: skip
        return kwargs | own

    async def async_post_call_success_hook(self, data: Any, user_api_key_dict: Any, response: Any) -> Any:
        self.calls.append("async_post_call_success_hook")
        return response | {"id": "changed"} if isinstance(response, dict) else response

    async def async_post_call_streaming_iterator_hook(self, user_api_key_dict: Any, response: Any, request_data: Any) -> Any:
        self.calls.append("async_post_call_streaming_iterator_hook")
        async for chunk in response:
            yield chunk.replace(b"msg_1", b"changed") if isinstance(chunk, bytes) else chunk


@dataclass
class Ran:
    """What came of one request."""

    recorder: Recorder
    status: int
    text: str
    paths: list[str] = field(default_factory=list)


def ask(
    model: str = "m", path: str = "/v1/messages", models: tuple[str, ...] = ("m",), settings: Any = None, **body: Any
) -> Ran:
    """Send one request through LiteLLM's app, with a recorder as its only callback, and with such settings of its router."""
    recorder = Recorder()
    made = router(*models, num_retries=2, retry_policy={"BadRequestErrorRetries": 0}, **(settings or {}))

    async def authenticate(request: Any, api_key: str) -> UserAPIKeyAuth:
        return UserAPIKeyAuth(api_key="made-up", **{Recorder.allowed_routes: ["/v1/messages"]})

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(proxy_server.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
            if path != "/v1/messages":
                return await client.get(path)
            question = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
            return await client.post(path, json=question | body)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteLLM's own
        patch.setattr(Router, "_time_to_sleep_before_retry", lambda *_, **__: 0, raising=False)
        patch.setattr(litellm, "callbacks", [recorder])
        patch.setattr(litellm, "use_chat_completions_url_for_anthropic_messages", True)
        patch.setattr(proxy_server, "user_custom_auth", authenticate)
        patch.setattr(proxy_server, "llm_router", made)
        answer = asyncio.run(send())
    made.discard()
    return Ran(recorder, answer.status_code, answer.text, [request.url.path for request in recorder.requests])


def not_called(hook: str) -> str:
    ran = ask(stream="streaming" in hook)
    return "" if hook in ran.recorder.calls else f"LiteLLM does not call {hook} for /v1/messages"


def unless(held: bool, told: str) -> str:  # noqa: FBT001 - what held is the point
    return "" if held else told


def whole() -> str:
    ran = ask()
    return unless(
        '"changed"' in ran.text, f"what async_post_call_success_hook returns does not reach the client ({ran.status})"
    )


def streamed() -> str:
    return unless('"changed"' in ask(stream=True).text, "what async_post_call_streaming_iterator_hook yields does not reach it")


def uses_client() -> str:
    ran = ask()
    return unless(
        ran.paths == ["/v1/messages"] and ran.status == 200, f"the client of the deployment hook is not used ({ran.status})"
    )


def adds_header() -> str:
    sent = [request.headers.get("anthropic-beta", "") for request in ask().recorder.requests]
    return unless(sent and "made-up-beta" in sent[0], "provider_specific_header does not reach the provider")


GIVEN = {"model", "messages", "max_tokens", "api_base", "api_key", "custom_llm_provider", "model_info"}


def gives() -> str:
    given = ask().recorder.given
    gone = sorted(GIVEN - set(given))
    if gone:
        return f"async_pre_call_deployment_hook gets no {', '.join(gone)}"
    return unless("id" in given["model_info"], "model_info has no id")


def leaves_out() -> str:
    ran = ask(models=("left-out", "m"), model="left-out")
    return unless(not ran.paths, "a deployment that async_filter_deployments leaves out is asked all the same")


def retries() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "changes", Recorder.changes or {"num_retries": 0})
        ran = ask("overloaded", models=("overloaded",))
    return unless(len(ran.paths) == 1, f"num_retries: 0 from async_pre_call_hook is not kept: {len(ran.paths)} requests")


def falls_back() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "changes", Recorder.changes or {"fallbacks": ["m"], "num_retries": 0})
        ran = ask("overloaded", models=("overloaded", "m"))
    return unless(ran.status == 200, f"fallbacks from async_pre_call_hook are not asked ({ran.status})")


def falls_back_to_nobody() -> str:
    rule = {"fallbacks": [{"overloaded": ["m"]}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "changes", Recorder.changes or {"fallbacks": [], "num_retries": 0})
        ran = ask("overloaded", models=("overloaded", "m"), settings=rule)
    told = f"an empty list of fallbacks from async_pre_call_hook does not take the place of the router's ({ran.status})"
    return unless(ran.status != 200 and len(ran.paths) == 1, told)


def renames() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "changes", Recorder.changes or {"model": "m"})
        ran = ask("nobody", models=("m",))
    return unless(ran.status == 200, f"the model from async_pre_call_hook is not the one that is asked for ({ran.status})")


def refusal_ends() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "refuses", Recorder.refuses or staticmethod(AttemptRefused))
        calls = ask().recorder.types
    return unless(len(calls) == 1, f"an attempt that the hook refuses (BadRequestError) is made {len(calls)} times")


def sends_once() -> str:
    ran = ask("invalid", models=("invalid",), thinking={"type": "enabled", "budget_tokens": 1024})
    return unless(len(ran.paths) == 1, f"LiteLLM sends a refused request again by itself: {len(ran.paths)} requests")


def closes() -> str:
    status = ask(path="/model/info").status
    return unless(status == 403, f"allowed_routes leaves /model/info open ({status})")


def twice() -> str:
    types = ask(models=("openai/m",)).recorder.types
    told = f"the deployment hook of a translated request is called with {types}"
    return unless(types[:1] == [CallTypes.anthropic_messages] and CallTypes.anthropic_messages not in types[1:], told)


def hides(name: str, value: object = "made_up") -> Callable[[pytest.MonkeyPatch], object]:
    return lambda patch: patch.setattr(Recorder, name, value)


def constant(name: str, value: object) -> Callable[[pytest.MonkeyPatch], object]:
    return lambda patch: patch.setattr(f"litellm_contract.{name}", value)


def ran_facts() -> Iterator[Fact]:
    look, anthropic = "litellm.proxy.utils:ProxyLogging, litellm.utils:client", "litellm.llms.anthropic.pass_through.messages"
    for hook in HOOKS:
        spoil = partial(lambda hook, patch: patch.delattr(Recorder, hook), hook)
        yield Fact(f"{hook} is called", f"callback.py, {hook}", look, partial(not_called, hook), spoil)
    yield Fact(
        "a whole answer is the hook's",
        "callback.py",
        look,
        whole,
        lambda p: p.delattr(Recorder, "async_post_call_success_hook"),
    )
    yield Fact(
        "a stream is the hook's", "callback.py", look, streamed,
        lambda patch: patch.delattr(Recorder, "async_post_call_streaming_iterator_hook"),
    )  # fmt: skip
    yield Fact("client is used for the request", "callback.py, lane_client.py", anthropic, uses_client, hides("client"))
    yield Fact("its headers are added for one provider", "callback.py, _beta_header", anthropic, adds_header, hides("header"))
    yield Fact("an attempt has these parameters", "callback.py", "litellm.router:Router", gives, constant("GIVEN", {"made_up"}))
    yield Fact(
        "deployments can be left out", "callback.py", "litellm.router:Router", leaves_out,
        lambda patch: patch.delattr(Recorder, "async_filter_deployments"),
    )  # fmt: skip
    yield Fact(
        "num_retries of a request counts", "callback.py", "litellm.router:Router", retries, hides("changes", {"num_retries": 1})
    )
    yield Fact(
        "fallbacks of a request count", "callback.py", "litellm.router:Router", falls_back, hides("changes", {"num_retries": 0})
    )
    yield Fact(
        "an empty list of fallbacks is none", "callback.py", "litellm.router:Router", falls_back_to_nobody,
        hides("changes", {"num_retries": 0}),
    )  # fmt: skip
    yield Fact(
        "the model of the hook is asked for", "callback.py, a step of a plan", "litellm.router:Router", renames,
        hides("changes", {"num_retries": 0}),
    )  # fmt: skip
    yield Fact(
        "a BadRequestError of the hook is not repeated", "lane_client.py, AttemptRefused", "litellm.router:Router",
        refusal_ends, hides("refuses", staticmethod(partial(litellm.InternalServerError, model="", llm_provider=""))),
    )  # fmt: skip
    yield Fact(
        "a BaseLLMException is not answered with a request without thinking", "lane_client.py, post",
        "litellm.llms.custom_httpx.llm_http_handler", sends_once,
        lambda patch: patch.setattr("claude_proxy.litellm.lane_client.BaseLLMException", as_status_error),
    )  # fmt: skip
    yield Fact(
        "allowed_routes closes the others", "custom_auth.py", "litellm.proxy.auth.route_checks", closes, hides("allowed_routes")
    )
    yield Fact(
        "its second call is no anthropic_messages",
        "callback.py",
        "litellm.utils:client",
        twice,
        hides("async_pre_call_deployment_hook", silent),
    )


def as_status_error(status: int, text: str, headers: dict[str, str]) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", NOWHERE)
    return httpx.HTTPStatusError(text, request=request, response=httpx.Response(status, text=text, request=request))


async def silent(_: Recorder, kwargs: Any, call_type: Any) -> Any:
    return kwargs


FACTS = (*static_facts(), *ran_facts())
