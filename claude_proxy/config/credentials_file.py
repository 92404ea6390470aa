"""Parses ``credentials.yaml``: the pool's credentials and their terms. Text in, entries and errors out, without other files.

An error names the file, the line and the label, but never a value, because any value may be a misplaced secret.
"""

import contextlib
import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from claude_proxy.config.spelling import unknown
from claude_proxy.config.users import ANY_NAME
from claude_proxy.credentials.credential import API_KEY_PREFIX, CLAUDE_PREFIX, LABEL, NO_TERMS, OAUTH_PREFIX, Kind, Terms
from claude_proxy.secret import Secret

FILE_VARIABLE = "CLAUDE_CREDENTIALS_FILE"
# In this variable the launcher lists the possible places of the file if none is configured; the first existing file is used.
OWN_FILES = "CLAUDE_PROXY_CREDENTIALS_FILES"
NAME = "credentials.yaml"
SECTION = "credentials"
# Where the secret is: in this file, in a file of its own, or in Claude Code's login.
SOURCES = ("secret", "secret_file", "claude_home")
KINDS = {"oauth": Kind.OAUTH, "api_key": Kind.API_KEY}
PREFIXES = {OAUTH_PREFIX: Kind.OAUTH, API_KEY_PREFIX: Kind.API_KEY}
LARGEST = 1_000_000
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


class MalformedEntry(ValueError):
    """A value cannot be used. The message continues a sentence that starts with the key or the entry; it has no value."""


@dataclass(frozen=True)
class Entry:
    """One credential of the file. ``value`` is the secret or the path of its file, depending on ``source``."""

    label: str
    line: int
    source: str
    value: Secret
    kind: Kind | None = None
    made: date | None = None
    terms: Terms = NO_TERMS


class Parsed(NamedTuple):
    """The valid entries, and one message per error."""

    entries: tuple[Entry, ...] = ()
    mistakes: tuple[str, ...] = ()


