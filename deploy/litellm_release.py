"""Prints the newest release of LiteLLM that pip finds, without the compromised ones. Only Python and its pip are needed.

.github/workflows/litellm.yml runs it; the proxy never does.
"""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from claude_proxy.guard import COMPROMISED

# A final release; candidates and development releases have letters in their names.
RELEASE = re.compile(r"\d{1,5}\.\d{1,5}\.\d{1,5}")
LISTED = re.compile(r"^Available versions: (.+)$", re.MULTILINE)


def main() -> None:
    """Ask pip, and print one release; end with a sentence if there is none."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "index", "versions", "litellm"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(f"{newest(done.stdout)}\n")


def newest(listed: str) -> str:
    """Return the newest release in the output of ``pip index versions``."""
    found = LISTED.search(listed)
    names = found[1].split(", ") if found else []
    releases = [name for name in names if RELEASE.fullmatch(name) and name not in COMPROMISED]
    if not releases:
        sys.exit("pip lists no release of LiteLLM that may be tried")
    return max(releases, key=lambda name: tuple(map(int, name.split("."))))


if __name__ == "__main__":
    main()
