"""Changes ``credentials.yaml`` for the commands and the page, one entry at a time; the rest of the file is unchanged.

Comments are kept, except inside a changed entry. A file with errors is not changed, and no change adds an error.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from claude_proxy.config.credentials_file import READERS, SECTION, TERMS, MalformedEntry, check_label, parse
from claude_proxy.config.pool_sources import mistakes_of
from claude_proxy.config.rewriting import rewrite
from claude_proxy.config.settings import POOL_SOURCES
from claude_proxy.credentials.credential import Credential
from claude_proxy.secret import Secret

HEAD = (
    "# The pool's Claude credentials. `claude-proxy pool` and the page write this file, and you may edit it. A change applies\n"
    "# within seconds. A command keeps all comments except those in the entry that it changes. Settings: docs/credentials.md.\n"
)
# The keys of an entry that can be changed.
SETTABLE = ("label", "kind", "made", *TERMS)
_TEXTS = frozenset({"label", "kind", "made", "owner", "extra_usage"})

Values = dict[str, Any]


class NotEdited(ValueError):
    """The change was rejected and nothing was written. ``mistakes`` has one message per error, without secrets."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def add(
    path: Path, pool: Iterable[Credential], label: str, source: str, value: Secret, *, terms: Mapping[str, Any] | None = None
) -> None:
    """Add an entry with its secret or a path to it. ``pool`` is the current pool; ``terms`` are values as for ``change``."""
    try:
        check_label(label)
    except MalformedEntry as error:
        raise NotEdited(f"the label {error}") from None
    entry = {"label": label, source: value.reveal(), **_checked(terms or {})}
    for one in pool:
        same = source == "secret" and one.secret.matches(value)
        if same and one.source not in POOL_SOURCES:
            raise NotEdited(f"{one.label} is the same credential, and {path} already has it")
        if one.label == label and not same:
            raise NotEdited(f"another credential already has the label {label} ({one.source or 'the pool'})")

    def added(entries: list[Values]) -> list[Values]:
        if any(there.get("label") == label for there in entries):
            raise NotEdited(f"{path} already has a credential {label}; change it with `claude-proxy pool set`")
        return [*entries, entry]

    _edit(path, label, added)


def change(path: Path, pool: Iterable[Credential], label: str, values: Mapping[str, Any]) -> None:
    """Set these values of an entry; None removes a value."""
    checked = _checked(values)

    def changed(entries: list[Values]) -> list[Values]:
        place = _place(entries, label, path, pool)
        found = {name: value for name, value in (entries[place] | checked).items() if value is not None}
        return [*entries[:place], found, *entries[place + 1 :]]

    _edit(path, checked.get("label") or label, changed)


def pause(path: Path, pool: Iterable[Credential], label: str) -> None:
    """Pause an entry, and note the time."""
    change(path, pool, label, {"paused": datetime.now(UTC).replace(microsecond=0)})


def remove(path: Path, pool: Iterable[Credential], label: str) -> None:
    """Remove an entry."""

    def removed(entries: list[Values]) -> list[Values]:
        place = _place(entries, label, path, pool)
        return [*entries[:place], *entries[place + 1 :]]

    _edit(path, None, removed)


def assignments(words: Iterable[str]) -> dict[str, Any]:
    """Read ``name=value`` arguments of a command line. An empty value becomes None; lists are separated by commas."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise NotEdited("a change is name=value, such as priority=2")
        if name == "groups":
            found[name] = [part.strip() for part in text.split(",") if part.strip()] or None
        elif name in _TEXTS or not text:
            found[name] = text or None
        else:
            try:
                found[name] = yaml.safe_load(text)
            except (yaml.YAMLError, ValueError):
                found[name] = text
    return found


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in the form in which they are written; raise ``NotEdited`` for invalid values."""
    mistakes: list[str] = []
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in SETTABLE:
            meant = difflib.get_close_matches(name, SETTABLE, 1, 0.6)
            known = f"did you mean {meant[0]}?" if meant else f"the settings are {', '.join(SETTABLE)}"
            mistakes.append(f"{name[:40]} is not a setting; {known}" if name.isidentifier() else known)
        elif value is None:
            found[name] = None
        else:
            try:
                read = READERS[name](value)
                found[name] = read if name == "made" else value
            except MalformedEntry as error:
                mistakes.append(f"{name} {error}")
    if found.get("label", "") is None:
        mistakes.append("a label cannot be removed")
    if found.get("paused") is False:
        found["paused"] = None
    if mistakes:
        raise NotEdited(*mistakes)
    return found


