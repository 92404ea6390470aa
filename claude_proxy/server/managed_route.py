"""``GET /managed/settings``: the settings of Claude Code for the caller, as the gateway protocol has them.

It needs neither LiteLLM nor a store, reads no body and has no limit: a session of Claude's desktop app does not start after a
429, a 5xx or three seconds without a response.
"""

import json
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from starlette.responses import Response

from claude_proxy.access.routes import Caller
from claude_proxy.anthropic.errors import own_refusal
from claude_proxy.asgi import Headers
from claude_proxy.config.client_models import ClientModels
from claude_proxy.config.managed_fill import policy_of
from claude_proxy.config.managed_settings import ManagedSettings, Policy
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings_json import canonical
from claude_proxy.config.users import folded
from claude_proxy.credentials.redaction import Redactor

logger = logging.getLogger(__name__)

# The content is for one user, and is asked for again each time.
HEADERS = {"cache-control": "private, no-cache", "x-content-type-options": "nosniff"}
# The limit for kept responses, one for each user.
MAX_KEPT = 1000


class _Kept(NamedTuple):
    """A response, with its checksum in quotes as its ``ETag``."""

    body: bytes
    etag: str


class ManagedRoute:
    """Responds for one process. ``has_login`` returns whether the proxy has a credential for Claude."""

    def __init__(
        self,
        config: ActiveConfig,
        redactor: Redactor,
        models: Callable[[], ClientModels],
        *,
        has_login: Callable[[], bool],
    ) -> None:
        self._config = config
        self._redactor = redactor
        self._models = models
        self._has_login = has_login
        # What the kept responses were made of.
        self._source: tuple[object, bool] = None, False
        self._kept: dict[tuple[str, tuple[str, ...]], _Kept | None] = {}

    def respond(self, caller: Caller, headers: Headers) -> Response:
        """Return the caller's settings, 304 if they have them already, or 404 if they have no policy."""
        managed = self._config.managed_settings
        found = self._of(managed, caller) if managed else None
        if found is None:
            refusal = own_refusal(404, f"No managed settings apply to {caller.name} on this proxy.")
            return Response(refusal.body, refusal.status, dict([*refusal.headers, *HEADERS.items()]))
        known = {"etag": found.etag, **HEADERS}
        if found.etag in etags(headers):
            return Response(status_code=304, headers=known)
        return Response(found.body, headers=known, media_type="application/json")

    def _of(self, managed: ManagedSettings, caller: Caller) -> _Kept | None:
        source = self._config.loaded, self._has_login()
        if source[0] is not self._source[0] or source[1] is not self._source[1]:
            self._source = source
            self._kept.clear()
        key = folded(caller.name), self._config.groups.of_user(caller.name, caller.groups)
        if key not in self._kept:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = self._made(managed, *key)
        return self._kept[key]

    def _made(self, managed: ManagedSettings, user: str, groups: tuple[str, ...]) -> _Kept | None:
        collector = self._config.telemetry
        policy = policy_of(
            managed,
            self._models(),
            self._config.environ,
            user,
            groups,
            has_login=self._source[1],
            takes_telemetry=collector is not None and collector.clients,
        )
        if policy is None:
            return None
        if (clean := self._redactor.text(canonical(policy.settings))) != canonical(policy.settings):
            # What `check` reports as an error; the start does not know every secret.
            logger.error("managed_settings: a secret of the proxy is in the settings of %s; it was removed from them", user)
            policy = Policy(policy.entries, json.loads(clean))
        return _Kept(policy.response().encode(), f'"{policy.checksum}"')


def etags(headers: Headers) -> frozenset[str]:
    """Return the quoted tags of ``If-None-Match``. A ``*`` is none: it only asks whether there are any settings."""
    values: Iterable[str] = (value for name, value in headers if name.lower() == "if-none-match")
    return frozenset(tag.strip().removeprefix("W/") for value in values for tag in value.split(","))
