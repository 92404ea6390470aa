"""Refuses to go on beside a LiteLLM that is known to steal. Imports neither LiteLLM nor anything else of the project.

``claude_proxy/__init__.py`` asks it, so that no command, no worker and no ``litellm --config`` gets further with our code.
What it cannot do: a ``.pth`` file, and whatever a process imported before, has run by then. It ends a start that would hand
over the team's credentials, and tells that the machine is to be given up; it undoes nothing.
"""

import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

# Releases that were published by somebody who had broken in, to send away every credential that they find.
COMPROMISED = frozenset({"1.82.7", "1.82.8", "1.107.0"})
# What 1.82.8 leaves among the packages: it runs at each start of Python, when LiteLLM has been replaced, too.
STARTUP_FILES = frozenset({"litellm_init.pth"})
INSTEAD = (
    "Do not start anything else in this environment. Make a new one (`make clean`, then `make install`; in Docker "
    "`docker compose build --no-cache`), on another machine if you can, and replace every credential that this one has seen."
)


def found(path: Iterable[str]) -> list[str]:
    """Return what is known to be bad in the folders of an import path, each as a sentence without its stop."""
    folders = [str(Path(entry or ".")) for entry in path]
    versions = {dist.version for dist in importlib.metadata.distributions(name="litellm", path=folders)}
    files = {str(file) for folder in folders for name in STARTUP_FILES if (file := Path(folder, name)).exists()}
    return [
        *(f"LiteLLM {version} is installed, a release that steals credentials" for version in sorted(versions & COMPROMISED)),
        *(f"{file} is there, which a release that steals credentials leaves behind" for file in sorted(files)),
    ]


def refuse() -> None:
    """End the process with words and the status 1 when something is found.

    An exception that LiteLLM would catch and pass over is not enough: it would go on without our rules.
    """
    if sentences := found(sys.path):
        raise SystemExit("\n".join(["The proxy does not start:", *(f"- {sentence}." for sentence in sentences), INSTEAD]))


def require(version: str) -> None:
    """End the process when this release may not be installed at all."""
    if version in COMPROMISED:
        raise SystemExit(f"LiteLLM {version} is a release that steals credentials; it is not installed.")
