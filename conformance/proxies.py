"""Starts the compared proxies, this project's and LiteLLM's own, both with the suite's upstream."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from conformance.target import OPENAI_MODEL, THIRD_MODEL
from conformance.upstream import Upstream

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "sk-made-up-conformance-0123456789"  # noqa: S105 - made up
READY_SECONDS = 120
# Every connection except to loopback fails.
NO_INTERNET = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}


class Process:
    """One running proxy."""

    def __init__(self, home: Path, command: Sequence[str], port: int, environment: Mapping[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = home / "proxy.log"
        base = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), **NO_INTERNET}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is this module's
                command, cwd=home, env={**base, **environment}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until the proxy serves; raise ``RuntimeError`` with its output if it does not."""
        pause = threading.Event()
        for _ in range(READY_SECONDS * 5):
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health/readiness", trust_env=False, timeout=10).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            pause.wait(0.2)
        raise RuntimeError(f"the proxy does not serve:\n{self.log.read_text(encoding='utf-8', errors='replace')[-3000:]}")

    def stop(self) -> None:
        """End the process and all processes that it has started."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def ours(home: Path, upstream: Upstream, *, through_litellm: bool = False) -> Process:
    """Start this project's proxy with the example configuration, models at the upstream, and no pool.

    With ``through_litellm`` a setting sends every request through LiteLLM, which uses the same lanes for its attempts.
    """
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml.example").read_text(encoding="utf-8"))
    claude = [
        entry for entry in config["model_list"] if entry["litellm_params"]["model"].startswith("anthropic/") and _wild(entry)
    ]
    config["model_list"] = [*claude, *_other_models(upstream)]
    # A fallback would hide how an error of Claude is returned.
    del config["router_settings"]["fallbacks"]
    if through_litellm:
        # An unknown setting sends every request through LiteLLM; this one changes none.
        config["litellm_settings"]["cache"] = False
    port = _prepared(home, config)
    variables = {
        "PORT": str(port),
        "PROXY_STATIC_TOKEN": TOKEN,
        "LITELLM_MASTER_KEY": f"{TOKEN}-administration",
        "ANTHROPIC_API_BASE": upstream.url,
        "CLAUDE_POOL_STATE_FILE": "none",
    }
    return Process(home, [sys.executable, "-m", "claude_proxy", "--project", str(home), "serve"], port, variables)


def bare(home: Path, upstream: Upstream) -> Process:
    """Start LiteLLM's own proxy as its guides for Claude Code describe, for clients with their own login."""
    claude = [("anthropic/*", "anthropic/*"), ("claude-*", "anthropic/claude-*")]
    config = {
        "model_list": [
            *({"model_name": name, "litellm_params": {"model": model, "api_base": upstream.url}} for name, model in claude),
            *_other_models(upstream),
        ],
        "litellm_settings": {"use_chat_completions_url_for_anthropic_messages": True},
        # Otherwise the error of one row would start a cooldown for the next row.
        "router_settings": {"disable_cooldowns": True},
        "general_settings": {"master_key": TOKEN, "forward_client_headers_to_llm_api": True},
    }
    port = _prepared(home, config)
    command = [
        str(Path(sys.executable).with_name("litellm")),
        "--config",
        "config.yaml",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    # The first keeps it from fetching its price list; the second also changes the target of its pass-through routes.
    return Process(home, command, port, {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "ANTHROPIC_API_BASE": upstream.url})


def _wild(entry: Mapping[str, Any]) -> bool:
    return "*" in str(entry["model_name"])


def _other_models(upstream: Upstream) -> list[dict[str, Any]]:
    openai = {"model": "openai/gpt-made-up", "api_base": f"{upstream.other_url}/openai/v1", "api_key": "sk-made-up-openai"}
    third = {"model": "anthropic/made-up-model", "api_base": f"{upstream.other_url}/third", "api_key": "made-up-third"}
    return [
        {"model_name": OPENAI_MODEL, "litellm_params": openai},
        {"model_name": THIRD_MODEL, "litellm_params": third},
    ]


def _prepared(home: Path, config: Mapping[str, Any]) -> int:
    """Write the configuration; return a free port."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (home / ".env").write_text("", encoding="utf-8")
    return free_port()


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