def _place(entries: list[Values], label: str, path: Path, pool: Iterable[Credential]) -> int:
    place = next((place for place, entry in enumerate(entries) if entry.get("label") == label), None)
    if place is not None:
        return place
    fixed = next((one for one in pool if one.label == label and one.source in POOL_SOURCES), None)
    if fixed is None:
        raise NotEdited(f"{path} has no credential {label}; `claude-proxy pool list` shows the credentials")
    raise NotEdited(
        f"{label} comes from {fixed.source}, which no command changes. To move it, run `claude-proxy pool add {label}` with "
        f"the same secret, then remove it from {fixed.source}"
    )


# --- The text ----------------------------------------------------------------------------------------------------------------


def _edit(path: Path, label: str | None, change: Callable[[list[Values]], list[Values]]) -> None:
    """Rewrite the file; ``label`` is the entry that must be valid afterwards."""

    def edited(content: bytes) -> bytes:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise NotEdited(f"{path}: is not UTF-8 text; fix it first") from None
        if mistakes := parse(text, path.name).mistakes:
            raise NotEdited(*mistakes, f"fix {path} first; nothing was changed")
        new = rewritten(text or HEAD, change)
        found = parse(new, path.name)
        wrong = [*found.mistakes]
        for entry in found.entries:
            wrong += mistakes_of(entry, path) if entry.label == label and not wrong else ()
        if wrong:
            raise NotEdited(*wrong)
        return new.encode()

    try:
        rewrite(path, edited)
    except OSError as error:
        raise NotEdited(
            f"{path}: cannot be written ({error.strerror}); CLAUDE_CREDENTIALS_FILE may name another file"
        ) from error


def rewritten(text: str, change: Callable[[list[Values]], list[Values]]) -> str:
    """Return the file's text with the changed entries; the text must be valid."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found = next((value.value for key, value in root.value if key.value == SECTION), None) if root else None
    nodes: list[yaml.Node] = found if isinstance(found, list) else []
    before = [yaml.constructor.SafeConstructor().construct_document(node) for node in nodes]
    after = change(before)
    new = _spliced(text, nodes, before, after)
    if new is None or yaml.safe_load(new) != {SECTION: after}:
        comments = "".join(f"{line}\n" for line in text.splitlines() if line.startswith("#"))
        new = comments + _dumped({SECTION: after})
    return new


def _spliced(text: str, nodes: list[yaml.Node], before: list[Values], after: list[Values]) -> str | None:
    """Return the text with the changed entry's lines replaced; None if the entries are not on lines of their own."""
    lines = text.splitlines(keepends=True)
    spans = [(node.start_mark.line, _last_line(node) + 1) for node in nodes]
    starts = [lines[first][: node.start_mark.column] for node, (first, _) in zip(nodes, spans, strict=True)]
    if (
        not before
        or not after
        or not all(start.strip() == "-" for start in starts)
        or any(a[1] > b[0] for a, b in pairwise(spans))
    ):
        return None
    if not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    indent = " " * (len(starts[0]) - len(starts[0].lstrip()))
    for place in range(len(before), len(after)):
        lines.insert(spans[-1][1], _entry(after[place], indent))
    is_removal = len(after) < len(before)
    for place, entry in reversed([*enumerate(before)]):
        kept = entry in after if is_removal else after[place] == entry
        if not kept:
            lines[slice(*spans[place])] = [] if is_removal else [_entry(after[place], indent)]
    return "".join(lines)


def _last_line(node: yaml.Node) -> int:
    """Return the line in which a node's last value ends; the end mark of a block is where the next token starts."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return int(node.end_mark.line if node.end_mark.column else node.end_mark.line - 1)
    inner = [one for pair in node.value for one in (pair if isinstance(pair, tuple) else (pair,))]
    return max(map(_last_line, inner), default=int(node.start_mark.line))


def _dumped(value: object) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1000))


def _entry(values: Values, indent: str) -> str:
    return "".join(f"{indent}{line}\n" for line in _dumped([values]).splitlines())
