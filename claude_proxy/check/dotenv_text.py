"""Checks of .env as text: lines that are not NAME=value and why, and forms that one of its readers reads differently.

Its readers are `make run` (python-dotenv), Docker Compose, and a shell or `docker run --env-file` where a user tries those.
"""

import re
from collections.abc import Iterator

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.config.settings import VARIABLES

QUOTES = "\"'`\u2018\u2019\u201c\u201d"
CURLY = "\u2018\u2019\u201c\u201d"
# Lists of credentials and tokens, in which a comma or white space separates two entries.
LISTS = ("CLAUDE_OAUTH_TOKENS", "CLAUDE_API_KEYS", "PROXY_USER_TOKENS")
_ASSIGNMENT = re.compile(r"(?P<export>export\s+)?(?P<name>[^\s=#'\"][^\s=]*)(?P<before>\s*)=(?P<after>[^\S\n]*)(?P<value>.*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DOLLAR = re.compile(r"(?<!\\)\$(?:\{|[A-Za-z_])")
# The rest of a token: no name, and nothing that a value does not have.
_CONTINUATION = re.compile(r"[\w+/=.,-]{6,}")
_COMMAND = re.compile(r"\s*(?:set|setx)\s|\s*\$env:", re.IGNORECASE)
_SEPARATORS = re.compile(r"[;|](?=\s*(?:[A-Za-z0-9_.@-]+\s*=|sk-|sha256:))")


def lines(facts: Facts) -> Iterator[Finding]:
    """Lines that are not read, names that are set twice, and values of a form that is probably not intended."""
    texts = facts.dotenv.text.split("\n")
    for number in facts.dotenv.unreadable:
        yield _unreadable(texts, number)
    for name in facts.dotenv.twice:
        yield warning(facts.dotenv.place(name), "is set twice; the last one applies", "remove the other line")
    for name, value in facts.dotenv.values.items():
        number = facts.dotenv.lines.get(name, 0)
        line = texts[number - 1] if 0 < number <= len(texts) else ""
        yield from _value(facts.dotenv.place(name), name, value, line.rstrip("\r"))
    if "\r\n" in facts.dotenv.text:
        yield info(".env", "has Windows line ends (CRLF); `make run` and Docker Compose read them, a shell does not")
    if facts.dotenv.text.startswith("\ufeff"):
        remedy = "save it as UTF-8 without BOM for other programs"
        yield info(".env line 1", "starts with a byte order mark (BOM); `make run` and Docker Compose skip it", remedy)


def _unreadable(texts: list[str], number: int) -> Finding:
    """Return why a line is not read. Its text is not shown: it may be a part of a token."""
    line = texts[number - 1].strip() if number <= len(texts) else ""
    place = f".env line {number}"
    before = next((at for at in range(number - 2, -1, -1) if texts[at].strip()), None)
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
    if raw and not raw.startswith("'") and _DOLLAR.search(raw):
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
    elif value[0] in QUOTES:
        yield error(place, "has quotes around its value that are sent as a part of it", "remove them")


def _separators(place: str, name: str, value: str) -> Iterator[Finding]:
    if name in LISTS and (found := _SEPARATORS.search(value)):
        yield error(place, f"has {found[0]} between two entries", "write a comma between them")
    elif name in LISTS and value.endswith(";"):
        yield error(place, "ends with ;, which is sent as a part of the last entry", "remove it")
    elif name not in LISTS and value.endswith((";", ",")):
        yield error(place, f"ends with {value[-1]}, which is sent as a part of the value", "remove it")
