"""LiteLLM's own database, if ``DATABASE_URL`` names one: Prisma's client for Python and the tables. Used only at the start."""

import importlib.util
import os
import re
import socket
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from claude_proxy.config.settings import SettingsError

# A folder with Prisma's client, generated for LiteLLM's tables, if it is not installed beside LiteLLM.
CLIENT = "CLAUDE_PROXY_DATABASE_CLIENT"
# The name of PostgreSQL's socket in its socket folder.
SOCKET = ".s.PGSQL.5432"
USER = NAME = "litellm"
# How long a proxy that has used a database waits for it at its start.
WAIT_SECONDS = 20.0
# How long a start waits for a connection, in seconds; and PostgreSQL's port.
CONNECT_SECONDS = 3.0
PORT = 5432


def prepare(environ: MutableMapping[str, str]) -> None:
    """Make Prisma's client importable, in this process and in the workers, and migrate the tables.

    LiteLLM's ``DISABLE_SCHEMA_UPDATE=true`` skips the migration. Raises ``SettingsError`` if either fails.
    """
    folder = environ.get(CLIENT, "")
    if folder:
        sys.path.append(folder)
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (environ.get("PYTHONPATH", ""), folder)))
        engine = Path(folder) / "query-engine"
        if engine.exists():
            environ.setdefault("PRISMA_QUERY_ENGINE_BINARY", str(engine))
    if not is_generated():
        raise SettingsError(
            ("DATABASE_URL: needs Prisma's client: `make database` installs it; in Docker it comes with the profile db",)
        )
    if problem := connection_problem(environ.get("DATABASE_URL", "")):
        raise SettingsError((f"DATABASE_URL: {problem}; start the database, or correct DATABASE_URL",))
    if environ.get("DISABLE_SCHEMA_UPDATE", "").lower() != "true":
        update_tables()


def connection_problem(url: str) -> str:
    """Return why a PostgreSQL accepts no connection, without the address's password; empty when it accepts one.

    LiteLLM (1.106.2) does not start without its database, and does not name it in its error.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
    except ValueError:
        return ""
    folder = parse_qs(parts.query).get("host", [""])[0]
    if not folder and not parts.hostname:
        return ""
    where = f"the socket in {folder}" if folder else f"{parts.hostname}:{port}"
    try:
        if folder:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(CONNECT_SECONDS)
                probe.connect(str(Path(folder) / f".s.PGSQL.{port}"))
        else:
            socket.create_connection((str(parts.hostname), port), CONNECT_SECONDS).close()
    except OSError as error:
        return f"no database accepts connections at {where} ({error.strerror or type(error).__name__})"
    return ""


def is_generated() -> bool:
    """Whether a generated Prisma client for Python is installed; before it is generated it has no ``client``."""
    package = importlib.util.find_spec("prisma")
    return package is not None and any(
        (Path(folder) / "client.py").exists() for folder in package.submodule_search_locations or ()
    )


def schema() -> str:
    """Return LiteLLM's Prisma schema with an engine for this platform only, instead of five."""
    package = importlib.util.find_spec("litellm")
    folder = next(iter(package.submodule_search_locations or ())) if package else ""
    text = (Path(folder) / "proxy" / "schema.prisma").read_text(encoding="utf-8")
    return re.sub(r"^\s*binaryTargets\s*=.*\n", "", text, flags=re.MULTILINE)


def update_tables() -> None:
    """Migrate the tables to this version of LiteLLM; raise ``SettingsError`` if that fails."""
    from litellm_proxy_extras.utils import ProxyExtrasDBManager  # noqa: PLC0415 - late: only with a database

    try:
        done = ProxyExtrasDBManager.run_migration_job(use_migrate=True, use_v2_resolver=True)
    except RuntimeError as error:
        raise SettingsError((f"DATABASE_URL: the tables cannot be migrated: {error}",)) from error
    if not done:
        raise SettingsError(("DATABASE_URL: the tables cannot be migrated; the lines above say why",))


def listens(folder: Path) -> bool:
    """Whether PostgreSQL accepts connections at this folder's socket. A killed server leaves its socket behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(folder / SOCKET))
        except OSError:
            return False
    return True


def comes_up(folder: Path, client: str, seconds: float = WAIT_SECONDS, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether PostgreSQL accepts connections in this folder. If Prisma's client is there, PostgreSQL gets time to start.

    When the machine starts, Docker starts all containers at the same time.
    """
    tries = int(seconds) if (Path(client) / "prisma").exists() else 0
    for _ in range(tries):
        if listens(folder):
            return True
        sleep(1)
    return listens(folder)


def socket_url(folder: Path) -> str:
    """Return the URL of the PostgreSQL behind a folder's socket. There is no password: access to the folder is enough."""
    return f"postgresql://{USER}@localhost/{NAME}?host={folder}"


if __name__ == "__main__":  # prints the schema, or with `update` works on the tables
    if sys.argv[1:] == ["update"]:
        update_tables()
    else:
        sys.stdout.write(schema())
