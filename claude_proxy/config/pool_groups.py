"""Which credentials a user and a model may use: ``groups`` under ``claude_proxy: users:`` and ``models:``, and their block.

Plain values, no I/O.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.config.groups import CREDENTIALS, are_names
from claude_proxy.config.users import folded
from claude_proxy.credentials.order import Requester, named
from claude_proxy.providers.endpoints import BLOCK, in_block, matches

USERS, MODELS, GROUPS = "users", "models", "groups"


@dataclass(frozen=True)
class PoolGroups:
    """The groups in the block. A user and a model without groups use the credentials without groups.

    A group may be declared in the block ``groups``, with other names for its credentials. A declared group that has none, and
    that no credential has, is a group for budgets alone: it restricts nothing. A group that only a sign-in names restricts
    its users if it is declared with credentials.
    """

    # By case-folded user, and by pattern in the order of the file.
    users: Mapping[str, frozenset[str]]
    models: Mapping[str, frozenset[str]]
    # By case-folded group: the labels and groups of credentials; empty for a group declared without them.
    declared: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "PoolGroups":
        """Read a configuration in which ``mistakes`` found no error."""
        return cls(
            {folded(name): frozenset(groups) for name, groups in _named(config, USERS)},
            {pattern: frozenset(groups) for pattern, groups in _named(config, MODELS)},
            {folded(name): frozenset(entry.get(CREDENTIALS) or ()) for name, entry in _declared(config)},
        )

    def requester(self, user: str, *models: str, groups: Iterable[str] = (), known: Container[str] = ()) -> Requester:
        """Return the requester: a user and a model with these names. The first matching pattern applies.

        ``groups`` are the user's groups in folded case, those of a sign-in included; ``known`` has every group of a credential.
        """
        user = folded(user)
        if not (self.users or self.models or self.declared):
            return Requester(user, ())
        own = self._restriction(self.users.get(user, ()), known)
        if self.declared and groups:
            own |= self._restriction([group for group in groups if self.declared.get(folded(group))], known)
        found = [own] if own else []
        found += [
            self._restriction(of_model, known)
            for pattern, of_model in self.models.items()
            if any(matches(pattern, name) for name in models)
        ][:1]
        return Requester(user, tuple(groups for groups in found if groups))

    def viewer(self, user: str, *, groups: Iterable[str] = (), known: Container[str] = ()) -> tuple[Requester, ...]:
        """Return a user's possible requesters: one without a model's groups, and one for each model with groups."""
        own = self.requester(user, groups=groups, known=known)
        models = [self._restriction(of_model, known) for of_model in self.models.values()]
        return (own, *(Requester(own.user, (*own.groups, groups)) for groups in models if groups))

    def _restriction(self, groups: Iterable[str], known: Container[str]) -> frozenset[str]:
        """Return the groups of credentials, and the credentials, that some groups of users may use."""
        if not self.declared:
            return frozenset(groups)
        found: set[str] = set()
        for group in groups:
            credentials = self.declared.get(folded(group))
            if credentials:
                found |= credentials | {named(one) for one in credentials}
            elif credentials is None or group in known:
                found.add(group)
        return frozenset(found)


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
            if isinstance(entry, dict) and GROUPS in entry and not are_names(entry[GROUPS]):
                yield f"{BLOCK}: {section}: {name}: groups should be a list of names of groups"


def unknown(
    config: Mapping[str, Any], there: Iterable[str], labels: Iterable[str] = ()
) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Yield each name that no credential has: its place in config.yaml, and the name.

    ``there`` are the groups of credentials, ``labels`` their labels. A declared group needs no credential of its name.
    """
    known, of_users = frozenset(there), {folded(name) for name in declared(config)}
    for section in (USERS, MODELS):
        for name, groups in _named(config, section):
            missing = (group for group in groups if group not in known and folded(group) not in of_users)
            yield from (((BLOCK, section, name), group) for group in missing)
    known |= frozenset(labels)
    for name, entry in _declared(config):
        yield from (((BLOCK, GROUPS, name), one) for one in entry.get(CREDENTIALS) or () if one not in known)


def declared(config: Mapping[str, Any]) -> set[str]:
    """Return the names of the declared groups."""
    return {name for name, _ in _declared(config)}


def _declared(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the declared groups, without invalid ones."""
    groups = in_block(config, GROUPS)
    for name, entry in groups.items() if isinstance(groups, dict) else ():
        if isinstance(name, str) and isinstance(entry, dict) and (CREDENTIALS not in entry or are_names(entry[CREDENTIALS])):
            yield name, entry


def _named(config: Mapping[str, Any], section: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the names of a section with valid groups, and these groups."""
    entries = in_block(config, section)
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(name, str) and isinstance(entry, dict) and are_names(entry.get(GROUPS)):
            yield name, entry[GROUPS]
