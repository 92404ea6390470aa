"""Delivers messages: starts ``claude_proxy/alerts/sender.py`` as a process, with a time limit. Nothing here raises."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import claude_proxy
from claude_proxy.alerts.messages import Message
from claude_proxy.secret import Secret

SECONDS = 60.0
SENDER = "claude_proxy.alerts.sender"
# What the process needs of the environment: no token of the proxy, and no key of a provider.
PASSED_ON = (
    "HOME", "LANG", "LC_ALL", "PATH", "TZ", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    *(form for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for form in (name, name.lower())),
)  # fmt: skip
NO_RESULT = "the process that sends ended without a result"
Outgoing = Sequence[tuple[Secret, Message | None]]
# Called with the place of a message, and a reason, empty if it was sent.
Report = Callable[[int, str], None]


async def deliver(found: Outgoing, report: Report, *, seconds: float = SECONDS) -> None:
    """Send each message to its address, and report each once: its place and a reason, empty if it was sent.

    A message is reported as soon as it is sent. No reason contains a secret. None as a message: the address is only checked.
    """
    open_places = _Open(len(found), report)
    if not found:
        return
    reason = NO_RESULT
    try:
        process = await asyncio.create_subprocess_exec(
            *_command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(os.environ),
        )
    except OSError as problem:
        open_places.close(f"no process could be started ({problem.strerror})")
        return
    try:
        async with asyncio.timeout(seconds):
            await _converse(process, _sent(found), open_places)
    except TimeoutError:
        reason = f"no response within {seconds:g} s"
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        open_places.close(reason)


async def _converse(process: asyncio.subprocess.Process, sent: bytes, open_places: "_Open") -> None:
    if process.stdin is None or process.stdout is None:
        return
    with suppress(ConnectionError):  # a process that has ended says why, or nothing
        process.stdin.write(sent)
        await process.stdin.drain()
    process.stdin.close()
    async for line in process.stdout:
        open_places.take(line)


def deliver_now(found: Outgoing, *, seconds: float = SECONDS) -> list[str]:
    """Do the same for a command, which waits for all reasons."""
    reasons = [""] * len(found)
    if not found:
        return reasons
    open_places, reason = _Open(len(found), reasons.__setitem__), NO_RESULT
    try:
        done = subprocess.run(  # noqa: S603 - this package itself
            _command(), input=_sent(found), capture_output=True, timeout=seconds, check=False, env=environment(os.environ)
        )
        out = done.stdout
    except OSError as problem:
        out, reason = b"", f"no process could be started ({problem.strerror})"
    except subprocess.TimeoutExpired as problem:
        out, reason = problem.stdout or b"", f"no response within {seconds:g} s"
    for line in out.splitlines():
        open_places.take(line)
    open_places.close(reason)
    return reasons


class _Open:
    """The messages that are not reported yet."""

    def __init__(self, count: int, report: Report) -> None:
        self._places = set(range(count))
        self._report = report

    def take(self, line: bytes) -> None:
        """Report the message of a line of the process; another line is skipped."""
        try:
            place, reason = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            return
        if isinstance(place, int) and place in self._places:
            self._places.remove(place)
            self._report(place, str(reason))

    def close(self, reason: str) -> None:
        """Report the rest."""
        while self._places:
            self._report(self._places.pop(), reason)


def _command() -> list[str]:
    return [sys.executable, "-P", "-m", SENDER]


def _sent(found: Outgoing) -> bytes:
    return json.dumps([{"url": url.reveal(), **(message._asdict() if message else {})} for url, message in found]).encode()


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the process, in which it finds this package."""
    found = {name: environ[name] for name in PASSED_ON if name in environ}
    folders = [str(Path(claude_proxy.__file__).resolve().parents[1]), *environ.get("PYTHONPATH", "").split(os.pathsep)]
    return found | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
