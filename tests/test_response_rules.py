"""credentials/response_rules.py: what an answer says about the credential and what happens to the request, as one table."""

import json
from email.utils import formatdate

import answers
import pytest
from answers import DAY, HOUR, LIMIT, UNIFIED

from claude_proxy.anthropic.errors import error_body
from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.response_rules import (
    LONG_COOLDOWN,
    LONGEST_SPENT,
    NO_CREDIT,
    SHORTEST_COOLDOWN,
    Action,
    Verdict,
    judge,
)
from claude_proxy.credentials.scope import COUNT_TOKENS, EVERYTHING, FAST, MESSAGES, STANDARD, Scope
from claude_proxy.credentials.upstream_response import LONGEST_RETRY_AFTER, UpstreamResponse
from claude_proxy.credentials.wordings import (
    EXTRA_USAGE,
    NOT_CLAUDE_CODE,
    OUT_OF_CREDIT,
    OUT_OF_EXTRA_USAGE,
    REFUSED_ACCOUNT,
    UNHEALED_THINKING,
    WRONG_HEADER,
)
from claude_proxy.providers.endpoints import model_family

NOW = 1_800_000_000
COOLDOWN = 60.0
UNTOUCHED = {"cooldowns": (), "rejected": False, "unauthorized": False}


def of(given, kind=Kind.OAUTH, endpoint="", speed=""):
    """Return what the flow would make of an answer."""
    scope = Scope(model_family(given.model), endpoint, speed)
    return UpstreamResponse(given.status, given.headers, given.body, scope, NOW, kind)


def limited(retry_after=None, model="claude-opus-4-8", **unified):
    """Return a 429 with these limit headers only."""
    return of(answers.given(429, LIMIT, model, retry_after=retry_after, **unified))


def judged(answer):
    return judge(answer, COOLDOWN)


def fields(verdict):
    return {name: getattr(verdict, name) for name in UNTOUCHED}


def cooldowns(seconds, scope=EVERYTHING):
    return UNTOUCHED | {"cooldowns": ((scope, NOW + seconds),)}


def family_cooldowns(family, seconds):
    return cooldowns(seconds, Scope(family))


def both_rate_limited(seconds, family, its_seconds):
    return UNTOUCHED | {"cooldowns": ((EVERYTHING, NOW + seconds), (Scope(family), NOW + its_seconds))}


