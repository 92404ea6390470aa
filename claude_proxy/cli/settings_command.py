"""``claude-proxy settings``: the settings of a client, with its token if that is known."""

import json
import os
from collections.abc import Mapping
from typing import Any

import click

from claude_proxy.access import users_file
from claude_proxy.access.routes import STATIC_NAME
from claude_proxy.cli import onboarding
from claude_proxy.cli.code_snippets import TOKEN_VARIABLE
from claude_proxy.cli.command import command
from claude_proxy.cli.console import CommandError, tell
from claude_proxy.cli.parsing import Options, json_option
from claude_proxy.cli.project import checked, config_path
from claude_proxy.config import models as config
from claude_proxy.config.groups import Groups
from claude_proxy.config.managed_fill import policy_of
from claude_proxy.config.managed_settings import ManagedSettings
from claude_proxy.config.settings import Settings
from claude_proxy.config.telemetry import telemetry
from claude_proxy.secret import Secret

# The options of every command that prints a block.
BLOCK_OPTIONS: tuple[click.Parameter, ...] = (
    click.Option(["--model"], help="The model to use. Default: Claude, or the first model that is ready."),
    click.Option(["--url"], help="The address of the proxy for clients, such as https://proxy.example.org."),
    click.Option(
        ["--format"], type=click.Choice(list(onboarding.FORMATS)), default="settings", help="The program that reads the block."
    ),
    click.Option(
        ["--form"],
        type=click.Choice(onboarding.FORMS),
        default="a",
        help="a: the token of the proxy alone. b: the token of the proxy beside a login of the user.",
    ),
    *(click.Option([option], metavar="MODEL", help=f"The model for {work}.") for option, work in onboarding.SMALL_WORK.items()),
    json_option(),
)


def show_settings(options: Options) -> None:
    """Print what a client needs, with the token if it is known."""
    loaded, settings = checked(config_path(options.project, options.data))
    if options.managed:
        show_managed(settings, loaded, options)
        return
    if options.group:
        raise CommandError("--group is for --managed")
    token = users_file.find(settings.users, options.user).token if options.user else settings.static_token
    show_block(settings, loaded, options, token)
    if options.user and token is None:
        tell(
            f"The token of {options.user} cannot be shown again: only its hash is stored. For a new one run "
            f"`claude-proxy user remove {options.user}` and `claude-proxy user add {options.user}`."
        )


def show_managed(settings: Settings, loaded: Mapping[str, Any], options: Options) -> None:
    """Print the managed settings of a user, as ``GET /managed/settings`` has them; with ``--json`` the whole response."""
    managed = ManagedSettings.of(loaded)
    if managed is None:
        raise CommandError("config.yaml has no claude_proxy: managed_settings, so no user gets any")
    user = options.user or STATIC_NAME
    groups = Groups.of(loaded).of_user(user, options.group)
    models = onboarding.client_models(loaded, settings)
    collector = telemetry(loaded, os.environ)
    takes_telemetry = collector is not None and collector.clients
    has_login = bool(settings.credentials)
    policy = policy_of(managed, models, os.environ, user, groups, has_login=has_login, takes_telemetry=takes_telemetry)
    if policy is None:
        raise CommandError(f"no entry of managed_settings applies to {user}, who gets a 404")
    shown = json.loads(policy.response()) if options.json else policy.settings
    print(json.dumps(shown, indent=2, ensure_ascii=False))  # noqa: T201 - what the command is for
    entries = ", ".join(entry.replace(":", " ") for entry in policy.entries)
    tell(f"The managed settings of {user}, by {entries}{' and what the proxy knows' if managed.fill else ''}.")


