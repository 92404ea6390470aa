"""Measures what the history, the latest requests, the alerts and the open page cost a request: ``make bench WATCHED=1``.

The proxy is compared with itself: with all that records turned off, with it, and with it while the page is open in ten
browsers. The servers run at the same time, on one processor, and are measured in short slices in turn; 50 users send requests
in a loop. In a round each server has requests for as long as the page pauses between two of its own, so a round has the share
of each browser. What the proxy does once a second counts three times, because the slices of a second come in three.

The processor time counts until what was recorded is written, and that of the processes that the proxy has started.
"""

import argparse
import asyncio
import dataclasses
import importlib
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from benchmarks import load, made_up_home, report, servers
from benchmarks.load import SMALL, Seen
from benchmarks.made_up_history import Team
from benchmarks.servers import ROOT, Server

PAGE = ROOT / "docs/BENCHMARKS.md"
OFF, ON, WATCHED, BEFORE = "nothing recorded", "recorded", "and the page in ten browsers", "before"
# What records for the page. The module, the method that is replaced, and by what, as Python.
NOTHING, NO_CONTEXT = "lambda *_, **__: None", "lambda *_, **__: __import__('contextlib').nullcontext()"
RECORDS = (
    ("claude_proxy.history.service", "History.record", NOTHING),
    ("claude_proxy.usage.recent_requests", "RecentRequests.record", NOTHING),
    ("claude_proxy.usage.running_requests", "RunningRequests.counted", NO_CONTEXT),
    ("claude_proxy.alerts.error_rate", "ErrorRate.record", NOTHING),
    ("claude_proxy.alerts.watch", "AlertWatch.step", NOTHING),
)
USERS = {f"user-{number}": f"sk-made-up-user-{number}-0123456789" for number in range(50)}
# The clients at a time; the users take turns.
CLIENTS = 16
MODELS = ("claude-sonnet-4-5", "claude-opus-4-5", "claude-haiku-4-5")
KINDS = {"whole": False, "streamed": True}
# The page asks for the pool and the requests in this interval, and for the history once a minute.
POLL_SECONDS, HISTORY_TURNS = 5.0, 12
ROUNDS = 12
# In a round, the servers are measured in so many seconds in turn: what else runs on the machine then affects all of them.
SLICE_SECONDS = 0.5
# How long what was recorded may wait to be written, in seconds.
WRITTEN_SECONDS = 1.5
# The views that are open, by browser.
OVERVIEW, REQUESTS, HISTORY = "overview", "requests", "history"
BROWSERS = (OVERVIEW,) * 4 + (REQUESTS,) * 3 + (HISTORY,) * 3
HISTORY_PATH, HIGHLIGHTS_PATH = "/pool/history?range=30d&by=model", "/pool/highlights"
LATEST = 100


def turn_off() -> None:
    """Replace what records by nothing; run in a proxy before it starts."""
    for module, path, instead in RECORDS:
        owner: Any = importlib.import_module(module)
        *classes, name = path.split(".")
        for one in classes:
            owner = getattr(owner, one)
        if not callable(getattr(owner, name)):
            raise TypeError(f"{module}.{path} records nothing")
        setattr(owner, name, eval(instead))  # noqa: S307 - this file's constants


