"""What reads the command line, kept free of everything that takes long to import: options, help and examples."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

FOLDERS = ("project", "data")
# Exit codes after Ctrl-C, and after the program that reads the output has ended: 128 and the signal, as in a shell.
INTERRUPTED, CLOSED_PIPE = 130, 141


# A path that exists or not, and that may be one to pass through only: the command says what is wrong with it.
PATH = click.Path(path_type=Path, readable=False)


class Options(SimpleNamespace):
    """The options of a command by their names; ``project`` and ``data`` are paths or None."""

    @classmethod
    def of(cls, context: click.Context) -> "Options":
        """Return the options of a command. Those of ``FOLDERS`` stand before the command or after it; the last one applies."""
        given = dict(context.params)
        for name in FOLDERS:
            above: click.Context | None = context
            while given.get(name) is None and above is not None:
                given[name], above = above.params.get(name), above.parent
        return cls(**given)


def folders() -> list[click.Parameter]:
    """Return the options that every command has."""
    return [
        click.Option(["--project"], type=PATH, help="The folder with .env and config.yaml."),
        click.Option(
            ["--data"],
            type=PATH,
            help="A writable folder for generated files, if the project's folder is read-only.",
        ),
    ]


def json_option() -> click.Option:
    """Return the option of every command that prints a list."""
    return click.Option(["--json"], is_flag=True, help="Print JSON.")


def url_option() -> click.Option:
    """Return the option of every command that asks the running proxy."""
    return click.Option(["--url"], help="The address of the proxy. Default: HOST and PORT of .env.")


class Command(click.Command):
    """A command with examples at the end of its help."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the examples as they are."""
        write_examples(self.examples, formatter)


def write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    """Write examples below a help, a line each."""
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")
