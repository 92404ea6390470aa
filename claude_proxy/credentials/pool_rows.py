"""Converts the pool's state to rows of a store and back. No I/O.

Others may write to the store, so every number and text is checked, and an invalid row is skipped.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from claude_proxy.credentials.course import MAX_POINTS, Course, Sample
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.rate_limits import MAX_UTILIZATION, NO_COOLDOWN, NO_WINDOW, Cooldown, CredentialState, Window
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.sessions import Binding
from claude_proxy.state.rows import Row
from claude_proxy.text import clean

# The longest valid cooldown (a month and some slack) and the latest valid reset, in seconds from now.
LONGEST_COOLDOWN = 33 * 86400.0
LONGEST_WINDOW = 400 * 86400.0
# How far another process's time stamp may be ahead of this clock, in seconds.
MAX_AHEAD = 2 * 86400.0
MAX_REASON = 200
MAX_WINDOWS = 10
MAX_PLACE = 256
MAX_CURSOR = 2**53


def key_of(credential: Credential, salt: str) -> str:
    """Return the name of a credential in the store: a keyed hash, so that the store reveals no credential."""
    return hmac.new(salt.encode(), credential.identity.encode(), hashlib.sha256).hexdigest()[:32]


def credential_rows(state: CredentialState) -> Iterator[Row]:
    """Yield every row of one credential."""
    yield from (limit_row(state, scope, cooldown) for scope, cooldown in state.cooldowns.items())
    yield from (ended_row(state, scope, ended) for scope, ended in state.ended.items() if scope not in state.cooldowns)
    yield from (window_row(state, *place, window) for place, window in state.windows.items())
    yield from (course_row(state, *place, course) for place, course in state.courses.items())
    if state.lifted:
        yield lifted_row(state.key, state.lifted)
    if state.since is not None:
        yield seen_row(state, state.since)


def cursor_row(cursor: int, now: float) -> Row:
    """Return the position of the round robin, so that another process continues there."""
    return Row("cursor", now, json.dumps(cursor))


def session_row(session: str, binding: Binding, state: CredentialState) -> Row:
    """Return a session's credential and the time of its binding; the stamp is the session's last use."""
    return Row(session_key(session), binding.used, _text({"credential": state.key, "bound": binding.bound}))


def session_key(session: str) -> str:
    """Return the key of a session's row."""
    return f"session:{session.replace(':', '_')}"


def seen_row(state: CredentialState, since: float) -> Row:
    """Return the first-seen row. Its stamp is 0, so the first writer wins and pruning by age never removes it."""
    return Row(f"seen:{state.key}", 0.0, json.dumps(since))


def limit_row(state: CredentialState, scope: Scope, cooldown: Cooldown) -> Row:
    """Return a cooldown; the stamp is the time at which it was recorded, so that the latest information wins."""
    value = {"until": cooldown.until, "reason": cooldown.reason, "rejected": cooldown.rejected, "windows": cooldown.windows}
    # Not a part of ``reason``: earlier versions do not read it, and rows of earlier versions lack it.
    value |= {"explanation": cooldown.explanation} if cooldown.explanation else {}
    return Row(f"credential:{state.key}:limit:{scope}", cooldown.recorded_at, json.dumps(value))


def ended_row(state: CredentialState, scope: Scope, ended: float) -> Row:
    """Return that a cooldown ended early, at ``ended``."""
    return Row(f"credential:{state.key}:limit:{scope}", ended, json.dumps({"until": 0.0}))


def lifted_row(key: str, now: float) -> Row:
    """Return that every cooldown of a credential ended at ``now``, by an operator or after a check."""
    return Row(f"lifted:{key}", now, "true")


def window_row(state: CredentialState, family: str, name: str, window: Window) -> Row:
    """Return a window's utilization; the stamp is the time at which it was seen."""
    value = {"utilization": window.utilization, "reset": window.reset}
    return Row(f"credential:{state.key}:window:{family}:{name}", window.seen, _text(value))


def course_row(state: CredentialState, family: str, name: str, course: Course) -> Row:
    """Return the course of a window; the stamp is the time of its last sample."""
    value = {"reset": course.reset, "samples": course.samples}
    return Row(f"credential:{state.key}:course:{family}:{name}", course.samples[-1].at, _text(value))


def _text(value: dict[str, Any]) -> str:
    """Return JSON. These rows come with most responses; ``json`` takes a third of a millisecond for a long course."""
    return msgspec.json.encode(value).decode()


def apply_row(state: CredentialState, place: Sequence[str], stamp: float, value: Any, now: float) -> bool:
    """Apply a row to a credential's state; return whether it was new: a later cooldown, its end, or a later window.

    A cooldown longer than ``LONGEST_COOLDOWN`` is invalid; it would block the credential forever.
    """
    if not all(part.isprintable() and len(part) <= MAX_PLACE for part in place):
        raise ValueError("not a place of a credential")
    match place:
        case ["limit", where] if stamp <= now + MAX_AHEAD:
            return _apply_limit(state, Scope.read(where), stamp, value, now)
        case ["window", family, name] if state.windows.get((family, name), NO_WINDOW).seen < stamp <= now + MAX_AHEAD:
            used, reset = number(value["utilization"], MAX_UTILIZATION), number(value["reset"], now + LONGEST_WINDOW)
            return state.put_window((family, name), Window(float(used), float(reset), stamp), now)
        case ["course", family, name] if stamp <= now + MAX_AHEAD:
            _apply_course(state, (family, name), stamp, value, now)
    return False


def lift(state: CredentialState, ended: float) -> None:
    """End every cooldown that was recorded before ``ended``, and forget earlier refusals."""
    state.refusals, state.deprioritized_until, state.probed = 0, 0.0, 0.0
    state.suspicions.clear()
    state.lifted = max(state.lifted, ended)
    for scope in [*state.cooldowns]:
        state.end_cooldown(scope, ended)


def _apply_limit(state: CredentialState, scope: Scope, stamp: float, value: Any, now: float) -> bool:
    known = state.cooldowns.get(scope, NO_COOLDOWN)
    until = number(value["until"], now + LONGEST_COOLDOWN)
    if until == 0:
        return state.end_cooldown(scope, stamp)
    if stamp <= max(state.ended.get(scope, 0.0), state.lifted) or (stamp, until) <= (known.recorded_at, known.until):
        return False
    texts = value["reason"], value.get("explanation", "")
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(name, str) for name in value["windows"]):
        raise TypeError("not a cooldown")
    windows = tuple(clean(name, MAX_REASON) for name in value["windows"][:MAX_WINDOWS])
    reason, explanation = (clean(text, MAX_REASON) for text in texts)
    cooldown = Cooldown(float(until), reason, bool(value["rejected"]), stamp, windows, explanation)
    return state.put_cooldown(scope, cooldown, now)


def _apply_course(state: CredentialState, place: tuple[str, str], stamp: float, value: Any, now: float) -> None:
    known = state.courses.get(place)
    if known is not None and known.samples[-1].at >= stamp:
        return
    reset = float(number(value["reset"], now + LONGEST_WINDOW))
    samples = [
        Sample(float(number(at, stamp)), float(number(used, MAX_UTILIZATION))) for at, used in value["samples"][-MAX_POINTS:]
    ]
    if not samples or samples != sorted(samples, key=lambda one: one.at):
        raise ValueError("not a course")
    state.put_course(place, Course(reset, tuple(samples)))


def number(value: Any, largest: float) -> float:
    """Return a number from 0 to ``largest``; raise ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ValueError("not a number in the range")
    return value
