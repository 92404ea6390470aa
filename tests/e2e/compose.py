"""A copy of this repository under Docker Compose, on whatever engine the machine has."""

import fcntl
import functools
import itertools
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import yaml

from claude_proxy.config.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
# Where machines without an engine of their own may keep a script that makes one.
ENGINE_UP = ROOT.parent / "shared" / "docker" / "engine-up"
# For machines that reach no registry of images: Debian's programs under the official images' names. All begin with the same
# two lines, so that Debian's lists are read once.
STAND_INS = {
    "caddy:2-alpine": """
FROM debian:bookworm-slim
RUN apt-get update
RUN apt-get install -y --no-install-recommends caddy netcat-openbsd
ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/config
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
""",
    "postgres:17-alpine": r"""
FROM debian:bookworm-slim
RUN apt-get update
RUN apt-get install -y --no-install-recommends postgresql
RUN printf '%s\n' '#!/bin/sh -e' \
    'export PATH="$(echo /usr/lib/postgresql/*/bin):$PATH"' \
    'mkdir -p "$PGDATA"; chown -R postgres "$PGDATA" /var/run/postgresql; chmod 700 "$PGDATA"; chmod 3777 /var/run/postgresql' \
    'as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }' \
    'if [ ! -s "$PGDATA/PG_VERSION" ]; then' \
    '  as initdb -U "$POSTGRES_USER" -A "$POSTGRES_HOST_AUTH_METHOD" >/dev/null' \
    '  echo "CREATE DATABASE $POSTGRES_DB" | as postgres --single postgres >/dev/null' \
    'fi' \
    'exec setpriv --reuid postgres --regid postgres --clear-groups "$@"' > /usr/local/bin/start \
    && chmod 755 /usr/local/bin/start
STOPSIGNAL SIGINT
ENTRYPOINT ["start"]
CMD ["postgres"]
""",
    "redis:7-alpine": """
FROM debian:bookworm-slim
RUN apt-get update
RUN apt-get install -y --no-install-recommends redis-server
RUN install -d -o redis -g redis /data
USER redis
WORKDIR /data
CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"]
""",
}
# A provider beside the proxy, at http://upstream:8000.
UPSTREAM = """
services:
  upstream:
    image: python:3.13-slim-bookworm
    init: true
    command: [python, /upstream.py]
    volumes: ["./tests/e2e/docker_upstream.py:/upstream.py:ro"]
    ports: {ports}
    healthcheck:
      test: [CMD, python, -c, "import socket; socket.create_connection(('127.0.0.1', 8000))"]
      interval: 1s
"""
_numbers = itertools.count(1)
TLS_ROOT = "/data/caddy/pki/authorities/local/root.crt"
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "Are you there?"}]}
# While a service starts it is checked more often, where the engine can do that (from Docker 25 on), and seldom afterwards: a
# check starts a process in the container.
OFTEN, OFTEN_FROM = "often.yml", (1, 44)
# For how long a service may start, in seconds: other tests start theirs on the same processors.
PATIENCE = 300