def show_block(settings: Settings, loaded: Mapping[str, Any], options: Options, token: Secret | None) -> None:
    """Print the block to stdout and what to do with it to stderr; with ``--json`` all of it as JSON."""
    text = blocks(settings, loaded, options, token)
    if options.json:
        block = onboarding.FORMATS[options.format]
        found = {
            "format": options.format,
            "where": block.where,
            "url": onboarding.proxy_url(settings, options.url, os.environ),
            "token": token.reveal() if token else None,
            "block": json.loads(text) if text.startswith("{") else text,
        }
        text = json.dumps(found, indent=2)
    print(text)  # noqa: T201 - what the command is for
    tell_where(settings, options, token)
    tell_what_lacks(loaded, options.model)


def tell_what_lacks(loaded: Mapping[str, Any], model: str | None) -> None:
    """Print to stderr which variables the block's model lacks."""
    if lacking := config.unset_variables(loaded, os.environ).get(model or ""):
        tell(f"{model} is not ready: set {' and '.join(lacking)} in .env, and restart the proxy.")


def tell_where(settings: Settings, options: Options, token: Secret | None) -> None:
    """Print to stderr where the printed block goes, and when only this machine can use it."""
    block = onboarding.FORMATS[options.format]
    tell(f"For {block.where}.")
    if not block.has_token:
        shown = token.reveal() if token else onboarding.placeholder(settings, options.user)
        if options.format == "github":
            tell(f"Store the token as a repository secret: gh secret set {TOKEN_VARIABLE}")
            tell(f"The token is {shown}")
        else:
            tell(f"The token is not in it: the code reads it from the environment. Set {TOKEN_VARIABLE} to {shown}")
    if options.form == "b":
        tell("Form B is for users with a login of their own: /login, CLAUDE_CODE_OAUTH_TOKEN or ANTHROPIC_API_KEY.")
    url = onboarding.proxy_url(settings, options.url, os.environ)
    if options.url is None and onboarding.is_for_this_machine_only(settings, url, os.environ):
        tell(f"{url}: this address works on this machine only; --url https://... gives the one for others.")


def blocks(settings: Settings, loaded: Mapping[str, Any], options: Options, token: Secret | None) -> str:
    """Return what the options ask for, with the token or a placeholder; raise ``OnboardingError``."""
    chosen: dict[str, str | None] = vars(options)
    user, model = chosen.get("user") or STATIC_NAME, chosen.get("model")
    block = onboarding.FORMATS[chosen.get("format") or "settings"]
    known, has_login = onboarding.client_models(loaded, settings), bool(settings.credentials) or chosen.get("form") == "b"
    ready = known.ready(os.environ, user)
    models = [model or known.default(os.environ, user, has_login=has_login)]
    if block.several and model is None:
        models = list(dict.fromkeys([*models, *ready]))
    named = {
        variable: chosen.get(option.removeprefix("--").replace("-", "_")) for variable, option in onboarding.OPTIONS.items()
    }
    shown = token.reveal() if token else onboarding.placeholder(settings, chosen.get("user"))
    return block.render([
        onboarding.setup(
            loaded, settings,
            url=onboarding.proxy_url(settings, chosen.get("url"), os.environ),
            token=shown, model=one, user=user, form=chosen.get("form") or "a",
            others={variable: name for variable, name in named.items() if name},
            listed=known.picker_models(os.environ, user) if block.lists else (),
        )
        for one in models
    ])  # fmt: skip


SETTINGS = command(
    "settings",
    show_settings,
    [
        *BLOCK_OPTIONS,
        click.Option(["--user"], help="The user that the block is for."),
        click.Option(["--managed"], is_flag=True, help="Print the managed settings that the user gets after a sign-in."),
        click.Option(
            ["--group"], multiple=True, metavar="NAME", help="With --managed: a group of the user that their sign-in names."
        ),
    ],
    about="Print the settings for Claude Code, with the token.",
    examples=(
        "claude-proxy settings",
        "claude-proxy settings --url https://proxy.example.org",
        "claude-proxy settings --format shell --model glm",
        "claude-proxy settings --format github --form b",
        "claude-proxy settings --managed --user anna",
    ),
)
