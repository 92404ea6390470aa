"""What an answer of Anthropic's says about the credential that was asked, and what happens to the request. No I/O.

One table, ``RULES``, read from top to bottom: the first rule that fits decides. Rules recognise an error by the sentence with
which its message begins (``wordings.py``), never by words inside it: Anthropic's validation errors quote the request.
"""

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.scope import COUNT_TOKENS, EVERYTHING, FAST, Scope
from claude_proxy.credentials.upstream_response import (
    ERROR_TYPES,
    LIMITS,
    LONGEST_RETRY_AFTER,
    UNIFIED,
    ReportedWindow,
    UpstreamResponse,
    beginning,
    is_quotation,
)
from claude_proxy.credentials.wordings import (
    EXTRA_USAGE,
    NOT_CLAUDE_CODE,
    OUT_OF_EXTRA_USAGE,
    REFUSED_ACCOUNT,
    SPENT_CODE,
    TOO_MANY_SESSIONS,
    UNHEALED_THINKING,
    WRONG_HEADER,
    is_spent,
    regained,
)

# With no time at all between two requests on one credential the pool would be asked in a circle.
SHORTEST_COOLDOWN = 1.0
# A limit of an account that does not say until when, and the longest that one says, in seconds.
LONG_COOLDOWN = 3600.0
LONGEST_SPENT = 32 * 86400.0
# `representative-claim` names the window that decided: five_hour, seven_day, seven_day_opus, overage.
_FAMILY_CLAIM = re.compile(r"(?:five_hour|seven_day)_(?P<family>[a-z0-9_]+)")
# What is left of an API key's limits, which are counted for each model.
_API_LIMIT = re.compile(rf"{LIMITS}(?P<name>requests|tokens|input-tokens|output-tokens)-remaining")
# The place of a thinking block in the request, as validation errors begin with it: `messages.1.content.0.type: `.
_PLACE = re.compile(r"messages\.[0-9a-z_.]{1,80}: ")


class Action(Enum):
    """What happens to the request."""

    DONE = "the client gets the answer"
    NEXT = "the next credential is asked"
    TRY_ONE_OTHER = "one other credential is asked, and no third"
    API_KEY = "an API key is asked if the pool has one, else the client gets the answer unmodified"
    CLIENT = "the client gets the answer unmodified, and nobody else is asked"
    ROUTER = "retries and fallbacks decide"
    REPAIR = "the same credential is asked once more, without thinking blocks"
    BLOCKED = "nobody else is asked: every credential goes out from the same address"


class Verdict(NamedTuple):
    """What becomes of the credential and of the request.

    It rests for each of ``rests`` until a moment in Unix seconds, because these ``windows`` are full, if any; ``out`` puts it
    out for the quarantine; ``refused`` says that it was refused as perhaps every credential is during trouble of Anthropic's,
    so that it is soon tried again; ``ours`` says that the fault is the proxy's; ``reason`` is for the operator, and empty where
    there is nothing to know. ``unconfirmed`` is the sentence of a refusal that the request itself may have caused: the
    credential loses nothing before another response confirms it. ``unknown`` says that no rule knows the words.
    """

    action: Action
    reason: str
    cooldowns: tuple[tuple[Scope, float], ...] = ()
    rejected: bool = False
    refused: bool = False
    ours: bool = False
    unconfirmed: str = ""
    unknown: bool = False
    windows: tuple[str, ...] = ()

    @property
    def cooldown_until(self) -> float | None:
        """When the last of the rests ends; None without one."""
        return max((until for _, until in self.cooldowns), default=None)


class Rule(NamedTuple):
    """One row of the table. ``verdict`` takes the answer and the cooldown for a rest of unknown length, in seconds."""

    fits: Callable[[UpstreamResponse], bool]
    verdict: Callable[[UpstreamResponse, float], Verdict]


def judge(answer: UpstreamResponse, cooldown: float) -> Verdict:
    """Return the verdict of the first rule that fits."""
    for rule in RULES:
        if rule.fits(answer):
            return rule.verdict(answer, cooldown)
    raise AssertionError("the last rule fits every answer")


def _fits_window(answer: UpstreamResponse) -> list[ReportedWindow]:
    """Return the windows that are full and may be why this request was refused.

    A window of another family is known and is no reason; one of a family that nobody knows is a reason only where there is no
    other: what it is for, the answer does not prove.
    """
    rejected = [window for window in answer.windows() if window.rejected]
    known = [window for window in rejected if window.family is None or window.family == answer.scope.family]
    return known or [window for window in rejected if window.family and answer.may_concern(window.family)]


def _is_limit(answer: UpstreamResponse) -> bool:
    status = answer.headers.get(f"{UNIFIED}status", "").strip() or "allowed"
    return answer.status == 429 and (not status.startswith("allowed") or bool(_fits_window(answer)))


