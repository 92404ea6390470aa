"""What the pool knows as rows of a store, and rows of a store as what the pool may believe. No I/O.

A store can be written by others: each number has bounds, each text a length, and a row that breaks one is passed over.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from typing import Any

from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.rate_limits import MAX_UTILIZATION, NO_REST, NO_WINDOW, CredentialState, Rest, Window
from claude_proxy.state.rows import Row
from claude_proxy.text import clean

# No rest is longer than Anthropic's longest window and some slack, in seconds, and no window opens later than this.
LONGEST_REST = 9 * 86400.0
LONGEST_WINDOW = 400 * 86400.0
# What another process tells may lie so far ahead of this one's clock, in seconds.
MAX_AHEAD = 2 * 86400.0
MAX_REASON = 200
MAX_PLACE = 256
MAX_CURSOR = 2**53


def key_of(credential: Credential, salt: str) -> str:
    """Return the name of a credential in the store: a keyed hash, so that nothing in the store leads to a credential."""
    return hmac.new(salt.encode(), credential.identity.encode(), hashlib.sha256).hexdigest()[:32]


def credential_rows(state: CredentialState) -> Iterator[Row]:
    """Yield all that is known of one credential."""
    yield from (rest_row(state, family, rest) for family, rest in state.rests.items())
    yield from (window_row(state, *place, window) for place, window in state.windows.items())
    if state.since is not None:
        yield seen_row(state, state.since)


def cursor_row(cursor: int, now: float) -> Row:
    """Return where the round robin is, so that another process, or the next one, goes on there."""
    return Row("cursor", now, json.dumps(cursor))


def session_row(session: str, used: float, state: CredentialState) -> Row:
    """Return which credential a session is on, and when it was used last."""
    return Row(session_key(session), used, json.dumps(state.key))


def session_key(session: str) -> str:
    """Return the key of a session's row."""
    return f"session:{session.replace(':', '_')}"


def seen_row(state: CredentialState, since: float) -> Row:
    """Return a row with stamp 0: the first writer of it wins, and no age prunes it."""
    return Row(f"seen:{state.key}", 0.0, json.dumps(since))


def rest_row(state: CredentialState, family: str, rest: Rest) -> Row:
    """Return a rest; its stamp is the time at which it ends, so that the longer one wins."""
    value = json.dumps({"reason": rest.reason, "out": rest.out})
    return Row(f"credential:{state.key}:rest:{family}", rest.until, value)


def window_row(state: CredentialState, family: str, name: str, window: Window) -> Row:
    """Return how full a window was; its stamp is the time at which that was seen."""
    value = json.dumps({"utilization": window.utilization, "reset": window.reset})
    return Row(f"credential:{state.key}:window:{family}:{name}", window.seen, value)


def take_in(state: CredentialState, place: Sequence[str], stamp: float, value: Any, now: float) -> bool:
    """Take in what a row says of a credential; return whether that was news: a longer rest, or a window seen later.

    A rest that ends later than any can is none: it would keep the credential out for ever.
    """
    if not all(part.isprintable() and len(part) <= MAX_PLACE for part in place):
        raise ValueError("no place of a credential's")
    match place:
        case ["rest", family] if state.rests.get(family, NO_REST).until < stamp <= now + LONGEST_REST:
            if not isinstance(value["reason"], str):
                raise TypeError("no reason")
            rest = Rest(stamp, clean(value["reason"], MAX_REASON), bool(value["out"]))
            return state.put_rest(family, rest, now)
        case ["window", family, name] if state.windows.get((family, name), NO_WINDOW).seen < stamp <= now + MAX_AHEAD:
            used, reset = number(value["utilization"], MAX_UTILIZATION), number(value["reset"], now + LONGEST_WINDOW)
            return state.put_window((family, name), Window(float(used), float(reset), stamp), now)
    return False


def number(value: Any, largest: float) -> float:
    """Return a number from 0 to the largest one; raise ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ValueError("no number")
    return value
