"""A proxy's folder: its .env and config.yaml, made where they are missing, where its state is, and what follows from them."""

import contextlib
import logging
import os
import secrets
import socket
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from claude_proxy.check.placing import in_words
from claude_proxy.config import models, signing_keys, static_token
from claude_proxy.config.credentials_file import FILE_VARIABLE as CREDENTIALS_VARIABLE
from claude_proxy.config.credentials_file import NAME as CREDENTIALS_NAME
from claude_proxy.config.credentials_file import OWN_FILES
from claude_proxy.config.settings import (
    OWN_USERS_FILE,
    SECRET_NAMES,
    VARIABLES,
    Settings,
    SettingsError,
    read_secret_file,
    secret_file,
)
from claude_proxy.config.users import FILE_VARIABLE
from claude_proxy.litellm import database

ROOT = Path(__file__).resolve().parents[2]
# Tokens that a new ``.env`` gets at random.
GENERATED = ("PROXY_STATIC_TOKEN", "LITELLM_MASTER_KEY")
# Docker's compose file names a Redis here that is there with the profile scale only.
PEER_REDIS = "CLAUDE_PROXY_PEER_REDIS"
# The port that users reach: the load balancer's, which is there with the same profile.
PUBLISHED_PORT = "CLAUDE_PROXY_PUBLISHED_PORT"
# And here the folder with a PostgreSQL's socket, which is there with the profile db only.
PEER_DATABASE = "CLAUDE_PROXY_PEER_DATABASE"
# And here where it has mounted the project's folder, of which the image has links to two files only.
MOUNTED_PROJECT = "CLAUDE_PROXY_PROJECT"


def other_clone() -> Path | None:
    """Return the clone that the current folder is in, if this command belongs to another one."""
    try:
        folder = Path.cwd()
    except OSError:  # it was removed
        return None
    own = Path("claude_proxy", "cli", Path(__file__).name)
    found = next((one for one in (folder, *folder.parents) if os.path.isfile(one / own)), ROOT)  # noqa: PTH113 - never raises
    return None if found.resolve() == ROOT else found


def users_path(project: Path, data: Path | None) -> Path:
    """Return the path of the users file: the configured one, or the one in the state folder."""
    named = os.environ.get(FILE_VARIABLE)
    return Path(named) if named else state_folder(project, data) / "users"


def state_folder(project: Path, data: Path | None) -> Path:
    """Return the folder for what the proxy writes while it runs."""
    return data or project / ".state"


def config_path(project: Path, data: Path | None) -> Path:
    """Return the project's ``config.yaml``, or the copy of the example that ``prepare`` made."""
    path = project / "config.yaml"
    if not present(path):
        return (data or project) / "config.yaml"
    if not os.access(path, os.R_OK):
        mistake = f"{path.resolve()}: the user that runs the proxy cannot read it; run `chmod a+r config.yaml`"
        raise models.ConfigError((mistake,))
    return path


def present(path: Path) -> bool:
    """Whether the file exists. Raises ``ConfigError`` for a folder in its place, and if it cannot be determined."""
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False
    except NotADirectoryError as error:
        mistake = f"{path.parent.absolute()}: is a file and should be a folder; remove it, and the start makes the folder"
        raise models.ConfigError((mistake,)) from error
    except PermissionError as error:
        mistake = (
            f"{path.resolve().parent}: the user that runs the proxy cannot open this folder; run `chmod a+rx` on it "
            "(in Docker it is the folder with docker-compose.yml)"
        )
        raise models.ConfigError((mistake,)) from error
    if folder:
        raise models.ConfigError(
            (f"{path.resolve()}: is a folder and should be a file; remove it, or put the file in its place",)
        )
    return True


