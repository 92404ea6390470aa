"""The soak test's processes: an upstream and one or more proxies, started as a user would start them."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from benchmarks.measure import Sample, connections, sample, together, with_children
from benchmarks.simulated_limits import QUARANTINE_SECONDS, Arrival
from claude_proxy.upstream.client import IDLE_SECONDS
from conformance.proxies import ROOT, Process, free_port

TOKEN = "sk-made-up-soak-0123456789"  # noqa: S105 - made up
MASTER_KEY = f"{TOKEN}-administration"
CREDENTIALS = tuple(f"sk-ant-oat01-made-up-{number}" for number in range(1, 7))
CRASH = "Fatal Python error"


class Scale(NamedTuple):
    """How many processes serve: so many replicas, which share their state through Redis, with so many workers each."""

    workers: int = 1
    replicas: int = 1

    @property
    def words(self) -> str:
        """The scale in words."""
        workers = "one worker" if self.workers == 1 else f"{self.workers} workers"
        return workers if self.replicas == 1 else f"{self.replicas} replicas of {workers}"

    @property
    def shared_within(self) -> float:
        """The number of seconds after which every process knows of a cooldown."""
        return 0.0 if self == ONE_WORKER else 1.0


ONE_WORKER = Scale()


class Stage:
    """The running processes. ``proxy`` is the first replica; ``other_url`` is the upstream's port for other providers."""

    def __init__(self, home: Path, scale: Scale, *, all_rate_limited_every: float, idle_seconds: float) -> None:
        self.home, self.scale = home, scale
        self._redis: subprocess.Popen[bytes] | None = None
        self.proxies: list[Process] = []
        command = [sys.executable, "-m", "benchmarks.soak_upstream", "--all-rate-limited-every", str(all_rate_limited_every)]
        self._upstream = subprocess.Popen(  # noqa: S603 - the command is this module's
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        claude, other = json.loads(self._upstream.stdout.readline() if self._upstream.stdout else "")
        self.claude_url, self.other_url = f"http://127.0.0.1:{claude}", f"http://127.0.0.1:{other}"
        tokens = ",".join(f"{token.rsplit('-', 1)[1]}={token}" for token in CREDENTIALS)
        variables = {
            "PROXY_STATIC_TOKEN": TOKEN,
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "ANTHROPIC_API_BASE": self.claude_url,
            "CLAUDE_OAUTH_TOKENS": tokens,
            "CLAUDE_TOKEN_QUARANTINE_SECONDS": str(QUARANTINE_SECONDS),
            "NUM_WORKERS": str(scale.workers),
        }
        if scale.replicas > 1:
            variables["REDIS_URL"] = self._start_redis()
        idle = f"from claude_proxy.upstream import client; client.IDLE_SECONDS = {idle_seconds!r}"
        for number in range(scale.replicas):
            folder, port = home / f"replica-{number}" if number else home, free_port()
            _write_config(folder, self.other_url)
            serve = f"from claude_proxy.cli.main import main; main({['--project', str(folder), 'serve']!r})"
            command = [sys.executable, "-c", f"{idle}\n{serve}"]
            self.proxies.append(Process(folder, command, port, variables | {"PORT": str(port)}))
        self.proxy = self.proxies[0]
        self.started = time.monotonic()

    def _start_redis(self) -> str:
        """Start a Redis that keeps nothing on disk; return its URL."""
        program, port = shutil.which("redis-server"), free_port()
        if program is None:
            raise SystemExit("redis-server is not installed; several replicas share their state through it")
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - the command is this module's
        return f"redis://127.0.0.1:{port}/0"

    @property
    def urls(self) -> list[str]:
        """The addresses of all replicas."""
        return [proxy.url for proxy in self.proxies]

    def _pids(self) -> list[int]:
        return [pid for proxy in self.proxies for pid in with_children(proxy.pid)]

    def sample(self) -> Sample:
        """Measure the proxies' processes together."""
        at = time.monotonic() - self.started
        return together([sample(pid, at, self.home / ".state") for pid in self._pids()])

    def connections(self) -> tuple[int, int, int]:
        """Return the number of the proxies' connections: with clients, with Claude, with other providers."""
        pids = self._pids()
        clients = [int(url.rpartition(":")[2]) for url in self.urls]
        claude, other = (int(url.rpartition(":")[2]) for url in (self.claude_url, self.other_url))

        def count(*ports: int) -> int:
            return sum(connections(pid, port) for pid in pids for port in ports)

        return count(*clients), count(claude), count(other)

    async def watch(self, samples: list[Sample]) -> None:
        """Measure the process once a second, until cancelled."""
        while True:
            samples.append(self.sample())
            await asyncio.sleep(1)

    def pool(self) -> dict[str, Any]:
        """Return what ``/pool`` returns for the master key."""
        found: dict[str, Any] = self._get(f"{self.proxy.url}/pool").json()
        return found

    def ledger(self) -> tuple[list[Arrival], int, float]:
        """Return the upstream's ledger, its number of responses in progress, and its CPU seconds."""
        found = self._get(f"{self.claude_url}/ledger").json()
        return [Arrival(*arrival) for arrival in found["arrivals"]], found["open"], found["cpu"]

    @property
    def log(self) -> str:
        """The proxies' whole output."""
        return "".join(proxy.log.read_text(encoding="utf-8", errors="replace") for proxy in self.proxies)

    def wait_ready(self) -> None:
        """Wait until every proxy serves."""
        for proxy in self.proxies:
            proxy.wait_ready()
        self.started = time.monotonic()

    def stop(self) -> None:
        """End all processes."""
        for proxy in self.proxies:
            proxy.stop()
        if self._redis:
            self._redis.terminate()
            self._redis.wait()
        if self._upstream.stdin:
            self._upstream.stdin.close()
        try:
            self._upstream.wait(10)
        except subprocess.TimeoutExpired:
            self._upstream.kill()
            self._upstream.wait()
        if self._upstream.stdout:
            self._upstream.stdout.close()

    @staticmethod
    def _get(url: str) -> httpx.Response:
        headers = {"x-litellm-api-key": MASTER_KEY, "accept": "application/json"}
        with httpx.Client(trust_env=False, timeout=60) as client:
            return client.get(url, headers=headers).raise_for_status()


@contextmanager
def stage(
    scale: Scale = ONE_WORKER,
    *,
    all_rate_limited_every: float = 90.0,
    idle_seconds: float = IDLE_SECONDS,
    home: Path | None = None,
) -> Iterator[Stage]:
    """Start everything, wait until it serves, and end it.

    A proxy with one worker keeps idle connections to Claude for ``idle_seconds``; others do so as long as usual.
    """
    with tempfile.TemporaryDirectory() as folder:
        running = Stage(home or Path(folder), scale, all_rate_limited_every=all_rate_limited_every, idle_seconds=idle_seconds)
        try:
            running.wait_ready()
            yield running
        finally:
            running.stop()


def _write_config(home: Path, url: str) -> None:
    """Write the example configuration with models at the upstream; one of Claude's has a fallback."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml.example").read_text(encoding="utf-8"))
    config["model_list"] = [
        {"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*"}},
        {
            "model_name": "glm",
            "litellm_params": {"model": "anthropic/glm-made-up", "api_base": f"{url}/glm", "api_key": "made-up-glm"},
        },
        {
            "model_name": "gpt",
            "litellm_params": {"model": "openai/gpt-made-up", "api_base": f"{url}/openai/v1", "api_key": "made-up-gpt"},
        },
    ]
    config["router_settings"]["fallbacks"] = [{"claude-fallback-*": ["glm"]}]
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (home / ".env").write_text("", encoding="utf-8")
