"""An answer of Anthropic's, and what its headers and its error say about limits. No I/O.

Anthropic's moments are read by Anthropic's clock, which the header ``date`` tells, and given by the proxy's.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import NamedTuple

from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.scope import EVERYTHING, Scope

LIMITS = "anthropic-ratelimit-"
UNIFIED = f"{LIMITS}unified-"
LONGEST_RETRY_AFTER = 8 * 86400.0
# Clocks that differ by less are taken to agree: ``date`` counts in whole seconds.
SKEW_SECONDS = 2.0
# A window is a length of time and perhaps a family of models: 5h, 7d, 7d_opus, and what comes after these.
_WINDOW = re.compile(
    rf"{UNIFIED}(?P<window>(?P<count>[0-9]{{1,4}})(?P<unit>[hd])(?:_(?P<family>[a-z0-9_]+))?)-(?P<what>[a-z-]+)"
)
_UNIT_SECONDS = {"h": 3600.0, "d": 86400.0}
# Names of windows that are no family's own name: "oi" is the week of Fable (CLIProxyAPI #5915, dario #1262).
_FAMILIES = {"oi": "fable"}
# Families that have windows of their own, so that one that is named on another family's answer is known to be another one's.
_KNOWN_FAMILIES = frozenset({"opus", "sonnet", "haiku", "fable"})

# The type of error that Anthropic's reference names for a status. A sentence below another type is not the one in the tables.
ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    429: "rate_limit_error",
}  # fmt: skip
# Words of validation errors beside what they quote, for those that begin with the quoted name itself.
_VALIDATION = (
    "input tag", "input should be", "inputs are not permitted", "field required", "does not support", "is not supported by",
    "is not a valid", "not found", "unexpected value",
)  # fmt: skip


class ReportedWindow(NamedTuple):
    """What an answer says of one window. ``utilization`` is a fraction that may exceed 1; ``reset`` is Unix seconds."""

    name: str
    # The family of models that it is for; None for all of them.
    family: str | None
    utilization: float | None
    reset: float | None
    rejected: bool


@dataclass(frozen=True)
class UpstreamResponse:
    """An upstream's answer: header names in lower case, of an error's body the first kilobytes, of a success nothing.

    ``scope`` is where the request belongs, ``kind`` the credential's; ``now`` and ``sent`` are the moments of the answer and
    of the request, in Unix seconds by the proxy's clock.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    scope: Scope = EVERYTHING
    now: float = 0.0
    kind: Kind = Kind.OAUTH
    sent: float = 0.0

    @cached_property
    def _error(self) -> Mapping[str, object]:
        """The error as it came; empty when the body is not Anthropic's."""
        try:
            error = json.loads(self.body).get("error")
        except (ValueError, AttributeError, RecursionError):
            return {}
        return error if isinstance(error, dict) else {}

    @property
    def error_kind(self) -> str:
        """The error's type in Anthropic's words; empty when the body is not Anthropic's."""
        kind = self._error.get("type")
        return kind if isinstance(kind, str) else ""

    @property
    def error_code(self) -> str:
        """The code in the error's details, such as ``enforced_spend_limit_reached``; empty for none."""
        details = self._error.get("details")
        code = details.get("error_code") if isinstance(details, dict) else None
        return code if isinstance(code, str) else ""

    @property
    def words(self) -> str:
        """The error's wording as it came; empty when the body is not Anthropic's."""
        message = self._error.get("message")
        return message if isinstance(message, str) else ""

    @property
    def message(self) -> str:
        """The error's wording, in lower case and without backticks; empty when the body is not Anthropic's."""
        return self.words.lower().replace("`", "")

    @property
    def is_quotation(self) -> bool:
        """Whether the error's wording may quote the request."""
        return is_quotation(self.words)

    def sentence(self, sentences: Iterable[str]) -> str:
        """Return the one of these sentences with which the error's message begins; empty for none and for a quotation."""
        if self.error_kind != ERROR_TYPES.get(self.status) or self.is_quotation:
            return ""
        return beginning(self.message, sentences)

    @cached_property
    def skew(self) -> float:
        """How many seconds Anthropic's clock is ahead of the proxy's; nothing when it does not say or both agree."""
        date = _http_date(self.headers.get("date", ""))
        return 0.0 if date is None or abs(date - self.now) < SKEW_SECONDS else date - self.now

    def moment(self, text: str, longest: float) -> float | None:
        """Read a moment of Anthropic's as one of the proxy's clock; None as for ``parse_reset``."""
        found = parse_reset(text, self.now + self.skew, longest)
        return None if found is None else found - self.skew

    @property
    def retry_after(self) -> float | None:
        """``retry-after`` in seconds, bounded; None when it is missing or neither a number nor a date (RFC 9110, 10.2.3)."""
        text = self.headers.get("retry-after", "")
        try:
            seconds = float(text)
        except ValueError:
            date = _http_date(text)
            if date is None:
                return None
            seconds = max(0.0, date - self.now - self.skew)
        return min(seconds, LONGEST_RETRY_AFTER) if math.isfinite(seconds) and seconds >= 0 else None

    def windows(self) -> list[ReportedWindow]:
        """Return what the answer says of each window, known ones and those of tomorrow."""
        found: dict[str, dict[str, str]] = {}
        families: dict[str, str | None] = {}
        lengths: dict[str, float] = {}
        for name, value in self.headers.items():
            if name.startswith(UNIFIED) and (match := _WINDOW.fullmatch(name)):
                found.setdefault(match["window"], {})[match["what"]] = value.strip()
                families[match["window"]] = _FAMILIES.get(match["family"], match["family"])
                lengths[match["window"]] = (int(match["count"]) + 1) * _UNIT_SECONDS[match["unit"]]
        return [
            _window(name, families[name], said, self.moment(said.get("reset", ""), lengths[name]))
            for name, said in found.items()
        ]

    def may_concern(self, family: str) -> bool:
        """Whether a window of a family, by the name it has there, may be about this answer's model."""
        return family == self.scope.family or family not in _KNOWN_FAMILIES

    @property
    def has_limits(self) -> bool:
        """Whether the answer says anything about a limit's time."""
        return "retry-after" in self.headers or any(name.startswith(UNIFIED) for name in self.headers)


def known_windows(answer: UpstreamResponse) -> Iterator[ReportedWindow]:
    """Return the windows that say how full they are, for the pool to learn."""
    return (window for window in answer.windows() if window.utilization is not None)


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


def is_quotation(message: str) -> bool:
    """Whether an error's message may quote the request, as Anthropic's validation errors do.

    Such a message names the place before a colon (`messages.0.content.0: ...`, `model: ...`, or a field of the client's own),
    begins with a quoted name, or holds words of a validation error. No sentence about an account has any of these.
    """
    text = " ".join(message.lower().split())
    return text.startswith(("'", '"', "`")) or ": " in text or text.endswith(":") or any(each in text for each in _VALIDATION)


def beginning(message: str, sentences: Iterable[str]) -> str:
    """Return the one of these sentences with which a message begins, up to the end of a word; empty for none."""
    text = " ".join(message.split())
    found = (each for each in sentences if text.startswith(each) and not text[len(each) : len(each) + 1].isalnum())
    return next(found, "")


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


def _http_date(text: str) -> float | None:
    """Read a date of HTTP as Unix seconds; None for what is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
