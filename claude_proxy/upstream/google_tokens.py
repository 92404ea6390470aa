"""Access tokens for Vertex AI of the operator's Google credentials, as google-auth finds them.

google-auth is imported with the first request that needs it.
"""

import functools
import importlib
import json
import logging
import warnings
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

from claude_proxy.upstream.cloud_credentials import CloudCredentialError, CredentialCache

# google-auth's states of a token; one that is neither expires soon.
FRESH, INVALID = "FRESH", "INVALID"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


class GoogleToken(NamedTuple):
    """An access token, which is a secret, and the project of its credential; empty if the credential names none."""

    token: str
    project: str

    def __repr__(self) -> str:
        return "GoogleToken(***)"


class GoogleTokens:
    """The access tokens of all deployments. One per process, used from one event loop."""

    def __init__(self) -> None:
        self._cache: CredentialCache[tuple[Any, str], GoogleToken] = CredentialCache(_fresh, _refreshed)

    async def token(self, source: Any) -> GoogleToken:
        """Return a valid token. Raises ``CloudCredentialError``.

        ``source`` is the path or the JSON of a credential, or the parsed JSON; None for the default credentials (ADC).
        """
        return await self._cache.get(_key(source), functools.partial(_load, source))

    def forget(self, source: Any) -> None:
        """Get another token with the next request, because the cloud has rejected this one."""
        self._cache.forget(_key(source))


def _key(source: Any) -> Hashable:
    return source if source is None or isinstance(source, str) else json.dumps(source, sort_keys=True, default=str)


def _load(source: Any) -> tuple[Any, str]:
    auth, errors = (importlib.import_module(name) for name in ("google.auth", "google.auth.exceptions"))
    logging.getLogger("google.auth").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # It warns of files of strangers; this one is the operator's.
            warnings.simplefilter("ignore", DeprecationWarning)
            if source is None:
                found, project = auth.default(scopes=SCOPES)
            else:
                found, project = auth.load_credentials_from_dict(_parsed(source), scopes=SCOPES)
    except (errors.GoogleAuthError, ValueError) as error:
        raise CloudCredentialError(f"the Google credentials cannot be used ({type(error).__name__})") from None
    return found, str(project or getattr(found, "quota_project_id", None) or "")


def _parsed(source: Any) -> dict[str, Any]:
    """Return a credential's JSON. Raises ``CloudCredentialError``, without any of its text."""
    try:
        text = source
        if isinstance(source, str) and not source.lstrip().startswith("{"):
            text = Path(source).read_text(encoding="utf-8")
        found = json.loads(text) if isinstance(text, str) else text
    except OSError as error:
        raise CloudCredentialError(f"the file of vertex_credentials cannot be read ({error.strerror})") from None
    except ValueError:
        raise CloudCredentialError("vertex_credentials is not JSON") from None
    if not isinstance(found, dict):
        raise CloudCredentialError("vertex_credentials should be the JSON object of a Google credential")
    return found


def _fresh(source: tuple[Any, str]) -> GoogleToken | None:
    found, project = source
    return GoogleToken(found.token, project) if _state(found) == FRESH else None


def _refreshed(source: tuple[Any, str]) -> GoogleToken:
    requests, errors = (importlib.import_module(f"google.auth.{name}") for name in ("transport.requests", "exceptions"))
    found, project = source
    try:
        if _state(found) != FRESH:
            found.refresh(requests.Request())
    except errors.GoogleAuthError as error:
        if _state(found) == INVALID:  # one that expires soon can still be used
            raise CloudCredentialError(f"Google gives no access token ({type(error).__name__})") from None
    return GoogleToken(found.token, project)


def _state(found: Any) -> str:
    return str(found.token_state.name)
