"""What limits and troubles of accounts do to a pool, through the real proxy: each rests what it is about, until it is over."""

import json
import time
from email.utils import formatdate

import answers
import httpx
import pytest
import upstream as up
from answers import DAY, HOUR, UNIFIED
from conftest import TOKENS
from processes import MASTER_KEY, answer_text, new_question, streamed

KEYS = {"k": "sk-ant-api03-made-up-kilo-of-accounts", "l": "sk-ant-api03-made-up-lima-of-accounts"}
NAMES = {value: label for label, value in (TOKENS | KEYS).items()}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
OPUS, SONNET = "claude-opus-4-8", "claude-sonnet-5"
SPENT = "You have reached your specified API usage limits. You will regain access on {} at 00:00 UTC."


def listed(credentials):
    return ",".join(f"{label}={value}" for label, value in credentials.items())


class Pool:
    """A proxy and its upstream: ``answer`` is what Anthropic says, by the label of the credential and the request."""

    def __init__(self, start, upstream, tokens, keys, **variables):
        self.upstream = upstream
        self.proxy = start(CLAUDE_OAUTH_TOKENS=listed(tokens), CLAUDE_API_KEYS=listed(keys), **variables)
        self.answer = lambda *_: None
        upstream.answer = self._answered

    def _answered(self, seen):
        if seen.method == "GET":
            return up.Reply(404)
        given = self.answer(NAMES.get(seen.credential, "?"), seen)
        if isinstance(given, answers.Given):
            return up.Reply(given.status, given.headers, given.body)
        if given is not None:
            return given
        if seen.path.endswith("/count_tokens"):
            return up.Reply(headers={"content-type": "application/json"}, body=b'{"input_tokens":4711}')
        return up.anthropic_reply(seen, up.text("served"))

    def ask(self, model=OPUS, path="/v1/messages", session=None, **fields):
        """Return the status of a request, and who was asked, in order."""
        self.upstream.seen.clear()
        headers = {"x_claude_code_session_id": session} if session else {}
        self.last = self.proxy.ask(new_question(model, **fields), path, **headers)
        asked = "".join(NAMES.get(seen.credential, "?") for seen in self.upstream.seen if seen.is_claude)
        return self.last.status_code, asked

    def of(self, label):
        """Return what ``/pool`` says of a credential."""
        return next(one for one in self.shown()["credentials"] if one["label"] == label)

    def shown(self):
        """Return what ``/pool`` says of the proxy."""
        return httpx.get(f"{self.proxy.url}/pool", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False).json()


@pytest.fixture
def pool(start_proxy, upstream):
    """Start a pool of these tokens and keys, by their labels."""

    def pool(tokens="", keys="", **variables):
        return Pool(
            start_proxy,
            upstream,
            {label: TOKENS[label] for label in tokens},
            {label: KEYS[label] for label in keys},
            **variables,
        )

    return pool


def only(label, given):
    """Let one credential get this answer, and everybody else a good one."""
    return lambda asked, _: given if asked == label else None


@BOTH
@pytest.mark.parametrize("status", [400, 403, 429])
def test_a_spend_limit(pool, status, stream):
    """An API key that has spent what it may rests until the day that is named, and another one answers."""
    keys = pool(keys="kl")
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 3 * DAY))
    keys.answer = only("k", answers.given(status, SPENT.format(day)))
    found = [keys.ask(stream=stream) for _ in range(4)]
    assert [one[0] for one in found] == [200] * 4
    assert "".join(asked for _, asked in found).count("k") == 1
    assert day in keys.of("k")["state"]["words"]


@BOTH
def test_a_billing_problem(pool, stream):
    """A 402 puts the account out, and another one answers."""
    keys = pool(keys="kl")
    keys.answer = only("k", answers.given(402, "There is a problem with your billing information."))
    found = [keys.ask(stream=stream) for _ in range(4)]
    assert [one[0] for one in found] == [200] * 4
    assert "".join(asked for _, asked in found).count("k") == 1


def event(kind, words, **headers):
    """Return a good status whose first event is an error."""
    error = {"type": "error", "error": {"type": kind, "message": words}}
    named = {name.replace("__", "-"): value for name, value in headers.items()}
    return up.Reply(headers={"content-type": "text/event-stream"} | named, chunks=up.sse(error))


