"""What is measured: the upstream itself, LiteLLM alone, and this proxy, each in a process of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from claude_proxy.server.options import LITELLM_ENVIRONMENT, SERVER

ROOT = Path(__file__).resolve().parents[1]
TASKSET = shutil.which("taskset") or "taskset"
TOKEN = "sk-made-up-for-benchmarks-0123456789"  # noqa: S105 - opens nothing
READY_SECONDS = 90
UPSTREAM, DEFAULTS, SAME, OURS = "upstream", "LiteLLM, its defaults", "LiteLLM, our settings", "claude-proxy"
# How many credentials the pool has, and LiteLLM deployments of one model: enough for a failover in each of so many requests.
POOL = 120
CLAUDE, OPENAI, POOLED = "claude-sonnet-4-5", "gpt", "pooled"
BOTH = {"claude": CLAUDE, "openai": OPENAI}
# The server measured has one processor, the upstream and the clients the others.
SERVER_CPUS, CLIENT_CPUS = {0}, set(range(1, os.cpu_count() or 1)) or {0}


@dataclass
class Server:
    """One process that answers ``/v1/messages``, and what a client needs to ask it."""

    name: str
    url: str
    headers: Mapping[str, str]
    process: "subprocess.Popen[bytes]"
    log: Path
    # The names to ask for, by provider.
    models: Mapping[str, str]
    # A model behind which there are many credentials; empty where there is none.
    failover_model: str = ""

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Return the resident memory in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        """End the process and wait for it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_upstream(folder: Path) -> Server:
    """Start the upstream that all others ask."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", str(port)]
    return _started(UPSTREAM, folder, command, port, {}, {"claude": CLAUDE}, cpus=CLIENT_CPUS)


def start_litellm(folder: Path, upstream: str) -> Server:
    """Start LiteLLM alone, with its own command and its defaults."""
    config, port = _litellm_config(folder, upstream), free_port()
    program = Path(sys.executable).with_name("litellm")
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    return _started(DEFAULTS, folder, command, port, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}, BOTH, POOLED)


def start_litellm_same(folder: Path, upstream: str) -> Server:
    """Start LiteLLM alone with every setting that this proxy gives to it and to the server."""
    config, port = _litellm_config(folder, upstream), free_port()
    arguments = {"app": "litellm.proxy.proxy_server:app", "host": "127.0.0.1", "port": port, **SERVER}
    command = [sys.executable, "-c", f"import uvicorn; uvicorn.run(**{arguments!r})"]
    variables = {**LITELLM_ENVIRONMENT, "CONFIG_FILE_PATH": str(config)}
    return _started(SAME, folder, command, port, variables, BOTH, POOLED)


def start_claude_proxy(folder: Path, upstream: str, name: str = OURS, before: str = "") -> Server:
    """Start this proxy as its users do; ``before`` is Python that is run first, by which a switch is turned off."""
    port = free_port()
    (folder / "config.yaml").write_text(
        f"""
model_list:
  - {{model_name: claude-*, litellm_params: {{model: anthropic/claude-*}}}}
  - {{model_name: {OPENAI}, litellm_params: {{model: openai/made-up, api_base: "{upstream}/v1", api_key: made-up}}}}
router_settings: {{disable_cooldowns: true}}
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
  drop_params: true
  use_chat_completions_url_for_anthropic_messages: true
general_settings:
  custom_auth: custom_auth.user_api_key_auth
  master_key: os.environ/LITELLM_MASTER_KEY
""",
        encoding="utf-8",
    )
    (folder / ".env").write_text("", encoding="utf-8")
    tokens = ",".join(f"sk-ant-api03-made-up-{number:04}" for number in range(POOL))
    variables = {
        "PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": f"{TOKEN}-master", "PORT": str(port), "HOST": "127.0.0.1",
        "CLAUDE_API_KEYS": tokens, "ANTHROPIC_API_BASE": upstream,
    }  # fmt: skip
    command = [sys.executable, "-m", "claude_proxy", "--project", str(folder), "serve"]
    if before:
        # What is turned off may import LiteLLM, before the command line has told it anything.
        variables |= LITELLM_ENVIRONMENT
        arguments = ["--project", str(folder), "serve"]
        command = [sys.executable, "-c", f"{before}\nfrom claude_proxy.cli.main import main; main({arguments!r})"]
    return _started(name, folder, command, port, variables, BOTH, CLAUDE)


def _litellm_config(folder: Path, upstream: str) -> Path:
    anthropic = f'model: anthropic/{CLAUDE}, api_base: "{upstream}"'
    pool = "\n".join(
        f"  - {{model_name: {POOLED}, litellm_params: {{{anthropic}, api_key: made-up-{number}}}}}" for number in range(POOL)
    )
    path = folder / "litellm.yaml"
    path.write_text(
        f"""
model_list:
  - {{model_name: claude-*, litellm_params: {{model: anthropic/claude-*, api_base: "{upstream}", api_key: made-up}}}}
{pool}
  - {{model_name: {OPENAI}, litellm_params: {{model: openai/made-up, api_base: "{upstream}/v1", api_key: made-up}}}}
litellm_settings:
  drop_params: true
  use_chat_completions_url_for_anthropic_messages: true
general_settings:
  master_key: {TOKEN}
""",
        encoding="utf-8",
    )
    return path


def _started(  # noqa: PLR0917 - one call for each server, above
    name: str,
    folder: Path,
    command: Sequence[str],
    port: int,
    variables: Mapping[str, str],
    models: Mapping[str, str],
    failover_model: str = "",
    *,
    cpus: set[int] = SERVER_CPUS,
) -> Server:
    log = folder / f"{port}.log"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), **variables}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the commands are this file's
            [TASKSET, "-c", ",".join(map(str, cpus)), *command], cwd=folder, env=environment, stdout=output, stderr=output
        )
    server = Server(
        name,
        f"http://127.0.0.1:{port}",
        {"x-api-key": TOKEN, "authorization": f"Bearer {TOKEN}"},
        process,
        log,
        models,
        failover_model,
    )
    _wait_until_it_answers(server, "/health/readiness" if failover_model else "/")
    return server


def _wait_until_it_answers(server: Server, path: str) -> None:
    pause, until = threading.Event(), time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if server.process.poll() is not None:
            break
        try:
            httpx.get(f"{server.url}{path}", trust_env=False)
        except httpx.TransportError:
            pause.wait(0.1)
        else:
            return
    raise RuntimeError(f"{server.name} does not answer:\n{server.log.read_text(errors='replace')[-2000:]}")
