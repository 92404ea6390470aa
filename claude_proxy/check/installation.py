"""Checks of the installation: LiteLLM's version, the HTTP proxies of the environment, and files that run at every start."""

import csv
from collections.abc import Iterator
from pathlib import Path

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.config.outbound_proxies import EXAMPLES_OF_EXCEPTIONS, EXCEPTIONS, OutboundProxies
from claude_proxy.guard import COMPROMISED

PINNED = "1.108.7"
STARTUP_MODULES = ("sitecustomize", "usercustomize")
# The module `site` runs a line of a .pth file that starts like this, and reads every other line as a folder.
_RUNS_CODE = ("import ", "import\t")
# Written by the tool that made the environment; no distribution owns it.
HARMLESS = {"_virtualenv.pth": "import _virtualenv"}


def litellm_version(facts: Facts) -> Iterator[Finding]:
    """The hooks were tested with one release; three others steal credentials."""
    version = facts.litellm_version
    if version is None:
        yield error("LiteLLM", "is not installed in this environment", "`make install`")
    elif version in COMPROMISED:
        remedy = "remove it, and replace every credential that was on this machine"
        yield error("LiteLLM", f"{version} is a compromised release, which steals credentials", remedy)
    elif version != PINNED:
        yield warning("LiteLLM", f"is {version}, and this proxy was tested with {PINNED}", "`make install`")


def outbound_proxies(facts: Facts) -> Iterator[Finding]:
    """HTTP proxies of the environment, and exceptions from them, that cannot be read."""
    for variable, mistake in OutboundProxies.of(facts.environ).mistakes:
        remedy = f"write such as {EXAMPLES_OF_EXCEPTIONS}" if variable.upper() == EXCEPTIONS else ""
        yield warning(variable, mistake, remedy)


def startup_files(facts: Facts) -> Iterator[Finding]:
    """Code that runs at every start and belongs to no installed distribution, as the compromised releases left behind."""
    for folder in facts.packages:
        owned = owned_files(folder)
        candidates = [path for path in sorted(folder.glob("*.pth")) if _runs_code(path)]
        candidates += [folder / f"{name}.py" for name in STARTUP_MODULES] + [folder / name for name in STARTUP_MODULES]
        for path in candidates:
            if path.exists() and path.name not in owned:
                remedy = "look at it; if you did not put it there, replace the environment and every credential"
                yield error(str(path), "runs code at every start of Python, and no installed package owns it", remedy)


def owned_files(folder: Path) -> set[str]:
    """Return the files and folders at the top of site-packages that a distribution's RECORD names."""
    owned: set[str] = set()
    for record in folder.glob("*.dist-info/RECORD"):
        with record.open(encoding="utf-8", errors="replace", newline="") as file:
            owned |= {row[0].split("/", 1)[0] for row in csv.reader(file) if row}
    return owned


def _runs_code(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return True
    return any(line.startswith(_RUNS_CODE) for line in text.splitlines()) and text.strip() != HARMLESS.get(path.name)