FOUND = {name: of(each) for name, each in answers.limits(NOW).items()}
FIVE = {"5h__status": "rejected", "5h__reset": NOW + HOUR}
WEEK = {"7d__status": "rejected", "7d__reset": NOW + 3 * DAY}
OPUS = {"7d_opus__status": "rejected", "7d_opus__reset": NOW + 5 * DAY}
FABLE = {"7d_oi__status": "rejected", "7d_oi__reset": NOW + 5 * DAY, "7d_oi__utilization": "1.02"}
UNKNOWN = {"7d_xyz__status": "rejected", "7d_xyz__reset": NOW + DAY}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # As they were met: a window, a family, a throttle.
        (FOUND["five-hours"], cooldowns(HOUR)),
        (FOUND["week"], cooldowns(4 * DAY)),
        (FOUND["both-windows"], cooldowns(4 * DAY)),
        (FOUND["no-aggregate-status"], cooldowns(HOUR)),
        (FOUND["threshold-surpassed"], cooldowns(HOUR)),
        (FOUND["family-opus"], family_cooldowns("opus", 2 * DAY)),
        (FOUND["family-fable"], family_cooldowns("fable", 2 * DAY)),
        (FOUND["family-of-tomorrow"], family_cooldowns("sonnet", 2 * DAY)),
        (FOUND["family-by-claim"], family_cooldowns("opus", 2 * DAY)),
        (FOUND["throttle"], cooldowns(30)),
        # Several rejected windows: the latest, and a window that is open does not count.
        (limited(**FIVE | WEEK), cooldowns(3 * DAY)),
        (limited(**FIVE | {"7d__status": "allowed_warning", "7d__reset": NOW + 3 * DAY}), cooldowns(HOUR)),
        (limited(**FIVE | {"7d__status": "allowed", "7d__reset": NOW + 3 * DAY}), cooldowns(HOUR)),
        (limited(**WEEK | OPUS), both_rate_limited(3 * DAY, "opus", 5 * DAY)),
        (limited(**{"7d_opus__status": "rejected", "7d_opus__reset": NOW + HOUR}, **FIVE),
         both_rate_limited(HOUR, "opus", HOUR)),
        (limited(**OPUS | UNKNOWN), family_cooldowns("opus", 5 * DAY)),
        # Other words for a window that is closed.
        (limited(**FIVE | {"5h__status": "blocked"}), cooldowns(HOUR)),
        (limited(**FIVE | {"5h__status": "queueing_hard"}), cooldowns(HOUR)),
        (limited(**FIVE | {"5h__status": "payment_required"}), cooldowns(HOUR)),
        (limited(**FIVE | {"5h__status": " rejected "}), cooldowns(HOUR)),
        # Only the aggregate says so.
        (limited(status="rejected", reset=NOW + HOUR), cooldowns(HOUR)),
        (limited(status=" rejected ", reset=NOW + HOUR), cooldowns(HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="five_hour"), cooldowns(HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="seven_day"), cooldowns(HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="overage"), cooldowns(HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="seven_day_opus"), family_cooldowns("opus", HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="five_hour_xyz"), family_cooldowns("opus", HOUR)),
        # A window that is rejected outranks the claim.
        (limited(**FIVE, representative__claim="seven_day_opus"), cooldowns(HOUR)),
        # A threshold counts with what it is a threshold of.
        (limited(7, **{"5h__surpassed__threshold": "0.9", "5h__utilization": "0.93", "5h__reset": NOW + HOUR}), cooldowns(7)),
        (limited(7, **{"5h__utilization": "1.2", "5h__reset": NOW + HOUR}), cooldowns(7)),
        (limited(**{"7d__surpassed__threshold": "1.0", "7d__utilization": "1.3", "7d__reset": NOW + DAY}), cooldowns(DAY)),
        (limited(model="claude-fable-5-1", **{"7d_oi__surpassed__threshold": "1.0", "7d_oi__utilization": "1",
                                              "7d_oi__reset": NOW + DAY}), family_cooldowns("fable", DAY)),
        # The window of another family is no reason, whatever it is called; one that nobody knows is one only where it is alone.
        (limited(**FIVE | FABLE), cooldowns(HOUR)),
        (limited(**FIVE | UNKNOWN), cooldowns(HOUR)),
        (limited(**FABLE | UNKNOWN), family_cooldowns("opus", DAY)),
        (limited(7, **FABLE), cooldowns(7)),
        (limited(7, status="rejected", reset=NOW + 5 * DAY, **FABLE), family_cooldowns("opus", 7)),
        (limited(status="rejected", reset=NOW + 5 * DAY, **FABLE), family_cooldowns("opus", COOLDOWN)),
        # A reset in Unix seconds, in milliseconds, in ISO 8601.
        (limited(**FIVE | {"5h__reset": f"{NOW + HOUR}000"}), cooldowns(HOUR)),
        (limited(**FIVE | {"5h__reset": "2027-01-15T09:00:00Z"}), cooldowns(HOUR)),
        (limited(**FIVE | {"5h__reset": "2027-01-15T09:00:00.000+00:00"}), cooldowns(HOUR)),
        # A reset that is past or beyond its window is no reset; a window's length is in its name.
        (limited(7, **FIVE | {"5h__reset": NOW - 1}), cooldowns(7)),
        (limited(7, **FIVE | {"5h__reset": NOW}), cooldowns(7)),
        (limited(7, **FIVE | {"5h__reset": NOW + 6 * HOUR}), cooldowns(6 * HOUR)),
        (limited(7, **FIVE | {"5h__reset": NOW + 6 * HOUR + 1}), cooldowns(7)),
        (limited(7, **WEEK | {"7d__reset": NOW + 8 * DAY}), cooldowns(8 * DAY)),
        (limited(7, **WEEK | {"7d__reset": NOW + 8 * DAY + 1}), cooldowns(7)),
        (limited(7, **OPUS | {"7d_opus__reset": NOW + 8 * DAY + 1}), family_cooldowns("opus", 7)),
        (limited(7, **{"24h__status": "rejected", "24h__reset": NOW + 25 * HOUR}), cooldowns(25 * HOUR)),
        (limited(7, **{"24h__status": "rejected", "24h__reset": NOW + 25 * HOUR + 1}), cooldowns(7)),
        (limited(7, **{"30d__status": "rejected", "30d__reset": NOW + 31 * DAY}), cooldowns(31 * DAY)),
        (limited(7, **{"30d__status": "rejected", "30d__reset": NOW + 31 * DAY + 1}), cooldowns(7)),
        (limited(7, **{"30d_opus__status": "rejected", "30d_opus__reset": NOW + 9 * DAY}), family_cooldowns("opus", 9 * DAY)),
        (limited(**FIVE | WEEK | {"7d__reset": NOW - 1}), cooldowns(HOUR)),
        (limited(**FIVE | {"5h__reset": NOW + 7 * HOUR}, reset=NOW + 2 * HOUR), cooldowns(2 * HOUR)),
        (limited(status="rejected", reset=NOW - 1, retry_after=7), cooldowns(7)),
        (limited(status="rejected", reset=NOW + 9 * DAY), cooldowns(COOLDOWN)),
        (limited(status="rejected", reset="soon"), cooldowns(COOLDOWN)),
        (limited(status="rejected"), cooldowns(COOLDOWN)),
        (limited(**{"5h__status": "rejected"}), cooldowns(COOLDOWN)),
        (limited(**{"7d_opus__status": "rejected"}), family_cooldowns("opus", COOLDOWN)),
        # No window is rejected, and there is a retry-after.
        (limited(7), cooldowns(7)),
        (limited("0.5"), cooldowns(SHORTEST_COOLDOWN)),
        (limited(0), cooldowns(SHORTEST_COOLDOWN)),
        (limited(7999), cooldowns(7999)),
        (limited(10 * DAY), cooldowns(LONGEST_RETRY_AFTER)),
        (limited(7, status="allowed", overage__status="rejected", reset=NOW + HOUR), cooldowns(7)),
        (limited(7, **{"5h__status": ""}), cooldowns(7)),
        # "Error" with a limit in it is a limit.
        (of(answers.given(429, "Error", retry_after=7)), cooldowns(7)),
        (of(answers.given(429, "Error", **FIVE)), cooldowns(HOUR)),
        (of(answers.given(429, "Error", status="rejected", reset=NOW + HOUR)), cooldowns(HOUR)),
    ],
)  # fmt: skip
def test_a_limit(answer, expected):
    """A 429 about a limit rests the credential, for all models or for a family, as long as it says; the next one is asked."""
    verdict = judged(answer)
    assert (verdict.action, fields(verdict)) == (Action.NEXT, expected)