def test_a_limit_in_the_first_event_of_a_stream(pool):
    """A limit inside a 200 is over before the client has a byte: the credential rests, and another one answers."""
    tokens = pool("ab")
    full = {f"{UNIFIED}status": "rejected", f"{UNIFIED}5h-status": "rejected"}
    full[f"{UNIFIED}5h-reset"] = str(int(time.time()) + HOUR)
    tokens.answer = only("a", event("rate_limit_error", answers.LIMIT, **full))
    found = [tokens.ask(stream=True) for _ in range(4)]
    assert [one[0] for one in found] == [200] * 4
    assert answer_text(tokens.last) == "served"
    assert "".join(asked for _, asked in found).count("a") == 1
    assert tokens.of("a")["state"]["name"] == "rate-limited"


def test_an_overload_in_the_first_event_is_not_a_limit(pool):
    """Anthropic's own trouble inside a 200 rests nobody, and no other credential is asked."""
    tokens = pool("ab")
    tokens.answer = lambda *_: event("overloaded_error", "Overloaded")
    status, asked = tokens.ask(stream=True)
    assert (status, len({*asked}), streamed(tokens.last)[-1]["error"]["type"]) == (200, 1, "overloaded_error")
    assert tokens.of("a")["state"]["name"] == tokens.of("b")["state"]["name"] == "usable"


PER_MINUTE = answers.given(429, "This request would exceed your rate limit of tokens per minute.", retry_after=3600)


@BOTH
@pytest.mark.parametrize(
    ("kind", "limited", "others"),
    [
        ("tokens", {"path": "/v1/messages/count_tokens"}, [{}, {"model": SONNET}]),
        ("tokens", {"speed": "fast"}, [{}, {"path": "/v1/messages/count_tokens"}]),
        ("keys", {}, [{"model": SONNET}, {"path": "/v1/messages/count_tokens"}]),
    ],
    ids=["count_tokens", "fast", "model-of-a-key"],
)
def test_a_limit_rests_what_it_is_about(pool, kind, limited, others, stream):
    """A limit of an endpoint, a speed or a key's model benches nothing else, on every credential."""
    some = pool(tokens="ab") if kind == "tokens" else pool(keys="kl")
    more = {} if "path" in limited else {"stream": stream}
    some.answer = lambda *_: PER_MINUTE
    # Tokens are then counted by the proxy itself.
    refused = 200 if "path" in limited else 429
    status, asked = some.ask(**limited, **more)
    assert (status, sorted(asked)) == (refused, sorted("ab" if kind == "tokens" else "kl"))
    assert some.ask(**limited, **more) == (refused, ""), "nobody is asked twice"
    some.answer = lambda *_: None
    for other in others:
        assert some.ask(**other)[0] == 200
    assert some.ask(**limited, **more) == (refused, "")
    shown = some.shown()
    is_empty = shown["overview"]["sentence"].startswith("The pool is empty for Opus: none of its 2 credentials is usable;")
    assert is_empty is (kind == "keys"), "the limits of token counting and fast mode leave the family usable"
    assert ("pool-empty" in [one["key"] for one in shown["alerts"]]) is is_empty
    assert shown["pool"]["usable"] == 2, "Sonnet, which was requested, too, is served"
    assert {one["state"]["name"] for one in shown["credentials"]} == {"partly rate-limited"}


@BOTH
@pytest.mark.parametrize("name", ["long-context-429", "disguised-sonnet", "only-claude-code-403"])
def test_what_every_token_would_be_told_an_api_key_answers(pool, name, stream):
    """A refusal that concerns OAuth tokens alone is not the client's while the pool has an API key, and rests nobody."""
    both = pool("ab", "k")
    given = (answers.ENTITLEMENT | answers.DISGUISED | answers.NOT_NATIVE_403)[name]
    both.answer = lambda label, _: given if label in "ab" else None
    for _ in range(2):
        status, asked = both.ask(SONNET, stream=stream)
        assert (status, len(asked), asked[-1]) == (200, 2, "k")


@BOTH
def test_a_block_of_the_address(pool, stream):
    """A page in front of Anthropic is the address's: one is asked, nobody rests, and the client reads what happened."""
    some = pool("ab", "k")
    page = up.Reply(403, {"content-type": "text/html", "cf-mitigated": "challenge"}, b"<html>Just a moment...</html>")
    some.answer = lambda *_: page
    status, asked = some.ask(stream=stream)
    assert (status, len(asked), some.last.headers["x-should-retry"]) == (503, 1, "false")
    assert "address" in some.last.json()["error"]["message"]
    some.answer = lambda *_: None
    assert some.ask(stream=stream)[0] == 200


