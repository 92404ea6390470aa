"""The people who have a token of their own: names and hashes, from a variable and from a file that may change at any time."""

import hashlib
import hmac
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.secret import Secret

logger = logging.getLogger(__name__)

FILE_VARIABLE = "PROXY_USER_TOKENS_FILE"
HASH_PREFIX = "sha256:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
# What a caller without a name of its own is called; a user of that name could not be told from it.
RESERVED = frozenset({"admin", "user", "open", "client", "static", "anyone", "key"})
# A token is kept as a plain SHA-256, which only a value that nobody can guess makes safe.
MIN_LENGTH = 16
# A comment goes from a # at the beginning, or after white space, to the end of its line.
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_COMMENT = re.compile(r"(?:^|\s)#.*")
# File systems round the time of a change, some to a whole second: a younger file may change without its time showing it.
SETTLED_SECONDS = 2.0


class MalformedUser(ValueError):
    """An entry that cannot be used. The message holds neither the token nor what might be one."""


@dataclass(frozen=True)
class User:
    """A person. ``token`` is there only where the operator wrote the token itself and not its hash."""

    name: str
    digest: str
    token: Secret | None = None


def folded(name: str) -> str:
    """Return a user's name as names are compared and counted: `anna` and `Anna` are one user."""
    return name.casefold()


def digest_of(token: Secret) -> str:
    """Return the SHA-256 of a token, in hexadecimal digits."""
    return hashlib.sha256(token.reveal().encode("utf-8", "surrogatepass")).hexdigest()


def check_name(name: str) -> str:
    """Return the name; raise ``MalformedUser`` for one that nobody may have."""
    if not _NAME.fullmatch(name):
        raise MalformedUser("has a name that is not 1 to 64 letters, digits and . - _ @, the first a letter or a digit")
    if name.startswith("sk-"):
        raise MalformedUser("has a token where the name should be; it should hold name=token")
    if folded(name) in RESERVED:
        raise MalformedUser(f"has the name {name!r}, which means something else to the proxy; choose another one")
    return name


def check_token(token: str) -> Secret:
    """Return a token as a secret; raise ``MalformedUser`` for one that is too short or that no HTTP header can carry."""
    if is_claude_credential(token):
        raise MalformedUser("is a Claude credential (sk-ant-...); the token should be a value of the proxy's own")
    if not token.isascii() or not token.isprintable() or re.search(r"[\s,]", token):
        raise MalformedUser("has a token with a space, a comma or a character that no HTTP header can carry")
    if len(token) < MIN_LENGTH:
        raise MalformedUser(f"has a token of less than {MIN_LENGTH} characters, which can be guessed")
    return Secret(token)


def parse_entry(text: str) -> User:
    """Read ``name=token`` or ``name=sha256:<64 hexadecimal digits>``; raise ``MalformedUser``."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise MalformedUser("is not name=token")
    if value.startswith(HASH_PREFIX):
        digest = value.removeprefix(HASH_PREFIX).lower()
        if not _HASH.fullmatch(digest):
            raise MalformedUser(f"has {HASH_PREFIX} without the 64 hexadecimal digits of a hash after it")
        return User(check_name(name), digest)
    token = check_token(value)
    return User(check_name(name), digest_of(token), token)


def check_unique(user: User, others: Iterable[User], forbidden: Mapping[str, str]) -> None:
    """Raise ``MalformedUser`` for a user whose name or token another user has, or whose token has another use."""
    if user.digest in forbidden:
        raise MalformedUser(f"has the value of {forbidden[user.digest]}; each user needs a token of their own")
    for other in others:
        if folded(user.name) == folded(other.name):
            also = "" if user.name == other.name else f", as {other.name!r}: upper and lower case make no difference"
            raise MalformedUser(f"has the name {user.name!r}, which another user has{also}")
        if hmac.compare_digest(user.digest, other.digest):
            raise MalformedUser(f"has the token of {other.name!r}; each user needs a token of their own")


def parse_list(text: str) -> list[tuple[str, str]]:
    """Split a variable's ``name=token,name=token`` into entries, each with the words that name its place."""
    entries = [entry for entry in re.split(r"[,\s]+", re.sub(r"[ \t]*=[ \t]*", "=", text)) if entry]
    return [(f"entry {place}", entry) for place, entry in enumerate(entries, start=1)]


def parse_lines(content: bytes) -> list[tuple[str, str]]:
    """Split a file into entries, one a line, without comments and empty lines; a line that is no UTF-8 breaks no other."""
    texts = ((f"line {number}", _COMMENT.sub("", text_of(line))) for number, line in enumerate(content.splitlines(), start=1))
    return [(place, text.strip()) for place, text in texts if text.strip()]


def text_of(line: bytes) -> str:
    """Return a line of the file as it is read: without editors' marks (U+FEFF), which stand in it where files were joined."""
    return line.decode("utf-8", "replace").replace("\ufeff", "")


def parse_users(
    entries: Iterable[tuple[str, str]], known: Iterable[User] = (), forbidden: Mapping[str, str] | None = None
) -> tuple[tuple[User, ...], tuple[str, ...]]:
    """Return the users of the entries, and a sentence for each entry that is nobody's.

    Names and tokens are each used once, those of ``known`` included. ``forbidden`` holds, by digest, the name of another
    secret of the proxy's, which no person's token may be.
    """
    others, forbidden = list(known), forbidden or {}
    found: list[User] = []
    mistakes: list[str] = []
    for place, text in entries:
        try:
            user = parse_entry(text)
            check_unique(user, (*others, *found), forbidden)
        except MalformedUser as error:
            mistakes.append(f"{place} {error}")
        else:
            found.append(user)
    return tuple(found), tuple(mistakes)


