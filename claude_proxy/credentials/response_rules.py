"""What an answer of Anthropic's says about the credential that was asked, and what happens to the request. No I/O.

One table, ``RULES``, read from top to bottom: the first rule that fits decides. Rules recognise an error by the sentence with
which its message begins, never by words inside it: Anthropic's validation errors quote the request.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from typing import NamedTuple

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

# The type of error that Anthropic's reference names for a status. A sentence below another type is not the one in the tables.
_ERROR_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# Beginnings of Anthropic's messages, in lower case and without backticks, with the public reports that hold them. "CC" is the
# issue tracker of Claude Code. More text may follow a sentence; nothing comes before it.
EXTRA_USAGE = (
    "extra usage is required",  # "... for long context requests.": CC #42616, #43276, #50784, #53607; CLIProxyAPI #2464
    "usage credits are required",  # "... for fast mode."
)
NOT_CLAUDE_CODE = (
    "third-party apps now draw from your extra usage",  # "..., not your plan limits. ...": CC #45048, #45911
    "this credential is only authorized for use with claude code",  # "... and cannot be used for ...": clewdr #129
)
WRONG_HEADER = (
    "oauth authentication is currently not supported",  # a bearer token without its beta: CC #28091
    "invalid x-api-key",  # an OAuth token in the header of API keys: LiteLLM #22040
)
REFUSED_ACCOUNT = (
    "this organization has been disabled",  # CC #9384, #19028
    "your credit balance is too low",  # "... to access the Anthropic API. Please go to ...": CC #66314; alone: CC #91322
    "identity verification is required",  # "... to continue.": CC #88505
    "oauth authentication is currently not allowed for this organization",  # CC #6312, #6752 (401), #65714, #65044 (403)
    "oauth token has been revoked",  # "... Please obtain a new token.": CC #5210, #9635, #29497
)
# Refusals of thinking blocks on which Claude Code does not act by itself (2.1.197), without the place in front of them.
UNHEALED_THINKING = (
    "expected thinking or redacted_thinking, but found",  # CC #20705, n8n #22550
    "if an assistant message contains any thinking blocks, the first block must be thinking",  # CC #20705, #20691
    "a final assistant message must start with a thinking block",
    "when thinking is enabled, a final assistant message must start with a thinking block",
    "the final block in an assistant message cannot be thinking",  # forgecode #2107
    "when thinking is disabled, an assistant message in the final position cannot contain thinking",  # forgecode #1195
    "invalid data in redacted_thinking block",  # CC #56708
    "each thinking block must contain thinking",  # claude-code-hub's list
    "thinking blocks are not supported",
)
# The place of a thinking block in the request, as validation errors begin with it: `messages.1.content.0.type: `.
_PLACE = re.compile(r"messages\.[0-9a-z_.]{1,80}: ")
# Words of validation errors beside what they quote, for those that begin with the quoted name itself.
_VALIDATION = (
    "input tag", "input should be", "inputs are not permitted", "field required", "does not support", "is not supported by",
    "is not a valid", "not found", "unexpected value",
)  # fmt: skip


class Action(Enum):
    """What happens to the request."""

    DONE = "the client gets the answer"
    NEXT = "the next credential is asked"
    TRY_ONE_OTHER = "one other credential is asked, and no third"
    CLIENT = "the client gets the answer unmodified, and nobody else is asked"
    ROUTER = "LiteLLM's retries and fallbacks decide"
    REPAIR = "the same credential is asked once more, without thinking blocks"


class ReportedWindow(NamedTuple):
    """What an answer says of one window. ``utilization`` is a fraction that may exceed 1; ``reset`` is Unix seconds."""

    name: str
    family: str | None
    utilization: float | None
    reset: float | None
    rejected: bool


@dataclass(frozen=True)
class UpstreamResponse:
    """An upstream's answer: header names in lower case, of an error's body the first kilobytes, of a success nothing.

    ``family`` is the family of the model that was asked for, such as ``opus``; ``now`` is the moment in Unix seconds.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    family: str = ""
    now: float = 0.0

    @cached_property
    def _error(self) -> tuple[str, str]:
        """The error's type and message as they came; empty when the body is not Anthropic's."""
        try:
            error = json.loads(self.body).get("error")
        except (ValueError, AttributeError, RecursionError):
            return "", ""
        kind, message = (error.get("type"), error.get("message")) if isinstance(error, dict) else ("", "")
        return kind if isinstance(kind, str) else "", message if isinstance(message, str) else ""

    @property
    def kind(self) -> str:
        """The error's type in Anthropic's words; empty when the body is not Anthropic's."""
        return self._error[0]

    @property
    def message(self) -> str:
        """The error's wording, in lower case and without backticks; empty when the body is not Anthropic's."""
        return self._error[1].lower().replace("`", "")

    def sentence(self, sentences: Iterable[str]) -> str:
        """Return the one of these sentences with which the error's message begins; empty for none and for a quotation."""
        if self.kind != _ERROR_TYPES.get(self.status) or is_quotation(self._error[1]):
            return ""
        return _beginning(self.message, sentences)

    def windows(self) -> list[ReportedWindow]:
        """Return what the answer says of each window, known ones and those of tomorrow."""
        found: dict[str, dict[str, str]] = {}
        families: dict[str, str | None] = {}
        lengths: dict[str, float] = {}
        for name, value in self.headers.items():
            if name.startswith(UNIFIED) and (match := _WINDOW.fullmatch(name)):
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
    where there is nothing to know. ``unconfirmed`` is the sentence of a 400 that refuses the account: the request itself may
    have caused it, so the credential is not put out before another response confirms it.
    """

    action: Action
    reason: str
    rest_until: float | None = None
    family: str = ""
    family_until: float | None = None
    out: bool = False
    ours: bool = False
    unconfirmed: str = ""


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


def retry_after(answer: UpstreamResponse) -> float | None:
    """Return ``retry-after`` in seconds, bounded; None when it is missing or not a number."""
    try:
        seconds = float(answer.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, LONGEST_RETRY_AFTER) if math.isfinite(seconds) and seconds >= 0 else None


def is_quotation(message: str) -> bool:
    """Whether an error's message may quote the request, as Anthropic's validation errors do.

    Such a message names the place before a colon (`messages.0.content.0: ...`, `model: ...`, or a field of the client's own),
    begins with a quoted name, or holds words of a validation error. No sentence about an account has any of these.
    """
    text = " ".join(message.lower().split())
    return text.startswith(("'", '"', "`")) or ": " in text or text.endswith(":") or any(each in text for each in _VALIDATION)


def _window(name: str, family: str | None, said: Mapping[str, str], reset: float | None) -> ReportedWindow:
    utilization = _fraction(said.get("utilization", ""))
    spent = "surpassed-threshold" in said and utilization is not None and utilization >= 1
    status = said.get("status") or "allowed"
    # allowed and allowed_warning; other gateways have met rejected, blocked, queueing_hard and payment_required.
    return ReportedWindow(name, family, utilization, reset, spent or not status.startswith("allowed"))


def _fraction(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _is_limit(answer: UpstreamResponse) -> bool:
    status = answer.headers.get(f"{UNIFIED}status", "").strip() or "allowed"
    return answer.status == 429 and (not status.startswith("allowed") or any(window.rejected for window in answer.windows()))


def _rest_for_window(answer: UpstreamResponse, cooldown: float) -> Verdict:
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
    return Verdict(Action.NEXT, reason, until, family, family_until)


def _latest(windows: Iterable[ReportedWindow]) -> float | None:
    return max((window.reset for window in windows if window.reset is not None), default=None)


def _otherwise(answer: UpstreamResponse, cooldown: float) -> float:
    """Return when a rest ends whose windows do not say so themselves."""
    reset = parse_reset(answer.headers.get(f"{UNIFIED}reset", ""), answer.now, LONGEST_RETRY_AFTER)
    return answer.now + _seconds(answer, cooldown) if reset is None else reset


def _rest_as_told(answer: UpstreamResponse, cooldown: float) -> Verdict:
    return Verdict(Action.NEXT, "asked to slow down", answer.now + _seconds(answer, cooldown))


def _seconds(answer: UpstreamResponse, cooldown: float) -> float:
    seconds = retry_after(answer)
    return max(SHORTEST_REST, cooldown if seconds is None else seconds)


def _beginning(message: str, sentences: Iterable[str]) -> str:
    """Return the one of these sentences with which a message begins, up to the end of a word; empty for none."""
    text = " ".join(message.split())
    found = (each for each in sentences if text.startswith(each) and not text[len(each) : len(each) + 1].isalnum())
    return next(found, "")


def _says(sentences: Iterable[str]) -> Callable[[UpstreamResponse], bool]:
    return lambda answer: bool(answer.sentence(sentences))


def _all(*conditions: Callable[[UpstreamResponse], bool]) -> Callable[[UpstreamResponse], bool]:
    return lambda answer: all(condition(answer) for condition in conditions)


def _status(*statuses: int) -> Callable[[UpstreamResponse], bool]:
    return lambda answer: answer.status in statuses


def _always(
    action: Action, reason: str, *, out: bool = False, ours: bool = False
) -> Callable[[UpstreamResponse, float], Verdict]:
    verdict = Verdict(action, reason, out=out, ours=ours)
    return lambda _answer, _cooldown: verdict


def _refuse_account(answer: UpstreamResponse, _cooldown: float) -> Verdict:
    unconfirmed = answer.sentence(REFUSED_ACCOUNT) if answer.status == 400 else ""
    return Verdict(Action.NEXT, "the account was refused", out=True, unconfirmed=unconfirmed)


def _is_disguised(answer: UpstreamResponse) -> bool:
    """Whether Anthropic refuses a request that it does not take for Claude Code's; Haiku is exempt from that."""
    return answer.message.rstrip(".") == "error" and not answer.has_limits() and answer.family != "haiku"


def _is_unhealed_thinking(answer: UpstreamResponse) -> bool:
    """Whether Claude refused thinking blocks in words on which Claude Code does not act by itself (2.1.197)."""
    kind, message = answer.kind, answer.message
    if answer.status != 400 or kind != _ERROR_TYPES[400]:
        return False
    place = _PLACE.match(message)
    rest = message[place.end() :] if place else message
    return not is_quotation(rest) and bool(_beginning(rest, UNHEALED_THINKING))


def _has_retry_after(answer: UpstreamResponse) -> bool:
    return retry_after(answer) is not None


RULES: tuple[Rule, ...] = (
    Rule(lambda answer: answer.status < 300, _always(Action.DONE, "answered")),
    # About the request: every credential would get the same answer.
    Rule(
        _all(_status(400, 429), _says(EXTRA_USAGE)),
        _always(Action.CLIENT, "the request needs extra usage that the account does not have (long context, fast mode)"),
    ),
    Rule(
        _all(_status(400, 403), _says(NOT_CLAUDE_CODE)),
        _always(Action.CLIENT, "Anthropic does not take this request for Claude Code's own; did another client send it?"),
    ),
    Rule(
        _all(_status(429), _is_disguised),
        _always(
            Action.CLIENT,
            "Anthropic does not take this request for Claude Code's own (a 429 without any limit in it); "
            "is CLAUDE_CODE_ATTRIBUTION_HEADER=0 set on the client, or does something change the system prompt?",
        ),
    ),
    # About this proxy.
    Rule(
        _all(_status(401), _says(WRONG_HEADER)),
        _always(Action.CLIENT, "the proxy sent the credential in the wrong way; please report this", ours=True),
    ),
    # About the credential.
    Rule(_all(_status(400, 401, 403), _says(REFUSED_ACCOUNT)), _refuse_account),
    Rule(_status(401), _always(Action.NEXT, "the credential was refused", out=True)),
    Rule(_status(403), _always(Action.NEXT, "the credential may not do this")),
    Rule(_is_limit, _rest_for_window),
    Rule(_all(_status(429), _has_retry_after), _rest_as_told),
    Rule(_status(429), _always(Action.TRY_ONE_OTHER, "a 429 that names no limit")),
    # About the history.
    Rule(_is_unhealed_thinking, _always(Action.REPAIR, "Claude refused the thinking blocks of the history")),
    # About Anthropic, and about everything else.
    Rule(lambda answer: answer.status >= 500 or answer.status < 400, _always(Action.ROUTER, "Anthropic could not answer")),
    Rule(lambda _answer: True, _always(Action.CLIENT, "")),
)


def known_windows(answer: UpstreamResponse) -> Iterator[ReportedWindow]:
    """Return the windows that say how full they are, for the pool to learn."""
    return (window for window in answer.windows() if window.utilization is not None)
