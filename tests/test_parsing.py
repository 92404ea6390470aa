"""cli/parsing.py: options of every command, and help with examples."""

import os
from pathlib import Path

import click
import pytest
from command_line import parsed

from claude_proxy.cli.parsing import Command, Options


def test_a_folder_that_can_only_be_passed_through(tmp_path, monkeypatch):
    """A folder need not be readable, as a container's is not, and need not exist: the command says what it lacks."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    for folder in (tmp_path, tmp_path / "none"):
        assert parsed(["--project", str(folder), "user", "list", "--data", str(folder)]).project == folder


def test_options_are_those_of_the_innermost_command(tmp_path):
    """A folder that is named at several places is the one of the place nearest to the end."""
    options = parsed(["--project", "a", "--data", "b", "user", "--project", "c", "list"])
    assert (options.project, options.data) == (Path("c"), Path("b"))
    assert isinstance(options, Options)


@pytest.mark.parametrize(("examples", "shown"), [((), False), (("claude-proxy x   # as it is", "claude-proxy y"), True)])
def test_examples_are_shown_as_they_are(examples, shown):
    """Examples stand below the options, each in its line; a command without any has no heading for them."""
    command = Command("x", examples=examples, help="Do it.")
    text = command.get_help(click.Context(command))
    assert text.endswith("Examples:\n  claude-proxy x   # as it is\n  claude-proxy y") is shown
    assert ("Examples" in text) is shown
