"""Asks the identity provider at each refresh of a sign-in whether its user may still sign in.

Rules:
  1. The provider confirms a user by accepting its own refresh token. The groups and the domain that it then names apply.
  2. A refusal of that token ends the sign-in, and so do a user who may no longer sign in and another name.
  3. A provider that cannot be asked ends nothing: the sign-in goes on for ``max_age_hours`` after the last confirmation. Then
     it waits until the provider can be asked.
  4. Without a refresh token the provider is asked at a sign-in only, and the sign-in ends after ``max_age_hours``.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from claude_proxy.config.oidc import Oidc, host_of
from claude_proxy.config.users import folded
from claude_proxy.secret import Secret
from claude_proxy.signin.id_token import NotAllowed
from claude_proxy.signin.identity import Confirmation, Identity
from claude_proxy.signin.key_source import KeySource
from claude_proxy.signin.keys import KeyRing
from claude_proxy.signin.oidc_client import Identified, OidcClient, ProviderFailed, Refreshed, Rejected
from claude_proxy.signin.sealed_token import seal, unseal

logger = logging.getLogger(__name__)


class SignInEnded(Exception):
    """The user has to sign in again. The text says why, for the log."""


class Asked(NamedTuple):
    """What became of a question. ``identity`` replaces the earlier one; ``goes_on`` is whether the sign-in may be refreshed."""

    identity: Identity
    goes_on: bool = True


class Confirmations:
    """One per process. ``client`` is None in a process that refreshes nothing. ``clock`` returns Unix seconds."""

    def __init__(self, client: OidcClient | None, keys: KeySource, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._unavailable = False
        self._without_token = False

    async def confirmed(self, provider: Oidc, found: Identified) -> Identity:
        """Return a user whom the provider has just identified, with its refresh token sealed. Raises ``StoreUnavailable``."""
        await self._keys.ensure()
        ring = self._keys.current()
        if found.refresh_token is None and not self._without_token:
            self._without_token = True
            words = "%s gives no refresh token, so a sign-in there lasts %g h (max_age_hours), also that of a removed user"
            logger.info(words, provider.host, provider.max_age_seconds / 3600)
        made = Confirmation(provider.issuer, provider.client_id, found.subject, self._clock())
        if found.refresh_token is not None and ring is not None:
            made = self._sealed(made, found.refresh_token, ring)
        return replace(found.identity, confirmation=made)

    async def ask(self, identity: Identity, since: float) -> Asked:
        """Ask for the user of a sign-in that began at ``since``; raise ``SignInEnded``.

        Without a refresh token of the provider this makes no request.
        """
        provider, last = self._client.provider if self._client else None, identity.confirmation
        if provider and last and (last.issuer, last.client_id) != (provider.issuer, provider.client_id):
            raise SignInEnded("config.yaml names another provider or another client")
        max_age = provider.max_age_seconds if provider else Oidc.max_age_seconds
        is_recent = self._clock() - (last.at if last else since) <= max_age
        if last is None or not last.sealed:
            if not is_recent:
                raise SignInEnded(f"it is older than {max_age / 3600:g} h, and the provider gave no refresh token")
            return Asked(identity)
        ring = self._keys.current()
        if ring is None:
            return Asked(identity, goes_on=False)
        token = unseal(last.sealed, ring, *_bound_to(last))
        if token is None:
            raise SignInEnded("the signing key that sealed the provider's refresh token was discarded")
        found = await self._refresh(provider, token, last)
        self._log_availability(host_of(last.issuer), found.problem, max_age)
        after = self._sealed(last, found.refresh_token or token, ring)
        if found.problem:
            return Asked(replace(identity, confirmation=after), is_recent)
        now = found.identity or identity
        if folded(now.name) != folded(identity.name):
            raise SignInEnded("the provider has another name for the user")
        return Asked(replace(now, confirmation=replace(after, at=self._clock())))

    async def _refresh(self, provider: Oidc | None, token: Secret, last: Confirmation) -> Refreshed:
        if provider is None or self._client is None:
            return Refreshed(problem="the provider in config.yaml is not ready")
        try:
            return await self._client.refresh(provider, token, last.subject)
        except (Rejected, NotAllowed) as error:
            raise SignInEnded(f"{provider.host}: {error}") from None
        except ProviderFailed as error:
            return Refreshed(problem=str(error))

    def _sealed(self, confirmation: Confirmation, token: Secret, ring: KeyRing) -> Confirmation:
        """Return a confirmation with a token, sealed with the newest key: a replaced one may soon be gone."""
        return replace(confirmation, sealed=seal(token, ring.signing(self._clock()), *_bound_to(confirmation)))

    def _log_availability(self, host: str, problem: str, max_age: float) -> None:
        """Log once that the provider cannot be asked, and once that it can again."""
        if problem and not self._unavailable:
            words = "%s cannot confirm who is signed in: %s; sign-ins go on for %g h after their last confirmation"
            logger.warning(words, host, problem, max_age / 3600)
        elif self._unavailable and not problem:
            logger.info("%s confirms again who is signed in", host)
        self._unavailable = bool(problem)


def _bound_to(confirmation: Confirmation) -> tuple[str, str, str]:
    return confirmation.issuer, confirmation.client_id, confirmation.subject
