"""cli/shell_functions.py: the printed functions, run by the shells that they are for."""

import json
import os
import shutil
import subprocess

import pytest

from claude_proxy.cli import shell_functions

# What a shell could stumble over, in a place where it may really be: the path of an address, or a user's own token.
ODD = "a'b\"c$d`e\\f%g!h;i&j|k#l~m{n}o*p"
SETTINGS = {"env": {"ANTHROPIC_BASE_URL": f"http://x/{ODD}", "ANTHROPIC_AUTH_TOKEN": f"sk-made-up{ODD}", "EMPTY": ""}}
SHELLS = {
    "bash": (shell_functions.posix, ["bash", "-c"], "{text}\nclaude-odd -p 'two words' ''"),
    "zsh": (shell_functions.posix, ["zsh", "-f", "-c"], "{text}\nclaude-odd -p 'two words' ''"),
    "fish": (shell_functions.fish, ["fish", "--no-config", "-c"], "{text}\nclaude-odd -p 'two words' ''"),
    "pwsh": (
        shell_functions.powershell,
        ["pwsh", "-NoProfile", "-Command"],
        "{text}\nclaude-odd -p 'two words'; exit $LASTEXITCODE",
    ),
}


@pytest.mark.parametrize("shell", [name for name in SHELLS if name != "pwsh" or shutil.which(name)])
def test_the_command_of_each_shell(shell, tmp_path):
    """In every shell the command hands claude a private file with the very values, passes arguments and code on, cleans up."""
    write, start, script = SHELLS[shell]
    if shutil.which(start[0]) is None:
        pytest.skip(f"{start[0]} is not installed")
    stub, temporary = tmp_path / "bin" / "claude", tmp_path / "temporary"
    places = {"OUT": str(tmp_path), "TMPDIR": str(temporary), "HOME": str(tmp_path)}
    stub.parent.mkdir()
    temporary.mkdir()
    stub.write_text(
        '#!/bin/sh\n[ "$1" = --settings ] && shift && cp -p "$1" "$OUT/settings" && shift\n'
        'printf "%s\\n" "$@" > "$OUT/arguments"\nexit 7\n'
    )
    stub.chmod(0o755)
    text = write({"claude-other": "{}", "claude-odd": json.dumps(SETTINGS)})
    done = subprocess.run(
        [*start, script.replace("{text}", text)],
        env=places | {"PATH": f"{stub.parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert json.loads((tmp_path / "settings").read_text()) == SETTINGS
    assert (tmp_path / "settings").stat().st_mode & 0o077 == 0
    arguments = (tmp_path / "arguments").read_text()
    assert arguments == ("-p\ntwo words\n" if shell == "pwsh" else "-p\ntwo words\n\n")
    assert list(temporary.iterdir()) == []


def test_powershell_quotes():
    """In PowerShell's single quotes only a single quote means something, and it is doubled."""
    text = shell_functions.powershell({"claude-x": json.dumps({"token": "it's"})})
    assert '"token": "it\'\'s"' in text
    assert text.isascii()
