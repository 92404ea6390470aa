"""The real proxy in a process of its own, on a free port, with nothing of this process's environment."""

import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import httpx
from forking import AT_IMPORT, Forked, may_fork
from stream_validator import read_message, read_sse, read_whole

ROOT = Path(__file__).resolve().parents[2]
STATIC_TOKEN = "sk-made-up-static-token-0123456789"
MASTER_KEY = "sk-made-up-master-key-0123456789"
READY_SECONDS = 90
conversations = itertools.count(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """An environment with a HOME of its own and the path, and nothing else."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), **variables}


class Proxy:
    """Start it, ask it, stop it. ``output`` is all that it has written so far."""

    # Whether every request enters LiteLLM, by a setting that asks LiteLLM to do something with requests, and changes nothing.
    through_litellm = False
    # Whether each is a new interpreter, which is not forked: for tests of the start itself, and of what it inherits.
    fresh = False
    # How many files it may open; None is as many as this process.
    files: int | None = None
    # A program that does something else first, and then is the proxy.
    program: Path | None = None

    def __init__(self, home: Path, config: str | None, arguments: tuple[str, ...] = (), **variables: str) -> None:
        self.home = home
        self.static_token = STATIC_TOKEN
        home.mkdir(exist_ok=True)
        if config is not None:
            if self.through_litellm:
                assert "\nlitellm_settings:\n" in config
                config = config.replace("\nlitellm_settings:\n", "\nlitellm_settings:\n  cache: false\n")
            (home / "config.yaml").write_text(config, encoding="utf-8")
        if not (home / ".env").exists():
            (home / ".env").write_text("", encoding="utf-8")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "proxy.log"
        defaults = {"PROXY_STATIC_TOKEN": STATIC_TOKEN, "LITELLM_MASTER_KEY": MASTER_KEY, "PORT": str(self.port)}
        # A test that leaves a response without an end does not wait for it.
        defaults |= {"PROXY_DRAIN_SECONDS": "5"}
        environment = clean_environment(home, **(AT_IMPORT | defaults | variables))
        with self.log.open("wb") as log:
            self.process = self.start(arguments, environment, log)

    def start(self, arguments: tuple[str, ...], environment: dict[str, str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
        command, folder = self.command(arguments), self.folder()
        ordinary = [*self.interpreter(), "--project", str(self.home), "serve"]
        if not self.fresh and (command, folder) == (ordinary, ROOT) and may_fork(environment, self.home / ".env"):
            return Forked(command[len(self.interpreter()) :], environment, log, self.program, self.files)
        started = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if self.files:  # it reads its limits after seconds of imports
            resource.prlimit(started.pid, resource.RLIMIT_NOFILE, (self.files, self.files))
        return started

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        return [*self.interpreter(), "--project", str(self.home), *arguments, "serve"]

    def interpreter(self) -> list[str]:
        return [sys.executable, *([str(self.program)] if self.program else ["-m", "claude_proxy"])]

    def folder(self) -> Path:
        return ROOT

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self) -> "Proxy":
        """Wait until it serves; a process that ends before is an error with its output."""
        poll = threading.Event()
        for _ in range(READY_SECONDS * 20):
            if self.process.poll() is not None:
                raise RuntimeError(f"the proxy ended with {self.process.returncode}:\n{self.output}")
            try:
                if httpx.get(f"{self.url}/health/readiness", trust_env=False).status_code == 200:
                    return self
            except httpx.TransportError:
                poll.wait(0.05)
        raise RuntimeError(f"the proxy is not ready:\n{self.output}")

    def logged(self, words: str, times: int = 1) -> list[str]:
        """Wait for so many lines that hold the words and return them: a request's line comes after its answer has left."""
        poll = threading.Event()
        for _ in range(1000):
            found = [line for line in self.output.splitlines() if words in line]
            if len(found) >= times:
                return found
            poll.wait(0.02)
        raise AssertionError(f"{len(found)} lines and not {times} hold {words}:\n{self.output}")

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)  # its workers, too
            raise

    def ask(
        self,
        body: Mapping[str, Any] | bytes,
        path: str = "/v1/messages",
        token: str | None = STATIC_TOKEN,
        *,
        relayed: bool = False,
        **headers: str,
    ) -> httpx.Response:
        """Send a request as a client would and read its whole answer, which is valid, or is what the upstream sent."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named = {"x-litellm-api-key": token} | named
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with httpx.Client(trust_env=False, timeout=60) as client:
            answer = client.post(f"{self.url}{path}", content=content, headers={"content-type": "application/json"} | named)
        return answer if relayed else validated(answer)


def validated(response: httpx.Response) -> httpx.Response:
    """Return a response; raise for a message in it, streamed or whole, that is not as Anthropic documents them."""
    response.read()
    if response.status_code == 200 and response.url.path == "/v1/messages":
        if response.headers["content-type"].startswith("text/event-stream"):
            read_message(response.content, read_sse)
        else:
            read_whole(response.json())
    return response


def question(model: str, words: str = "hello", **more: Any) -> dict[str, Any]:
    """A minimal Messages request."""
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": words}], **more}


def new_question(model: str, **more: Any) -> dict[str, Any]:
    """A minimal Messages request that begins a conversation of its own: one with the same words goes on with another's."""
    return question(model, f"hello for the {next(conversations)}. time", **more)


def streamed(response: httpx.Response) -> list[dict[str, Any]]:
    """The data of a stream's events."""
    lines = response.text.splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip() != "[DONE]"]


def answer_text(response: httpx.Response) -> str:
    """The text of an answer, streamed or not."""
    if "event-stream" not in response.headers.get("content-type", ""):
        return "".join(block["text"] for block in response.json()["content"] if block["type"] == "text")
    deltas = [event.get("delta", {}) for event in streamed(response)]
    return "".join(delta["text"] for delta in deltas if delta.get("type") == "text_delta")
