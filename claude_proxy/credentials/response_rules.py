"""Decides what a response of Anthropic means for the credential and for the request. No I/O.

The table ``RULES`` is read from top to bottom; the first rule that matches decides. Rules recognize an error by the start of
its message (``wordings.py``), never by words inside it, because Anthropic's validation errors quote the request.
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
    OUT_OF_CREDIT,
    OUT_OF_EXTRA_USAGE,
    REFUSED_ACCOUNT,
    SPENT_CODE,
    TOO_MANY_SESSIONS,
    UNHEALED_THINKING,
    WRONG_HEADER,
    is_spent,
    regained_at,
)

# Without a minimum, the pool would try the same credentials in an endless loop.
SHORTEST_COOLDOWN = 1.0
# The cooldown for an account limit without an end, and the longest end that is accepted, in seconds.
LONG_COOLDOWN = 3600.0
LONGEST_SPENT = 32 * 86400.0
# Why an account is rejected whose operator has to pay.
NO_CREDIT, BILLING_PROBLEM = "the account was rejected: it has no credit left", "the account has a billing problem"
UNPAID = frozenset({NO_CREDIT, BILLING_PROBLEM})
# `representative-claim` names the window that decided: five_hour, seven_day, seven_day_opus, overage.
_FAMILY_CLAIM = re.compile(r"(?:five_hour|seven_day)_(?P<family>[a-z0-9_]+)")
# The rest of an API key's limits, which exist for each model.
_API_LIMIT = re.compile(rf"{LIMITS}(?P<name>requests|tokens|input-tokens|output-tokens)-remaining")
# The position of a thinking block in the request, with which validation errors start: `messages.1.content.0.type: `.
_PLACE = re.compile(r"messages\.[0-9a-z_.]{1,80}: ")


class Action(Enum):
    """What happens to the request."""

    DONE = "the client receives the response"
    NEXT = "another credential is used if one is available"
    TRY_ONE_OTHER = "one other credential is used, and no third"
    API_KEY = "an API key is used if the pool has one, else the client receives the response unmodified"
    CLIENT = "the client receives the response unmodified, and no other credential is used"
    ROUTER = "retries and fallbacks decide"
    REPAIR = "the same credential is used once more, without thinking blocks"
    BLOCKED = "no other credential is used: all of them use the same IP address"


class Verdict(NamedTuple):
    """What happens to the credential and to the request.

    - ``cooldowns``: scopes and ends, in Unix seconds; ``windows`` names the full windows that cause them;
    - ``rejected``: the credential is in quarantine;
    - ``unauthorized``: Anthropic refused the credential (401), possibly because of an outage, so it is tried again soon;
    - ``proxy_fault``: the proxy is at fault;
    - ``reason``: for the operator; empty if there is nothing to report;
    - ``unconfirmed``: the sentence of a refusal that the request may have caused. The credential is not affected until another
      response confirms it;
    - ``unknown``: no rule knows the wording;
    - ``explanation``: Anthropic's message for the operator, if it rejects the credential or denies a permission.
    """

    action: Action
    reason: str
    cooldowns: tuple[tuple[Scope, float], ...] = ()
    rejected: bool = False
    unauthorized: bool = False
    proxy_fault: bool = False
    unconfirmed: str = ""
    unknown: bool = False
    windows: tuple[str, ...] = ()
    explanation: str = ""

    @property
    def cooldown_until(self) -> float | None:
        """When the last cooldown ends; None without a cooldown."""
        return max((until for _, until in self.cooldowns), default=None)


class Rule(NamedTuple):
    """One row of the table. ``verdict`` takes the response and the cooldown for a limit without an end, in seconds."""

    matches: Callable[[UpstreamResponse], bool]
    verdict: Callable[[UpstreamResponse, float], Verdict]


def judge(response: UpstreamResponse, cooldown: float) -> Verdict:
    """Return the verdict of the first rule that matches."""
    for rule in RULES:
        if rule.matches(response):
            verdict = rule.verdict(response, cooldown)
            is_explained = verdict.rejected or verdict.unauthorized or (verdict.unknown and bool(verdict.reason))
            return verdict._replace(explanation=response.explanation) if is_explained else verdict
    raise AssertionError("the last rule matches every response")


def _full_windows(response: UpstreamResponse) -> list[ReportedWindow]:
    """Return the full windows that may be the reason for this refusal.

    A window of another known family is no reason. A window of an unknown family is one only if there is no other reason: the
    response does not show which models it covers.
    """
    rejected = [window for window in response.windows() if window.rejected]
    known = [window for window in rejected if window.family is None or window.family == response.scope.family]
    return known or [window for window in rejected if window.family and response.may_concern(window.family)]


def _is_limit(response: UpstreamResponse) -> bool:
    status = response.headers.get(f"{UNIFIED}status", "").strip() or "allowed"
    return response.status == 429 and (not status.startswith("allowed") or bool(_full_windows(response)))


def _cooldown_for_window(response: UpstreamResponse, cooldown: float) -> Verdict:
    """Cool down until the latest reset among the full windows, because all must be open. A family's window affects only it."""
    rejected = _full_windows(response)
    claim = response.headers.get(f"{UNIFIED}representative-claim", "").strip()
    family = Scope(response.scope.family)
    of_family = [window for window in rejected if window.family]
    of_all = [window for window in rejected if not window.family]
    named = tuple(window.name for window in rejected)
    reason = f"limit reached: {', '.join(named) or claim or 'no window named'}"
    cooldowns: list[tuple[Scope, float]] = []
    only_others = not rejected and any(window.rejected for window in response.windows())
    if of_all or not (of_family or only_others or _FAMILY_CLAIM.fullmatch(claim)):
        cooldowns.append((EVERYTHING, _latest(of_all) or _reset_or_cooldown(response, cooldown)))
        if (until := _latest(of_family)) is not None:
            cooldowns.append((family, until))
    elif only_others:  # the reset of the whole response may belong to the other family's window
        cooldowns.append((family, response.now + _seconds(response, cooldown)))
    else:
        cooldowns.append((family, _latest(of_family) or _reset_or_cooldown(response, cooldown)))
    return Verdict(Action.NEXT, reason, tuple(cooldowns), windows=named)


def _latest(windows: Iterable[ReportedWindow]) -> float | None:
    return max((window.reset for window in windows if window.reset is not None), default=None)


def _reset_or_cooldown(response: UpstreamResponse, cooldown: float) -> float:
    """Return the end of a cooldown whose windows have no reset of their own."""
    reset = response.moment(response.headers.get(f"{UNIFIED}reset", ""), LONGEST_RETRY_AFTER)
    return response.now + _seconds(response, cooldown) if reset is None else reset


def _cooldown_from_retry_after(response: UpstreamResponse, cooldown: float) -> Verdict:
    return Verdict(Action.NEXT, "too many requests", ((_narrowest(response), response.now + _seconds(response, cooldown)),))


def _cooldown_for_api_limit(response: UpstreamResponse, _cooldown: float) -> Verdict:
    until = max(_api_resets(response))
    return Verdict(Action.NEXT, "too many requests", ((_narrowest(response), until),))


def _narrowest(response: UpstreamResponse) -> Scope:
    """Return the narrowest scope that a limit without a window can have.

    Token counting and fast mode have limits of their own, and an API key has one for each model.
    """
    per_model = response.kind is Kind.API_KEY or any(_API_LIMIT.fullmatch(name) for name in response.headers)
    is_special = response.scope.endpoint == COUNT_TOKENS or response.scope.speed == FAST
    return response.scope if per_model or is_special else EVERYTHING


def _api_resets(response: UpstreamResponse) -> list[float]:
    """Return when the exhausted limits of an API key reset, in Unix seconds."""
    spent = [
        match["name"]
        for name, value in response.headers.items()
        if value.strip() == "0" and (match := _API_LIMIT.fullmatch(name))
    ]
    texts = (response.headers.get(f"{LIMITS}{name}-reset", "") for name in spent)
    return [moment for text in texts if (moment := response.moment(text, LONGEST_RETRY_AFTER)) is not None]


