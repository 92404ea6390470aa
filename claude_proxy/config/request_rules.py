"""Which model responds to which kind of request: ``claude_proxy: rules:`` in config.yaml. Plain values, no I/O.

The first rule whose conditions all hold applies. Claude Code names the kind of a request in a header
(``CLAUDE_CODE_GATEWAY_HINT_HEADERS=1``, seen with 2.1.332).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from claude_proxy.config.spelling import nearest, unknown
from claude_proxy.config.timezones import UTC, is_timezone, timezone
from claude_proxy.config.users import folded
from claude_proxy.providers.endpoints import BLOCK, in_block, matches

KEY = "rules"
RULE_KEYS = ("name", "when", "model")
# The values of the header x-claude-code-request-class.
REQUEST_CLASSES = ("main", "subagent", "workflow", "compaction", "auxiliary", "side_reply")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# The windows of a credential, by their names in config.yaml and in Anthropic's headers.
WINDOWS = {"five_hours": "5h", "week": "7d"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOURS = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])\s*-\s*([01]?[0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True)
class Hours:
    """Some hours of some days. Hours that end before they begin go past midnight, and belong to the day of their beginning."""

    begin: time = time.min
    end: time = time.min
    days: frozenset[int] = frozenset(range(7))
    zone: ZoneInfo = UTC

    def include(self, at: float) -> bool:
        """Return whether a moment, in Unix seconds, is in these hours."""
        local = datetime.fromtimestamp(at, self.zone)
        now, today = local.time(), local.weekday()
        if self.begin < self.end:
            return today in self.days and self.begin <= now < self.end
        return (today in self.days and now >= self.begin) or ((today - 1) % 7 in self.days and now < self.end)


@dataclass(frozen=True)
class Rule:
    """A rule. A condition that is empty or None always holds."""

    name: str
    model: str
    request_classes: frozenset[str] = frozenset()
    models: tuple[str, ...] = ()
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    tokens_above: int | None = None
    images: bool | None = None
    hours: Hours | None = None
    # Minimum utilization of the pool's windows, by Anthropic's names, as a fraction.
    pool_above: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_unconditional(self) -> bool:
        """Whether the rule applies to every request."""
        return self == Rule(self.name, self.model)

    def concerns(self, request_class: str, model: str, user: str, groups: Collection[str], now: float) -> bool:
        """Return whether the conditions hold that need neither the body nor the pool."""
        return (
            (not self.request_classes or request_class in self.request_classes)
            and (not self.models or any(matches(pattern, model) for pattern in self.models))
            and (not self.users or folded(user) in self.users)
            and (not self.groups or any(folded(group) in self.groups for group in groups))
            and (self.hours is None or self.hours.include(now))
        )


def rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Return the rules of a configuration in which ``mistakes`` found no error, in order."""
    entries = in_block(config, KEY) or []
    return tuple(_rule(place, entry) for place, entry in enumerate(entries, start=1))


def _rule(place: int, entry: Mapping[str, Any]) -> Rule:
    when = entry.get("when") or {}
    return Rule(
        name=entry.get("name") or f"rule-{place}",
        model=entry["model"],
        request_classes=frozenset(_texts(when.get("request"))),
        models=tuple(_texts(when.get("model"))),
        users=frozenset(map(folded, _texts(when.get("user")))),
        groups=frozenset(map(folded, _texts(when.get("group")))),
        tokens_above=when.get("tokens_above"),
        images=when.get("images"),
        hours=_hours(when),
        pool_above={WINDOWS[name]: percent / 100 for name, percent in (when.get("pool_above") or {}).items()},
    )


def _hours(when: Mapping[str, Any]) -> Hours | None:
    if "time" not in when and "days" not in when:
        return None
    begin = end = time.min
    if found := _HOURS.fullmatch(str(when.get("time", "")).strip()):
        first, first_minute, last, last_minute = map(int, found.groups())
        begin, end = time(first, first_minute), time(last, last_minute)
    days = frozenset(DAYS.index(day) for day in _texts(when.get("days"))) or frozenset(range(7))
    return Hours(begin, end, days, timezone(when.get("timezone")))


