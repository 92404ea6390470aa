"""Rows, real Redis servers and writing processes for the tests of stores; the fixtures are there for every test."""

import contextlib
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from claude_proxy.state.rows import Row

ROOT = Path(__file__).parents[1]
NOW = 1_800_000_000.0
WRITER = """
import asyncio, sys
sys.path[:0] = [{root!r}, {tests!r}]
from claude_proxy.state.redis import RedisStore
from claude_proxy.state.sqlite import SqliteStore
from stores import made_up_batches

async def main(kind, where, seed):
    store = {{"sqlite": SqliteStore, "redis": RedisStore}}[kind](where)
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in made_up_batches(int(seed)):
        await store.push(batch)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


class RedisServer:
    """A real Redis on loopback that keeps nothing on disk."""

    def __init__(self, *more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._more = more
        self.process = None

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *self._more]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE, cwd="/")
        for line in self.process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise AssertionError("Redis did not start")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.stdout.close()
            self.process.wait()
            self.process = None

    def say(self, command):
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(command + b"\r\n")
            assert connection.recv(100).startswith(b"+OK")


@pytest.fixture
def new_redis():
    """Make servers that a test may start and kill as it likes."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (apt: redis-server)")
    made = []

    def new_redis(*more):
        made.append(RedisServer(*more))
        return made[-1]

    yield new_redis
    for server in made:
        server.kill()


@pytest.fixture(scope="session")
def running_redis():
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (apt: redis-server)")
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def empty_redis(running_redis):
    running_redis.say(b"FLUSHALL")
    return running_redis


@pytest.fixture
async def keep():
    """Close, after the test, what it opened."""
    kept = []

    def keep(store):
        kept.append(store)
        return store

    yield keep
    for store in kept:
        await store.close()


def row(key, stamp=NOW, value="1"):
    return Row(key, stamp, value)


async def contents(store):
    rows, _ = await store.pull(0)
    return {one.key: (one.stamp, one.value) for one in rows}


def made_up_batches(seed, count=60):
    made_up = random.Random(seed)
    stamps = [[made_up.randrange(1000) for _ in range(5)] for _ in range(count)]
    return [[row(f"key {made_up.randrange(7)}", float(stamp), str(stamp)) for stamp in batch] for batch in stamps]


def winners(batches):
    best = {}
    for one in (one for batch in batches for one in batch):
        best[one.key] = max(best.get(one.key, (-1.0, "")), (one.stamp, one.value))
    return best


@contextlib.contextmanager
def process(script, *arguments):
    script = script.format(root=str(ROOT), tests=str(ROOT / "tests"))
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def write_from_processes(kind, where):
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(process(WRITER, kind, where, str(seed))) for seed in range(4)]
        for one in running:
            assert one.stdout.readline() == "ready\n"
        for one in running:
            one.stdin.write("go\n")
            one.stdin.flush()
        assert [one.wait(60) for one in running] == [0] * 4
    return winners([batch for seed in range(4) for batch in made_up_batches(seed)])
