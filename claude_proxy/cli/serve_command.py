"""``claude-proxy serve``: prepare what is missing, check the settings, start LiteLLM with this project's callbacks in it."""

import contextlib
import logging
import os
import resource
import stat
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from claude_proxy.check.placing import in_words
from claude_proxy.cli import check_command, reachability, start_report
from claude_proxy.cli.command import command
from claude_proxy.cli.project import (
    ROOT,
    checked,
    config_path,
    generate_token,
    generated_token,
    is_generated,
    load_environment,
    prepare,
    state_folder,
)
from claude_proxy.cli.start_report import Line
from claude_proxy.config import backup
from claude_proxy.config.listening import address_error
from claude_proxy.config.settings import OWN_REDIS, Settings, SettingsError
from claude_proxy.config.signing_keys import GENERATED_MASTER_KEY
from claude_proxy.litellm import database
from claude_proxy.server.options import FORCED_ENVIRONMENT, LITELLM_ENVIRONMENT, MANY_FILES, SERVER

# Variables of Claude Code or the Anthropic SDK that LiteLLM reads too: started from a shell that is set up for Claude Code, the
# proxy would send requests to itself, or add that shell's key to every request.
CLIENT_VARIABLES = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_MODEL")


def serve(project: Path, data: Path | None) -> None:
    """Start the proxy and stay until it is stopped."""
    out = sys.stdout
    written = prepare(project, data)
    load_environment(project, data, starts=True)
    written += generate_token(project, data)
    generated = is_generated(project, data)
    keep_to_the_owner(state_folder(project, data))
    edited = config_path(project, data)
    copy = (data or project / ".state") / backup.NAME
    path, broken = backup.choose(edited, copy)
    loaded, settings = checked(path)
    require_port(settings.host, settings.port)
    found = check_command.at_start(path, project, data)
    start_plan(settings, path, edited=project / "config.yaml", copy=copy, state=state_folder(project, data)).export(os.environ)
    if settings.database_url:
        database.prepare(os.environ)
    sys.path.insert(0, str(ROOT))
    copied = report_of_copy(in_words(broken, edited), copy)
    start_report.write([*copied, *found, *start_report.begins(settings, written)], settings.log_format, out)
    allow_many_connections()
    unreachable = reachability.begin(settings)

    from claude_proxy.server.supervisor import run  # noqa: PLC0415 - late: an error in the settings is reported before it

    def ready() -> None:
        serves = start_report.serves(settings, loaded, path, container=data is not None, generated=generated)
        start_report.write([*unreachable(), *serves], settings.log_format, out)

    run(
        "claude_proxy.litellm.app:app",
        ready=ready,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        **SERVER,
    )


@dataclass(frozen=True)
class StartPlan:
    """The changes to the environment for the server and its workers."""

    variables: Mapping[str, str]
    # These apply unless the operator has set them.
    defaults: Mapping[str, str]
    removed: frozenset[str]

    def export(self, environ: MutableMapping[str, str]) -> None:
        """Change the environment, once."""
        for name in self.removed:
            environ.pop(name, None)
        for name, value in self.defaults.items():
            environ.setdefault(name, value)
        environ.update(self.variables)
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH", ""))))


def start_plan(settings: Settings, path: Path, *, edited: Path, copy: Path, state: Path) -> StartPlan:
    """Return the changes for a start with the configuration at ``path``; ``edited`` is watched, ``copy`` is its backup."""
    master = settings.master_key.reveal() if settings.master_key else generated_token()
    variables = {
        # LiteLLM does not start without a master key, and reads these variables itself; Prisma reads the database's.
        "LITELLM_MASTER_KEY": master,
        "CONFIG_FILE_PATH": str(path),
        backup.WATCHED: str(edited),
        backup.VARIABLE: str(copy),
        **FORCED_ENVIRONMENT,
    }
    if settings.master_key is None:
        variables[GENERATED_MASTER_KEY] = "yes"
    removed = {*CLIENT_VARIABLES, "LITELLM_MASTER_KEY_FILE"}
    if settings.redis_url:
        variables[OWN_REDIS] = settings.redis_url.reveal()
        removed |= {"REDIS_URL", "REDIS_URL_FILE"}
    if settings.database_url:
        variables["DATABASE_URL"] = settings.database_url.reveal()
        removed |= {"DATABASE_URL_FILE"}
    defaults = {**LITELLM_ENVIRONMENT, "CLAUDE_POOL_STATE_FILE": str(state / "pool.sqlite3")}
    return StartPlan(variables, defaults, frozenset(removed))


def keep_to_the_owner(folder: Path) -> None:
    """Make the proxy's own folder writable for its owner only; a folder of another owner stays as it is.

    Earlier versions created it by the umask, and write access to the folder allows adding users.
    """
    with contextlib.suppress(OSError):
        found = folder.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o022:
            folder.chmod(stat.S_IMODE(found.st_mode) & ~0o022)


def allow_many_connections() -> None:
    """Raise the limit of open files of this process and its workers as far as the system allows.

    A stream takes two. Many systems start with 1024, macOS with 256; at the limit a server refuses all connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    # macOS does not report the kernel's own limit.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def require_port(host: str, port: int) -> None:
    """Raise ``SettingsError`` when nothing can listen there: reported before the banner, and not by a traceback after it."""
    _, problem = address_error(host, port)
    if problem:
        raise SettingsError((problem,))


def report_of_copy(broken: Sequence[str], copy: Path) -> list[Line]:
    """Return what to report when config.yaml is broken and its last good copy is used in its place."""
    if not broken:
        return []
    since = datetime.fromtimestamp(copy.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
    instead = f"The proxy uses {copy} instead, the last configuration that worked ({since}). Fix config.yaml: it then applies."
    return [Line(sentence, logging.ERROR) for sentence in (*broken, instead)]


SERVE = command(
    "serve",
    lambda options: serve(options.project, options.data),
    about="Create .env and config.yaml if they are missing, and start the proxy.",
    loads=False,
    writes=True,
)
