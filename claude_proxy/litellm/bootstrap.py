"""Where the parts come together in LiteLLM's process: settings, callback, routes of our own, gateway, logs."""

import asyncio
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import litellm
from fastapi import Depends, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.anthropic_endpoints.endpoints import anthropic_response
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
from starlette.applications import Starlette
from starlette.routing import Route

from claude_proxy.check import watcher
from claude_proxy.config import models as config
from claude_proxy.config.settings import LogFormat, Settings, environment
from claude_proxy.credentials.redaction import Redactor, secrets_in_config, secrets_of
from claude_proxy.litellm.callback import ClaudeProxy, active_config, limits
from claude_proxy.litellm.clients import AttemptRefused
from claude_proxy.litellm.custom_auth import authenticate, is_session, key_allows
from claude_proxy.litellm.patches import (
    build_nothing_unread,
    end_what_cannot_be_understood,
    give_each_call_a_chunk,
    guard_every_request,
    guard_other_clients,
    keep_the_latest_chunks,
    leave_chats_as_they_are,
)
from claude_proxy.litellm.router import put_in_force
from claude_proxy.litellm.transport import chat_http, shared_http
from claude_proxy.providers.model_names import listing
from claude_proxy.proxy.exchange import current
from claude_proxy.server.gateway import Gateway
from claude_proxy.state.redis import RedisStore
from claude_proxy.state.sqlite import SqliteStore
from claude_proxy.state.store import Store
from claude_proxy.usage import request_log


@functools.cache
def start() -> ClaudeProxy:
    """Return the process's one callback. LiteLLM runs an entry file once for each reference to it."""
    settings = Settings.parse(environment())
    callback = ClaudeProxy(settings, shared_store(settings))
    install(settings, callback)
    return callback


def shared_store(settings: Settings) -> Store | None:
    """Return where the pool's state is shared: Redis, the state file, or nowhere."""
    url = settings.redis_url.reveal() if settings.redis_url else config.redis_url(active_config().loaded, os.environ)
    if url:
        return RedisStore(url)
    if settings.state_file in ("", "none"):
        return None
    return SqliteStore(Path(settings.state_file))


def install(settings: Settings, callback: ClaudeProxy) -> None:
    """Put the gateway around LiteLLM's app and the redaction under its logs."""
    app = proxy_server.app
    secrets = [credential.secret for credential in settings.credentials]
    secrets += [secret for secret in (settings.static_token, settings.master_key, settings.database_url) if secret]
    secrets += [user.token for user in settings.users.everybody() if user.token]
    redactor = callback.redactor = Redactor([*secrets, *secrets_of(environment())])
    _learn_secrets(redactor, active_config().loaded)
    litellm.use_chat_completions_url_for_anthropic_messages = True
    litellm.expose_router_debug_in_errors = False
    # The hook for streams keeps clients alive; LiteLLM would run a task for each chunk to do so.
    litellm.anthropic_sse_ping_interval_seconds = 0
    # The gateway and the route itself ask for a token; LiteLLM's check would let the master key alone through.
    litellm.require_auth_for_metrics_endpoint = False
    give_each_call_a_chunk()
    build_nothing_unread()
    end_what_cannot_be_understood()
    leave_chats_as_they_are()
    guard_every_request()
    guard_other_clients()
    keep_the_latest_chunks()
    shared_http()
    litellm.aclient_session = chat_http()
    app.router.routes[:0] = [
        APIRoute("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
        *(APIRoute(path, models, methods=["GET"]) for path in ("/v1/models", "/models")),
        *callback.panel().routes(),
    ]
    # Middleware cannot be added once the app has started, and callbacks are loaded while it starts.
    app.middleware_stack = Gateway(
        app.middleware_stack or app.build_middleware_stack(),
        settings,
        redactor,
        callback.remember,
        is_session=is_session,
        model_app=model_app(settings, app.exception_handlers),
        keeps_books=lambda: settings.database_url is not None or active_config().keeps_books,
    )
    request_log.configure(
        redactor, verbose=os.environ.get("LITELLM_LOG", "").upper() == "DEBUG", as_json=settings.log_format is LogFormat.JSON
    )


def model_app(settings: Settings, exception_handlers: Mapping[Any, Any]) -> Starlette:
    """Return an app of LiteLLM's endpoint for messages and of ours, without the thirteen layers around LiteLLM's own app.

    Those serve browsers, budgets and metrics of a database; and its routes are looked through one by one for each request.
    """

    async def messages(request: Request) -> Response:
        caller = await authenticate(request, settings)
        answer = await anthropic_response(Response(), request, caller)
        return answer if isinstance(answer, Response) else JSONResponse(jsonable_encoder(answer))

    async def tokens(request: Request) -> Response:
        return await count_tokens(await authenticate(request, settings))

    routes = [
        Route("/v1/messages", messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", tokens, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers=dict(exception_handlers))


async def count_tokens(_: Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]) -> Response:
    """The route that takes the place of LiteLLM's own, behind the same check of the key."""
    exchange = current.get()
    if exchange is None:
        raise AttemptRefused("the gateway is not in place")
    try:
        return await start().count_tokens(exchange)
    except (AttemptRefused, BaseLLMException):
        return Response(status_code=500)  # the gateway puts the exchange's refusal in its place


async def models(caller: Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]) -> Response:
    """The route that takes the place of LiteLLM's own, whose list of a pattern is its price list."""
    exchange = current.get()
    user = exchange.user if exchange else ""
    names = config.model_names(active_config().loaded)
    return JSONResponse(
        listing(names, lambda name: limits().allows(user, name) and key_allows(caller, name, proxy_server.llm_router))
    )


def watch_config() -> None:
    """From now on take up every change of config.yaml, once LiteLLM has started."""
    found = watcher.watcher(active_config(), _take_up, environment()) if start.cache_info().currsize else None
    if found is not None:
        start().watching = asyncio.ensure_future(found.run())


def _learn_secrets(redactor: Redactor, loaded: Mapping[str, Any]) -> None:
    for secret in secrets_in_config(loaded, os.environ):
        redactor.learn(secret)


def _take_up(new: Mapping[str, Any], found: watcher.Change) -> Iterable[str]:
    _learn_secrets(start().redactor, new)
    return put_in_force(proxy_server.llm_router, active_config().loaded, new, found)


async def close() -> None:
    """Tell the other processes what is new, at the end of this one."""
    if start.cache_info().currsize:
        await start().close()
