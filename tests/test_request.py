"""proxy/request.py: what is read of a request's body, when, and which bodies are refused."""

import json

import pytest

from claude_proxy.anthropic.errors import Refused
from claude_proxy.anthropic.opening import opening_of
from claude_proxy.anthropic.request_view import RequestView
from claude_proxy.proxy.request import Request, parse_body, read_view
from claude_proxy.upstream.headers import read, session_of

HISTORY = b'"messages":[{"role":"user","content":"hi"}]'
# Bodies that an upstream would answer with 500, or read in another way than the client wrote them, and what is said of each.
REFUSED = {
    "half": (b"{", "not JSON"),
    "empty": (b"", "not JSON"),
    "not-text": (b"\xff", "not JSON"),
    "not-text-within": (b'{"model":"glm","x":"\xff",%s}' % HISTORY, "not JSON"),
    "brackets": (b"[" * 100_000, "not JSON"),
    "list": (b'[{"model":"glm"}]', "should be a JSON object"),
    "no-model": (b"{%s}" % HISTORY, "model: Field required"),
    "empty-model": (b'{"model":"",%s}' % HISTORY, "model: Field required"),
    "model-is-a-list": (b'{"model":["glm"],%s}' % HISTORY, "model: Field required"),
    "line-end-in-the-model": (b'{"model":"claude-x\\nglm",%s}' % HISTORY, "model: Invalid name"),
    "separator-in-the-model": (b'{"model":"claude-\\u2028",%s}' % HISTORY, "model: Invalid name"),
    "half-a-character-in-the-model": (b'{"model":"claude-\\ud800",%s}' % HISTORY, "model: Invalid name"),
    "long-model": (b'{"model":"%s",%s}' % (b"x" * 257, HISTORY), "model: Invalid name"),
    "nan": (b'{"model":"glm","temperature":NaN,%s}' % HISTORY, "not JSON"),
    "infinity": (b'{"model":"glm","temperature":-Infinity,%s}' % HISTORY, "not JSON"),
    "too-large-a-number": (b'{"model":"glm","temperature":1e999,%s}' % HISTORY, "not JSON"),
    "too-long-a-number": (b'{"model":"glm","max_tokens":%s,%s}' % (b"9" * 4301, HISTORY), "not JSON"),
    "too-deep": (b'{"model":"glm","x":%s,%s}' % (b"[" * 400 + b"]" * 400, HISTORY), "more than 400"),
    "no-messages": (b'{"model":"glm"}', "messages: Field required"),
    "messages-is-an-object": (b'{"model":"glm","messages":{}}', "messages: Input should be a valid list"),
    "no-turn": (b'{"model":"glm","messages":[]}', "messages: at least one message is required"),
}


@pytest.mark.parametrize("reads", [read_view, parse_body])
@pytest.mark.parametrize(("raw", "says"), REFUSED.values(), ids=REFUSED)
def test_a_body_that_is_refused(raw, says, reads):
    """A body that is no request is the client's fault at once, in words that name the member, and without a repetition."""
    with pytest.raises(Refused) as refused:
        reads(raw)
    assert (refused.value.status, refused.value.headers) == (400, None)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (b'{"model":"glm",%s}' % HISTORY, RequestView("glm", turns=1, streams=False, needs_repair=False)),
        (b'{"model":"glm","stream":true,%s}' % HISTORY, RequestView("glm", turns=1, streams=True, needs_repair=False)),
        (
            b'{"model":"glm","metadata":{"user_id":"u"},%s}' % HISTORY,
            RequestView("glm", turns=1, streams=False, user_id="u", needs_repair=False),
        ),
        # What the view has nothing to say about is parsed as a whole.
        (b'{"model":"glm","messages":["odd"]}', RequestView("glm", turns=1, streams=False)),
        (b'{"model":"glm","stream":1,%s}' % HISTORY, RequestView("glm", turns=1, streams=False)),
        (b'{"model":"glm","stream":true,"temperature":"hot",%s}' % HISTORY, RequestView("glm", turns=1, streams=True)),
        (b'{"model":"glm","metadata":{"user_id":["u"]},%s}' % HISTORY, RequestView("glm", turns=1, streams=False)),
        (b'{"model":"glm","metadata":"u",%s}' % HISTORY, RequestView("glm", turns=1, streams=False)),
        (b'{"model":"glm","x":%s,%s}' % (b"[" * 398 + b"]" * 398, HISTORY), RequestView("glm", turns=1, streams=False)),
        ('{"model":"glm","stream":true,"messages":["ü"]}'.encode("utf-16"), RequestView("glm", turns=1, streams=True)),
    ],
    ids=[
        "plain", "streams", "user", "odd-turn", "odd-stream", "odd-temperature", "odd-user", "odd-metadata", "deep", "utf-16",
    ],
)  # fmt: skip
def test_the_view_of_a_body(raw, seen):
    """Model, stream and user are those of the body, however it is read; what was not looked into may need mending."""
    assert read_view(raw) == seen


