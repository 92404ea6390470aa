"""A made-up pool of twelve credentials in every state, with the course of their windows over the last week.

The pool itself learns it, from responses like Anthropic's at the times of a made-up clock.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from benchmarks.made_up_history import CREDENTIALS, HOURS, WEEKDAYS
from claude_proxy.credentials.credential import Credential, Kind, Terms
from claude_proxy.credentials.pool import Affinity, Pool
from claude_proxy.credentials.response_rules import judge
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import ERROR_TYPES, UNIFIED, UpstreamResponse
from claude_proxy.secret import Secret

HOUR, DAY = 3600.0, 86400.0
STEP = 1800.0
# For how many seconds the paused credential has been paused: it was used until then.
PAUSED_FOR = 300.0
REVOKED = "OAuth token has been revoked. Please obtain a new token."
LIMITED = "This request would exceed your account's rate limit. Please try again later."
SONNET = Scope("sonnet")


class Account(NamedTuple):
    """How full the windows of a credential are now, when they reset (in hours), and what else is the matter with it."""

    five_hours: float
    seven_days: float
    resets: tuple[float, float]
    # The week of Opus, if it has one of its own.
    opus: float | None = None
    rejected: bool = False
    terms: Terms = Terms()
    # How many days ago its setup token was made; a token is valid for a year.
    age: int | None = None


ACCOUNTS = dict(
    zip(
        CREDENTIALS,
        (
            Account(0.34, 0.41, (2.2, 76), age=20),
            Account(0.78, 0.62, (1.1, 52)),
            Account(1.0, 0.55, (0.7, 90)),
            Account(0.12, 0.18, (3.9, 118), terms=Terms(groups=frozenset({"research"}))),
            Account(0.2, 0.3, (4.0, 100), rejected=True),
            Account(0.55, 0.97, (2.6, 41), terms=Terms(reserve=0.2, owner="fatima")),
            Account(0.05, 0.71, (4.4, 61)),
            Account(0.4, 0.66, (1.8, 33), opus=1.0),
            Account(0.22, 0.33, (3.1, 126)),
            Account(0.0, 0.09, (4.8, 140), terms=Terms(paused=True)),
            Account(0.61, 0.86, (0.4, 20), age=353),
        ),
        strict=False,
    )
)
# The last label is an API key, which has no windows.
KEY = CREDENTIALS[-1]


def credentials(now: float) -> tuple[Credential, ...]:
    """Return the twelve credentials."""
    found = []
    for label in CREDENTIALS:
        account = ACCOUNTS.get(label)
        kind, prefix = (Kind.OAUTH, "oat01") if account else (Kind.API_KEY, "api03")
        made = None
        if account and account.age is not None:
            made = (datetime.fromtimestamp(now, UTC) - timedelta(days=account.age)).date()
        terms = account.terms if account else Terms(priority=-1)
        if terms.paused:
            terms = dataclasses.replace(terms, paused_since=now - PAUSED_FOR)
        found.append(Credential(label, kind, Secret(f"sk-ant-{prefix}-made-up-{label * 4}"), made, terms, "credentials.yaml"))
    return tuple(found)


def entries(now: float) -> list[dict[str, object]]:
    """Return the credentials as the entries of ``credentials.yaml``."""
    found = []
    for one in credentials(now):
        terms = one.terms
        paused = terms.paused_since and datetime.fromtimestamp(terms.paused_since, UTC).isoformat()
        named = {"priority": terms.priority, "reserve": terms.reserve, "owner": terms.owner, "paused": paused}
        named |= {"groups": sorted(terms.groups)}
        named |= {"made": one.made.isoformat() if one.made else None}
        found.append(
            {"label": one.label, "secret": one.secret.reveal()} | {name: value for name, value in named.items() if value}
        )
    return found


def pool(now: float, salt: str) -> Pool:
    """Return the pool as it is at ``now``, after a week of responses; its keys in a store are derived from the salt."""
    clock = [now]
    found = Pool(credentials(now), affinity=Affinity.SESSION, quarantine=900.0, clock=lambda: clock[0])
    found.set_salt(salt)
    for at, one, response in sorted(_responses(found, now), key=lambda found: found[0]):
        clock[0] = at
        found.record_response(one, judge(response, 60.0), response)
    clock[0] = now
    return found


def _responses(pool: Pool, now: float) -> Iterator[tuple[float, Credential, UpstreamResponse]]:
    for label, account in ACCOUNTS.items():
        one = pool.state(label).credential
        for number in range(int(7.2 * DAY / STEP), 0, -1):
            at = now - number * STEP
            if work_at(at) > 0.3:
                yield at, one, UpstreamResponse(200, headers(account, at, now), scope=SONNET, now=at, sent=at - 2)
        at = now - 60
        limits = headers(account, at, now)
        if account.rejected:
            yield at, one, _refusal(401, REVOKED, at, {})
        elif account.five_hours >= 1:
            yield at, one, _refusal(429, LIMITED, at, limits | _full("five_hour", "5h"))
        elif account.opus is not None:
            yield at, one, _refusal(429, LIMITED, at, limits | _full("seven_day_opus", "7d_opus"), Scope("opus"))
        else:
            yield at, one, UpstreamResponse(200, limits, scope=SONNET, now=at, sent=at - 2)


def _full(claim: str, window: str) -> dict[str, str]:
    """Return the headers by which a window is full."""
    limits = {
        "status": "rejected",
        "representative-claim": claim,
        f"{window}-status": "rejected",
        f"{window}-utilization": "1.0",
    }
    return {f"{UNIFIED}{name}": value for name, value in limits.items()}


def _refusal(status: int, words: str, at: float, limits: dict[str, str], scope: Scope = SONNET) -> UpstreamResponse:
    """Return an error of Anthropic."""
    body = json.dumps({"type": "error", "error": {"type": ERROR_TYPES[status], "message": words}}).encode()
    return UpstreamResponse(status, limits, body, scope, at, sent=at - 2)


def headers(account: Account, at: float, now: float) -> dict[str, str]:
    """Return what Anthropic says of the account's windows at a time: each grows while the team works, up to its end."""
    windows = {"5h": (account.five_hours, account.resets[0], 5), "7d": (account.seven_days, account.resets[1], 168)}
    if account.opus is not None:
        windows["7d_opus"] = (account.opus, account.resets[1], 168)
    found = {"status": "allowed"}
    for name, (used, left, length) in windows.items():
        reset, last = now + left * HOUR, used
        # An earlier window ended as full as the account's week suggests.
        while at < reset - length * HOUR:
            reset -= length * HOUR
            last = min(0.95, 0.3 + 0.5 * account.seven_days)
        start, end = reset - length * HOUR, min(now, reset)
        done = _work(start, at) / max(_work(start, end), 1e-9)
        found |= {f"{name}-utilization": f"{last * min(1.0, done):.4f}", f"{name}-reset": str(int(reset))}
    return {f"{UNIFIED}{name}": value for name, value in found.items()}


def work_at(at: float) -> float:
    """Return how much the team works at a time, from 0 to 1."""
    when = datetime.fromtimestamp(at, UTC)
    return HOURS[when.hour] / max(HOURS) * WEEKDAYS[when.weekday()]


def _work(start: float, end: float) -> float:
    """Return the work between two times."""
    bounds = [start, *(hour * HOUR for hour in range(math.ceil(start / HOUR), math.ceil(end / HOUR))), end]
    return sum(work_at(one) * (other - one) for one, other in pairwise(bounds))


def usable(found: Pool) -> Sequence[str]:
    """Return the labels that can be used for every model now."""
    return [one.credential.label for one in found.snapshot() if not one.disabled and not one.cooldowns]
