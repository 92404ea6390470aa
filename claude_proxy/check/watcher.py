"""Takes a changed ``config.yaml`` up while the proxy serves: look, read, check, hand on. LiteLLM's shapes are not known here.

1. A change is read once the file has been the same for two looks: an editor may be half-way through.
2. A file with which the proxy would not start is refused, in words; what was in force stays in force.
3. What a change asks for and cannot have without a restart is said.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from claude_proxy.check import names
from claude_proxy.check.facts import Facts, read_config, read_people, read_settings
from claude_proxy.check.findings import Level
from claude_proxy.check.table import of_config
from claude_proxy.config import backup, models
from claude_proxy.config.model_access import Limits

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# Sections that are taken up; every other one is read at the start only.
TAKEN_UP = frozenset({"model_list", "router_settings", "claude_proxy"})
# Of router_settings these can change under way.
ROUTER_SETTINGS = frozenset(
    {
        "fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "model_group_alias",
        "num_retries", "retry_after", "retry_policy", "model_group_retry_policy", "timeout",
    }
)  # fmt: skip

Signature = tuple[int, int, int, int]


class NotTakenUp(Exception):
    """LiteLLM refuses the new configuration; the message says why and holds no value of it."""


@dataclass(frozen=True)
class Change:
    """What is different between two configurations, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    # What is the project's own and not LiteLLM's.
    own: tuple[str, ...] = ()
    # Who had limits and has none any more.
    unlimited: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say what was taken up."""
        said = {
            "new": self.added,
            "gone": self.removed,
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
    # A section that nobody knows counts after a restart as little as before.
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
    """Return what changes with the file, be it written or replaced, through links; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


@dataclass
class Watcher:
    """Looks at the file of one process. ``take_up`` puts a configuration in force or raises ``NotTakenUp``."""

    path: Path
    active_config: models.ActiveConfig
    take_up: Callable[[Mapping[str, Any], Change], Iterable[str]]
    copy: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _seen: Signature | None = None
    _candidate: Signature | None = None
    # Whether the file, as it was seen last, is not what is in force.
    _refused: bool = False

    async def run(self) -> None:
        """Look every second until cancelled."""
        while True:
            try:
                if self.has_changed():
                    facts = await asyncio.to_thread(self.read)
                    self.apply(facts)
            except Exception:  # one file that breaks something unforeseen must not end the watch
                logger.exception("%s: was not taken up; the proxy goes on with what it had", self.path.name)
            await asyncio.sleep(LOOK_SECONDS)

    def has_changed(self) -> bool:
        """Whether there is another file than before, and it has been the same for two looks."""
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
            logger.warning("%s is gone; the proxy goes on with what it had", self.path.name)
        return found is not None

    def read(self) -> Facts:
        """Read and check the file, in a thread of its own: the requests go on meanwhile."""
        loaded, lines, mistakes = read_config(self.path)
        settings, _ = read_settings(self.environ)
        return Facts(
            environ=self.environ,
            config_path=self.path,
            config=loaded,
            lines=lines,
            mistakes=mistakes,
            settings=settings,
            people=read_people(self.environ, settings),
        )

    def apply(self, facts: Facts) -> None:
        """Put a good file in force; tell the operator what became of it."""
        name = self.path.name
        refused, self._refused = self._refused, True
        if facts.mistakes:
            for mistake in facts.mistakes:
                logger.error("%s; it is not taken up, and the proxy goes on with what it had", mistake)
            return
        if "include" in facts.config:
            # LiteLLM put the models of the other files in at its start; they would be lost.
            logger.warning("%s: with include in it, a change counts after a restart", name)
            return
        old, new = self.active_config.loaded, dict(facts.config)
        if new == old:
            self._refused = False
            if refused:
                logger.info("%s is in order again; nothing has changed", name)
            self._keep()
            return
        found = change(old, new)
        try:
            problems = list(self.take_up(new, found))
        except NotTakenUp as error:
            logger.error("%s: %s; it is not taken up, and the proxy goes on with what it had", self.path, error)  # noqa: TRY400
            return
        self.active_config.replace(new)
        self._refused = False
        self._keep()
        logger.info("%s was taken up: %s", name, found)
        self._report(facts, found, problems)

    def _report(self, facts: Facts, found: Change, problems: Sequence[str]) -> None:
        name = self.path.name
        if found.unlimited:
            logger.warning("%s: limits of %s are gone: every model may be asked for", name, ", ".join(found.unlimited))
        if found.restart:
            logger.warning("%s: needs a restart to count: %s", name, ", ".join(found.restart))
        for model, unset in self.active_config.unset.items():
            if model in found.added or model in found.changed:
                missing = " and ".join(unset)
                logger.warning(
                    "%s: model %s is not ready: %s not set; what is new in .env counts after a restart", name, model, missing
                )
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
            # Of a file that has changed since it was checked there will be another look.
            if yaml.safe_load(text) == self.active_config.loaded:
                backup.keep(text, self.copy)
        except (yaml.YAMLError, UnicodeDecodeError):
            return
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s): a broken config.yaml will stop the next start", self.copy, error.strerror
            )
            self.copy = None


def watcher(
    active_config: models.ActiveConfig,
    take_up: Callable[[Mapping[str, Any], Change], Iterable[str]],
    environ: Mapping[str, str],
) -> Watcher | None:
    """Return the watcher of the file that ``serve`` named; None when the proxy was started in another way."""
    path, copy = environ.get(backup.WATCHED), environ.get(backup.VARIABLE)
    return Watcher(Path(path), active_config, take_up, Path(copy) if copy else None, environ) if path else None
