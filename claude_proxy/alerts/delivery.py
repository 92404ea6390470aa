"""Delivers messages: starts ``claude_proxy/alerts/sender.py`` as a process, with a time limit. Nothing here raises."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import claude_proxy
from claude_proxy.alerts.messages import Message
from claude_proxy.secret import Secret

logger = logging.getLogger(__name__)

SECONDS = 60.0
SENDER = "claude_proxy.alerts.sender"
# What the process needs of the environment: no token of the proxy, and no key of a provider.
PASSED_ON = (
    "HOME", "LANG", "LC_ALL", "PATH", "TZ", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    *(form for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for form in (name, name.lower())),
)  # fmt: skip
Outgoing = Sequence[tuple[Secret, Message | None]]


async def deliver(found: Outgoing, *, seconds: float = SECONDS) -> list[str]:
    """Send each message to its address; return a reason for each, empty if it was sent. No reason contains a secret.

    None as a message: the address is only checked.
    """
    if not found:
        return []
    try:
        process = await asyncio.create_subprocess_exec(
            *_command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(os.environ),
        )
    except OSError as problem:
        return [f"no process could be started ({problem.strerror})"] * len(found)
    try:
        async with asyncio.timeout(seconds):
            out, _ = await process.communicate(_sent(found))
    except TimeoutError:
        return [f"no response within {seconds:g} s"] * len(found)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return _reasons(out, len(found))


def deliver_now(found: Outgoing, *, seconds: float = SECONDS) -> list[str]:
    """Do the same for a command, which waits for it."""
    if not found:
        return []
    try:
        done = subprocess.run(  # noqa: S603 - this package itself
            _command(), input=_sent(found), capture_output=True, timeout=seconds, check=False, env=environment(os.environ)
        )
    except OSError as problem:
        return [f"no process could be started ({problem.strerror})"] * len(found)
    except subprocess.TimeoutExpired:
        return [f"no response within {seconds:g} s"] * len(found)
    return _reasons(done.stdout, len(found))


def _command() -> list[str]:
    return [sys.executable, "-P", "-m", SENDER]


def _sent(found: Outgoing) -> bytes:
    return json.dumps([{"url": url.reveal(), **(message._asdict() if message else {})} for url, message in found]).encode()


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the process, in which it finds this package."""
    found = {name: environ[name] for name in PASSED_ON if name in environ}
    folders = [str(Path(claude_proxy.__file__).resolve().parents[1]), *environ.get("PYTHONPATH", "").split(os.pathsep)]
    return found | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}


def _reasons(out: bytes, count: int) -> list[str]:
    try:
        found: Any = json.loads(out)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) != count:
        logger.debug("the sender of alerts ended without a result")
        return ["the process that sends ended without a result"] * count
    return [str(reason) for reason in found]
