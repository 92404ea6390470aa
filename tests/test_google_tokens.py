"""upstream/google_tokens.py: an access token of a service account, which is requested once and is kept."""

import json

import pytest
from service_accounts import TokenEndpoint, service_account

from claude_proxy.upstream.cloud_credentials import CloudCredentialError
from claude_proxy.upstream.google_tokens import GoogleToken, GoogleTokens

pytestmark = pytest.mark.anyio


@pytest.fixture
def endpoint():
    server = TokenEndpoint()
    yield server
    server.close()


@pytest.mark.parametrize("form", ["file", "text", "parsed"])
async def test_a_service_account(endpoint, tmp_path, form):
    """A service account is named by its file, its JSON or the parsed JSON; it signs one request for a token, which is kept."""
    account = service_account(endpoint.url)
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account), encoding="utf-8")
    source = {"file": str(path), "text": json.dumps(account), "parsed": account}[form]
    tokens = GoogleTokens()
    first = await tokens.token(source)
    assert first == GoogleToken(endpoint.issued[0], "made-up-project")
    assert await tokens.token(source) == first
    assert len(endpoint.issued) == 1


async def test_a_rejected_token(endpoint):
    """A token that the cloud has rejected is replaced by the next request."""
    source, tokens = service_account(endpoint.url), GoogleTokens()
    first = await tokens.token(source)
    tokens.forget(source)
    assert await tokens.token(source) != first


async def test_a_token_that_expires_soon(endpoint):
    """A token is replaced shortly before it expires, and is used as long as the endpoint gives no other."""
    endpoint.seconds = 200
    source, tokens = service_account(endpoint.url), GoogleTokens()
    first = await tokens.token(source)
    second = await tokens.token(source)
    assert second != first
    endpoint.status = 400
    assert await tokens.token(source) == second


async def test_no_token(endpoint):
    """Without a token there is one error, with no part of the credential in it."""
    endpoint.status = 400
    with pytest.raises(CloudCredentialError, match="Google gives no access token"):
        await GoogleTokens().token(service_account(endpoint.url))


@pytest.mark.parametrize("source", ["/nonexistent/file.json", "{not json", '{"type": "service_account"}', "{}", "[]"])
async def test_what_is_no_credential(source):
    """A missing file and what is no credential are errors in words, without the text."""
    with pytest.raises(CloudCredentialError) as error:
        await GoogleTokens().token(source)
    assert "private" not in str(error.value)


def test_tokens_are_not_shown():
    """A token has no text."""
    assert "secret" not in f"{GoogleToken('secret', 'p')!r}{GoogleToken('secret', 'p')}"