class UnsafeFile(Exception):
    """A file of users that somebody else may write, or put another one in the place of. The message is for the operator."""


def read_file(path: Path) -> tuple[bytes, os.stat_result] | None:
    """Return what the file of users holds and the status it was read with; None for what is not a file.

    Raises ``UnsafeFile`` when others than its owner may write it or its folder: whoever does so makes users. As in SSH's
    ``authorized_keys`` that includes the group. In a folder with the sticky bit nobody replaces another one's file. Who owns
    the file is not looked at: in a container it is often a user of the host.
    """
    # Not blocking: somebody may have named a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_mode & WRITABLE_BY_OTHERS:
            raise UnsafeFile(_unsafe("is a file", path, status))
        for folder in folders(path):
            found = folder.stat()
            if found.st_mode & WRITABLE_BY_OTHERS and not found.st_mode & stat.S_ISVTX:
                raise UnsafeFile(_unsafe("is in a folder", folder, found))
        return file.read(), status


def folders(path: Path) -> tuple[Path, ...]:
    """Return the folder of a path, and that of the file which the path's link leads to, once where they are the same."""
    return tuple(dict.fromkeys((path.parent.absolute(), path.resolve().parent)))


def _unsafe(what: str, path: Path, status: os.stat_result) -> str:
    mode = stat.S_IMODE(status.st_mode)
    return f"{what} that others may write ({path}, mode {mode:03o}); its users are refused until `chmod go-w {path}`"


class UserBook:
    """Everybody who has a token of their own, as of now. One for a process, used by its event loop alone.

    1. Whoever the variable names is in it as long as the process lives.
    2. Whoever the file names is in it as long as the line is there; a file that was deleted names nobody.
    3. A broken line is nobody's. It, and a file that cannot be read, are told in the log once; of the latter the users
       stay as they were read last.
    4. Where a file is named, or was there once, a proxy without its users is not an open one.
    5. A file that others than its owner may write names nobody until that is put right.
    """

    def __init__(
        self,
        fixed: tuple[User, ...] = (),
        path: Path | None = None,
        *,
        named: bool = False,
        forbidden: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.fixed = fixed
        self.path = path
        self.forbidden = forbidden or {}
        self._clock = clock
        self._filed: tuple[User, ...] = ()
        self._mistakes: tuple[str, ...] = ()
        self._stamp: tuple[int, ...] | None = None
        self._folders: dict[Path, int] = {}
        self._unsafe = ""
        # Whether there was no file at the last look: then its folders do not matter.
        self._absent = False
        self._settled = False
        self._seen = named

    def everybody(self) -> tuple[User, ...]:
        """Return the users as of now: the file is read again when it has changed."""
        self._reload_if_changed()
        return (*self.fixed, *self._filed)

    def find(self, tokens: Iterable[Secret]) -> tuple[User, Secret] | None:
        """Return the user whose token is among these, and that token. Every entry is compared, each in constant time."""
        found = None
        users = self.everybody()
        for token in tokens if users else ():
            digest = digest_of(token)
            for user in users:
                if hmac.compare_digest(user.digest, digest):
                    found = found or (user, token)
        return found

    @property
    def closed(self) -> bool:
        """Whether there are users, or are to be: then nobody comes in without a token."""
        return bool(self.fixed) or self._seen

    @property
    def mistakes(self) -> tuple[str, ...]:
        """A sentence for each broken line of the file as it was read last, or for the file."""
        return self._mistakes

    @property
    def unsafe(self) -> str:
        """What is wrong with a file that others may write, as of the last look; empty for a good one."""
        return self._unsafe

    def _reload_if_changed(self) -> None:
        if self.path is None:
            return
        try:
            if self._absent and not os.access(self.path, os.F_OK):
                return
            if self._settled and _stamp(self.path.stat()) == self._stamp and self._folders == _modes(self._folders):
                return
            modes = _modes(folders(self.path))
            found = read_file(self.path)
            if found is None:
                self._log_once(("names something that is not a file",))
                return
            content, status = found
        except UnsafeFile as error:
            self._filed, self._stamp, self._settled, self._seen = (), (), False, True
            self._unsafe = str(error)
            self._log_once((self._unsafe,))
        except FileNotFoundError:
            gone = self._stamp is not None
            self._filed, self._stamp, self._settled, self._unsafe, self._absent = (), None, False, "", True
            self._log_once(("names a file that is gone; the users in it are refused",) if gone else ())
        except OSError as error:
            self._settled, self._seen = False, True
            self._log_once((f"names a file that cannot be read ({error.strerror}); its users stay as they were read last",))
        else:
            self._seen, self._unsafe, self._absent = True, "", False
            self._stamp, self._folders = _stamp(status), modes
            self._settled = abs(self._clock() - status.st_mtime) > SETTLED_SECONDS
            self._filed, mistakes = parse_users(parse_lines(content), self.fixed, self.forbidden)
            self._log_once(mistakes)

    def _log_once(self, mistakes: tuple[str, ...]) -> None:
        for mistake in mistakes:
            if mistake not in self._mistakes:
                logger.warning("%s: %s", FILE_VARIABLE, mistake)
        self._mistakes = mistakes


def _modes(found: Iterable[Path]) -> dict[Path, int]:
    return {folder: folder.stat().st_mode for folder in found}


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev
