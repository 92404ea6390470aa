"""The routes that change the pool from the page ``/pool``: add, pause, resume, priority, remove. JSON in and out.

Each route checks the master key again, after the gateway. No response and no log line contains a part of a secret.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from claude_proxy.access.routes import POOL_ACTIONS, check_route, identify
from claude_proxy.anthropic.errors import Refused
from claude_proxy.config import credentials_edit
from claude_proxy.config.credentials_edit import NotEdited
from claude_proxy.config.credentials_file import MalformedEntry, check_label, file_in_use
from claude_proxy.config.pool_watcher import PoolWatcher
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.secret import Secret
from claude_proxy.upstream import headers as header_policy

logger = logging.getLogger(__name__)

DONE = {"add": "added", "pause": "paused", "resume": "resumed", "priority": "changed", "remove": "removed"}


class PoolRoutes:
    """Changes the file that ``watcher`` watches. ``lift`` ends the cooldowns of a credential, by label, in every process."""

    def __init__(
        self,
        settings: Settings,
        redactor: Redactor,
        watcher: Callable[[], PoolWatcher | None],
        lift: Callable[[str], object],
    ) -> None:
        self._settings = settings
        self._redactor = redactor
        self._watcher = watcher
        self._lift = lift

    def routes(self) -> list[Route]:
        """Return the routes, to be placed before LiteLLM's."""
        return [Route(f"/pool/{action}", functools.partial(self._respond, action), methods=["POST"]) for action in POOL_ACTIONS]

    async def _respond(self, action: str, request: Request) -> Response:
        try:
            caller = identify(header_policy.read(request.headers.items()), self._settings)
            check_route(caller, request.method, f"/pool/{action}")
            label = await self._edit(action, await _body(request))
        except Refused as refused:
            return _error(refused.status, str(refused))
        except (NotEdited, MalformedEntry) as error:
            return _error(400, str(error))
        logger.info("credential %s was %s on the page /pool", label, DONE[action])
        return JSONResponse({"done": DONE[action], "label": label}, headers={"cache-control": "no-store"})

    async def _edit(self, action: str, body: dict[str, Any]) -> str:
        """Perform the action; return the credential's label."""
        label, secret, terms = body.get("label"), body.get("secret", ""), body.get("terms", "")
        if not isinstance(label, str) or not isinstance(secret, str) or not isinstance(terms, str):
            raise Refused(400, "label, secret and terms should be strings.")
        self._redactor.learn(Secret(secret.strip()))
        watcher = self._watcher()
        path = file_in_use(watcher.environ) if watcher else None
        if watcher is None or path is None:
            raise Refused(409, "This proxy does not watch a credentials file. Start it with `claude-proxy serve`.")
        pool = watcher.credentials
        call = functools.partial(_change, path, pool, action, check_label(label), body.get("priority"))
        if action == "add":
            words = credentials_edit.assignments(terms.split())
            value = Secret(secret.strip())
            call = functools.partial(credentials_edit.add, path, pool, label, "secret", value, terms=words)
        await asyncio.to_thread(call)
        await watcher.refresh()
        if action == "resume":
            self._lift(label)
        return label


def _change(path: Path, pool: tuple[Credential, ...], action: str, label: str, priority: Any) -> None:
    if action == "remove":
        credentials_edit.remove(path, pool, label)
    elif action == "priority":
        credentials_edit.change(path, pool, label, {"priority": priority})
    elif action == "pause":
        credentials_edit.pause(path, pool, label)
    elif not any(one.label == label and not one.terms.paused for one in pool):  # otherwise only its cooldown is ended
        credentials_edit.change(path, pool, label, {"paused": None})


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "The body should be a JSON object with a label.")
    return body


def _error(status: int, words: str) -> Response:
    return JSONResponse({"error": {"message": words}}, status, headers={"cache-control": "no-store"})
