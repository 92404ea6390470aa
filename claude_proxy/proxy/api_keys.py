"""The credential for batches and files at Anthropic: an API key of the proxy, or the client's own credential. No I/O.

A subscription's token is never used for them. The API keys are those of the pool; where the client's requests do not use the
pool (it is empty, or the mode is ``passthrough``), and the client has no credential, those of Claude models in config.yaml.
"""

import math
from collections.abc import Callable, Iterator

from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings, TokenMode
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.made_objects import MadeObject, fingerprint
from claude_proxy.credentials.order import Requester, may_use
from claude_proxy.credentials.pool import Pool, PoolRequest
from claude_proxy.credentials.scope import Scope
from claude_proxy.providers.endpoints import Provider
from claude_proxy.upstream.headers import Client

# The scope of requests about batches and files, which have limits of their own at Anthropic.
OBJECTS = Scope("", "batches")
NOT_SUPPORTED = "not_supported"
NO_API_KEY = (
    "Batches and files need an API key of Anthropic, and this proxy has none that you may use: a Claude subscription does not "
    "serve them. The operator adds one with `claude-proxy pool add LABEL`; a client with a key of its own sends it in "
    "x-api-key, the proxy's token in x-litellm-api-key, and the header x-claude-token-mode: passthrough."
)
NO_CREDENTIAL = (
    "This proxy passes on the user's own credential, and the request has none: send an API key of Anthropic in x-api-key, and "
    "the proxy's token in x-litellm-api-key."
)
KEY_GONE = (
    "{id} was made with an API key that is no longer in this proxy's pool, and only that key can use it. The proxy's operator "
    "can add the key again."
)
KEY_PAUSED = "{id} was made with an API key that the proxy's operator has paused, and only that key can use it."
NOT_FOR_YOU = "{id} was made with an API key that you may not use for this model."
RATE_LIMITED = "Every API key of this proxy that you may use is rate-limited. Please try again later."
NO_RETRY = [("x-should-retry", "false")]


class ApiKeys:
    """One per process. ``clock`` returns Unix seconds."""

    def __init__(self, settings: Settings, config: ActiveConfig, pool: Pool, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._config = config
        self._pool = pool
        self._clock = clock

    def own(self, client: Client) -> Credential | None:
        """Return the client's credential if its requests use it; then everything is between the client and Anthropic."""
        return None if self._uses_pool(client) else client.credential

    def choose(self, client: Client, requester: Requester) -> Credential:
        """Return the API key for a new object. Raises ``Refused`` without one: with 501, or with 429 if it is rate-limited."""
        if not self._uses_pool(client):
            found = next(self._configured(), None)
            if found is not None:
                return found
            if self._mode(client) is TokenMode.PASSTHROUGH:
                raise Refused(401, NO_CREDENTIAL)
            raise not_supported(NO_API_KEY)
        chosen = self._pool.choose(PoolRequest(None, OBJECTS, requester), self._pool.of_kind(Kind.OAUTH))
        if chosen is not None:
            self._pool.release(chosen)
            return chosen
        ends = [
            max((cooldown.until for scope, cooldown in one.cooldowns.items() if scope.covers(OBJECTS)), default=self._clock())
            for one in self._pool.snapshot()
            if one.credential.kind is Kind.API_KEY
            and not one.disabled
            and may_use(one.credential.terms, requester, one.credential.label)
        ]
        if not ends:
            raise not_supported(NO_API_KEY)
        raise Refused(429, RATE_LIMITED, [("retry-after", str(max(1, math.ceil(min(ends) - self._clock()))))])

    def knows(self, made: MadeObject) -> bool:
        """Whether the key that made an object is here and not paused."""
        found = self._find(made)
        return found is not None and not found.is_disabled(self._clock())

    def of(self, made: MadeObject, requester: Requester | None = None) -> Credential:
        """Return the key that made an object; raise ``Refused`` if it cannot be used, or not by ``requester``."""
        found = self._find(made)
        if found is None:
            raise Refused(404, KEY_GONE.format(id=made.id))
        if found.is_disabled(self._clock()):
            raise Refused(503, KEY_PAUSED.format(id=made.id), NO_RETRY)
        if requester is not None and not may_use(found.terms, requester, found.label):
            raise Refused(400, NOT_FOR_YOU.format(id=made.id))
        return found

    def _find(self, made: MadeObject) -> Credential | None:
        pooled = (one.credential for one in self._pool.snapshot() if one.credential.kind is Kind.API_KEY)
        return next((one for one in (*pooled, *self._configured()) if fingerprint(one) == made.key), None)

    def _configured(self) -> Iterator[Credential]:
        """Yield the API keys of Claude models in config.yaml."""
        for name in sorted(self._config.listed):
            for one in self._config.deployments(name):
                if one.provider is Provider.CLAUDE and one.api_key is not None:
                    credential = Credential.of("deployment", one.api_key.reveal())
                    if credential.kind is Kind.API_KEY:
                        yield credential

    def _uses_pool(self, client: Client) -> bool:
        return self._mode(client) is TokenMode.ROTATE and len(self._pool) > 0

    def _mode(self, client: Client) -> TokenMode:
        return TokenMode(client.mode) if client.mode else self._settings.mode


def not_supported(words: str) -> Refused:
    """Return the error for a request that this proxy cannot serve with the credentials that it has."""
    return Refused(501, words, kind=NOT_SUPPORTED)
