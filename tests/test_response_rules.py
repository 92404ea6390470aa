"""credentials/response_rules.py: what an answer says about the credential and what happens to the request, as one table."""

import json

import answers
import pytest
from answers import DAY, HOUR, LIMIT, UNIFIED

from claude_proxy.anthropic.errors import error_body
from claude_proxy.credentials.response_rules import (
    EXTRA_USAGE,
    LONGEST_RETRY_AFTER,
    NOT_CLAUDE_CODE,
    REFUSED_ACCOUNT,
    SHORTEST_REST,
    UNHEALED_THINKING,
    WRONG_HEADER,
    Action,
    UpstreamResponse,
    Verdict,
    judge,
    known_windows,
    parse_reset,
    retry_after,
)
from claude_proxy.providers.endpoints import model_family

NOW = 1_800_000_000
COOLDOWN = 60.0
UNTOUCHED = {"rest_until": None, "family": "", "family_until": None, "out": False}


def of(given):
    """Return what the flow would make of an answer."""
    return UpstreamResponse(given.status, given.headers, given.body, model_family(given.model), NOW)


def limited(retry_after=None, model="claude-opus-4-8", **unified):
    """Return a 429 with these limit headers only."""
    return of(answers.given(429, LIMIT, model, retry_after=retry_after, **unified))


def judged(answer):
    return judge(answer, COOLDOWN)


def fields(verdict):
    return {name: getattr(verdict, name) for name in UNTOUCHED}


def rests(seconds):
    return UNTOUCHED | {"rest_until": NOW + seconds}


def family_rests(family, seconds):
    return UNTOUCHED | {"family": family, "family_until": NOW + seconds}


