"""A process that has imported LiteLLM and forks proxies: a program, started by ``forking.py`` with the number of a socket.

A proxy imports this project's own modules itself, after its environment is in place; here they are not.
"""

import gc
import importlib
import json
import os
import random
import runpy
import socket
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[2]
# What other projects' modules a proxy has when it is ready, as far as importing them starts nothing.
IMPORTED = (
    "aiohttp", "dotenv", "faulthandler", "httptools", "httpx", "litellm.proxy.proxy_server", "msgspec",
    "prometheus_client.core", "redis.asyncio", "sqlite3", "uvicorn.lifespan.on", "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.websockets.auto", "yaml",
)  # fmt: skip
MAX_JOB = 1 << 17


class Recorded(type(os.environ)):
    """The environment while others are imported: notes the variables that are read one by one."""

    names: ClassVar[set[str]] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return super().__getitem__(name)


def load() -> set[str]:
    """Import as a start does, and return the variables that were read."""
    options = importlib.import_module("claude_proxy.server.options")
    os.environ.update({**options.LITELLM_ENVIRONMENT, **options.FORCED_ENVIRONMENT})
    for name in [name for name in sys.modules if name.partition(".")[0] == "claude_proxy"]:
        del sys.modules[name]
    gc.disable()
    plain, os.environ.__class__ = os.environ.__class__, Recorded
    for name in IMPORTED:
        importlib.import_module(name)
    os.environ.__class__ = plain
    gc.enable()
    gc.collect()
    gc.freeze()
    # A fork has the one thread that called it, and no other's locks.
    assert threading.active_count() == len([*Path("/proc/self/task").iterdir()]) == 1
    return Recorded.names


def next_proxy(channel: socket.socket) -> dict[str, Any]:
    """Fork a process for each job; return, in the new process, its job. The program ends with the other end of the channel."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, MAX_JOB, 1)
        if not data:
            os._exit(0)
        (log,) = descriptors
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            if os.fork():
                os._exit(0)  # so that the tests' process, which asked to become it, is the parent
            os.setsid()
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.write(writer, str(os.getpid()).encode())
            for descriptor in (log, reader, writer):
                os.close(descriptor)
            channel.close()
            return json.loads(data)
        os.waitpid(child, 0)
        channel.send(os.read(reader, 32))
        for descriptor in (log, reader, writer):
            os.close(descriptor)


def become(job: dict[str, Any]) -> None:
    """Take what a new process has: its environment and its arguments. What is imported from now on finds them."""
    # Where no locale is set, Python sets this one in its own environment.
    own = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    os.environ.clear()
    os.environ.update(own | job["environment"])
    sys.argv[1:] = job["arguments"]
    random.seed()


def main() -> None:
    # `python -m` in the project's folder has this one first.
    sys.path[0] = str(ROOT)
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.send(json.dumps(sorted(load())).encode())
    become(next_proxy(channel))
    runpy.run_module("claude_proxy", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
