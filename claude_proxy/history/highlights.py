"""What operators ask of the history every day, each as one number with its name: for the first view of ``/pool``.

1. Every number is that of a view, so the link beside it shows the same.
2. A rate or a percentile is compared only between models with enough requests: of few, it depends on a single one.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta, tzinfo
from typing import Any

from claude_proxy.history import periods
from claude_proxy.history.queries import find_numbers, numbers_shown
from claude_proxy.history.view import DAY, MAX_FILTER, View, read_view
from claude_proxy.usage.numbers import OTHER, Totals

# The families of Claude models, as their names have them; they are shown together.
FAMILIES = ("opus", "sonnet", "haiku")
# A 95th percentile of fewer responses is that of the slowest one.
MIN_REQUESTS = 20
_USD, _REQUESTS = Totals._fields.index("micro_usd"), Totals._fields.index("requests")

Rows = Mapping[str, Sequence[int]]


def highlights(connection: sqlite3.Connection, now: float, zone: tzinfo, only_user: str | None = None) -> dict[str, Any]:
    """Return the most expensive model family of yesterday with its first user, rates of 7 days and a project of 30 days.

    What there is no usage of is None. ``only_user`` as in ``View``.
    """
    connection.execute("BEGIN")

    def numbers(**parameters: str | list[str]) -> tuple[Sequence[int], Rows]:
        pairs = [(name, one) for name, value in parameters.items() for one in ([value] if isinstance(value, str) else value)]
        return find_numbers(connection, _view(pairs, now, zone, only_user))

    yesterday = (periods.today_at(now, zone) - timedelta(1)).isoformat()
    total, models = numbers(range="7d", by="model")
    return {"yesterday": _yesterday(numbers, yesterday), "week": _week(total, models), "project": _project(numbers)}


def _view(pairs: Sequence[tuple[str, str]], now: float, zone: tzinfo, only_user: str | None) -> View:
    view = read_view([(name.rstrip("_"), value) for name, value in pairs], now, zone)
    return replace(view, only_user=only_user)


Numbers = Callable[..., tuple[Sequence[int], Rows]]


def _yesterday(numbers: Numbers, day: str) -> dict[str, Any] | None:
    """Return the family of models that cost the most on a day, and the user who used most of it."""
    only = {"from_": day, "to": day, "step": DAY}
    _, models = numbers(**only, by="model")
    families: dict[str, list[str]] = {}
    for name in models:
        if name != OTHER:
            families.setdefault(next((family for family in FAMILIES if family in name), name), []).append(name)
    if not families:
        return None

    def cost(family: str) -> tuple[int, ...]:
        return tuple(sum(models[name][place] for name in families[family]) for place in (_USD, _REQUESTS))

    most = max(families, key=cost)
    members = families[most][:MAX_FILTER]
    total, users = numbers(**only, by="user", model=members)
    title = most.capitalize() if most in FAMILIES else most
    return {"day": day, "model": title, "models": sorted(members), **_cost(total), "user": _first(users)}


def _week(total: Sequence[int], models: Rows) -> dict[str, Any] | None:
    """Return the rates of all models, and the models with the lowest cache hit rate and the slowest first byte."""
    if not total[_REQUESTS]:
        return None
    known = {name: numbers_shown(found) for name, found in models.items() if name != OTHER}
    compared = {name: one for name, one in known.items() if one["requests"] >= MIN_REQUESTS} or known

    def extreme(field: str, sign: int) -> dict[str, Any] | None:
        found = {name: one[field] for name, one in compared.items() if one[field] is not None}
        name = min(found, key=lambda one: sign * found[one], default=None)
        return {"name": name, field: found[name]} if name is not None else None

    shown = numbers_shown(total)
    return {
        "cache_hit_rate": shown["cache_hit_rate"],
        "first_byte_p95": shown["first_byte_p95"],
        "lowest": extreme("cache_hit_rate", 1),
        "slowest": extreme("first_byte_p95", -1),
    }


def _project(numbers: Numbers) -> dict[str, Any] | None:
    """Return the project that cost the most in 30 days, and who spent most of it."""
    _, projects = numbers(range="30d", by="project")
    first = _first(projects)
    if first is None:
        return None
    _, users = numbers(range="30d", by="user", project=first["name"])
    return {**first, "user": _first(users)}


def _first(rows: Rows) -> dict[str, Any] | None:
    """Return the first row with a name, which is the most expensive one."""
    name = next((name for name in rows if name not in {"", OTHER}), None)
    return {"name": name, **_cost(rows[name])} if name is not None else None


def _cost(numbers: Sequence[int]) -> dict[str, Any]:
    shown = numbers_shown(numbers)
    return {name: shown[name] for name in ("usd", "unpriced", "requests")}
