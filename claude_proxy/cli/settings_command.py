"""``claude-proxy settings``: print the block for a client, with its token where that is known."""

import os
from collections.abc import Mapping
from typing import Any

import click

from claude_proxy.access import users_file
from claude_proxy.access.routes import STATIC_NAME
from claude_proxy.cli import onboarding
from claude_proxy.cli.command import command
from claude_proxy.cli.console import tell
from claude_proxy.cli.parsing import Options
from claude_proxy.cli.project import checked, config_path
from claude_proxy.config.settings import Settings
from claude_proxy.secret import Secret

# The options of every command that prints a block.
BLOCK_OPTIONS: tuple[click.Parameter, ...] = (
    click.Option(["--model"], help="The model to use. Default: Claude, or the first model that is ready."),
    click.Option(["--url"], help="The address of the proxy for clients, such as https://proxy.example.org."),
    click.Option(
        ["--format"], type=click.Choice(list(onboarding.FORMATS)), default="settings", help="The program that reads the block."
    ),
)


def show_settings(options: Options) -> None:
    """Print what a client needs, with the token where it is known."""
    loaded, settings = checked(config_path(options.project, options.data))
    token = users_file.find(settings.users, options.user).token if options.user else settings.static_token
    print(blocks(settings, loaded, options, token))  # noqa: T201 - what the command is for
    tell_where(settings, options)
    if options.user and token is None:
        tell(
            f"The token of {options.user} cannot be shown again: only its hash is kept. To make a new one: "
            f"claude-proxy user remove {options.user}, then claude-proxy user add {options.user}."
        )


def tell_where(settings: Settings, options: Options) -> None:
    """Say where the printed block goes, and when only this machine can use it."""
    tell(f"For {onboarding.FORMATS[options.format].where}.")
    url = onboarding.proxy_url(settings, options.url, os.environ)
    if options.url is None and onboarding.is_for_this_machine_only(settings, url):
        tell(f"{url}: this address works on this machine only; --url https://... gives the one for others.")


def settings_block(settings: Settings, loaded: Mapping[str, Any], *, show_token: bool) -> str:
    """Return the block for Claude Code's settings.json. A program that collects output gets a placeholder for the token."""
    return blocks(settings, loaded, Options(), settings.static_token if show_token else None)


def blocks(settings: Settings, loaded: Mapping[str, Any], options: Options, token: Secret | None) -> str:
    """Return what the options ask for, with the token or a placeholder; raise ``OnboardingError``."""
    chosen: dict[str, str | None] = vars(options)
    user, model = chosen.get("user") or STATIC_NAME, chosen.get("model")
    form = onboarding.FORMATS[chosen.get("format") or "settings"]
    models = [model or onboarding.default_model(loaded, settings, os.environ, user)]
    if form.several and model is None:
        models = list(dict.fromkeys([*models, *onboarding.ready_models(loaded, os.environ, user)]))
    url = onboarding.proxy_url(settings, chosen.get("url"), os.environ)
    shown = token.reveal() if token else onboarding.placeholder(settings, chosen.get("user"))
    return form.render([onboarding.setup(loaded, settings, url=url, token=shown, model=one, user=user) for one in models])


SETTINGS = command(
    "settings",
    show_settings,
    [*BLOCK_OPTIONS, click.Option(["--user"], help="The user that the block is for.")],
    about="Print the settings for Claude Code, with the token.",
    examples=(
        "claude-proxy settings",
        "claude-proxy settings --url https://proxy.example.org",
        "claude-proxy settings --format shell --model glm",
    ),
)
