"""Parses a response of Anthropic: its error, and the limits in its headers. No I/O.

Anthropic's times are converted to the proxy's clock by the header ``date``.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import msgspec

from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.lazy import lazy
from claude_proxy.text import clean

LIMITS = "anthropic-ratelimit-"
UNIFIED = f"{LIMITS}unified-"
LONGEST_RETRY_AFTER = 8 * 86400.0
# The length of Anthropic's message in a reason.
MAX_EXPLANATION = 200
# A smaller difference between the clocks is ignored, because ``date`` has whole seconds.
SKEW_SECONDS = 2.0
# A window has a length and possibly a model family: 5h, 7d, 7d_opus, and future ones.
_WINDOW = re.compile(
    rf"{UNIFIED}(?P<window>(?P<count>[0-9]{{1,4}})(?P<unit>[hd])(?:_(?P<family>[a-z0-9_]+))?)-(?P<what>[a-z-]+)"
)
_UNIT_SECONDS = {"h": 3600.0, "d": 86400.0}
# Window names that differ from the family's name: "oi" is the weekly window of Fable (CLIProxyAPI #5915, dario #1262).
_FAMILIES = {"oi": "fable"}
# Families with windows of their own; such a window in another family's response belongs to that other family.
_KNOWN_FAMILIES = frozenset({"opus", "sonnet", "haiku", "fable"})

# The error type for each status, by Anthropic's reference. With another type, a sentence does not match the tables.
ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    429: "rate_limit_error",
}  # fmt: skip
# Typical words of validation errors, for messages that start with the quoted name.
_VALIDATION = (
    "input tag", "input should be", "inputs are not permitted", "field required", "does not support", "is not supported by",
    "is not a valid", "not found", "unexpected value",
)  # fmt: skip


class ReportedWindow(NamedTuple):
    """A window in a response. ``utilization`` is a fraction that may exceed 1; ``reset`` is Unix seconds."""

    name: str
    # The model family that it covers; None for all models.
    family: str | None
    utilization: float | None
    reset: float | None
    rejected: bool


class UpstreamResponse(msgspec.Struct, frozen=True, dict=True):
    """An upstream's response: header names in lower case; the first kilobytes of an error's body, no body of a success.

    ``scope`` is the request's, ``kind`` the credential's; ``now`` and ``sent`` are the times of the response and of the
    request, in Unix seconds by the proxy's clock. ``redact`` removes secrets from a text for the operator.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    scope: Scope = EVERYTHING
    now: float = 0.0
    kind: Kind = Kind.OAUTH
    sent: float = 0.0
    redact: Callable[[str], str] = Redactor(()).text

    @lazy
    def _error(self) -> Mapping[str, object]:
        """The parsed error; empty if the body is not in Anthropic's format."""
        try:
            error = json.loads(self.body).get("error")
        except (ValueError, AttributeError, RecursionError):
            return {}
        return error if isinstance(error, dict) else {}

    @property
    def error_kind(self) -> str:
        """The type of the error; empty if the body is not in Anthropic's format."""
        kind = self._error.get("type")
        return kind if isinstance(kind, str) else ""

    @property
    def error_code(self) -> str:
        """The code in the error's details, such as ``enforced_spend_limit_reached``; empty if there is none."""
        details = self._error.get("details")
        code = details.get("error_code") if isinstance(details, dict) else None
        return code if isinstance(code, str) else ""

    @property
    def words(self) -> str:
        """The original message of the error; empty if the body is not in Anthropic's format."""
        message = self._error.get("message")
        return message if isinstance(message, str) else ""

    @property
    def message(self) -> str:
        """The error's message in lower case without backticks; empty if the body is not in Anthropic's format."""
        return self.words.lower().replace("`", "")

    @property
    def is_quotation(self) -> bool:
        """Whether the error's message may quote the request."""
        return is_quotation(self.words)

    @property
    def explanation(self) -> str:
        """The error's message for the operator: one printable line without secrets; empty if it may quote the request.

        With status 401 and 402, Anthropic has not examined the request, so these messages are never a quotation.
        """
        if self.is_quotation and self.status not in (401, 402):
            return ""
        # Secrets are removed first: a part of a secret, which a cut would leave, is not recognized.
        return clean(" ".join(self.redact(self.words).split()), MAX_EXPLANATION)

    def sentence(self, sentences: Iterable[str]) -> str:
        """Return the sentence with which the error's message starts; empty if there is none or the message is a quotation."""
        if self.error_kind != ERROR_TYPES.get(self.status) or self.is_quotation:
            return ""
        return beginning(self.message, sentences)

    @lazy
    def skew(self) -> float:
        """How many seconds Anthropic's clock is ahead of the proxy's; 0 without a ``date`` or for a small difference."""
        date = _http_date(self.headers.get("date", ""))
        return 0.0 if date is None or abs(date - self.now) < SKEW_SECONDS else date - self.now

    def moment(self, text: str, longest: float) -> float | None:
        """Convert a time of Anthropic to the proxy's clock; None as for ``parse_reset``."""
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
        """Return every window in the response, including unknown ones."""
        if not (names := [name for name in self.headers if name.startswith(UNIFIED)]):
            return []
        found: dict[str, dict[str, str]] = {}
        families: dict[str, str | None] = {}
        lengths: dict[str, float] = {}
        for name in names:
            if match := _WINDOW.fullmatch(name):
                found.setdefault(match["window"], {})[match["what"]] = self.headers[name].strip()
                families[match["window"]] = _FAMILIES.get(match["family"], match["family"])
                lengths[match["window"]] = (int(match["count"]) + 1) * _UNIT_SECONDS[match["unit"]]
        return [
            _window(name, families[name], fields, self.moment(fields.get("reset", ""), lengths[name]))
            for name, fields in found.items()
        ]

    def may_concern(self, family: str) -> bool:
        """Return whether a window of this family may cover the model of this response."""
        return family == self.scope.family or family not in _KNOWN_FAMILIES

    @property
    def has_limits(self) -> bool:
        """Whether the response contains the time of any limit."""
        return "retry-after" in self.headers or any(name.startswith(UNIFIED) for name in self.headers)


