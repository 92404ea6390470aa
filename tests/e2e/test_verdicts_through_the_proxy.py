"""Each of Anthropic's answers through the real proxy: who is asked, what the client gets, and what the next request shows.

Most of it happens on one proxy with many credentials. Ordinary answers tell it that all of them are half full but one, the
test's own: that one is asked next as long as it is usable.
"""

import threading
import time
from collections import Counter
from dataclasses import dataclass

import answers
import httpx
import pytest
import upstream as up
from claude_code import ClaudeCode
from conftest import CLIENT_TOKEN, TOKENS, by_credential, module_proxy
from processes import Proxy, answer_text, new_question, streamed

MANY = {f"t{number:02}": f"sk-ant-oat01-made-up-one-of-many-{number:02}" for number in range(64)}
LABELS = {token: label for label, token in MANY.items()}
UTILIZATION = f"{answers.UNIFIED}5h-utilization"
NOW = int(time.time())
LIMITS = answers.limits(NOW)
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def reply(given: answers.Given) -> up.Reply:
    return up.Reply(given.status, given.headers, given.body)


def fullness(utilization: float) -> dict[str, str]:
    """Headers that say how full the credential's window is."""
    return {UTILIZATION: str(utilization), f"{answers.UNIFIED}5h-reset": str(NOW + answers.HOUR)}


def filled(seen: up.Seen, utilization: float) -> up.Reply:
    """Answer well, and say how full the credential's window is."""
    return up.anthropic_reply(seen, up.text("served"), headers=fullness(utilization))


# How full the others are: so full that the shares of the sessions that the cases leave behind do not outweigh it.
OTHERS = 0.95


def rather_full(seen: up.Seen) -> up.Reply:
    return filled(seen, OTHERS)


@pytest.fixture(scope="module")
def many(shared_upstream, tmp_path_factory):
    """A proxy that knows of each of its credentials that it is rather full."""
    tokens = ",".join(f"{label}={token}" for label, token in MANY.items())
    home = tmp_path_factory.mktemp("many")
    variables = {"CLAUDE_OAUTH_TOKENS": tokens, "CLAUDE_TOKEN_COOLDOWN_SECONDS": "3600"}
    for proxy in module_proxy(shared_upstream, home, **variables):
        shared_upstream.seen.clear()
        shared_upstream.answer = rather_full
        for _ in MANY:
            proxy.ask(new_question("claude-sonnet-5"))
        assert {seen.credential for seen in shared_upstream.seen} == set(LABELS)
        yield proxy
        assert not any(token in proxy.output for token in MANY.values())


@dataclass
class Case:
    """One credential and its session, and what the upstream answers to requests on it."""

    proxy: Proxy
    upstream: up.Upstream
    given: answers.Given
    token: str = ""
    session: str = ""
    said_before: int = 0
    # Whether the answer says that the credential is rather full: one that rests for seconds is then no other case's.
    fills: bool = False

    def begin(self) -> None:
        """Choose the credential that will be asked next, and bind a session to it."""
        self.session = f"session-{time.monotonic_ns()}"
        self.said_before = len(self.proxy.output)
        self.upstream.answer = lambda seen: filled(seen, 0.0)
        begun = self.proxy.ask(new_question(self.given.model), x_claude_code_session_id=self.session)
        assert begun.status_code == 200
        self.token = [seen for seen in self.upstream.asked if seen.is_claude][-1].credential

    def meet(self, *, stream: bool, in_session: bool = False) -> tuple[httpx.Response, list[str]]:
        """Send a request that meets the answer; return the client's answer and who was asked."""
        headers = {"x_claude_code_session_id": self.session} if in_session else {}
        self.upstream.seen.clear()
        told = up.Reply(self.given.status, self.given.headers | (fullness(OTHERS) if self.fills else {}), self.given.body)
        self.upstream.answer = lambda seen: told if seen.credential == self.token else rather_full(seen)
        answer = self.proxy.ask(new_question(self.given.model, stream=stream), **headers)
        return answer, [self.name(seen) for seen in self.upstream.asked if seen.is_claude]

    def name(self, seen: up.Seen) -> str:
        return "same" if seen.credential == self.token else "other" if seen.credential in LABELS else "nobody"

    def next_one(self, *, in_session: bool = False, model: str | None = None) -> str:
        """Return who is asked by the next request, which is answered well."""
        self.upstream.seen.clear()
        self.upstream.answer = rather_full
        headers = {"x_claude_code_session_id": self.session} if in_session else {}
        assert self.proxy.ask(new_question(model or self.given.model), **headers).status_code == 200
        (seen,) = [seen for seen in self.upstream.asked if seen.is_claude]
        return self.name(seen)

    @property
    def log(self) -> str:
        """What the operator has read about the credential since the beginning."""
        label = f"credential {LABELS[self.token]}: "
        return "\n".join(line for line in self.proxy.output[self.said_before :].splitlines() if label in line)