@pytest.mark.parametrize(
    "answer",
    [
        *map(of, answers.WINDOWLESS.values()),
        # A limit header without a limit: overage is not a window.
        limited(status="allowed"),
        limited(status="allowed", overage__status="rejected", overage__disabled__reason="org_level_disabled"),
        limited(overage__status="rejected", overage__reset=NOW + HOUR),
        limited(fallback="available", fallback__percentage="0.5"),
        limited(status=""),
        # A retry-after that says nothing.
        limited("Wed, 32 Oct 2015 07:28:00 GMT"),
        limited("-1"),
        limited("nan"),
        limited("inf"),
        # A window whose name says no length that could be one.
        limited(h__status="rejected", h__reset=NOW + HOUR),
        limited(**{f"{'9' * 5000}d__status": "rejected"}),
        limited(weekly__status="rejected", weekly__reset=NOW + HOUR),
        UpstreamResponse(429, {}, b"<html>slow down</html>", Scope("opus"), NOW),
        UpstreamResponse(429, {}, b"", Scope("opus"), NOW),
    ],
)
def test_a_429_that_names_no_limit(answer):
    """A 429 without a window and without a time is bound to the request: one other is asked, and nobody rests."""
    verdict = judged(answer)
    assert (verdict.action, fields(verdict)) == (Action.TRY_ONE_OTHER, UNTOUCHED)


