"""Takes up what changes in the pool's files while the proxy serves. One for a process; what a change does is handed in.

1. A change is read once the files have been the same for two looks: an editor may be half-way through.
2. With a mistake in them the pool stays as it was; each mistake is in the log once, and among ``problems`` while it lasts.
3. A login that has expired is not asked from then on.
4. The log says in one line what has changed, by labels alone.
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
# What changes at every look is read after so many, or a file that is edited all the time would never be.
PATIENT_LOOKS = 4

Signature = tuple[int, ...] | None


def signature(path: Path) -> Signature:
    """Return what changes with a file, be it written or replaced, through links; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


@dataclass
class PoolWatcher:
    """Looks at the files of one process's pool. ``take_up`` puts other credentials in force."""

    environ: Mapping[str, str]
    credentials: tuple[Credential, ...]
    take_up: Callable[[Sequence[Credential]], None]
    problems: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time
    _paths: tuple[Path, ...] = ()
    _seen: dict[Path, Signature] | None = None
    _candidate: dict[Path, Signature] | None = None
    _restless: int = 0
    _refused: tuple[str, ...] = ()
    _closed: frozenset[str] = field(default_factory=frozenset)
    _had_file: bool = False
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                if self.has_changed():
                    await self.refresh()
                self.notice_expired()
            except Exception:  # one file that breaks something unforeseen must not end the watch
                logger.exception("the pool's files were not taken up; the pool stays as it was")
            await asyncio.sleep(LOOK_SECONDS)

    async def refresh(self) -> None:
        """Read the files now, and put them in force; one reading at a time, or an older one would be the last."""
        async with self._reading:
            self.apply(await asyncio.to_thread(self.read))

    def has_changed(self) -> bool:
        """Whether the files are others than before, and have been the same for two looks."""
        found = {path: signature(path) for path in (self._paths or files_of(self.environ))}
        if found == self._seen:
            self._candidate, self._restless = None, 0
            return False
        if found != self._candidate and self._restless < PATIENT_LOOKS:
            self._candidate, self._restless = found, self._restless + 1
            return False
        self._seen, self._restless = found, 0
        return True

    def read(self) -> Pooled:
        """Read the files, in a thread of its own: the requests go on meanwhile."""
        return read_pool(self.environ, self.credentials, required=self._had_file)

    def apply(self, found: Pooled) -> None:
        """Put the pool that was read in force, unless there are mistakes."""
        self._paths = found.paths
        said = (*self._refused, *self.problems)
        refused, self._refused = self._refused, found.mistakes
        self.problems = (*found.mistakes, *found.problems)
        for mistake in found.mistakes:
            if mistake not in said:
                logger.error("%s; the pool stays as it was", mistake)
        for problem in found.problems:
            if problem not in said:
                logger.warning("%s", problem)
        if found.mistakes:
            return
        self._had_file = any(path.exists() for path in files_of(self.environ))
        changes = difference(self.credentials, found.credentials)
        if refused and not changes:
            logger.info("the pool's files are in order again; nothing has changed")
        if changes or [*map(facts, self.credentials)] != [*map(facts, found.credentials)]:
            self.credentials = found.credentials
            self._put_in_force()
        if changes:
            logger.info("the pool has changed: %s", changes)

    def notice_expired(self) -> None:
        """Let the pool know of the logins that have expired since the last look."""
        now = self.clock()
        closed = frozenset(one.label for one in self.credentials if one.closed(now))
        expired = [one.label for one in self.credentials if one.label in closed - self._closed and not one.terms.paused]
        if closed != self._closed:
            self._put_in_force()
        for label in expired:
            logger.warning("credential %s: %s", label, EXPIRED)

    def _put_in_force(self) -> None:
        now = self.clock()
        self._closed = frozenset(one.label for one in self.credentials if one.closed(now))
        self.take_up(self.credentials)


def facts(credential: Credential) -> tuple[object, ...]:
    """Return all that is said of a credential, for a comparison; its secret is among it."""
    one = credential
    return one.label, one.kind, one.secret.reveal(), one.made, one.terms, one.source, one.expires


def difference(old: Sequence[Credential], new: Sequence[Credential]) -> str:
    """Say what is different between two pools, by labels alone; empty when nothing is."""
    before = {one.identity: one for one in old}
    after = {one.identity for one in new}
    said: dict[str, list[str]] = {}
    for one in new:
        was = before.get(one.identity)
        if was is None:
            said.setdefault("new", []).append(one.label)
            continue
        if one.label != was.label:
            said.setdefault("renamed", []).append(f"{was.label} to {one.label}")
        if one.terms.paused != was.terms.paused:
            said.setdefault("paused" if one.terms.paused else "resumed", []).append(one.label)
        elif one.terms != was.terms or one.kind != was.kind or one.made != was.made:
            said.setdefault("changed", []).append(one.label)
        if not one.secret.matches(was.secret):
            said.setdefault("login renewed", []).append(one.label)
    gone = [one.label for one in old if one.identity not in after]
    return "; ".join(f"{what}: {', '.join(labels)}" for what, labels in {**said, **({"gone": gone} if gone else {})}.items())
