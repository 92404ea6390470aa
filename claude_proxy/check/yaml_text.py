"""Checks of config.yaml as text: why it is not YAML, and characters that YAML does not read as an editor shows them."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import yaml

from claude_proxy.check import names
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info

# Characters that look like a space, and quotes that are not YAML's.
SPACES = {"\u00a0": "a no-break space (U+00A0)", "\u200b": "a zero-width space (U+200B)", "\u3000": "a wide space (U+3000)"}
CURLY = re.compile(r"[\u2018\u2019\u201c\u201d]")
_CONFLICT = re.compile(r"(<{7}|={7}|>{7})( |$)")
# In braces, or in the form of a variable's name: another text with a $ may be a password.
_SHELL_REFERENCE = re.compile(r"\$\{(?P<braced>[A-Z_][A-Z0-9_]*)(?::-[^}]*)?\}|\$(?P<plain>[A-Z]+(?:_[A-Z0-9]+)+)")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'")
_BOUNDARY = "expected <block end>"
_FLOW = re.compile(r"expected ',' or '([\]}])'")
_SECTION = re.compile(r"([\w-]{1,100})\s{0,100}:(\s|$)")
# An entry of model_list, by its first key; litellm_params alone is a key of guardrails too.
_ENTRY = re.compile(r"(?P<depth>\s{0,200})-\s{1,100}\{?\s{0,100}model_name\s{0,100}:")
MODELS = "model_list"


class Cause(NamedTuple):
    """Why a text is not YAML: the line to look at, the reason, and what to write."""

    line: int
    problem: str
    remedy: str


def characters(facts: Facts) -> Iterator[Finding]:
    """Characters that an editor shows as a space or a quote and that YAML reads as a letter."""
    name = facts.config_path.name
    for number, line in enumerate(facts.config_text.split("\n"), start=1):
        for cause in _marks(_without_comment(line), number):
            yield error(f"{name} line {number}", cause.problem, cause.remedy)
    if "\r\n" in facts.config_text:
        yield info(name, "has Windows line ends (CRLF), which YAML accepts")


def cause_of(text: str) -> Cause | None:
    """Return why a text is not YAML; None for one that is, or whose error has no line."""
    try:
        yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        if problem.problem_mark is None:
            return None
        lines = text.split("\n")
        # YAML also ends lines at other characters (U+0085, U+2028), so its numbers may be larger.
        at = min(problem.problem_mark.line, len(lines) - 1)
        context = min(problem.context_mark.line, at) if problem.context_mark else at
        return _cause(lines, at, context, problem.problem or "")
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return None


def _cause(lines: list[str], at: int, context: int, said: str) -> Cause:
    """Return the cause of an error in the line with the index ``at``; ``context`` is where its mapping or list starts."""
    above = _above(lines, at)
    for number in (at, *([above] if above is not None else [])):
        for cause in _in_line(lines[number], number + 1):
            return cause
    found = (*_misplaced(lines, at), *_by_words(lines, at, context, said))
    for cause in (*found, *_by_line_above(lines, at), *_by_line_above(lines, above)):
        return cause
    line = lines[at]
    if "mapping values are not allowed" in said and _bare(line).count(": ") > 1:
        return Cause(at + 1, "has two values in one line, or a value with a colon in it", "put the value into quotes")
    depth = len(line) - len(line.lstrip())
    problem = f"is indented by {depth} spaces, which does not match the lines above it"
    if line.lstrip().startswith("- ") and _is_one_space_too_deep(lines, at, depth):
        return Cause(at + 1, problem, "remove one space in front of each of its lines")
    return Cause(at + 1, problem, "give the keys of one mapping, and the dashes of one list, the same indentation")


def _is_one_space_too_deep(lines: list[str], at: int, depth: int) -> bool:
    """Whether an entry was a comment of which only the # was removed: its dash is one space behind those above it."""
    return any(re.match(rf" {{{depth - 1}}}- ", line) for line in lines[:at]) if depth else False


def _marks(line: str, number: int) -> Iterator[Cause]:
    """Yield what an editor shows in another way than YAML reads it."""
    if _CONFLICT.match(line):
        yield Cause(number, "is a mark of an unresolved Git merge", "keep one of the two versions and remove the marks")
    for character, called in SPACES.items():
        if character in line:
            problem = f"has {called}, which YAML reads as a letter of the name or value"
            yield Cause(number, problem, "replace it with an ordinary space")
    if CURLY.search(line):
        yield Cause(number, "has curly quotes, which YAML reads as a part of the value", "write straight quotes or none")


