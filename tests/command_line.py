"""A clone's folder, commands run in it and what they print, for the tests of the command line."""

import os
import socket
import stat
import sys

import click
import pytest

from claude_proxy.cli import main, reachability
from claude_proxy.cli import project as project_folder
from claude_proxy.cli.parsing import Options


@pytest.fixture
def project(tmp_path):
    """A fresh clone's folder: nothing of one's own in it."""
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def stopped(capsys, *arguments):
    """Run a command that has to fail, and return the sentences that it printed."""
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    first, *mistakes = printed.err.splitlines()
    assert first == ("The proxy does not start:" if "serve" in arguments else "The configuration has errors:")
    assert all(mistake.startswith("- ") for mistake in mistakes)
    return [mistake.removeprefix("- ") for mistake in mistakes]


@pytest.fixture
def started(monkeypatch):
    """What the server would have been started with."""
    from claude_proxy.server import supervisor  # noqa: PLC0415 - as the code under test does

    calls = []
    with socket.socket() as probe:  # another program of this machine's may be at the default port
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(probe.getsockname()[1]))
    monkeypatch.setattr(supervisor, "run", lambda app, **options: calls.append((app, options, dict(os.environ))))
    monkeypatch.setattr(reachability, "begin", lambda _: list)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return calls


@pytest.fixture
def peopled(project):
    """A project that is set up, with nobody in it yet."""
    project_folder.prepare(project, None)
    return project


def parsed(arguments):
    """The options that the command line understands, with the names of ``command``; nothing is run."""
    context = main.commands().make_context("claude-proxy", list(arguments))
    names = []
    while isinstance(context.command, click.Group):
        if context.command.invoke_without_command and not [*context._protected_args, *context.args]:
            break  # the group's own command, such as `budget`
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
        names.append(name)
    return Options(**vars(Options.of(context)), command=" ".join(names))


def run(project, *arguments):
    main.main(["--project", str(project), *arguments])


def refused(capsys, project, *arguments):
    """Run a command that cannot be done, and return the sentences that it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(project, *arguments)
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (1, "")
    assert all(line.startswith("Error: ") for line in printed.err.splitlines())
    return [line.removeprefix("Error: ") for line in printed.err.splitlines()]
