"""The users who have a token of their own: names and hashes, from a variable and from a file that may change at any time."""

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
from typing import NamedTuple, Protocol

from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.secret import Secret

logger = logging.getLogger(__name__)

FILE_VARIABLE = "PROXY_USER_TOKENS_FILE"
HASH_PREFIX = "sha256:"
# The name of a user with a token, and of any user: one who signs in may have a longer name, often a mail address.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
ANY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_COLON = re.compile(r"[A-Za-z0-9._@+-]{1,64}\s{0,100}:")
_QUOTES = ('"', "'")
# How hashes start that are slow by design, such as bcrypt's.
_OTHER_HASHES = ("$2a$", "$2b$", "$2y$", "$argon2", "$5$", "$6$", "{SHA}", "$apr1$")
_HASH = re.compile(r"[0-9a-f]{64}")
# Names of callers who have no name of their own; a user with such a name could not be distinguished from them.
RESERVED = frozenset({"admin", "user", "open", "client", "static", "anyone", "key"})
# A token is stored as a plain SHA-256 hash, which is safe only for a value that cannot be guessed.
MIN_LENGTH = 16
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# A comment starts with a # at the start of a line, or after white space, and goes to the end of the line.
_COMMENT = re.compile(r"(?:^|\s)#.*")
# File systems round times, some to a whole second: a file that has just changed may change again at the same time.
SETTLED_SECONDS = 2.0


class MalformedUser(ValueError):
    """An entry that cannot be used. The message contains neither the token nor a text that might be one."""


@dataclass(frozen=True)
class User:
    """A user. ``token`` is set only if the operator wrote the token itself, and not its hash."""

    name: str
    digest: str
    token: Secret | None = None


class SignedIn(NamedTuple):
    """A user who has signed in with ``/login``, by their access token: the name, the groups, and the sign-in's own name.

    ``token`` names the personal token with which they signed in; it is empty with an identity provider.
    """

    name: str
    groups: tuple[str, ...]
    session: str
    token: str


class SignIns(Protocol):
    """Knows the access tokens (``signin/tokens.py``)."""

    @property
    def ready(self) -> bool:
        """Whether tokens can be checked; otherwise one that is not found may still be valid."""

    def find(self, token: Secret) -> SignedIn | None:
        """Return who has signed in with a token; None if it is not a valid access token."""

    def stands(self, signed_in: SignedIn) -> bool:
        """Whether a sign-in is still valid, whatever the age of its token."""


def folded(name: str) -> str:
    """Return a user's name in the form in which names are compared: `anna` and `Anna` are one user."""
    return name.casefold()


def digest_of(token: Secret) -> str:
    """Return the SHA-256 of a token, in hexadecimal digits."""
    return hashlib.sha256(token.reveal().encode("utf-8", "surrogatepass")).hexdigest()


def check_name(name: str) -> str:
    """Return the name; raise ``MalformedUser`` for one that is not allowed."""
    if not NAME.fullmatch(name):
        raise MalformedUser("the name must have 1 to 64 letters, digits or . - _ @ +, and start with a letter or a digit")
    if name.startswith("sk-"):
        raise MalformedUser("there is a token in place of the name; write name=token")
    if folded(name) in RESERVED:
        raise MalformedUser(f"the name {name!r} is reserved; choose another name")
    return name


def check_token(token: str) -> Secret:
    """Return a token as a secret; raise ``MalformedUser`` for one that is too short or that an HTTP header cannot carry."""
    if is_claude_credential(token):
        raise MalformedUser("the token is a Claude credential (sk-ant-...); use a token of the proxy's own")
    if not token.isascii() or not token.isprintable() or re.search(r"[\s,]", token):
        raise MalformedUser("the token contains a space, a comma or a character that an HTTP header cannot carry")
    if len(token) < MIN_LENGTH:
        raise MalformedUser(f"the token has fewer than {MIN_LENGTH} characters and can be guessed")
    return Secret(token)