class Browser:
    """The page in one browser, with the master key: what it asks for, and what it has."""

    def __init__(self, number: int, view: str) -> None:
        self.number, self.view = number, view
        self._tags: dict[str, str] = {}
        self._newest = ""

    def paths(self, turn: int) -> Iterator[str]:
        """Yield what is asked for in a turn."""
        yield "/pool"
        if self.view == REQUESTS:
            yield f"/pool/requests?limit={LATEST}{f'&since={self._newest}' if self._newest else ''}"
        if turn % HISTORY_TURNS == self.number % HISTORY_TURNS:
            yield from {HISTORY: [HISTORY_PATH], OVERVIEW: [HIGHLIGHTS_PATH]}.get(self.view, [])

    async def look(self, http: aiohttp.ClientSession, server: Server, turn: int) -> None:
        """Ask once; a response that is an error ends the benchmark."""
        for path in self.paths(turn):
            headers = {"x-litellm-api-key": f"{servers.TOKEN}-master", "accept": "application/json"}
            if path in self._tags:
                headers["if-none-match"] = self._tags[path]
            async with http.get(f"{server.url}{path}", headers=headers) as response:
                content = await response.read()
                if response.status not in {200, 304}:
                    raise RuntimeError(f"{server.name} responded with {response.status} to {path}: {content[:300]!r}")
                if tag := response.headers.get("etag"):
                    self._tags[path] = tag
                if path.startswith("/pool/requests") and response.status == 200:
                    found = (await response.json())["requests"]
                    self._newest = found[0]["id"] if found else self._newest


async def send(server: Server, first: int, seconds: float, *, stream: bool) -> Seen:
    """Let ``CLIENTS`` users send requests for so many seconds, beginning with one of ``USERS``."""
    tokens = [*USERS.values()]

    async def client(number: int) -> Seen:
        asking = dataclasses.replace(server, headers={"x-litellm-api-key": tokens[number % len(tokens)]})
        body = load.body(MODELS[number % len(MODELS)], SMALL, stream=stream)
        return await load.run(asking, load.repeated(body, 1, seconds), 1, stream=stream)

    whole, began = Seen(), time.monotonic()
    for seen in await asyncio.gather(*(client(first + number) for number in range(CLIENTS))):
        whole.first += seen.first
        whole.end += seen.end
    whole.seconds = time.monotonic() - began
    return whole


async def browse(server: Server, browsers: Sequence[Browser], turn: int, seconds: float) -> None:
    """Let each browser ask once, spread over so many seconds."""
    async with aiohttp.ClientSession() as http:
        for browser in browsers:
            await asyncio.sleep(seconds / len(browsers))
            await browser.look(http, server, turn)


async def measure(every: Sequence[Server], rounds: int, seconds: float) -> dict[str, dict[str, list[Seen]]]:
    """Return the results by kind of response and server."""
    results: dict[str, dict[str, list[Seen]]] = {kind: {server.name: [] for server in every} for kind in KINDS}
    browsers = [Browser(number, view) for number, view in enumerate(BROWSERS)]
    for kind, stream in KINDS.items():
        for turn in range(rounds + 1):  # the first one is a warm-up
            found = await measure_round(every, browsers, turn, seconds, stream=stream)
            for name, seen in found.items() if turn else ():
                results[kind][name].append(seen)
            shown = ", ".join(f"{name} {seen.cpu_ms:.3f} ms, {seen.requests_per_second:.0f}/s" for name, seen in found.items())
            sys.stderr.write(f"{kind}: {shown}\n")
    return results


async def measure_round(
    every: Sequence[Server], browsers: Sequence[Browser], turn: int, seconds: float, *, stream: bool
) -> dict[str, Seen]:
    """Send each server requests for so many seconds, a slice at a time, and return the results by server."""
    found = {server.name: Seen() for server in every}
    before = {server.name: server.cpu_seconds_of_all() for server in every}
    looking = [server for server in every if server.name == WATCHED]
    browsing = [asyncio.ensure_future(browse(one, browsers, turn, seconds * len(every) * 0.95)) for one in looking]
    order = [*every]
    for number in range(round(seconds / SLICE_SECONDS)):
        random.Random(f"{turn} {number}").shuffle(order)  # noqa: S311 - an order
        for server in order:
            seen, whole = await send(server, number * CLIENTS, SLICE_SECONDS, stream=stream), found[server.name]
            whole.first += seen.first
            whole.end += seen.end
            whole.seconds += seen.seconds
    await asyncio.gather(*browsing)
    await asyncio.sleep(WRITTEN_SECONDS)
    for server in every:
        found[server.name].cpu = server.cpu_seconds_of_all() - before[server.name]
    return found


