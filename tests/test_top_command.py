"""cli/top_command.py: what ``top`` asks the proxy, what it prints off a terminal, and how its views are changed."""

import json
import socket
import threading

import httpx
import pytest
import respx
from command_line import run
from test_report import NOW
from test_top_frame import everything, pool, utc

from claude_proxy.cli import top_command
from claude_proxy.cli.running_proxy import Connection, ProxyUnavailable
from claude_proxy.cli.top_command import Reader, Source, moved
from claude_proxy.cli.top_frame import VIEWS, Data, Size, View, last_offset

URL = "http://127.0.0.1:4000"
DATA = everything()
REQUESTS = f"{URL}{top_command.REQUESTS_PATH}"


@pytest.fixture
def proxy():
    """A proxy with everything, asked without a network."""
    with respx.mock(using="httpx", assert_all_called=False) as mock:
        mock.get(f"{URL}/pool").respond(json=DATA.pool)
        mock.get(REQUESTS).respond(json=DATA.requests)
        yield mock


@pytest.mark.parametrize("options", [[], ["--once"]])
def test_off_a_terminal_it_is_one_picture(project, proxy, capsys, options):
    """Into a pipe one picture is printed, without colours, keys or control characters, and the exit code is 0."""
    run(project, "top", *options)
    printed = capsys.readouterr()
    assert printed.err == ""
    first, second, *_ = printed.out.splitlines()
    assert first.startswith(f"claude-proxy {URL} ")
    assert second == "2 of 4 credentials are usable, 31 % of the week is free."
    assert "\x1b" not in printed.out
    assert len(proxy.calls) == 2


def test_the_same_as_json(project, proxy, capsys):
    """``--json`` prints what the proxy responded, once."""
    run(project, "top", "--json")
    assert json.loads(capsys.readouterr().out) == {"pool": DATA.pool, "requests": DATA.requests}


def test_the_token_and_the_address(project, proxy, capsys):
    """The master key is used if there is one, else the static token; ``--url`` names another proxy."""
    (project / ".env").write_text("PROXY_STATIC_TOKEN=sk-made-up-token\n")
    run(project, "top", "--url", URL)
    assert {call.request.headers["x-litellm-api-key"] for call in proxy.calls} == {"sk-made-up-token"}
    assert capsys.readouterr().out


def test_a_proxy_that_does_not_run(project, capsys):
    """A proxy that does not respond is one sentence, and the exit code is 1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(SystemExit) as caught:
            run(project, "top", "--url", f"http://127.0.0.1:{probe.getsockname()[1]}")
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (1, "")
    assert printed.err.startswith("Error: No proxy responds at ")


ODD = json.dumps(pool() | {"credentials": [1]})


@pytest.mark.parametrize("body", ["hello", "[]", '"x"', '{"pool": 1}', '{"now": "x"}', '{"now": 1}', ODD])
def test_a_program_that_is_not_the_proxy(project, body, capsys):
    """An address where something else responds is an error in one line."""
    with respx.mock(using="httpx") as mock:
        mock.get(url__startswith=URL).respond(text=body)
        with pytest.raises(SystemExit) as caught:
            run(project, "top")
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (1, "")
    assert printed.err.count("\n") == 1
    assert "is not claude-proxy, or it has another version" in printed.err


@pytest.mark.parametrize("every", ["0", "x", "1e9"])
def test_an_interval_that_is_none(project, capsys, every):
    """An interval is a number of seconds within bounds."""
    with pytest.raises(SystemExit) as caught:
        run(project, "top", "--every", every)
    assert caught.value.code == 2
    assert "--every" in capsys.readouterr().err


def source(clock=lambda: NOW + 100):
    return Source(Connection(URL, None), URL, clock)


@pytest.mark.parametrize("status", [403, 404, 405])
def test_a_proxy_that_lists_no_requests(proxy, status):
    """A proxy of an earlier version is not asked for requests again."""
    proxy.get(REQUESTS).respond(status)
    found = source()
    assert [found.read().requests for _ in range(3)] == [None] * 3
    assert [call.request.url.path for call in proxy.calls] == ["/pool", "/pool/requests", "/pool", "/pool"]


def test_requests_that_fail(proxy):
    """Another error is one, and the next time they are asked for again."""
    proxy.get(REQUESTS).mock(side_effect=[httpx.Response(503), httpx.Response(200, json=DATA.requests)])
    found = source()
    with pytest.raises(ProxyUnavailable, match="HTTP 503"):
        found.read()
    assert found.read().requests == DATA.requests


def test_the_time_of_a_report_that_has_not_changed(proxy):
    """Times are those of the proxy's clock; with a report that is not sent again, they go on."""
    seconds = iter([1000.0, 1000.0, 1007.0, 1007.0])
    proxy.get(f"{URL}/pool").mock(
        side_effect=[httpx.Response(200, json=DATA.pool, headers={"etag": '"a"'}), httpx.Response(304)]
    )
    found = source(lambda: next(seconds))
    assert [found.read().now, found.read().now] == [NOW, NOW + 7]
    assert [call.request.headers.get("if-none-match") for call in proxy.calls if call.request.url.path == "/pool"] == [
        None,
        '"a"',
    ]


