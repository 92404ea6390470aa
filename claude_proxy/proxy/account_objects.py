"""Which batches and files a user may use, and with which API key: an object belongs to its maker and to the key."""

import json
import time
from collections.abc import Awaitable, Callable

from claude_proxy.access.routes import Caller, Role
from claude_proxy.anthropic.errors import Refused
from claude_proxy.anthropic.file_references import files_named_in, may_name_files
from claude_proxy.anthropic.written_files import TOOL, WrittenFiles
from claude_proxy.byte_search import contains
from claude_proxy.config.users import folded
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.made_objects import MadeObject, MadeObjects, ObjectKind, fingerprint, is_id
from claude_proxy.credentials.order import Requester
from claude_proxy.proxy.api_keys import ApiKeys
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.request import Request

# What the words of an error say of a kind of objects.
NAMES = {ObjectKind.BATCH: "batch", ObjectKind.FILE: "file"}
SEVERAL_KEYS = "The files of one request have to be made with one API key; these were made with several: {ids}."
MAX_SHOWN = 100


class AccountObjects:
    """One per process. ``confirm`` waits for an exchange with the store, which includes what other processes have made."""

    def __init__(
        self,
        made: MadeObjects,
        keys: ApiKeys,
        confirm: Callable[[], Awaitable[bool]],
        *,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``wake`` starts such an exchange without waiting for it."""
        self.made = made
        self.keys = keys
        self._confirm = confirm
        self._wake = wake
        self._clock = clock

    async def record(self, made: MadeObject) -> bool:
        """Record an object that was made just now, for every process; return whether its id is new.

        What other processes have recorded is read first: an id that Anthropic returns twice stays its first maker's.
        """
        await self._confirm()
        is_new = self.made.add(made)
        if is_new:
            await self._confirm()
        return is_new

    def written_files(self, request: Request, credential: Credential) -> WrittenFiles | None:
        """Return what records the files that Claude writes in the response to a request; None if it cannot write any.

        They are the user's, on the key with which they were made. A subscription's token serves no requests about files.
        """
        if credential.kind is not Kind.API_KEY or credential is request.client.credential or not contains(request.raw, TOOL):
            return None

        def record(identifier: str) -> None:
            user = folded(request.user)
            if is_id(identifier) and self.made.has_room(ObjectKind.FILE, user):
                made = MadeObject(ObjectKind.FILE, identifier, user, fingerprint(credential), self._clock())
                if self.made.add(made):
                    self._wake()

        return WrittenFiles(record)

    async def discard(self, made: MadeObject) -> None:
        """Record the deletion of an object, for every process."""
        self.made.discard(made)
        await self._confirm()

    async def of_caller(self, kind: ObjectKind, caller: Caller) -> list[MadeObject]:
        """Return a caller's objects, the newest first; for the master key everybody's. Deleted ones are included."""
        await self._confirm()
        return self.made.of_user(kind, None if caller.role is Role.ADMIN else folded(caller.name))

    async def find(self, kind: ObjectKind, identifier: str, user: str, *, is_admin: bool = False) -> MadeObject:
        """Return an object; raise ``Refused`` with 404 if it does not exist or is another user's."""
        found = self.made.find(kind, identifier)
        if found is None:  # another process may have made it a moment ago
            await self._confirm()
            found = self.made.find(kind, identifier)
        if found is None or not (is_admin or found.user == folded(user)):
            raise Refused(404, f"{NAMES[kind]} not found: {json.dumps(identifier[:MAX_SHOWN])[1:-1]}")
        return found

    async def key_of_request(self, request: Request, requester: Requester) -> Credential | None:
        """Return the key that a Messages request needs because of its files; None if any credential will do.

        Raises ``Refused`` if a file is not the user's, or its key cannot be used.
        """
        if not may_name_files(request.raw) or self.keys.own(request.client) is not None:
            return None
        files = await offloaded(len(request.raw), files_named_in, request.raw)
        return await self.key_of_files(files, request.user, requester)

    async def key_of_files(self, files: frozenset[str], user: str, requester: Requester) -> Credential | None:
        """Return the one key that made these files of a user; None without files. Raises ``Refused`` as above."""
        found = [await self.find(ObjectKind.FILE, identifier, user) for identifier in sorted(files)]
        keys = {made.key: made for made in found}
        if len(keys) > 1:
            raise Refused(400, SEVERAL_KEYS.format(ids=", ".join(sorted(made.id for made in keys.values()))))
        return next((self.keys.of(made, requester) for made in keys.values()), None)