def test_only_what_is_parsed_is_weighed():
    """A body that a view is enough of takes no memory for its values; one that is parsed is counted before."""
    weighed = []
    read_view(b'{"model":"glm",%s}' % HISTORY, lambda: weighed.append("view"))
    assert weighed == []
    read_view(b'{"model":"glm","messages":["odd"]}', lambda: weighed.append("view"))
    assert weighed == ["view"]


def full(*_):
    raise Refused(429, "full", [("retry-after", "5")])


def test_a_body_without_memory_is_not_parsed():
    """Where there is no memory for the values the request is refused, before they are made."""
    with pytest.raises(Refused, match="full"):
        read_view(b"[" * 100_000, full)
    request = Request(read([]), [], b"[" * 100_000, RequestView("glm", streams=False), weigh=full)
    with pytest.raises(Refused, match="full"):
        _ = request.body


def request(raw, sent=(), **more):
    return Request(read([*sent]), [*sent], raw, read_view(raw), **more)


def test_a_body_is_parsed_once():
    """The values are made when somebody asks for them, weighed before, and the same ones each time."""
    weighed = []
    one = request(b'{"model":"glm","x":1.5,%s}' % HISTORY, weigh=lambda: weighed.append(True))
    assert weighed == []
    assert one.body["x"] == 1.5
    assert one.body is one.body
    assert weighed == [True]


def test_the_model_has_two_names():
    """A response carries the name that the client asked for; config.yaml has it without the prefix of Claude Code's list."""
    one = request(b'{"model":"claude-proxy/glm","stream":true,%s}' % HISTORY)
    assert (one.model, one.name, one.streams) == ("claude-proxy/glm", "glm", True)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ((), False),
        ((("x-claude-proxy-fallbacks", "all"),), False),
        ((("X-Claude-Proxy-Fallbacks", " None "),), True),
    ],
)
def test_a_request_without_fallbacks(headers, wanted):
    """A header says that no other model may respond; any other value of it says nothing."""
    request = Request(read(headers), headers, b"{}", RequestView("glm", streams=False))
    assert request.wants_no_fallback is wanted


@pytest.mark.parametrize("sent", [[], [("x-claude-code-session-id", "s")]], ids=["in-the-body", "in-a-header"])
def test_the_session(sent):
    """The session is the header's, else the one that ``metadata.user_id`` names; a digest of it is what is kept."""
    body = {"model": "glm", "messages": [{"role": "user", "content": "hi"}], "metadata": {"user_id": '{"session_id":"t"}'}}
    one = request(json.dumps(body).encode(), sent)
    assert one.session == one.named_session == session_of(read(sent), '{"session_id":"t"}')
    assert one.session not in (None, "s", "t")


@pytest.mark.parametrize("user_id", [None, "made-up-opaque-id", '{"device_id":"d"}'], ids=["none", "opaque", "another-json"])
def test_the_session_of_a_request_that_names_none(user_id):
    """Without a name it is the opening's: the caller's, and that of the user whom the client means."""
    metadata = b"" if user_id is None else b'"metadata":{"user_id":%s},' % json.dumps(user_id).encode()
    raw = b'{"model":"glm",%s%s}' % (metadata, HISTORY)
    one = request(raw, user="anna")
    assert one.named_session is None
    assert one.session == opening_of(raw, "anna", user_id or "")
    assert one.session not in (None, request(raw, user="ben").session)


def test_no_session():
    """A request without an opening has no session."""
    assert request(b'{"model":"glm","messages":["odd"]}').session is None


def test_a_named_session_costs_nothing(monkeypatch):
    """The body of a request that names its session is not looked into once more."""
    monkeypatch.setattr("claude_proxy.proxy.request.opening_of", lambda *_: pytest.fail("looked"))
    assert request(b'{"model":"glm",%s}' % HISTORY, [("x-claude-code-session-id", "s")]).session
