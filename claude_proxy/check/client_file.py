"""Reads the settings.json of a client: the variables in it, the line of each, and why it is not what Claude Code reads."""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from claude_proxy.check.findings import Finding, error, warning

ENV = "env"
# The same in the settings of VS Code, whose file may hold comments.
VSCODE = "claudeCode.environmentVariables"
CURLY = "\u2018\u2019\u201c\u201d"
_VARIABLE = re.compile(r"(ANTHROPIC|CLAUDE_CODE|CLAUDE)_[A-Z0-9_]+|[A-Z]+_PROXY|DISABLE_[A-Z_]+|MAX_THINKING_TOKENS")
# Strings stay as they are; of what is outside them, comments and commas in front of a closing bracket go.
_TOLERATED = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/|,(?=\s*[}\]])', re.DOTALL)


@dataclass(frozen=True)
class ClientFile:
    """The variables that Claude Code gets from a file. ``problems`` is what is wrong with the file itself."""

    name: str = "settings.json"
    values: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Finding, ...] = ()
    # Whether a program gives Claude Code its token.
    has_helper: bool = False
    # The model that its own setting names, outside the variables.
    model: str = ""

    def place(self, name: str) -> str:
        """Return where a variable is set, in the words of a finding."""
        line = self.lines.get(name)
        return f"{self.name} line {line}: {name}" if line else f"{self.name}: {name}"


def read_client_file(path: Path) -> ClientFile:
    """Read a settings.json of Claude Code or of VS Code. No problem shows a value: it may be a token."""
    name = path.name
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as problem:
        unread = error(f"{path.absolute()}", f"cannot be read ({problem.strerror})", "give the path of settings.json")
        return ClientFile(name, problems=(unread,))
    except UnicodeDecodeError:
        return ClientFile(name, problems=(error(name, "is not UTF-8 text", "save it as UTF-8"),))
    problems: list[Finding] = []
    if text.startswith("\ufeff"):
        problems.append(warning(f"{name} line 1", "starts with a byte order mark (BOM)", "save it as UTF-8 without BOM"))
        text = text.removeprefix("\ufeff")
    try:
        twice: list[str] = []
        pairs = functools.partial(_without_twice, twice=twice)
        loaded = json.loads(_tolerant(text) if f'"{VSCODE}"' in text else text, object_pairs_hook=pairs)
    except json.JSONDecodeError as problem:
        return ClientFile(name, problems=(*problems, _cause(name, text, problem)))
    except (ValueError, RecursionError):
        return ClientFile(name, problems=(*problems, error(name, "is not JSON")))
    if not isinstance(loaded, dict):
        return ClientFile(name, problems=(*problems, error(name, "is not an object", 'write {"env": {...}}')))
    values = {} if twice else dict(_variables(loaded))
    env = loaded.get(ENV)
    keys = {*values, *loaded, *(env if isinstance(env, dict) else ())}
    lines = {one: line for one in keys if (line := _line_of(one, text))}
    model = loaded.get("model")
    found = ClientFile(name, values, lines, (), bool(loaded.get("apiKeyHelper")), model if isinstance(model, str) else "")
    once = "is there twice, and only the last one is read"
    problems += [error(found.place(one), once, "keep one, with all entries") for one in twice[:1]]
    return replace(found, problems=(*problems, *_structure(loaded, found)))


