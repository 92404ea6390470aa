"""The settings of Claude Code that the proxy sends to its users: ``claude_proxy: managed_settings:`` in config.yaml.

1. ``all`` is for everyone, ``groups`` for the members of a group, ``users`` for one user. A later one of these wins, key by
   key: mappings are merged, lists are replaced, and a null takes a setting away. Groups apply in the order of the file.
2. A user to whom no entry applies has no policy, which is not the same as an empty one.
3. What the proxy knows comes below all of that (``config/managed_fill.py``), unless ``fill`` is false.
4. Everything is sent to the users' machines, so no secret is accepted.
"""

import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy.config import client_settings, settings_json
from claude_proxy.config.client_settings import ENV
from claude_proxy.config.spelling import unknown
from claude_proxy.config.users import folded
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.credentials.redaction import REFERENCE, SECRET_PARAMETER
from claude_proxy.providers.endpoints import BLOCK, in_block

KEY = "managed_settings"
FILL, ALL, GROUPS, USERS = "fill", "all", "groups", "users"
KEYS = (FILL, ALL, GROUPS, USERS)
_SEPARATORS = re.compile(r"[\s,;:=\"']+")
# A policy's id is made of the names of its entries, so that it stays the same when its settings change.
NAMESPACE = uuid.UUID("6f0c7a1e-5d0a-4b8e-9f1b-1f6c2f0a7d3e")
EXAMPLE = "{model: opus}"


@dataclass(frozen=True)
class Policy:
    """What a user gets. ``entries`` are the names of the entries that apply, the weakest first."""

    entries: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def uuid(self) -> str:
        """The policy's id."""
        return str(uuid.uuid5(NAMESPACE, "\n".join(self.entries)))

    @property
    def checksum(self) -> str:
        """The checksum of the settings, as Claude Code computes it."""
        return settings_json.checksum(self.settings)

    def response(self) -> str:
        """Return the whole response as JSON."""
        whole = {"uuid": self.uuid, "checksum": self.checksum, "settings": self.settings}
        return settings_json.canonical(whole)


