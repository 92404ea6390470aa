"""A proxy's folder: its .env and config.yaml, where its state is, and the environment that follows from them."""

import os
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from claude_proxy.config import models
from claude_proxy.config.settings import OWN_USERS_FILE, SECRET_NAMES, SettingsError, read_secret_file, secret_file
from claude_proxy.config.users import FILE_VARIABLE
from claude_proxy.litellm import database

ROOT = Path(__file__).resolve().parents[2]
# Docker's compose file names a Redis here that is there with the profile scale only.
PEER_REDIS = "CLAUDE_PROXY_PEER_REDIS"
# And here the folder with a PostgreSQL's socket, which is there with the profile db only.
PEER_DATABASE = "CLAUDE_PROXY_PEER_DATABASE"


def users_path(project: Path, data: Path | None) -> Path:
    """Return the file of the people's tokens: the one that is named, or the one beside the pool's state."""
    named = os.environ.get(FILE_VARIABLE)
    return Path(named) if named else state_folder(project, data) / "users"


def state_folder(project: Path, data: Path | None) -> Path:
    """Return where the proxy keeps what it writes while it runs."""
    return data or project / ".state"


def config_path(project: Path, data: Path | None) -> Path:
    """Return the project's ``config.yaml``, or the copy of the example that ``prepare`` made."""
    path = project / "config.yaml"
    if not present(path):
        return (data or project) / "config.yaml"
    if not os.access(path, os.R_OK):
        mistake = f"{path.resolve()}: the user that the proxy runs as cannot read it; `chmod a+r config.yaml` lets it"
        raise models.ConfigError((mistake,))
    return path


def present(path: Path) -> bool:
    """Whether the file is there. Raises ``ConfigError`` for a folder in its place, and where that cannot be known."""
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False
    except PermissionError as error:
        mistake = (
            f"{path.resolve().parent}: the user that the proxy runs as cannot look into this folder; `chmod a+rx` on it "
            "lets it (in Docker it is the folder with docker-compose.yml)"
        )
        raise models.ConfigError((mistake,)) from error
    if folder:
        raise models.ConfigError((f"{path.resolve()}: is a folder and should be a file; remove it, or put the file there",))
    return True


def load_environment(project: Path, data: Path | None) -> None:
    """Fill the environment from ``.env``; what is set already stays, and what is empty counts as not set.

    A ``.env`` that cannot be read was given by Docker's ``env_file``. Generated tokens stay in force beside a ``.env`` of the
    project's that leaves them empty: adding one opens nothing.
    """
    for name in known_values(ROOT / ".env.example"):
        if not os.environ.get(name):
            os.environ.pop(name, None)
    for path in (project / ".env", *([data / ".env"] if data else [])):
        if present(path) and os.access(path, os.R_OK):
            for name, value in known_values(path).items():
                if value and not secret_file(name, os.environ):
                    os.environ.setdefault(name, value)
    users = users_path(project, data)
    # Named, the file keeps the proxy closed whatever becomes of it; while there is none, it is only looked for.
    os.environ[FILE_VARIABLE if present(users) else OWN_USERS_FILE] = str(users)
    peer = os.environ.get(PEER_REDIS, "")
    named = os.environ.get("REDIS_URL") or os.environ.get("REDIS_URL_FILE")
    if peer and not named and resolves(urlsplit(peer).hostname or ""):
        os.environ["REDIS_URL"] = peer
    folder = os.environ.get(PEER_DATABASE, "")
    named = os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE")
    if folder and not named and database.comes_up(Path(folder), os.environ.get(database.CLIENT, "")):
        os.environ["DATABASE_URL"] = database.socket_url(Path(folder))


def resolves(host: str) -> bool:
    """Whether a service of that name is there: Docker knows the names of the services that run."""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def read_secret_files(environ: dict[str, str] | os._Environ[str], names: set[str]) -> None:
    """Set each provider key whose ``NAME_FILE`` names a file; the project's own secrets are read by ``Settings``."""
    mistakes: list[str] = []
    for name in sorted(names - set(SECRET_NAMES)):
        path = environ.get(f"{name}_FILE")
        if path and not environ.get(name):
            try:
                environ[name] = read_secret_file(name, path)
            except SettingsError as error:
                mistakes += error.mistakes
    if mistakes:
        raise SettingsError(tuple(mistakes))


def known_values(path: Path) -> dict[str, str]:
    """Return what a ``.env`` holds, without touching the environment."""
    try:
        return {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}
    except UnicodeDecodeError as error:
        raise models.ConfigError((f"{path}: is not UTF-8 text; save it as UTF-8",)) from error
