"""The commands ``check`` and ``models``, and what of the checks is said at a start."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from claude_proxy.check import listing, live, report, table
from claude_proxy.check.facts import Facts, Unreadable, gather, read_config
from claude_proxy.check.findings import Finding, Level, error
from claude_proxy.cli import project as project_folder
from claude_proxy.cli.pool_command import lifter
from claude_proxy.config import backup
from claude_proxy.config import models as config
from claude_proxy.config.settings import SettingsError


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the two commands to the command line."""
    check = commands.add_parser(
        "check", help="say what is wrong with .env, config.yaml and the environment; 1 when there are errors"
    )
    check.add_argument("--offline", action="store_true", help="reach for no host")
    check.add_argument(
        "--live", action="store_true", help="send one small request to each model and with each Claude credential"
    )
    check.add_argument("--client-settings", type=Path, metavar="FILE", help="check a settings.json of Claude Code's as well")
    check.add_argument("--json", action="store_true", help="print JSON")
    models = commands.add_parser("models", help="list what the proxy serves, and where each model goes")
    models.add_argument("--json", action="store_true", help="print JSON")


def check(options: argparse.Namespace, out: TextIO) -> int:
    """Run the checks; return 1 when there are errors."""
    try:
        facts = read_facts(options.project, options.data, options.client_settings)
    except Unreadable as unreadable:
        facts = read_facts(options.project, options.data)
        results: list[tuple[str, list[Finding]]] = [("settings.json can be read", [error("", str(unreadable))])]
    else:
        results = []
    whens = [table.When.START, table.When.COMMAND, *([] if options.offline else [table.When.ONLINE])]
    results += [(one.title, findings) for one, findings in table.run(facts, *whens)]
    if options.live and not options.offline:
        results += live.ask_all(facts, lift=lifter(options))
    print(report.as_json(results) if options.json else report.text(results), file=out, flush=True)
    return int(report.failed(report.flat(results)))


def models(options: argparse.Namespace, out: TextIO) -> int:
    """List the models; return 1 when config.yaml cannot be read."""
    facts = read_facts(options.project, options.data)
    rows = listing.rows(facts)
    print(listing.as_json(rows) if options.json else listing.text(rows), file=out, flush=True)
    return int(not rows)


COMMANDS: dict[str, Callable[[Any, TextIO], int]] = {"check": check, "models": models}


def read_facts(project: Path, data: Path | None, client_settings: Path | None = None) -> Facts:
    """Read what a start would read, and write nothing. Fills ``os.environ`` as a start does."""
    mistakes: list[str] = []
    notes: list[str] = []
    path = project / "config.yaml"
    try:
        project_folder.load_environment(project, data)
        path = project_folder.config_path(project, data)
    except config.ConfigError as problem:
        mistakes += problem.mistakes
    if not path.exists() and not mistakes:
        path = project_folder.ROOT / "config.yaml.example"
        notes.append("there is no config.yaml: a start copies config.yaml.example, which is checked here")
    copy, broken = backup.choose(path, (data or project / ".state") / backup.NAME)
    if broken:
        notes.append(f"config.yaml is broken: until it is mended, a start uses {copy.name}, with which the proxy served last")
    try:
        project_folder.read_secret_files(os.environ, config.variables(read_config(path)[0]))
    except SettingsError as problem:
        mistakes += problem.mistakes
    dotenv = next((home / ".env" for home in (project, data) if home and os.access(home / ".env", os.R_OK)), project / ".env")
    return gather(path, dotenv, os.environ, client_settings=client_settings, mistakes=tuple(mistakes), notes=tuple(notes))


def at_start(path: Path, project: Path, data: Path | None) -> list[str]:
    """Return a line for each thing that is found offline and that the start does not say by itself."""
    dotenv = next((home / ".env" for home in (project, data) if home and os.access(home / ".env", os.R_OK)), project / ".env")
    facts = gather(path, dotenv, os.environ)
    findings = [finding for _, found in table.run(facts, table.When.START) for finding in found]
    return [f"{finding.level.name}: {finding}" for finding in findings if finding.level is not Level.INFO]