@pytest.mark.parametrize("answer", [*map(of, answers.REFUSED_ACCOUNT.values())], ids=answers.REFUSED_ACCOUNT)
def test_out(answer):
    """A credential whose account was refused is put out, and the next one is asked."""
    verdict = judged(answer)
    assert (verdict.action, fields(verdict)) == (Action.NEXT, UNTOUCHED | {"rejected": True})


@pytest.mark.parametrize("answer", [*map(of, answers.REFUSED_TOKEN.values()), UpstreamResponse(401, {}, b"")])
def test_refused(answer):
    """A 401 may be about the token or about trouble of Anthropic's, whatever it says: the next one is asked."""
    verdict = judged(answer)
    assert (verdict.action, fields(verdict)) == (Action.NEXT, UNTOUCHED | {"unauthorized": True})


SPENT = "You have reached your specified API usage limits. You will regain access on 2027-01-20 at 00:00 UTC."
CAP = (
    "You have reached your API usage limits: your organization has crossed its monthly API usage threshold, set for its tier. "
    "You will regain access on 2027-01-20 at 00:00 UTC."
)
REGAINED = 1_800_403_200


def with_code(answer, code):
    body = json.loads(answer.body)
    body["error"]["details"] = {"error_code": code}
    return UpstreamResponse(answer.status, answer.headers, json.dumps(body).encode(), answer.scope, answer.now)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (of(answers.given(400, SPENT)), REGAINED - NOW),
        (of(answers.given(403, SPENT)), REGAINED - NOW),
        (of(answers.given(429, SPENT)), REGAINED - NOW),
        (of(answers.given(400, SPENT.replace("API usage", "workspace API usage"))), REGAINED - NOW),
        (of(answers.given(429, CAP)), REGAINED - NOW),
        (of(answers.given(400, SPENT.partition(" You will")[0])), LONG_COOLDOWN),
        (of(answers.given(400, SPENT.replace("01-20", "13-45"))), LONG_COOLDOWN),
        (of(answers.given(400, SPENT.replace("2027", "2026"))), SHORTEST_COOLDOWN),
        (of(answers.given(400, SPENT.replace("2027", "2097"))), LONGEST_SPENT),
        (with_code(of(answers.given(429, "In words of tomorrow")), "enforced_spend_limit_reached"), LONG_COOLDOWN),
    ],
)
def test_a_spend_limit(answer, seconds):
    """An account that has spent what it may rests until the day that is named, whatever the status; the next one is asked."""
    verdict = judged(answer)
    assert (verdict.action, fields(verdict), verdict.unconfirmed) == (Action.NEXT, cooldowns(seconds), "")


@pytest.mark.parametrize("words", ["x {}", "messages.0: {}", "'{}' does not support thinking.", "{} And more."])
def test_words_around_a_spend_limit(words):
    """Only the whole message is a spend limit: what has other words around it may be the client's."""
    assert judged(of(answers.given(400, words.format(SPENT)))).cooldowns == ()


@pytest.mark.parametrize(
    ("answer", "seconds", "unconfirmed"),
    [
        (of(answers.given(400, "You're out of extra usage. Add more at claude.ai/settings/usage and keep going.")),
         LONG_COOLDOWN, True),
        (of(answers.given(400, "You're out of extra usage. Ask your workspace admin to add more so you can keep going.")),
         LONG_COOLDOWN, True),
        (of(answers.given(429, "You're out of extra usage · resets 4pm", **FIVE)), HOUR, False),
    ],
)  # fmt: skip
def test_out_of_extra_usage(answer, seconds, unconfirmed):
    """An account without extra usage rests for the family until its windows open; another client's request may cause a 400."""
    verdict = judged(answer)
    assert (verdict.action, verdict.cooldowns) == (Action.NEXT, ((Scope(answer.scope.family), NOW + seconds),))
    assert bool(verdict.unconfirmed) is unconfirmed