def _texts(value: object) -> list[str]:
    """Return the texts of a condition, which is a text or a list of texts."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str) and one]


# --- Errors ------------------------------------------------------------------------------------------------------------------


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the rules; ``config`` is a mapping that is not validated yet."""
    found = in_block(config, KEY)
    if found is None:
        return
    at = f"{BLOCK}: {KEY}"
    if not isinstance(found, list):
        yield f"{at}: should be a list, each entry with when and model; write `- {{when: {{request: auxiliary}}, model: glm}}`"
        return
    listed = config.get("model_list")
    names = [
        entry["model_name"]
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("model_name"), str)
    ]
    first: dict[str, int] = {}
    for place, entry in enumerate(found, start=1):
        yield from (f"{at}: entry {place}: {mistake}" for mistake in _mistakes_of_rule(entry, names))
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and first.setdefault(name, place) != place:
            yield f"{at}: entry {place}: the name {name} is also that of entry {first[name]}"


def _mistakes_of_rule(entry: object, names: list[str]) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "should be a mapping with when and model"
        return
    yield from _unknown(entry, RULE_KEYS)
    name = entry.get("name")
    if name is not None and (not isinstance(name, str) or not _NAME.fullmatch(name)):
        yield "name should have 1 to 64 letters, digits or . - _, and start with a letter or a digit"
    model = entry.get("model")
    if not isinstance(model, str) or not model:
        yield "model should be the name of the model that responds"
    elif names and not any(matches(listed, model) for listed in names):
        near = nearest(model, names)
        yield f"model: {model} is not a model of model_list{f'; did you mean {near}?' if near else ''}"
    when = entry.get("when")
    if when is None:
        return
    if not isinstance(when, dict):
        yield f"when should be a mapping of conditions, such as when: {{request: {REQUEST_CLASSES[4]}}}"
        return
    yield from (f"when: {mistake}" for mistake in _unknown(when, tuple(_CONDITIONS)))
    for key, value in when.items():
        if (words := _CONDITIONS.get(key)) is not None and not _HOLDS[key](value):
            yield f"when: {key} should be {words}"


def _unknown(entry: Mapping[Any, Any], keys: tuple[str, ...]) -> Iterator[str]:
    yield from (unknown(key, keys) for key in entry if key not in keys)


def _are_texts(value: object) -> bool:
    entries = value if isinstance(value, list) else [value]
    return bool(entries) and all(isinstance(one, str) and one for one in entries)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_percents(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(name in WINDOWS and _is_count(percent) and percent <= 100 for name, percent in value.items())
    )


_CONDITIONS = {
    "request": f"one or a list of {', '.join(REQUEST_CLASSES)}",
    "model": "a name or pattern of the requested model, or a list of them",
    "user": "the name of a user, or a list of names",
    "group": "the name of a group of users, or a list of names",
    "tokens_above": "a number of input tokens, such as 150000",
    "images": "true or false",
    "time": 'hours of a day, such as "22:00-06:00"',
    "days": f"one or a list of {', '.join(DAYS)}",
    "timezone": "the name of a time zone, such as Europe/Berlin",
    "pool_above": f"a percentage for {' or '.join(WINDOWS)} or both, such as {{week: 80}}",
}
_HOLDS = {
    "request": lambda value: _are_texts(value) and {*_texts(value)} <= {*REQUEST_CLASSES},
    "model": _are_texts,
    "user": _are_texts,
    "group": _are_texts,
    "tokens_above": _is_count,
    "images": lambda value: isinstance(value, bool),
    "time": lambda value: isinstance(value, str) and bool(_HOURS.fullmatch(value.strip())),
    "days": lambda value: _are_texts(value) and {*_texts(value)} <= {*DAYS},
    "timezone": is_timezone,
    "pool_above": _are_percents,
}
