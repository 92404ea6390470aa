"""A request leaves nothing behind that only the garbage collector could free: neither its body nor its task."""

import asyncio
import gc
import json

import uvicorn

from claude_proxy.config.deployments import Lane
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.outcome import DONE
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.proxy.serving import Serving
from claude_proxy.server.draining import Draining
from claude_proxy.server.gateway import Gateway
from claude_proxy.server.http_protocol import BoundedProtocol
from claude_proxy.server.under_way import UnderWay

TOKEN = "sk-made-up-for-garbage-0123456789"
BODY = json.dumps({"model": "glm", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}).encode()
HEAD = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-litellm-api-key: {TOKEN}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
REQUESTS = 20


class OfClaude:
    """A lane that responds as Claude does."""

    async def attempt(self, attempt):
        await attempt.outlet.begin(200, [("content-type", "application/json"), ("content-length", "2")], of_claude=True)
        await attempt.outlet.end(b"{}")
        return DONE


async def _left_after_requests():
    """Return the number of requests that are in memory after many, without the garbage collector, and the last response."""
    config = ActiveConfig({}, {}, lookup=lambda _: [{"model": "anthropic/glm", "api_base": "https://glm.example"}])
    serving = Serving(dict.fromkeys(Lane, OfClaude()), config, meter=Meter(len))
    settings = Settings.parse({"PROXY_STATIC_TOKEN": TOKEN})
    app = Draining(Gateway(None, settings, Redactor([]), serving=serving, needs_litellm=lambda: False))
    options = uvicorn.Config(app, http=BoundedProtocol, lifespan="off", log_level="critical")
    server = uvicorn.Server(options)
    options.load()
    server.lifespan = options.lifespan_class(options)
    listening = await asyncio.get_running_loop().create_server(
        lambda: BoundedProtocol(config=options, server_state=server.server_state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])
    gc.collect()
    gc.disable()
    try:
        for _ in range(REQUESTS):
            writer.write(HEAD + BODY)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
        await asyncio.sleep(0)
        return sum(isinstance(one, Request | ClientResponse | UnderWay) for one in gc.get_objects()), head
    finally:
        gc.enable()
        writer.close()
        listening.close()


def test_a_request_is_freed_when_its_response_has_ended():
    left, head = asyncio.run(_left_after_requests())
    assert head.startswith(b"HTTP/1.1 200")
    assert left <= 3  # those of the last request, which the connection still has
