"""``claude-proxy top``: the running proxy in a terminal, until q or Ctrl-C. Off a terminal it prints one picture."""

import dataclasses
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import click

from claude_proxy.cli.command import command
from claude_proxy.cli.console import has_colours, is_terminal
from claude_proxy.cli.keyboard import END_OF_INPUT, keyboard
from claude_proxy.cli.parsing import INTERRUPTED, Options, json_option, url_option
from claude_proxy.cli.progress import doing
from claude_proxy.cli.running_proxy import Connection, ProxyUnavailable, unexpected, url_of
from claude_proxy.cli.top_frame import (
    FORM_ERRORS,
    PLAIN_WIDTH,
    VIEWS,
    Data,
    Size,
    View,
    as_text,
    frame,
    last_offset,
)
from claude_proxy.config.settings import Settings

EVERY_SECONDS = 2.0
# How soon a key, another size of the terminal or a response is seen, in seconds.
LOOK_SECONDS = 0.2
REQUESTS_PATH = "/pool/requests?limit=100"
# The statuses of a proxy that lists no requests.
NO_ROUTE = frozenset({403, 404, 405})
ENDS = frozenset({"q", "Q", END_OF_INPUT})
# What a key scrolls: lines, or parts of the terminal's height.
LINES = {"down": 1, "j": 1, "up": -1, "k": -1}
PAGES = {"page down": 1, "page up": -1}


class Source:
    """The latest of what the proxy responds, read by one thread at a time."""

    def __init__(self, connection: Connection, url: str, clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._url = url
        self._clock = clock
        self._lists_requests = True
        self._pool: Any = None
        self._ahead = 0.0  # of this machine's clock, in seconds

    def read(self) -> Data:
        """Ask the proxy; raise ``ProxyUnavailable`` where it gives no usable response."""
        pool = self._connection.get_json("/pool")
        if pool is not self._pool:  # else it has not changed, and its time is an earlier one
            self._pool = pool
            try:
                self._ahead = float(pool["now"]) - self._clock()
            except (LookupError, TypeError, ValueError):
                raise unexpected(self._url) from None
        return Data(self._url, self._clock() + self._ahead, pool, self._requests())

    def _requests(self) -> Any:
        if not self._lists_requests:
            return None
        try:
            return self._connection.get_json(REQUESTS_PATH)
        except ProxyUnavailable as error:
            if error.status not in NO_ROUTE:
                raise
            self._lists_requests = False
            return None


class Reader:
    """Asks the proxy in a thread of its own until it is stopped; ``data`` is what was read last.

    A response that does not come leaves the figures as they are, with the reason. Any other error ends the thread: ``error``.
    """

    def __init__(self, source: Source, first: Data, every: float) -> None:
        self.data = first  # replaced whole by the thread, read by the others
        self.error: Exception | None = None
        self._source = source
        self._every = every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading, without a wait for a response."""
        self._stopped.set()

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                self.data = self._source.read()
            except ProxyUnavailable as error:
                self.data = dataclasses.replace(self.data, problem=str(error))
            except Exception as error:  # noqa: BLE001 - figures that stand still would look like a quiet proxy
                self.error = error
                return


def top(options: Options) -> int:
    """Show the running proxy."""
    settings = Settings.parse(os.environ)
    url = options.url or url_of(settings)
    source = Source(Connection(url, settings.master_key or settings.static_token), url)
    with doing("Waiting for the proxy ..."):
        first = source.read()
    try:
        if not options.json and not options.once and is_terminal(sys.stdout):
            return _live(Reader(source, first, options.every))
        width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else PLAIN_WIDTH
        picture = as_text(frame(first, View(), Size(width), unicode=has_unicode()), colours=has_colours(sys.stdout))
    except FORM_ERRORS:
        raise unexpected(url) from None
    whole = {"pool": first.pool, "requests": first.requests}
    sys.stdout.write(json.dumps(whole, indent=2) + "\n" if options.json else picture)
    return 0


def has_unicode() -> bool:
    """Whether stdout takes the characters of bars."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _live(reader: Reader) -> int:
    """Show picture after picture on the terminal's other screen; return the exit code."""
    from rich.console import Console  # noqa: PLC0415 - late: takes long to import
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    signal.signal(signal.SIGTERM, _terminate)
    console = Console(no_color=not has_colours(sys.stdout), legacy_windows=False)
    unicode, between = has_unicode(), Text("\n", no_wrap=True, overflow="ignore", end="")
    with keyboard() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        reader.start()
        view, shown = View(), None
        try:
            while True:
                if reader.error:
                    raise reader.error
                size = Size(*console.size)
                if shown != (shown := (reader.data, view, size)):
                    live.update(between.join(frame(reader.data, view, size, unicode=unicode)), refresh=True)
                for key in keys.pressed(LOOK_SECONDS):
                    if key in ENDS:
                        return 0
                    view = moved(view, key, reader.data, size)
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            reader.stop()


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def moved(view: View, key: str, data: Data, size: Size) -> View:
    """Return the view after a key: another one by its first letter or Tab, or the same one scrolled."""
    if key == "escape":
        return View()
    if key == "tab":
        return View(VIEWS[(VIEWS.index(view.name) + 1) % len(VIEWS)])
    if chosen := next((name for name in VIEWS if key.lower() == name[0]), None):
        return View(chosen)
    last = last_offset(data, view, size)
    page = max(1, (size.height or 1) // 2)
    ends = {"home": 0, "g": 0, "end": last, "G": last}
    offset = ends.get(key, view.offset + LINES.get(key, 0) + page * PAGES.get(key, 0))
    return View(view.name, min(max(0, offset), last))


TOP = command(
    "top",
    top,
    [
        click.Option(["--once"], is_flag=True, help="Print one picture and exit, as into a pipe."),
        click.Option(
            ["--every"],
            type=click.FloatRange(0.5, 3600),
            default=EVERY_SECONDS,
            show_default=True,
            metavar="SECONDS",
            help="How often the proxy is asked.",
        ),
        json_option(),
        url_option(),
    ],
    about="Show the running proxy until q or Ctrl-C: is all well, alerts, money, credentials with the worst first, and the "
    "last requests. A letter opens a view, the arrow keys scroll it.",
    examples=("claude-proxy top", "claude-proxy top --once", "claude-proxy top --json | jq .pool.alerts"),
)