def _seconds(response: UpstreamResponse, cooldown: float) -> float:
    seconds = response.retry_after
    return max(SHORTEST_COOLDOWN, cooldown if seconds is None else seconds)


def _has_sentence(sentences: Iterable[str]) -> Callable[[UpstreamResponse], bool]:
    return lambda response: bool(response.sentence(sentences))


def _all(*conditions: Callable[[UpstreamResponse], bool]) -> Callable[[UpstreamResponse], bool]:
    return lambda response: all(condition(response) for condition in conditions)


def _status(*statuses: int) -> Callable[[UpstreamResponse], bool]:
    return lambda response: response.status in statuses


def _always(
    action: Action,
    reason: str,
    *,
    rejected: bool = False,
    unauthorized: bool = False,
    proxy_fault: bool = False,
    unknown: bool = False,
) -> Callable[[UpstreamResponse, float], Verdict]:
    verdict = Verdict(action, reason, rejected=rejected, unauthorized=unauthorized, proxy_fault=proxy_fault, unknown=unknown)
    return lambda _answer, _cooldown: verdict


def _reject_account(response: UpstreamResponse, _cooldown: float) -> Verdict:
    unconfirmed = response.sentence(REFUSED_ACCOUNT) if response.status == 400 else ""
    return Verdict(Action.NEXT, "the account was rejected", rejected=True, unconfirmed=unconfirmed)


def _reject_without_credit(response: UpstreamResponse, _cooldown: float) -> Verdict:
    """Reject an account without credit. An API key is always paid from it, whatever the request is."""
    is_certain = response.kind is Kind.API_KEY or response.status != 400
    unconfirmed = "" if is_certain else response.sentence(OUT_OF_CREDIT)
    return Verdict(Action.NEXT, NO_CREDIT, rejected=True, unconfirmed=unconfirmed)


def _is_spent(response: UpstreamResponse) -> bool:
    return response.error_code == SPENT_CODE or (
        response.error_kind == ERROR_TYPES.get(response.status) and is_spent(response.message)
    )


def _cooldown_when_spent(response: UpstreamResponse, _cooldown: float) -> Verdict:
    until, earliest = regained_at(response.message), response.now + SHORTEST_COOLDOWN
    until = response.now + LONG_COOLDOWN if until is None else until - response.skew
    until = min(max(until, earliest), response.now + LONGEST_SPENT)
    return Verdict(Action.NEXT, "the account has reached its spend limit", ((EVERYTHING, until),))


def _cooldown_without_extra_usage(response: UpstreamResponse, _cooldown: float) -> Verdict:
    """Cool down until the plan's full windows reset. Requests of other clients than Claude Code get the same wording."""
    until = _latest(_full_windows(response)) or response.now + LONG_COOLDOWN
    sentence = response.sentence(OUT_OF_EXTRA_USAGE) if response.status == 400 else ""
    scope = Scope(response.scope.family)
    return Verdict(Action.NEXT, "the account is out of extra usage", ((scope, until),), unconfirmed=sentence)


def _cooldown_for_sessions(response: UpstreamResponse, cooldown: float) -> Verdict:
    return Verdict(
        Action.NEXT, "the account has too many active sessions", ((EVERYTHING, response.now + _seconds(response, cooldown)),)
    )


def _is_unrecognized(response: UpstreamResponse) -> bool:
    """Return whether Anthropic refused the request as not coming from Claude Code; Haiku is exempt from that check."""
    return response.message.rstrip(".") == "error" and not response.has_limits and response.scope.family != "haiku"


def _is_blocked(response: UpstreamResponse) -> bool:
    """Return whether the network in front of Anthropic blocks the proxy: an HTML page or Cloudflare's header (CC #30502).

    An HTML page with another status, such as 503, is an outage of that network.
    """
    page = response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html"
    return "cf-mitigated" in response.headers or (response.status in (403, 429) and page and not response.error_kind)


