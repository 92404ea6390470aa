"""``claude-proxy user``: add, remove and list the people whose tokens stand in the file that every worker watches."""

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

from claude_proxy.config.rewriting import rewrite
from claude_proxy.config.users import (
    HASH_PREFIX,
    MalformedUser,
    User,
    UserBook,
    check_name,
    check_token,
    check_unique,
    digest_of,
    folded,
    text_of,
)
from claude_proxy.secret import Secret

HEADER = "# One person a line: name=token, or name=sha256:<hash of the token>. `claude-proxy user add NAME` adds one.\n"
_SINCE = re.compile(r"#\s*since (\d{4}-\d{2}-\d{2})\s*$")


class PeopleError(ValueError):
    """What was asked for was not done; nothing was changed. ``mistakes`` holds a sentence each."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Listed(NamedTuple):
    """A row of the list: who, since when (empty when nobody wrote it down), and where it stands."""

    name: str
    since: str
    place: str


def add(path: Path, book: UserBook, name: str, token: str | None, today: date) -> Secret:
    """Write a person's line, with the hash of the token, and return the token: a new one unless one is given."""
    with _told():
        secret = check_token(token) if token is not None else Secret(f"sk-{secrets.token_hex(32)}")
        new = User(check_name(name), digest_of(secret))

    def added(content: bytes) -> bytes:
        with _told():
            there = book.everybody()
            if book.unsafe:  # who is in it is not known
                raise PeopleError(f"{path}: {book.unsafe}")
            check_unique(new, there, book.forbidden)
        before = content.rstrip(b"\r\n") + b"\n" if content.strip() else HEADER.encode()
        return before + f"{new.name}={HASH_PREFIX}{new.digest}  # since {today.isoformat()}\n".encode()

    _rewrite(path, added)
    return secret


def remove(path: Path, book: UserBook, name: str) -> None:
    """Take a person's lines out of the file; every other line, a broken one too, stays as it is."""
    wanted = folded(name)
    if any(folded(user.name) == wanted for user in book.fixed):
        raise PeopleError(f"{name} stands in PROXY_USER_TOKENS; take the entry out there and restart the proxy")

    def removed(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        kept = [line for line in lines if folded(name_of(line)) != wanted]
        if len(kept) == len(lines):
            raise PeopleError(f"{name} is not in {path}; `claude-proxy user list` shows who is")
        return b"".join(kept)

    _rewrite(path, removed)


def name_of(line: bytes) -> str:
    """Return what stands before a line's ``=``, as the proxy reads it: without editors' marks and any kind of space."""
    return text_of(line).partition("=")[0].strip()


def everybody(path: Path, book: UserBook) -> list[Listed]:
    """Return all people, those of the variable first, in the order in which they stand there."""
    since: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            match = _SINCE.search(text_of(line))
            if match:
                since.setdefault(folded(name_of(line)), match[1])
    fixed = {user.name for user in book.fixed}
    return [
        Listed(user.name, "", "PROXY_USER_TOKENS")
        if user.name in fixed
        else Listed(user.name, since.get(folded(user.name), ""), str(path))
        for user in book.everybody()
    ]


def find(book: UserBook, name: str) -> User:
    """Return a person by name; raise ``PeopleError`` for a name that nobody has."""
    for user in book.everybody():
        if folded(user.name) == folded(name):
            return user
    raise PeopleError(f"{name} has no token; `claude-proxy user add {name}` makes one")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what is wrong with an entry into the sentence of a command."""
    try:
        yield
    except MalformedUser as error:
        raise PeopleError(f"the new user {error}") from None


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the file; raise ``PeopleError`` where it cannot be written."""
    try:
        rewrite(path, change)
    except OSError as error:
        raise PeopleError(
            f"{path}: cannot be written ({error.strerror}); PROXY_USER_TOKENS_FILE may name another file"
        ) from error