FOUND = {name: of(each) for name, each in answers.limits(NOW).items()}
FIVE = {"5h__status": "rejected", "5h__reset": NOW + HOUR}
WEEK = {"7d__status": "rejected", "7d__reset": NOW + 3 * DAY}
OPUS = {"7d_opus__status": "rejected", "7d_opus__reset": NOW + 5 * DAY}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # As they were met: a window, a family, a throttle.
        (FOUND["five-hours"], rests(HOUR)),
        (FOUND["week"], rests(4 * DAY)),
        (FOUND["both-windows"], rests(4 * DAY)),
        (FOUND["no-aggregate-status"], rests(HOUR)),
        (FOUND["threshold-surpassed"], rests(HOUR)),
        (FOUND["family-opus"], family_rests("opus", 2 * DAY)),
        (FOUND["family-fable"], family_rests("fable", 2 * DAY)),
        (FOUND["family-of-tomorrow"], family_rests("sonnet", 2 * DAY)),
        (FOUND["family-by-claim"], family_rests("opus", 2 * DAY)),
        (FOUND["throttle"], rests(30)),
        # Several rejected windows: the latest, and a window that is open does not count.
        (limited(**FIVE | WEEK), rests(3 * DAY)),
        (limited(**FIVE | {"7d__status": "allowed_warning", "7d__reset": NOW + 3 * DAY}), rests(HOUR)),
        (limited(**FIVE | {"7d__status": "allowed", "7d__reset": NOW + 3 * DAY}), rests(HOUR)),
        (limited(**WEEK | OPUS), rests(3 * DAY) | {"family": "opus", "family_until": NOW + 5 * DAY}),
        (limited(**{"7d_opus__status": "rejected", "7d_opus__reset": NOW + HOUR}, **FIVE),
         rests(HOUR) | {"family": "opus", "family_until": NOW + HOUR}),
        (limited(**OPUS | {"7d_xyz__status": "rejected", "7d_xyz__reset": NOW + DAY}), family_rests("opus", 5 * DAY)),
        # Other words for a window that is closed.
        (limited(**FIVE | {"5h__status": "blocked"}), rests(HOUR)),
        (limited(**FIVE | {"5h__status": "queueing_hard"}), rests(HOUR)),
        (limited(**FIVE | {"5h__status": "payment_required"}), rests(HOUR)),
        (limited(**FIVE | {"5h__status": " rejected "}), rests(HOUR)),
        # Only the aggregate says so.
        (limited(status="rejected", reset=NOW + HOUR), rests(HOUR)),
        (limited(status=" rejected ", reset=NOW + HOUR), rests(HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="five_hour"), rests(HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="seven_day"), rests(HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="overage"), rests(HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="seven_day_opus"), family_rests("opus", HOUR)),
        (limited(status="rejected", reset=NOW + HOUR, representative__claim="five_hour_xyz"), family_rests("opus", HOUR)),
        # A window that is rejected outranks the claim.
        (limited(**FIVE, representative__claim="seven_day_opus"), rests(HOUR)),
        # A threshold counts with what it is a threshold of.
        (limited(7, **{"5h__surpassed__threshold": "0.9", "5h__utilization": "0.93", "5h__reset": NOW + HOUR}), rests(7)),
        (limited(7, **{"5h__utilization": "1.2", "5h__reset": NOW + HOUR}), rests(7)),
        (limited(**{"7d__surpassed__threshold": "1.0", "7d__utilization": "1.3", "7d__reset": NOW + DAY}), rests(DAY)),
        (limited(**{"7d_oi__surpassed__threshold": "1.0", "7d_oi__utilization": "1", "7d_oi__reset": NOW + DAY}),
         family_rests("opus", DAY)),
        # A reset in Unix seconds, in milliseconds, in ISO 8601.
        (limited(**FIVE | {"5h__reset": f"{NOW + HOUR}000"}), rests(HOUR)),
        (limited(**FIVE | {"5h__reset": "2027-01-15T09:00:00Z"}), rests(HOUR)),
        (limited(**FIVE | {"5h__reset": "2027-01-15T09:00:00.000+00:00"}), rests(HOUR)),
        # A reset that is past or beyond its window is no reset; a window's length is in its name.
        (limited(7, **FIVE | {"5h__reset": NOW - 1}), rests(7)),
        (limited(7, **FIVE | {"5h__reset": NOW}), rests(7)),
        (limited(7, **FIVE | {"5h__reset": NOW + 6 * HOUR}), rests(6 * HOUR)),
        (limited(7, **FIVE | {"5h__reset": NOW + 6 * HOUR + 1}), rests(7)),
        (limited(7, **WEEK | {"7d__reset": NOW + 8 * DAY}), rests(8 * DAY)),
        (limited(7, **WEEK | {"7d__reset": NOW + 8 * DAY + 1}), rests(7)),
        (limited(7, **OPUS | {"7d_opus__reset": NOW + 8 * DAY + 1}), family_rests("opus", 7)),
        (limited(7, **{"24h__status": "rejected", "24h__reset": NOW + 25 * HOUR}), rests(25 * HOUR)),
        (limited(7, **{"24h__status": "rejected", "24h__reset": NOW + 25 * HOUR + 1}), rests(7)),
        (limited(7, **{"30d__status": "rejected", "30d__reset": NOW + 31 * DAY}), rests(31 * DAY)),
        (limited(7, **{"30d__status": "rejected", "30d__reset": NOW + 31 * DAY + 1}), rests(7)),
        (limited(7, **{"30d_opus__status": "rejected", "30d_opus__reset": NOW + 9 * DAY}), family_rests("opus", 9 * DAY)),
        (limited(**FIVE | WEEK | {"7d__reset": NOW - 1}), rests(HOUR)),
        (limited(**FIVE | {"5h__reset": NOW + 7 * HOUR}, reset=NOW + 2 * HOUR), rests(2 * HOUR)),
        (limited(status="rejected", reset=NOW - 1, retry_after=7), rests(7)),
        (limited(status="rejected", reset=NOW + 9 * DAY), rests(COOLDOWN)),
        (limited(status="rejected", reset="soon"), rests(COOLDOWN)),
        (limited(status="rejected"), rests(COOLDOWN)),
        (limited(**{"5h__status": "rejected"}), rests(COOLDOWN)),
        (limited(**{"7d_opus__status": "rejected"}), family_rests("opus", COOLDOWN)),
        # No window is rejected, and there is a retry-after.
        (limited(7), rests(7)),
        (limited("0.5"), rests(SHORTEST_REST)),
        (limited(0), rests(SHORTEST_REST)),
        (limited(7999), rests(7999)),
        (limited(10 * DAY), rests(LONGEST_RETRY_AFTER)),
        (limited(7, status="allowed", overage__status="rejected", reset=NOW + HOUR), rests(7)),
        (limited(7, **{"5h__status": ""}), rests(7)),
        # "Error" with a limit in it is a limit.
        (of(answers.given(429, "Error", retry_after=7)), rests(7)),
        (of(answers.given(429, "Error", **FIVE)), rests(HOUR)),
        (of(answers.given(429, "Error", status="rejected", reset=NOW + HOUR)), rests(HOUR)),
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
        limited("Wed, 21 Oct 2015 07:28:00 GMT"),
        limited("-1"),
        limited("nan"),
        limited("inf"),
        # A window whose name says no length that could be one.
        limited(h__status="rejected", h__reset=NOW + HOUR),
        limited(**{f"{'9' * 5000}d__status": "rejected"}),
        limited(weekly__status="rejected", weekly__reset=NOW + HOUR),
        UpstreamResponse(429, {}, b"<html>slow down</html>", "opus", NOW),
        UpstreamResponse(429, {}, b"", "opus", NOW),
    ],
)
def test_a_429_that_names_no_limit(answer):
    """A 429 without a window and without a time is bound to the request: one other is asked, and nobody rests."""
    verdict = judged(answer)
    assert (verdict.action, fields(verdict)) == (Action.TRY_ONE_OTHER, UNTOUCHED)


