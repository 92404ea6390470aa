"""What a user puts where so that Claude Code uses the proxy: settings, functions for shells, code. Prints nothing."""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.access.routes import is_open
from claude_proxy.cli import code_snippets, shell_functions
from claude_proxy.cli.project import PUBLISHED_PORT
from claude_proxy.config.client_models import (
    CHECK_MODEL_VARIABLE,
    CHECK_VARIABLE,
    CONTEXT_VARIABLE,
    FORCE_VARIABLE,
    HAIKU_VARIABLE,
    LONG_MARK,
    MODEL_VARIABLES,
    SUBAGENT_VARIABLE,
    ClientModels,
    of_another_model,
)
from claude_proxy.config.model_access import Limits
from claude_proxy.config.picker_rows import COMPACT_VARIABLE, USUAL_CONTEXT, Row
from claude_proxy.config.settings import VARIABLES, Settings
from claude_proxy.litellm.windows import listed_window

# What a command empties in a user's own settings.json, which may be those of another form or model.
REPLACED_VARIABLES = (
    *MODEL_VARIABLES, FORCE_VARIABLE, CONTEXT_VARIABLE, COMPACT_VARIABLE, CHECK_VARIABLE, CHECK_MODEL_VARIABLE,
)  # fmt: skip
# Names of commands that a printed function must not replace.
TAKEN_COMMANDS = frozenset({"claude", "claude-proxy"})
# What a function for Claude itself is called: no model is named there.
CLAUDE_COMMAND = "claude-via-proxy"
TOKEN_HEADER, MODE_HEADER = "x-litellm-api-key", "x-claude-token-mode"
# Docker's compose file names the address here that it publishes the proxy's port on.
PUBLISHED_HOST = "CLAUDE_PROXY_PUBLISHED_HOST"
# What stands for every address of a machine.
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
# How a user logs in: with the proxy's token alone, or with a login of their own beside it.
FORMS = ("a", "b")


class OnboardingError(ValueError):
    """There is nothing to show. ``mistakes`` holds a sentence each."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class Setup:
    """One way to use the proxy. ``model`` is None where Claude Code chooses among Claude's models by itself."""

    url: str
    # The token itself, or words that stand for it.
    token: str
    model: str | None
    is_claude: bool
    # How many tokens a model takes that Claude Code does not know: any but Claude's own. None: the setup has no such model.
    context: int | None = USUAL_CONTEXT
    form: str = FORMS[0]
    # Models by variable that are other than ``model``: HAIKU_VARIABLE and SUBAGENT_VARIABLE.
    others: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()

    def environment(self) -> dict[str, str]:
        """Return the variables of Claude Code's; with a model that is not Claude, all of its models are that one."""
        names = () if self.model is None else MODEL_VARIABLES[:1] if self.is_claude else MODEL_VARIABLES
        return {
            "ANTHROPIC_BASE_URL": self.url,
            **self._token(),
            **{name: str(self.model) for name in names},
            **self.others,
            **self._forced(),
            **self._of_another_model(),
            "API_TIMEOUT_MS": "3000000",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }

    def _token(self) -> dict[str, str]:
        """Return the proxy's token. Claude Code sends no login where ANTHROPIC_AUTH_TOKEN is set, so form B has a header."""
        if self.form == "a":
            return {"ANTHROPIC_AUTH_TOKEN": self.token}
        return {"ANTHROPIC_CUSTOM_HEADERS": f"{TOKEN_HEADER}: {self.token}\n{MODE_HEADER}: passthrough"}

    def _forced(self) -> dict[str, str]:
        """Return what gives every subagent the named model. With a haiku model alone, ``haiku`` stays that one."""
        is_other = self.model is not None and not self.is_claude and HAIKU_VARIABLE not in self.others
        return {FORCE_VARIABLE: "1"} if is_other or SUBAGENT_VARIABLE in self.others else {}

    def _of_another_model(self) -> dict[str, str]:
        """Return what Claude Code needs for a model that is not Claude."""
        if self.is_claude or self.model is None:
            needed = self.context and any(row.behaves_as is None for row in self.rows)
            return {CONTEXT_VARIABLE: str(self.context)} if needed else {}
        return of_another_model(self.model, self.context)

    def settings(self) -> dict[str, Any]:
        """Return Claude Code's settings: the variables, and the rows for ``/model``."""
        if not self.rows:
            return {"env": self.environment()}
        # With another model, each name of the built-in rows (opus, sonnet, haiku) is that same model.
        replaced = {} if self.is_claude or self.model is None else {"replaceBuiltInOptions": True}
        return {"env": self.environment(), "modelPicker": {"options": [row.fields() for row in self.rows], **replaced}}

    def alone(self) -> dict[str, Any]:
        """Return the settings that win over a user's own: another token, key, header or model of the user's is emptied."""
        settings = self.settings()
        return settings | {"env": dict.fromkeys((*self._logins(), *REPLACED_VARIABLES), "") | settings["env"]}

    def for_code(self) -> dict[str, str]:
        """Return the variables for a program, which does not read a user's own settings."""
        return self.environment() | dict.fromkeys(self._logins(), "")

    def _logins(self) -> tuple[str, ...]:
        """Return the variables that Claude Code would send beside the proxy's token, or instead of the login."""
        return ("ANTHROPIC_API_KEY", "ANTHROPIC_CUSTOM_HEADERS") if self.form == "a" else ("ANTHROPIC_AUTH_TOKEN",)

    @property
    def command(self) -> str:
        """The name of the shell function: ``claude-glm``; never that of a command which is there already."""
        if self.model is None:
            return CLAUDE_COMMAND
        words = re.sub(r"[^A-Za-z0-9_-]+", "-", self.model).strip("-").lower() or "model"
        name = words if words.startswith("claude-") else f"claude-{words}"
        return f"{name}-model" if name in TAKEN_COMMANDS else name