@pytest.fixture
def case(many, upstream):
    cases = []

    def case(given: answers.Given) -> Case:
        cases.append(Case(many, upstream, given))
        cases[-1].begin()
        return cases[-1]

    yield case
    for each in cases:
        each.next_one()  # if it is still usable, it is rather full again


def assert_served(answer: httpx.Response) -> None:
    """The answer is the other credential's, and nothing of the first one's is in it."""
    assert (answer.status_code, answer_text(answer)) == (200, "served")
    assert answer.headers[UTILIZATION] == str(OTHERS)
    assert f"{answers.UNIFIED}status" not in answer.headers


def assert_as_it_came(answer: httpx.Response, given: answers.Given) -> None:
    """Status, body and headers are Anthropic's own."""
    assert (answer.status_code, answer.content) == (given.status, given.body)
    assert given.headers.items() <= dict(answer.headers).items()


ALL_MODELS = {name: LIMITS[name] for name in LIMITS if not name.startswith("family")}
FAMILY = {name: LIMITS[name] for name in LIMITS if name.startswith("family")}


@BOTH
@pytest.mark.parametrize("name", ALL_MODELS)
def test_a_limit_rests_the_credential(case, name, stream):
    """A limit is over before the client sees it; the credential serves neither its session nor another model any more."""
    meeting = case(ALL_MODELS[name])
    answer, asked = meeting.meet(stream=stream)
    assert_served(answer)
    assert asked == ["same", "other"]
    assert meeting.next_one(model="claude-haiku-4-5") == "other"
    assert meeting.next_one(in_session=True) == "other"
    assert ("too many requests" if name == "throttle" else "limit reached") in meeting.log


@BOTH
@pytest.mark.parametrize("name", FAMILY)
def test_a_familys_limit_rests_the_credential_for_the_family(case, name, stream):
    """A limit of one family moves this family's requests, and the credential stays where it is for every other one."""
    meeting = case(FAMILY[name])
    answer, asked = meeting.meet(stream=stream)
    assert_served(answer)
    assert asked == ["same", "other"]
    assert meeting.next_one(model="claude-haiku-4-5") == "same"
    assert meeting.next_one(in_session=True, model="claude-haiku-4-5") == "same"
    assert meeting.next_one(in_session=True) == "other"


@BOTH
@pytest.mark.parametrize("name", answers.REFUSED_CREDENTIAL)
def test_a_refusal_puts_the_credential_out(case, name, stream):
    """A refused credential is not the client's business: another one serves, and the refused one is asked no more."""
    meeting = case(answers.REFUSED_CREDENTIAL[name])
    meeting.fills = True
    answer, asked = meeting.meet(stream=stream)
    assert_served(answer)
    assert asked == ["same", "other"]
    assert meeting.next_one(model="claude-haiku-4-5") == "other"
    assert meeting.next_one(in_session=True) == "other"
    assert "rejected" in meeting.log


