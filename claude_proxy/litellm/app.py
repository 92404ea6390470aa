"""The ASGI app that is served: LiteLLM's, and nothing of it before the gateway stands around it."""

import contextlib
import faulthandler
import gc
import logging
import os

from claude_proxy.config.outbound_proxies import outbound_proxies
from claude_proxy.config.settings import LogFormat, environment
from claude_proxy.config.static_token import OWN_FILE
from claude_proxy.litellm.quiet import StartOutput

# Of what an import makes hardly anything is garbage, and to search it takes a fifth of the start.
gc.disable()
# Without the launcher, too, this app is open only where PROXY_STATIC_TOKEN says so.
os.environ.setdefault(OWN_FILE, "")
# Before LiteLLM is imported: neither its modules nor what it starts see the proxy's own secrets, or a NO_PROXY that ends it.
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

# How many more objects than have gone there may be before the youngest are searched, and how many such searches come before
# one of the older ones; Python's own numbers are 700, 10 and 10. A search of all takes 0.1 s at 200 streams.
GARBAGE_THRESHOLDS = 10_000, 3, 3

# Some of what LiteLLM brings is not Python; where that ends the process, the log should say what it was at.
faulthandler.enable()


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a request on; answer 503 while the gateway is not there, whatever kept LiteLLM from loading the callbacks.

    LiteLLM 1.106.2 starts without a word, and without any rule, for example with a configuration whose name does not end
    in ``.yaml``. A health check then fails as well.
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
    """LiteLLM's start has failed, and the server knows it."""


def report_failure(traceback: str) -> None:
    """Log why LiteLLM does not start: the error at the end of a traceback, on one line and without secrets."""
    as_json = environment().get("PROXY_LOG_FORMAT", "").strip() == LogFormat.JSON.value
    logging.getLogger("uvicorn.error").addFilter(ReportedOtherwise())
    request_log.configure(Redactor(secrets_of(environment())), verbose=False, as_json=as_json)
    lines = traceback.strip().splitlines() or ["no error is known"]
    cause = "DATABASE_URL" if lines[-1].startswith("prisma.") else "config.yaml"
    logger.error("LiteLLM does not start with %s: %s; correct %s, then start again", cause, printable(lines[-1]), cause)


def keep_what_is_there() -> None:
    """Leave what is there after the start out of every search for garbage, and search less often.

    LiteLLM's modules and price list are some 1.5 million objects that stay; its requests make many short-lived ones.
    """
    gc.collect()
    gc.freeze()
    # Or Python would put the oldest off until there is a quarter as much again as what is left out.
    gc.collect()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    gc.enable()


def _around(send: Send, output: StartOutput) -> Send:
    """Return a ``send`` that begins what has to wait for LiteLLM's start.

    At the end it tells the other processes the last things, before the server hears that the stop is complete.
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
