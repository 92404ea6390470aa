"""Replaces the credentials of a running pool, and keeps the state of those that stay. No I/O; time is an argument."""

from collections.abc import Iterable, Mapping

from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.order import Order
from claude_proxy.credentials.rate_limits import CredentialState


def updated_states(
    states: Mapping[str, CredentialState], credentials: Iterable[Credential], soft_limit: float, order: Order, now: float
) -> tuple[dict[str, CredentialState], dict[str, str]]:
    """Return the states of the new credentials (API keys last), and a map from each old label to its new one.

    A credential with a known identity keeps its state, even under a new label; every other one starts with an empty state.
    """
    before = {state.credential.identity: state for state in states.values()}
    found: dict[str, CredentialState] = {}
    labels: dict[str, str] = {}
    for credential in sorted(credentials, key=lambda credential: credential.kind is Kind.API_KEY):
        state = before.get(credential.identity)
        if state is None:
            state = CredentialState(credential, soft_limit, order)
        else:
            labels[state.credential.label] = credential.label
        _replace(state, credential, now)
        found[credential.label] = state
    return found, labels


def _replace(state: CredentialState, credential: Credential, now: float) -> None:
    """Assign a credential with another label, other terms or a renewed login to its existing state."""
    if not credential.secret.matches(state.credential.secret):  # the rejected secret is no longer used
        state.cooldowns = {family: cooldown for family, cooldown in state.cooldowns.items() if not cooldown.rejected}
        state.suspicions.clear()
    state.credential, state.disabled = credential, credential.is_disabled(now)
    state.derive(now)


def state_of(states: Mapping[str, CredentialState], credential: Credential) -> CredentialState | None:
    """Return the state of a credential that was used for a request; None if it has been removed or renewed since."""
    state = states.get(credential.label)
    if state is not None and (state.credential is credential or state.credential.secret.matches(credential.secret)):
        return state
    return next((one for one in states.values() if one.credential.secret.matches(credential.secret)), None)