def _in_line(line: str, number: int) -> Iterator[Cause]:
    """Yield causes that the line itself shows, whatever the parser complains of."""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        yield Cause(number, "is indented with a tab, which YAML does not allow", "indent it with spaces")
    yield from _marks(_without_comment(line), number)
    if found := _SHELL_REFERENCE.search(_bare(line)):
        name = found["braced"] or found["plain"]
        yield Cause(number, f"names the variable {name} as a shell does", f"write os.environ/{name}")
    if re.match(r"\s*//", line):
        yield Cause(number, "is a comment in another language's form", "start a comment with #")


def _misplaced(lines: list[str], at: int) -> Iterator[Cause]:
    """Yield an entry of model_list that is below another section, in the section in which the parser stopped."""
    sections = [(number, found[1]) for number, line in enumerate(lines) if (found := _SECTION.match(line))]
    start, name = next((one for one in reversed(sections) if one[0] <= at), (0, MODELS))
    if name not in names.known("top") - {MODELS}:
        # At the depth of the sections an entry is in the section above it.
        return
    for number in range(start, at + 1):
        if _ENTRY.match(lines[number]):
            yield Cause(number + 1, f"is an entry of {MODELS} below {name}", remedy_of_misplaced("\n".join(lines)))
            return


def remedy_of_misplaced(text: str) -> str:
    """Return where an entry belongs that is below another section: behind the last one of model_list, as far in as that."""
    end, depth = 0, 0
    inside = False
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            if found := _SECTION.match(line):
                inside = found[1] == MODELS
            elif inside:
                end = number
        if inside and (entry := _ENTRY.match(line)):
            depth = len(entry["depth"])
    if not end:
        return f"move it under {MODELS}:"
    return f"move it to the end of {MODELS}, after line {end}, with its dash indented by {depth} spaces"


def _by_words(lines: list[str], at: int, context: int, said: str) -> Iterator[Cause]:
    """Yield a cause that the parser's message shows."""
    if found := re.search(r"found character '(.+)' that cannot start any token", said):
        yield Cause(at + 1, f"has a value that starts with {found[1]}", "put the value into quotes")
    elif "alias" in said or "alphabetic or numeric" in said:
        yield Cause(at + 1, "has a name or value that starts with *, which YAML reads as a reference", "put it into quotes")
    elif "unexpected end of stream" in said and any(quote in lines[context] for quote in "\"'"):
        yield Cause(context + 1, "opens a quote that is never closed", "close the quote in the same line")
    elif found := _FLOW.search(said):
        opened = {"}": "{", "]": "["}[found[1]]
        yield Cause(context + 1, f"opens a {opened} that is not closed, or lacks a comma", f"close it with {found[1]}")
    elif "<stream end>" in said and (bracket := _unclosed(lines)):
        yield Cause(bracket, "opens a bracket that is not closed", "close it with ] or }")
    elif "another document" in said:
        yield Cause(at + 1, "is ---, which starts a second document that is not read", "remove the line")
    elif said.startswith(_BOUNDARY) and re.match(r"(- )?litellm_params\s*:", lines[at].strip()):
        problem = "has litellm_params at another depth than its model_name"
        yield Cause(at + 1, problem, "indent it as far as the m of model_name")


def _unclosed(lines: list[str]) -> int:
    """Return the line of the last bracket that is not closed; 0 without one."""
    opened: list[int] = []
    for number, line in enumerate(lines, start=1):
        for character in _bare(line):
            if character in "[{":
                opened.append(number)
            elif character in "]}" and opened:
                opened.pop()
    return opened[-1] if opened else 0


def _by_line_above(lines: list[str], above: int | None) -> Iterator[Cause]:
    """Yield a cause that is in the line above the one at which the parser stopped."""
    if above is None:
        return
    bare = _bare(lines[above])
    if re.match(r"\s*-\w", bare):
        yield Cause(above + 1, "has no space behind the dash", "write `- ` in front of the first key of each entry")
    elif re.match(r"\s*(- )?[\w-]+:\S", bare) and ": " not in bare:
        yield Cause(above + 1, "has no space behind the colon", "write `name: value`")


def _above(lines: list[str], at: int) -> int | None:
    """Return the index of the last line above that is not empty or a comment."""
    found = (number for number in range(at - 1, -1, -1) if lines[number].strip() and not lines[number].lstrip().startswith("#"))
    return next(found, None)


def _bare(line: str) -> str:
    """Return a line without its comment and with nothing in its quotes."""
    return _without_comment(_QUOTED.sub("''", line))


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line)
