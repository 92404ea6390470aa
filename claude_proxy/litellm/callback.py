"""LiteLLM's callback: the hooks in the order in which a request meets them, each a few lines over the core."""

import asyncio
import functools
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import litellm
from fastapi import Response
from fastapi.responses import JSONResponse
from litellm.caching.caching import DualCache
from litellm.integrations.custom_logger import CustomLogger
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.types.utils import CallTypes

from claude_proxy.access.routes import SHARED_NAMES
from claude_proxy.anthropic import token_estimate
from claude_proxy.anthropic.errors import Refusal, own_refusal
from claude_proxy.anthropic.messages import THINKING_PARAMETERS, large
from claude_proxy.config import models
from claude_proxy.config.model_access import Limits
from claude_proxy.config.settings import Settings, TokenMode
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.expiry import AgeWarnings
from claude_proxy.credentials.pool import Pool, Wanted
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.litellm.clients import (
    AttemptRefused,
    BetasInBody,
    ClaudeClient,
    FilteringClient,
    PlainClient,
    exhausted_pool,
    refused_pool,
)
from claude_proxy.litellm.patches import keep_no_records
from claude_proxy.litellm.transport import shared_http
from claude_proxy.providers import compatibility, demo, request_fields, returned
from claude_proxy.providers.bounds import TooLarge
from claude_proxy.providers.endpoints import (
    Hosts,
    Provider,
    bare_model,
    fallback_models,
    is_openai_itself,
    model_family,
    wildcard_model,
)
from claude_proxy.providers.model_names import served_name
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.exchange import Exchange, current
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.relay import KEEPALIVE_SECONDS, close_stream, filtered
from claude_proxy.proxy.rotation import PoolSource, Rotation, SingleSource, Source
from claude_proxy.server.status_routes import Panel
from claude_proxy.state.replication import Synchroniser, Together
from claude_proxy.state.store import Store
from claude_proxy.upstream.headers import session_of
from claude_proxy.usage import request_log
from claude_proxy.usage.ledger import Book
from claude_proxy.usage.record import Record
from claude_proxy.usage.report import StoreStatus

# How long the first request waits for what other processes know, in seconds.
LOAD_SECONDS = 3.0
# LiteLLM refuses to call Anthropic without a key; the real credential is put on the request by Rotation.
PLACEHOLDER_KEY = "set-by-claude-proxy"


