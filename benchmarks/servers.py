"""The measured servers: the upstream itself, the floor, LiteLLM alone, and this proxy, each in a process of its own."""

import os
import shutil
import signal
import socket
import ssl
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
READINESS = "/health/readiness"
UPSTREAM, FLOOR, DEFAULTS, SAME = "upstream", "floor", "LiteLLM, its defaults", "LiteLLM, our settings"
OURS, THROUGH = "claude-proxy", "claude-proxy, all through LiteLLM"
# The number of the proxy's credentials.
POOL = 5
CLAUDE, OPENAI = "claude-sonnet-4-5", "gpt"
BOTH = {"claude": CLAUDE, "openai": OPENAI}
# A setting that the lanes do not know and that has no effect; it sends every request through LiteLLM.
ALL_THROUGH_LITELLM = "cache: false"
# The measured server has one processor; the upstream and the clients have the others.
SERVER_CPUS, CLIENT_CPUS = {0}, set(range(1, os.cpu_count() or 1)) or {0}


@dataclass
class Server:
    """One process that serves ``/v1/messages``, and what a client needs for it."""

    name: str
    url: str
    headers: Mapping[str, str]
    process: "subprocess.Popen[bytes]"
    log: Path
    # The model names, by provider.
    models: Mapping[str, str]
    # The certificate that a client must trust; None over plain HTTP.
    trusted: Path | None = None

    def cpu_seconds(self) -> float:
        """Return the processor time of the process, with all its threads."""
        # Linux's clock id of a process (clock_getcpuclockid(3)), because /proc counts only in hundredths of a second.
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def cpu_seconds_of_all(self) -> float:
        """Return the processor time of the process and of those that it has started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
        return self.cpu_seconds() + sum(time.clock_gettime(~int(child) << 3 | 2) for child in children)

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
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_upstream(folder: Path, certificate: tuple[Path, Path] | None = None) -> Server:
    """Start the upstream behind all other servers; over TLS with the files of a ``certificate`` and its key."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", str(port), *map(str, certificate or ())]
    trusted = certificate[0] if certificate else None
    return _started(UPSTREAM, folder, command, port, {}, {"claude": CLAUDE}, cpus=CLIENT_CPUS, trusted=trusted)


def start_floor(folder: Path, upstream: Server) -> Server:
    """Start the floor, served by uvicorn with the proxy's parser and event loop."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "benchmarks.floor:app", "--host", "127.0.0.1", "--port", str(port),
        "--http", "httptools", "--loop", "uvloop", "--lifespan", "off", "--no-access-log", "--no-server-header",
        "--log-level", "warning",
    ]  # fmt: skip
    return _started(FLOOR, folder, command, port, {"UPSTREAM": upstream.url, **_trusts(upstream)}, {"claude": CLAUDE})


def start_litellm(folder: Path, upstream: Server, keys: int = 1) -> Server:
    """Start LiteLLM alone, with its own command and defaults; with several ``keys`` Claude has as many deployments."""
    config, port = _litellm_config(folder, upstream.url, keys), free_port()
    program = Path(sys.executable).with_name("litellm")
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    return _started(DEFAULTS, folder, command, port, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}, BOTH, READINESS)


def start_litellm_same(folder: Path, upstream: Server, keys: int = 1) -> Server:
    """Start LiteLLM alone, with every setting that this proxy gives to it and to the server."""
    config, port = _litellm_config(folder, upstream.url, keys), free_port()
    arguments = {"app": "litellm.proxy.proxy_server:app", "host": "127.0.0.1", "port": port, **SERVER}
    command = [sys.executable, "-c", f"import uvicorn; uvicorn.run(**{arguments!r})"]
    variables = {**LITELLM_ENVIRONMENT, "CONFIG_FILE_PATH": str(config)}
    return _started(SAME, folder, command, port, variables, BOTH, READINESS)


def start_claude_proxy(
    folder: Path,
    upstream: Server,
    keys: int = POOL,
    *,
    name: str = OURS,
    before: str = "",
    more: str = "",
    users: Mapping[str, str] | None = None,
    root: Path = ROOT,
) -> Server:
    """Start this proxy as its users do, with a simple configuration and so many ``keys``.

    ``before`` is Python that runs first and turns a switch off; ``more`` is a line of ``litellm_settings``; ``users`` are names
    with their tokens; ``root`` is the folder of the code.
    """
    port = free_port()
    (folder / "config.yaml").write_text(
        f"""
