"""A PostgreSQL of its own in a process, with LiteLLM's tables in it, and Prisma's client for Python to reach it with."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from claude_proxy.litellm.database import schema, socket_url

ROOT = Path(__file__).resolve().parents[2]
QUERY_ENGINE = Path(__file__).parent / "query_engine"
LOCK = ROOT / "requirements-database.lock"


class Postgres:
    """Start it, ask it, stop it. It listens on a socket in its folder only."""

    def __init__(self) -> None:
        self._programs = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", self.folder / "data", "-U", "litellm", "-A", "trust", "--no-sync")
        self.start()
        self.sql("CREATE DATABASE litellm", "postgres")
        self.sql("\n".join(migration.read_text(encoding="utf-8") for migration in migrations()))

    @property
    def url(self) -> str:
        return socket_url(self.folder)

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", self.folder / "data", "-o", options, "-l", self.folder / "log", "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "fast", "-w", "stop")

    def sql(self, statements: str, name: str = "litellm") -> str:
        command = ["psql", "-h", self.folder, "-U", "litellm", "-d", name, "-qAt", "-v", "ON_ERROR_STOP=1"]
        return self._run(*command, text=statements)

    def everything(self) -> str:
        """All that stands in the tables."""
        return self._run("pg_dump", "-h", self.folder, "-U", "litellm", "--data-only", "litellm")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: object, text: str = "") -> str:
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, str(self._programs / program), *map(str, arguments)]
        # What a server writes goes to its log; a pipe would stay open as long as it runs.
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run(command, cwd="/", input=text, stdout=out, stderr=subprocess.STDOUT, text=True, check=False)
            out.seek(0)
            said = out.read()
        assert done.returncode == 0, f"{program}: {said[-2000:]}"
        return said


def programs() -> Path:
    """Return the folder with PostgreSQL's programs, which Debian does not put on the path; skip where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        pytest.skip("PostgreSQL is not installed")
    return (found[-1] if found else Path(on_path or "").resolve()).parent


def migrations() -> list[Path]:
    """Return LiteLLM's migrations in their order. Prisma would apply the same files, with an engine that it downloads."""
    package = importlib.util.find_spec("litellm_proxy_extras")
    assert package
    assert package.submodule_search_locations
    return sorted(Path(package.submodule_search_locations[0], "migrations").glob("2*/migration.sql"))


def client() -> Path:
    """Return a folder with Prisma's client as LiteLLM's schema wants it, and beside it an engine; made once for each lock."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Node and npm are not installed, so there is no query engine")
    modules = QUERY_ENGINE / "node_modules"
    if not (modules / ".package-lock.json").exists():
        run(npm, "ci", "--silent", "--ignore-scripts", cwd=QUERY_ENGINE)
    folder = modules / f".client-{sys.version_info.major}.{sys.version_info.minor}"
    made = folder / "requirements-database.lock"
    if made.exists() and made.read_bytes() == LOCK.read_bytes():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes", "--no-deps"]
    run(*pip, "--target", str(folder), "-r", str(LOCK))
    (folder / "schema.prisma").write_text(schema(), encoding="utf-8")
    engine = str(QUERY_ENGINE / "engine.mjs")
    variables = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        # Named, so that Prisma does not download them; no program of its own is run here.
        "PRISMA_QUERY_ENGINE_BINARY": engine,
        "PRISMA_SCHEMA_ENGINE_BINARY": engine,
        "PRISMA_CLI_QUERY_ENGINE_TYPE": "binary",
        "CHECKPOINT_DISABLE": "1",
    }
    command = [node, str(modules / "prisma" / "build" / "index.js"), "generate", "--schema", str(folder / "schema.prisma")]
    run(*command, **variables)
    (folder / "query-engine").symlink_to(engine)
    shutil.copy(LOCK, made)
    return folder


def run(*command: str, cwd: Path = ROOT, **variables: str) -> None:
    done = subprocess.run(command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-1000:]}{done.stderr[-2000:]}"


def in_time(ready: object) -> bool:
    """Whether something becomes true within half a minute: what LiteLLM does after an answer has left."""
    poll = threading.Event()
    return any(ready() or poll.wait(0.2) for _ in range(150))