def test_a_billing_problem():
    """A 402 is about the account's bills, whatever it says."""
    for answer in (of(answers.given(402, "There is a problem with your billing information.")), UpstreamResponse(402, {})):
        assert (judged(answer).action, fields(judged(answer))) == (Action.NEXT, UNTOUCHED | {"rejected": True})


@pytest.mark.parametrize("status", [403, 429])
def test_too_many_sessions(status):
    """An account that too many use at once rests for a moment."""
    assert fields(judged(of(answers.given(status, "Too many active sessions. Please wait.")))) == cooldowns(COOLDOWN)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/html; charset=UTF-8"}, b"<html>Just a moment...</html>"),
        ({"content-type": "text/html", "cf-mitigated": "challenge"}, b""),
        ({"cf-mitigated": "block"}, b"{}"),
    ],
)
def test_a_block_of_the_address(headers, body):
    """A page in front of Anthropic is about the proxy's address: nobody rests, and nobody else is asked."""
    for status in (403, 429):
        verdict = judged(UpstreamResponse(status, headers, body, Scope("opus"), NOW))
        assert (verdict.action, fields(verdict)) == (Action.BLOCKED, UNTOUCHED)


PER_MINUTE = "This request would exceed your organization's rate limit of 30,000 input tokens per minute."
SPENT_TOKENS = {"anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-limit": "30000"}


def api_limit(headers, **where):
    answer = of(answers.given(429, PER_MINUTE, "claude-opus-4-8"), **where)
    return UpstreamResponse(429, answer.headers | headers, answer.body, answer.scope, NOW, answer.kind)


@pytest.mark.parametrize(
    ("answer", "scope", "seconds"),
    [
        # Token counting and fast mode have limits of their own.
        (api_limit({"retry-after": "7"}, endpoint=COUNT_TOKENS), Scope("opus", COUNT_TOKENS), 7),
        (api_limit({"retry-after": "7"}, endpoint=MESSAGES, speed=FAST), Scope("opus", MESSAGES, FAST), 7),
        # An API key has a limit for each model.
        (api_limit({"retry-after": "7"}, kind=Kind.API_KEY, endpoint=MESSAGES, speed=STANDARD),
         Scope("opus", MESSAGES, STANDARD), 7),
        (api_limit({"retry-after": "7"} | SPENT_TOKENS, endpoint=MESSAGES, speed=STANDARD),
         Scope("opus", MESSAGES, STANDARD), 7),
        (api_limit({"anthropic-ratelimit-input-tokens-reset": "2027-01-15T08:01:00Z"} | SPENT_TOKENS, kind=Kind.API_KEY),
         Scope("opus"), 60),
        # A token is throttled as a whole.
        (api_limit({"retry-after": "7"}, endpoint=MESSAGES, speed=STANDARD), EVERYTHING, 7),
    ],
)  # fmt: skip
def test_a_limit_without_a_window(answer, scope, seconds):
    """Such a limit is about as little as the answer proves."""
    assert (judged(answer).action, fields(judged(answer))) == (Action.NEXT, cooldowns(seconds, scope))