def files_of(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the possible places of the file, in order; empty if neither the operator nor the launcher sets any."""
    named = environ.get(FILE_VARIABLE, "").strip()
    own = environ.get(OWN_FILES, "").split("\n")
    return (Path(named),) if named else tuple(Path(one) for one in own if one)


def file_in_use(environ: Mapping[str, str]) -> Path | None:
    """Return the file to use: the first that exists, else the place where a new one is created."""
    found = files_of(environ)
    return next((path for path in found if path.exists()), found[-1] if found else None)


def read_text(path: Path) -> str:
    """Return the text of a small file; raise ``OSError`` if it cannot be read, ``ValueError`` if it is no such file."""
    # Non-blocking, because the path may be a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not path.is_file():
            raise ValueError("it is not a file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError("it is too large")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def check_label(label: str) -> str:
    """Return a valid label; raise ``MalformedEntry`` for any other."""
    if not LABEL.fullmatch(label) or label.startswith(CLAUDE_PREFIX):
        raise MalformedEntry("should be 1 to 64 letters, digits and _ . @ -, the first a letter or a digit")
    return label


def check_secret(value: str, kind: Kind | None) -> Kind:
    """Return the kind of a secret, given or by its prefix; raise ``MalformedEntry``."""
    if value.lower().startswith("bearer "):
        raise MalformedEntry("has Bearer in front; write the credential alone")
    if value.startswith(("os.environ/", "$", "env:")):
        raise MalformedEntry("names a variable, and no variable is read here; write the credential itself, or use secret_file")
    if value.startswith("sk-ant-ort"):
        raise MalformedEntry("is the refresh token of a login; run `claude setup-token`, and write what it prints")
    if not value or not value.isascii() or not value.isprintable() or re.search(r"[\s,]", value):
        raise MalformedEntry("is empty, or has a space, a comma or a character that no HTTP header can carry")
    if value.rfind(CLAUDE_PREFIX) > 0:
        raise MalformedEntry("contains more than one credential")
    known = next((found for prefix, found in PREFIXES.items() if value.startswith(prefix)), None)
    if kind is None and known is None:
        raise MalformedEntry(f"starts neither with {OAUTH_PREFIX} nor with {API_KEY_PREFIX}; copy it again, or set its kind")
    if kind is not None and known is not None and kind is not known:
        raise MalformedEntry(f"is an {'API key' if known is Kind.API_KEY else 'OAuth token'}, which is not its kind")
    return kind or known or Kind.OAUTH


# --- Values ------------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise MalformedEntry("should be a text")
    return value.strip()


def _number(low: float, high: float, meant: str, *, whole: bool) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        right = isinstance(value, int) or (not whole and isinstance(value, float))
        if isinstance(value, bool) or not right or not isfinite(value) or not low <= value <= high:
            raise MalformedEntry(f"should be {meant}")
        return value if whole else float(value)

    return read


def _paused(value: Any) -> bool | datetime:
    """Return whether a credential is paused, or since when: a time without a zone is UTC."""
    with contextlib.suppress(ValueError):
        value = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(value, bool | datetime):
        raise MalformedEntry("should be true, false, or the time since which it is paused, such as 2026-03-01 09:30:00Z")
    return value if isinstance(value, bool) or value.tzinfo else value.replace(tzinfo=UTC)


def _owner(value: Any) -> str:
    if not isinstance(value, str) or not ANY_NAME.fullmatch(value) or CLAUDE_PREFIX in value:
        raise MalformedEntry("should be the name of a user")
    return value


def _is_group(name: Any) -> bool:
    return isinstance(name, str) and LABEL.fullmatch(name) is not None and CLAUDE_PREFIX not in name


def _groups(value: Any) -> frozenset[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(map(_is_group, names)):
        raise MalformedEntry("should be a list of names: letters, digits and _ . @ -")
    return frozenset(names)


def _one_of(*options: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in options:
            raise MalformedEntry(f"should be {' or '.join(options)}")
        return str(value)

    return read


def _day(value: Any) -> date:
    try:
        return value if type(value) is date else date.fromisoformat(value)
    except (TypeError, ValueError):
        raise MalformedEntry("should be the day on which the setup token was made, such as 2026-03-01") from None


# The keys of an entry and the functions that read their values.
TERMS: Mapping[str, Callable[[Any], Any]] = {
    "priority": _number(-1000, 1000, "a whole number from -1000 to 1000", whole=True),
    "weight": _number(0.01, 1000, "a number from 0.01 to 1000", whole=False),
    "reserve": _number(0, 1, "a fraction from 0 to 1", whole=False),
    "owner": _owner,
    "max_concurrency": _number(1, 100_000, "a whole number from 1", whole=True),
    "groups": _groups,
    "extra_usage": _one_of("never", "last"),
    "paused": _paused,
}
READERS: Mapping[str, Callable[[Any], Any]] = {
    "label": lambda value: check_label(_text(value)),
    **dict.fromkeys(SOURCES, _text),
    "kind": lambda value: KINDS[_one_of(*KINDS)(value)],
    "made": _day,
    **TERMS,
}


# --- The file ----------------------------------------------------------------------------------------------------------------


def parse(text: str, name: str = NAME) -> Parsed:
    """Parse the file's text. ``name`` is the file's name in the errors."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        # Without the error's own text, which contains the line and possibly a secret.
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        return Parsed((), (f"{name}{line}: is not YAML; look at the indentation, colons and quotes there",))
    except (yaml.YAMLError, ValueError, RecursionError):
        return Parsed((), (f"{name}: is not YAML",))
    if root is None:
        return Parsed()
    if not isinstance(root, yaml.MappingNode):
        is_list = isinstance(root, yaml.SequenceNode)
        listed = f" line {root.start_mark.line + 1}: is a list; write `{SECTION}:` above it, with the list indented below"
        return Parsed((), (f"{name}{listed if is_list else f': should be a mapping with the key {SECTION}'}",))
    mistakes: list[str] = []
    entries: list[Entry] = []
    for key, node in root.value:
        line = key.start_mark.line + 1
        if key.value != SECTION:
            mistakes.append(f"{name} line {line}: {_unknown(key, (SECTION,))}")
        elif isinstance(node, yaml.SequenceNode):
            for place, one in enumerate(node.value, start=1):
                _add(one, f"entry {place}", name, entries, mistakes)
        elif node.tag != "tag:yaml.org,2002:null":
            mistakes.append(
                f"{name} line {line}: {SECTION} should be a list, each entry with a label and a secret{_dash(node)}"
            )
    return Parsed(tuple(entries), tuple(mistakes))


def _dash(node: yaml.Node) -> str:
    """Return what to write for a mapping in the place of the list."""
    if not isinstance(node, yaml.MappingNode) or not node.value:
        return ""
    first = node.value[0][0].value
    if first in READERS:
        return "; write a dash in front of the first key of each entry: `- label: NAME`"
    is_label = isinstance(first, str) and LABEL.fullmatch(first) and CLAUDE_PREFIX not in first
    return f"; write `- label: {first}` in place of `{first}:`, and secret: below it" if is_label else ""


def nearest_file(path: Path) -> str:
    """Return the name of the file in the same folder that a missing one is most like; empty if there is none."""
    try:
        there = [one.name for one in path.parent.iterdir()]
    except OSError:
        return ""
    return next(iter(difflib.get_close_matches(path.name, there, 1, 0.7)), "")


def _add(node: yaml.Node, called: str, name: str, entries: list[Entry], mistakes: list[str]) -> None:
    """Read one entry; append it to the entries, or its errors to the mistakes."""
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        mistakes.append(f"{name} line {line}, {called}: should be a mapping with a label and a secret")
        return
    values: dict[str, Any] = {}
    wrong = [*_read(node, values)]
    label = values.get("label")
    if label:
        called = label
        if any(other.label == label for other in entries):
            wrong.append((line, "has the same label as an earlier entry"))
    given = [source for source in SOURCES if source in values]
    if not wrong:
        wrong += [(line, sentence) for sentence in _contradictions(values, given)]
    mistakes += [f"{name} line {at}, {called}: {sentence}" for at, sentence in wrong]
    if not wrong:
        paused = values.pop("paused", False)
        since = paused.timestamp() if isinstance(paused, datetime) else None
        terms = Terms(**{key: values[key] for key in TERMS if key in values}, paused=bool(paused), paused_since=since)
        secret = Secret(values[given[0]])
        entries.append(Entry(values["label"], line, given[0], secret, values.get("kind"), values.get("made"), terms))


def _read(node: yaml.MappingNode, values: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Fill ``values``; yield the line and a message for each invalid value."""
    for key, value in node.value:
        line = key.start_mark.line + 1
        read = READERS.get(key.value) if isinstance(key, yaml.ScalarNode) else None
        if read is None:
            yield line, _unknown(key, READERS)
        elif key.value in values:
            yield line, f"{key.value} is set twice; keep one"
        else:
            try:
                found = yaml.constructor.SafeConstructor().construct_document(value)
                if found is not None:  # an empty value means that the key is not set
                    values[key.value] = read(found)
            except MalformedEntry as error:
                yield line, f"{key.value} {error}"
            except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
                # The library lets these through, for example for an invalid time.
                yield line, f"{key.value} has a value that cannot be read"


def _contradictions(values: Mapping[str, Any], given: list[str]) -> Iterator[str]:
    """Yield a message for each missing or contradictory value."""
    if "label" not in values:
        yield "has no label"
    if len(given) != 1:
        yield f"should have one of {', '.join(SOURCES)}" + (f", and has {' and '.join(given)}" if given else "")
        return
    kind, home = values.get("kind"), given == ["claude_home"]
    if given != ["secret"] and CLAUDE_PREFIX in values[given[0]]:
        yield f"{given[0]} holds a credential, and should hold a path"
    if given == ["secret"]:
        try:
            kind = check_secret(values["secret"], kind)
        except MalformedEntry as error:
            yield f"secret {error}"
    if home and kind is Kind.API_KEY:
        yield "kind should be oauth: claude_home holds a login"
    if "made" in values and (home or kind is Kind.API_KEY):
        yield "made is only for setup tokens, which expire after a year"


def _unknown(key: yaml.Node, known: Iterator[str] | Mapping[str, Any] | tuple[str, ...]) -> str:
    """Return the message for an unknown key. A text that does not look like a key may be a secret and is not shown."""
    name = key.value if isinstance(key, yaml.ScalarNode) else ""
    if not _KEY.fullmatch(name) or CLAUDE_PREFIX in name:
        return "has a key that is not valid"
    return unknown(name, [*known])
