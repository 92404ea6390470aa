"""A process that has imported LiteLLM and forks proxies: a program, started by ``forking.py`` with the number of a socket.

This project's own modules read nothing of the environment when they are imported, except for the one that starts LiteLLM: a
proxy imports that itself, after its environment is in place. A program that changes constants first, and a worker, which needs
fewer of them, import all of them themselves. A proxy with several workers has such a process of its own, a child from before it
began, which forks each worker.
"""

import contextlib
import copy
import ctypes
import fcntl
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import multiprocessing.util
import os
import random
import resource
import runpy
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[2]
# What other projects' modules a proxy has when it is ready, as far as importing them starts nothing.
IMPORTED = (
    "aiohttp", "dotenv", "faulthandler", "httptools", "httpx", "litellm.proxy.proxy_server", "msgspec",
    "prometheus_client.core", "redis.asyncio", "sqlite3", "uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.websockets.auto", "yaml",
)  # fmt: skip
# What LiteLLM itself imports while it reads config.yaml.
LATER = (
    "litellm.llms.anthropic.completion.transformation", "litellm.llms.bedrock.passthrough.transformation",
    "litellm.llms.edenai.chat.transformation", "litellm.llms.fal_ai.chat.transformation",
    "litellm.llms.litellm_proxy.chat.transformation", "litellm.llms.openai_like.dynamic_config",
    "litellm.proxy.hooks.mcp_semantic_filter", "litellm.proxy.pass_through_endpoints.llm_passthrough_endpoints",
    "litellm.proxy.policy_engine.init_policies", "litellm.sandbox.sandbox_tools",
)  # fmt: skip
OWN = (
    "claude_proxy.cli.main", "claude_proxy.cli.serve_command", "claude_proxy.litellm.bootstrap", "claude_proxy.litellm.quiet",
    "claude_proxy.server.client_connections", "claude_proxy.server.gateway", "claude_proxy.server.http_protocol",
    "claude_proxy.server.supervisor",
)  # fmt: skip
MAX_JOB = 1 << 17
# What the command of a worker has; Python's tracker of resources, which is started beside them, does not.
WORKER = "--multiprocessing-fork"
MAX_DESCRIPTORS = 64
FIRST_FREE = 1 << 9
PR_SET_CHILD_SUBREAPER = 36


class Recorded(type(os.environ)):
    """The environment while others are imported: notes the variables that are read one by one."""

    names: ClassVar[set[str]] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return super().__getitem__(name)


class Kept(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that are imported already, and that a process has from the moment on in which it imports them itself."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, types.ModuleType]] = {}

    def keep(self, name: str) -> None:
        """Import a module, and take it and what comes with it out again."""
        before = {*sys.modules}
        importlib.import_module(name)
        group = {each: sys.modules.pop(each) for each in [*sys.modules] if each not in before}
        for each in group:
            above, _, below = each.rpartition(".")
            vars(sys.modules[above]).pop(below, None) if above in sys.modules else None
        self._groups |= dict.fromkeys(group, group)

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """Bring a module back with those that came with it."""
        if not (group := self._groups.get(name)):
            return None
        for each, module in group.items():
            del self._groups[each]
            if each == name:
                continue  # whoever imports it sees to that
            sys.modules.setdefault(each, module)
            above, _, below = each.rpartition(".")
            if owner := group.get(above) or sys.modules.get(above):
                setattr(owner, below, module)
        spec = copy.copy(group[name].__spec__)
        assert spec
        spec.loader, spec.loader_state = self, group[name]
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return spec.loader_state

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing but name its own loader again: it has run."""
        assert module.__spec__
        module.__spec__.loader = module.__loader__  # type: ignore[assignment]


def load() -> set[str]:
    """Import as a start does, and return the variables that were read."""
    options = importlib.import_module("claude_proxy.server.options")
    os.environ.update({**options.LITELLM_ENVIRONMENT, **options.FORCED_ENVIRONMENT})
    forget_own()
    gc.disable()
    plain, os.environ.__class__ = os.environ.__class__, Recorded
    for name in (*IMPORTED, *OWN):
        importlib.import_module(name)
    prepare(sys.modules["litellm.proxy.proxy_server"].app.routes)
    kept = Kept()
    for name in LATER:
        kept.keep(name)
    sys.meta_path.insert(0, kept)
    os.environ.__class__ = plain
    gc.enable()
    gc.collect()
    gc.freeze()
    # A fork has the one thread that called it, and no other's locks.
    assert threading.active_count() == len([*Path("/proc/self/task").iterdir()]) == 1
    return Recorded.names


def forget_own() -> None:
    """Let this project's modules be imported anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "claude_proxy"]:
        del sys.modules[name]


def prepare(routes: Sequence[Any]) -> None:
    """Let FastAPI make ready the routes of the routers that another includes, as it does for all of them at a first request.

    That takes as long as the rest of a start. What it made is for these routes: a router that gets another is made ready anew.
    """
    for route in routes:
        if made := getattr(route, "effective_candidates", None):
            prepare(made())


@contextlib.contextmanager
def parent_of_orphans() -> Iterator[None]:
    """Be the parent of processes further down whose own parents end."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def orphan(settle: Callable[[], None]) -> int | None:
    """Fork a process that settles first, and whose parent ends; return its number here, and nothing there."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork():
            os._exit(0)
        os.close(reader)
        above = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
        os.close(writer)
        settle()
        os.write(above, str(os.getpid()).encode())
        os.close(above)
        return None
    os.close(writer)
    os.waitpid(child, 0)
    number = os.read(reader, 32)
    os.close(reader)
    return int(number)


def next_job(channel: socket.socket, settle: Callable[[dict[str, Any], list[int]], None]) -> dict[str, Any]:
    """Fork a process for each job; return, in the new process, its job. The program ends with the other end of the channel."""
    started: dict[int, str] = {}
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, MAX_JOB, MAX_DESCRIPTORS)
        if not data:
            end(started)
            os._exit(0)
        job = json.loads(data)
        # Once it has settled, the new process may have another descriptor under the channel's number.
        number = orphan(lambda job=job, descriptors=descriptors: (channel.close(), settle(job, descriptors)))
        if number is None:
            return job
        for descriptor in descriptors:
            os.close(descriptor)
        started[number] = started_at(number)
        channel.send(str(number).encode())


