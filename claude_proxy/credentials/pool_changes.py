"""Other credentials for a pool that is in use: whose state is whose, by what stays the same. No I/O; time is an argument."""

from collections.abc import Iterable, Mapping

from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.order import Order
from claude_proxy.credentials.rate_limits import CredentialState


def taken_up(
    states: Mapping[str, CredentialState], credentials: Iterable[Credential], soft_limit: float, order: Order, now: float
) -> tuple[dict[str, CredentialState], dict[str, str]]:
    """Return the states of these credentials, API keys last, and the new label of each label that was here before.

    A credential with the identity of before keeps its state, under whatever label; every other one begins with nothing known.
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
    """Let a state be that of the same credential with another label, other terms or a renewed login."""
    if not credential.secret.matches(state.credential.secret):  # what was refused is not what will be asked
        state.cooldowns = {family: cooldown for family, cooldown in state.cooldowns.items() if not cooldown.rejected}
        state.suspicions.clear()
    state.credential, state.closed = credential, credential.closed(now)
    state.derive(now)


def state_of(states: Mapping[str, CredentialState], credential: Credential) -> CredentialState | None:
    """Return the state of a credential that was asked; None when it was removed or renewed meanwhile."""
    state = states.get(credential.label)
    if state is not None and state.credential.secret.matches(credential.secret):
        return state
    return next((one for one in states.values() if one.credential.secret.matches(credential.secret)), None)
