"""The soak test's processes: an upstream and a proxy with one worker, started as a user would start them."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.measure import Sample, connections, sample
from benchmarks.simulated_limits import QUARANTINE_SECONDS, Arrival
from claude_proxy.upstream.client import IDLE_SECONDS
from conformance.proxies import ROOT, Process, free_port

TOKEN = "sk-made-up-soak-0123456789"  # noqa: S105 - made up
MASTER_KEY = f"{TOKEN}-administration"
CREDENTIALS = tuple(f"sk-ant-oat01-made-up-{number}" for number in range(1, 7))
CRASH = "Fatal Python error"


class Stage:
    """The running processes. ``other_url`` is the upstream's port for providers other than Claude."""

    def __init__(self, home: Path, *, all_rate_limited_every: float, idle_seconds: float) -> None:
        self.home = home
        command = [sys.executable, "-m", "benchmarks.soak_upstream", "--all-rate-limited-every", str(all_rate_limited_every)]
        self._upstream = subprocess.Popen(  # noqa: S603 - the command is this module's
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        claude, other = json.loads(self._upstream.stdout.readline() if self._upstream.stdout else "")
        self.claude_url, self.other_url = f"http://127.0.0.1:{claude}", f"http://127.0.0.1:{other}"
        self._port = port = free_port()
        _write_config(home, self.other_url)
        tokens = ",".join(f"{token.rsplit('-', 1)[1]}={token}" for token in CREDENTIALS)
        variables = {
            "PORT": str(port),
            "PROXY_STATIC_TOKEN": TOKEN,
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "ANTHROPIC_API_BASE": self.claude_url,
            "CLAUDE_OAUTH_TOKENS": tokens,
            "CLAUDE_TOKEN_QUARANTINE_SECONDS": str(QUARANTINE_SECONDS),
            "NUM_WORKERS": "1",
        }
        idle = f"from claude_proxy.upstream import client; client.IDLE_SECONDS = {idle_seconds!r}"
        serve = f"from claude_proxy.cli.main import main; main({['--project', str(home), 'serve']!r})"
        self.proxy = Process(home, [sys.executable, "-c", f"{idle}\n{serve}"], port, variables)
        self.started = time.monotonic()

    def sample(self) -> Sample:
        """Measure the proxy's process."""
        return sample(self.proxy.pid, time.monotonic() - self.started, self.home / ".state")

    def connections(self) -> tuple[int, int, int]:
        """Return the number of the proxy's connections: with clients, with Claude, with other providers."""
        ports = (self._port, *(int(url.rpartition(":")[2]) for url in (self.claude_url, self.other_url)))
        clients, claude, others = (connections(self.proxy.pid, port) for port in ports)
        return clients, claude, others

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
        """The proxy's whole output."""
        return self.proxy.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End both processes."""
        self.proxy.stop()
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
    *, all_rate_limited_every: float = 90.0, idle_seconds: float = IDLE_SECONDS, home: Path | None = None
) -> Iterator[Stage]:
    """Start both, wait until the proxy serves, and end both. It keeps idle connections to Claude for ``idle_seconds``."""
    with tempfile.TemporaryDirectory() as folder:
        running = Stage(home or Path(folder), all_rate_limited_every=all_rate_limited_every, idle_seconds=idle_seconds)
        try:
            running.proxy.wait_ready()
            running.started = time.monotonic()
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