def started_at(number: int) -> str:
    """Return when a process was started, which tells it from a later one of the same number; nothing when there is none."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def end(started: dict[int, str]) -> None:
    """Kill the proxies that are left when the tests' process has ended, however it did, and their workers."""
    for number, moment in started.items():
        if moment and started_at(number) == moment:
            with contextlib.suppress(ProcessLookupError):  # a worker: it leads no group
                os.killpg(number, signal.SIGKILL)


def as_a_proxy(_: dict[str, Any], descriptors: list[int]) -> None:
    """Lead a session, and write to the log."""
    (log,) = descriptors
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def become(job: dict[str, Any]) -> None:
    """Take what a new process has: its environment, its arguments and its limit to open files, which all later code finds."""
    # Where no locale is set, Python sets this one in its own environment.
    own = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    os.environ.clear()
    os.environ.update(own | job["environment"])
    sys.argv[1:] = job["arguments"]
    if files := job.get("files"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    random.seed()


def fork_workers() -> str | None:
    """Let ``multiprocessing`` fork what it would start as a new interpreter; return, in each worker, the worker's program."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        multiprocessing.util.spawnv_passfds = functools.partial(start, ours, multiprocessing.util.spawnv_passfds)
        return None
    ours.close()
    os.setpgid(0, 0)  # what is sent to the proxy's group is not for this process
    job = next_job(theirs, as_a_worker)
    forget_own()
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv[:] = ["-c", WORKER]
    random.seed()
    # LiteLLM brings a package that changes the server's class: too late for a worker's server, which imports LiteLLM.
    server, changed = importlib.import_module("uvicorn").Server, importlib.import_module("sse_starlette.sse").AppStatus
    server.handle_exit = changed.original_handler
    return str(job["program"])


def start(
    channel: socket.socket, plain: Callable[..., int], path: bytes, arguments: Sequence[Any], descriptors: Sequence[int]
) -> int:
    """Start a process as ``multiprocessing.util.spawnv_passfds`` does, and return its number."""
    if WORKER not in arguments:
        return plain(path, arguments, descriptors)
    numbers = sorted({*map(int, descriptors)})
    job = {
        "program": arguments[-2],
        "environment": dict(os.environ),
        "descriptors": numbers,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "group": os.getpgid(0),
    }
    with parent_of_orphans():
        socket.send_fds(channel, [json.dumps(job).encode()], numbers)
        return int(channel.recv(32))


def as_a_worker(job: dict[str, Any], descriptors: list[int]) -> None:
    """Have what a worker inherits: the group, the limit to open files, and descriptors under the parent's numbers."""
    os.setpgid(0, job["group"])
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(job["files"]))
    Path("/proc/self/comm").write_text("spawn_main", encoding="utf-8")
    # Out of the way first: one may have the number that is another's.
    above = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for number, descriptor in zip(job["descriptors"], above, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def main() -> None:
    # `python -m` in the project's folder has this one first.
    sys.path[0] = str(ROOT)
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.send(json.dumps(sorted(load())).encode())
    job = next_job(channel, as_a_proxy)
    become(job)
    if job.get("program"):
        forget_own()
        runpy.run_path(job["program"], run_name="__main__")
        return
    if job["environment"].get("NUM_WORKERS", "1") != "1" and (program := fork_workers()):
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(program, vars(sys.modules["__main__"]))
    runpy.run_module("claude_proxy", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
