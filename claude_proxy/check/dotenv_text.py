"""Checks of .env as text: lines that are not NAME=value and why, and forms that one of its readers reads differently.

Its readers are `make run` (python-dotenv), Docker Compose, and a shell or `docker run --env-file` where a user tries those.
"""

import re
from collections.abc import Iterator

from claude_proxy.check.facts import DotEnv, Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.config.settings import VARIABLES
from claude_proxy.credentials.credential import CLAUDE_PREFIX

QUOTES = "\"'`\u2018\u2019\u201c\u201d"
CURLY = "\u2018\u2019\u201c\u201d"
# Lists of credentials and tokens, in which a comma or white space separates two entries.
LISTS = ("CLAUDE_OAUTH_TOKENS", "CLAUDE_API_KEYS", "PROXY_USER_TOKENS")
_ASSIGNMENT = re.compile(r"(?P<export>export\s+)?(?P<name>[^\s=#'\"][^\s=]*)(?P<before>\s*)=(?P<after>[^\S\n]*)(?P<value>.*)")
# A variable's name, and an entry of a list: a label or a user, and its value.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_ENTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*\s*=")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\{?[A-Z][A-Z0-9_]*\}?")
_DOLLAR = re.compile(r"(?<!\\)\$(?:\{|[A-Za-z_])")
# The rest of a token: no name, and nothing that a value does not have.
_CONTINUATION = re.compile(r"[\w+/=.,-]{6,}")
_COMMAND = re.compile(r"\s*(?:set|setx)\s|\s*\$env:", re.IGNORECASE)
_SEPARATORS = re.compile(r"[;|](?=\s*(?:[A-Za-z0-9_.@+-]+\s*=|sk-|sha256:))")


def lines(facts: Facts) -> Iterator[Finding]:
    """Lines that are not read, names that are set twice, and values of a form that is probably not intended."""
    texts = facts.dotenv.text.split("\n")
    continued = continuations(facts.dotenv)
    rest = {number for numbers in continued.values() for number in numbers}
    for name, numbers in continued.items():
        yield _list_over_lines(facts.dotenv, name, numbers)
    for number in facts.dotenv.unreadable:
        if number not in rest:
            yield _unreadable(texts, number)
    for name, numbers in facts.dotenv.twice.items():
        if facts.dotenv.lines[name] not in rest:
            yield _twice(facts.dotenv.place(name), name, numbers)
    for name, value in facts.dotenv.values.items():
        number = facts.dotenv.lines.get(name, 0)
        if number in rest:
            continue
        line = texts[number - 1] if 0 < number <= len(texts) else ""
        yield from _value(facts.dotenv.place(name), name, value, line.rstrip("\r"))
    if "\r\n" in facts.dotenv.text:
        yield info(".env", "has Windows line ends (CRLF); `make run` and Docker Compose read them, a shell does not")
    if facts.dotenv.text.startswith("\ufeff"):
        remedy = "save it as UTF-8 without BOM for other programs"
        yield info(".env line 1", "starts with a byte order mark (BOM); `make run` and Docker Compose skip it", remedy)


def continuations(dotenv: DotEnv) -> dict[str, tuple[int, ...]]:
    """Return the lines that a list of credentials or tokens continues in, by its name: only its first line is read."""
    texts = [line.strip() for line in dotenv.text.split("\n")]
    names = {number: name for name, number in dotenv.lines.items()}
    names |= {number: name for name, numbers in dotenv.twice.items() for number in numbers}
    found: dict[str, tuple[int, ...]] = {}
    owner, above = "", ""
    for number in sorted({*names, *dotenv.unreadable}):
        text, name = texts[number - 1] if number <= len(texts) else "", names.get(number, "")
        if owner and _is_continuation(text, name, above):
            found[owner] = (*found.get(owner, ()), number)
        else:
            owner = name if name in LISTS and not _is_quoted(text) else ""
        above = text
    return found


def _is_quoted(text: str) -> bool:
    found = _ASSIGNMENT.match(text)
    return bool(found and found["value"][:1] in ("'", '"'))


def _is_continuation(text: str, name: str, above: str) -> bool:
    """Whether a line below a list is its next entry: it has a credential, or the line above ends in the middle of the list."""
    if name in VARIABLES or (_VARIABLE.fullmatch(name) and "_" in name):
        return False
    if text.startswith(CLAUDE_PREFIX):
        return name == "" or above.endswith((",", "\\"))
    is_inside = above.endswith((",", "\\")) or (above.endswith("=") and text.endswith(","))
    return CLAUDE_PREFIX in text or (is_inside and _ENTRY.match(text) is not None)


def _list_over_lines(dotenv: DotEnv, name: str, numbers: tuple[int, ...]) -> Finding:
    """Return the one error of a list over several lines."""
    several = f"lines {numbers[0]} to {numbers[-1]} continue" if len(numbers) > 1 else "continues"
    read = "are not read" if len(numbers) > 1 else "is not read"
    problem = f"{several} the list {name} of line {dotenv.lines[name]} and {read}"
    remedy = "write the whole list in one line, with commas between its entries, or put double quotes around all of it"
    return error(f".env line {numbers[0]}", problem, remedy)


