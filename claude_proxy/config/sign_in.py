"""Sign-in with ``/login`` of Claude Code: ``claude_proxy: sign_in:`` in config.yaml."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.config.project_tag import project_tag
from claude_proxy.config.spelling import unknown
from claude_proxy.providers.endpoints import BLOCK, in_block

KEY = "sign_in"
PROVIDER = "oidc"
KEYS = ("enabled", "url", "notice", "access_token_minutes", "refresh_token_days", PROVIDER)
# The protocol's limit, in characters.
LONGEST_NOTICE = 500
MOST_MINUTES = 24 * 60
MOST_DAYS = 90
# The longest lifetime of an access token in seconds: so long is a replaced key kept.
MOST_ACCESS_SECONDS = MOST_MINUTES * 60
_RANGES = {"access_token_minutes": (1, MOST_MINUTES), "refresh_token_days": (1, MOST_DAYS)}


@dataclass(frozen=True)
class SignIn:
    """The section. Times are in seconds; ``provider`` is whether an identity provider is configured."""

    enabled: bool = True
    # The address under which users reach the proxy; empty: that of each request.
    url: str = ""
    # Shown beside the code in the client, and on the page.
    notice: str = ""
    access_seconds: int = 3600
    refresh_seconds: int = 30 * 86400
    provider: bool = False
    # The tag under which the client names its user's project; empty: it names none.
    project_tag: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "SignIn":
        """Read a configuration in which ``mistakes`` found no error."""
        found = in_block(config, KEY)
        if not isinstance(found, dict):
            return cls(project_tag=project_tag(config))
        return cls(
            enabled=found.get("enabled") is not False,
            url=str(found.get("url") or "").strip().rstrip("/"),
            notice=str(found.get("notice") or "").strip(),
            access_seconds=int((found.get("access_token_minutes") or cls.access_seconds / 60) * 60),
            refresh_seconds=int((found.get("refresh_token_days") or cls.refresh_seconds / 86400) * 86400),
            provider=bool(found.get(PROVIDER)),
            project_tag=project_tag(config),
        )


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the section; ``config`` is a mapping that is not validated yet."""
    if KEY in config:
        yield f"{KEY}: belongs under {BLOCK}; at the beginning of a line it has no effect"
    found = in_block(config, KEY)
    if found is None:
        return
    at = f"{BLOCK}: {KEY}"
    if not isinstance(found, dict):
        yield f"{at}: should be a mapping such as {KEY}: {{notice: Use your work account.}}"
        return
    yield from (f"{at}: {unknown(name, KEYS)}" for name in found if name not in KEYS)
    if not isinstance(found.get("enabled", True), bool):
        yield f"{at}: enabled should be true or false"
    notice = found.get("notice")
    if notice is not None and not isinstance(notice, str):
        yield f"{at}: notice should be a text"
    elif notice and (len(notice.strip()) > LONGEST_NOTICE or not all(one.isprintable() or one == "\n" for one in notice)):
        yield f"{at}: notice should be plain text of at most {LONGEST_NOTICE} characters"
    if found.get("url") is not None and not _is_base(found["url"]):
        yield f"{at}: url should be the address under which users reach the proxy, such as https://proxy.example.org"
    for name, (low, high) in _RANGES.items():
        value = found.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high):
            yield f"{at}: {name} should be a number from {low} to {high}"


def _is_base(value: object) -> bool:
    """Whether a value is an address without a path."""
    if not isinstance(value, str) or not value.strip().isascii() or not value.strip().isprintable() or " " in value.strip():
        return False
    try:
        parts = urlsplit(value.strip().rstrip("/"))
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False
    return usable and not (parts.path or parts.query or parts.fragment)