@pytest.mark.parametrize("answer", [*map(of, answers.REFUSED_CREDENTIAL.values())], ids=answers.REFUSED_CREDENTIAL)
def test_out(answer):
    """A credential or an account that was refused is put out, and the next one is asked."""
    verdict = judged(answer)
    assert (verdict.action, fields(verdict)) == (Action.NEXT, UNTOUCHED | {"out": True})


def test_a_401_without_words_is_about_the_credential():
    """What a 401 says beside its status does not have to be known."""
    assert judged(UpstreamResponse(401, {}, b"")).out


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        # Answered, whatever the windows say.
        (UpstreamResponse(200, {f"{UNIFIED}status": "allowed"}), Action.DONE),
        (UpstreamResponse(200, {f"{UNIFIED}status": "rejected", f"{UNIFIED}5h-status": "rejected"}), Action.DONE),
        # About the request: what every credential would answer.
        *((of(each), Action.CLIENT) for each in answers.DISGUISED.values()),
        *((of(each), Action.CLIENT) for each in answers.ENTITLEMENT.values()),
        *((of(each), Action.CLIENT) for each in answers.NOT_NATIVE.values()),
        *((of(each), Action.CLIENT) for each in answers.NOT_NATIVE_403.values()),
        # A limit beside an entitlement is not the credential's.
        (of(answers.given(429, answers.LONG_CONTEXT, **FIVE)), Action.CLIENT),
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
    assert judged(answer).ours
    others = [*answers.REFUSED_CREDENTIAL.values(), *answers.DISGUISED.values(), *answers.NOT_NATIVE_403.values()]
    assert not any(judged(of(each)).ours for each in others)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (of(answers.DISGUISED["disguised-sonnet"]), "CLAUDE_CODE_ATTRIBUTION_HEADER=0"),
        (of(answers.ENTITLEMENT["long-context-429"]), "needs extra usage"),
        (of(answers.ENTITLEMENT["fast-mode-400"]), "needs extra usage"),
        (of(answers.NOT_NATIVE["third-party"]), "does not take this request for Claude Code's own"),
        (of(answers.NOT_NATIVE_403["only-claude-code-403"]), "does not take this request for Claude Code's own"),
        (of(answers.OUR_FAULT["no-oauth-beta"]), "please report"),
        (of(answers.REFUSED_CREDENTIAL["revoked"]), "refused"),
        (FOUND["both-windows"], "limit reached: 5h, 7d"),
        (FOUND["family-fable"], "limit reached: 7d_oi"),
        (FOUND["family-by-claim"], "limit reached: seven_day_opus"),
        (limited(status="rejected"), "limit reached: no window named"),
        (FOUND["throttle"], "slow down"),
        (of(answers.WINDOWLESS["windowless"]), "names no limit"),
        (of(answers.OVERLOADED["overloaded"]), "Anthropic could not answer"),
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
    verdicts = [judged(UpstreamResponse(429, {}, body, family, NOW)).action for family in asked]
    assert verdicts == [Action.TRY_ONE_OTHER, *[Action.CLIENT] * 5]


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


def test_windows():
    """Windows are read by their pattern: known ones, those of a family and those of tomorrow, with what is said of each."""
    headers = answers.windows(NOW, **{
        "7d_oi__utilization": "1.25", "7d_oi__reset": NOW + DAY, "7d_oi__status": "rejected",
        "7d_oi__surpassed__threshold": "1.0", "30d__utilization": "much", "30d__reset": NOW + 40 * DAY,
    })  # fmt: skip
    answer = UpstreamResponse(200, answers.given(429, LIMIT, **headers).headers, family="fable", now=NOW)
    assert sorted(answer.windows(), key=lambda window: window.name) == [
        ("30d", None, None, None, False),
        ("5h", None, 0.31, NOW + HOUR, False),
        ("7d", None, 0.12, NOW + 4 * DAY, False),
        ("7d_oi", "oi", 1.25, NOW + DAY, True),
    ]
    assert [window.name for window in known_windows(answer)] == ["5h", "7d", "7d_oi"]