def _is_unhealed_thinking(response: UpstreamResponse) -> bool:
    """Return whether Claude refused thinking blocks with a message that Claude Code does not handle (2.1.197)."""
    kind, message = response.error_kind, response.message
    if response.status != 400 or kind != ERROR_TYPES[400]:
        return False
    place = _PLACE.match(message)
    rest = message[place.end() :] if place else message
    return not is_quotation(rest) and bool(beginning(rest, UNHEALED_THINKING))


def _has_retry_after(response: UpstreamResponse) -> bool:
    return response.retry_after is not None


def _is_unknown(response: UpstreamResponse) -> bool:
    """Return whether a 400 has unknown wording that does not quote the request; the account may be the cause."""
    return (
        response.status == 400
        and response.error_kind == ERROR_TYPES[400]
        and bool(response.message)
        and not response.is_quotation
    )


RULES: tuple[Rule, ...] = (
    Rule(lambda response: response.status < 300, _always(Action.DONE, "success")),
    # About the proxy's IP address.
    Rule(
        _is_blocked,
        _always(Action.BLOCKED, "the network in front of Anthropic blocks the proxy's address (an HTML page as the response)"),
    ),
    # About the request: every OAuth token would get the same response, an API key another one.
    Rule(
        _all(_status(400, 429), _has_sentence(EXTRA_USAGE)),
        _always(Action.API_KEY, "the request needs extra usage, which the account does not have (long context, fast mode)"),
    ),
    Rule(
        _all(_status(400, 403), _has_sentence(NOT_CLAUDE_CODE)),
        _always(Action.API_KEY, "Anthropic did not recognize this request as Claude Code's; did another client send it?"),
    ),
    Rule(
        _all(_status(429), _is_unrecognized),
        _always(
            Action.API_KEY,
            "Anthropic did not recognize this request as Claude Code's (a 429 that names no limit); "
            "is CLAUDE_CODE_ATTRIBUTION_HEADER=0 set on the client, or does a plugin change the system prompt?",
        ),
    ),
    # About the proxy itself.
    Rule(
        _all(_status(401), _has_sentence(WRONG_HEADER)),
        _always(
            Action.CLIENT, "the proxy sent the credential in the wrong header; please report this as a bug", proxy_fault=True
        ),
    ),
    # About the account's spending.
    Rule(_all(_status(400, 402, 403, 429), _is_spent), _cooldown_when_spent),
    Rule(_all(_status(400, 403, 429), _has_sentence(OUT_OF_EXTRA_USAGE)), _cooldown_without_extra_usage),
    Rule(_all(_status(403, 429), _has_sentence(TOO_MANY_SESSIONS)), _cooldown_for_sessions),
    Rule(_all(_status(400, 401, 403), _has_sentence(OUT_OF_CREDIT)), _reject_without_credit),
    Rule(_status(402), _always(Action.NEXT, BILLING_PROBLEM, rejected=True)),
    # About the credential.
    Rule(_all(_status(400, 401, 403), _has_sentence(REFUSED_ACCOUNT)), _reject_account),
    Rule(_status(401), _always(Action.NEXT, "the credential was rejected", unauthorized=True)),
    Rule(_status(403), _always(Action.NEXT, "the credential lacks the permission", unknown=True)),
    Rule(_is_limit, _cooldown_for_window),
    Rule(_all(_status(429), _has_retry_after), _cooldown_from_retry_after),
    Rule(_all(_status(429), lambda response: bool(_api_resets(response))), _cooldown_for_api_limit),
    Rule(_status(429), _always(Action.TRY_ONE_OTHER, "a 429 that names no limit")),
    # About the history.
    Rule(_is_unhealed_thinking, _always(Action.REPAIR, "Claude refused the thinking blocks of the history")),
    # About Anthropic, and everything else.
    Rule(
        lambda response: response.status >= 500 or response.status < 400, _always(Action.ROUTER, "Anthropic failed to respond")
    ),
    Rule(_is_unknown, _always(Action.CLIENT, "", unknown=True)),
    Rule(lambda _answer: True, _always(Action.CLIENT, "")),
)