def _twice(place: str, name: str, before: tuple[int, ...]) -> Finding:
    others = f"line{'s' if len(before) > 1 else ''} {' and '.join(map(str, before))}"
    if name in LISTS:
        remedy = f"write all entries in one line, with commas between them, and remove the other line ({others})"
    else:
        remedy = f"remove the other line ({others})"
    return warning(place, "is set twice; the last one applies", remedy)


def _unreadable(texts: list[str], number: int) -> Finding:
    """Return why a line is not read. Its text is not shown: it may be a part of a token."""
    line = texts[number - 1].strip() if number <= len(texts) else ""
    place = f".env line {number}"
    # The parser also ends lines at a carriage return, so its numbers may be larger.
    before = next((at for at in range(min(number - 2, len(texts) - 1), -1, -1) if texts[at].strip()), None)
    found = _ASSIGNMENT.match(texts[before].lstrip()) if before is not None else None
    is_name = _NAME.fullmatch(line.split("=")[0]) and line.split("=")[0].isupper()
    if found and _CONTINUATION.fullmatch(line) and not is_name:
        return _continued(place, found["name"], before)
    quoted, named = re.search(r"=\s*([\"'])", line), re.match(r"([A-Z_][A-Z0-9_]*)\s*(:|\s)", line)
    # Another word may be a part of a token.
    named = named if named and (named[1] in VARIABLES or "_" in named[1]) else None
    problem, remedy = "is not NAME=value and is not read", "write NAME=value, or start a comment with #"
    if quoted and line.count(quoted[1]) % 2:
        problem, remedy = "opens a quote that is never closed, so the line is not read", "close the quote, or remove it"
    elif quoted:
        problem, remedy = "has text behind the closing quote and is not read", "put the quotes around the whole value"
    elif _COMMAND.match(line):
        problem, remedy = "is a command of a shell and is not read", "write NAME=value"
    elif named and named[2] == ":":
        problem, remedy = f"has a colon behind {named[1]} and is not read", f"write {named[1]}=value"
    elif named:
        problem, remedy = f"has no = behind {named[1]} and is not read", f"write {named[1]}=value"
    return error(place, problem, remedy)


def _continued(place: str, name: str, before: int | None) -> Finding:
    # Another word may be a part of a token, too.
    called = name if name.isupper() and "_" in name else "a variable"
    where = f"the value of {called} in line {(before or 0) + 1}"
    problem = f"continues {where}; of a value over two lines only the first line is read"
    return error(place, problem, "join the two lines")


def _value(place: str, name: str, value: str, line: str) -> Iterator[Finding]:
    found = _ASSIGNMENT.match(line.lstrip())
    raw = found["value"].strip() if found else ""
    if found and found["export"]:
        problem = "has export in front; `make run` and Docker Compose skip the word, `docker run --env-file` rejects it"
        yield info(place, problem, f"write {name}=value")
    if found and (found["before"] or found["after"]):
        problem = "has spaces around =; `make run` and Docker Compose skip them, a shell and `docker run --env-file` do not"
        yield info(place, problem, f"write {name}=value")
    if _REFERENCE.fullmatch(value):
        problem = "is the name of another variable, which only Docker Compose replaces; `make run` uses the text itself"
        yield error(place, problem, "write the value itself")
    elif raw and not raw.startswith("'") and _DOLLAR.search(raw):
        problem = "has a $, which Docker Compose replaces with the value of another variable; `make run` does not"
        yield warning(place, problem, "put the value into single quotes")
    if "\n" in value and name not in LISTS:
        yield error(place, "holds a value over several lines", "write it in one line")
    if value:
        yield from _quotes(place, value)
        yield from _separators(place, name, value)


def _quotes(place: str, value: str) -> Iterator[Finding]:
    """Quotes that are left in a value once it is read."""
    if any(mark in value for mark in CURLY):
        yield error(place, "has curly quotes, which are sent as a part of the value", "write straight quotes or none")
    elif (value[0] in QUOTES) != (value[-1] in QUOTES):
        yield error(place, "has a quote at one end only, which is sent as a part of the value", "remove it")
    elif value[0] in QUOTES and not _is_command(value):
        yield error(place, "has quotes around its value that are sent as a part of it", "remove them")


def _is_command(value: str) -> bool:
    """Whether a value is a command of a shell in backticks."""
    return value.startswith("`") and " " in value


def _separators(place: str, name: str, value: str) -> Iterator[Finding]:
    if name in LISTS and (found := _SEPARATORS.search(value)):
        yield error(place, f"has {found[0]} between two entries", "write a comma between them")
    elif name in LISTS and value.endswith(";"):
        yield error(place, "ends with ;, which is sent as a part of the last entry", "remove it")
    elif name not in LISTS and value.endswith((";", ",")):
        yield error(place, f"ends with {value[-1]}, which is sent as a part of the value", "remove it")
