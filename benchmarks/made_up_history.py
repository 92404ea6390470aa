"""Made-up requests of a team, for tests and pictures: the same seed gives the same requests.

The team works from Monday to Friday in its own hours, a few users far more than the others, and more from month to month. Some
requests fail, and some move to another credential or model; on ``BAD_DAY`` the provider was overloaded.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from claude_proxy.anthropic.usage import Usage
from claude_proxy.usage.record import FAILED_OVER_TO, AttemptRecord, Record, is_error

USERS = (
    "anna", "ben", "carla", "dora", "emil", "fatima", "georg", "hanna", "igor", "julia", "kofi", "lena", "marco", "nadia",
    "oskar", "paula", "quentin", "rosa", "samir", "tessa", "ugo", "vera", "walter", "xenia", "yusuf", "zoe", "aisha", "bruno",
    "clara", "david", "elena", "felix", "greta", "hugo", "ines", "jonas", "karim", "lucia", "mateo", "nora", "olga", "pavel",
    "renata", "stefan", "tomas", "ulrike", "viktor", "wanda", "yara", "zeno",
)  # fmt: skip
GROUPS = ("backend", "data", "frontend", "mobile", "platform", "research")
CREDENTIALS = ("atlas", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "ivory", "jade", "karst", "lotus")
PROJECTS = ("billing", "catalog", "checkout", "docs", "gateway", "ledger", "mobile-app", "search", "warehouse", "website")
# The hours of work in UTC, each with its share; the rest of the day has a little.
HOURS = (1, 1, 1, 1, 1, 2, 6, 30, 70, 95, 100, 90, 55, 70, 95, 100, 85, 60, 30, 15, 12, 8, 4, 2)
# From Monday to Sunday.
WEEKDAYS = (1.0, 1.1, 1.15, 1.05, 0.8, 0.12, 0.15)
# So many days before the end, from 13:00 to 16:00 UTC.
BAD_DAY = 16
HOUR, DAY = 3600, 86400


@dataclass(frozen=True)
class Model:
    """A model: its provider, lane and share of requests, the median of its first byte, and its prices per million tokens."""

    provider: str
    lane: str
    share: float
    first_byte: float
    # USD for input, output, cache reads and cache writes; None: no price is known.
    prices: tuple[float, float, float, float] | None


MODELS: Mapping[str, Model] = {
    "claude-opus-5-5": Model("anthropic", "claude", 34, 1.9, (5, 25, 0.5, 6.25)),
    "claude-sonnet-5-5": Model("anthropic", "claude", 30, 1.2, (3, 15, 0.3, 3.75)),
    "claude-haiku-5-5": Model("anthropic", "claude", 16, 0.6, (1, 5, 0.1, 1.25)),
    "claude-opus-4-8": Model("anthropic", "claude", 6, 2.2, (5, 25, 0.5, 6.25)),
    "glm": Model("zai", "messages", 6, 1.0, (0.6, 2.2, 0.11, 0)),
    "kimi": Model("moonshot", "messages", 4, 1.1, (0.6, 2.5, 0.15, 0)),
    "gpt": Model("openai", "chat", 3, 1.6, (1.25, 10, 0.125, 0)),
    "local-coder": Model("hosted_vllm", "chat", 1, 0.4, None),
}
CLAUDE = tuple(name for name, model in MODELS.items() if model.provider == "anthropic")
# What a failed request ended with, each with its share.
ERRORS = (
    (529, "overloaded_error", 50),
    (429, "rate_limit_error", 25),
    (499, "", 15),
    (500, "api_error", 6),
    (200, "interrupted", 4),
)
LIMIT, OVERLOADED = "five_hour limit (HTTP 429)", "overloaded (HTTP 529)"
# Chooses the model of long conversations.
RULE = "long-conversations"


@dataclass(frozen=True)
class Team:
    """``requests`` is what an average user sends on an ordinary day."""

    users: int = 50
    days: int = 90
    requests: float = 20.0
    seed: int = 17


@dataclass(frozen=True)
class Member:
    """A user: their share of the requests, where they belong, and which models they like."""

    name: str
    share: float
    groups: tuple[str, ...]
    projects: tuple[str, ...]
    models: tuple[str, ...]
    weights: tuple[float, ...]


def members_of(team: Team) -> list[Member]:
    """Return the users of a team. The first one of each group likes the largest model most."""
    dice = random.Random(team.seed)  # noqa: S311  made-up data
    shares = [1 / (place + 3) ** 0.7 for place in range(team.users)]
    dice.shuffle(shares)
    mean = sum(shares) / len(shares)
    found = []
    for place in range(team.users):
        name = USERS[place] if place < len(USERS) else f"user-{place}"
        groups = {GROUPS[place % len(GROUPS)], *([dice.choice(GROUPS)] if dice.random() < 0.15 else ())}
        models = tuple(MODELS)
        weights = tuple(
            model.share * dice.uniform(0.2, 1.8) * (2 if place < 6 and not rank else 1)
            for rank, model in enumerate(MODELS.values())
        )
        found.append(
            Member(name, shares[place] / mean, tuple(sorted(groups)), tuple(dice.sample(PROJECTS, 3)), models, weights)
        )
    return found


def records(team: Team, end: float) -> Iterator[Record]:
    """Yield the requests of the team's days before ``end``, in the order of their arrival."""
    dice = random.Random(team.seed + 1)  # noqa: S311  made-up data
    users = members_of(team)
    first = datetime.fromtimestamp(end, UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=team.days - 1)
    for number in range(team.days):
        day = first + timedelta(days=number)
        pace = WEEKDAYS[day.weekday()] * (0.7 + 0.6 * number / team.days) * dice.uniform(0.9, 1.1)
        arrivals = sorted(
            (day.timestamp() + _moment(dice), place)
            for place, member in enumerate(users)
            for _ in range(_count(dice, team.requests * member.share * pace))
        )
        for at, place in arrivals:
            if at < end:
                yield _record(dice, at, users[place], is_bad=_is_bad(at, end))