def parse_entry(text: str) -> User:
    """Read ``name=token`` or ``name=sha256:<64 hexadecimal digits>``; raise ``MalformedUser``."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        colon = "; write = in place of the colon" if _COLON.match(text) else ""
        raise MalformedUser(f"expected name=token{colon}")
    if value[:1] in _QUOTES and value[-1:] in _QUOTES and len(value) > 1:
        raise MalformedUser("the token has quotes around it, which would be a part of it; remove them")
    if value.startswith(_OTHER_HASHES):
        raise MalformedUser(f"the token is a hash of another kind; only the SHA-256 of a token is read: name={HASH_PREFIX}...")
    if value.endswith((",", ";")):
        raise MalformedUser(f"the token ends with {value[-1]}; remove it, and write one user a line")
    if value.startswith(HASH_PREFIX):
        digest = value.removeprefix(HASH_PREFIX).lower()
        if not _HASH.fullmatch(digest):
            raise MalformedUser(f"after {HASH_PREFIX} the 64 hexadecimal digits of a hash are expected")
        return User(check_name(name), digest)
    token = check_token(value)
    return User(check_name(name), digest_of(token), token)


def check_unique(user: User, others: Iterable[User], forbidden: Mapping[str, str]) -> None:
    """Raise ``MalformedUser`` if the name or the token is already used."""
    if user.digest in forbidden:
        raise MalformedUser(f"the token is also {forbidden[user.digest]}; each user needs a token of their own")
    for other in others:
        if folded(user.name) == folded(other.name):
            case = (
                ""
                if user.name == other.name
                else f", and {user.name!r} is the same name: upper and lower case are not distinguished"
            )
            raise MalformedUser(f"a user named {other.name!r} already exists{case}")
        if hmac.compare_digest(user.digest, other.digest):
            raise MalformedUser(f"the token is also that of {other.name!r}; each user needs a token of their own")


def parse_list(text: str) -> list[tuple[str, str]]:
    """Split a variable's ``name=token,name=token`` into entries, each with its place in words."""
    entries = [entry for entry in re.split(r"[,\s]+", re.sub(r"[ \t]*=[ \t]*", "=", text)) if entry]
    return [(f"entry {place}", entry) for place, entry in enumerate(entries, start=1)]


def parse_lines(content: bytes) -> list[tuple[str, str]]:
    """Split a file into entries, one per line, without comments and empty lines. A line need not be valid UTF-8."""
    texts = ((f"line {number}", _COMMENT.sub("", text_of(line))) for number, line in enumerate(content.splitlines(), start=1))
    return [(place, text.strip()) for place, text in texts if text.strip()]


def text_of(line: bytes) -> str:
    """Return the text of a line, without the byte order marks (U+FEFF) that joined files contain."""
    return line.decode("utf-8", "replace").replace("\ufeff", "")


def parse_users(
    entries: Iterable[tuple[str, str]], known: Iterable[User] = (), forbidden: Mapping[str, str] | None = None
) -> tuple[tuple[User, ...], tuple[str, ...]]:
    """Return the users of the entries, and an error for each entry that is not a user.

    No name and no token may be used twice, including those of ``known``. ``forbidden`` maps the digest of each other secret of
    the proxy to its name: a user's token must not be one of them.
    """
    others, forbidden = list(known), forbidden or {}
    found: list[User] = []
    mistakes: list[str] = []
    for place, text in entries:
        try:
            user = parse_entry(text)
            check_unique(user, (*others, *found), forbidden)
        except MalformedUser as error:
            mistakes.append(f"{place}: {error}")
        else:
            found.append(user)
    return tuple(found), tuple(mistakes)


class UnsafeFile(Exception):
    """A users file that other users of the machine may write or replace. The message is for the operator."""


def read_file(path: Path) -> tuple[bytes, os.stat_result] | None:
    """Return the content of the users file and the status it was read with; None if it is not a file.

    Raises ``UnsafeFile`` if anyone but its owner may write the file or its folder, and could add users. As for SSH's
    ``authorized_keys``, this includes the group. In a folder with the sticky bit only its owner can replace a file. The owner
    itself is not checked: in a container it is often a user of the host.
    """
    # Non-blocking: the path may be a pipe.
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
    """Return the folder of a path and the folder of the file that it links to; only one if they are the same."""
    return tuple(dict.fromkeys((path.parent.absolute(), path.resolve().parent)))