def _cooldown_for_window(answer: UpstreamResponse, cooldown: float) -> Verdict:
    """Rest until the latest reset among the windows that are full: they all have to be open. A family's rest that family."""
    rejected = _fits_window(answer)
    claim = answer.headers.get(f"{UNIFIED}representative-claim", "").strip()
    family = Scope(answer.scope.family)
    of_family = [window for window in rejected if window.family]
    of_all = [window for window in rejected if not window.family]
    named = tuple(window.name for window in rejected)
    reason = f"limit reached: {', '.join(named) or claim or 'no window named'}"
    cooldowns: list[tuple[Scope, float]] = []
    others_alone = not rejected and any(window.rejected for window in answer.windows())
    if of_all or not (of_family or others_alone or _FAMILY_CLAIM.fullmatch(claim)):
        cooldowns.append((EVERYTHING, _latest(of_all) or _otherwise(answer, cooldown)))
        if (until := _latest(of_family)) is not None:
            cooldowns.append((family, until))
    elif others_alone:  # the time that the whole answer names may be that of the other family's window
        cooldowns.append((family, answer.now + _seconds(answer, cooldown)))
    else:
        cooldowns.append((family, _latest(of_family) or _otherwise(answer, cooldown)))
    return Verdict(Action.NEXT, reason, tuple(cooldowns), windows=named)


def _latest(windows: Iterable[ReportedWindow]) -> float | None:
    return max((window.reset for window in windows if window.reset is not None), default=None)


def _otherwise(answer: UpstreamResponse, cooldown: float) -> float:
    """Return when a rest ends whose windows do not say so themselves."""
    reset = answer.moment(answer.headers.get(f"{UNIFIED}reset", ""), LONGEST_RETRY_AFTER)
    return answer.now + _seconds(answer, cooldown) if reset is None else reset


def _cooldown_as_told(answer: UpstreamResponse, cooldown: float) -> Verdict:
    return Verdict(Action.NEXT, "asked to slow down", ((_narrowest(answer), answer.now + _seconds(answer, cooldown)),))


def _cooldown_for_api_limit(answer: UpstreamResponse, _cooldown: float) -> Verdict:
    until = max(_api_resets(answer))
    return Verdict(Action.NEXT, "asked to slow down", ((_narrowest(answer), until),))


def _narrowest(answer: UpstreamResponse) -> Scope:
    """Return what a limit without a window is about: as little as the answer proves.

    Token counting and fast mode have limits of their own, and an API key has one for each model.
    """
    per_model = answer.kind is Kind.API_KEY or any(_API_LIMIT.fullmatch(name) for name in answer.headers)
    is_special = answer.scope.endpoint == COUNT_TOKENS or answer.scope.speed == FAST
    return answer.scope if per_model or is_special else EVERYTHING


def _api_resets(answer: UpstreamResponse) -> list[float]:
    """Return when the limits of an API key that are used up begin anew, in Unix seconds."""
    spent = [
        match["name"]
        for name, value in answer.headers.items()
        if value.strip() == "0" and (match := _API_LIMIT.fullmatch(name))
    ]
    texts = (answer.headers.get(f"{LIMITS}{name}-reset", "") for name in spent)
    return [moment for text in texts if (moment := answer.moment(text, LONGEST_RETRY_AFTER)) is not None]


def _seconds(answer: UpstreamResponse, cooldown: float) -> float:
    seconds = answer.retry_after
    return max(SHORTEST_COOLDOWN, cooldown if seconds is None else seconds)


def _says(sentences: Iterable[str]) -> Callable[[UpstreamResponse], bool]:
    return lambda answer: bool(answer.sentence(sentences))


def _all(*conditions: Callable[[UpstreamResponse], bool]) -> Callable[[UpstreamResponse], bool]:
    return lambda answer: all(condition(answer) for condition in conditions)


def _status(*statuses: int) -> Callable[[UpstreamResponse], bool]:
    return lambda answer: answer.status in statuses


def _always(
    action: Action, reason: str, *, rejected: bool = False, refused: bool = False, ours: bool = False, unknown: bool = False
) -> Callable[[UpstreamResponse, float], Verdict]:
    verdict = Verdict(action, reason, rejected=rejected, refused=refused, ours=ours, unknown=unknown)
    return lambda _answer, _cooldown: verdict


def _refuse_account(answer: UpstreamResponse, _cooldown: float) -> Verdict:
    unconfirmed = answer.sentence(REFUSED_ACCOUNT) if answer.status == 400 else ""
    return Verdict(Action.NEXT, "the account was refused", rejected=True, unconfirmed=unconfirmed)


def _is_spent(answer: UpstreamResponse) -> bool:
    return answer.error_code == SPENT_CODE or (answer.error_kind == ERROR_TYPES.get(answer.status) and is_spent(answer.message))


def _cooldown_when_spent(answer: UpstreamResponse, _cooldown: float) -> Verdict:
    until, earliest = regained(answer.message), answer.now + SHORTEST_COOLDOWN
    until = answer.now + LONG_COOLDOWN if until is None else until - answer.skew
    until = min(max(until, earliest), answer.now + LONGEST_SPENT)
    return Verdict(Action.NEXT, "the account has reached its spend limit", ((EVERYTHING, until),))


