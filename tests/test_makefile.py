"""Makefile: ``make help`` lists what one can run, from the comments of the targets themselves."""

import re
import subprocess
from pathlib import Path

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