def known_windows(response: UpstreamResponse) -> Iterator[ReportedWindow]:
    """Return the windows with a utilization, for the pool."""
    return (window for window in response.windows() if window.utilization is not None)


def parse_reset(text: str, now: float, longest: float) -> float | None:
    """Parse a reset in Unix seconds, milliseconds or ISO 8601; None for a past, too distant or invalid time."""
    try:
        moment = float(text)
    except ValueError:
        try:
            parsed = datetime.fromisoformat(text.strip())
            moment = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if moment > 1e11:  # milliseconds: as seconds this would be after the year 5000
        moment /= 1000
    return moment if now < moment <= now + longest else None


def is_quotation(message: str) -> bool:
    """Return whether an error's message may quote the request, as Anthropic's validation errors do.

    Such a message has a location before a colon (`messages.0.content.0: ...`, `model: ...`, or a field of the client), starts
    with a quoted name, or contains typical words of a validation error. No sentence about an account has any of these.
    """
    text = " ".join(message.lower().split())
    return text.startswith(("'", '"', "`")) or ": " in text or text.endswith(":") or any(each in text for each in _VALIDATION)


def beginning(message: str, sentences: Iterable[str]) -> str:
    """Return the sentence with which a message starts (up to the end of a word); empty if there is none."""
    text = " ".join(message.split())
    found = (each for each in sentences if text.startswith(each) and not text[len(each) : len(each) + 1].isalnum())
    return next(found, "")


def _window(name: str, family: str | None, fields: Mapping[str, str], reset: float | None) -> ReportedWindow:
    utilization = _fraction(fields.get("utilization", ""))
    spent = "surpassed-threshold" in fields and utilization is not None and utilization >= 1
    status = fields.get("status") or "allowed"
    # Besides allowed and allowed_warning, other gateways report rejected, blocked, queueing_hard and payment_required.
    rejected = not status.startswith("allowed")
    if rejected and utilization is None and reset is not None:
        utilization = 1.0  # a window that rejects is full, whatever an earlier response said
    return ReportedWindow(name, family, utilization, reset, spent or rejected)


def _fraction(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _http_date(text: str) -> float | None:
    """Parse an HTTP date as Unix seconds; None if it is invalid."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
