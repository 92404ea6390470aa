"""What a person puts where so that Claude Code uses the proxy: settings.json, VS Code, and a command for each shell. No I/O."""

import ipaddress
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.config import models
from claude_proxy.config.model_access import Limits
from claude_proxy.config.settings import VARIABLES, Settings
from claude_proxy.providers.endpoints import Hosts, Provider, matches

DEMO_MODELS = ("demo", "claude-demo")
# Whatever Claude Code asks for by itself (titles, subagents, the names opus, sonnet, haiku and fable) is then this one model.
# CLAUDE_CODE_SUBAGENT_MODEL is its own matter: without it subagents may ask for an alias all the same.
MODEL_VARIABLES = (
    "ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_FABLE_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL",
)  # fmt: skip
# Claude Code 2.1.332 takes a model that it does not know for one of a million tokens, and would compact far too late.
CONTEXT_VARIABLE = "CLAUDE_CODE_MAX_CONTEXT_TOKENS"
USUAL_CONTEXT, LONG_CONTEXT = 200_000, 1_000_000
# In auto mode Claude Code 2.1.332 has Anthropic's server check each call, and no other server can: behind another model it
# refuses every call that needs a check. With the first one off it checks by itself, and asks the model that the second names.
CHECK_VARIABLE, CHECK_MODEL_VARIABLE = "CLAUDE_CODE_AUTO_MODE_SERVER", "CLAUDE_CODE_AUTO_MODE_MODEL"
# Claude Code's own mark for the context of a million tokens, which it takes off.
LONG_MARK = "[1m]"


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
    # How many tokens the model takes. Said of a model that is not Claude; Claude's own sizes Claude Code knows.
    context: int = USUAL_CONTEXT

    def environment(self) -> dict[str, str]:
        """Return the variables of Claude Code's; with a model that is not Claude, all of its models are that one."""
        names = () if self.model is None else MODEL_VARIABLES[:1] if self.is_claude else MODEL_VARIABLES
        return {
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_AUTH_TOKEN": self.token,
            **{name: str(self.model) for name in names},
            **self._of_another_model(),
            "API_TIMEOUT_MS": "3000000",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }

    def _of_another_model(self) -> dict[str, str]:
        """Return what Claude Code has to be told of a model that is not Claude."""
        if self.is_claude or self.model is None:
            return {}
        return {CONTEXT_VARIABLE: str(self.context), CHECK_VARIABLE: "0", CHECK_MODEL_VARIABLE: self.model}

    @property
    def command(self) -> str:
        """The name of the shell command: ``claude-glm``."""
        words = re.sub(r"[^A-Za-z0-9_-]+", "-", self.model or "proxy").strip("-").lower()
        return words if words.startswith("claude-") else f"claude-{words}"


def proxy_url(settings: Settings, given: str | None, environ: Mapping[str, str]) -> str:
    """Return the address for clients; raise ``OnboardingError`` for one that cannot be used.

    It is the given one; else, where other machines reach the proxy, that of its domain; else that of this machine.
    """
    if given is None:
        domain, port = (environ.get(name, "").strip() or VARIABLES[name].default for name in ("PROXY_DOMAIN", "HTTPS_PORT"))
        if domain != VARIABLES["PROXY_DOMAIN"].default and not is_loopback(settings.host):
            return f"https://{domain}" if port == VARIABLES["HTTPS_PORT"].default else f"https://{domain}:{port}"
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
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