async def idle(server: Server, seconds: float, turns: int) -> tuple[float, float]:
    """Return the part of a processor that a proxy without requests takes, alone and with the page in the browsers."""
    browsers = [Browser(number, view) for number, view in enumerate(BROWSERS)]
    shares = []
    for looking in ((), browsers):
        cpu, began = server.cpu_seconds_of_all(), time.monotonic()
        for turn in range(turns):
            await (browse(server, looking, turn, seconds) if looking else asyncio.sleep(seconds))
        shares.append((server.cpu_seconds_of_all() - cpu) / (time.monotonic() - began))
    alone, watched = shares
    return alone, watched


def text(results: Mapping[str, Mapping[str, Sequence[Seen]]], shares: tuple[float, float], rounds: int) -> str:
    """Return the section of the page."""
    first = next(iter(results.values()))
    base = BEFORE if BEFORE in first else OFF
    others = [name for name in first if name != base]
    rows = []
    for kind, seen in results.items():
        cells = [report.percent(report.ratios(seen, report.cpu, name, base)) for name in others]
        rates = f"{statistics.median(map(report.rate, seen[base])):.0f}"
        rows.append([f"{SMALL}, {kind}", rates, f"{statistics.median(map(report.cpu, seen[base])):.3f}", *cells])
    table = report.table(["Claude", "requests/s", f"{base}, ms", *others], rows)
    views = ", ".join(f"{BROWSERS.count(view)} with the {view}" for view in dict.fromkeys(BROWSERS))
    alone, watched = (f"{100 * share:.1f} %" for share in shares)
    return (
        f"{report.WATCHED}\n\n{CLIENTS} clients of {len(USERS)} users at a time; processor time per request, in {rounds} "
        "rounds: the median, and the quartiles in parentheses. "
        f"The page is open in {len(BROWSERS)} browsers: {views}.\n\n{table}\n"
        f"Without any request, the proxy takes {alone} of a processor, and with the page in the browsers {watched}.\n"
    )


def write_history(file: Path) -> None:
    """Write the history of ninety days of a team."""
    asyncio.run(made_up_home.write_history(file, time.time(), Team(users=len(USERS))))


def start(place: Path, upstream: Server, name: str, root: Path, history: Path) -> Server:
    """Start a proxy with a history."""
    state = (place / made_up_home.HISTORY).parent
    state.mkdir(mode=0o700, parents=True)
    shutil.copy(history, place / made_up_home.HISTORY)
    before = "from benchmarks.watched import turn_off; turn_off()" if name == OFF else ""
    return servers.start_claude_proxy(place, upstream, name=name, before=before, users=USERS, root=root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the section, or write it into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watched", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each number is measured")
    parser.add_argument("--seconds", type=float, default=POLL_SECONDS, help="how long each server has requests in a round")
    parser.add_argument("--before", type=Path, help="the folder of an earlier version's code, to compare with")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    names = {BEFORE: options.before.resolve()} if options.before else {}
    names |= dict.fromkeys((OFF, ON, WATCHED), ROOT)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        upstream = servers.start_upstream(Path(folder))
        stack.callback(upstream.stop)
        history, every = Path(folder) / "history.sqlite", list[Server]()
        write_history(history)
        for name, root in names.items():
            every.append(start(Path(folder) / str(len(every)), upstream, name, root, history))
            stack.callback(every[-1].stop)
        here = os.sched_getaffinity(0)
        os.sched_setaffinity(0, servers.CLIENT_CPUS)
        try:
            results = uvloop.run(measure(every, options.rounds, options.seconds))
            shares = uvloop.run(idle(every[-1], options.seconds, max(1, options.rounds // 3)))
        finally:
            os.sched_setaffinity(0, here)
    found = text(results, shares, options.rounds)
    if options.write:
        PAGE.write_text(report.with_section(PAGE.read_text(encoding="utf-8"), report.WATCHED, found), encoding="utf-8")
    else:
        sys.stdout.write(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
