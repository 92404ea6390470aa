"""proxy/account_requests.py: a request about an object goes to one key, and what the client gets if that fails."""

import json

import pytest
from lanes import Received, Response, Upstream

from claude_proxy.config.settings import Settings
from claude_proxy.credentials.pool import Affinity, Pool
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.proxy.account_requests import AccountRequests, Call, Failed
from claude_proxy.proxy.rotation import EgressRefused
from claude_proxy.upstream.client import BrokenOffError, TimedOutError, UnreachableError
from claude_proxy.upstream.headers import read

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
KEY, OTHER, OWN = "sk-ant-api03-made-up-key", "sk-ant-api03-made-up-other", "sk-ant-api03-made-up-own"
HEADERS = [
    ("x-litellm-api-key", "made-up"), ("x-api-key", OWN), ("anthropic-beta", "files-api-2025-04-14"), ("content-type", "x/y"),
    ("content-length", "7"), ("cookie", "made-up"),
]  # fmt: skip
THINKING = "messages.1.content.0: each thinking block must contain thinking"


def error(status, kind="invalid_request_error", words="made up", **headers):
    return Response(status, json={"type": "error", "error": {"type": kind, "message": words}}, headers=headers)


class Requests:
    """The requests to an upstream with these responses, by a client with a credential of its own."""

    def __init__(self, *responses, base="https://api.anthropic.com"):
        settings = Settings.parse({"CLAUDE_API_KEYS": f"key={KEY},other={OTHER}", "ANTHROPIC_API_BASE": base})
        self.upstream = Upstream(*responses)
        self.pool = Pool(settings.credentials, affinity=Affinity.SESSION, quarantine=900, clock=lambda: NOW)
        self.requests = AccountRequests(settings, Hosts(base), self.pool, self.upstream, lambda: NOW)
        self.request = Received(sent=HEADERS).request

    def key(self):
        return next(one.credential for one in self.pool.snapshot() if one.credential.label == "key")

    async def read(self, credential=None, **call):
        made = Call(**{"method": "GET", "path": "/v1/files/file_1"} | call)
        return await self.requests.read(self.request, credential or self.key(), made, str)

    async def failed(self, credential=None, **call):
        with pytest.raises(Failed) as failed:
            await self.read(credential, **call)
        return failed.value


async def test_what_is_sent():
    """The request has the client's end-to-end headers, the one key, and the body and headers of its own."""
    requests = Requests(Response(200, json={"id": "file_1"}, headers={"request-id": "r", "content-encoding": "identity"}))
    found, headers = await requests.read(method="POST", query="beta=true", body=b"{}", headers=[("Content-Type", "a/b")])
    (sent,) = requests.upstream.sent
    assert (sent.method, sent.url, sent.body) == ("POST", "https://api.anthropic.com/v1/files/file_1?beta=true", b"{}")
    named = {name.lower(): value for name, value in sent.headers}
    assert named.pop("accept-encoding")
    assert named == {"anthropic-beta": "files-api-2025-04-14", "content-type": "a/b", "x-api-key": KEY}
    assert (found, headers) == ({"id": "file_1"}, [("request-id", "r")])
    assert sent.response.was_closed


async def test_the_clients_own_credential():
    """The client's own credential goes to Anthropic in the header in which it came; its errors are the client's."""
    requests = Requests(Response(200, json={}), error(401, "authentication_error"))
    own = requests.request.client.credential
    await requests.read(own)
    failed = await requests.failed(own)
    assert [sent.header("x-api-key") for sent in requests.upstream.sent] == [OWN, OWN]
    assert failed.refusal.status == 401


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (error(400), 400),
        (error(404, "not_found_error"), 404),
        (error(400, words=THINKING), 400),
        (error(429, "rate_limit_error", **{"retry-after": "7"}), 429),
        (error(529, "overloaded_error"), 529),
        (error(401, "authentication_error"), 503),
        (error(403, "permission_error"), 503),
        (Response(403, body=b"<html>", headers={"content-type": "text/html"}), 503),
    ],
)
async def test_errors_of_anthropic(response, status):
    """An error is the client's, but for one about the key; nothing is sent again, and nothing was done."""
    requests = Requests(response)
    failed = await requests.failed()
    assert (failed.refusal.status, failed.may_be_done, len(requests.upstream.sent)) == (status, False, 1)
    assert json.loads(failed.refusal.body)["type"] == "error"


@pytest.mark.parametrize(
    ("response", "status", "may_be_done"),
    [
        (UnreachableError("connection refused"), 502, False),
        (TimedOutError("silent"), 504, True),
        (Response(200, body=b"[]"), 502, True),
        (Response(200, body=b"{"), 502, True),
        (Response(200, body=b"\xff"), 502, True),
        (Response(200, body=b"[" * 100_000), 502, True),
        (Response(302, headers={"location": "https://example.com"}), 502, True),
        (Response(200, body=b"{}", headers={"content-encoding": "br"}), 502, True),
        (Response(200, chunks=[b'{"id":', BrokenOffError("reset")]), 502, True),
    ],
)
async def test_without_a_good_response(response, status, may_be_done):
    """Whether Anthropic may have done the work decides whether a batch keeps its reserved amount."""
    requests = Requests(response)
    failed = await requests.failed()
    assert (failed.refusal.status, failed.may_be_done) == (status, may_be_done)


async def test_the_pool_learns():
    """A key that Anthropic limits for such requests is limited for them, and not for messages."""
    requests = Requests(error(429, "rate_limit_error", **{"retry-after": "30"}))
    await requests.failed()
    limited = {one.credential.label: [str(scope) for scope in one.cooldowns] for one in requests.pool.snapshot()}
    assert limited == {"key": ["/batches"], "other": []}


async def test_a_key_goes_to_anthropic_only():
    """Before a key is put on a request, its host is checked."""
    requests = Requests(Response(200, json={}))
    requests.requests._hosts = Hosts("https://elsewhere.example")
    requests.requests._settings = Settings.parse({"ANTHROPIC_API_BASE": "https://example.com"})
    with pytest.raises(EgressRefused):
        await requests.read()
    assert requests.upstream.sent == []
    assert read(HEADERS).credential is not None
