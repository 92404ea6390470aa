"""Sends messages with apprise, in a process of its own: ``python -m claude_proxy.alerts.sender``.

apprise loads all of its services, for about two seconds, and its calls block. In another process neither delays a request,
and a service that does not respond is ended with the process. Standard input is JSON with addresses and messages, because
an address may contain a token, which every user of the machine could read on a command line. Standard output is JSON with a
reason for each that failed.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

# How many messages are sent at the same time, and the maximum length of a reason.
THREADS = 8
MAX_REASON = 200
# Parts of an address that may be a secret: at least so long.
MIN_SECRET = 5
MARK = "***"
NOT_AN_ADDRESS = "apprise does not know an address of this form"
_PARTS = re.compile(r"[/:@?&=#+]")
APP = "claude-proxy"
# The schemes of apprise's generic webhook, by those of web addresses.
GENERIC = {"http": "json", "https": "jsons"}


class Reasons(logging.Handler):
    """Keeps the last warning of each thread: apprise says in the log why it has failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.by_thread: dict[int, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning."""
        self.by_thread[threading.get_ident()] = record.getMessage()


def send(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Send each message to its address; return a reason for each, empty if it was sent.

    Without a title the address is only checked.
    """
    reasons = Reasons()
    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [reasons], False
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda one: _send(one, reasons), found))


def _send(one: Mapping[str, Any], reasons: Reasons) -> str:
    url = str(one["url"])
    reasons.by_thread.pop(threading.get_ident(), None)
    try:
        service = _service(url)
        if service is None:
            return NOT_AN_ADDRESS
        if "title" not in one:
            return ""
        is_sent = service.notify(body=one["body"], title=one["title"], notify_type=one["kind"], body_format="text")
    except Exception as problem:  # noqa: BLE001 - a service with a bug must not keep the message from the others
        return f"apprise failed ({type(problem).__name__})"
    if is_sent:
        return ""
    return without_secrets(reasons.by_thread.get(threading.get_ident(), "") or "it was not sent", url)


def _service(url: str) -> Any:
    import apprise  # noqa: PLC0415 - it takes a while, and nothing else here needs it

    # Without pictures, which services would load from another site; and nothing is written to a disk.
    asset = apprise.AppriseAsset(
        app_id=APP, app_desc=APP, app_url="", image_url_mask="", image_url_logo="", async_mode=False, secure_logging=True
    )
    found = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if found is None and (generic := _generic(url)):
        return apprise.Apprise.instantiate(generic, asset=asset, suppress_exceptions=True)
    return found


def _generic(url: str) -> str:
    """Return the address of a generic webhook for a web address that no service claims; empty for another address."""
    scheme, _, rest = url.partition("://")
    generic = GENERIC.get(scheme.lower())
    return f"{generic}://{rest}" if generic else ""


def without_secrets(text: str, url: str) -> str:
    """Return a reason on one line, without any part of the address but its scheme."""
    parts = {part for form in (url, unquote(url)) for part in (form, *_PARTS.split(form)[1:])}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= MIN_SECRET:
            text = text.replace(part, MARK)
    shown = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return shown[:MAX_REASON]


def main() -> None:
    """Read the messages, send them, and write the reasons."""
    out = sys.stdout
    sys.stdout = sys.stderr  # what a service prints is no result
    json.dump(send(json.load(sys.stdin)), out)


if __name__ == "__main__":
    main()
