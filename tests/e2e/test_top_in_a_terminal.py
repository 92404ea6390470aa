"""``claude-proxy top`` in a terminal of its own, before a real proxy: what it shows, and how it leaves the terminal."""

import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import pytest
import upstream as up
from conftest import TOKENS, by_credential
from processes import MASTER_KEY, ROOT, STATIC_TOKEN, Proxy, clean_environment, new_question
from pseudo_terminal import Terminal

OTHER_SCREEN, FIRST_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
HIDDEN_CURSOR, CURSOR = b"\x1b[?25l", b"\x1b[?25h"


def command(proxy: Proxy, *options: str) -> list[str]:
    return [sys.executable, "-m", "claude_proxy", "--project", str(proxy.home), "top", "--every", "0.5", *options]


def environment(proxy: Proxy) -> dict[str, str]:
    keys = {"PROXY_STATIC_TOKEN": STATIC_TOKEN, "LITELLM_MASTER_KEY": MASTER_KEY, "PORT": str(proxy.port)}
    return clean_environment(proxy.home, **keys)


@pytest.fixture
def top() -> Iterator[Callable[..., Terminal]]:
    """Start ``top`` for a proxy; it is ended at the end."""
    started: list[Terminal] = []

    def start(proxy: Proxy, *options: str) -> Terminal:
        started.append(Terminal(command(proxy, *options), ROOT, environment(proxy)))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


def test_what_happens_is_shown(start_proxy: Callable[..., Proxy], upstream: up.Upstream, top: Callable[..., Terminal]) -> None:
    """A request and a rejected credential appear by themselves; views, another size and a stopped proxy are shown as well."""
    refused = up.anthropic_error(401, "authentication_error", "OAuth token has been revoked.")
    upstream.answer = by_credential(a=lambda _: refused)
    proxy = start_proxy()
    terminal = top(proxy)
    terminal.wait_for("q quit", quiet=0.2)
    terminal.wait_for(proxy.url, quiet=0.2)
    assert {line.split()[0] for line in terminal.screen.text.splitlines() if " usable " in line} >= {*TOKENS}
    assert "rejected" not in terminal.screen.text
    for _ in range(3):
        assert proxy.ask(new_question("claude-sonnet-5")).status_code == 200
    assert proxy.ask(new_question("demo")).status_code == 200
    terminal.wait_for("rejected", quiet=0.2)
    terminal.send("u")
    terminal.wait_for("claude-sonnet-5", quiet=0.2)
    terminal.wait_for("demo", quiet=0.2)
    terminal.send("r")
    terminal.wait_for("o overview", quiet=0.2)
    terminal.resize(120, 30)
    for _ in range(50):  # a picture of the old size may have been on its way
        terminal.wait_for("q quit", quiet=0.2)
        if len(terminal.screen.text.splitlines()[0]) == 120:
            break
    assert len(terminal.screen.text.splitlines()[0]) == 120
    proxy.stop()
    terminal.wait_for("No proxy responds", quiet=0.2)
    terminal.wait_for("The figures are those of", quiet=0.2)
    assert not any(secret in terminal.output for secret in (STATIC_TOKEN.encode(), MASTER_KEY.encode()))


@pytest.mark.parametrize(("end", "code"), [("q", 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_terminal_is_left_as_it_was(
    start_proxy: Callable[..., Proxy], top: Callable[..., Terminal], end: str | signal.Signals, code: int
) -> None:
    """At the end the first screen is there again, with its cursor, an echo and lines; nothing is printed on it."""
    terminal = top(start_proxy())
    before = termios.tcgetattr(terminal.descriptor)
    terminal.wait_for("q quit", quiet=0.2)
    assert termios.tcgetattr(terminal.descriptor) != before
    if isinstance(end, str):
        terminal.send(end)
    else:
        terminal.process.send_signal(end)
    assert terminal.wait_for_end() == code
    assert termios.tcgetattr(terminal.descriptor) == before
    first, _, rest = terminal.output.rpartition(FIRST_SCREEN)
    assert OTHER_SCREEN in first
    assert terminal.output.rindex(CURSOR) > terminal.output.rindex(HIDDEN_CURSOR)
    assert rest.replace(CURSOR, b"") == b""


def test_into_a_pipe(start_proxy: Callable[..., Proxy]) -> None:
    """Into a pipe it prints one picture and ends."""
    proxy = start_proxy()
    done = subprocess.run(
        command(proxy), cwd=ROOT, env=environment(proxy), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"claude-proxy {proxy.url}")
    assert "\x1b" not in done.stdout
