"""The commands ``check`` and ``models``, and the findings that a start prints."""

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TextIO

import click

from claude_proxy.check import listing, live, report, table
from claude_proxy.check.facts import Facts, gather, read_config
from claude_proxy.check.findings import Level
from claude_proxy.cli import project as project_folder
from claude_proxy.cli import tables
from claude_proxy.cli.command import command
from claude_proxy.cli.console import tell
from claude_proxy.cli.parsing import PATH, Options, json_option
from claude_proxy.cli.pool_command import lifter
from claude_proxy.cli.progress import each
from claude_proxy.cli.start_report import Line
from claude_proxy.cli.tables import Column, Style
from claude_proxy.config import backup
from claude_proxy.config import models as config
from claude_proxy.config.settings import SettingsError


def check(options: Options, out: TextIO) -> int:
    """Run the checks; return 1 when there are errors."""
    facts = read_facts(options.project, options.data, options.client_settings)
    whens = [table.When.START, table.When.COMMAND, *([] if options.offline else [table.When.ONLINE])]
    results = [(one.title, findings) for one, findings in table.run(facts, *whens, steps=each)]
    if options.live and not options.offline:
        results += live.ask_all(facts, lift=lifter(options), steps=each)
    print(report.as_json(results) if options.json else report.text(results), file=out, flush=True)
    return int(report.failed(report.flat(results)))


def models(options: Options, out: TextIO) -> int:
    """List the models; return 1 when config.yaml cannot be read."""
    facts = read_facts(options.project, options.data)
    rows = listing.rows(facts)
    if options.json:
        print(listing.as_json(rows), file=out)
    elif rows:
        titles, cells = listing.cells(rows)
        style = Style.of(out, lambda: shutil.get_terminal_size().columns)
        print(tables.text([Column(title) for title in titles], cells, style), file=out, end="")
    else:
        tell("config.yaml has no models that can be listed. `claude-proxy check` shows the errors.")
    return int(not rows)


CHECK = command(
    "check",
    lambda options: check(options, sys.stdout),
    [
        click.Option(["--offline"], is_flag=True, help="Connect to no host."),
        click.Option(["--live"], is_flag=True, help="Send a small request to each model and with each Claude credential."),
        click.Option(["--client-settings"], type=PATH, metavar="FILE", help="Check a settings.json of Claude Code."),
        json_option(),
    ],
    about="Find errors in .env, config.yaml and the environment. The exit code is 1 when there are errors.",
    loads=False,
)
MODELS = command(
    "models",
    lambda options: models(options, sys.stdout),
    [json_option()],
    about="List the models of config.yaml and where each one goes.",
    loads=False,
)


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
        notes.append("there is no config.yaml; the start copies config.yaml.example, which is checked here")
    copy, broken = backup.choose(path, (data or project / ".state") / backup.NAME)
    if broken:
        notes.append(f"config.yaml has errors; until they are fixed, a start uses {copy.name}, the last one that worked")
    try:
        project_folder.read_secret_files(os.environ, config.variables(read_config(path)[0]))
    except SettingsError as problem:
        mistakes += problem.mistakes
    dotenv = next((home / ".env" for home in (project, data) if home and os.access(home / ".env", os.R_OK)), project / ".env")
    return gather(path, dotenv, os.environ, client_settings=client_settings, mistakes=tuple(mistakes), notes=tuple(notes))


def at_start(path: Path, project: Path, data: Path | None) -> list[Line]:
    """Return a line for each finding of the offline checks that the start does not report by itself."""
    dotenv = next((home / ".env" for home in (project, data) if home and os.access(home / ".env", os.R_OK)), project / ".env")
    facts = gather(path, dotenv, os.environ)
    findings = [finding for _, found in table.run(facts, table.When.START) for finding in found]
    levels = {Level.WARNING: logging.WARNING, Level.ERROR: logging.ERROR}
    return [Line(str(finding), levels[finding.level]) for finding in findings if finding.level in levels]
