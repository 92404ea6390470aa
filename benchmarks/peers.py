"""Starts the peers from npm for the benchmark: each in a process of its own, on loopback, on chosen cores.

``peers/package.json`` and its lock file set their exact versions. One pin is not theirs: with @hono/node-server 1.14.2 and
later Portkey's gateway responds to each streamed request with a 500 (https://github.com/Portkey-AI/gateway/issues/1389).

Settings that differ from their defaults, each to their advantage:

- better-ccflare keeps no bodies (``STORE_PAYLOADS=false``) and fetches no prices (``CF_PRICING_OFFLINE=1``). Its log level is
  INFO, its default, and its log is a file.
- Portkey's gateway has no log page (``--headless``, ``NODE_ENV=production``). It logs only errors.
"""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

FOLDER = Path(__file__).parent / "peers"
BETTER_CCFLARE, PORTKEY = "better-ccflare", "@portkey-ai/gateway"
MODEL = "claude-sonnet-4-5"
INSTALL_SECONDS = 600
READY_SECONDS = 60
STOP_SECONDS = 10
# Nothing listens there. better-ccflare fetches one price list over HTTPS regardless of its settings; this prevents it.
CLOSED_PORT = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Peer:
    """A running peer."""

    name: str
    url: str  # /v1/messages is appended
    headers: Mapping[str, str]  # the headers that a client sends besides content-type and anthropic-version
    model: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The id of its only process."""
        return self.process.pid

    def stop(self) -> None:
        """End the process and wait for it."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def installed(folder: Path = FOLDER) -> bool:
    """Whether ``folder`` has the packages in the versions of its package.json."""
    wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return all(_version(folder, package) == version for package, version in wanted.items())


def install(folder: Path = FOLDER) -> None:
    """Install the lock file's packages in ``folder``, without their scripts. Raises RuntimeError with npm's output."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is not installed, so the peers cannot be installed")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    try:
        done = subprocess.run(  # noqa: S603 - the command is this function's
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"npm did not install the peers within {INSTALL_SECONDS} seconds") from None
    if done.returncode != 0 or not installed(folder):
        raise RuntimeError(f"npm could not install the peers:\n{(done.stderr or done.stdout)[-2000:]}")


def start_better_ccflare(
    home: Path, upstream_url: str, key: str, port: int, cpus: set[int], *, keys: Sequence[str] = ()
) -> Peer:
    """Return the running peer with an account for ``key`` and one for each of ``keys``, in this order of priority.

    Raises RuntimeError with its output if it does not start.
    """
    # It reads .env in its working folder and two folders above; here both belong to this home and have none.
    here = home / "work" / "here"
    here.mkdir(parents=True, exist_ok=True)
    variables = {
        "BETTER_CCFLARE_HOST": "127.0.0.1",
        "BETTER_CCFLARE_LOG_DIR": str(home / "logs"),
        "STORE_PAYLOADS": "false",
        "CF_PRICING_OFFLINE": "1",
        "HTTPS_PROXY": CLOSED_PORT,
    }
    command = [str(_package(FOLDER, BETTER_CCFLARE) / "dist" / "better-ccflare"), "--serve", "--port", str(port)]
    name = f"better-ccflare {_version(FOLDER, BETTER_CCFLARE)}"
    peer = Peer(name, f"http://127.0.0.1:{port}", {}, MODEL, _process(command, home, here, variables, cpus))
    with _serving(peer, home, "/api/accounts"), httpx.Client(trust_env=False, timeout=READY_SECONDS) as client:
        for number, each in enumerate((key, *keys)):
            account = {"name": f"account-{number}", "apiKey": each, "priority": number, "customEndpoint": upstream_url}
            added = client.post(f"{peer.url}/api/accounts/anthropic-compatible", json=account)
            if not added.is_success:
                raise RuntimeError(f"{name} rejects an account: {added.status_code} {added.text[-500:]}")
    return peer


def start_portkey(home: Path, upstream_url: str, key: str, port: int, cpus: set[int], *, keys: Sequence[str] = ()) -> Peer:
    """Return the running peer. The client's headers contain ``key``, and ``keys`` as fallbacks after a 429, in this order.

    Raises RuntimeError with its output if it does not start.
    """
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("Node is not installed, and Portkey's gateway needs it")
    home.mkdir(parents=True, exist_ok=True)
    program = _package(FOLDER, PORTKEY) / "build" / "start-server.js"
    command = [node, "--require", str(FOLDER / "loopback.cjs"), str(program), "--headless", f"--port={port}"]
    name = f"portkey {_version(FOLDER, PORTKEY)}"
    process = _process(command, home, home, {"NODE_ENV": "production"}, cpus)
    peer = Peer(name, f"http://127.0.0.1:{port}", _portkey_headers(f"{upstream_url}/v1", [key, *keys]), MODEL, process)
    with _serving(peer, home, "/"):
        return peer


def _portkey_headers(host: str, keys: Sequence[str]) -> dict[str, str]:
    """Return the headers with its target, or with several targets, where the next one is used after a 429."""
    if len(keys) == 1:
        return {"x-portkey-provider": "anthropic", "x-portkey-custom-host": host, "x-api-key": keys[0]}
    targets = [{"provider": "anthropic", "custom_host": host, "api_key": key} for key in keys]
    return {"x-portkey-config": json.dumps({"strategy": {"mode": "fallback", "on_status_codes": [429]}, "targets": targets})}


def _process(
    command: list[str], home: Path, here: Path, variables: Mapping[str, str], cpus: set[int]
) -> subprocess.Popen[bytes]:
    """Start ``command`` in the folder ``here``, with ``variables`` and HOME as its only environment."""
    try:
        with _on(cpus), _output(home).open("wb") as output:
            return subprocess.Popen(  # noqa: S603 - the command is this module's
                command,
                cwd=here,
                env={"HOME": str(home), **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
    except OSError as error:
        raise RuntimeError(f"it cannot be started: {error}") from None


@contextmanager
def _on(cpus: set[int]) -> Iterator[None]:
    """Run this thread on ``cpus`` meanwhile, so that a started process and all its threads stay on them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _serving(peer: Peer, home: Path, path: str) -> Iterator[None]:
    """Wait until ``peer`` responds to ``path``. Stop it if it does not, or if the block raises."""
    try:
        _wait(peer, home, path)
        yield
    except BaseException:
        peer.stop()
        raise


def _wait(peer: Peer, home: Path, path: str) -> None:
    poll = threading.Event()
    for _ in range(READY_SECONDS * 10):
        if peer.process.poll() is not None:
            raise RuntimeError(f"{peer.name} ended with {peer.process.returncode}:\n{_output_end(home)}")
        if _responds(f"{peer.url}{path}"):
            return
        poll.wait(0.1)
    raise RuntimeError(f"{peer.name} does not respond after {READY_SECONDS} seconds:\n{_output_end(home)}")


def _responds(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _output(home: Path) -> Path:
    return home / "output.log"


def _output_end(home: Path) -> str:
    return _output(home).read_text(encoding="utf-8", errors="replace")[-2000:]


def _package(folder: Path, package: str) -> Path:
    return folder / "node_modules" / package


def _version(folder: Path, package: str) -> str | None:
    """Return the installed version; None if it is not installed."""
    try:
        return str(json.loads((_package(folder, package) / "package.json").read_text(encoding="utf-8"))["version"])
    except FileNotFoundError:
        return None
