"""The static token: the word that opens the proxy, and the token that a start generates where nothing else is set."""

import os
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "PROXY_STATIC_TOKEN"
# In place of a token: everyone who can reach the port may use the proxy. Nothing else opens a proxy that `serve` started.
OPEN = "open"
# The generated token's file, in the folder that holds the proxy's state.
NAME = "token"
# Under this name the launcher passes that file's path on. Where it is set, a proxy without any token is closed, and not open as
# a plain LiteLLM with custom_auth.py is.
OWN_FILE = "CLAUDE_PROXY_TOKEN_FILE"
# Any of these says who may use the proxy, so that no token is generated.
ACCESS_VARIABLES = (VARIABLE, "PROXY_USER_TOKENS", "DATABASE_URL")


class UnusableToken(Exception):
    """The file of the generated token cannot be used. The message is for the operator and holds no secret."""


def opens(value: str, *, database: bool) -> tuple[bool, list[str]]:
    """Return whether PROXY_STATIC_TOKEN is the word that opens the proxy, and its errors.

    Another spelling of the word is an error, and not a token that everyone can guess.
    """
    if value != OPEN:
        close = value.casefold() == OPEN
        return False, [
            f"{VARIABLE}: is {value!r}; write `{OPEN}` to let everyone use the proxy, or set a token"
        ] if close else []
    problem = f"{VARIABLE}: is `{OPEN}`, so nobody would need the virtual keys of DATABASE_URL; set only one of the two"
    return True, [problem] if database else []


def is_needed(environ: MutableMapping[str, str]) -> bool:
    """Whether nothing says who may use the proxy: no static token, no user, no file of users, no database."""
    names = (*ACCESS_VARIABLES, *(f"{name}_FILE" for name in ACCESS_VARIABLES))
    return not any(environ.get(name, "").strip() for name in names)


def use_generated(path: Path, environ: MutableMapping[str, str]) -> None:
    """Use the generated token where there is one and no other is set; from then on the proxy is never open by omission.

    It stays valid when users or a database are added later: a restart locks out nobody who had a valid token. Raises
    ``UnusableToken``.
    """
    environ[OWN_FILE] = str(path)
    if environ.get(VARIABLE, "").strip() or environ.get(f"{VARIABLE}_FILE"):
        return
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a token"
        raise UnusableToken(f"{path}: the generated token cannot be read ({reason}); {_remedy(path)}") from error
    if not text or text == OPEN:
        raise UnusableToken(f"{path}: holds no token; {_remedy(path)}")
    environ[VARIABLE] = text


def _remedy(path: Path) -> str:
    owner = "make it readable for the user that runs the proxy, " if os.path.lexists(path) else ""
    return f"{owner}set {VARIABLE}, or remove the file so that the next start generates a new token"
