"""Which models each user may use: the block ``claude_proxy: users:`` of config.yaml. Plain values, no I/O."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy.config.spelling import nearest, unknown
from claude_proxy.config.users import folded
from claude_proxy.providers.endpoints import BLOCK, matches

# Request fields whose entries may name more models.
MODEL_FIELDS = ("fallbacks", "tools")
# What the entry of a user may hold; the other keys are those of ``config/budgets.py`` and ``config/user_limits.py``.
KEYS = ("models", "groups", "budget", "requests_per_minute", "streams")

SWITCH = "In Claude Code, switch with /model NAME."


@dataclass(frozen=True)
class Limits:
    """The limits in the block. A user who is not listed may use every model."""

    # By case-folded user: the entries as written, for messages, and the patterns that they expand to.
    listed: Mapping[str, tuple[str, ...]]
    patterns: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Limits":
        """Read a configuration in which ``mistakes`` found no error."""
        users = (config.get(BLOCK) or {}).get("users") or {}
        listed = {folded(name): tuple(entry["models"]) for name, entry in users.items() if "models" in (entry or {})}
        groups = access_groups(config)
        patterns = {
            name: tuple(pattern for model in models for pattern in (model, *groups.get(model, ())))
            for name, models in listed.items()
        }
        return cls(listed, patterns)

    def allows(self, user: str, model: str) -> bool:
        """Whether the user may use the model. In an entry, ``*`` matches any text."""
        patterns = self.patterns.get(folded(user))
        return patterns is None or any(matches(pattern, model) for pattern in patterns)

    def forbidden(self, user: str, model: str, raw: bytes, *, named_in_body: bool = True) -> str | None:
        """Return the model of a request that the user may not use, its own or one that it names for Claude; else None.

        A body with two ``model`` fields is rejected, because Claude may read the other one. So is one with any such field if
        the model is named outside of the body.
        """
        if folded(user) not in self.patterns:
            return None
        if not self.allows(user, model):
            return model
        body = json.loads(raw, object_pairs_hook=_Pairs)
        if not isinstance(body, _Pairs) or [name for name, _ in body].count("model") != int(named_in_body):
            return "several models at once"
        return next((name for name in _further_models(body) if not self.allows(user, name)), None)

    def refusal(self, user: str, model: str) -> str:
        """Return the message for a client that may not use the model."""
        allowed = ", ".join(self.listed[folded(user)])
        return f"model: {user} may not use {model} on this proxy. Allowed: {allowed}. {SWITCH}"


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as a list of its pairs, including duplicate keys."""


def _further_models(body: _Pairs) -> Iterator[str]:
    """Yield the models besides its own that a request may make Claude use: server-side fallbacks and advisor tools.

    Both values of a duplicate field are searched, because Claude may read either.
    """
    for entries in (value for field, value in body if field in MODEL_FIELDS):
        for entry in entries if isinstance(entries, list) else ():
            for name, value in entry if isinstance(entry, _Pairs) else ():
                if name == "model" and isinstance(value, str):
                    yield value


def access_groups(config: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the models of each group in ``model_info: access_groups:``."""
    groups: dict[str, tuple[str, ...]] = {}
    for model in config.get("model_list") or []:
        info = model.get("model_info")
        named = info.get("access_groups") if isinstance(info, dict) else None
        for group in named if isinstance(named, list) else ():
            groups[str(group)] = (*groups.get(str(group), ()), model["model_name"])
    return groups


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the block; ``config`` is a mapping that is not validated yet."""
    if "users" in config:
        # Ignored as an unknown section, it would lift every limit.
        yield f"users: belongs under {BLOCK}; at the top level it limits nobody"
    block = config.get(BLOCK)
    if block is None:
        return
    users = block.get("users", {}) if isinstance(block, dict) else None
    if not isinstance(users, dict):
        yield f"{BLOCK}: should hold users, and under each name what the user may use: users: {{anna: {{models: [glm]}}}}"
        return
    yield from _spelt_twice(users)
    names = [model["model_name"] for model in _entries(config)]
    groups = access_groups({"model_list": _entries(config)})
    for user, entry in users.items():
        if not isinstance(user, str) or not isinstance(entry, dict) or not entry:
            name = user if isinstance(user, str) else f'"{user}"'
            meant = ", ".join(_texts(entry)) or (names or ["glm"])[0]
            yield (
                f"{BLOCK}: users: {user}: should hold models, groups, a budget or limits of requests, and nothing else; "
                f"write {name}: {{models: [{meant}]}}"
            )
        elif others := [str(key) for key in entry if key not in KEYS]:
            yield from (f"{BLOCK}: users: {user}: {unknown(key, KEYS)}" for key in others)
        elif folded(user) == "admin":
            yield f"{BLOCK}: users: admin: is the master key, which has no limits"
        elif "models" in entry:
            yield from (f"{BLOCK}: users: {user}: {mistake}" for mistake in _mistakes_of_models(entry["models"], names, groups))


def _texts(entry: object) -> list[str]:
    """Return the names in a limit that is a list or a single name."""
    return [one for one in (entry if isinstance(entry, list) else [entry]) if isinstance(one, str) and one]


def _mistakes_of_models(models: object, names: list[str], groups: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    if not isinstance(models, list) or not models or not all(isinstance(model, str) and model for model in models):
        yield "models should be a list of names of models, patterns or groups"
        return
    # Without any model, every name would be reported; the missing models are reported elsewhere.
    for model in models if names else ():
        if "*" not in model and model not in groups and not any(matches(name, model) for name in names):
            near = nearest(model, [*dict.fromkeys([*names, *groups])])
            remedy = f"did you mean {near}?" if near else "write a model_name, a pattern such as claude-*, or a group"
            yield f"{model} is neither a model of model_list nor a group of access_groups; {remedy}"


def _spelt_twice(users: Mapping[Any, Any]) -> Iterator[str]:
    first: dict[str, str] = {}
    for user in users:
        above = first.setdefault(folded(user), user) if isinstance(user, str) else user
        if above != user:
            yield f"{BLOCK}: users: {user}: is the same user as {above} above; upper and lower case make no difference"


def _entries(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    models = config.get("model_list")
    entries = models if isinstance(models, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("model_name"), str)]
