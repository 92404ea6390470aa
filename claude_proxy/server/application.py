"""Creates the parts of one process and connects them: settings, configuration, pool, history, lanes."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from claude_proxy.access.request_limits import RequestLimits
from claude_proxy.check.watcher import Watcher
from claude_proxy.config.client_models import CurrentModels, ListedWindow
from claude_proxy.config.deployments import Lane
from claude_proxy.config.models import ActiveConfig, model_names, not_ready
from claude_proxy.config.outbound_proxies import OutboundProxies
from claude_proxy.config.pool_watcher import PoolWatcher
from claude_proxy.config.settings import Settings, TokenMode
from claude_proxy.config.signing_keys import NO_PLACE, Place
from claude_proxy.config.users import folded
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.expiry import ExpiryWarnings
from claude_proxy.credentials.pool import Pool
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.history.service import History
from claude_proxy.providers import demo
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.admission import Admission
from claude_proxy.proxy.lanes.attempt import LaneOf
from claude_proxy.proxy.lanes.chat_lane import ChatLane, Endpoint, HttpEndpoint
from claude_proxy.proxy.lanes.claude_lane import ClaudeLane
from claude_proxy.proxy.lanes.demo_lane import DemoLane
from claude_proxy.proxy.lanes.messages_lane import MessagesLane
from claude_proxy.proxy.rule_choice import RuleChoice
from claude_proxy.proxy.serving import Serving
from claude_proxy.server.anthropic_api import AnthropicApi
from claude_proxy.server.budget_names import unknown_name
from claude_proxy.server.budget_routes import BudgetRoutes
from claude_proxy.server.gateway import ClientRoute
from claude_proxy.server.history_routes import HistoryRoutes
from claude_proxy.server.managed_route import ManagedRoute
from claude_proxy.server.overview import Overview
from claude_proxy.server.pool_routes import PoolRoutes
from claude_proxy.server.request_routes import RequestRoutes, running_of
from claude_proxy.server.signin_pages import SigninPages
from claude_proxy.server.signin_routes import SignInRoutes
from claude_proxy.server.status_routes import StatusRoutes
from claude_proxy.server.telemetry_relay import TelemetryRelay
from claude_proxy.server.viewers import Viewers
from claude_proxy.signin.browser_sessions import BrowserSessions
from claude_proxy.signin.oidc_client import OidcClient
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.state.replication import CombinedState, Synchronizer
from claude_proxy.state.sqlite import SqliteStore
from claude_proxy.state.store import Store
from claude_proxy.upstream.client import UpstreamClient
from claude_proxy.upstream.search_client import SearchClient
from claude_proxy.usage import request_log
from claude_proxy.usage.own_telemetry import ConfiguredTelemetry
from claude_proxy.usage.prices import Lookup, Prices
from claude_proxy.usage.recent_requests import RecentRequests
from claude_proxy.usage.record import Record
from claude_proxy.usage.report import StoreStatus
from claude_proxy.usage.running_requests import RunningRequests
from claude_proxy.usage.standing import ActiveBudgets

# How long the first request waits for the state of other processes, in seconds.
LOAD_SECONDS = 3.0
# How long a request's record may be buffered, in seconds.
RECORD_SECONDS = 0.05
# The key prefixes of credentials and their sessions in the store.
POOL_ROWS = ("credential:", "lifted:", "seen:", "session:")


class App:
    """One per process, used from one event loop.

    ``history`` is the file of the history; None for memory. ``count`` returns the number of tokens in a text. ``completions``
    is the endpoint for providers whose format only LiteLLM knows. ``proxies`` come from the environment at the start of the
    process. ``listed_price`` reads LiteLLM's price list. ``keys`` is the place of the keys of sign-in. ``listed_window``
    returns the window of a model by LiteLLM's list.
    """

    def __init__(
        self,
        settings: Settings,
        config: ActiveConfig,
        redactor: Redactor,
        *,
        store: Store | None = None,
        history: Path | None = None,
        count: Callable[[str], int] = len,
        completions: Endpoint | None = None,
        proxies: OutboundProxies | None = None,
        listed_price: Lookup = lambda _: None,
        keys: Place = NO_PLACE,
        listed_window: ListedWindow = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self.settings = settings
        self.config = config
        self.redactor = redactor
        self.hosts = Hosts(settings.claude_base)
        self.pool = self._new_pool()
        self.prices = Prices(config, listed_price)
        self.budgets = ActiveBudgets(lambda: config.budgets, clock)
        cost, unpriced = self.prices.cost, self.prices.unpriced
        confirm, wake = self.confirm, self._push_now
        self.admission = Admission(self.budgets, cost, confirm=confirm, wake=wake, unpriced=unpriced, clock=clock)
        self.recent = RecentRequests(clock=clock, redact=redactor.text)
        self.running = RunningRequests(clock=clock)
        self.history = self._new_history(history, store)
        self.client = UpstreamClient(proxies=proxies)
        self.telemetry = TelemetryRelay(self.client, lambda: config.telemetry)
        self._own_telemetry = ConfiguredTelemetry(lambda: config.telemetry)
        self.anthropic = AnthropicApi(settings, config, self.pool, confirm=confirm, wake=wake, clock=clock)
        self.serving = self._serving(Meter(count), completions)
        self.client_models = CurrentModels(config, settings, listed_window)
        self._records: list[Record] = []
        self._expiry_warnings = ExpiryWarnings()
        self._started = clock()
        self.request_limits = RequestLimits(lambda: config.user_limits, clock=clock)
        self._oidc = OidcClient(self.client, lambda: config.oidc, self._has_token)
        self.sign_in = SignIn(store, keys, settings.users, lambda: config.sign_in, clock, provider=self._oidc)
        self.overview = self._overview(is_shared=store is not None)
        self._sync = Synchronizer(store, self._shared()) if store else None
        if store is None:
            self.pool.record_first_seen()
        self._syncing: asyncio.Task[None] | None = None
        self.watching: asyncio.Task[None] | None = None
        self.config_watcher: Watcher | None = None
        self._alerting: asyncio.Task[None] | None = None
        self._pool_watcher: PoolWatcher | None = None
        self._watching_pool: asyncio.Task[None] | None = None

    def _new_history(self, path: Path | None, store: Store | None) -> History:
        return History(
            path,
            clock=self._clock,
            listed=lambda model: model in self.config.listed,
            zone=lambda: self.config.budgets.timezone,
            shares=store is not None and store.kind != SqliteStore.kind,  # workers share the file
        )

    def _new_pool(self) -> Pool:
        settings = self.settings
        return Pool(
            settings.credentials,
            affinity=settings.affinity,
            quarantine=settings.quarantine_seconds,
            cooldown=settings.cooldown_seconds,
            soft_limit=settings.soft_limit,
            order=settings.order,
            extra_usage=settings.extra_usage,
            clock=self._clock,
            on_cooldown=self._push_now,
        )

    def _serving(self, meter: Meter, completions: Endpoint | None) -> Serving:
        lacks_price = self.admission.lacks_price
        return Serving(
            self._lanes(meter, completions),
            self.config,
            meter=meter,
            rules=RuleChoice(self.config, meter, self.pool.snapshot, self._clock, lacks_price=lacks_price),
            ready=self.load_shared_state,
            lacks_price=lacks_price,
        )

    def _lanes(self, meter: Meter, completions: Endpoint | None) -> dict[Lane, LaneOf]:
        settings, config, objects = self.settings, self.config, self.anthropic.objects
        web = SearchClient(self.client, lambda: config.web_search)

        def chat(endpoint: Endpoint) -> ChatLane:
            return ChatLane(endpoint, meter, lambda: config.fetch_hosts, web)

        return {
            Lane.CLAUDE: ClaudeLane(
                settings, self.hosts, self.pool, self.client, self._clock, groups=lambda: config.pool_groups, objects=objects
            ),
            Lane.MESSAGES: MessagesLane(self.client, meter, web),
            Lane.CHAT: chat(HttpEndpoint(self.client)),
            Lane.DEMO: DemoLane(self._demo_text),
            **({Lane.COMPLETION: chat(completions)} if completions else {}),
        }

    def _shared(self) -> CombinedState:
        """Return what the processes share."""
        usage = *self.history.shared, self.recent, self.running, *self.budgets.parts, self.anthropic.shared
        return CombinedState(self.pool, *usage, self.request_limits, self.sign_in.shared, *self.overview.parts)

    def _overview(self, *, is_shared: bool) -> Overview:
        return Overview(
            self.settings,
            self.config,
            self.pool,
            used=lambda: self.history.latest,
            prices=self.prices,
            budgets=self.budgets,
            store_status=self._store_status,
            problems=self.pool_problems,
            is_config_refused=lambda: bool(self.config_watcher and self.config_watcher.is_refused),
            is_history_away=lambda: self.history.database.unavailable,
            own_budgets=lambda caller: self.budget_routes().of_caller(caller),
            is_shared=is_shared,
            wake=self._push_now,
            clock=self._clock,
        )

    def watch_alerts(self) -> None:
        """Start to evaluate the rules of alerts, and to notify operators."""
        self._alerting = asyncio.ensure_future(self._watch_alerts())

    async def _watch_alerts(self) -> None:
        await self.load_shared_state()  # so that what the last process has sent is known
        await self.overview.run()

    async def load_shared_state(self) -> None:
        """Before the first requests, apply the state of the last process and of the other workers; then keep it in sync."""
        self.history.start()
        if self._sync is None:
            return
        if self._syncing is None:
            self._syncing = asyncio.ensure_future(self._start_sync(self._sync))
        if not self._syncing.done():  # after a restart many clients arrive together; none may use a rate-limited credential
            await asyncio.wait({self._syncing}, timeout=LOAD_SECONDS)

    async def _start_sync(self, sync: Synchronizer) -> None:
        self.pool.set_salt(await sync.salt())
        await sync.load()
        self.pool.record_first_seen()
        self._running = asyncio.ensure_future(sync.run())

    async def confirm(self) -> bool:
        """Return whether this process has every amount that others had shared when it was called, and they those of it."""
        await self.load_shared_state()
        if self._sync is None:
            return True
        return self._syncing is not None and self._syncing.done() and await self._sync.confirm()

    def watch_pool(self, environ: Mapping[str, str]) -> None:
        """Start to apply changes of the pool's files."""
        settings = self.settings
        self._pool_watcher = PoolWatcher(
            environ, settings.credentials, self.replace_credentials, problems=settings.pool_problems, clock=self._clock
        )
        self._watching_pool = asyncio.ensure_future(self._pool_watcher.run())

    def replace_credentials(self, credentials: Sequence[Credential]) -> None:
        """Replace the pool's credentials. Their secrets are added to the redaction before they are used."""
        for credential in credentials:
            self.redactor.learn(credential.secret)
        self.pool.replace_credentials(credentials)
        self.pool.record_first_seen()
        if self._sync is not None:
            self._sync.reload(*POOL_ROWS)

    def pool_problems(self) -> tuple[str, ...]:
        """Return the current problems of the pool's files, in words."""
        return self._pool_watcher.problems if self._pool_watcher else self.settings.pool_problems

    def record(self, record: Record) -> None:
        """Accept the record of a finished request; it is counted and logged within ``RECORD_SECONDS``.

        Records are processed together: one by one they would take a tenth of a busy process's time.
        """
        self._records.append(record)
        if len(self._records) == 1:
            asyncio.get_running_loop().call_later(RECORD_SECONDS, self.write_records)

    def write_records(self) -> None:
        """Count and log the buffered records."""
        records, self._records = self._records, []
        self._own_telemetry.record(records)
        for record in records:
            self.overview.errors.record(record)
            self.recent.record(record)
            request_log.write_request(record)
        self.history.record(*records)
        now = self._clock()
        if self._expiry_warnings.due(now):
            self._expiry_warnings.log_due(self.pool.snapshot(), now)

    def status_routes(self) -> StatusRoutes:
        """Return the status routes, which show the state of this process and the latest state of the others."""
        return StatusRoutes(
            self.settings,
            self.pool,
            self.history,
            store_status=self._store_status,
            fresh=self._refresh_state,
            clock=self._clock,
            problems=self.pool_problems,
            groups=lambda: self.config.pool_groups,
            budgets=self.budget_routes().rows,
            overview=self.overview.shown,
            metrics=self.overview.metrics,
            running=lambda viewer: running_of(self.running, viewer),
        )

    def request_routes(self) -> RequestRoutes:
        """Return the route that shows the latest requests."""
        viewer = self._viewers().viewer
        return RequestRoutes(self.settings, self.recent, self.running, ready=self._show_records, viewer=viewer)

    def history_routes(self) -> HistoryRoutes:
        """Return the routes that show the history."""
        return HistoryRoutes(self.history, self._viewers(), fresh=self._refresh_state, clock=self._clock)

    def _viewers(self) -> Viewers:
        return Viewers(self.settings, self.pool, lambda: self.config.pool_groups)

    def budget_routes(self) -> BudgetRoutes:
        """Return the routes that show and change budgets."""
        return BudgetRoutes(
            self.settings,
            self.budgets,
            confirm=self.confirm,
            is_shared=self._sync is not None,
            groups=lambda caller: self.config.groups.of_user(caller.name, caller.groups),
            unknown_name=lambda scope: unknown_name(scope, self.config, self.settings),
        )

    def client_routes(self) -> Mapping[tuple[str, str], ClientRoute]:
        """Return what Claude Code reads for its user, by method and route."""
        managed = ManagedRoute(self.config, self.redactor, self.client_models, has_login=lambda: len(self.pool) > 0)
        return {("GET", "/managed/settings"): managed.respond}

    def pool_routes(self) -> PoolRoutes:
        """Return the routes that change the pool."""
        return PoolRoutes(self.settings, self.redactor, lambda: self._pool_watcher, self.pool.lift)

    def sign_in_routes(self) -> SignInRoutes:
        """Return the routes of sign-in, which the gateway serves."""
        pages = SigninPages(
            self.settings,
            self.sign_in,
            BrowserSessions(self.sign_in.store, self._clock),
            self._oidc,
            learn=self.redactor.learn,
            clock=self._clock,
        )
        return SignInRoutes(self.sign_in, self.settings, pages.routes())

    def _has_token(self, name: str) -> bool:
        """Whether a user with a personal token has this name, in any case."""
        return any(folded(user.name) == folded(name) for user in self.settings.users.all_users())

    def prepare_sign_in(self) -> None:
        """Make the keys of sign-in in the background, if it is enabled."""
        self._preparing = asyncio.ensure_future(self.sign_in.prepare())

    async def close(self) -> None:
        """Push the last changes, stop the synchronization and close the connections."""
        self.write_records()
        self._flush_next()
        for task in (self.watching, self._watching_pool, self._alerting):
            if task is not None:
                task.cancel()
        await self.overview.watch.close()
        if self._sync is not None and self._syncing is not None:
            await self._sync.close()
        await self.history.close()
        await self.telemetry.close()
        await self._own_telemetry.close()
        await self.client.close()

    def _demo_text(self) -> str:
        loaded, empty = self.config.loaded, self.settings.mode is TokenMode.ROTATE and not len(self.pool)
        missing = not_ready(loaded, self.config.environ, self.hosts, no_pool=empty)
        return demo.text(model_names(loaded), missing, len(self.pool))

    def _store_status(self) -> StoreStatus:
        sync = self._sync
        return StoreStatus(sync.kind if sync else None, bool(sync and sync.unavailable), self._started)

    async def _show_records(self) -> None:
        """Let the latest requests include what has just ended here."""
        self.write_records()
        await self.load_shared_state()

    async def _refresh_state(self) -> None:
        self.write_records()
        await self.load_shared_state()
        if self._sync is not None and not self._sync.unavailable:
            self._flush_next()
            await self._sync.exchange()

    def _flush_next(self) -> None:
        """Let the next exchange with the store include everything that has changed here."""
        for part in (*self.history.shared, self.recent, self.running):
            part.flush_next()

    def _push_now(self) -> None:
        if self._sync is not None:
            self._sync.wake()
