"""The ASGI app that is served: LiteLLM's, once the gateway is in place."""

import contextlib
import faulthandler
import gc
import logging
import os

from claude_proxy.config.outbound_proxies import outbound_proxies
from claude_proxy.config.settings import LogFormat, environment
from claude_proxy.config.static_token import OWN_FILE
from claude_proxy.litellm.quiet import StartOutput

# An import creates hardly any garbage, and searching for it takes a fifth of the start.
gc.disable()
# Also without the launcher this app is open only if PROXY_STATIC_TOKEN is `open`.
os.environ.setdefault(OWN_FILE, "")
# Before LiteLLM is imported: its modules must not see the proxy's own secrets, or a NO_PROXY with which it fails.
environment()
outbound_proxies()

from litellm.proxy.proxy_server import app as litellm_app

from claude_proxy.anthropic.errors import own_refusal, send_refusal
from claude_proxy.asgi import Message, Receive, Scope, Send
from claude_proxy.credentials.redaction import Redactor, secrets_of
from claude_proxy.litellm.bootstrap import close, drain_seconds, watch_config
from claude_proxy.server.draining import Draining, take_signals
from claude_proxy.server.gateway import Gateway
from claude_proxy.server.supervisor import ReportedOtherwise
from claude_proxy.text import printable
from claude_proxy.usage import request_log

logger = logging.getLogger(__name__)

# The thresholds of ``gc.set_threshold``; Python's own are 700, 10 and 10. A full collection takes 0.1 s at 200 streams.
GARBAGE_THRESHOLDS = 10_000, 3, 3

# Some of LiteLLM's dependencies are not Python; if one of them crashes the process, the log should show where.
faulthandler.enable()


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a request on; respond with 503 while the gateway is missing because LiteLLM has not loaded the callbacks.

    LiteLLM 1.106.2 starts without them, and without an error, for example with a configuration whose name does not end in
    ``.yaml``. Health checks fail as well then.
    """
    if scope["type"] == "lifespan":
        with contextlib.suppress(_NotStarted), StartOutput.in_place() as output:
            await litellm_app(scope, receive, _around(send, output))
        return
    if not isinstance(litellm_app.middleware_stack, Gateway):
        if scope["type"] == "http":
            await send_refusal(send, own_refusal(503, "The proxy is not ready: its callbacks are not loaded."))
        return
    scope["app"] = litellm_app
    await litellm_app.middleware_stack(scope, receive, send)


app = Draining(serve)


class _NotStarted(Exception):
    """LiteLLM's start has failed, and the server has been notified."""


def report_failure(traceback: str) -> None:
    """Log why LiteLLM does not start: the error at the end of a traceback, on one line and without secrets."""
    as_json = environment().get("PROXY_LOG_FORMAT", "").strip() == LogFormat.JSON.value
    logging.getLogger("uvicorn.error").addFilter(ReportedOtherwise())
    request_log.configure(Redactor(secrets_of(environment())), verbose=False, as_json=as_json)
    lines = traceback.strip().splitlines() or ["no error is known"]
    cause = "DATABASE_URL" if lines[-1].startswith("prisma.") else "config.yaml"
    logger.error("LiteLLM does not start with %s: %s; correct %s, then start again", cause, printable(lines[-1]), cause)


def keep_what_is_there() -> None:
    """Exclude all objects of the start from garbage collection, and collect less often.

    LiteLLM's modules and price list are some 1.5 million objects that stay; its requests create many short-lived ones.
    """
    gc.collect()
    gc.freeze()
    # Otherwise Python would postpone full collections until a quarter as many new objects exist.
    gc.collect()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    gc.enable()


def _around(send: Send, output: StartOutput) -> Send:
    """Return a ``send`` that starts what has to wait for LiteLLM's start.

    At the end it writes the last changes to the store, before the server learns that the stop is complete.
    """

    async def sent(message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            # Starlette's message is a whole traceback, and it raises the error once more afterwards.
            report_failure(message.get("message", ""))
            await send({"type": message["type"]})
            raise _NotStarted
        if message["type"] == "lifespan.startup.complete":
            output.pass_all()
            watch_config()
            keep_what_is_there()
            if (seconds := drain_seconds()) is not None:
                take_signals(app, seconds)
        if message["type"] == "lifespan.shutdown.complete":
            await close()
        await send(message)

    return sent