@BOTH
@pytest.mark.parametrize("name", answers.WINDOWLESS)
def test_a_windowless_429_is_one_hop(case, name, stream):
    """A 429 that names no limit is tried on one other credential; nobody rests, but new requests start elsewhere."""
    meeting = case(answers.WINDOWLESS[name])
    answer, asked = meeting.meet(stream=stream)
    assert_served(answer)
    assert asked == ["same", "other"]
    assert meeting.next_one() == "other"
    assert meeting.next_one(in_session=True) == "same"
    assert "names no limit" in meeting.log


@BOTH
def test_a_windowless_429_of_everybody_is_the_clients(many, upstream, stream):
    """When the second credential says the same its answer is the client's, and no third is asked."""
    upstream.answer = lambda _: reply(answers.WINDOWLESS["windowless"])
    answer = many.ask(new_question("claude-sonnet-5", stream=stream))
    assert_as_it_came(answer, answers.WINDOWLESS["windowless"])
    assert len({seen.credential for seen in upstream.asked}) == len(upstream.asked) == 2


REQUESTS = answers.DISGUISED | answers.ENTITLEMENT | answers.NOT_NATIVE
SAID = {
    "disguised": "is CLAUDE_CODE_ATTRIBUTION_HEADER=0 set",
    "long": "needs extra usage",
    "fast": "needs extra usage",
    "third": "did another client send it",
    "only": "did another client send it",
    "bare": "",
}


@BOTH
@pytest.mark.parametrize("name", REQUESTS)
def test_an_answer_about_the_request_is_the_clients(case, name, stream):
    """What every credential would answer is asked once, arrives unmodified, costs nobody anything, and is explained."""
    meeting = case(REQUESTS[name])
    answer, asked = meeting.meet(stream=stream)
    assert_as_it_came(answer, REQUESTS[name])
    assert asked == ["same"]
    assert (meeting.next_one(), meeting.next_one(in_session=True)) == ("same", "same")
    assert SAID[name.split("-")[0]] in meeting.log


@BOTH
@pytest.mark.parametrize("name", [*answers.OUR_FAULT, *answers.NOT_NATIVE_403])
def test_a_refusal_that_is_not_the_credentials_fault(case, name, stream):
    """A 401 or 403 that no other credential cures is not shown either, or Claude Code would log out; nobody is out for it."""
    meeting = case((answers.OUR_FAULT | answers.NOT_NATIVE_403)[name])
    answer, asked = meeting.meet(stream=stream)
    assert (answer.status_code, answer.json()["type"], answer.headers["x-should-retry"]) == (503, "error", "false")
    assert int(answer.headers["retry-after"]) > 0
    assert asked == ["same"]
    assert (meeting.next_one(), meeting.next_one(in_session=True)) == ("same", "same")
    assert ("please report" if name in answers.OUR_FAULT else "did another client send it") in meeting.log


@BOTH
@pytest.mark.parametrize("name", answers.OVERLOADED)
def test_overload_is_claude_codes_to_repeat(case, name, stream):
    """What is Anthropic's own trouble is asked once, on the session's credential, arrives as it came, and rests nobody."""
    meeting = case(answers.OVERLOADED[name])
    answer, asked = meeting.meet(stream=stream, in_session=True)
    assert asked == ["same"]
    assert_as_it_came(answer, answers.OVERLOADED[name])
    assert meeting.next_one(in_session=True) == "same"
    assert meeting.log == ""


