"""Signs requests to Bedrock with the operator's AWS credentials, as botocore finds them.

botocore is imported with the first request that needs it.
"""

import functools
import importlib
import logging
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from claude_proxy.asgi import Headers
from claude_proxy.upstream.cloud_credentials import CloudCredentialError, CredentialCache

SERVICE = "bedrock"
DEFAULT_SESSION_NAME = "claude-proxy"
# A deployment's parameters that select its credentials, by LiteLLM's names.
KEY_ID, SECRET_KEY, SESSION_TOKEN = "aws_access_key_id", "aws_secret_access_key", "aws_session_token"
PROFILE, ROLE, WEB_IDENTITY = "aws_profile_name", "aws_role_name", "aws_web_identity_token"
SESSION_NAME, EXTERNAL_ID, STS = "aws_session_name", "aws_external_id", "aws_sts_endpoint"
SELECTING = (KEY_ID, SECRET_KEY, SESSION_TOKEN, PROFILE, ROLE, WEB_IDENTITY, SESSION_NAME, EXTERNAL_ID, STS)
BEARER_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"


class AwsKeys(NamedTuple):
    """The keys of one signature. They are secrets."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "AwsKeys(***)"


class AwsCredentials:
    """The AWS credentials of all deployments. One per process, used from one event loop."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._cache: CredentialCache[Any, AwsKeys] = CredentialCache(_fresh, _refreshed)

    def bearer(self, params: Mapping[str, Any]) -> str:
        """Return the API key of Bedrock for a deployment; empty for one whose requests are signed."""
        if key := params.get("api_key"):
            return str(key)
        return "" if any(map(params.get, SELECTING)) else self._environ.get(BEARER_VARIABLE, "").strip()

    async def keys(self, params: Mapping[str, Any], region: str) -> AwsKeys:
        """Return the keys for a deployment's requests. Raises ``CloudCredentialError``."""
        return await self._cache.get(_key(params, region), functools.partial(_load, dict(params), region))

    def forget(self, params: Mapping[str, Any], region: str) -> None:
        """Look for the credentials again with the next request."""
        self._cache.forget(_key(params, region))


def signed(keys: AwsKeys, url: str, region: str, headers: Headers, body: bytes) -> Headers:
    """Return the headers of a POST request with its signature (AWS Signature Version 4)."""
    auth, requests = (importlib.import_module(f"botocore.{name}") for name in ("auth", "awsrequest"))
    request = requests.AWSRequest(method="POST", url=url, data=body, headers=dict(headers))
    auth.SigV4Auth(keys, SERVICE, region).add_auth(request)
    return [(name.lower(), str(value)) for name, value in request.headers.items()]


def _key(params: Mapping[str, Any], region: str) -> Hashable:
    return region, *(str(params.get(name) or "") for name in SELECTING)


def _load(params: Mapping[str, Any], region: str) -> Any:
    """Return botocore's credentials for a deployment: its own keys, its profile, its role, or what the environment has."""
    # At debug level botocore logs what it signs, and the session's token in it.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    with _Translated():
        session = importlib.import_module("botocore.session").Session(profile=params.get(PROFILE) or None)
        own = params.get(KEY_ID), params.get(SECRET_KEY), params.get(SESSION_TOKEN)
        source = importlib.import_module("botocore.credentials").Credentials(*own) if own[0] and own[1] else None
        if params.get(ROLE):
            return _of_role(session, params, region, lambda: source or session.get_credentials())
        found = source or session.get_credentials()
    if found is None:
        raise CloudCredentialError("there are no AWS credentials: not in config.yaml, the environment, a profile or a role")
    return found


def _of_role(session: Any, params: Mapping[str, Any], region: str, source: Callable[[], Any]) -> Any:
    credentials = importlib.import_module("botocore.credentials")
    more = {"endpoint_url": params[STS]} if params.get(STS) else {}
    client = functools.partial(session.create_client, region_name=region, **more)
    role, extra = str(params[ROLE]), {"RoleSessionName": str(params.get(SESSION_NAME) or DEFAULT_SESSION_NAME)}
    if params.get(EXTERNAL_ID):
        extra["ExternalId"] = str(params[EXTERNAL_ID])
    if identity := params.get(WEB_IDENTITY):
        fetcher = credentials.AssumeRoleWithWebIdentityCredentialFetcher(
            client, functools.partial(_identity, str(identity)), role, extra_args=extra
        )
    else:
        found = source()
        if found is None:
            raise CloudCredentialError("there are no AWS credentials with which the role could be assumed")
        fetcher = credentials.AssumeRoleCredentialFetcher(client, found, role, extra_args=extra)
    return credentials.DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def _identity(named: str) -> str:
    """Return a web identity's token: the content of the file that is named, or the text itself."""
    path = Path(named)
    try:
        return path.read_text(encoding="utf-8").strip() if path.is_absolute() else named
    except OSError as error:
        raise CloudCredentialError(f"the file of the web identity cannot be read ({error.strerror})") from None


def _fresh(found: Any) -> AwsKeys | None:
    needs = getattr(found, "refresh_needed", None)
    return None if needs is not None and needs() else _refreshed(found)


def _refreshed(found: Any) -> AwsKeys:
    with _Translated():
        frozen = found.get_frozen_credentials()
    return AwsKeys(frozen.access_key, frozen.secret_key, frozen.token)


class _Translated:
    """Raises ``CloudCredentialError`` for botocore's errors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        exceptions = importlib.import_module("botocore.exceptions")
        if isinstance(error, (exceptions.BotoCoreError, exceptions.ClientError)):
            raise CloudCredentialError(f"{type(error).__name__}: {error}") from None
