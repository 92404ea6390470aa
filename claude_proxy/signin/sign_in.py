"""The parts of sign-in in one process, connected: codes, sign-ins, tokens and keys."""

import logging
import time
from collections.abc import Callable

from claude_proxy.config.sign_in import SignIn as SignInConfig
from claude_proxy.config.signing_keys import Place
from claude_proxy.config.users import UserBook
from claude_proxy.secret import Secret
from claude_proxy.signin.confirmations import Confirmations
from claude_proxy.signin.device_codes import DeviceCodes, Started, State
from claude_proxy.signin.key_source import KeyFile, KeySource, NoKeys, SealedKeys
from claude_proxy.signin.oidc_client import OidcClient
from claude_proxy.signin.sessions import KeysUnavailable, Sessions, Tokens
from claude_proxy.signin.shared import SharedSignIns
from claude_proxy.signin.tokens import AccessTokens
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.patient import PatientStore
from claude_proxy.state.replication import LIMITS, PRUNE_EVERY_SECONDS
from claude_proxy.state.store import Store, StoreUnavailable

logger = logging.getLogger(__name__)


class SignIn:
    """One per process. ``store`` is None for a process that shares no state: then its sign-ins end with it.

    ``provider`` is the client of the identity provider.
    """

    def __init__(
        self,
        store: Store | None,
        place: Place,
        users: UserBook,
        config: Callable[[], SignInConfig],
        clock: Callable[[], float] = time.time,
        *,
        provider: OidcClient | None = None,
    ) -> None:
        self._memory = MemoryStore() if store is None else None
        self.store = patient = PatientStore(store or self._memory or MemoryStore())
        self._users = users
        self._config = config
        self._clock = clock
        self._prune_at = 0.0
        self.shared = SharedSignIns(clock)
        self.keys: KeySource = NoKeys(place.problem)
        if place.path is not None:
            self.keys = KeyFile(place.path, clock)
        elif place.sealed_by is not None:
            self.keys = SealedKeys(patient, self.shared, place.sealed_by, clock)
        self.tokens = AccessTokens(
            self.keys.current,
            self.shared.has_ended,
            users,
            config,
            clock,
            ready=lambda: not (self.enabled and self.keys.unknown),
        )
        self.confirmations = Confirmations(provider, self.keys, clock)
        self.sessions = Sessions(
            patient,
            shared=self.shared,
            keys=self.keys,
            tokens=self.tokens,
            confirmations=self.confirmations,
            users=users,
            config=config,
            clock=clock,
        )
        self.codes = DeviceCodes(patient, clock)
        users.sign_ins = self.tokens

    @property
    def config(self) -> SignInConfig:
        """The section of config.yaml as it is now."""
        return self._config()

    @property
    def enabled(self) -> bool:
        """Whether anybody can sign in: a user with a token, or those of an identity provider."""
        return self.config.enabled and (self.config.provider or bool(self._users.all_users()))

    async def prepare(self) -> None:
        """Make the keys, if nobody has made them and sign-in is enabled, and log why sign-in is closed."""
        if not self.enabled:
            return
        try:
            await self.keys.ensure()
        except StoreUnavailable:
            return  # it is logged elsewhere, and the next request tries again
        if isinstance(self.keys, NoKeys):
            logger.warning("sign-in with /login is closed: %s", self.keys.problem)

    async def start(self, origin: str, client: str = "") -> Started:
        """Start a login. Raises ``StoreUnavailable``, or ``KeysUnavailable`` if its tokens could not be signed."""
        await self.keys.ensure()
        if self.keys.current() is None:
            raise KeysUnavailable
        if self._memory is not None and self._clock() >= self._prune_at:  # nobody else does
            self._prune_at = self._clock() + PRUNE_EVERY_SECONDS
            for prefix, age, keep in LIMITS:
                await self._memory.prune(prefix, self._clock() - age, keep)
        return await self.codes.start(origin, client)

    async def redeem(self, device_code: Secret) -> State | Tokens:
        """Return the tokens of an approved device code, or its state. Raises as ``start`` does, and ``InvalidGrant``."""
        decided = await self.codes.poll(device_code)
        if decided.state is not State.APPROVED or decided.identity is None:
            return decided.state
        await self.keys.ensure()
        return await self.sessions.begin(device_code, decided.identity, decided.started)

    async def refresh(self, token: Secret) -> Tokens:
        """Return new tokens for a refresh token. Raises as ``redeem`` does, and ``Unconfirmed``."""
        await self.keys.ensure()
        return await self.sessions.refresh(token)