@dataclass(frozen=True)
class ManagedSettings:
    """The section. Names of users and groups are case-folded."""

    fill: bool
    everyone: Mapping[str, Any] | None
    groups: Mapping[str, Mapping[str, Any]]
    users: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "ManagedSettings | None":
        """Read a configuration in which ``mistakes`` found no error; None without the section."""
        found = (config.get(BLOCK) or {}).get(KEY)
        if found is None:
            return None
        named = {
            part: {folded(name): _read(entry) for name, entry in (found.get(part) or {}).items()} for part in (GROUPS, USERS)
        }
        return cls(found.get(FILL, True), _read(found[ALL]) if ALL in found else None, named[GROUPS], named[USERS])

    def applies(self, user: str, groups: Collection[str]) -> bool:
        """Whether a user has a policy. ``groups`` are case-folded."""
        return bool(self._entries(user, groups))

    def policy(self, user: str, groups: Collection[str], filled: Mapping[str, Any]) -> Policy | None:
        """Return a user's policy on top of what the proxy fills in; None if no entry applies to them."""
        entries = self._entries(user, groups)
        if not entries:
            return None
        settings: dict[str, Any] = dict(filled)
        for entry in entries.values():
            settings = _over(settings, entry)
        return Policy(tuple(entries), settings)

    def _entries(self, user: str, groups: Collection[str]) -> dict[str, Mapping[str, Any]]:
        found = {} if self.everyone is None else {ALL: self.everyone}
        found |= {f"group:{name}": entry for name, entry in self.groups.items() if name in groups}
        name = folded(user)
        return found | ({f"user:{name}": self.users[name]} if name in self.users else {})


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Return two mappings merged; the upper one wins, and its nulls take keys away."""
    found = dict(lower)
    for key, value in upper.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict):
            below = found.get(key)
            found[key] = _over(below if isinstance(below, dict) else {}, value)
        else:
            found[key] = value
    return found


def _read(entry: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return an entry with each variable as a text, as Claude Code would make one of it."""
    settings = dict(entry or {})
    if isinstance(settings.get(ENV), dict):
        settings[ENV] = {
            name: value if value is None or isinstance(value, str) else settings_json.canonical(value)
            for name, value in settings[ENV].items()
        }
    return settings


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the section; ``config`` is a mapping that is not validated yet."""
    if KEY in config:
        yield f"{KEY}: belongs under {BLOCK}; at the beginning of a line it does nothing"
    found = in_block(config, KEY)
    if found is None:
        return
    at = f"{BLOCK}: {KEY}"
    if not isinstance(found, dict):
        yield f"{at}: should hold {ALL}, {GROUPS} or {USERS}, and under each settings of Claude Code; write {ALL}: {EXAMPLE}"
        return
    yield from (f"{at}: {unknown(name, KEYS, _place_of(name))}" for name in found if name not in KEYS)
    if not isinstance(found.get(FILL, True), bool):
        yield f"{at}: {FILL} should be true or false"
    for path, entry in _written(found):
        if not isinstance(entry, dict):
            yield f"{at}: {path}: should hold settings of Claude Code; write {path.split(': ')[-1]}: {EXAMPLE}"
            continue
        if words := settings_json.problem(entry):
            yield f"{at}: {path}: {words}"
            continue
        yield from (f"{at}: {path}: {words}" for words in (*client_settings.mistakes(entry), *_secrets(entry)))
    for part in (GROUPS, USERS):
        yield from _mistakes_of_names(f"{at}: {part}", found.get(part))


def written(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield the place and the content of each entry that is a mapping."""
    found = in_block(config, KEY)
    for path, entry in _written(found if isinstance(found, dict) else {}):
        if isinstance(entry, dict):
            yield (BLOCK, KEY, *path.split(": ", 1)), entry


def _written(found: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each entry with its keys in the section; an entry with nothing in it is an empty one."""
    if ALL in found:
        yield ALL, {} if found[ALL] is None else found[ALL]
    for part in (GROUPS, USERS):
        named = found.get(part)
        for name, entry in named.items() if isinstance(named, dict) else ():
            yield f"{part}: {name}", {} if entry is None else entry


def _mistakes_of_names(at: str, named: object) -> Iterator[str]:
    if named is not None and not isinstance(named, dict):
        yield f"{at}: should hold names, and under each settings of Claude Code; write NAME: {EXAMPLE}"
        return
    first: dict[str, str] = {}
    for name in named or {}:
        if not isinstance(name, str):
            yield f'{at}: {name}: should be a name; write it in quotes: "{name}"'
        elif (above := first.setdefault(folded(name), name)) != name:
            yield f"{at}: {name}: is the same name as {above} above; upper and lower case make no difference"


def _secrets(value: Any, path: str = "") -> Iterator[str]:
    """Yield a sentence for each secret in an entry."""
    if isinstance(value, dict):
        for key, inner in value.items():
            below = f"{path}{key}: "
            if isinstance(inner, str) and inner and SECRET_PARAMETER.search(key):
                yield f"{below}is a credential, and managed settings go to the users' machines; remove it"
            else:
                yield from _secrets(inner, below)
    elif isinstance(value, list):
        for place, inner in enumerate(value, start=1):
            yield from _secrets(inner, f"{path}entry {place}: ")
    elif isinstance(value, str) and REFERENCE in value:
        yield f"{path}refers to a variable, and managed settings go to the users' machines; write the value, if it is no secret"
    elif isinstance(value, str) and any(is_claude_credential(word) for word in _SEPARATORS.split(value)):
        yield f"{path}holds a Claude credential, and managed settings go to the users' machines; remove it"


def _place_of(name: object) -> str:
    return f"settings belong under {ALL}, {GROUPS} or {USERS}" if name in client_settings.KINDS else ""
