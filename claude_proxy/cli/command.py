"""How a command is declared and run, and how an error ends it."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from claude_proxy.access.users_file import UsersError
from claude_proxy.cli.console import CommandError, close_output, fail, stop, tell
from claude_proxy.cli.onboarding import OnboardingError
from claude_proxy.cli.parsing import CLOSED_PIPE, Command, Options, folders
from claude_proxy.cli.project import ROOT, load_environment, other_clone
from claude_proxy.cli.running_proxy import ProxyUnavailable
from claude_proxy.config.credentials_edit import NotEdited
from claude_proxy.config.models import ConfigError
from claude_proxy.config.settings import SettingsError


def command(
    name: str,
    function: Callable[[Options], int | None],
    params: Sequence[click.Parameter] = (),
    *,
    about: str,
    examples: Sequence[str] = (),
    loads: bool = True,
    writes: bool = False,
) -> Command:
    """Return a command that calls a function; ``loads`` fills the environment first, as a start does.

    What the function returns is the exit code; None is 0. In the folder of another clone, unless ``--project`` names a folder,
    a command says to which clone it belongs; with ``writes``, it does nothing else.
    """

    def run(**_: Any) -> int | None:
        options = Options.of(click.get_current_context())
        try:
            if options.project is None:
                _notice_another_clone(writes=writes)
            options.project = options.project or ROOT
            if loads:
                load_environment(options.project, options.data)
            code = function(options)
            sys.stdout.flush()
        except (SettingsError, ConfigError) as error:
            stop("The proxy does not start:" if name == "serve" else "The configuration has errors:", error.mistakes)
        except (UsersError, OnboardingError, NotEdited, CommandError) as error:
            fail(*error.mistakes)
        except ProxyUnavailable as error:
            fail(str(error))
        except BrokenPipeError:
            close_output()
            return CLOSED_PIPE
        except OSError as error:
            close_output()  # it may be what cannot be written
            fail(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        return code

    return Command(name, callback=run, params=[*params, *folders()], help=about, examples=examples)


def _notice_another_clone(*, writes: bool) -> None:
    """In the folder of another clone, say so; raise ``CommandError`` for a command that writes."""
    other = other_clone()
    if other is None:
        return
    words = click.get_current_context().command_path.replace("claude-proxy", str(other / ".venv/bin/claude-proxy"), 1)
    belongs = f"This folder belongs to the clone {other}, but this claude-proxy belongs to {ROOT}"
    if not writes:
        tell(f"{belongs}, and shows that one. For {other}, run `{words} ...`.")
        return
    raise CommandError(
        f"{belongs}. Nothing was done.",
        f"For {other}, run `{words} ...`, which `make install` makes there. For {ROOT}, add --project {ROOT}.",
    )


def group(name: str, actions: Sequence[click.Command], *, about: str, default: Command | None = None) -> click.Group:
    """Return a command that has actions; without one it runs the default command, which has its options, or shows the help."""
    if default is None:
        return click.Group(name, commands=actions, params=folders(), help=about, no_args_is_help=True)

    def run(**options: Any) -> Any:
        alone = click.get_current_context().invoked_subcommand is None
        return default.callback(**options) if alone and default.callback else None

    return click.Group(name, commands=actions, params=default.params, help=about, callback=run, invoke_without_command=True)
