"""Where a process has its signing keys from: a file that all processes watch, or a sealed row of the store."""

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from claude_proxy.config.rewriting import rewrite
from claude_proxy.secret import Secret
from claude_proxy.signin.keys import KeyRing, UnusableKeys, read, seal, unseal, written
from claude_proxy.signin.shared import KEYS, SharedSignIns
from claude_proxy.state.rows import Row
from claude_proxy.state.store import Store

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
MAX_FILE_BYTES = 64 * 1024


class KeySource(Protocol):
    """The keys of a process."""

    problem: str

    @property
    def unknown(self) -> bool:
        """Whether there may be keys that this process cannot read now."""

    def current(self) -> KeyRing | None:
        """Return the keys as they are now; None if there are none, or if they cannot be read, which ``problem`` explains."""

    async def ensure(self) -> None:
        """Make the keys if there are none. Raises ``StoreUnavailable``."""

    async def rotate(self, *, discard: bool) -> KeyRing:
        """Replace the newest key. Raises ``UnusableKeys``, ``OSError`` or ``StoreUnavailable``."""


class NoKeys:
    """No place for keys, and why."""

    unknown = False

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def current(self) -> KeyRing | None:
        return None

    async def ensure(self) -> None:
        """Do nothing."""

    async def rotate(self, *, discard: bool) -> KeyRing:  # noqa: ARG002 - the protocol's
        raise UnusableKeys(self.problem)


class KeyFile:
    """Keys in a file. A changed file is read again; a file with errors is logged once and has no keys."""

    def __init__(self, path: Path, clock: Clock = time.time) -> None:
        self._path = path
        self._clock = clock
        self._stamp: tuple[int, ...] | None = None
        self._ring: KeyRing | None = None
        self.problem = ""

    @property
    def unknown(self) -> bool:
        return self.current() is None and bool(self.problem)

    def current(self) -> KeyRing | None:
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
            if stamp != self._stamp:
                self._ring, self._stamp = self._read(), stamp
                self.problem = ""
        except FileNotFoundError:
            self._ring = self._stamp = None
            self.problem = ""
        except (OSError, UnusableKeys) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._ring = self._stamp = None
            self._report(f"{self._path}: {reason}")
        return self._ring

    async def ensure(self) -> None:
        if self.current() is None and not self.problem:
            try:
                await asyncio.to_thread(self._create)
            except OSError as error:
                self._report(f"{self._path}: cannot be written ({error.strerror})")
            else:
                self.current()

    async def rotate(self, *, discard: bool) -> KeyRing:
        now = self._clock()

        def changed(content: bytes) -> bytes:
            return written(read(content).rotated(now, discard=discard) if content and not discard else KeyRing.new(now))

        await asyncio.to_thread(rewrite, self._path, changed)
        ring = self.current()
        if ring is None:
            raise UnusableKeys(self.problem or f"{self._path}: it was removed")
        return ring

    def _read(self) -> KeyRing:
        with self._path.open("rb") as file:
            return read(file.read(MAX_FILE_BYTES))

    def _create(self) -> None:
        """Write a file that only its owner can read, whole; if another process is first, its file stays."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(written(KeyRing.new(self._clock())))
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):
                self._path.hardlink_to(part)
        finally:
            part.unlink()

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            logger.warning("sign-in is closed: the signing keys cannot be used: %s", problem)


class SealedKeys:
    """Keys in a row of the store, sealed with the master key. ``shared`` gets the row whenever it changes."""

    def __init__(self, store: Store, shared: SharedSignIns, by: Secret, clock: Clock = time.time) -> None:
        self._store = store
        self._shared = shared
        self._by = by
        self._clock = clock
        self._row: Row | None = None
        self._ring: KeyRing | None = None
        self.problem = ""

    @property
    def unknown(self) -> bool:
        return self.current() is None

    def current(self) -> KeyRing | None:
        row = self._shared.keys
        if row is not None and row is not self._row:
            self._row = row
            try:
                self._ring, self.problem = unseal(row.value, self._by), ""
            except UnusableKeys as error:
                self._ring = None
                self.problem = (
                    f"the keys in the store: {error}; `claude-proxy sign-in rotate-keys --discard-old` makes new ones"
                )
                logger.warning("sign-in is closed: %s", self.problem)
        return self._ring

    async def ensure(self) -> None:
        if self.current() is not None or self.problem:
            return
        rows = await self._store.read([KEYS])
        if not rows:
            # With stamp 0: of several replicas that start together the first one wins.
            await self._store.push([Row(KEYS, 0.0, seal(KeyRing.new(self._clock()), self._by))])
            rows = await self._store.read([KEYS])
        self._shared.merge(rows)
        self.current()

    async def rotate(self, *, discard: bool) -> KeyRing:
        now = self._clock()
        rows = await self._store.read([KEYS])
        ring = unseal(rows[0].value, self._by).rotated(now) if rows and not discard else KeyRing.new(now)
        row = Row(KEYS, max(now, rows[0].stamp + 1) if rows else now, seal(ring, self._by))
        await self._store.push([row])
        self._shared.merge([row])
        return ring
