"""access/administration.py: which routes of LiteLLM's there are, and what a request to one may hold."""

import asyncio
import itertools
import json
from urllib.parse import quote

import pytest

from claude_proxy.access import administration
from claude_proxy.access.administration import Refused, check_address, checked_body, is_served, redacted, why_closed

REFERENCE = "os.environ/ZAI_API_KEY"


def status_of(body):
    try:
        checked_body(body if isinstance(body, bytes) else json.dumps(body).encode())
    except Refused as refused:
        return refused.status
    return 200


def escaped(text):
    return "".join(f"\\u{ord(character):04x}" for character in text)


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"x": REFERENCE}},
        {"metadata": {"x": [{"y": f"  {REFERENCE}"}]}},
        {REFERENCE: 1},
        [REFERENCE],
        {"metadata": json.dumps({"x": REFERENCE})},
        {"metadata": json.dumps({"x": json.dumps({"y": REFERENCE})}).replace("/", "\\/")},
        {"x": "OS.ENVIRON/ZAI_API_KEY"},
        {"x": "oidc/env/ZAI_API_KEY"},
        {"x": "oidc/env_path/ZAI_API_KEY"},
        {"x": "oidc/file//var/run/secrets/x"},
        {"x": "os%2eenviron%2fZAI_API_KEY"},
        b'{"x": "os.environ\\/ZAI_API_KEY"}',
        b'{"x": "' + escaped(REFERENCE).encode() + b'"}',
        b'{"x": 1, "x": "%s", "x": 2}' % REFERENCE.encode(),
        json.dumps({"x": REFERENCE}).encode("utf-16"),
        json.dumps({"x": REFERENCE}).encode("utf-32"),
        f"key={REFERENCE}".encode(),
        f"key={quote(REFERENCE, safe='')}".encode(),
        f"key={quote(quote(REFERENCE, safe=''), safe='')}".encode(),
        f'--x\r\ncontent-disposition: form-data; name="x"\r\n\r\n{REFERENCE}\r\n--x--\r\n'.encode(),
    ],
)
def test_a_reference_is_refused_however_it_is_spelled(body):
    """Whatever would make LiteLLM put a value of the server in its place is refused, in every spelling that it understands."""
    assert status_of(body) == 403


@pytest.mark.parametrize("route", [f"/key/{REFERENCE}", "/key/os.environ%2fX/regenerate", "/team/oidc/env/X"])
def test_a_reference_in_the_address_is_refused(route):
    """A path and a query are looked at as the body is."""
    with pytest.raises(Refused):
        check_address(route, "")
    with pytest.raises(Refused):
        check_address("/key/info", f"key={quote(route, safe='')}")


@pytest.mark.parametrize(
    "field",
    ["api_base", "API_BASE", "api-key", "callback_vars", "logging", "litellm_params", "langfuse_host", "langsmith_base_url"],
)
def test_a_field_that_names_a_host_or_a_credential_is_refused(field):
    """Such a field is refused at any depth and inside a string, and taken where nobody has filled it in."""
    for value in ({field: "x"}, {"metadata": {"a": [{field: {"b": "x"}}]}}, {"metadata": json.dumps({field: [1]})}):
        assert status_of(value) == 403
    for empty in (None, "", [], {}, False, [None], {"a": None, "b": []}):
        assert status_of({field: empty}) == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200), (b" \n", 200), (b"{}", 200), (b"[]", 200), (b'"x"', 400), (b"1", 400), (b"{", 400), (b"a=b", 400),
        (b'{"x": NaN}', 400), (b'{"x": 1e999}', 400), (b"\xff", 400), (b"[" * 100_000, 400), (b"[" * 64 + b"]" * 64, 200),
        (b"[" * 65 + b"]" * 65, 400),
        (b'{"x": "%s"}' % (b"x" * (administration.MAX_BODY_BYTES - 9)), 200),
        (b'{"x": "%s"}' % (b"x" * (administration.MAX_BODY_BYTES - 8)), 413),
    ],
)  # fmt: skip
def test_a_body_is_json_and_bounded(body, status):
    """LiteLLM gets JSON of some size and depth, or nothing."""
    assert status_of(body) == status


def test_litellm_gets_what_was_checked():
    """The body is written anew: a name that comes twice has one value, and what is harmless stays as it was."""
    assert checked_body(b'{"a": 1, "a": 2}') == b'{"a": 2}'
    harmless = {"models": ["claude-*"], "max_budget": 1.5, "metadata": {"note": "100% of os.environ, see https://x/oidc/x"}}
    assert json.loads(checked_body(json.dumps(harmless).encode())) == harmless


@pytest.mark.parametrize(
    ("method", "route", "without", "with_database"),
    [
        ("POST", "/key/generate", True, True),
        ("GET", "/key/generate", False, False),
        ("GET", "/usage.csv", True, True),
        ("POST", "/key/sk-x/regenerate", True, True),
        ("POST", "/key/a/b/regenerate", False, False),
        ("POST", "/key//regenerate", False, False),
        ("GET", "/v2/model/info", False, True),
        ("PUT", "/access_group/x/update", False, True),
        ("POST", "/guardrails", False, False),
        ("POST", "/model/new", False, False),
    ],
)
def test_a_route_is_served_when_a_row_names_it(method, route, without, with_database):
    """Method, length and parts have to fit, and some routes are there with a database only."""
    assert is_served(method, route, database=False) is without
    assert is_served(method, route, database=True) is with_database


def test_a_closed_route_has_its_reason():
    """The longest beginning that fits gives the reason."""
    assert "secret of the sign-in" in why_closed("/get/sso_settings")
    assert "config.yaml" in why_closed("/model/new")
    assert why_closed("/no/such/route") == ""


@pytest.mark.parametrize("cuts", [[], [5], list(range(1, 40))])
def test_an_answer_leaves_without_secrets(cuts):
    """However an answer comes in parts, a secret in its body or headers is taken out, and its length is right."""
    whole, sent = b'{"a": "made-up-secret", "b": "\xc3\xbc\xff"}', []

    async def send(message):
        sent.append(message)

    async def run():
        out = redacted(send, lambda text: text.replace("made-up-secret", "***"))
        headers = [(b"content-length", b"%d" % len(whole)), (b"x-made-up", b"made-up-secret")]
        await out({"type": "http.response.start", "status": 200, "headers": headers})
        edges = [0, *cuts, len(whole)]
        for start, end in itertools.pairwise(edges):
            await out({"type": "http.response.body", "body": whole[start:end], "more_body": end != len(whole)})

    asyncio.run(run())
    clean = whole.replace(b"made-up-secret", b"***")
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert dict(sent[0]["headers"]) == {b"content-length": b"%d" % len(clean), b"x-made-up": b"***"}
    assert sent[1]["body"] == clean
