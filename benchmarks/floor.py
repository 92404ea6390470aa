"""The floor: the cost of a request in Python with only a server and a client. It forwards bytes without reading them.

``servers.start_floor`` serves it with uvicorn, httptools and uvloop, like the proxy. ``UPSTREAM`` is the URL to which it
forwards, ``SSL_CERT_FILE`` the certificates that it trusts there.
"""

import functools
import os
import ssl

import aiohttp

from claude_proxy.asgi import Receive, Scope, Send

# Headers of one connection, which the server and the client write themselves.
SKIPPED = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Forward a request after its body has arrived, and the response as it arrives."""
    if scope["type"] != "http":
        return
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    url = f"{os.environ['UPSTREAM']}{scope['path']}"
    headers = [(name.decode(), value.decode()) for name, value in scope["headers"] if name not in SKIPPED]
    async with _session().request(scope["method"], url, data=bytes(body), headers=headers) as response:
        kept = [(name.lower(), value) for name, value in response.raw_headers if name.lower() not in SKIPPED]
        await send({"type": "http.response.start", "status": response.status, "headers": kept})
        async for chunk in response.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@functools.cache
def _session() -> aiohttp.ClientSession:
    """Return the process's one client; created inside the event loop."""
    connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context())
    return aiohttp.ClientSession(auto_decompress=False, connector=connector)
