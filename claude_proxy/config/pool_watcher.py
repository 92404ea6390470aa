"""Applies changes of the pool's files while the proxy serves. One per process; the caller provides what applies the change.

1. A change is read when the files are the same at two checks, because an editor may still be writing.
2. With an error in the files the pool stays unchanged; each error is logged once, and is in ``problems`` while it lasts.
3. An expired login is no longer used.
4. One log line reports the change, by labels only.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from claude_proxy.config.credentials_file import files_of
from claude_proxy.config.pool_sources import Pooled
from claude_proxy.config.settings import read_pool
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.expiry import EXPIRED

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
# Files that change at every check are read after so many checks, so that they are read at all.
PATIENT_LOOKS = 4

Signature = tuple[int, ...] | None


def signature(path: Path) -> Signature:
    """Return a value that changes when the file is written or replaced, also through links; None if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


@dataclass
class PoolWatcher:
    """Watches the files of one process's pool. ``take_up`` applies new credentials."""

    environ: Mapping[str, str]
    credentials: tuple[Credential, ...]
    take_up: Callable[[Sequence[Credential]], None]
    problems: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time
    _paths: tuple[Path, ...] = ()
    _seen: dict[Path, Signature] | None = None
    _candidate: dict[Path, Signature] | None = None
    _changing: int = 0
    _refused: tuple[str, ...] = ()
    _closed: frozenset[str] = field(default_factory=frozenset)
    _had_file: bool = False
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                if self.has_changed():
                    await self.refresh()
                self.apply_expiry()
            except Exception:  # an unforeseen error in one file must not end the watch
                logger.exception("the pool's files could not be read; the pool stays unchanged")
            await asyncio.sleep(LOOK_SECONDS)

    async def refresh(self) -> None:
        """Read the files now and apply them. One read at a time, so that an older one does not overwrite a newer one."""
        async with self._reading:
            self.apply(await asyncio.to_thread(self.read))

    def has_changed(self) -> bool:
        """Whether the files differ from the last read, and are the same as at the last check."""
        found = {path: signature(path) for path in (self._paths or files_of(self.environ))}
        if found == self._seen:
            self._candidate, self._changing = None, 0
            return False
        if found != self._candidate and self._changing < PATIENT_LOOKS:
            self._candidate, self._changing = found, self._changing + 1
            return False
        self._seen, self._changing = found, 0
        return True

    def read(self) -> Pooled:
        """Read the files; run in a thread, so that requests continue."""
        return read_pool(self.environ, self.credentials, required=self._had_file)

    def apply(self, found: Pooled) -> None:
        """Apply the pool that was read, unless it has errors."""
        self._paths = found.paths
        reported = (*self._refused, *self.problems)
        refused, self._refused = self._refused, found.mistakes
        self.problems = (*found.mistakes, *found.problems)
        for mistake in found.mistakes:
            if mistake not in reported:
                logger.error("%s; the pool stays unchanged", mistake)
        for problem in found.problems:
            if problem not in reported:
                logger.warning("%s", problem)
        if found.mistakes:
            return
        self._had_file = any(path.exists() for path in files_of(self.environ))
        changes = difference(self.credentials, found.credentials)
        if refused and not changes:
            logger.info("the errors in the pool's files are fixed; the pool is unchanged")
        if changes or [*map(facts, self.credentials)] != [*map(facts, found.credentials)]:
            self.credentials = found.credentials
            self._apply_pool()
        if changes:
            logger.info("the pool changed: %s", changes)

    def apply_expiry(self) -> None:
        """Apply the expiry of logins that have expired since the last check."""
        now = self.clock()
        closed = frozenset(one.label for one in self.credentials if one.is_disabled(now))
        expired = [one.label for one in self.credentials if one.label in closed - self._closed and not one.terms.paused]
        if closed != self._closed:
            self._apply_pool()
        for label in expired:
            logger.warning("credential %s: %s", label, EXPIRED)

    def _apply_pool(self) -> None:
        now = self.clock()
        self._closed = frozenset(one.label for one in self.credentials if one.is_disabled(now))
        self.take_up(self.credentials)


def facts(credential: Credential) -> tuple[object, ...]:
    """Return all values of a credential, including its secret, for a comparison."""
    one = credential
    return one.label, one.kind, one.secret.reveal(), one.made, one.terms, one.source, one.expires


def difference(old: Sequence[Credential], new: Sequence[Credential]) -> str:
    """Return the difference between two pools, by labels only; empty if they are the same."""
    before = {one.identity: one for one in old}
    after = {one.identity for one in new}
    reported: dict[str, list[str]] = {}
    for one in new:
        was = before.get(one.identity)
        if was is None:
            reported.setdefault("new", []).append(one.label)
            continue
        if one.label != was.label:
            reported.setdefault("renamed", []).append(f"{was.label} to {one.label}")
        if one.terms.paused != was.terms.paused:
            reported.setdefault("paused" if one.terms.paused else "resumed", []).append(one.label)
        elif one.terms != was.terms or one.kind != was.kind or one.made != was.made:
            reported.setdefault("changed", []).append(one.label)
        if not one.secret.matches(was.secret):
            reported.setdefault("login renewed", []).append(one.label)
    removed = [one.label for one in old if one.identity not in after]
    return "; ".join(
        f"{what}: {', '.join(ls)}" for what, ls in {**reported, **({"removed": removed} if removed else {})}.items()
    )
