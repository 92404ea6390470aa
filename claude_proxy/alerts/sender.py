"""Sends messages with apprise, in a process of its own: ``python -m claude_proxy.alerts.sender``.

apprise loads all of its services, for about two seconds, and its calls block. In another process neither delays a request,
and a service that does not respond is ended with the process. Standard input is JSON with addresses and messages, because
an address may contain a token, which every user of the machine could read on a command line. Standard output has a line of
JSON for each message once it is sent: its place and a reason, empty if it was sent.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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


def send(found: Sequence[Mapping[str, Any]], report: Callable[[int, str], None]) -> None:
    """Send each message to its address, and report its place and a reason, empty if it was sent.

    Without a title the address is only checked. ``report`` is called from one thread at a time.
    """
    reasons = Reasons()
    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [reasons], False
    with ThreadPoolExecutor(THREADS) as pool:
        places = {pool.submit(_send, one, reasons): place for place, one in enumerate(found)}
        for done in as_completed(places):
            report(places[done], done.result())


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
    """Read the messages, send them, and write the reasons. Redirections are not followed: tokens reach no other host."""
    import requests  # noqa: PLC0415 - with apprise, which uses it

    requests.Session.get_redirect_target = lambda *_: None  # type: ignore[method-assign]
    out = sys.stdout
    sys.stdout = sys.stderr  # what a service prints is no result
    send(json.load(sys.stdin), lambda place, reason: print(json.dumps([place, reason]), file=out, flush=True))


if __name__ == "__main__":
    main()