def proxy_url(settings: Settings, given: str | None, environ: Mapping[str, str]) -> str:
    """Return the address for clients; raise ``OnboardingError`` for one that cannot be used.

    It is the given one; else, where other machines reach the proxy, that of its domain; else that of this machine. In Docker
    that is the published one: the load balancer's, where there is one.
    """
    if given is None:
        domain, port = (environ.get(name, "").strip() or VARIABLES[name].default for name in ("PROXY_DOMAIN", "HTTPS_PORT"))
        if domain != VARIABLES["PROXY_DOMAIN"].default and not is_loopback(settings.host):
            return f"https://{domain}" if port == VARIABLES["HTTPS_PORT"].default else f"https://{domain}:{port}"
        host = _listening_at(settings, environ)
        host = "127.0.0.1" if host in EVERYWHERE else host
        return f"http://{f'[{host}]' if ':' in host else host}:{environ.get(PUBLISHED_PORT) or settings.port}"
    url = given.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or re.search(r"\s", url):
        raise OnboardingError("--url: should hold an address such as https://proxy.example.org")
    if parts.path.endswith("/v1"):
        raise OnboardingError("--url: should not end with /v1, which Claude Code adds by itself")
    return url


def is_for_this_machine_only(settings: Settings, url: str, environ: Mapping[str, str]) -> bool:
    """Whether an address leads other machines nowhere although they reach the proxy by another one."""
    return not is_loopback(_listening_at(settings, environ)) and is_loopback(urlsplit(url).hostname or "")


def _listening_at(settings: Settings, environ: Mapping[str, str]) -> str:
    """Return the address at which users reach the proxy. Inside a container HOST is not that."""
    return environ.get(PUBLISHED_HOST, "").strip().strip("[]") or settings.host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for itself; a name other than ``localhost`` is not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def client_models(loaded: Mapping[str, Any], settings: Settings) -> ClientModels:
    """Return the models of a configuration, with the windows of LiteLLM's list."""
    return ClientModels(loaded, settings, listed_window)


def placeholder(settings: Settings, user: str | None) -> str:
    """Return the words that stand for the token where it is not shown."""
    if user:
        return f"the-token-of-{user}"
    if settings.static_token:
        return "PROXY_STATIC_TOKEN-from-.env"
    return "none-is-needed" if is_open(settings) else "the-token-that-user-add-showed"


