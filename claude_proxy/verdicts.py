"""What an answer of Anthropic's says about the credential that was asked, and what happens to the request. No I/O.

One table, ``RULES``, read from top to bottom: the first rule that fits decides. Evidence for each rule: the wording
below was collected from public reports about Claude Code and LiteLLM in 2026; where a real answer differs, it wins.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

UNIFIED = "anthropic-ratelimit-unified-"
# How far in the future a window's reset may lie before it counts as nonsense: the window and some slack, in seconds.
LONGEST_RESET = {"5h": 6 * 3600.0}
LONGEST_ANY_RESET = 8 * 86400.0
LONGEST_RETRY_AFTER = 8 * 86400.0
_WINDOW_STATUS = re.compile(rf"{UNIFIED}(?P<window>\d+[a-z]+[a-z0-9_]*)-status")


class Then(Enum):
    """What happens to the request."""

    DONE = "the client gets the answer"
    NEXT = "the next credential is asked"
    CLIENT = "the client gets the answer unmodified, and nobody else is asked"
    ROUTER = "LiteLLM's retries and fallbacks decide"
    REPAIR = "the same credential is asked once more, without thinking blocks"


@dataclass(frozen=True)
class Answer:
    """An upstream's answer: header names in lower case, of an error's body the first kilobytes, of a success nothing."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def message(self) -> str:
        """The error's wording, in lower case and without backticks; empty when the body is not Anthropic's."""
        try:
            error = json.loads(self.body).get("error")
        except (ValueError, AttributeError, RecursionError):
            return ""
        message = error.get("message") if isinstance(error, dict) else None
        return message.lower().replace("`", "") if isinstance(message, str) else ""

    def rejected_windows(self) -> list[str]:
        """Return the names of the rejected windows, such as ``5h`` or ``7d_opus``: a length of time and perhaps a family.

        ``overage-status: rejected`` is not among them: it says that nothing can be bought beyond the plan.
        """
        return [
            match["window"]
            for name, value in self.headers.items()
            if (match := _WINDOW_STATUS.fullmatch(name)) and value.strip() == "rejected"
        ]


class Verdict(NamedTuple):
    """``rest_until`` is Unix seconds; ``out`` puts the credential out for the quarantine; ``reason`` is for the operator."""

    then: Then
    reason: str
    rest_until: float | None = None
    out: bool = False


class Judge(NamedTuple):
    """The operator's two times, in seconds, and the moment of the answer in Unix seconds."""

    now: float
    cooldown: float


def judge(answer: Answer, context: Judge) -> Verdict:
    """Return the verdict of the first rule that fits."""
    for rule in RULES:
        if rule.fits(answer):
            return rule.verdict(answer, context)
    raise AssertionError("the last rule fits every answer")


class Rule(NamedTuple):
    """One row of the table."""

    fits: Callable[[Answer], bool]
    verdict: Callable[[Answer, Judge], Verdict]


def parse_reset(text: str, now: float, longest: float = LONGEST_ANY_RESET) -> float | None:
    """Read a reset as Unix seconds, milliseconds or ISO 8601; None for one that is past, too far away or not a time."""
    try:
        moment = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip()).timestamp()
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


def _rejected(answer: Answer) -> bool:
    status = answer.headers.get(f"{UNIFIED}status", "").strip()
    return answer.status == 429 and (status == "rejected" or bool(answer.rejected_windows()))


def _rest_for_window(answer: Answer, context: Judge) -> Verdict:
    windows = answer.rejected_windows()
    resets = [
        parse_reset(
            answer.headers.get(f"{UNIFIED}{window}-reset", ""), context.now, LONGEST_RESET.get(window, LONGEST_ANY_RESET)
        )
        for window in windows
    ]
    known = [reset for reset in resets if reset is not None]
    until = max(known) if known else parse_reset(answer.headers.get(f"{UNIFIED}reset", ""), context.now)
    if until is None:
        until = _after(answer, context)
    return Verdict(Then.NEXT, f"rate limit reached ({', '.join(windows) or 'no window named'})", rest_until=until)


def _after(answer: Answer, context: Judge) -> float:
    seconds = retry_after(answer)
    return context.now + (context.cooldown if seconds is None else seconds)


def _rest_as_told(answer: Answer, context: Judge) -> Verdict:
    return Verdict(Then.NEXT, "asked to slow down", rest_until=_after(answer, context))


def _says(*wordings: str) -> Callable[[Answer], bool]:
    return lambda answer: any(wording in answer.message for wording in wordings)


def _status(*statuses: int) -> Callable[[Answer], bool]:
    return lambda answer: answer.status in statuses


def _both(one: Callable[[Answer], bool], other: Callable[[Answer], bool]) -> Callable[[Answer], bool]:
    return lambda answer: one(answer) and other(answer)


def _always(then: Then, reason: str, *, out: bool = False) -> Callable[[Answer, Judge], Verdict]:
    verdict = Verdict(then, reason, out=out)
    return lambda _answer, _context: verdict


def _has_limit_headers(answer: Answer) -> bool:
    return "retry-after" in answer.headers or any(name.startswith(UNIFIED) for name in answer.headers)


def _is_disguised(answer: Answer) -> bool:
    return answer.status == 429 and answer.message == "error" and not _has_limit_headers(answer)


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


_EXTRA_USAGE = _says("extra usage is required", "usage credits are required", "third-party apps now draw")
_ACCOUNT = _says(
    "organization has been disabled", "credit balance is too low", "identity verification is required",
    "not allowed for this organization", "has been revoked",
)  # fmt: skip
_OUR_FAULT = _says("oauth authentication is currently not supported", "invalid x-api-key")
_NOT_NATIVE = _says("only authorized for use with claude code")

RULES: tuple[Rule, ...] = (
    Rule(lambda answer: answer.status < 400, _always(Then.DONE, "answered")),
    # About the request: every credential would get the same answer.
    Rule(_EXTRA_USAGE, _always(Then.CLIENT, "the request needs extra usage that the account does not have")),
    Rule(_NOT_NATIVE, _always(Then.CLIENT, "Anthropic takes this request for one that is not Claude Code's")),
    Rule(
        _is_disguised,
        _always(
            Then.CLIENT,
            "Anthropic takes this request for one that is not Claude Code's (a 429 without any limit in it); "
            "is CLAUDE_CODE_ATTRIBUTION_HEADER=0 set on the client, or does something change the system prompt?",
        ),
    ),
    # About the credential.
    Rule(_both(_status(401), _OUR_FAULT), _always(Then.CLIENT, "the proxy sent the credential in the wrong way")),
    Rule(_both(_status(400, 401, 403), _ACCOUNT), _always(Then.NEXT, "the account was refused", out=True)),
    Rule(_status(401), _always(Then.NEXT, "the credential was refused", out=True)),
    Rule(_rejected, _rest_for_window),
    Rule(_status(429), _rest_as_told),
    # About the history.
    Rule(_is_unhealed_thinking, _always(Then.REPAIR, "Claude refused the thinking blocks of the history")),
    # About Anthropic, and about everything else.
    Rule(lambda answer: answer.status >= 500, _always(Then.ROUTER, "Anthropic could not answer")),
    Rule(lambda _answer: True, _always(Then.CLIENT, "refused")),
)


def error_body(kind: str, message: str) -> dict[str, Any]:
    """Return an error in Anthropic's shape."""
    return {"type": "error", "error": {"type": kind, "message": message}}