@pytest.mark.parametrize("text", ["", "much", "nan", "inf", "-0.1", "50%"])
def test_a_utilization_that_is_no_fraction(text):
    """What is no fraction of a window is not learned."""
    answer = UpstreamResponse(200, {f"{UNIFIED}5h-utilization": text, f"{UNIFIED}5h-reset": str(NOW + HOUR)}, now=NOW)
    assert [*known_windows(answer)] == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (f"{NOW + 60}", NOW + 60),
        (f"{NOW + 60}.5", NOW + 60.5),
        (f" {NOW + 60} ", NOW + 60),
        (f"{(NOW + 60) * 1000}", NOW + 60),
        ("2027-01-15T08:01:00Z", NOW + 60),
        (" 2027-01-15T08:01:00Z ", NOW + 60),
        ("2027-01-15T09:01:00+01:00", NOW + 60),
        ("2027-01-15T08:01:00", NOW + 60),
        (f"{NOW + 100}", NOW + 100),
        (f"{NOW}", None),
        (f"{NOW - 1}", None),
        (f"{NOW + 101}", None),
        ("0", None),
        ("60", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("9999-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+23:59", None),
    ],
)
def test_parse_reset(text, moment, monkeypatch):
    """A reset is read as seconds, milliseconds or ISO 8601 in UTC; one that is past or too far away is no reset."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert parse_reset(text, NOW, longest=100) == moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),
        ("1e9", LONGEST_RETRY_AFTER),
        ("-1", None),
        ("nan", None),
        ("x", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(text, seconds):
    """``retry-after`` is a number of seconds, bounded; a date or nonsense counts as none."""
    assert retry_after(UpstreamResponse(429, {} if text is None else {"retry-after": text})) == seconds


def test_a_cooldown_of_nothing_is_a_moment_all_the_same():
    """Whatever the operator sets, nobody is asked again at the very moment of a limit."""
    assert judge(limited(status="rejected"), 0).rest_until == NOW + SHORTEST_REST


def test_every_answer_fits_a_rule():
    """The table has no hole: any status with any of the known headers gets one verdict."""
    for status in (*range(200, 300, 33), *range(300, 600, 7)):
        for headers in ({}, FOUND["both-windows"].headers, {"retry-after": "7"}):
            assert isinstance(judged(UpstreamResponse(status, headers, b"", "opus", NOW)), Verdict)


def test_error_body():
    """The proxy's own errors have Anthropic's shape."""
    assert error_body("a", "b") == {"type": "error", "error": {"type": "a", "message": "b"}}
    assert json.loads(answers.DISGUISED["disguised-sonnet"].body)["error"] == error_body("rate_limit_error", "Error")["error"]


SENTENCES = [*EXTRA_USAGE, *NOT_CLAUDE_CODE, *WRONG_HEADER, *REFUSED_ACCOUNT, *UNHEALED_THINKING, "error"]
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


@pytest.mark.parametrize("sentence", REFUSED_ACCOUNT)
@pytest.mark.parametrize("form", ["{}", "{}.", "  {}\n", "{}. Please contact support.", "{}, see `x`.", "{} for this request."])
def test_the_forms_of_a_sentence(sentence, form):
    """Case, spaces, backticks inside, a trailing period and further text do not hide a sentence of Anthropic's."""
    first, second, *others = sentence.split()
    for words in (sentence, sentence.capitalize(), sentence.upper(), "  ".join([first, f"`{second}`", *others])):
        verdict = judged(of(answers.given(400, form.format(words))))
        assert (verdict.action, verdict.out, verdict.unconfirmed) == (Action.NEXT, True, sentence)


@pytest.mark.parametrize("sentence", REFUSED_ACCOUNT)
@pytest.mark.parametrize("form", ["The words {}.", "x{}", "{}x", "`{}` is what you sent", '"{}"'])
def test_a_sentence_does_not_count_inside_a_message(sentence, form):
    """A sentence is recognised where a message begins, as a whole and without quotation marks around it."""
    assert judged(of(answers.given(400, form.format(sentence)))).action is Action.CLIENT


@pytest.mark.parametrize("status", [400, 403])
def test_a_sentence_under_another_type(status):
    """A sentence is Anthropic's under the type of error that belongs to its status alone."""
    for kind in ("api_error", "x", "", None, 7):
        body = json.dumps({"error": {"type": kind, "message": "This organization has been disabled."}}).encode()
        assert not judged(UpstreamResponse(status, {}, body)).out


def test_what_has_to_be_confirmed():
    """A 400 that refuses the account may be the request's fault and has to be confirmed; a 401 and a 403 do not."""
    assert {name for name, each in answers.REFUSED_CREDENTIAL.items() if judged(of(each)).unconfirmed} == {*answers.UNCONFIRMED}