@pytest.mark.parametrize("skew", [-7200, 3600])
def test_clocks_that_differ(skew):
    """A rest lasts as long as Anthropic's clock says, however far that of the proxy is from it."""
    date = {"date": formatdate(NOW + skew, usegmt=True)}
    for given, seconds in (
        (limited(**{"5h__status": "rejected", "5h__reset": NOW + skew + HOUR}), HOUR),
        (limited(status="rejected", reset=NOW + skew + HOUR), HOUR),
        (limited(formatdate(NOW + skew + 90, usegmt=True)), 90),
        (of(answers.given(400, SPENT)), REGAINED - NOW - skew),
    ):
        answer = UpstreamResponse(given.status, given.headers | date, given.body, given.scope, NOW)
        assert fields(judged(answer)) == cooldowns(seconds)


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        # Answered, whatever the windows say.
        (UpstreamResponse(200, {f"{UNIFIED}status": "allowed"}), Action.DONE),
        (UpstreamResponse(200, {f"{UNIFIED}status": "rejected", f"{UNIFIED}5h-status": "rejected"}), Action.DONE),
        # About the request: what every OAuth token would answer.
        *((of(each), Action.API_KEY) for each in answers.DISGUISED.values()),
        *((of(each), Action.API_KEY) for each in answers.ENTITLEMENT.values()),
        *((of(each), Action.API_KEY) for name, each in answers.NOT_NATIVE.items() if name != "bare-400"),
        (of(answers.NOT_NATIVE["bare-400"]), Action.CLIENT),
        *((of(each), Action.API_KEY) for each in answers.NOT_NATIVE_403.values()),
        # A limit beside an entitlement is not the credential's.
        (of(answers.given(429, answers.LONG_CONTEXT, **FIVE)), Action.API_KEY),
        # About the proxy.
        *((of(each), Action.CLIENT) for each in answers.OUR_FAULT.values()),
        # Other 4xx.
        (of(answers.given(400, "messages: at least one message is required")), Action.CLIENT),
        (of(answers.given(400, "prompt is too long: 210000 tokens > 200000 maximum")), Action.CLIENT),
        (of(answers.given(404, "model: claude-none")), Action.CLIENT),
        (of(answers.given(413, "Request exceeds the maximum size")), Action.CLIENT),
        (UpstreamResponse(400, {}), Action.CLIENT),
        (UpstreamResponse(418, {f"{UNIFIED}status": "rejected"}), Action.CLIENT),
        # A 403 of another kind: this credential may not, the next one perhaps may.
        (of(answers.given(403, "Request not allowed")), Action.NEXT),
        (UpstreamResponse(403, {}), Action.NEXT),
        # About Anthropic.
        *((of(each), Action.ROUTER) for each in answers.OVERLOADED.values()),
        (of(answers.given(529, "Overloaded", retry_after=7, **FIVE)), Action.ROUTER),
        (UpstreamResponse(502, {}, b"<html>"), Action.ROUTER),
        (UpstreamResponse(302, {}), Action.ROUTER),
        (UpstreamResponse(503, {"retry-after": "7"}), Action.ROUTER),
    ],
)
def test_the_credential_is_untouched(answer, then):
    """An answer about the request, the proxy or Anthropic itself costs no credential anything."""
    verdict = judged(answer)
    assert (verdict.action, fields(verdict)) == (then, UNTOUCHED)


@pytest.mark.parametrize("answer", [*map(of, answers.OUR_FAULT.values())], ids=answers.OUR_FAULT)
def test_our_own_fault(answer):
    """A credential that was sent in the wrong way is the proxy's fault, and no other answer is."""
    assert judged(answer).proxy_fault
    others = [*answers.REFUSED_CREDENTIAL.values(), *answers.DISGUISED.values(), *answers.NOT_NATIVE_403.values()]
    assert not any(judged(of(each)).proxy_fault for each in others)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (of(answers.DISGUISED["disguised-sonnet"]), "CLAUDE_CODE_ATTRIBUTION_HEADER=0"),
        (of(answers.ENTITLEMENT["long-context-429"]), "needs extra usage"),
        (of(answers.ENTITLEMENT["fast-mode-400"]), "needs extra usage"),
        (of(answers.NOT_NATIVE["third-party"]), "did not recognize this request as Claude Code's"),
        (of(answers.NOT_NATIVE_403["only-claude-code-403"]), "did not recognize this request as Claude Code's"),
        (of(answers.OUR_FAULT["no-oauth-beta"]), "please report"),
        (of(answers.REFUSED_CREDENTIAL["revoked"]), "rejected"),
        (FOUND["both-windows"], "limit reached: 5h, 7d"),
        (FOUND["family-fable"], "limit reached: 7d_oi"),
        (FOUND["family-by-claim"], "limit reached: seven_day_opus"),
        (limited(status="rejected"), "limit reached: no window named"),
        (FOUND["throttle"], "too many requests"),
        (of(answers.WINDOWLESS["windowless"]), "names no limit"),
        (of(answers.OVERLOADED["overloaded"]), "Anthropic failed to respond"),
    ],
)
def test_reasons_are_for_the_operator(answer, words):
    """Every verdict says in the proxy's own words what the answer means."""
    reason = judged(answer).reason
    assert words in reason
    assert answer.message not in reason.lower()