class Scripted:
    """A source whose responses are given; it says when the last one was read."""

    def __init__(self, *responses):
        self.responses = [*responses]
        self.done = threading.Event()

    def read(self):
        found = self.responses.pop(0)
        if not self.responses:
            self.done.set()
        if isinstance(found, Exception):
            raise found
        return found


def test_a_response_that_does_not_come_leaves_the_figures():
    """A proxy that is away is reported beside the last figures; once it is back, there are new ones."""
    first, later = Data(URL, NOW, DATA.pool), Data(URL, NOW + 9, DATA.pool)
    for responses, problem, now in (
        ([ProxyUnavailable("away")], "away", NOW),
        ([ProxyUnavailable("away"), later], "", NOW + 9),
    ):
        scripted = Scripted(*responses)
        reader = Reader(scripted, first, 0.001)
        reader.start()
        assert scripted.done.wait(10)
        reader.stop()
        reader.join(10)
        assert (reader.data.problem, reader.data.now, reader.data.pool) == (problem, now, DATA.pool)


def test_an_error_of_the_program_is_not_kept_quiet():
    """Any other error ends the reading, and is there for the one who shows the pictures."""
    scripted = Scripted(RuntimeError("made up"))
    reader = Reader(scripted, Data(URL, NOW, DATA.pool), 0.001)
    reader.start()
    reader.join(10)
    assert isinstance(reader.error, RuntimeError)


SIZE = Size(80, 24)
MANY = everything(credentials=12)
LAST = last_offset(MANY, View("requests"), SIZE, utc)


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        (View(), "c", View("credentials")),
        (View("requests", 4), "U", View("users")),
        (View("requests", 4), "escape", View()),
        (View("requests", 4), "tab", View("users")),
        (View("budgets"), "tab", View()),
        (View("requests"), "down", View("requests", 1)),
        (View("requests"), "up", View("requests")),
        (View("requests"), "page down", View("requests", 12)),
        (View("requests", 12), "page up", View("requests")),
        (View("requests"), "end", View("requests", LAST)),
        (View("requests", LAST), "page down", View("requests", LAST)),
        (View("requests", LAST), "home", View("requests")),
        (View("requests", 10**6), "?", View("requests", LAST)),
        (View(), "down", View()),
    ],
)
def test_a_key(before, key, after):
    """A letter or Tab opens a view, and keys scroll it no further than its last line."""
    assert moved(before, key, MANY, SIZE) == after


def test_every_view_has_a_letter():
    """Each view has a letter of its own, and none is that of the end."""
    letters = [name[0] for name in VIEWS]
    assert len({*letters}) == len(letters)
    assert not {*letters, "tab", "escape"} & top_command.ENDS
