"""Applies a changed config.yaml while the proxy serves: poll, read, check, apply. LiteLLM's shapes are not known here.

1. A change is read once the file was the same in two polls: an editor may still be writing.
2. A file with which the proxy would not start is rejected with its errors; the current configuration stays.
3. Changes that need a restart are logged.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from claude_proxy.check import names, users
from claude_proxy.check.facts import Facts, read_config, read_settings, read_users, text_of
from claude_proxy.check.findings import Level
from claude_proxy.check.placing import placed
from claude_proxy.check.table import of_config
from claude_proxy.config import backup, models
from claude_proxy.config.model_access import Limits
from claude_proxy.config.users import folded

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# Sections that are applied; every other section is read at the start only.
TAKEN_UP = frozenset({"model_list", "router_settings", "claude_proxy"})
# Of router_settings these can change while the proxy serves.
ROUTER_SETTINGS = frozenset(
    {
        "fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "model_group_alias",
        "num_retries", "retry_after", "retry_policy", "model_group_retry_policy", "timeout",
    }
)  # fmt: skip

Signature = tuple[int, int, int, int]


class NotTakenUp(Exception):
    """LiteLLM rejects the new configuration; the message says why and holds no value of it."""


@dataclass(frozen=True)
class Change:
    """The differences between two configurations, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    # Settings of this project, under claude_proxy.
    own: tuple[str, ...] = ()
    # Users whose limits were removed.
    unlimited: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the changes that were applied."""
        said = {
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "router_settings": self.settings,
            "claude_proxy": self.own,
        }
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in said.items() if names) or "no model has changed"


def change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    """Compare two configurations."""
    before, after = _entries(old), _entries(new)
    settings, others = old.get("router_settings") or {}, new.get("router_settings") or {}
    ours, theirs = old.get("claude_proxy") or {}, new.get("claude_proxy") or {}
    different = sorted(name for name in {*settings, *others} if settings.get(name) != others.get(name))
    # A section that is not known has no effect, before a restart or after it.
    sections = sorted(
        name for name in {*old, *new} - TAKEN_UP if names.is_known("top", str(name)) and old.get(name) != new.get(name)
    )
    limited = Limits.of(new).listed
    return Change(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and before[name] != after[name]),
        settings=tuple(name for name in different if name in ROUTER_SETTINGS),
        own=tuple(sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))),
        unlimited=tuple(name for name in Limits.of(old).listed if name not in limited),
        restart=(*(f"router_settings: {name}" for name in different if name not in ROUTER_SETTINGS), *sections),
    )


def _entries(loaded: Mapping[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for entry in loaded.get("model_list") or ():
        found.setdefault(entry["model_name"], []).append(entry)
    return found


def signature(path: Path) -> Signature | None:
    """Return a value that changes when the file is written or replaced, links followed; None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


@dataclass
class Watcher:
    """Polls the file for one process. ``take_up`` applies a configuration or raises ``NotTakenUp``."""

    path: Path
    active_config: models.ActiveConfig
    take_up: Callable[[Mapping[str, Any], Change], Iterable[str]]
    copy: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _seen: Signature | None = None
    _candidate: Signature | None = None
    # Whether the file, as it was read last, is not the current configuration.
    _refused: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether the file, as it was read last, does not apply."""
        return self._refused

    async def run(self) -> None:
        """Poll every second until cancelled."""
        while True:
            try:
                if self.has_changed():
                    facts = await asyncio.to_thread(self.read)
                    self.apply(facts)
            except Exception:  # one file with an unforeseen effect must not end the polling
                logger.exception(
                    "%s is not applied: an internal error; the proxy keeps its current configuration", self.path.name
                )
            await asyncio.sleep(LOOK_SECONDS)

    def has_changed(self) -> bool:
        """Whether the file is another one than before, and the same in two polls."""
        found = signature(self.path)
        if found == self._seen:
            self._candidate = found
            return False
        if found != self._candidate:
            self._candidate = found
            return False
        self._seen = found
        if found is None:
            self._refused = True
            logger.warning("%s was removed; the proxy keeps its current configuration", self.path.name)
        return found is not None

    def read(self) -> Facts:
        """Read and check the file. Called in a thread of its own, so that requests continue."""
        loaded, lines, mistakes = read_config(self.path)
        settings, _ = read_settings(self.environ)
        return Facts(
            environ=self.environ,
            config_path=self.path,
            config=loaded,
            config_text=text_of(self.path),
            lines=lines,
            mistakes=mistakes,
            settings=settings,
            users=read_users(self.environ, settings),
        )

    def apply(self, facts: Facts) -> None:
        """Apply a valid file; log the result."""
        name = self.path.name
        refused, self._refused = self._refused, True
        if facts.mistakes:
            for mistake in facts.mistakes:
                logger.error("%s; not applied: the proxy keeps its current configuration", placed(mistake, facts))
            return
        if "include" in facts.config:
            # LiteLLM read the models of the other files at its start; they would be lost.
            logger.warning("%s: has include, so its changes need a restart", name)
            return
        old, new = self.active_config.loaded, dict(facts.config)
        if new == old:
            self._refused = False
            if refused:
                logger.info("%s is valid again; nothing has changed", name)
            self._keep()
            return
        found = change(old, new)
        try:
            problems = list(self.take_up(new, found))
        except NotTakenUp as error:
            logger.error("%s: %s; not applied: the proxy keeps its current configuration", name, error)  # noqa: TRY400
            return
        self.active_config.replace(new)
        self._refused = False
        self._keep()
        logger.info("%s is reloaded: %s", name, found)
        self._report(facts, found, problems)

    def _report(self, facts: Facts, found: Change, problems: Sequence[str]) -> None:
        name = self.path.name
        there = users.known(facts)
        unlimited = [user for user in found.unlimited if there is None or user in map(folded, there)]
        if unlimited:
            logger.warning("%s: the limits of %s are removed: these users may use every model", name, ", ".join(unlimited))
        if found.restart:
            logger.warning("%s: needs a restart to apply: %s", name, ", ".join(found.restart))
        for model, unset in self.active_config.unset.items():
            if model in found.added or model in found.changed:
                missing = " and ".join(unset)
                logger.warning("%s: model %s is not ready: %s not set; changes of .env need a restart", name, model, missing)
        for problem in problems:
            logger.error("%s: %s", name, problem)
        for finding in of_config(facts):
            if finding.level is not Level.INFO:
                logger.warning("%s", finding)

    def _keep(self) -> None:
        if self.copy is None:
            return
        try:
            text = self.path.read_text(encoding="utf-8")
            # A file that has changed since it was checked is read again.
            if models.parsed(text) == self.active_config.loaded:
                backup.keep(text, self.copy)
        except (yaml.YAMLError, UnicodeDecodeError):
            return
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s): the next start would fail with an error in config.yaml", self.copy, error.strerror
            )
            self.copy = None


def watcher(
    active_config: models.ActiveConfig,
    take_up: Callable[[Mapping[str, Any], Change], Iterable[str]],
    environ: Mapping[str, str],
) -> Watcher | None:
    """Return the watcher of the file that ``serve`` named; None for a proxy that was started in another way."""
    path, copy = environ.get(backup.WATCHED), environ.get(backup.VARIABLE)
    return Watcher(Path(path), active_config, take_up, Path(copy) if copy else None, environ) if path else None
