"""What the pool knows as rows of a store, and rows of a store as what the pool may believe. No I/O.

A store can be written by others: each number has bounds, each text a length, and a row that breaks one is passed over.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from typing import Any

from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.rate_limits import MAX_UTILIZATION, NO_COOLDOWN, NO_WINDOW, Cooldown, CredentialState, Window
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.sessions import Binding
from claude_proxy.state.rows import Row
from claude_proxy.text import clean

# No rest is longer than a month and some slack, in seconds, and no window opens later than this.
LONGEST_COOLDOWN = 33 * 86400.0
LONGEST_WINDOW = 400 * 86400.0
# What another process tells may lie so far ahead of this one's clock, in seconds.
MAX_AHEAD = 2 * 86400.0
MAX_REASON = 200
MAX_WINDOWS = 10
MAX_PLACE = 256
MAX_CURSOR = 2**53


def key_of(credential: Credential, salt: str) -> str:
    """Return the name of a credential in the store: a keyed hash, so that nothing in the store leads to a credential."""
    return hmac.new(salt.encode(), credential.identity.encode(), hashlib.sha256).hexdigest()[:32]


def credential_rows(state: CredentialState) -> Iterator[Row]:
    """Yield all that is known of one credential."""
    yield from (limit_row(state, scope, cooldown) for scope, cooldown in state.cooldowns.items())
    yield from (ended_row(state, scope, ended) for scope, ended in state.ended.items() if scope not in state.cooldowns)
    yield from (window_row(state, *place, window) for place, window in state.windows.items())
    if state.lifted:
        yield lifted_row(state.key, state.lifted)
    if state.since is not None:
        yield seen_row(state, state.since)


def cursor_row(cursor: int, now: float) -> Row:
    """Return where the round robin is, so that another process, or the next one, goes on there."""
    return Row("cursor", now, json.dumps(cursor))


def session_row(session: str, binding: Binding, state: CredentialState) -> Row:
    """Return which credential a session is bound to and since when; the stamp is its last use."""
    return Row(session_key(session), binding.used, json.dumps({"credential": state.key, "bound": binding.bound}))


def session_key(session: str) -> str:
    """Return the key of a session's row."""
    return f"session:{session.replace(':', '_')}"


def seen_row(state: CredentialState, since: float) -> Row:
    """Return a row with stamp 0: the first writer of it wins, and no age prunes it."""
    return Row(f"seen:{state.key}", 0.0, json.dumps(since))


def limit_row(state: CredentialState, scope: Scope, cooldown: Cooldown) -> Row:
    """Return a rest; its stamp is the time at which it was noted, so that what was learned last wins."""
    value = {"until": cooldown.until, "reason": cooldown.reason, "rejected": cooldown.rejected, "windows": cooldown.windows}
    return Row(f"credential:{state.key}:limit:{scope}", cooldown.noted, json.dumps(value))


def ended_row(state: CredentialState, scope: Scope, ended: float) -> Row:
    """Return that a rest was over at a moment, before its time."""
    return Row(f"credential:{state.key}:limit:{scope}", ended, json.dumps({"until": 0.0}))


def lifted_row(key: str, now: float) -> Row:
    """Return that every rest of a credential is over, as an operator or a check of it says."""
    return Row(f"lifted:{key}", now, "true")


def window_row(state: CredentialState, family: str, name: str, window: Window) -> Row:
    """Return how full a window was; its stamp is the time at which that was seen."""
    value = json.dumps({"utilization": window.utilization, "reset": window.reset})
    return Row(f"credential:{state.key}:window:{family}:{name}", window.seen, value)


def take_in(state: CredentialState, place: Sequence[str], stamp: float, value: Any, now: float) -> bool:
    """Take in what a row says of a credential; return whether that was news: a later rest or its end, or a later window.

    A rest that ends later than any can is none: it would keep the credential out for ever.
    """
    if not all(part.isprintable() and len(part) <= MAX_PLACE for part in place):
        raise ValueError("no place of a credential's")
    match place:
        case ["limit", where] if stamp <= now + MAX_AHEAD:
            return _take_in_limit(state, Scope.read(where), stamp, value, now)
        case ["window", family, name] if state.windows.get((family, name), NO_WINDOW).seen < stamp <= now + MAX_AHEAD:
            used, reset = number(value["utilization"], MAX_UTILIZATION), number(value["reset"], now + LONGEST_WINDOW)
            return state.put_window((family, name), Window(float(used), float(reset), stamp), now)
    return False


def lift(state: CredentialState, ended: float) -> None:
    """End every rest that was noted before a moment, and all that refusals have left."""
    state.refusals, state.deprioritized_until, state.probed = 0, 0.0, 0.0
    state.suspicions.clear()
    state.lifted = max(state.lifted, ended)
    for scope in [*state.cooldowns]:
        state.end_cooldown(scope, ended)


def _take_in_limit(state: CredentialState, scope: Scope, stamp: float, value: Any, now: float) -> bool:
    known = state.cooldowns.get(scope, NO_COOLDOWN)
    until = number(value["until"], now + LONGEST_COOLDOWN)
    if until == 0:
        return state.end_cooldown(scope, stamp)
    if stamp <= max(state.ended.get(scope, 0.0), state.lifted) or (stamp, until) <= (known.noted, known.until):
        return False
    if not isinstance(value["reason"], str) or not all(isinstance(name, str) for name in value["windows"]):
        raise TypeError("no rest")
    windows = tuple(clean(name, MAX_REASON) for name in value["windows"][:MAX_WINDOWS])
    cooldown = Cooldown(float(until), clean(value["reason"], MAX_REASON), bool(value["rejected"]), stamp, windows)
    return state.put_cooldown(scope, cooldown, now)


def number(value: Any, largest: float) -> float:
    """Return a number from 0 to the largest one; raise ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ValueError("no number")
    return value
