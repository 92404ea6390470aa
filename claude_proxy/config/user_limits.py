"""How many requests a user may send: ``requests_per_minute`` and ``streams`` under ``claude_proxy: users:``. No I/O."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from claude_proxy.config.users import folded
from claude_proxy.providers.endpoints import BLOCK, in_block

USERS, PER_MINUTE, STREAMS = "users", "requests_per_minute", "streams"
MOST = 1_000_000


class RequestLimit(NamedTuple):
    """The limits of a user; None for no limit. ``streams`` is the number of requests at the same time."""

    requests_per_minute: int | None = None
    streams: int | None = None


NO_LIMIT = RequestLimit()


class UserLimits:
    """The limits of all users, by case-folded name."""

    def __init__(self, users: Mapping[str, RequestLimit]) -> None:
        self.users = users

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "UserLimits":
        """Read a configuration in which ``mistakes`` found no error."""
        users = (config.get(BLOCK) or {}).get(USERS) or {}
        limits = {folded(name): RequestLimit(entry.get(PER_MINUTE), entry.get(STREAMS)) for name, entry in users.items()}
        return cls({name: limit for name, limit in limits.items() if limit != NO_LIMIT})

    def __bool__(self) -> bool:
        return bool(self.users)

    def limit(self, user: str) -> RequestLimit:
        """Return the limits of a user."""
        return self.users.get(folded(user), NO_LIMIT)


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error about limits of requests; ``config`` is a mapping that is not validated yet."""
    users = in_block(config, USERS)
    for name, entry in users.items() if isinstance(users, dict) else ():
        for key, words in ((PER_MINUTE, "requests in a minute"), (STREAMS, "requests at the same time")):
            if not isinstance(entry, dict) or key not in entry:
                continue
            value = entry[key]
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
                yield (
                    f"{BLOCK}: {USERS}: {name}: {key}: should be a whole number of {words}, 1 or more; "
                    f"write {key}: {60 if key == PER_MINUTE else 4}"
                )