def test_the_deployments_family_decides_who_is_exempt():
    """Anthropic does not disguise a refusal of Haiku, so there the same words are a 429 without a limit."""
    body = answers.DISGUISED["disguised-sonnet"].body
    asked = ("haiku", "sonnet", "opus", "fable", "a-family-of-tomorrow", "")
    verdicts = [judged(UpstreamResponse(429, {}, body, Scope(family), NOW)).action for family in asked]
    assert verdicts == [Action.TRY_ONE_OTHER, *[Action.API_KEY] * 5]


@pytest.mark.parametrize(
    "message",
    [
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.",
        "messages.1: each thinking block must contain thinking",
        "a final `assistant` message must start with a thinking block",
        "thinking blocks are not supported by this model",
        *answers.THINKING,
    ],
)
def test_thinking_that_nobody_heals(message):
    """A refusal of thinking blocks on which Claude Code does not act is repaired on the same credential."""
    verdict = judged(of(answers.given(400, message)))
    assert (verdict.action, fields(verdict)) == (Action.REPAIR, UNTOUCHED)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "messages.1.content.0: Invalid `signature` in `thinking` block"),
        (400, "messages.1.content.0.thinking.signature: Field required"),
        (400, "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified."),
        (400, "messages.1: redacted_thinking block has an invalid signature"),
        (400, "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation."),
        (400, "adaptive thinking is not supported on this model"),
        (400, "`max_tokens` must be greater than `thinking.budget_tokens`"),
        (404, "each thinking block must contain thinking"),
        (500, "each thinking block must contain thinking"),
    ],
)
def test_thinking_that_is_not_ours_to_repair(status, message):
    """What Claude Code heals by itself, and what is no 400 about blocks, reaches it in Anthropic's words."""
    assert judged(of(answers.given(status, message))).action is not Action.REPAIR


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 529])
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'{"error":"made-up"}', b'{"error":{"message":7}}', b'{"error":null}', b"\xff\xfe",
     b"[" * 100_000, b'{"erro'],
    ids=["empty", "null", "list", "text-error", "number", "null-error", "not-text", "nested-too-deep", "cut-off"],
)  # fmt: skip
def test_bodies_that_are_not_anthropics(status, body):
    """Every answer gets a verdict, whatever its body is: the status alone decides then."""
    answer = UpstreamResponse(status, {}, body)
    assert answer.message == ""
    assert judged(answer) == judged(UpstreamResponse(status, {}))


def test_a_cooldown_of_nothing_is_a_moment_all_the_same():
    """Whatever the operator sets, nobody is asked again at the very moment of a limit."""
    assert judge(limited(status="rejected"), 0).cooldowns == ((EVERYTHING, NOW + SHORTEST_COOLDOWN),)


def test_every_answer_fits_a_rule():
    """The table has no hole: any status with any of the known headers gets one verdict."""
    for status in (*range(200, 300, 33), *range(300, 600, 7)):
        for headers in ({}, FOUND["both-windows"].headers, {"retry-after": "7"}):
            assert isinstance(judged(UpstreamResponse(status, headers, b"", Scope("opus"), NOW)), Verdict)


def test_error_body():
    """The proxy's own errors have Anthropic's shape."""
    assert error_body("a", "b") == {"type": "error", "error": {"type": "a", "message": "b"}}
    assert json.loads(answers.DISGUISED["disguised-sonnet"].body)["error"] == error_body("rate_limit_error", "Error")["error"]


