"""The output of the command: a line for each check and finding, with ✓, !, ✗ or i; or JSON."""

import json
from collections.abc import Iterable, Sequence

from claude_proxy.check.findings import Finding, Level

SIGNS = {Level.ERROR: "✗", Level.WARNING: "!", Level.INFO: "i"}
GOOD = "✓"

Results = Sequence[tuple[str, Sequence[Finding]]]


def text(results: Results) -> str:
    """Return the lines for a terminal: what is right and useful to know, then warnings and errors, and the totals."""
    lines: list[str] = []
    problems: list[str] = []
    for title, findings in results:
        for finding in findings:
            kind = lines if finding.level is Level.INFO else problems
            kind.append(f"{SIGNS[finding.level]} {finding}")
        if all(finding.level is Level.INFO for finding in findings):
            lines.append(f"{GOOD} {title}")
    count = {level: sum(finding.level is level for finding in flat(results)) for level in Level}
    lines += problems
    lines.append(f"{plural(count[Level.ERROR], 'error')}, {plural(count[Level.WARNING], 'warning')}.")
    return "\n".join(lines)


def as_json(results: Results) -> str:
    """Return the same for a program."""
    checks = [
        {"check": title, "ok": not failed(findings), "findings": [finding.as_json() for finding in findings]}
        for title, findings in results
    ]
    return json.dumps({"ok": not failed(flat(results)), "checks": checks}, indent=2, ensure_ascii=False)


def failed(findings: Iterable[Finding]) -> bool:
    """Whether one of them is an error."""
    return any(finding.level is Level.ERROR for finding in findings)


def flat(results: Results) -> list[Finding]:
    """Return the findings of all checks."""
    return [finding for _, findings in results for finding in findings]


def plural(count: int, word: str) -> str:
    """Return a number with its noun."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
