"""What ``serve`` reports: one line when it begins, warnings before anything is served, and at the end how to use the proxy."""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from claude_proxy import __version__
from claude_proxy.access.routes import OPEN_NOTICE, is_open
from claude_proxy.check.fallbacks import no_fallback
from claude_proxy.check.lines import Lines, lines_of
from claude_proxy.check.models import set_instead, set_variables
from claude_proxy.cli import onboarding
from claude_proxy.config import models, static_token
from claude_proxy.config.deployments import likely_endpoint
from claude_proxy.config.settings import LogFormat, Settings, TokenMode
from claude_proxy.config.ways import DIRECTLY, ways
from claude_proxy.providers.endpoints import Hosts

LOGGER = "claude_proxy.start"
# What Claude's models lack without a credential in the pool.
NO_CREDENTIAL = (
    "Add a credential with `claude-proxy pool add LABEL`, or let users use their own Claude login "
    "(form B in docs/claude-code.md: `claude-proxy settings --form b`)."
)
# How the settings block is printed: by `make` in a clone, by the image's command in a container.
IN_A_CLONE = "`make settings`"
IN_A_CONTAINER = "`claude-proxy settings` in the container (`docker compose exec proxy claude-proxy settings`)"


class Line(NamedTuple):
    """A line of the report."""

    text: str
    level: int = logging.INFO


def write(lines: Iterable[Line], log_format: LogFormat, out: TextIO) -> None:
    """Write lines as the log has them: text, a warning with its level in front, or JSON."""
    for line in lines:
        level = logging.getLevelName(line.level)
        if log_format is LogFormat.JSON:
            time = datetime.now(tz=UTC).isoformat(timespec="milliseconds")
            text = json.dumps({"time": time, "level": level, "logger": LOGGER, "message": line.text})
        else:
            text = line.text if line.level == logging.INFO else f"{level}: {line.text}"
        print(text, file=out)
    out.flush()


def begins(settings: Settings, written: Iterable[Path]) -> Iterator[Line]:
    """Yield what is reported before the server starts."""
    for path in written:
        if path.name == static_token.NAME:
            yield Line(f"There is no token and no user yet, so the proxy generated a token and wrote it to {path}.")
        else:
            yield Line(f"Wrote {path}.")
    yield Line(f"claude-proxy {__version__} is starting with {counted(settings.workers, 'process', 'processes')} ...")


def serves(
    settings: Settings, loaded: Mapping[str, Any], path: Path, *, container: bool, generated: bool = False
) -> Iterator[Line]:
    """Yield what is reported once the proxy serves: the models, their lanes, who may use it, and at the end where it is."""
    url = onboarding.proxy_url(settings, None, os.environ)
    yield Line(f"Claude credentials in the pool: {len(settings.credentials)} (mode {settings.mode.value}).")
    yield from _models(settings, loaded)
    yield from _lanes(settings, loaded, path)
    yield from _access(settings, generated=generated)
    yield from _dangers(settings)
    yield Line(f"claude-proxy {__version__} is ready: open {url}/ in a browser.")
    yield Line(f"Credentials, rate limits and usage: {url}/pool")
    yield Line(f"To print the settings for Claude Code, with the token: {IN_A_CONTAINER if container else IN_A_CLONE}")


def _dangers(settings: Settings) -> Iterator[Line]:
    if is_open(settings):
        yield Line(OPEN_NOTICE, logging.WARNING)
    if settings.claude_base.startswith("http://"):
        words = f"ANTHROPIC_API_BASE is {settings.claude_base}: Claude credentials are sent there unencrypted."
        yield Line(words, logging.WARNING)


def _access(settings: Settings, *, generated: bool) -> Iterator[Line]:
    if is_open(settings):
        return
    users = len(settings.users.all_users())
    found = [
        *([f"the {'generated' if generated else 'static'} token"] if settings.static_token else []),
        *([f"the {'tokens' if users > 1 else 'token'} of {counted(users, 'user', 'users')}"] if users else []),
        *(["the virtual keys in the database"] if settings.database_url else []),
    ]
    if found:
        yield Line(f"Accepted tokens: {', '.join(found)}.")
    else:
        words = "Nobody can use the proxy yet: there is no static token and no user. `claude-proxy user add NAME` adds a user."
        yield Line(words, logging.WARNING)


def _models(settings: Settings, loaded: Mapping[str, Any]) -> Iterator[Line]:
    no_pool = settings.mode is TokenMode.ROTATE and not settings.credentials
    lacking = models.not_ready(loaded, os.environ, Hosts(settings.claude_base), no_pool=no_pool)
    ready = [name for name in models.model_names(loaded) if name not in lacking]
    yield Line(f"Ready models: {', '.join(ready) or 'none'}.")
    by_need: dict[tuple[str, ...], list[str]] = {}
    for name, needs in lacking.items():
        by_need.setdefault(needs, []).append(name)
    candidates = set_variables(loaded, os.environ, os.environ)
    for needs, names in by_need.items():
        words = f"Set {' and '.join(needs)} in .env." if needs else NO_CREDENTIAL
        meant = [f" Did you mean {one}, which is set?" for one in set_instead(needs, candidates).values()]
        yield Line(f"Not ready: {', '.join(names)}. {words}{meant[0] if meant else ''}")
    if skipped := sorted(fallback_targets(loaded) & lacking.keys()):
        yield Line(f"These models are fallbacks, but are skipped until they are ready: {', '.join(skipped)}.")
    if nothing := no_fallback(loaded, os.environ, Hosts(settings.claude_base), no_pool=no_pool):
        yield Line(f"{nothing.problem}; {nothing.remedy}.", logging.WARNING)


def fallback_targets(loaded: Mapping[str, Any]) -> set[str]:
    """Return the models that the fallbacks of config.yaml name."""
    entries = (loaded.get("router_settings") or {}).get("fallbacks") or ()
    return {str(target) for entry in entries for targets in entry.values() for target in targets}


def _lanes(settings: Settings, loaded: Mapping[str, Any], path: Path) -> Iterator[Line]:
    try:
        lines = lines_of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        lines = Lines()
    hosts, database = Hosts(settings.claude_base), settings.database_url is not None
    found = [*ways(loaded, hosts, endpoint_lookup=likely_endpoint, database=database, lines=lines.at, file=path.name)]
    yield from (Line(f"{sentence}.") for sentence in found or [f"All requests go {DIRECTLY}"])


def counted(number: int, one: str, several: str) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else several}"
