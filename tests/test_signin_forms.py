"""server/signin_forms.py: requests that a browser, or something else, sends to the sign-in pages."""

import asyncio

import pytest
from starlette.requests import Request

from claude_proxy.secret import Secret
from claude_proxy.server import signin_forms
from claude_proxy.server.signin_forms import COOKIE, Problem, cookie, is_secure, query, read_form
from claude_proxy.signin.browser_sessions import form_token

pytestmark = pytest.mark.anyio

SESSION = Secret("x" * 43)
OWN = {"host": "proxy.example", "origin": "http://proxy.example", "content-type": "application/x-www-form-urlencoded"}
BODY = f"form={form_token(SESSION)}&user_code=BCDF".encode()


def request(headers=None, parts=(BODY,), scheme="http", query_string=b""):
    headers = OWN | {"cookie": f"{COOKIE}={SESSION.reveal()}"} | (headers or {})
    pending = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if pending:
        pending[-1]["more_body"] = False

    async def receive():
        return pending.pop(0) if pending else await asyncio.get_running_loop().create_future()

    scope = {
        "type": "http", "method": "POST", "path": "/signin", "scheme": scheme, "query_string": query_string,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }  # fmt: skip
    return Request(scope, receive)


async def test_a_form():
    """A form in several parts is read whole, with the browser's session and the origin that the browser names."""
    form = await read_form(request(parts=[BODY[:10], b"", BODY[10:]]))
    assert (form.fields["user_code"], form.origin) == ("BCDF", "http://proxy.example")
    assert form.session.matches(SESSION)
    form = await read_form(request({"origin": "HTTPS://Proxy.example", "sec-fetch-site": "same-origin", "host": "inner:4000"}))
    assert form.origin == "https://proxy.example"


async def test_a_form_that_does_not_arrive(monkeypatch):
    """A body that stops arriving is a 408, and a browser that leaves gets no response."""
    monkeypatch.setattr(signin_forms, "BODY_SECONDS", 0)
    with pytest.raises(Problem) as problem:
        await read_form(request(parts=[]))
    assert problem.value.status == 408
    monkeypatch.undo()
    leaving = request()

    async def receive():
        return {"type": "http.disconnect"}

    leaving._receive = receive
    with pytest.raises(ConnectionAbortedError):
        await read_form(leaving)


def test_the_query():
    """The first value of each name applies; a query with too many names is a 400."""
    assert query(request(query_string=b"a=1&a=2&b=%3Cx%3E&c=%ff")) == {"a": "1", "b": "<x>", "c": "\ufffd"}
    with pytest.raises(Problem) as problem:
        query(request(query_string=b"&".join(b"a=1" for _ in range(50))))
    assert problem.value.status == 400


def test_the_scheme_of_the_browser():
    """A load balancer may say that the browser uses HTTPS; the cookie is then for HTTPS only."""
    assert not is_secure(request())
    assert is_secure(request(scheme="https"))
    assert is_secure(request({"x-forwarded-proto": "HTTPS "}))


def test_the_cookie():
    """One cookie with an id is a session; its neighbours do not matter, and a second one makes it none."""
    assert cookie(request({"cookie": f"a=1; {COOKIE}={'y' * 43}; b"})).reveal() == "y" * 43
    assert cookie(request({"cookie": f"{COOKIE}={'y' * 43}; {COOKIE}=z"})) is None
    assert cookie(request({"cookie": ""})) is None