def test_overload_in_the_middle_of_a_stream(case, upstream):
    """An error event after a 200 reaches the client as it was sent, is asked once, and rests nobody."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    meeting = case(answers.OVERLOADED["overloaded"])
    upstream.seen.clear()
    events = up.sse(*up.events_of(up.message(up.text("one two")))[:3], error)
    upstream.answer = lambda _: up.Reply(headers={"content-type": "text/event-stream"}, chunks=events)
    answer = meeting.proxy.ask(new_question(meeting.given.model, stream=True))
    assert (answer.status_code, streamed(answer)[-1], len(upstream.asked)) == (200, error, 1)
    assert (meeting.next_one(), meeting.next_one(in_session=True)) == ("same", "same")


# A pool of two that forgets at once who is out: each test meets both of them.


@pytest.fixture(scope="module")
def two(shared_upstream, tmp_path_factory):
    variables = {"CLAUDE_OAUTH_TOKENS": f"a={TOKENS['a']},b={TOKENS['b']}", "CLAUDE_TOKEN_QUARANTINE_SECONDS": "0"}
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("two"), **variables)


CONFIRMED = [name for name in answers.REFUSED_CREDENTIAL if name not in answers.UNCONFIRMED]


@BOTH
@pytest.mark.parametrize("name", CONFIRMED)
def test_a_refusal_of_everybody_is_never_shown(two, upstream, name, stream):
    """When the whole pool is refused, each credential is asked once, and the client reads who has to act: no 401, no 403."""
    upstream.answer = lambda _: reply(answers.REFUSED_CREDENTIAL[name])
    answer = two.ask(new_question("claude-sonnet-5", stream=stream))
    assert (answer.status_code, answer.json()["type"], answer.headers["x-should-retry"]) == (503, "error", "false")
    assert "operator" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) > 0
    assert Counter(seen.credential for seen in upstream.asked) == {TOKENS["a"]: 1, TOKENS["b"]: 1}


@BOTH
@pytest.mark.parametrize("name", answers.UNCONFIRMED)
def test_a_400_of_two_credentials_names_the_proxys_account(two, upstream, name, stream):
    """When two credentials refuse the same request with the same 400, the client reads whose account it is."""
    upstream.answer = lambda _: reply(answers.REFUSED_CREDENTIAL[name])
    answer = two.ask(new_question("claude-sonnet-5", stream=stream))
    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
    assert "Anthropic refused an account of this proxy. It is not your account" in answer.json()["error"]["message"]
    assert Counter(seen.credential for seen in upstream.asked) == {TOKENS["a"]: 1, TOKENS["b"]: 1}


PASSED = LIMITS | answers.WINDOWLESS | REQUESTS | answers.OUR_FAULT | answers.NOT_NATIVE_403 | answers.REFUSED_CREDENTIAL


@BOTH
@pytest.mark.parametrize("name", PASSED)
def test_a_users_own_credential_has_the_users_own_answers(two, upstream, name, stream):
    """In passthrough every answer is the client's, as it came, after one request on the client's own credential."""
    upstream.answer = lambda _: reply(PASSED[name])
    own = {"authorization": f"Bearer {CLIENT_TOKEN}", "x_claude_token_mode": "passthrough"}
    answer = two.ask(new_question(PASSED[name].model, stream=stream), **own)
    assert_as_it_came(answer, PASSED[name])
    assert [seen.credential for seen in upstream.asked] == [CLIENT_TOKEN]


# Waiting, restarting, and the real client


def test_requests_wait_for_a_rest_that_ends_soon(start_proxy, upstream):
    """Two requests that find the only credential resting for a second are both served by it afterwards."""
    begun = []

    def a_second_of_rest(seen: up.Seen) -> up.Reply:
        begun.append(time.monotonic())
        if begun[-1] < begun[0] + 0.9:
            return up.anthropic_error(429, "rate_limit_error", "limit", retry_after="1")
        return up.anthropic_reply(seen, up.text("served"))

    upstream.answer = by_credential(a=a_second_of_rest)
    proxy = start_proxy(CLAUDE_OAUTH_TOKENS=f"a={TOKENS['a']}", CLAUDE_POOL_MAX_WAIT_SECONDS="50")
    found = {}

    def ask(stream: bool) -> None:  # noqa: FBT001
        found[stream] = proxy.ask(new_question("claude-sonnet-5", stream=stream))

    clients = [threading.Thread(target=ask, args=(stream,)) for stream in (False, True)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert {stream: (answer.status_code, answer_text(answer)) for stream, answer in found.items()} == {
        False: (200, "served"),
        True: (200, "served"),
    }
    assert {seen.credential for seen in upstream.asked} == {TOKENS["a"]}
    assert sum(moment >= begun[0] + 0.9 for moment in begun) == 2, "each was asked once after the rest"
    assert len(begun) <= 4, "and once before it at most"
    assert proxy.ask(new_question("claude-sonnet-5")).status_code == 200
    assert len(upstream.asked) == len(begun), "a usable credential is asked at once"


def test_a_wait_that_would_be_too_long(start_proxy, upstream):
    """A request does not wait for a rest that ends after what the operator allows: it is refused at once."""
    upstream.answer = by_credential(a=lambda _: up.anthropic_error(429, "rate_limit_error", "limit", retry_after="90"))
    proxy = start_proxy(CLAUDE_OAUTH_TOKENS=f"a={TOKENS['a']}", CLAUDE_POOL_MAX_WAIT_SECONDS="50")
    for _ in range(2):
        answer = proxy.ask(new_question("claude-sonnet-5"))
        assert (answer.status_code, answer.headers["anthropic-ratelimit-unified-status"]) == (429, "rejected")
        assert answer.elapsed.total_seconds() < 50, "it does not wait as long as it may"
    assert len(upstream.asked) == 1


def test_a_rest_outlives_a_restart(start_proxy, upstream):
    """After a restart no credential is asked that rests or is out, a session is where it was, and the file holds no secret."""
    limit = LIMITS["five-hours"]
    upstream.answer = by_credential(a=lambda _: reply(limit), b=lambda _: reply(answers.REFUSED_CREDENTIAL["revoked"]))
    session = {"x_claude_code_session_id": "00000000-0000-4000-8000-000000000001"}
    first = start_proxy()
    assert answer_text(first.ask(new_question("claude-sonnet-5"), **session)) == "from c"
    assert [seen.credential for seen in upstream.asked] == [TOKENS["a"], TOKENS["b"], TOKENS["c"]]
    first.stop()
    for path in (first.home / ".state").iterdir():
        held = path.read_bytes()
        assert not any(token.encode() in held or token[14:].encode() in held for token in TOKENS.values())
    second = start_proxy()
    assert answer_text(second.ask(new_question("claude-sonnet-5"), **session)) == "from c"
    for _ in range(3):
        assert answer_text(second.ask(new_question("claude-opus-4-8"))) == "from c"
    assert {seen.credential for seen in upstream.asked} == {TOKENS["c"]}


def test_claude_code_says_when_to_come_back(start_proxy, tmp_path, upstream):
    """On a pool that rests the real CLI tells its user when the limit resets, at once, and asks nobody again and again."""
    upstream.answer = by_credential(a=lambda _: reply(LIMITS["five-hours"]))
    proxy = start_proxy(CLAUDE_OAUTH_TOKENS=f"a={TOKENS['a']}")
    user = ClaudeCode(tmp_path, proxy.url)
    del user.environment["ANTHROPIC_AUTH_TOKEN"]
    logged_in = {
        "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-made-up-logged-in",
        "ANTHROPIC_CUSTOM_HEADERS": f"x-litellm-api-key: {proxy.static_token}",
    }
    for asked in (1, 0):
        upstream.seen.clear()
        run = user.run("Hello", model="claude-sonnet-5", **logged_in)
        assert (run.code, run.retries) == (1, 0), run.result
        assert "You've hit your 5-hour limit · resets" in run.result
        assert len(upstream.asked) == asked
    with_a_token = user.run("Hello", model="claude-sonnet-5", ANTHROPIC_AUTH_TOKEN=proxy.static_token)
    assert (with_a_token.code, with_a_token.retries, upstream.seen) == (1, 0, [])
    words = "claude-proxy: the only Claude credential is rate-limited until "
    assert words in with_a_token.result
    assert " UTC (in " in with_a_token.result