def _unsafe(what: str, path: Path, status: os.stat_result) -> str:
    mode = stat.S_IMODE(status.st_mode)
    return f"{what} that others may write ({path}, mode {mode:03o}); its users are refused until you run `chmod go-w {path}`"


class UserBook:
    """All users who currently have a token of their own. One per process, used only by its event loop.

    1. The users of the variable stay as long as the process runs.
    2. The users of the file stay as long as their lines do; a deleted file has no users.
    3. A malformed line is no user. It is logged once, and so is a file that cannot be read; the users of that file stay as they
       were last read.
    4. A plain LiteLLM without a token is not open if a users file is named, or once existed.
    5. A file that anyone but its owner may write has no users until that is fixed.
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
        # Whether there was no file when it was last checked: its folders are then irrelevant.
        self._absent = False
        self._settled = False
        self._seen = named
        # Set once the process has its keys.
        self.sign_ins: SignIns | None = None

    def all_users(self) -> tuple[User, ...]:
        """Return the current users; a changed file is read again."""
        self._reload_if_changed()
        return (*self.fixed, *self._filed)

    def find(self, tokens: Iterable[Secret]) -> tuple[User, Secret] | None:
        """Return the user with one of these tokens, and that token. Compares every entry, in constant time."""
        found = None
        users = self.all_users()
        for token in tokens if users else ():
            digest = digest_of(token)
            for user in users:
                if hmac.compare_digest(user.digest, digest):
                    found = found or (user, token)
        return found

    def signed_in(self, tokens: Iterable[Secret]) -> tuple[SignedIn, Secret] | None:
        """Return who has signed in with one of these tokens, and that token."""
        if self.sign_ins is None:
            return None
        for token in tokens:
            if found := self.sign_ins.find(token):
                return found, token
        return None

    def stands(self, signed_in: SignedIn) -> bool:
        """Whether a sign-in is still valid."""
        return self.sign_ins is not None and self.sign_ins.stands(signed_in)

    @property
    def closed(self) -> bool:
        """Whether users exist, or a users file is named or once existed: then a plain LiteLLM is not open."""
        return bool(self.fixed) or self._seen

    @property
    def mistakes(self) -> tuple[str, ...]:
        """An error for each malformed line of the file as it was last read, or for the file itself."""
        return self._mistakes

    @property
    def unsafe(self) -> str:
        """The error of a file that others may write, when it was last checked; empty if there is none."""
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
                self._log_once(("the path is not a file",))
                return
            content, status = found
        except UnsafeFile as error:
            self._filed, self._stamp, self._settled, self._seen = (), (), False, True
            self._unsafe = str(error)
            self._log_once((self._unsafe,))
        except FileNotFoundError:
            gone = self._stamp is not None
            self._filed, self._stamp, self._settled, self._unsafe, self._absent = (), None, False, "", True
            self._log_once((f"{self.path} was removed; its users are refused",) if gone else (), prefix="")
        except OSError as error:
            self._settled, self._seen = False, True
            self._log_once((f"the file cannot be read ({error.strerror}); its users stay as they were last read",))
        else:
            self._seen, self._unsafe, self._absent = True, "", False
            self._stamp, self._folders = _stamp(status), modes
            self._settled = abs(self._clock() - status.st_mtime) > SETTLED_SECONDS
            self._filed, mistakes = parse_users(parse_lines(content), self.fixed, self.forbidden)
            self._log_once(mistakes)

    def _log_once(self, mistakes: tuple[str, ...], prefix: str = f"{FILE_VARIABLE}: ") -> None:
        for mistake in mistakes:
            if mistake not in self._mistakes:
                logger.warning("%s%s", prefix, mistake)
        self._mistakes = mistakes


def _modes(found: Iterable[Path]) -> dict[Path, int]:
    return {folder: folder.stat().st_mode for folder in found}


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev
