"""What an answer of Anthropic's says about the credential that was asked, and what happens to the request. No I/O.

One table, ``RULES``, read from top to bottom: the first rule that fits decides. Evidence for each rule: the wording
below was collected from public reports about Claude Code and LiteLLM in 2026; where a real answer differs, it wins.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

UNIFIED = "anthropic-ratelimit-unified-"
LONGEST_RETRY_AFTER = 8 * 86400.0
# With no time at all between two requests on one credential the pool would be asked in a circle.
SHORTEST_REST = 1.0
# A window is a length of time and perhaps a family of models: 5h, 7d, 7d_opus, and what comes after these.
_WINDOW = re.compile(
    rf"{UNIFIED}(?P<window>(?P<count>[0-9]{{1,4}})(?P<unit>[hd])(?:_(?P<family>[a-z0-9_]+))?)-(?P<what>[a-z-]+)"
)
_UNIT_SECONDS = {"h": 3600.0, "d": 86400.0}
# `representative-claim` names the window that decided: five_hour, seven_day, seven_day_opus, overage.
_FAMILY_CLAIM = re.compile(r"(?:five_hour|seven_day)_(?P<family>[a-z0-9_]+)")


class Then(Enum):
    """What happens to the request."""

    DONE = "the client gets the answer"
    NEXT = "the next credential is asked"
    HOP = "one other credential is asked, and no third"
    CLIENT = "the client gets the answer unmodified, and nobody else is asked"
    ROUTER = "LiteLLM's retries and fallbacks decide"
    REPAIR = "the same credential is asked once more, without thinking blocks"


class Window(NamedTuple):
    """What an answer says of one window. ``utilization`` is a fraction that may exceed 1; ``reset`` is Unix seconds."""

    name: str
    family: str | None
    utilization: float | None
    reset: float | None
    rejected: bool


@dataclass(frozen=True)
class Answer:
    """An upstream's answer: header names in lower case, of an error's body the first kilobytes, of a success nothing.

    ``family`` is the family of the model that was asked for, such as ``opus``; ``now`` is the moment in Unix seconds.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    family: str = ""
    now: float = 0.0

    @property
    def message(self) -> str:
        """The error's wording, in lower case and without backticks; empty when the body is not Anthropic's."""
        try:
            error = json.loads(self.body).get("error")
        except (ValueError, AttributeError, RecursionError):
            return ""
        message = error.get("message") if isinstance(error, dict) else None
        return message.lower().replace("`", "") if isinstance(message, str) else ""

    def windows(self) -> list[Window]:
        """Return what the answer says of each window, known ones and those of tomorrow."""
        found: dict[str, dict[str, str]] = {}
        families: dict[str, str | None] = {}
        lengths: dict[str, float] = {}
        for name, value in self.headers.items():
            if match := _WINDOW.fullmatch(name):
                found.setdefault(match["window"], {})[match["what"]] = value.strip()
                families[match["window"]] = match["family"]
                lengths[match["window"]] = (int(match["count"]) + 1) * _UNIT_SECONDS[match["unit"]]
        return [
            _window(name, families[name], said, parse_reset(said.get("reset", ""), self.now, lengths[name]))
            for name, said in found.items()
        ]

    def has_limits(self) -> bool:
        """Whether the answer says anything about a limit's time."""
        return "retry-after" in self.headers or any(name.startswith(UNIFIED) for name in self.headers)


class Verdict(NamedTuple):
    """What becomes of the credential and of the request.

    It rests until ``rest_until`` for all models and until ``family_until`` for those of ``family``, in Unix seconds; ``out``
    puts it out for the quarantine; ``ours`` says that the fault is the proxy's; ``reason`` is for the operator, and empty
    where there is nothing to know.
    """

    then: Then
    reason: str
    rest_until: float | None = None
    family: str = ""
    family_until: float | None = None
    out: bool = False
    ours: bool = False