def setup(
    loaded: Mapping[str, Any],
    settings: Settings,
    *,
    url: str,
    token: str,
    model: str | None,
    user: str = "",
    form: str = FORMS[0],
    others: Mapping[str, str] | None = None,
    listed: Sequence[str] = (),
) -> Setup:
    """Return the way to use the proxy with a model; raise ``OnboardingError`` for one that this user cannot use.

    ``others`` holds models by variable, ``listed`` the models that ``/model`` shows beside the block's own.
    """
    models = client_models(loaded, settings)
    for option, name in [("--model", model), *((OPTIONS[variable], name) for variable, name in (others or {}).items())]:
        if name is not None:
            _require(models, Limits.of(loaded), user, option, name.removesuffix(LONG_MARK))
    known = model is None or models.is_claude(model.removesuffix(LONG_MARK))
    # For another model the variable says the window, and the mark would win over it.
    named = model if model is None or known else model.removesuffix(LONG_MARK)
    context = None if model is None or known else models.context_of(model)
    one = Setup(url, token, named, is_claude=known, context=context, form=form, others=others or {})
    rows, context = models.rows(listed, named, is_claude=known, context=context)
    return replace(one, rows=rows, context=context)


# The option of a command that names a model for a variable.
OPTIONS = {HAIKU_VARIABLE: "--haiku-model", SUBAGENT_VARIABLE: "--subagent-model"}
SMALL_WORK = {"--haiku-model": "small work, such as titles", "--subagent-model": "every subagent"}


def _require(models: ClientModels, limits: Limits, user: str, option: str, model: str) -> None:
    if not models.deployments(model):
        named = ", ".join(models.names)
        raise OnboardingError(f"{option}: {model} is not served by this proxy; config.yaml has {named}")
    if not limits.allows(user, model):
        raise OnboardingError(f"{option}: {limits.refusal(user, model).removeprefix('model: ')}")


def settings_json(setups: Sequence[Setup]) -> str:
    """Return the block for Claude Code's own settings.json."""
    return json.dumps(setups[0].settings(), indent=2)


def vscode_json(setups: Sequence[Setup]) -> str:
    """Return the block for VS Code's settings.json; the extension looks for a login before it reads Claude Code's own."""
    variables = [{"name": name, "value": value} for name, value in setups[0].environment().items()]
    prompt = {"claudeCode.disableLoginPrompt": True} if setups[0].form == "a" else {}
    return json.dumps({**prompt, "claudeCode.environmentVariables": variables}, indent=2)


def functions(setups: Sequence[Setup]) -> dict[str, str]:
    """Return the settings of each setup, as JSON, by the name of its shell function; each name once."""
    found: dict[str, str] = {}
    for one in setups:
        same = sum(re.fullmatch(rf"{re.escape(one.command)}(-\d+)?", name) is not None for name in found)
        found[f"{one.command}-{same + 1}" if one.command in found else one.command] = json.dumps(one.alone())
    return found


def _code(write: Callable[[Mapping[str, str], str], str]) -> Callable[[Sequence[Setup]], str]:
    return lambda setups: write(setups[0].for_code(), setups[0].token)


def github_actions(setups: Sequence[Setup]) -> str:
    """Return a step for a workflow of GitHub Actions."""
    return code_snippets.github_actions(setups[0].environment(), setups[0].token, login=setups[0].form == "b")


@dataclass(frozen=True)
class Format:
    """How a setup is written down. ``several``: one command for each model, where the others hold one model."""

    render: Callable[[Sequence[Setup]], str]
    where: str
    several: bool = False
    # Whether the block has rows for /model, and whether the token is in it.
    lists: bool = False
    has_token: bool = True


FORMATS: Mapping[str, Format] = {
    "settings": Format(
        settings_json,
        "~/.claude/settings.json (Linux, macOS), %USERPROFILE%\\.claude\\settings.json (Windows)",
        lists=True,
    ),
    "vscode": Format(
        vscode_json,
        "VS Code's user settings (JSON): ~/.config/Code/User/settings.json (Linux), "
        "~/Library/Application Support/Code/User/settings.json (macOS), %APPDATA%\\Code\\User\\settings.json (Windows)",
    ),
    "shell": Format(lambda setups: shell_functions.posix(functions(setups)), "~/.bashrc or ~/.zshrc", several=True),
    "fish": Format(lambda setups: shell_functions.fish(functions(setups)), "~/.config/fish/config.fish", several=True),
    "powershell": Format(
        lambda setups: shell_functions.powershell(functions(setups)), "the file that $PROFILE names", several=True
    ),
    "python": Format(_code(code_snippets.python), "a program with the Agent SDK for Python", has_token=False),
    "typescript": Format(_code(code_snippets.typescript), "a program with the Agent SDK for TypeScript", has_token=False),
    "github": Format(github_actions, "a job in .github/workflows", has_token=False),
}