def engine_environment() -> dict[str, str]:
    """Return the environment in which ``docker`` reaches an engine; skip the test where there is none."""
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES and not name.startswith("COMPOSE_")}
    if answers(inherited):
        return inherited
    if not ENGINE_UP.exists():
        pytest.skip("no Docker engine with Compose: `docker version` or `docker compose version` does not answer")
    # The script writes Docker's programs anew, which nobody can start meanwhile: it runs once for all processes of the tests.
    with (Path(tempfile.gettempdir()) / "claude-proxy-tests-engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = own_engine(inherited)
        if not answers(environment):
            subprocess.run([ENGINE_UP], env=inherited, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            environment = own_engine(inherited)
        assert answers(environment), f"{ENGINE_UP} made no engine that answers"
    return environment


def own_engine(inherited: dict[str, str]) -> dict[str, str]:
    """Return the environment that reaches the engine of ``ENGINE_UP``, or ``inherited`` before there is one."""
    found = '. "${LAB:-${TMPDIR:-/tmp}/docker-engine}/env.sh" 2>/dev/null; env -0'
    printed = subprocess.run(["bash", "-c", found], env=inherited, check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in printed.split("\0") if line)


def have_image(engine: dict[str, str], name: str) -> None:
    """See that an image is there which the machine may not be able to pull; skip the test where it cannot be had."""
    found = ["docker", "image", "inspect", name]
    if subprocess.run(found, env=engine, capture_output=True, check=False).returncode == 0:
        return
    if ENGINE_UP.exists() and name in STAND_INS:
        subprocess.run(
            ["docker", "build", "--quiet", "--tag", name, "-"],
            input=STAND_INS[name], env=engine, check=True, capture_output=True, text=True,
        )  # fmt: skip
    elif subprocess.run(["docker", "pull", name], env=engine, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"the image {name} cannot be had here")


def answers(environment: dict[str, str]) -> bool:
    if not shutil.which("docker", path=environment.get("PATH")):
        return False
    commands = (["docker", "version"], ["docker", "compose", "version"])
    return all(
        subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0 for command in commands
    )


def api_version(environment: dict[str, str]) -> tuple[int, ...]:
    """Return the newest version of Docker's interface that the engine speaks."""
    asked = ["docker", "version", "--format", "{{.Server.APIVersion}}"]
    said = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.strip().split("."))


def checked_often(compose_file: Path, *more: str) -> str:
    """Return what to put beside a compose file: its services, and ``more``, count as healthy soon after they are."""
    services = [*yaml.safe_load(compose_file.read_text(encoding="utf-8"))["services"], *more]
    often = {"healthcheck": {"start_interval": "2s", "start_period": f"{PATIENCE}s", "interval": "1m"}}
    return yaml.safe_dump({"services": dict.fromkeys(services, often)})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def clone(folder: Path) -> None:
    """Copy what git knows or would take: what a clone of the work at hand would hold, so no ``.env`` and no ``config.yaml``."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@dataclass
class Compose:
    """One project of Docker Compose in a folder of its own, reached on loopback. ``down`` takes everything of it away."""

    folder: Path
    engine: dict[str, str]
    port: int = field(default_factory=free_port)
    scale_port: int = field(default_factory=free_port)
    https_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    profiles: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"claude-proxy-test-{os.getpid()}-{next(_numbers)}")

    def __post_init__(self) -> None:
        self.folder.chmod(0o755)  # pytest's own are private, which a clone is not
        clone(self.folder)
        self._check_often()

    def _check_often(self, *more: str) -> None:
        if api_version(self.engine) >= OFTEN_FROM:
            (self.folder / OFTEN).write_text(checked_often(self.folder / "docker-compose.yml", *more), encoding="utf-8")

    def add_upstream(self, *models: str, port: int | None = None) -> None:
        """Have ``docker_upstream.py`` as a provider of these models, on this port of the host too."""
        self.write_config(**dict.fromkeys(models, "http://upstream:8000"))
        ports = json.dumps([f"127.0.0.1:{port}:8000"] if port else [])
        (self.folder / "docker-compose.override.yml").write_text(UPSTREAM.format(ports=ports), encoding="utf-8")
        self._check_often("upstream")

    def write_config(self, **models: str) -> None:
        """Write a ``config.yaml``: the example, and models in Anthropic's format at these addresses."""
        config = yaml.safe_load((self.folder / "config.yaml.example").read_text(encoding="utf-8"))
        config["model_list"] += [
            {"model_name": name, "litellm_params": {"model": f"anthropic/{name}", "api_base": url, "api_key": "made-up"}}
            for name, url in models.items()
        ]
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def image(self) -> str:
        """The name that Compose gives to an image that it builds, unless CLAUDE_PROXY_IMAGE names one."""
        return f"{self.name}-proxy"

    @functools.cached_property
    def token(self) -> str:
        """The token, as somebody gets it who starts with Docker; asked for once."""
        return str(self.settings()["env"]["ANTHROPIC_AUTH_TOKEN"])

    def settings(self) -> dict[str, dict[str, str]]:
        return json.loads(self("exec", "-T", "proxy", "claude-proxy", "settings").stdout)

    def environment(self) -> dict[str, str]:
        """Return what a shell has set in which ``docker compose`` is about this project."""
        ports = {"PORT": self.port, "SCALE_PORT": self.scale_port, "HTTPS_PORT": self.https_port, "HTTP_PORT": self.http_port}
        environment = self.engine | {name: str(port) for name, port in ports.items()} | {"PROXY_BIND": "127.0.0.1"}
        environment |= self.variables | {"COMPOSE_PROJECT_NAME": self.name}
        # What compose reads by itself, and what makes the starts short.
        names = ("docker-compose.yml", "docker-compose.override.yml", OFTEN)
        environment["COMPOSE_FILE"] = ":".join(name for name in names if (self.folder / name).exists())
        return environment

    def shell(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands of a page as they stand there."""
        return subprocess.run(
            ["sh", "-ec", commands], cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", *arguments],
            cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        chosen = [part for profile in self.profiles for part in ("--profile", profile)]
        return self.docker("compose", "--project-name", self.name, *chosen, *arguments, check=check)

    def up(self) -> "Compose":
        """Start, or go on, until every service is healthy."""
        self("up", "--detach", "--wait", "--wait-timeout", str(PATIENCE))
        return self

    def down(self) -> None:
        self("down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "1")

    def ask(self, token: str, model: str = "demo", *, stream: bool = False) -> httpx.Response:
        """Send a request for a model as a client does."""
        body, headers = QUESTION | {"model": model, "stream": stream}, {"authorization": f"Bearer {token}"}
        return httpx.post(f"{self.base_url}/v1/messages", json=body, headers=headers, timeout=30, trust_env=False)

    def encrypted(self, token: str) -> httpx.Client:
        """Return a client of the profile ``tls`` that trusts nobody but Caddy's own authority."""
        trusted = ssl.create_default_context(cadata=self("exec", "-T", "caddy", "cat", TLS_ROOT).stdout)
        headers, address = {"authorization": f"Bearer {token}"}, f"https://localhost:{self.https_port}"
        return httpx.Client(base_url=address, verify=trusted, headers=headers, trust_env=False, timeout=30)

    def inspect(self) -> dict:
        container = self("ps", "--all", "--quiet", "proxy").stdout.strip()
        return json.loads(self.docker("inspect", container).stdout)[0]

    def inside(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self("exec", "-T", "proxy", "sh", "-c", command, check=check)

    def logs(self) -> str:
        done = self("logs", "--no-color", "--no-log-prefix")
        return done.stdout + done.stderr