model_list:
  - {{model_name: claude-*, litellm_params: {{model: anthropic/claude-*}}}}
  - {{model_name: {OPENAI}, litellm_params: {{model: openai/made-up, api_base: "{upstream.url}/v1", api_key: made-up}}}}
  # The upstream has no such path, so a request that Claude does not serve ends the benchmark.
  - {{model_name: spare, litellm_params: {{model: anthropic/spare, api_base: "{upstream.url}/none", api_key: made-up}}}}
router_settings:
  fallbacks: [{{claude-*: [spare]}}]
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
  {more}
general_settings:
  custom_auth: custom_auth.user_api_key_auth
  master_key: os.environ/LITELLM_MASTER_KEY
""",
        encoding="utf-8",
    )
    (folder / ".env").write_text("", encoding="utf-8")
    credentials = ",".join(f"sk-ant-api03-made-up-{number:04}" for number in range(keys))
    variables = {
        "PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": f"{TOKEN}-master", "PORT": str(port), "HOST": "127.0.0.1",
        "CLAUDE_API_KEYS": credentials, "ANTHROPIC_API_BASE": upstream.url, **_trusts(upstream), "PYTHONPATH": str(root),
    }  # fmt: skip
    if users:
        variables["PROXY_USER_TOKENS"] = ",".join(f"{user}={token}" for user, token in users.items())
    command = [sys.executable, "-m", "claude_proxy", "--project", str(folder), "serve"]
    if before:
        # What is turned off may import LiteLLM, before the command line has set its environment.
        variables |= LITELLM_ENVIRONMENT
        arguments = ["--project", str(folder), "serve"]
        command = [sys.executable, "-c", f"{before}\nfrom claude_proxy.cli.main import main; main({arguments!r})"]
    return _started(name, folder, command, port, variables, BOTH, READINESS)


def start_all_through_litellm(folder: Path, upstream: Server) -> Server:
    """Start this proxy with a setting that sends every request through LiteLLM."""
    return start_claude_proxy(folder, upstream, name=THROUGH, more=ALL_THROUGH_LITELLM)


def _trusts(upstream: Server) -> dict[str, str]:
    """Return the variables that make a server trust the certificate of ``upstream``."""
    return {"SSL_CERT_FILE": str(upstream.trusted)} if upstream.trusted else {}


def _litellm_config(folder: Path, upstream: str, keys: int) -> Path:
    # A pattern, like this proxy's configuration; several deployments share a plain name, like in LiteLLM's guides.
    name = CLAUDE if keys > 1 else "claude-*"
    claude = "\n".join(
        f"  - {{model_name: {name}, litellm_params: "
        f'{{model: anthropic/{name}, api_base: "{upstream}", api_key: made-up-{number}}}}}'
        for number in range(keys)
    )
    path = folder / "litellm.yaml"
    path.write_text(
        f"""
model_list:
{claude}
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
    ready: str = "/",
    *,
    cpus: set[int] = SERVER_CPUS,
    trusted: Path | None = None,
) -> Server:
    log = folder / f"{port}.log"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), **variables}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the commands are this file's
            [TASKSET, "-c", ",".join(map(str, cpus)), *command], cwd=folder, env=environment, stdout=output, stderr=output
        )
    url = f"{'https' if trusted else 'http'}://127.0.0.1:{port}"
    headers = {"x-api-key": TOKEN, "authorization": f"Bearer {TOKEN}"}
    server = Server(name, url, headers, process, log, models, trusted)
    _wait_until_it_answers(server, ready)
    return server


def _wait_until_it_answers(server: Server, path: str) -> None:
    pause, until = threading.Event(), time.monotonic() + READY_SECONDS
    trusted = ssl.create_default_context(cafile=server.trusted) if server.trusted else True
    while time.monotonic() < until:
        if server.process.poll() is not None:
            break
        try:
            httpx.get(f"{server.url}{path}", trust_env=False, verify=trusted)
        except httpx.TransportError:
            pause.wait(0.1)
        else:
            return
    raise RuntimeError(f"{server.name} does not respond:\n{server.log.read_text(errors='replace')[-2000:]}")
