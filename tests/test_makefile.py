"""Makefile: ``make help`` lists what one can run, from the comments of the targets themselves."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from claude_proxy.cli import onboarding
from claude_proxy.cli.encryption import encrypt

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_help_lists_every_target_in_eighty_columns(tmp_path):
    """``make help`` shows each target with its whole comment, in eighty columns, from any folder and with nothing installed."""
    done = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "help"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    shown = {" ".join(entry.split()) for entry in re.split(r"\n(?=\S)", done.stdout.strip())}
    targets = re.findall(r"^([a-z-]+):.*?  ## (.*)$", MAKEFILE, re.MULTILINE)
    assert shown == {f"{name} {words}" for name, words in targets}
    assert not list(tmp_path.iterdir())


def test_every_target_is_explained():
    """A target that one can name has a comment, and each one is listed as no file."""
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z-]+):.*  ## ", MAKEFILE, re.MULTILINE))
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1].replace("\\\n", " ")
    assert targets == set(phony.split())


@pytest.mark.parametrize(
    ("arguments", "goes_on"),
    [
        (["backup"], False),
        (["backup", "PASSPHRASE_FILE=passphrase"], True),
        (["restore", "FILE=sealed"], False),
        (["restore", "FILE=sealed", "PASSPHRASE_FILE=passphrase"], True),
        (["restore", "FILE=plain"], True),
    ],
)
def test_a_passphrase_that_nobody_can_type(tmp_path, arguments, goes_on):
    """Without a terminal and without a file for the passphrase, nothing is installed; a backup without secrets needs none."""
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "sealed").write_bytes(encrypt(b"\0", "a made-up passphrase"))
    (tmp_path / "plain").write_bytes(b"\x1f\x8b plain")
    done = subprocess.run(
        ["make", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60, start_new_session=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert ("There is no terminal to ask for the passphrase: add PASSPHRASE_FILE=FILE" in done.stderr) is not goes_on
    # The folder has no lock, so that an installation ends there.
    assert ("requirements.lock" in done.stderr) is goes_on


def test_the_format_of_the_settings(tmp_path):
    """FORMAT is the command's own option; the list of targets has every format, and so has the error for an unknown one."""
    done = subprocess.run(
        ["make", "-n", "settings", "FORMAT=shell"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert re.search(r"-m claude_proxy settings +--format 'shell'", done.stdout)
    [words] = re.findall(r"^settings:.*  ## (.*)$", MAKEFILE, re.MULTILINE)
    others = [name for name in onboarding.FORMATS if name != "settings"]
    assert f"FORMAT={', '.join(others[:-1])} or {others[-1]}" in words
    command = [sys.executable, "-m", "claude_proxy", "settings", "--project", str(tmp_path), "--format", "bash"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert all(f"'{name}'" in done.stderr for name in onboarding.FORMATS)


def test_the_file_with_the_passphrase_is_handed_on():
    """PASSPHRASE_FILE is the command's own option."""
    for target in ("backup", "restore"):
        command = ["make", "-n", target, "FILE=x", "PASSPHRASE_FILE=a b"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        assert f"-m claude_proxy {target} 'x' --passphrase-file 'a b'" in done.stdout
