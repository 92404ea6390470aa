"""The groups of users: ``groups`` under ``claude_proxy: users:``, and the block ``claude_proxy: groups:``. No I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy.config.spelling import unknown
from claude_proxy.config.users import folded
from claude_proxy.providers.endpoints import BLOCK

USERS, GROUPS, BUDGET, CREDENTIALS = "users", "groups", "budget", "credentials"
KEYS = (BUDGET, CREDENTIALS)
EXAMPLE = "{budget: {month: 500}}"


@dataclass(frozen=True)
class Groups:
    """The groups of each user; names are case-folded, and sorted."""

    users: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Groups":
        """Read a configuration in which ``mistakes`` found no error."""
        users = (config.get(BLOCK) or {}).get(USERS) or {}
        named = {folded(name): entry[GROUPS] for name, entry in users.items() if GROUPS in entry}
        return cls({name: tuple(sorted({folded(group) for group in groups})) for name, groups in named.items()})

    def of_user(self, user: str, signed_in: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the groups of a user in config.yaml and those of their sign-in."""
        own = self.users.get(folded(user), ()) if self.users else ()
        return tuple(sorted({*own, *(folded(group) for group in signed_in)})) if signed_in else own


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the block ``groups``; ``config`` is a mapping that is not validated yet."""
    if GROUPS in config:
        yield f"{GROUPS}: belongs under {BLOCK}; at the beginning of a line it limits nobody"
    block = config.get(BLOCK)
    if not isinstance(block, dict) or GROUPS not in block:
        return
    declared, at = block[GROUPS], f"{BLOCK}: {GROUPS}"
    if not isinstance(declared, dict):
        meant = declared[0] if isinstance(declared, list) and declared and isinstance(declared[0], str) else "team-a"
        yield f"{at}: should hold names of groups, and under each a budget, credentials or both; write {meant}: {EXAMPLE}"
        return
    first: dict[str, str] = {}
    for group, entry in declared.items():
        if not isinstance(group, str) or not group or not isinstance(entry, dict) or not entry:
            name = group if isinstance(group, str) else f'"{group}"'
            yield f"{at}: {group}: should hold a budget, credentials or both; write {name}: {EXAMPLE}"
            continue
        above = first.setdefault(folded(group), group)
        if above != group:
            yield f"{at}: {group}: is the same group as {above} above; upper and lower case make no difference"
        yield from (f"{at}: {group}: {unknown(key, KEYS)}" for key in entry if key not in KEYS)
        if CREDENTIALS in entry and not are_names(entry[CREDENTIALS]):
            one = entry[CREDENTIALS] if isinstance(entry[CREDENTIALS], str) and entry[CREDENTIALS] else "NAME"
            yield (
                f"{at}: {group}: {CREDENTIALS}: should be a list of labels or groups of credentials; "
                f"write {CREDENTIALS}: [{one}]"
            )


def are_names(value: object) -> bool:
    """Return whether a value is a list of names, at least one."""
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) and name for name in value)
