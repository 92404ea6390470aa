"""Where the parts come together in LiteLLM's process: the app, the callback, routes of our own, gateway, logs."""

import asyncio
import functools
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import litellm
from fastapi import Depends, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

from claude_proxy.access.routes import OPEN_NOTICE, is_open
from claude_proxy.anthropic.errors import Refused
from claude_proxy.check import watcher
from claude_proxy.config import alerts, backup, signing_keys
from claude_proxy.config import models as config
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.outbound_proxies import outbound_proxies
from claude_proxy.config.settings import LogFormat, Settings, environment
from claude_proxy.config.stores import history_file, shared_store
from claude_proxy.config.ways import ways
from claude_proxy.credentials.redaction import Redactor, secrets_in_config, secrets_of
from claude_proxy.history.database import NAME as HISTORY_FILE
from claude_proxy.litellm.callback import ClaudeProxy
from claude_proxy.litellm.chat_endpoints import chat_endpoint
from claude_proxy.litellm.completions import Completions
from claude_proxy.litellm.custom_auth import is_session, key_allows
from claude_proxy.litellm.lane_client import AttemptRefused
from claude_proxy.litellm.patches import (
    end_what_cannot_be_understood,
    except_from_proxies,
    guard_every_request,
    guard_other_clients,
    keep_the_latest_chunks,
)
from claude_proxy.litellm.prices import listed_price
from claude_proxy.litellm.router import apply_config, deployments_of
from claude_proxy.litellm.transport import chat_http
from claude_proxy.litellm.windows import window_in, windows_of
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.providers.model_names import listing
from claude_proxy.proxy.entrance import current
from claude_proxy.proxy.lanes.cloud_lane import CloudLane
from claude_proxy.proxy.plan import plan
from claude_proxy.server.application import App
from claude_proxy.server.cloud_door import CloudDoor
from claude_proxy.server.gateway import Gateway
from claude_proxy.server.model_requests import ModelRequests
from claude_proxy.server.options import FORCED_ENVIRONMENT
from claude_proxy.state.redis import RedisStore
from claude_proxy.usage import request_log

logger = logging.getLogger(__name__)


@functools.cache
def start() -> ClaudeProxy:
    """Return the process's one callback. LiteLLM runs an entry file once for each reference to it."""
    # Beside workers that serve, one that begins anew does with what it can read of the pool; serve itself has checked it all.
    settings = Settings.parse(environment(), lenient=backup.VARIABLE in os.environ)
    path = proxy_server.user_config_file_path
    active = ActiveConfig(
        config.load(Path(path)) if path else {},
        os.environ,
        hosts=Hosts(settings.claude_base),
        lookup=deployments_of,
        endpoint_lookup=chat_endpoint,
    )
    store = shared_store(settings, active.loaded)
    is_redis = store is not None and store.kind == RedisStore.kind
    app = App(
        settings,
        active,
        redactor_of(settings, active),
        store=store,
        history=history_file(settings, HISTORY_FILE),
        count=_tokens,
        completions=Completions(),
        proxies=outbound_proxies(),
        listed_price=listed_price,
        keys=signing_keys.place(environment(), settings, redis=is_redis, store=store is not None),
        # LiteLLM's router adds models to its list later.
        listed_window=functools.partial(window_in, windows_of(litellm.model_cost)),
    )
    install(app)
    for problem in settings.pool_problems:
        logger.warning("%s", problem)
    # The launcher has its own words for it.
    if is_open(settings) and backup.VARIABLE not in os.environ:
        logger.warning("%s", OPEN_NOTICE)
    return ClaudeProxy(app)


def redactor_of(settings: Settings, active: ActiveConfig) -> Redactor:
    """Return a redactor that knows every secret of the settings, the environment and config.yaml."""
    secrets = [credential.secret for credential in settings.credentials]
    secrets += [secret for secret in (settings.static_token, settings.master_key, settings.database_url) if secret]
    secrets += [user.token for user in settings.users.all_users() if user.token]
    secrets += alerts.secrets(active.alerts.targets)
    return Redactor([*secrets, *secrets_of(environment()), *secrets_in_config(active.loaded, os.environ)])