class Rule(NamedTuple):
    """One row of the table. ``verdict`` takes the answer and the cooldown for a rest of unknown length, in seconds."""

    fits: Callable[[Answer], bool]
    verdict: Callable[[Answer, float], Verdict]


def judge(answer: Answer, cooldown: float) -> Verdict:
    """Return the verdict of the first rule that fits."""
    for rule in RULES:
        if rule.fits(answer):
            return rule.verdict(answer, cooldown)
    raise AssertionError("the last rule fits every answer")


def parse_reset(text: str, now: float, longest: float) -> float | None:
    """Read a reset as Unix seconds, milliseconds or ISO 8601; None for one that is past, too far away or not a time."""
    try:
        moment = float(text)
    except ValueError:
        try:
            parsed = datetime.fromisoformat(text.strip())
            moment = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if moment > 1e11:  # Unix milliseconds: as seconds this is after the year 5000
        moment /= 1000
    return moment if now < moment <= now + longest else None


def retry_after(answer: Answer) -> float | None:
    """Return ``retry-after`` in seconds, bounded; None when it is missing or not a number."""
    try:
        seconds = float(answer.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, LONGEST_RETRY_AFTER) if math.isfinite(seconds) and seconds >= 0 else None


def error_body(kind: str, message: str) -> dict[str, Any]:
    """Return an error in Anthropic's shape."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def _window(name: str, family: str | None, said: Mapping[str, str], reset: float | None) -> Window:
    utilization = _fraction(said.get("utilization", ""))
    spent = "surpassed-threshold" in said and utilization is not None and utilization >= 1
    status = said.get("status") or "allowed"
    # allowed and allowed_warning; other gateways have met rejected, blocked, queueing_hard and payment_required.
    return Window(name, family, utilization, reset, spent or not status.startswith("allowed"))


def _fraction(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _is_limit(answer: Answer) -> bool:
    status = answer.headers.get(f"{UNIFIED}status", "").strip() or "allowed"
    return answer.status == 429 and (not status.startswith("allowed") or any(window.rejected for window in answer.windows()))


def _rest_for_window(answer: Answer, cooldown: float) -> Verdict:
    """Rest until the latest reset among the rejected windows: they all have to be open. A family's windows rest that family."""
    rejected = [window for window in answer.windows() if window.rejected]
    claim = answer.headers.get(f"{UNIFIED}representative-claim", "").strip()
    of_family = [window for window in rejected if window.family]
    of_all = [window for window in rejected if not window.family]
    reason = f"limit reached: {', '.join(window.name for window in rejected) or claim or 'no window named'}"
    if of_all or not (of_family or _FAMILY_CLAIM.fullmatch(claim)):
        until, family_until = _latest(of_all) or _otherwise(answer, cooldown), _latest(of_family)
    else:
        until, family_until = None, _latest(of_family) or _otherwise(answer, cooldown)
    family = answer.family if family_until is not None else ""
    return Verdict(Then.NEXT, reason, until, family, family_until)


def _latest(windows: Iterable[Window]) -> float | None:
    return max((window.reset for window in windows if window.reset is not None), default=None)


def _otherwise(answer: Answer, cooldown: float) -> float:
    """Return when a rest ends whose windows do not say so themselves."""
    reset = parse_reset(answer.headers.get(f"{UNIFIED}reset", ""), answer.now, LONGEST_RETRY_AFTER)
    return answer.now + _seconds(answer, cooldown) if reset is None else reset


def _rest_as_told(answer: Answer, cooldown: float) -> Verdict:
    return Verdict(Then.NEXT, "asked to slow down", answer.now + _seconds(answer, cooldown))


def _seconds(answer: Answer, cooldown: float) -> float:
    seconds = retry_after(answer)
    return max(SHORTEST_REST, cooldown if seconds is None else seconds)


def _says(*wordings: str) -> Callable[[Answer], bool]:
    return lambda answer: any(wording in answer.message for wording in wordings)