class ClaudeProxy(CustomLogger):  # type: ignore[misc]  # LiteLLM's class is untyped
    """One flat class: LiteLLM finds several hooks only in the callback class's own body."""

    def __init__(self, settings: Settings, store: Store | None = None, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.settings = settings
        self.hosts = Hosts(settings.claude_base)
        self.pool = Pool(
            settings.credentials,
            affinity=settings.affinity,
            quarantine=settings.quarantine_seconds,
            cooldown=settings.cooldown_seconds,
            soft_limit=settings.soft_limit,
            clock=clock,
            on_rest=self._tell_others,
        )
        # Put in place with what is around LiteLLM's app.
        self.redactor = Redactor([])
        self.book = Book(clock=clock, listed=lambda model: model in active_config().listed)
        self._ages = AgeWarnings()
        self._clock = clock
        self._started = clock()
        self._sync = Synchroniser(store, Together(self.pool, self.book)) if store else None
        if store is None:
            self.pool.note_seen()
        self._syncing: asyncio.Task[None] | None = None
        self.watching: asyncio.Task[None] | None = None

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: DualCache, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Refuse a model that nobody serves, and give LiteLLM the fallbacks by pattern; it knows exact names only.

        Where no fallback could follow, LiteLLM does not repeat a request to Claude: Claude Code does that itself, ten times.
        """
        await self.learn_from_others()
        # Here and not before: LiteLLM stamps its answers with the name that it got first.
        router, model = _router(), served_name(str(data.get("model", "")))
        data["model"] = model
        exchange = current.get()
        found = fallback_models(model, getattr(router, "fallbacks", None) or ())
        if found is not None and "fallbacks" not in data:
            # Without those that could not answer. An empty list, too: without it LiteLLM would look for some of its own.
            found = data["fallbacks"] = [name for name in found if _is_ready(router, name)]
        if exchange is not None and router is not None:
            params = (await served_by(router, model, exchange))[0]["litellm_params"]
            if self._provider(params) is Provider.CLAUDE and not found:
                data["num_retries"] = 0
        return data

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[dict[str, Any]],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[dict[str, Any]]:
        """Of several deployments with one name, leave out those whose key is not set, while others are ready."""
        ready = [
            one for one in healthy_deployments if not _lacks_a_key(one.get("litellm_params", {}), str(one.get("model_name")))
        ]
        return ready or healthy_deployments

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: CallTypes | None) -> dict[str, Any]:
        """Prepare one attempt, after the deployment is chosen. LiteLLM calls it a second time where it translates."""
        provider = self._provider(kwargs)
        exchange = current.get()
        if call_type is not CallTypes.anthropic_messages or exchange is None:
            if provider is Provider.CLAUDE:
                raise AttemptRefused("Claude is asked only on behalf of a client, through /v1/messages")
            return kwargs
        if exchange.final:
            raise AttemptRefused("the answer that there is belongs to the client")
        exchange.begin(provider, _served(kwargs))
        if provider is Provider.CLAUDE:
            return self._for_claude(kwargs, exchange)
        if not exchange.booked:
            kwargs = kwargs | await offloaded(len(exchange.raw_body), large, exchange.body, exchange.raw_body)
        if provider is Provider.DEMO:
            return kwargs | {"api_key": PLACEHOLDER_KEY, "client": PlainClient(demo_transport(self.pool))}
        return await self._for_others(kwargs, exchange, provider)

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: UserAPIKeyAuth, response: Any) -> Any:
        """Take thinking out of a whole response of another provider's, and name the model that was asked for."""
        exchange = current.get()
        if exchange is None or not isinstance(response, dict) or not _is_translated(exchange):
            return response
        clean = returned.returned_response(response, exchange.dialect)
        return clean | {"model": exchange.model, "id": clean.get("id") or f"msg_{uuid.uuid4().hex}"}

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: UserAPIKeyAuth, response: AsyncIterator[Any], request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Take thinking out of a stream of another provider's. Who serves it is known at the first chunk, not before."""
        exchange = current.get()
        if exchange is not None and not exchange.booked:
            keep_no_records(request_data)
        chunks = aiter(response)
        try:
            first = await anext(chunks, None)
        except asyncio.CancelledError:
            # The client left before the first event, and LiteLLM would let the provider go on.
            await close_stream(chunks)
            raise
        if first is None:
            return
        if exchange is None or not _is_translated(exchange):
            yield first
            async for chunk in chunks:
                yield chunk
            return
        async for ready in filtered(first, chunks, ThinkingFilter(exchange.model, exchange.dialect), KEEPALIVE_SECONDS):
            yield ready

    async def count_tokens(self, exchange: Exchange) -> Response:
        """Answer ``/v1/messages/count_tokens``: Claude's own number, on a credential as any request; else an estimate.

        LiteLLM's own route calls no hook that could choose a credential. Claude Code repeats a refused count as a billed
        request, thirteen of them at ``/context``; so where Claude is busy there is an estimate, too.
        """
        await self.learn_from_others()
        params = (await served_by(_router(), exchange.name, exchange))[0]["litellm_params"]
        model = str(params["model"])
        provider = self._provider(params)
        exchange.begin(provider, _served(params))
        if provider is Provider.CLAUDE:
            prepared = self._for_claude({"model": wildcard_model(model, exchange.name), **params}, exchange)
            base = params.get("api_base") or self.settings.claude_base
            try:
                await prepared["client"].post(f"{base}/v1/messages/count_tokens", data=exchange.raw_body)
                return Response()  # the answer has left already, as it came
            except (BaseLLMException, httpx.TransportError, litellm.Timeout):
                if exchange.final:
                    raise
        tokens = await offloaded(len(exchange.raw_body), token_estimate.input_tokens, exchange.body, _tokens)
        return JSONResponse({"input_tokens": tokens})

    async def learn_from_others(self) -> None:
        """Before the first requests, take in what the last process and the other workers know; from then on keep it up."""
        if self._sync is None:
            return
        if self._syncing is None:
            self._syncing = asyncio.ensure_future(self._start_sync(self._sync))
        if not self._syncing.done():  # after a restart many clients come at once, and none of them is to ask who rests
            await asyncio.wait({self._syncing}, timeout=LOAD_SECONDS)

    async def _start_sync(self, sync: Synchroniser) -> None:
        self.pool.set_salt(await sync.salt())
        await sync.load()
        self.pool.note_seen()
        self._running = asyncio.ensure_future(sync.run())

    def remember(self, record: Record) -> None:
        """Count a request that is over and write its line into the log."""
        self.book.record(record)
        request_log.write_request(record)
        now = self._clock()
        if self._ages.due(now):
            self._ages.look(self.pool.snapshot(), now)

    def panel(self) -> Panel:
        """Return the routes' answers: what this process knows, and what the others have told it a moment ago."""
        return Panel(self.settings, self.pool, self.book, knowledge=self._knowledge, fresh=self._learn_now, clock=self._clock)

    def _knowledge(self) -> StoreStatus:
        sync = self._sync
        return StoreStatus(sync.kind if sync else None, bool(sync and sync.away), self._started)

    async def _learn_now(self) -> None:
        await self.learn_from_others()
        if self._sync is not None and not self._sync.away:
            self.book.flush_next()
            await self._sync.exchange()

    async def close(self) -> None:
        """Push what has changed last and end the synchronisation."""
        self.book.flush_next()
        if self.watching is not None:
            self.watching.cancel()
        if self._sync is not None and self._syncing is not None:
            await self._sync.close()

    def _tell_others(self) -> None:
        if self._sync is not None:
            self._sync.wake()

    def _provider(self, params: Mapping[str, Any]) -> Provider:
        return self.hosts.provider(str(params.get("model", "")), params.get("custom_llm_provider"), params.get("api_base"))

    def _for_claude(self, kwargs: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        model = bare_model(str(kwargs["model"]))
        family = model_family(model)
        source = self._source(exchange, family, kwargs.get("api_key"))
        if source is None:
            exchange.final = True
            exchange.refusal = own_refusal(
                401,
                "No Claude credential: the proxy's pool is empty and the request has none of its own. Set CLAUDE_OAUTH_TOKENS "
                "or CLAUDE_API_KEYS on the proxy, or log in with Claude Code and send the proxy's token in x-litellm-api-key.",
            )
            raise AttemptRefused("no Claude credential")
        rotation = Rotation(
            source, self.hosts, exchange, family=family, cooldown=self.settings.cooldown_seconds, clock=self._clock
        )
        client = ClaudeClient(rotation, exchange, model, lambda: self._nobody(family))
        return kwargs | {"api_key": PLACEHOLDER_KEY, "client": client}

    def _nobody(self, family: str) -> Refusal:
        seconds = self.pool.retry_after(family)
        if self.pool.is_out(family):
            return refused_pool(seconds)
        return exhausted_pool(seconds, self._clock(), self.pool.claim(family))

    def _source(self, exchange: Exchange, family: str, deployment_key: str | None) -> Source | None:
        mode = TokenMode(exchange.client.mode) if exchange.client.mode else self.settings.mode
        if mode is TokenMode.ROTATE and len(self.pool):
            wanted = Wanted(session_of(exchange.client, exchange.body), family)
            # Those who share a name are told apart by their sessions.
            caller = f"{exchange.user} {wanted.session}" if exchange.user in SHARED_NAMES else exchange.user
            return PoolSource(self.pool, wanted, caller=caller, max_wait=self.settings.max_wait_seconds)
        if exchange.client.credential:
            return SingleSource(exchange.client.credential)
        return SingleSource(Credential.of("deployment", deployment_key)) if deployment_key else None

    async def _for_others(self, kwargs: dict[str, Any], exchange: Exchange, provider: Provider) -> dict[str, Any]:
        group = _model_group(kwargs) or exchange.name
        unset = unset_variables().get(group) if _lacks_a_key(kwargs, group) else None
        if unset:
            message = f"{group} is not ready: set {' and '.join(unset)} on the proxy (.env) and restart it."
            if exchange.attempts == 1:
                exchange.final = True
                exchange.refusal = own_refusal(400, message)
                exchange.first_provider = None
            raise AttemptRefused(message)
        relayed = provider is Provider.ANTHROPIC_FORMAT
        row = exchange.dialect = compatibility.dialect(
            str(kwargs["model"]), kwargs.get("custom_llm_provider"), _api_base(kwargs, provider)
        )
        own = _deployment_parameters(kwargs)
        prepared = {name: value for name, value in kwargs.items() if name not in request_fields.FIELDS}
        try:
            prepared |= await offloaded(
                len(exchange.raw_body),
                request_fields.translated,
                kwargs,
                row,
                relayed=relayed,
                hosts=active_config().fetch_hosts,
            )
        except TooLarge as error:
            if exchange.attempts == 1:
                exchange.final = True
                exchange.refusal = own_refusal(400, str(error))
                exchange.first_provider = None
            raise AttemptRefused(str(error)) from None
        prepared |= {name: own[name] for name in THINKING_PARAMETERS if own.get(name) is not None}
        prepared["provider_specific_header"] = _beta_header(exchange, row)
        session = session_of(exchange.client, exchange.body)
        if row.prompt_cache_key and session:
            prepared.setdefault("prompt_cache_key", session)
        if provider is Provider.OPENAI:
            return prepared | as_chat_completions(prepared)
        if relayed:
            prepared["client"] = FilteringClient(exchange, ThinkingFilter(exchange.model, exchange.dialect))
        elif row.name == "vertex":
            prepared["client"] = BetasInBody(shared_http())
        return prepared


def _beta_header(exchange: Exchange, row: compatibility.Dialect) -> dict[str, Any] | None:
    """Return the betas that the provider may see, in the shape in which LiteLLM adds headers for one provider."""
    sent = ",".join(value for name, value in exchange.headers if name.lower() == "anthropic-beta")
    betas = compatibility.allowed_betas(sent, row)
    return {"custom_llm_provider": row.prefix, "extra_headers": {"anthropic-beta": ",".join(betas)}} if betas else None


def _api_base(kwargs: Mapping[str, Any], provider: Provider) -> str | None:
    """Return the endpoint of a deployment; for ``openai/`` it may come from the environment, as LiteLLM has it."""
    base = kwargs.get("api_base")
    if base or provider is not Provider.OPENAI:
        return base
    return os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE")


def as_chat_completions(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that keep an ``openai/`` deployment on ``/v1/chat/completions``.

    LiteLLM 1.106.2 has four ways off it: its flag, ``thinking`` of type enabled, a price list that names some models as
    Responses-only, and ``reasoning_effort`` for others. At OpenAI itself the last two are right, for it refuses those
    models on chat completions. For a compatible endpoint nothing of the kind is known, and LiteLLM's provider for those,
    ``custom_openai``, never leaves the path; what it does not know of parameters goes into ``extra_body``.
    """
    litellm.use_chat_completions_url_for_anthropic_messages = True
    changed: dict[str, Any] = {"thinking": None}
    base = _api_base(kwargs, Provider.OPENAI)
    if is_openai_itself(base):
        return changed
    changed |= {
        "api_base": base,
        "model": f"custom_openai/{str(kwargs['model']).removeprefix('openai/')}",
        "custom_llm_provider": "custom_openai",
    }
    effort = kwargs.get("reasoning_effort")
    if effort is not None:
        changed |= {"reasoning_effort": None, "extra_body": (kwargs.get("extra_body") or {}) | {"reasoning_effort": effort}}
    return changed


def _is_translated(exchange: Exchange) -> bool:
    return exchange.provider not in (None, Provider.CLAUDE, Provider.DEMO)


@functools.cache
def demo_transport(pool: Pool) -> httpx.AsyncClient:
    """The HTTP client whose answers are made in the process; they name the models that are served now."""

    def answer(request: httpx.Request) -> httpx.Response:
        return demo.respond(request, demo.text(models.model_names(active_config().loaded), unset_variables(), len(pool)))

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def _tokens(text: str) -> int:
    return int(litellm.token_counter(model="", text=text))


async def served_by(router: Any, model: str, exchange: Exchange) -> list[Any]:
    """Return the deployments of a model; refuse one that no entry of config.yaml matches, or that the user may not use.

    LiteLLM itself would look for it for nine seconds, and answer 400. Only what the client asks for comes by here: the
    fallbacks of a model that a user may use are theirs, too.
    """
    forbidden = await offloaded(len(exchange.raw_body), limits().forbidden, exchange.user, model, exchange.raw_body)
    if forbidden:
        exchange.refusal = own_refusal(403, limits().refusal(exchange.user, forbidden))
        raise AttemptRefused(f"{exchange.user} may not use {forbidden}")
    found: list[Any] | None = router.get_model_list(model_name=model) if router else None
    if not found:
        exchange.refusal = own_refusal(404, f"model: {model} is not served by this proxy")
        raise AttemptRefused(f"no model {model}")
    return found


def _is_ready(router: Any, model: str) -> bool:
    """Whether a model is served by a deployment that lacks no key."""
    deployments = router.get_model_list(model_name=model) or ()
    return any(not _lacks_a_key(one["litellm_params"], model) for one in deployments)


def _router() -> Any:
    return proxy_server.llm_router


def load_config() -> dict[str, Any]:
    """Return what config.yaml holds, from where LiteLLM read it."""
    path = proxy_server.user_config_file_path
    return models.load(Path(path)) if path else {}


@functools.cache
def active_config() -> models.ActiveConfig:
    """Return the process's one configuration: that of the start, until a changed one is taken up."""
    return models.ActiveConfig(load_config(), os.environ)


def limits() -> Limits:
    """Which models each person may use."""
    return active_config().limits


def unset_variables() -> dict[str, tuple[str, ...]]:
    """The variables that each model lacks."""
    return active_config().unset


def referring_parameters() -> dict[str, frozenset[str]]:
    """The parameters that each model takes from the environment."""
    return active_config().referring


def _lacks_a_key(params: Mapping[str, Any], group: str) -> bool:
    """Whether a parameter that config.yaml takes from the environment is empty here."""
    return group in unset_variables() and any(not params.get(name) for name in referring_parameters().get(group, ()))


def _served(kwargs: Mapping[str, Any]) -> str:
    """Return a deployment's provider and model, in LiteLLM's words."""
    model, provider = str(kwargs.get("model", "")), kwargs.get("custom_llm_provider")
    return model if not provider or model.startswith(f"{provider}/") else f"{provider}/{model}"


def _model_group(kwargs: Mapping[str, Any]) -> str | None:
    metadata = kwargs.get("litellm_metadata")
    group = metadata.get("model_group") if isinstance(metadata, dict) else None
    return group if isinstance(group, str) else None


def _deployment_parameters(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the deployment's own ``litellm_params``; what the client sent is not among them."""
    info = kwargs.get("model_info")
    deployment = (
        _router().get_deployment(model_id=info["id"]) if _router() and isinstance(info, dict) and "id" in info else None
    )
    return deployment.litellm_params.model_dump(exclude_none=True) if deployment else {}
