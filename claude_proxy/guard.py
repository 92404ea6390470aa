"""Stops the process when a compromised LiteLLM release is installed. Imports nothing but the standard library.

``claude_proxy/__init__.py`` runs this check, so it protects every command, every worker and ``litellm --config``. It cannot
prevent code that ran earlier, such as a ``.pth`` file or a previous import. It keeps the team's credentials out of the process
and tells the operator to abandon the environment.
"""

import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

# Releases that an attacker published. They send away every credential that they find.
COMPROMISED = frozenset({"1.82.7", "1.82.8", "1.107.0"})
# A file that release 1.82.8 installs. It runs at every start of Python, even after LiteLLM has been replaced.
STARTUP_FILES = frozenset({"litellm_init.pth"})
INSTEAD = (
    "Do not start anything else in this environment. Create a new one (`make clean`, then `make install`; in Docker "
    "`docker compose build --no-cache`), on another machine if possible, and replace every credential that this one has seen."
)


def found(path: Iterable[str]) -> list[str]:
    """Return the problems in the folders of an import path, each as a sentence without the full stop."""
    folders = [str(Path(entry or ".")) for entry in path]
    versions = {dist.version for dist in importlib.metadata.distributions(name="litellm", path=folders)}
    files = {str(file) for folder in folders for name in STARTUP_FILES if (file := Path(folder, name)).exists()}
    return [
        *(f"LiteLLM {version} is installed; this release steals credentials" for version in sorted(versions & COMPROMISED)),
        *(f"{file} exists; it is left behind by a release that steals credentials" for file in sorted(files)),
    ]


def refuse() -> None:
    """Exit with status 1 and a message if a problem is found.

    ``SystemExit``, because LiteLLM would catch an ordinary exception and continue without the proxy's rules.
    """
    if sentences := found(sys.path):
        raise SystemExit("\n".join(["The proxy does not start:", *(f"- {sentence}." for sentence in sentences), INSTEAD]))


def require(version: str) -> None:
    """Exit if this release must not be installed."""
    if version in COMPROMISED:
        raise SystemExit(f"LiteLLM {version} is a release that steals credentials; it was not installed.")