def _all(*conditions: Callable[[Answer], bool]) -> Callable[[Answer], bool]:
    return lambda answer: all(condition(answer) for condition in conditions)


def _status(*statuses: int) -> Callable[[Answer], bool]:
    return lambda answer: answer.status in statuses


def _always(then: Then, reason: str, *, out: bool = False, ours: bool = False) -> Callable[[Answer, float], Verdict]:
    verdict = Verdict(then, reason, out=out, ours=ours)
    return lambda _answer, _cooldown: verdict


def _is_disguised(answer: Answer) -> bool:
    """Whether Anthropic refuses a request that it does not take for Claude Code's; Haiku is exempt from that."""
    return answer.message == "error" and not answer.has_limits() and answer.family != "haiku"


def _is_unhealed_thinking(answer: Answer) -> bool:
    """Whether Claude refused thinking blocks in words on which Claude Code does not act by itself (2.1.197)."""
    message = answer.message
    if answer.status != 400 or not ("thinking" in message and ("block" in message or "but found" in message)):
        return False
    blocks = "thinking block" in message or "redacted_thinking" in message
    healed = (
        "signature in thinking block" in message
        or ("thinking.signature" in message and "field required" in message)
        or (blocks and ("cannot be modified" in message or "invalid signature" in message))
    )
    return not healed


def _has_retry_after(answer: Answer) -> bool:
    return retry_after(answer) is not None


RULES: tuple[Rule, ...] = (
    Rule(lambda answer: answer.status < 300, _always(Then.DONE, "answered")),
    # About the request: every credential would get the same answer.
    Rule(
        _all(_status(400, 429), _says("extra usage is required", "usage credits are required")),
        _always(Then.CLIENT, "the request needs extra usage that the account does not have (long context, fast mode)"),
    ),
    Rule(
        _all(_status(400, 403), _says("third-party apps now draw", "only authorized for use with claude code")),
        _always(Then.CLIENT, "Anthropic does not take this request for Claude Code's own; did another client send it?"),
    ),
    Rule(
        _all(_status(429), _is_disguised),
        _always(
            Then.CLIENT,
            "Anthropic does not take this request for Claude Code's own (a 429 without any limit in it); "
            "is CLAUDE_CODE_ATTRIBUTION_HEADER=0 set on the client, or does something change the system prompt?",
        ),
    ),
    # About this proxy.
    Rule(
        _all(_status(401), _says("oauth authentication is currently not supported", "invalid x-api-key")),
        _always(Then.CLIENT, "the proxy sent the credential in the wrong way; please report this", ours=True),
    ),
    # About the credential.
    Rule(
        _all(
            _status(400, 401, 403),
            _says(
                "organization has been disabled",
                "credit balance is too low",
                "identity verification is required",
                "not allowed for this organization",
                "has been revoked",
            ),
        ),
        _always(Then.NEXT, "the account was refused", out=True),
    ),
    Rule(_status(401), _always(Then.NEXT, "the credential was refused", out=True)),
    Rule(_status(403), _always(Then.NEXT, "the credential may not do this")),
    Rule(_is_limit, _rest_for_window),
    Rule(_all(_status(429), _has_retry_after), _rest_as_told),
    Rule(_status(429), _always(Then.HOP, "a 429 that names no limit")),
    # About the history.
    Rule(_is_unhealed_thinking, _always(Then.REPAIR, "Claude refused the thinking blocks of the history")),
    # About Anthropic, and about everything else.
    Rule(lambda answer: answer.status >= 500 or answer.status < 400, _always(Then.ROUTER, "Anthropic could not answer")),
    Rule(lambda _answer: True, _always(Then.CLIENT, "")),
)


def known_windows(answer: Answer) -> Iterator[Window]:
    """Return the windows that say how full they are, for the pool to learn."""
    return (window for window in answer.windows() if window.utilization is not None)