def _without_twice(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    """Return the object of a JSON text; append to ``twice`` what Claude Code would read once."""
    names = [name for name, _ in pairs]
    twice += [name for name in dict.fromkeys(names) if names.count(name) > 1 and (name == ENV or _VARIABLE.fullmatch(name))]
    return dict(pairs)


def _variables(loaded: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    env, of_vscode = loaded.get(ENV), loaded.get(VSCODE)
    pairs = list(env.items()) if isinstance(env, dict) else []
    for entry in of_vscode if isinstance(of_vscode, list) else ():
        if isinstance(entry, dict):
            pairs.append((entry.get("name"), entry.get("value")))
    for name, value in pairs:
        if isinstance(value, str | int | float):
            yield str(name), str(value).lower() if isinstance(value, bool) else str(value)


def _structure(loaded: Mapping[str, Any], found: ClientFile) -> Iterator[Finding]:
    env = loaded.get(ENV)
    for name in loaded:
        if _VARIABLE.fullmatch(name):
            yield error(found.place(name), "is outside env, so Claude Code does not read it", 'move it into "env": {...}')
        elif name.lower() in ("env", "environment", "envs", "environmentvariables") and name != ENV:
            yield error(found.place(name), "is not read", "its name should be env")
    if isinstance(env, list):
        yield error(found.place(ENV), "is a list", 'write "env": {"NAME": "value"}')
    elif env is not None and not isinstance(env, dict):
        yield error(found.place(ENV), "is not an object", 'write "env": {"NAME": "value"}')
    for name, value in env.items() if isinstance(env, dict) else ():
        if value is None or isinstance(value, list | dict):
            yield error(found.place(name), "is not a text", "write its value in quotes")


def _line_of(name: str, text: str) -> int | None:
    """Return the line of a variable: of its key, or in VS Code's form of its name."""
    quoted = re.escape(json.dumps(name))
    found = [*re.finditer(rf'{quoted}\s*:|"name"\s*:\s*{quoted}', text)]
    return text.count("\n", 0, found[-1].start()) + 1 if found else None


def _tolerant(text: str) -> str:
    """Return the text without comments and trailing commas, with every line in its place."""
    return _TOLERATED.sub(lambda found: found[1] or "\n" * found[0].count("\n"), text)


@dataclass(frozen=True)
class _Stop:
    """Where the JSON parser stopped: its words, the next character, what is before and behind that, and two lines."""

    words: str
    character: str
    before: str
    after: str
    inside: str
    # Of the next character, and of the last one before it.
    line: int
    last: int

    @classmethod
    def of(cls, text: str, problem: json.JSONDecodeError) -> "_Stop":
        at = problem.pos
        while at < len(text) and text[at].isspace():
            at += 1
        before = text[: problem.pos].rstrip()
        line = text.count("\n", 0, problem.pos if "control" in problem.msg else at) + 1
        after, inside = text[at + 1 :].lstrip(), text[problem.pos : problem.pos + 2]
        return cls(problem.msg, text[at : at + 1], before, after, inside, line, before.count("\n") + 1)


# From the first rule that applies: whether it does, the line to look at, the problem, and what to write.
_CAUSES: tuple[tuple[Callable[[_Stop], bool], str, str, str], ...] = (
    (lambda s: not s.before and not s.character, "last", "it is empty", "`claude-proxy settings` prints what to put into it"),
    (
        lambda s: not s.before and bool(re.match(r"[A-Z_]+=|xport ", s.after)), "line", "it has lines of a shell or of a .env",
        "`claude-proxy settings` prints what to put into it",
    ),
    (lambda s: s.character == "'", "line", "a text is in single quotes", "write double quotes"),
    (
        lambda s: bool(s.character) and s.character in CURLY, "line", "a text is in curly quotes",
        "write straight double quotes",
    ),
    (
        lambda s: s.character == "#" or (s.character == "/" and s.after[:1] in ("/", "*")), "line", "there is a comment",
        "remove it; JSON has no comments",
    ),
    (
        lambda s: s.character in ("}", "]") and s.before.endswith(","), "last", "the last entry has a comma behind it",
        "remove the comma",
    ),
    (
        lambda s: s.character == "," and s.after[:1] in ("}", "]"), "line", "the last entry has a comma behind it",
        "remove the comma",
    ),
    (
        lambda s: "control character" in s.words and "\n" in s.inside, "line", "there is a line end inside the quotes",
        "write \\n for a line end",
    ),
    (lambda s: "control character" in s.words, "line", "there is a control character inside the quotes", "write \\t for a tab"),
    (lambda s: "escape" in s.words, "line", "there is a single backslash inside the quotes", "write two: \\\\"),
    (
        lambda s: "',' delimiter" in s.words and bool(s.character), "last", "a comma is missing at the end of the entry",
        "write the comma",
    ),
    (
        lambda s: "':' delimiter" in s.words and bool(s.character), "last", "a colon is missing between a name and its value",
        "write the colon",
    ),
    (lambda s: "Extra data" in s.words, "line", "there is text behind the last }", "keep one object in the file"),
    (lambda s: not s.character, "last", "it ends before its last }", "close every {, [ and quote"),
    (
        lambda s: bool(re.match(r"[A-Za-z_$]", s.character)), "line", "a name or text has no quotes",
        "write it in double quotes",
    ),
    (lambda _: True, "line", "a character is not allowed there", "look at the quotes, commas and brackets in this line"),
)  # fmt: skip


def _cause(name: str, text: str, problem: json.JSONDecodeError) -> Finding:
    """Return why a text is not JSON, in words and with the line; the text itself is not shown."""
    stop = _Stop.of(text, problem)
    _, line, words, remedy = next(rule for rule in _CAUSES if rule[0](stop))
    return error(f"{name} line {stop.line if line == 'line' else stop.last}", f"is not JSON: {words}", remedy)