def is_for_this_machine_only(settings: Settings, url: str) -> bool:
    """Whether an address leads other machines nowhere although they reach the proxy by another one."""
    return not is_loopback(settings.host) and is_loopback(urlsplit(url).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for itself; a name other than ``localhost`` is not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_claude(loaded: Mapping[str, Any], settings: Settings, model: str) -> bool:
    """Whether every deployment of a model is Claude itself, by its host."""
    hosts = Hosts(settings.claude_base)
    params = [entry["litellm_params"] for entry in deployments(loaded, model)]
    providers = [hosts.provider(str(one["model"]), one.get("custom_llm_provider"), one.get("api_base")) for one in params]
    return bool(providers) and all(provider is Provider.CLAUDE for provider in providers)


def deployments(loaded: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    """Return the entries of ``model_list`` that serve a model: those of its name, or those whose pattern it fits."""
    entries: list[dict[str, Any]] = loaded.get("model_list") or []
    exact = [entry for entry in entries if entry["model_name"] == model]
    return exact or [entry for entry in entries if matches(entry["model_name"], model)]


def context_of(loaded: Mapping[str, Any], model: str) -> int:
    """Return how many tokens a model takes: what ``model_info`` says, the least of several; else the usual."""
    infos = [entry.get("model_info") for entry in deployments(loaded, model.removesuffix(LONG_MARK))]
    found = [info.get("max_input_tokens") for info in infos if isinstance(info, dict)]
    sizes = [size for size in found if type(size) is int and size > 0]  # true is no size
    return min(sizes, default=LONG_CONTEXT if model.endswith(LONG_MARK) else USUAL_CONTEXT)


def ready_models(loaded: Mapping[str, Any], environ: Mapping[str, str], user: str = "") -> list[str]:
    """Return the models that lack no key, are no pattern, and that the user may use; demos only where there are no others."""
    missing, limits = models.unset_variables(loaded, environ), Limits.of(loaded)
    names = [name for name in models.model_names(loaded) if "*" not in name and name not in missing]
    ready = [name for name in names if limits.allows(user, name)]
    return [name for name in ready if name not in DEMO_MODELS] or ready[:1]


def default_model(loaded: Mapping[str, Any], settings: Settings, environ: Mapping[str, str], user: str = "") -> str | None:
    """Return the model to name: none where the pool serves Claude to this user, or where none is ready; else the first one."""
    limits = Limits.of(loaded)
    claude = [name for name in models.model_names(loaded) if name.startswith("claude-") and is_claude(loaded, settings, name)]
    if settings.credentials and any(limits.allows(user, name) for name in claude):
        return None
    return next(iter(ready_models(loaded, environ, user)), None)


def placeholder(settings: Settings, user: str | None) -> str:
    """Return the words that stand for the token where it is not shown."""
    if user:
        return f"the-token-of-{user}"
    if settings.static_token:
        return "PROXY_STATIC_TOKEN-from-.env"
    return "the-token-that-user-add-showed" if settings.users.closed else "none-is-needed"


def setup(loaded: Mapping[str, Any], settings: Settings, *, url: str, token: str, model: str | None, user: str = "") -> Setup:
    """Return the way to use the proxy with a model; raise ``OnboardingError`` for one that this user cannot ask for."""
    if model is None:
        return Setup(url, token, None, is_claude=True)
    bare = model.removesuffix(LONG_MARK)
    limits = Limits.of(loaded)
    if not deployments(loaded, bare):
        named = ", ".join(models.model_names(loaded))
        raise OnboardingError(f"--model: {bare} is not served by this proxy; config.yaml has {named}")
    if not limits.allows(user, bare):
        raise OnboardingError(f"--model: {limits.refusal(user, bare).removeprefix('model: ')}")
    return Setup(url, token, model, is_claude(loaded, settings, bare), context_of(loaded, model))


def settings_json(setups: Sequence[Setup]) -> str:
    """Return the block for Claude Code's own settings.json: form A of README."""
    return json.dumps({"env": setups[0].environment()}, indent=2)


def vscode_json(setups: Sequence[Setup]) -> str:
    """Return the block for VS Code's settings.json; the extension looks for a login before it reads Claude Code's own."""
    variables = [{"name": name, "value": value} for name, value in setups[0].environment().items()]
    return json.dumps({"claudeCode.disableLoginPrompt": True, "claudeCode.environmentVariables": variables}, indent=2)


# `env` in settings.json wins over the shell's variables, and `--settings` wins over both. It takes a file or JSON (2.1.197: no
# pipe); as JSON the token would stand in the list of processes. The empty ANTHROPIC_API_KEY takes one away that Claude Code
# would send along.
def _inline(setup: Setup) -> str:
    return json.dumps({"env": setup.environment() | {"ANTHROPIC_API_KEY": ""}})


def shell_functions(setups: Sequence[Setup]) -> str:
    """Return functions for bash and zsh. Each is a subshell, so that its file goes however it ends."""
    lines = ["# For ~/.bashrc or ~/.zshrc (Linux, macOS)."]
    for one in setups:
        lines += [
            f"{one.command}() (",
            "  settings=$(mktemp) || exit",
            "  trap 'rm -f \"$settings\"' EXIT",
            f'  printf %s {shlex.quote(_inline(one))} >"$settings" || exit',
            '  claude --settings "$settings" "$@"',
            ")",
        ]
    return "\n".join(lines)


def fish_functions(setups: Sequence[Setup]) -> str:
    """Return functions for fish."""
    lines = ["# For ~/.config/fish/config.fish."]
    for one in setups:
        text = _inline(one).replace("\\", "\\\\").replace("'", "\\'")
        lines += [
            f"function {one.command}",
            "    set -l settings (mktemp); or return",
            f"    printf %s '{text}' >$settings",
            "    claude --settings $settings $argv",
            "    set -l code $status",
            "    rm -f $settings",
            "    return $code",
            "end",
        ]
    return "\n".join(lines)


def powershell_functions(setups: Sequence[Setup]) -> str:
    """Return functions for PowerShell. From a file: Windows PowerShell takes the quotes out of JSON in an argument."""
    lines = ["# For the file that $PROFILE names (Windows, and PowerShell elsewhere)."]
    for one in setups:
        text = _inline(one).replace("'", "''")
        lines += [
            f"function {one.command} {{",
            "    $settings = [System.IO.Path]::GetTempFileName()",
            "    try {",
            f"        [System.IO.File]::WriteAllText($settings, '{text}')",
            "        claude --settings $settings @args",
            "    } finally {",
            "        Remove-Item -Force $settings",
            "    }",
            "}",
        ]
    return "\n".join(lines)


@dataclass(frozen=True)
class Format:
    """How a setup is written down. ``several``: one command for each model, where the others hold one model."""

    render: Callable[[Sequence[Setup]], str]
    where: str
    several: bool = False


FORMATS: Mapping[str, Format] = {
    "settings": Format(
        settings_json, "~/.claude/settings.json (Linux, macOS), %USERPROFILE%\\.claude\\settings.json (Windows)"
    ),
    "vscode": Format(
        vscode_json,
        "VS Code's user settings (JSON): ~/.config/Code/User/settings.json (Linux), "
        "~/Library/Application Support/Code/User/settings.json (macOS), %APPDATA%\\Code\\User\\settings.json (Windows)",
    ),
    "shell": Format(shell_functions, "~/.bashrc or ~/.zshrc", several=True),
    "fish": Format(fish_functions, "~/.config/fish/config.fish", several=True),
    "powershell": Format(powershell_functions, "the file that $PROFILE names", several=True),
}