def install(app: App) -> None:
    """Put the gateway around LiteLLM's app and the redaction under its logs."""
    inner, settings = proxy_server.app, app.settings
    _settle_litellm()
    end_what_cannot_be_understood()
    except_from_proxies(outbound_proxies())
    guard_every_request()
    guard_other_clients()
    keep_the_latest_chunks()
    litellm.aclient_session = chat_http()
    inner.router.routes[:0] = [
        APIRoute("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
        *(APIRoute(path, models, methods=["GET"]) for path in ("/v1/models", "/models")),
        *app.status_routes().routes(),
        *app.history_routes().routes(),
        *app.pool_routes().routes(),
        *app.budget_routes().routes(),
        *app.request_routes().routes(),
    ]
    # Middleware cannot be added once the app has started, and callbacks are loaded while it starts.
    inner.middleware_stack = Gateway(
        inner.middleware_stack or inner.build_middleware_stack(),
        settings,
        app.redactor,
        app.record,
        is_session=is_session,
        serving=app.serving,
        needs_litellm=lambda: settings.database_url is not None or bool(app.config.features),
        config=app.config,
        telemetry=app.telemetry,
        prices=app.prices,
        request_limits=app.request_limits,
        admission=app.admission,
        running=app.running,
        sign_in=app.sign_in_routes(),
        loaded=app.load_shared_state,
        client_routes=app.client_routes(),
        doors=[functools.partial(_cloud_door, app)],
    )
    verbose = os.environ.get("LITELLM_LOG", "").upper() == "DEBUG"
    request_log.configure(app.redactor, verbose=verbose, as_json=settings.log_format is LogFormat.JSON)


def _cloud_door(app: App, requests: ModelRequests) -> CloudDoor:
    lane, lacks_price = CloudLane(app.client, app.config, environment()), app.admission.lacks_price
    return CloudDoor(requests, lane, app.config, app.redactor, lacks_price=lacks_price, ready=app.load_shared_state)


def _settle_litellm() -> None:
    """Set what LiteLLM has as globals, whatever config.yaml and the environment say of them."""
    os.environ.update(FORCED_ENVIRONMENT)
    litellm.expose_router_debug_in_errors = False
    # The hook for streams keeps clients alive; LiteLLM would run a task for each chunk to do so.
    litellm.anthropic_sse_ping_interval_seconds = 0
    # The gateway and the route itself ask for a token; LiteLLM's check would let the master key alone through.
    litellm.require_auth_for_metrics_endpoint = False


async def count_tokens(_: Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]) -> Response:
    """The route that takes the place of LiteLLM's own, behind the same check of the key; its lane answers the client."""
    entrance = current.get()
    if entrance is None:
        raise AttemptRefused("the gateway is not in place")
    app = start().app
    try:
        await app.serving.check_model(entrance.request)
        target = plan(entrance.request.name, app.config).first
    except Refused as refused:
        entrance.refusal = refused.refusal()
        return Response(status_code=refused.status)
    outcome = await app.serving.count_tokens(entrance.request, target, entrance.outlet, entrance.journal)
    entrance.refusal = outcome.refusal
    return Response(status_code=outcome.status)


async def models(caller: Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]) -> Response:
    """The route that takes the place of LiteLLM's own, whose list of a pattern is its price list."""
    entrance, app = current.get(), start().app
    user = entrance.request.user if entrance else ""

    def allows(name: str) -> bool:
        return app.config.limits.allows(user, name) and key_allows(caller, name, proxy_server.llm_router)

    return JSONResponse(listing(config.model_names(app.config.loaded), allows, app.client_models().describe))


def watch_config() -> None:
    """From now on take up every change of config.yaml, once LiteLLM has started."""
    if not start.cache_info().currsize:
        return
    _settle_litellm()  # LiteLLM has read its settings after the callbacks
    app = start().app
    if backup.VARIABLE not in os.environ:  # else serve reports it
        _report_lanes(app)
    app.watch_pool(environment())
    app.prepare_sign_in()
    app.watch_alerts()
    found = watcher.watcher(app.config, _take_up, environment())
    if found is not None:
        app.config_watcher = found
        app.watching = asyncio.ensure_future(found.run())


def _report_lanes(app: App) -> None:
    database = app.settings.database_url is not None
    for sentence in ways(app.config.loaded, app.hosts, endpoint_lookup=chat_endpoint, database=database):
        logger.info("%s", sentence)


def drain_seconds() -> float | None:
    """Return how long a stop waits for requests under way; None where LiteLLM has not loaded the callbacks."""
    return start().app.settings.drain_seconds if start.cache_info().currsize else None


def _take_up(new: Mapping[str, Any], found: watcher.Change) -> Iterable[str]:
    app = start().app
    for secret in secrets_in_config(new, os.environ):
        app.redactor.learn(secret)
    for secret in alerts.secrets(alerts.Alerts.of(new, os.environ).targets):
        app.redactor.learn(secret)
    return apply_config(proxy_server.llm_router, app.config.loaded, new, found)


def _tokens(text: str) -> int:
    return int(litellm.token_counter(model="", text=text))


async def close() -> None:
    """Tell the other processes what is new, at the end of this one."""
    if start.cache_info().currsize:
        await start().app.close()