SENTENCES = [
    *EXTRA_USAGE, *NOT_CLAUDE_CODE, *WRONG_HEADER, *REFUSED_ACCOUNT, *OUT_OF_CREDIT, *OUT_OF_EXTRA_USAGE,
    *UNHEALED_THINKING, "error", SPENT,
]  # fmt: skip
# Ways in which a client could make its own words look like the beginning of a message.
DISGUISES = ["{}", "{}.", "{}. x", "x: {}", "x: {}. y", "{}: y", "' {}", "'. {}", "x\n{}", "messages.1.content.0: {}"]


@pytest.mark.parametrize("quotation", answers.QUOTATIONS.values(), ids=answers.QUOTATIONS)
@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_quotation_of_the_request(sentence, quotation):
    """A validation error that quotes a recognised sentence is the client's: no credential rests, is out or is asked again."""
    for disguise in DISGUISES:
        for words in (sentence, sentence.capitalize(), sentence.upper()):
            verdict = judged(of(answers.given(400, quotation.format(disguise.format(words), disguise.format(words)))))
            assert (verdict.action, fields(verdict), verdict.reason) == (Action.CLIENT, UNTOUCHED, ""), disguise


@pytest.mark.parametrize("sentence", REFUSED_ACCOUNT + OUT_OF_CREDIT)
@pytest.mark.parametrize("form", ["{}", "{}.", "  {}\n", "{}. Please contact support.", "{}, see `x`.", "{} for this request."])
def test_the_forms_of_a_sentence(sentence, form):
    """Case, spaces, backticks inside, a trailing period and further text do not hide a sentence of Anthropic's."""
    first, second, *others = sentence.split()
    for words in (sentence, sentence.capitalize(), sentence.upper(), "  ".join([first, f"`{second}`", *others])):
        verdict = judged(of(answers.given(400, form.format(words))))
        assert (verdict.action, verdict.rejected, verdict.unconfirmed) == (Action.NEXT, True, sentence)


@pytest.mark.parametrize("sentence", REFUSED_ACCOUNT + OUT_OF_CREDIT)
@pytest.mark.parametrize("form", ["The words {}.", "x{}", "{}x", "`{}` is what you sent", '"{}"'])
def test_a_sentence_does_not_count_inside_a_message(sentence, form):
    """A sentence is recognised where a message begins, as a whole and without quotation marks around it."""
    assert judged(of(answers.given(400, form.format(sentence)))).action is Action.CLIENT


@pytest.mark.parametrize("status", [400, 403])
def test_a_sentence_under_another_type(status):
    """A sentence is Anthropic's under the type of error that belongs to its status alone."""
    for kind in ("api_error", "x", "", None, 7):
        body = json.dumps({"error": {"type": kind, "message": "This organization has been disabled."}}).encode()
        assert not judged(UpstreamResponse(status, {}, body)).rejected


def test_what_has_to_be_confirmed():
    """A 400 that refuses the account may be the request's fault and has to be confirmed; a 401 and a 403 do not."""
    assert {name for name, each in answers.REFUSED_CREDENTIAL.items() if judged(of(each)).unconfirmed} == {*answers.UNCONFIRMED}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("sentence", OUT_OF_CREDIT)
def test_an_account_without_credit(sentence, kind):
    """An API key is paid from the credit, so no request is the cause; a token's request may have asked for extra usage."""
    for words in (sentence.capitalize(), f"{sentence} to access the Claude API."):
        verdict = judged(of(answers.given(400, words), kind))
        assert (verdict.action, verdict.rejected, verdict.reason) == (Action.NEXT, True, NO_CREDIT)
        assert verdict.unconfirmed == ("" if kind is Kind.API_KEY else sentence)
    for form in answers.QUOTATIONS.values():
        assert judged(of(answers.given(400, form.format(sentence, sentence)), kind)).action is Action.CLIENT
