"""benchmarks/watched.py: what is turned off is what records, browsers ask as the page does, and the section has its place."""

import asyncio
import importlib
import subprocess
import sys

import pytest
from aiohttp import web

from benchmarks import report, watched
from benchmarks.load import Seen
from benchmarks.servers import ROOT, Server
from benchmarks.watched import (
    BEFORE,
    BROWSERS,
    HIGHLIGHTS_PATH,
    HISTORY,
    HISTORY_PATH,
    OFF,
    ON,
    OVERVIEW,
    RECORDS,
    REQUESTS,
    WATCHED,
    Browser,
)


@pytest.mark.parametrize(("module", "path", "instead"), RECORDS)
def test_what_is_turned_off_exists(module, path, instead):
    """Each part that records is a method of the proxy; another name would measure nothing."""
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found)
    assert eval(instead)


def test_turning_off_in_a_process():
    """After ``turn_off`` each of the parts is replaced."""
    lines = ["from benchmarks.watched import turn_off", "turn_off()"]
    for module, path, _ in RECORDS:
        lines += [f"import {module}", f"assert {module}.{path}.__name__ == '<lambda>'"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def asked():
    return []


async def looked(asked, view, turns, statuses=()):
    """Let one browser look several times at a server that lists what it is asked for."""
    left = [*statuses]

    async def respond(request):
        asked.append((request.path_qs, request.headers.get("if-none-match"), request.headers["x-litellm-api-key"]))
        if left:
            return web.Response(status=left.pop(0))
        return web.json_response({"requests": [{"id": "1.5-ab"}]}, headers={"etag": '"a"'})

    app = web.Application()
    app.router.add_get("/{path:.*}", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server = Server("made up", f"http://{host}:{port}", {}, None, None, {})
    browser = Browser(3, view)
    try:
        for turn in range(turns):
            await watched.browse(server, [browser], turn, 0.0)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("view", "paths"),
    [
        (OVERVIEW, [*["/pool"] * 4, HIGHLIGHTS_PATH]),
        (REQUESTS, ["/pool", "/pool/requests?limit=100", *["/pool", "/pool/requests?limit=100&since=1.5-ab"] * 3]),
        (HISTORY, ["/pool", "/pool", "/pool", "/pool", HISTORY_PATH]),
    ],
)
def test_a_browser_asks_as_the_page_does(asked, view, paths):
    """A browser asks for the pool each time, for newer requests if they are shown, and once a minute for the history."""
    asyncio.run(looked(asked, view, 4))
    assert [path for path, *_ in asked] == paths
    tags = [tag for path, tag, _ in asked if path == "/pool"]
    assert tags == [None, '"a"', '"a"', '"a"']
    assert {key for *_, key in asked} == {f"{watched.servers.TOKEN}-master"}


def test_an_error_ends_the_benchmark(asked):
    """A browser that gets an error measures nothing."""
    with pytest.raises(RuntimeError, match="responded with 503 to /pool"):
        asyncio.run(looked(asked, OVERVIEW, 1, [503]))


def test_every_view_is_open():
    """The ten browsers have every view that asks for something of its own."""
    assert len(BROWSERS) == 10
    assert {*BROWSERS} == {OVERVIEW, REQUESTS, HISTORY}


def seen(cpu):
    return Seen(end=[0.1] * 100, seconds=0.1, cpu=cpu)


def test_the_section():
    """The section has the growth of the processor time within each round, against the proxy that records nothing."""
    results = {"whole": {OFF: [seen(0.05)] * 3, ON: [seen(0.051)] * 3, WATCHED: [seen(0.052), seen(0.053), seen(0.0525)]}}
    text = watched.text(results, (0.001, 0.0124), 3)
    assert text.startswith(f"{report.WATCHED}\n")
    assert "| 2 kB, whole | 1000 | 0.500 | +2.0 % (+2.0 to +2.0) | +5.0 % (+4.5 to +5.5) |" in text
    assert "takes 0.1 % of a processor, and with the page in the browsers 1.2 %" in text
    assert "before, ms" in watched.text({"whole": {BEFORE: [seen(0.05)] * 2, OFF: [seen(0.05)] * 2}}, (0, 0), 2)


def test_a_section_has_its_place():
    """A section replaces itself, or stands at the end; the rest of the page is not touched, and run.py keeps it."""
    page, text = "# A\n\n## B\n\nb\n", f"{report.WATCHED}\n\nold\n"
    whole = report.with_section(page, report.WATCHED, text)
    assert whole == f"{page}\n{text}"
    assert report.section(whole, report.WATCHED) == text
    assert report.section(page, report.WATCHED) == ""
    further = f"{whole}\n## C\n\nc\n"
    new = f"{report.WATCHED}\n\nnew\n"
    assert report.with_section(further, report.WATCHED, new) == f"{page}\n{new}\n## C\n\nc\n"
