"""Connects the parts that serve the rest of Anthropic's API: batches, files and the entry of one model."""

from collections.abc import Awaitable, Callable

from claude_proxy.config.client_models import ClientModels
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.made_objects import MadeObjects, ObjectKind
from claude_proxy.credentials.pool import Pool
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.proxy.account_objects import AccountObjects
from claude_proxy.proxy.account_requests import AccountRequests
from claude_proxy.proxy.admission import Admission
from claude_proxy.proxy.api_keys import ApiKeys
from claude_proxy.proxy.batch_counting import BatchCounting
from claude_proxy.server import batch_routes, file_routes
from claude_proxy.server.anthropic_door import AnthropicDoor, Parts
from claude_proxy.server.model_requests import ModelRequests
from claude_proxy.server.object_calls import Descriptions, ObjectCalls
from claude_proxy.state.store import Store
from claude_proxy.upstream.client import UpstreamClient
from claude_proxy.usage.prices import Prices
from claude_proxy.usage.record import Record


class AnthropicApi:
    """One per process. ``shared`` is a part of its state; ``objects`` says which API key has a file.

    ``confirm`` waits for an exchange with the store, ``wake`` starts one.
    """

    def __init__(
        self,
        settings: Settings,
        config: ActiveConfig,
        pool: Pool,
        *,
        confirm: Callable[[], Awaitable[bool]],
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._config = config
        self._pool = pool
        self._clock = clock
        self.shared = MadeObjects(clock)
        self.objects = AccountObjects(self.shared, ApiKeys(settings, config, pool, clock), confirm, wake=wake, clock=clock)

    def door(
        self,
        requests: ModelRequests,
        *,
        client: UpstreamClient,
        redactor: Redactor,
        store: Store,
        admission: Admission,
        prices: Prices,
        models: Callable[[], ClientModels],
        record: Callable[[Record], None],
        ready: Callable[[], Awaitable[None]],
    ) -> AnthropicDoor:
        """Return the routes. ``store`` decides which process counts the results of a batch; ``models`` are those of now."""
        settings, config, clock = self._settings, self._config, self._clock
        sender = AccountRequests(settings, Hosts(settings.claude_base), self._pool, client, clock)
        requester = batch_routes.requester_of(lambda: config.pool_groups, lambda: self._pool.groups)
        parts = batch_routes.Parts(
            settings,
            config,
            admission,
            prices,
            BatchCounting(store, admission, prices.cost, record, clock),
            requester,
            lambda model: models().context_of(model),
            self._why_litellm,
            clock,
        )
        kept = Descriptions(batch_routes.has_ended, clock), Descriptions(lambda _: True, clock)
        batches = ObjectCalls(ObjectKind.BATCH, batch_routes.BASE, self.objects, sender, kept[0])
        files = ObjectCalls(ObjectKind.FILE, file_routes.BASE, self.objects, sender, kept[1])
        serve = {
            ObjectKind.BATCH: batch_routes.BatchRoutes(batches, parts).serve,
            ObjectKind.FILE: file_routes.FileRoutes(files, requester, clock).serve,
        }
        return AnthropicDoor(requests, Parts(config, redactor, lambda: models().describe, ready, serve))

    def _why_litellm(self) -> str:
        """Return why every request enters LiteLLM; empty if that is not so."""
        if self._settings.database_url is not None:
            return "DATABASE_URL"
        return ", ".join(str(feature) for feature in self._config.features)
