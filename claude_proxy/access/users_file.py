"""``claude-proxy user``: add, remove and list the users in the file that every worker watches."""

import contextlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
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

HEADER = "# One user per line: name=token, or name=sha256:<hash of the token>. `claude-proxy user add NAME` adds one.\n"
_SINCE = re.compile(r"#\s*since (\d{4}-\d{2}-\d{2})\s*$")


class UsersError(ValueError):
    """The command cannot be done; nothing was changed. ``mistakes`` holds a sentence each."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Listed(NamedTuple):
    """A row of the list: the name, the day it was added (empty if that is not recorded), and the file or variable."""

    name: str
    since: str
    place: str


def add(path: Path, book: UserBook, name: str, token: str | None, today: date) -> Secret:
    """Write a user's line with the hash of the token, and return the token: a new one unless one is given."""
    with _as_users_error():
        secret = check_token(token) if token is not None else Secret(f"sk-{secrets.token_hex(32)}")
        new = User(check_name(name), digest_of(secret))

    def added(content: bytes) -> bytes:
        with _as_users_error():
            there = book.all_users()
            if book.unsafe:  # its users are not known
                raise UsersError(f"{path}: {book.unsafe}")
            check_free(new.name, there)
            check_unique(new, there, book.forbidden)
        before = content.rstrip(b"\r\n") + b"\n" if content.strip() else HEADER.encode()
        return before + f"{new.name}={HASH_PREFIX}{new.digest}  # since {today.isoformat()}\n".encode()

    _rewrite(path, added)
    return secret


def check_free(name: str, users: Iterable[User]) -> None:
    """Raise ``UsersError`` for a name that a user has."""
    other = next((user.name for user in users if folded(user.name) == folded(name)), None)
    if other is not None:
        also = "" if other == name else "; upper and lower case make no difference"
        raise UsersError(
            f"A user named {other} already exists{also}. For a new token, run `claude-proxy user remove {other}` first."
        )


def remove(path: Path, book: UserBook, name: str) -> None:
    """Remove a user's lines from the file; every other line, a broken one too, stays as it is."""
    wanted = folded(name)
    if any(folded(user.name) == wanted for user in book.fixed):
        raise UsersError(f"{name} is in PROXY_USER_TOKENS. Remove the entry there, and restart the proxy.")

    def removed(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        kept = [line for line in lines if folded(name_of(line)) != wanted]
        if len(kept) == len(lines):
            raise UsersError(f"{name} is not in {path}. `claude-proxy user list` shows all users.")
        return b"".join(kept)

    _rewrite(path, removed)


def name_of(line: bytes) -> str:
    """Return what stands before a line's ``=``, as the proxy reads it: without editors' marks and any kind of space."""
    return text_of(line).partition("=")[0].strip()


def listed(path: Path, book: UserBook) -> list[Listed]:
    """Return all users, those of the variable first, each in the order of its source."""
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
        for user in book.all_users()
    ]


def find(book: UserBook, name: str) -> User:
    """Return a user by name; raise ``UsersError`` for an unknown name."""
    for user in book.all_users():
        if folded(user.name) == folded(name):
            return user
    raise UsersError(f"There is no user named {name}. `claude-proxy user add {name}` adds one.")


@contextlib.contextmanager
def _as_users_error() -> Iterator[None]:
    """Turn an error of an entry into the sentence of a command."""
    try:
        yield
    except MalformedUser as error:
        text = str(error)
        raise UsersError(f"{text[0].upper()}{text[1:]}.") from None


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the file; raise ``UsersError`` if it cannot be written."""
    try:
        rewrite(path, change)
    except OSError as error:
        raise UsersError(
            f"{path}: cannot be written ({error.strerror}). PROXY_USER_TOKENS_FILE can name another file."
        ) from error
