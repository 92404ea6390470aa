"""Batches and files at Anthropic that were made through the proxy: who made each, and with which API key.

Five rules:
  1. An object is a row, ``batch:{id}`` or ``file:{id}``, which every process has. It is never changed but for its deletion,
     so the first process that records an id decides whose it is.
  2. A deleted object keeps its row, so that a list can be continued after it.
  3. A row expires by its age (``MAX_AGE``). Anthropic keeps the results of a batch for 29 days, and a file until its deletion.
  4. One user has at most ``MAX_OF_USER`` objects of a kind, and all users together ``MAX_ROWS``; beyond, the oldest go.
  5. The store has a hash of the key, from which the key cannot be found.

All calls come from one event loop; the objects are shared like the pool's state (``state/replication.py``).
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from claude_proxy.credentials.credential import Credential
from claude_proxy.state.rows import Row, skipping_unreadable

DAY = 86400.0
MAX_ROWS = 20_000
MAX_OF_USER = 5_000
MAX_ID, MAX_NAME = 128, 300


# A part of a path at Anthropic, without a slash and a dot.
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID}}}")


class ObjectKind(Enum):
    """The kinds of objects; the value is the prefix of their rows."""

    BATCH = "batch"
    FILE = "file"


MAX_AGE = {ObjectKind.BATCH: 40 * DAY, ObjectKind.FILE: 400 * DAY}


@dataclass(frozen=True)
class MadeObject:
    """One object. ``user`` is the case-folded name of the user who made it, ``key`` the fingerprint of the API key.

    ``at`` is when it was made, in Unix seconds. ``details`` are plain JSON.
    """

    kind: ObjectKind
    id: str
    user: str
    key: str
    at: float
    details: Mapping[str, Any] = field(default_factory=dict)
    deleted: bool = False

    @property
    def place(self) -> tuple[float, str]:
        """Its place in a list, the oldest object first."""
        return self.at, self.id

    def row(self) -> Row:
        """Return the row; that of a deleted object replaces the earlier one."""
        value = {"user": self.user, "key": self.key, "at": self.at, "details": self.details, "deleted": self.deleted}
        stamp = math.nextafter(self.at, math.inf) if self.deleted else self.at
        return Row(f"{self.kind.value}:{self.id}", stamp, json.dumps(value, separators=(",", ":")))


def is_id(value: object) -> bool:
    """Whether a value, such as one in a response of Anthropic, may be the id of an object."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def fingerprint(credential: Credential) -> str:
    """Return the name of a key in the store."""
    return hashlib.sha256(b"maker of an object: " + credential.secret.reveal().encode()).hexdigest()[:32]


class MadeObjects:
    """One per process. ``clock`` returns Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_kind: dict[ObjectKind, dict[str, MadeObject]] = {kind: {} for kind in ObjectKind}
        self._changed: dict[tuple[ObjectKind, str], MadeObject] = {}

    def add(self, made: MadeObject) -> bool:
        """Record an object; return whether its id is new, and so its maker's."""
        objects = self._by_kind[made.kind]
        if made.id in objects:
            return False
        objects[made.id] = self._changed[made.kind, made.id] = made
        self._bound(made.kind)
        return True

    def discard(self, made: MadeObject) -> None:
        """Record that an object was deleted."""
        gone = replace(made, deleted=True)
        self._by_kind[made.kind][made.id] = self._changed[made.kind, made.id] = gone

    def find(self, kind: ObjectKind, identifier: str) -> MadeObject | None:
        """Return an object that exists; None for an unknown id, a deleted and an expired one."""
        found = self._by_kind[kind].get(identifier)
        return None if found is None or found.deleted or self._is_expired(found) else found

    def of_user(self, kind: ObjectKind, user: str | None) -> list[MadeObject]:
        """Return the objects of a case-folded user, or of all users, the newest first; deleted ones too."""
        found = (one for one in self._by_kind[kind].values() if user is None or one.user == user)
        return sorted((one for one in found if not self._is_expired(one)), key=lambda one: one.place, reverse=True)

    def has_room(self, kind: ObjectKind, user: str) -> bool:
        """Whether a user may make another object."""
        return sum(not one.deleted for one in self.of_user(kind, user)) < MAX_OF_USER

    def _is_expired(self, made: MadeObject) -> bool:
        return made.at < self._clock() - MAX_AGE[made.kind]

    def _bound(self, kind: ObjectKind) -> None:
        objects = self._by_kind[kind]
        if len(objects) > MAX_ROWS:
            for made in sorted(objects.values(), key=lambda one: one.place)[: len(objects) - MAX_ROWS]:
                del objects[made.id]

    # --- Sharing -------------------------------------------------------------------------------------------------------------

    def changed(self) -> list[Row]:
        """Return what has changed here since the last call."""
        changed, self._changed = self._changed, {}
        return [made.row() for made in changed.values()]

    def everything(self) -> list[Row]:
        """Return every object: the store may have lost them."""
        return [made.row() for objects in self._by_kind.values() for made in objects.values() if not self._is_expired(made)]

    def merge(self, rows: Iterable[Row], /) -> None:
        """Apply objects of other processes. Rows of other parts are skipped."""
        for row in rows:
            prefix, _, identifier = row.key.partition(":")
            if prefix in _KINDS:
                with skipping_unreadable(row):
                    self._merge(_read(_KINDS[prefix], identifier, json.loads(row.value)))
        for kind in ObjectKind:
            self._bound(kind)

    def _merge(self, made: MadeObject) -> None:
        known = self._by_kind[made.kind].get(made.id)
        if known is None or (made.deleted and not known.deleted):
            self._by_kind[made.kind][made.id] = made


_KINDS = {kind.value: kind for kind in ObjectKind}


def _read(kind: ObjectKind, identifier: str, value: Any) -> MadeObject:
    """Return the object of a row; raise ValueError or TypeError for an invalid one."""
    user, key, at, details = value["user"], value["key"], value["at"], value["details"]
    texts = (identifier, MAX_ID), (user, MAX_NAME), (key, MAX_NAME)
    if not identifier or not all(isinstance(text, str) and len(text) <= longest for text, longest in texts):
        raise ValueError("not an object")
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at) or not isinstance(details, dict):
        raise TypeError("not an object")
    return MadeObject(kind, identifier, user, key, float(at), details, deleted=value["deleted"] is True)
