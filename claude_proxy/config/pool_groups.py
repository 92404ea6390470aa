"""Which credentials a user and a model may use: ``groups`` under ``claude_proxy: users:`` and ``models:`` of config.yaml.

Plain values, no I/O.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy.config.users import folded
from claude_proxy.credentials.order import Requester
from claude_proxy.providers.endpoints import BLOCK, matches

USERS, MODELS, GROUPS = "users", "models", "groups"


@dataclass(frozen=True)
class PoolGroups:
    """The groups in the block. A user and a model without groups use the credentials without groups."""

    # By case-folded user, and by pattern in the order of the file.
    users: Mapping[str, frozenset[str]]
    models: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "PoolGroups":
        """Read a configuration in which ``mistakes`` found no error."""
        return cls(
            {folded(name): frozenset(groups) for name, groups in _named(config, USERS)},
            {pattern: frozenset(groups) for pattern, groups in _named(config, MODELS)},
        )

    def requester(self, user: str, *models: str) -> Requester:
        """Return the requester: a user and a model with these names. The first matching pattern applies."""
        user = folded(user)
        found = [self.users[user]] if user in self.users else []
        found += [groups for pattern, groups in self.models.items() if any(matches(pattern, name) for name in models)][:1]
        return Requester(user, tuple(found))

    def viewer(self, user: str) -> tuple[Requester, ...]:
        """Return a user's possible requesters: one without a model's groups, and one for each model with groups."""
        own = self.requester(user)
        return (own, *(Requester(own.user, (*own.groups, groups)) for groups in self.models.values()))


NO_GROUPS = PoolGroups({}, {})


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error about groups; ``config`` is a mapping that is not validated yet."""
    block = config.get(BLOCK)
    if not isinstance(block, dict):
        return
    models = block.get(MODELS, {})
    if not isinstance(models, dict):
        yield f"{BLOCK}: {MODELS}: should hold names or patterns of models: {{claude-opus-*: {{groups: [team-a]}}}}"
        models = {}
    for pattern, entry in models.items():
        if not isinstance(pattern, str) or not isinstance(entry, dict) or set(entry) != {GROUPS}:
            yield f"{BLOCK}: {MODELS}: {pattern}: should hold groups, a list, and nothing else"
    for section in (USERS, MODELS):
        entries = block.get(section)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            if isinstance(entry, dict) and GROUPS in entry and not _are_names(entry[GROUPS]):
                yield f"{BLOCK}: {section}: {name}: groups should be a list of names of groups"


def unknown(config: Mapping[str, Any], there: Iterable[str]) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Yield each group that no credential has: its place in config.yaml, and the group."""
    known = frozenset(there)
    for section in (USERS, MODELS):
        for name, groups in _named(config, section):
            yield from (((BLOCK, section, name), group) for group in groups if group not in known)


def _named(config: Mapping[str, Any], section: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the names of a section with valid groups, and these groups."""
    block = config.get(BLOCK)
    entries = block.get(section) if isinstance(block, dict) else None
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(name, str) and isinstance(entry, dict) and _are_names(entry.get(GROUPS)):
            yield name, entry[GROUPS]


def _are_names(groups: object) -> bool:
    return isinstance(groups, list) and bool(groups) and all(isinstance(group, str) and group for group in groups)
