"""The floor: what a request costs in this language with nothing but a server and a client. It passes bytes on, and knows nothing.

Served by uvicorn with httptools and uvloop, as the proxy is. ``UPSTREAM`` names where requests go.
"""

import os
from typing import Any

import aiohttp

SKIPPED = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
_session: list[aiohttp.ClientSession] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Send a request on, and its response back."""
    if scope["type"] != "http":
        return
    if not _session:
        _session.append(aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)))
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = [(name.decode(), value.decode()) for name, value in scope["headers"] if name not in SKIPPED]
    async with _session[0].request(
        scope["method"], os.environ["UPSTREAM"] + scope["path"], data=bytes(body), headers=headers
    ) as sent:
        kept = [(name.lower(), value) for name, value in sent.raw_headers if name.lower() not in SKIPPED]
        await send({"type": "http.response.start", "status": sent.status, "headers": kept})
        async for chunk in sent.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
