"""Functions for shells that start Claude Code with settings of their own. No I/O.

Each format takes a mapping of function names to the settings, as JSON.
"""

# Why a file: `env` in settings.json wins over the shell's variables, and `--settings` wins over both. It takes a file or JSON
# (2.1.197: no pipe). As JSON, the token would be visible in the list of processes.

import shlex
from collections.abc import Mapping


def posix(functions: Mapping[str, str]) -> str:
    """Return functions for bash and zsh. Each is a subshell, so that its file is removed however it ends."""
    lines = ["# For ~/.bashrc or ~/.zshrc (Linux, macOS)."]
    for name, settings in functions.items():
        lines += [
            f"{name}() (",
            "  settings=$(mktemp) || exit",
            "  trap 'rm -f \"$settings\"' EXIT",
            f'  printf %s {shlex.quote(settings)} >"$settings" || exit',
            '  claude --settings "$settings" "$@"',
            ")",
        ]
    return "\n".join(lines)


def fish(functions: Mapping[str, str]) -> str:
    """Return functions for fish."""
    lines = ["# For ~/.config/fish/config.fish."]
    for name, settings in functions.items():
        text = settings.replace("\\", "\\\\").replace("'", "\\'")
        lines += [
            f"function {name}",
            "    set -l settings (mktemp); or return",
            f"    printf %s '{text}' >$settings",
            "    claude --settings $settings $argv",
            "    set -l code $status",
            "    rm -f $settings",
            "    return $code",
            "end",
        ]
    return "\n".join(lines)


def powershell(functions: Mapping[str, str]) -> str:
    """Return functions for PowerShell. From a file: Windows PowerShell takes the quotes out of JSON in an argument."""
    lines = ["# For the file that $PROFILE names (Windows, and PowerShell elsewhere)."]
    for name, settings in functions.items():
        text = settings.replace("'", "''")
        lines += [
            f"function {name} {{",
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