def _cooldown_without_extra_usage(answer: UpstreamResponse, _cooldown: float) -> Verdict:
    """Rest until the plan's full windows open anew; a request that is none of Claude Code's gets the same words."""
    until = _latest(_fits_window(answer)) or answer.now + LONG_COOLDOWN
    sentence = answer.sentence(OUT_OF_EXTRA_USAGE) if answer.status == 400 else ""
    scope = Scope(answer.scope.family)
    return Verdict(Action.NEXT, "the account is out of extra usage", ((scope, until),), unconfirmed=sentence)


def _cooldown_for_sessions(answer: UpstreamResponse, cooldown: float) -> Verdict:
    return Verdict(
        Action.NEXT, "the account has too many active sessions", ((EVERYTHING, answer.now + _seconds(answer, cooldown)),)
    )


def _is_disguised(answer: UpstreamResponse) -> bool:
    """Whether Anthropic refuses a request that it does not take for Claude Code's; Haiku is exempt from that."""
    return answer.message.rstrip(".") == "error" and not answer.has_limits and answer.scope.family != "haiku"


def _is_blocked(answer: UpstreamResponse) -> bool:
    """Whether the network in front of Anthropic refuses the proxy's address: a page, or Cloudflare's own header (CC #30502).

    A page with another status, such as 503, is some trouble of that network's.
    """
    page = answer.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html"
    return "cf-mitigated" in answer.headers or (answer.status in (403, 429) and page and not answer.error_kind)


def _is_unhealed_thinking(answer: UpstreamResponse) -> bool:
    """Whether Claude refused thinking blocks in words on which Claude Code does not act by itself (2.1.197)."""
    kind, message = answer.error_kind, answer.message
    if answer.status != 400 or kind != ERROR_TYPES[400]:
        return False
    place = _PLACE.match(message)
    cooldown = message[place.end() :] if place else message
    return not is_quotation(cooldown) and bool(beginning(cooldown, UNHEALED_THINKING))


def _has_retry_after(answer: UpstreamResponse) -> bool:
    return answer.retry_after is not None


def _is_unknown(answer: UpstreamResponse) -> bool:
    """Whether a 400 is in words that are no rule's and quote nothing of the request: perhaps an account's trouble."""
    return answer.status == 400 and answer.error_kind == ERROR_TYPES[400] and bool(answer.message) and not answer.is_quotation


RULES: tuple[Rule, ...] = (
    Rule(lambda answer: answer.status < 300, _always(Action.DONE, "answered")),
    # About the address that the proxy has.
    Rule(
        _is_blocked,
        _always(Action.BLOCKED, "the network in front of Anthropic refuses the proxy's address (a page instead of an answer)"),
    ),
    # About the request: every OAuth token would get the same answer, and an API key another one.
    Rule(
        _all(_status(400, 429), _says(EXTRA_USAGE)),
        _always(Action.API_KEY, "the request needs extra usage that the account does not have (long context, fast mode)"),
    ),
    Rule(
        _all(_status(400, 403), _says(NOT_CLAUDE_CODE)),
        _always(Action.API_KEY, "Anthropic does not take this request for Claude Code's own; did another client send it?"),
    ),
    Rule(
        _all(_status(429), _is_disguised),
        _always(
            Action.API_KEY,
            "Anthropic does not take this request for Claude Code's own (a 429 without any limit in it); "
            "is CLAUDE_CODE_ATTRIBUTION_HEADER=0 set on the client, or does something change the system prompt?",
        ),
    ),
    # About this proxy.
    Rule(
        _all(_status(401), _says(WRONG_HEADER)),
        _always(Action.CLIENT, "the proxy sent the credential in the wrong way; please report this", ours=True),
    ),
    # About the account: what it may spend.
    Rule(_all(_status(400, 402, 403, 429), _is_spent), _cooldown_when_spent),
    Rule(_all(_status(400, 403, 429), _says(OUT_OF_EXTRA_USAGE)), _cooldown_without_extra_usage),
    Rule(_all(_status(403, 429), _says(TOO_MANY_SESSIONS)), _cooldown_for_sessions),
    Rule(_status(402), _always(Action.NEXT, "the account has a billing problem", rejected=True)),
    # About the credential.
    Rule(_all(_status(400, 401, 403), _says(REFUSED_ACCOUNT)), _refuse_account),
    Rule(_status(401), _always(Action.NEXT, "the credential was refused", refused=True)),
    Rule(_status(403), _always(Action.NEXT, "the credential may not do this", unknown=True)),
    Rule(_is_limit, _cooldown_for_window),
    Rule(_all(_status(429), _has_retry_after), _cooldown_as_told),
    Rule(_all(_status(429), lambda answer: bool(_api_resets(answer))), _cooldown_for_api_limit),
    Rule(_status(429), _always(Action.TRY_ONE_OTHER, "a 429 that names no limit")),
    # About the history.
    Rule(_is_unhealed_thinking, _always(Action.REPAIR, "Claude refused the thinking blocks of the history")),
    # About Anthropic, and about everything else.
    Rule(lambda answer: answer.status >= 500 or answer.status < 400, _always(Action.ROUTER, "Anthropic could not answer")),
    Rule(_is_unknown, _always(Action.CLIENT, "", unknown=True)),
    Rule(lambda _answer: True, _always(Action.CLIENT, "")),
)