def _count(dice: random.Random, mean: float) -> int:
    """Return how many requests a user sends on a day; now and then, none."""
    return 0 if dice.random() < 0.08 else max(0, round(dice.gauss(mean, math.sqrt(mean) + mean / 4)))


def _moment(dice: random.Random) -> float:
    (hour,) = dice.choices(range(24), HOURS)
    return (hour + dice.random()) * HOUR


def _is_bad(at: float, end: float) -> bool:
    when = datetime.fromtimestamp(at, UTC)
    return when.date() == (datetime.fromtimestamp(end, UTC) - timedelta(days=BAD_DAY)).date() and 13 <= when.hour < 16


def _record(dice: random.Random, at: float, member: Member, *, is_bad: bool) -> Record:
    (name,) = dice.choices(member.models, member.weights)
    failed = dice.random() < (0.22 if is_bad else 0.012)
    credential = _credential(dice, at, member) if name in CLAUDE else ""
    served, attempts = name, list[AttemptRecord]()
    if name in CLAUDE and dice.random() < (0.2 if is_bad else 0.025):
        left = dice.choice([label for label in CREDENTIALS if label != credential])
        attempts = [AttemptRecord(left, OVERLOADED if is_bad else LIMIT, round(dice.uniform(0.2, 1.4), 2))]
    elif name in CLAUDE and not failed and dice.random() < (0.1 if is_bad else 0.004):
        attempts = [AttemptRecord(credential, OVERLOADED, round(dice.uniform(0.5, 2.5), 2))]
        served, credential = "glm", ""
    failovers = tuple(
        f"{attempt.target}: {attempt.why}" if served == name else f"{target(name)}: {FAILED_OVER_TO}{target(served)} (HTTP 529)"
        for attempt in attempts
    )
    model = MODELS[served]
    wait = model.first_byte * dice.lognormvariate(0, 0.55) * (2.5 if is_bad else 1) + sum(one.seconds for one in attempts)
    status, error, usage = 200, "", _usage(dice)
    if failed:
        ((status, error, _),) = dice.choices(ERRORS, [share for *_, share in ERRORS])
        usage = Usage()
    seconds = wait + (usage.output / dice.uniform(45, 95) if usage.output else 0.1)
    why = f"{error.replace('_', ' ')} (HTTP {status})" if error else ""
    attempts.append(AttemptRecord(credential or target(served), why, round(seconds - sum(one.seconds for one in attempts), 2)))
    return Record(
        at, member.name, name, target(served), credential, status, wait, seconds, usage, failovers, error=error,
        cost=cost(model, usage), model=served, groups=member.groups,
        rule=RULE if name == "kimi" else "", project=dice.choices(member.projects, (5, 2, 1))[0], lane=model.lane,
        attempts=tuple(attempts), request_id=f"req_{dice.getrandbits(64):016x}", size=usage.output * 6 + 900,
    )  # fmt: skip


def _credential(dice: random.Random, at: float, member: Member) -> str:
    """Return the credential of a user's sessions of that day; one in ten requests belongs to another session."""
    place = hash_of(member.name) + int(at // DAY) * 5
    return CREDENTIALS[(place + (dice.randrange(len(CREDENTIALS)) if dice.random() < 0.1 else 0)) % len(CREDENTIALS)]


def hash_of(name: str) -> int:
    """Return a number of a name that is the same in every process."""
    return sum(place * ord(letter) for place, letter in enumerate(name, start=1))


def _usage(dice: random.Random) -> Usage:
    """Return the tokens of a turn: most of its input is read from the cache."""
    context = min(180_000, int(dice.lognormvariate(10.6, 0.8)))
    is_first = dice.random() < 0.07
    fresh = int(dice.lognormvariate(6.5, 0.9))
    written = context if is_first else int(dice.lognormvariate(7.8, 0.8))
    return Usage(fresh, int(dice.lognormvariate(6.3, 0.9)), 0 if is_first else context, written)


def cost(model: Model, usage: Usage) -> int | None:
    """Return the cost in micro-USD."""
    if model.prices is None:
        return None
    counts = (usage.input, usage.output, usage.cache_read, usage.cache_write)
    return round(sum(count * price for count, price in zip(counts, model.prices, strict=True)))


def target(name: str) -> str:
    """Return a model with its provider, as a record has it."""
    return f"{MODELS[name].provider}/{name}"


def totals(found: Sequence[Record]) -> tuple[int, int, int]:
    """Return the requests, the errors and the micro-USD of records."""
    return len(found), sum(is_error(record) for record in found), sum(record.cost or 0 for record in found)