def load_environment(project: Path, data: Path | None, *, starts: bool = False) -> None:
    """Fill the environment from ``.env``; what is set already stays, and what is empty counts as not set.

    Only a proxy that starts waits for a database of Docker's; every other command takes it as it is.

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
    os.environ[signing_keys.OWN_FILE] = str(state_folder(project, data) / signing_keys.NAME)
    place_credentials_file(project, data)
    use_generated_token(project, data)
    peer = os.environ.get(PEER_REDIS, "")
    named = os.environ.get("REDIS_URL") or os.environ.get("REDIS_URL_FILE")
    if peer and resolves(urlsplit(peer).hostname or ""):
        os.environ[PUBLISHED_PORT] = os.environ.get("SCALE_PORT") or VARIABLES["SCALE_PORT"].default
        if not named:
            os.environ["REDIS_URL"] = peer
    folder = os.environ.get(PEER_DATABASE, "")
    named = os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE")
    seconds = database.WAIT_SECONDS if starts else 0.0
    if folder and not named and database.comes_up(Path(folder), os.environ.get(database.CLIENT, ""), seconds):
        os.environ["DATABASE_URL"] = database.socket_url(Path(folder))


def use_generated_token(project: Path, data: Path | None) -> None:
    """Use the token that an earlier start generated, where no other is set. Raises ``ConfigError`` when it cannot be read."""
    try:
        static_token.use_generated(state_folder(project, data) / static_token.NAME, os.environ)
    except static_token.UnusableToken as error:
        raise models.ConfigError((str(error),)) from error


def is_generated(project: Path, data: Path | None) -> bool:
    """Whether the static token is the one that a start has generated."""
    path = state_folder(project, data) / static_token.NAME
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii").strip() == os.environ.get(static_token.VARIABLE)
    return False


def generate_token(project: Path, data: Path | None) -> list[Path]:
    """Generate a token where nothing says who may use the proxy; return the file that was written.

    Replicas with one volume use the same token: the first one's file stays.
    """
    if not static_token.is_needed(os.environ):
        return []
    folder = state_folder(project, data)
    path = folder / static_token.NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, f"{generated_token()}\n")
    except OSError as error:
        mistake = (
            f"{folder}: cannot be written ({error.strerror}), so no token can be kept there; make the folder writable for the "
            "user that runs the proxy, or set PROXY_STATIC_TOKEN"
        )
        raise models.ConfigError((mistake,)) from error
    use_generated_token(project, data)
    return [path]


def place_credentials_file(project: Path, data: Path | None) -> None:
    """Say where ``credentials.yaml`` is: as it is named, from the project's folder on; else there, or among the data."""
    project = Path(os.environ.get(MOUNTED_PROJECT) or project)
    if named := os.environ.get(CREDENTIALS_VARIABLE, "").strip():
        os.environ[CREDENTIALS_VARIABLE] = str(project.absolute() / Path(named).expanduser())
        return
    found = [folder.absolute() / CREDENTIALS_NAME for folder in (project, data) if folder]
    os.environ[OWN_FILES] = "\n".join(map(str, found))


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
    # The checks report the lines that are not read, each with its cause.
    logging.getLogger("dotenv").setLevel(logging.ERROR)
    try:
        return {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}
    except UnicodeDecodeError as error:
        raise models.ConfigError((f"{path}: is not UTF-8 text; save it as UTF-8",)) from error


def checked(path: Path) -> tuple[dict[str, Any], Settings]:
    """Return what config.yaml and the environment hold; raise ``SettingsError`` with the mistakes of both together."""
    mistakes: list[str] = []
    loaded: dict[str, Any] = {}
    settings: Settings | None = None
    try:
        loaded = models.load(path)
        read_secret_files(os.environ, models.variables(loaded))
    except (models.ConfigError, SettingsError) as error:
        mistakes += in_words(error.mistakes, path)
    try:
        settings = Settings.parse(os.environ)
    except SettingsError as error:
        mistakes += error.mistakes
    if mistakes or settings is None:
        raise SettingsError(tuple(mistakes))
    return loaded, settings


def prepare(project: Path, data: Path | None) -> list[Path]:
    """Write ``.env``, with random tokens and mode 600, and ``config.yaml`` where they are missing; return what was written.

    With a ``data`` folder the project's own is not touched: the tokens go to ``data/.env``, and the example serves as config.
    It is copied anew at each start, so that it is this version's.
    """
    written = []
    home = data or project
    target = home / ".env"
    try:
        if not present(project / ".env") and not present(target):
            lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
            wanted = [f"{name}=" for name in GENERATED if not os.environ.get(f"{name}_FILE")]
            filled = [f"{line}{generated_token()}" if line in wanted else line for line in lines]
            write_private(target, "\n".join(filled) + "\n")
            written.append(target)
        if not present(project / "config.yaml"):
            # A copy even so: LiteLLM passes over a file whose name does not end in .yaml, and starts without any rule.
            (home / "config.yaml").write_text((ROOT / "config.yaml.example").read_text(encoding="utf-8"), encoding="utf-8")
            if data is None:
                written.append(home / "config.yaml")
    except OSError as error:
        mistake = f"{home}: cannot be written ({error.strerror}); make it writable for the user that runs the proxy"
        raise models.ConfigError((mistake,)) from error
    return written


def generated_token() -> str:
    """Return a new random token, in the form that LiteLLM likes for its master key."""
    return f"sk-{secrets.token_hex(32)}"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first moment, and whole: half a ``.env`` would be an open proxy.

    Of two processes that do so at once, such as two replicas with one volume, the first one's file stays.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(part)
    finally:
        part.unlink()
