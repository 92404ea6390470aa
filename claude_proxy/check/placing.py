"""Finds the file and line that a sentence of the start is about, so that ``check`` shows them."""

import re
from collections.abc import Sequence
from pathlib import Path

from claude_proxy.check.facts import Facts, text_of
from claude_proxy.check.findings import Finding, error
from claude_proxy.check.yaml_text import cause_of

_VARIABLE = re.compile(r"(?P<name>[A-Z][A-Z0-9_]*): (?P<rest>.+)", re.DOTALL)
_LINE_OF_FILE = re.compile(r"(?P<place>\S.*? line \d+(?:, [^:]+)?): (?P<rest>.+)", re.DOTALL)
_ENTRY = re.compile(r"entry (\d+)\b")
_WORD = re.compile(r"[^\s:]+")


NOT_YAML = "is not YAML: "


def in_words(mistakes: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the errors of a config.yaml as a start reports them; where it is not YAML, with the cause and a remedy."""
    before = f"{path}: {NOT_YAML}"
    cause = cause_of(text_of(path)) if any(mistake.startswith(before) for mistake in mistakes) else None
    if cause is None:
        return tuple(mistakes)
    said = f"{before}line {cause.line}: {cause.problem}; {cause.remedy}"
    return tuple(said if mistake.startswith(before) else mistake for mistake in mistakes)


def placed(mistake: str, facts: Facts) -> Finding:
    """Return what keeps the proxy from starting as a finding, with the line that it is about where there is one."""
    before = f"{facts.config_path}: "
    if mistake.startswith(before):
        return _of_config(mistake.removeprefix(before), facts)
    if (found := _VARIABLE.fullmatch(mistake)) and found["name"] in facts.dotenv.lines:
        return error(facts.dotenv.place(found["name"]), *_parted(found["rest"]))
    if found := _LINE_OF_FILE.fullmatch(mistake):
        return error(found["place"], *_parted(found["rest"]))
    return error("", *_parted(mistake))


def _of_config(sentence: str, facts: Facts) -> Finding:
    name = facts.config_path.name
    if sentence.startswith("is not YAML") and (cause := cause_of(facts.config_text)):
        return error(f"{name} line {cause.line}", f"is not YAML: {cause.problem}", cause.remedy)
    path, rest = _path(sentence, facts)
    line = facts.lines.at(*path)
    return error(f"{name} {line}" if line else name, *_parted(rest))


def _path(sentence: str, facts: Facts) -> tuple[tuple[str | int, ...], str]:
    """Return the keys that a sentence starts with, as they are in the file, and the sentence itself."""
    path: tuple[str | int, ...] = ()
    for part in sentence.split(": "):
        steps: list[str | int] = [part]
        if entry := _ENTRY.match(part):
            steps = [int(entry[1]) - 1]
        elif word := _WORD.match(part):
            steps.append(word[0])
        step = next((one for one in steps if (*path, one) in facts.lines.found), None)
        if step is None:
            break
        path = (*path, step)
    return path, sentence


def _parted(sentence: str) -> tuple[str, str]:
    """Return a problem and its remedy, which stands behind the first semicolon."""
    problem, _, remedy = sentence.partition("; ")
    return problem, remedy