@BOTH
def test_words_that_no_rule_knows(pool, stream):
    """The third time that one credential refuses what another one answers it is out, and the log has the words."""
    some = pool("ab")
    some.answer = only("a", answers.given(403, "A made-up reason of tomorrow, number 4711"))
    found = [some.ask(stream=stream) for _ in range(9)]
    assert [one[0] for one in found] == [200] * 9
    assert "".join(asked for _, asked in found).count("a") == 3
    (line,) = some.proxy.logged("its error is unknown to this version")
    assert line.endswith("A made-up reason of tomorrow, number #")


@BOTH
def test_a_moment_of_401_takes_no_pool_away(pool, stream):
    """What everybody is refused for a moment is asked again after seconds, and one good answer is enough."""
    some = pool("ab", CLAUDE_POOL_MAX_WAIT_SECONDS="30")
    some.answer = lambda *_: answers.given(401, "Invalid authentication credentials")
    first = some.proxy.output.count("refused (HTTP 401)")
    refusals = []

    def a_moment(label, _):
        if len(refusals) < 2:
            refusals.append(label)
            return answers.given(401, "Invalid authentication credentials")
        return None

    some.answer = a_moment
    assert some.ask(stream=stream)[0] == 200
    assert sorted(refusals) == ["a", "b"]
    assert first == 0


@BOTH
def test_extra_usage_is_left_for_a_plan_with_room(pool, stream):
    """A session leaves the account whose answers are paid for, and the page says that they are."""
    some = pool("ab")
    assert some.ask(session="s", stream=stream) == (200, "a")
    now = int(time.time())
    paid = {
        f"{UNIFIED}status": "rejected", f"{UNIFIED}overage-in-use": "true", f"{UNIFIED}overage-status": "allowed",
        f"{UNIFIED}5h-status": "rejected", f"{UNIFIED}5h-utilization": "1.0", f"{UNIFIED}5h-reset": str(now + HOUR),
    }  # fmt: skip
    some.answer = lambda label, seen: up.anthropic_reply(seen, up.text("served"), headers=paid) if label == "a" else None
    assert some.ask(session="s", stream=stream) == (200, "a")
    assert [some.ask(session="s", stream=stream) for _ in range(2)] == [(200, "b")] * 2
    assert "paid extra usage" in some.of("a")["state"]["words"]


@pytest.mark.parametrize("hours", [-3, 2])
def test_anthropics_clock(pool, hours):
    """A rest lasts as long as Anthropic's own clock says, whatever the proxy's says."""
    some = pool("a")
    theirs = time.time() + hours * HOUR
    limit = answers.given(429, answers.LIMIT, status="rejected", reset=int(theirs) + 600)
    limit.headers["date"] = formatdate(theirs, usegmt=True)
    some.answer = lambda *_: limit
    assert some.ask()[0] == 429
    assert 590 <= int(some.last.headers["retry-after"]) <= 620


def test_seats_of_one_organisation_have_limits_of_their_own(pool):
    """One seat at its limit benches no other one whose windows open at other moments."""
    some = pool("ab")
    now = int(time.time())
    resets = {"a": now + HOUR, "b": now + 4 * HOUR}

    def seat(label, seen):
        headers = {
            "anthropic-organization-id": "made-up-organisation", f"{UNIFIED}5h-utilization": "0.5",
            f"{UNIFIED}5h-reset": str(resets[label]), f"{UNIFIED}7d-utilization": "0.5",
            f"{UNIFIED}7d-reset": str(now + 4 * DAY),
        }  # fmt: skip
        return up.anthropic_reply(seen, up.text("served"), headers=headers)

    some.answer = seat
    assert {some.ask()[1] for _ in range(4)} == {"a", "b"}
    full = answers.given(429, answers.LIMIT, status="rejected", **{"5h__status": "rejected", "5h__reset": resets["a"]})
    full.headers["anthropic-organization-id"] = "made-up-organisation"
    some.answer = lambda label, seen: full if label == "a" else seat(label, seen)
    assert [some.ask()[0] for _ in range(4)] == [200] * 4
    assert [some.of(label)["state"]["name"] for label in "ab"] == ["rate-limited", "usable"]


def test_no_secret_is_told(pool):
    """Whatever an account's trouble is, neither the log nor the page has a credential in it."""
    some = pool("ab", "kl")
    for given in (*answers.REFUSED_CREDENTIAL.values(), PER_MINUTE, answers.given(403, f"no {TOKENS['a']}")):
        some.answer = lambda *_, given=given: given
        some.ask(stream=True)
    shown = some.proxy.output + json.dumps([some.of(label) for label in "abkl"])
    assert not [value for value in (*TOKENS.values(), *KEYS.values()) if value in shown]
