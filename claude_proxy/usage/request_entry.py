"""One request in the list of the latest ones: what is kept, shown and searched. Plain values; no body and no secret.

Three rules:
  1. Clients and providers choose many of the texts, so each is cleaned and cut, and the redaction has seen it.
  2. Rows of a store may have other writers, so every value is checked when it is read.
  3. A viewer's filters see what the viewer sees: never a credential that is hidden from them.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from claude_proxy.config.money import MICRO_USD
from claude_proxy.config.users import folded
from claude_proxy.text import clean
from claude_proxy.usage.record import AttemptRecord, Record

# The maximum length of a text, and the maximum numbers of attempts and groups of one request.
MAX_TEXT = 200
MAX_ATTEMPTS = 20
MAX_GROUPS = 50
# Larger than any real time in seconds or count.
MAX_SECONDS = 1e12
MAX_COUNT = 1e15
# The status for a client that has disconnected.
LEFT = 499
# The name of a credential that is hidden from a viewer.
HIDDEN = "other"


class RequestEntry(NamedTuple):
    """A finished request. ``id`` starts with the time of its end and sorts as text; times are Unix seconds or durations."""

    id: str
    at: float
    user: str
    requested: str
    model: str
    served: str
    lane: str
    credential: str
    rule: str
    project: str
    groups: tuple[str, ...]
    attempts: tuple[AttemptRecord, ...]
    status: int
    error: str
    first_byte: float
    seconds: float
    size: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    # None if no price is known.
    micro_usd: int | None
    request_id: str

    @property
    def failed(self) -> bool:
        """Whether the request failed; a client that disconnects is not a failure."""
        return bool(self.error or self.status >= 400) and self.status != LEFT

    @property
    def statuses(self) -> frozenset[str]:
        """What a filter may name: the status, "ok" or "error", and "failover" if there was more than one attempt."""
        moved = ("failover",) if len(self.attempts) > 1 else ()
        return frozenset((str(self.status), "error" if self.failed else "ok", *moved))

    @property
    def ended(self) -> float:
        """The time of the end, in Unix seconds."""
        return ended_of(self.id)

    def hiding(self, credentials: Collection[str]) -> "RequestEntry":
        """Return the entry with these credentials under the name ``HIDDEN``."""
        if self.credential not in credentials and not any(one.target in credentials for one in self.attempts):
            return self
        attempts = tuple(one._replace(target=HIDDEN) if one.target in credentials else one for one in self.attempts)
        return self._replace(credential=HIDDEN if self.credential in credentials else self.credential, attempts=attempts)

    def contains(self, text: str) -> bool:
        """Whether a shown text contains ``text``, which is case-folded."""
        attempts = [part for one in self.attempts for part in (one.target, one.why)]
        texts = (
            self.user, self.requested, self.model, self.served, self.lane, self.credential, self.rule, self.project,
            self.error, str(self.status), self.request_id, self.id, *self.groups, *attempts,
        )  # fmt: skip
        return text in "\n".join(texts).casefold()

    def shown(self) -> dict[str, Any]:
        """Return the entry as the value of ``GET /pool/requests``."""
        found: dict[str, Any] = dict(zip(SHOWN_NAMES, self, strict=True))
        found["groups"] = [*self.groups]
        found["attempts"] = [{"target": one.target, "why": one.why, "seconds": one.seconds} for one in self.attempts]
        found["usd"] = None if self.micro_usd is None else self.micro_usd / MICRO_USD
        return found


# The names of the fields where they are shown.
SHOWN_NAMES = tuple({"size": "bytes", "micro_usd": "usd"}.get(name, name) for name in RequestEntry._fields)


def ended_of(identifier: str) -> float:
    """Return the time of the end in the id of an entry; raise ValueError for a text that is no id."""
    time, _, rest = identifier.partition("-")
    if not identifier.isascii() or len(identifier) > MAX_TEXT or not rest.isalnum() or not time.replace(".", "", 1).isdigit():
        raise ValueError("not the id of a request")
    return _number(float(time), MAX_SECONDS)


def texts_of(record: Record) -> list[str]:
    """Return the texts of a request for ``entry_of``, as clients, providers and the configuration have chosen them."""
    return [
        folded(record.user), record.requested, record.model, record.served, record.lane, record.credential, record.rule,
        record.project, record.error, record.request_id, *record.groups[:MAX_GROUPS],
        *(text for one in record.attempts[:MAX_ATTEMPTS] for text in one[:2]),
    ]  # fmt: skip


def entry_of(record: Record, texts: Sequence[str], suffix: str) -> RequestEntry:
    """Return the entry of a request; ``texts`` are its own, without secrets, and ``suffix`` makes its id unique."""
    usage = record.usage
    attempts = record.attempts[:MAX_ATTEMPTS]
    # This runs for every request: nearly all texts are short and printable, and are looked at together.
    if max(map(len, texts)) > MAX_TEXT or not "".join(texts).isprintable():
        texts = [_text(text) for text in texts]
    user, requested, model, served, lane, credential, rule, project, error, request_id, *more = texts
    groups = len(more) - 2 * len(attempts)
    targets, whys = more[groups::2], more[groups + 1 :: 2]
    priced = record.cost is not None or not record.served
    return RequestEntry(
        f"{max(0.0, record.at + record.seconds):017.6f}-{suffix}",
        round(record.at, 3),
        user,
        requested,
        model,
        served,
        lane,
        credential,
        rule,
        project,
        tuple(more[:groups]),
        (*map(AttemptRecord, targets, whys, [round(one.seconds, 3) for one in attempts]),),
        record.status,
        error,
        round(record.first_byte_seconds, 3),
        round(record.seconds, 3),
        record.size,
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
        (record.cost or 0) if priced else None,
        request_id,
    )


def read_entry(value: Any) -> RequestEntry:
    """Return the entry in a row of a store, whose further values of a later version are left out.

    Raises ValueError, TypeError or OverflowError for anything that no proxy has written.
    """
    if not isinstance(value, list):
        raise TypeError("not an entry")
    one = RequestEntry._make(value[: len(RequestEntry._fields)])
    ended_of(_text(one.id))
    checked = [
        one.id,
        _number(one.at, MAX_SECONDS),
        *[_text(text) for text in value[2:10]],
        tuple(_text(group) for group in _list(one.groups)[:MAX_GROUPS]),
        tuple(_attempt(part) for part in _list(one.attempts)[:MAX_ATTEMPTS]),
        int(_number(one.status, 1000)),
        _text(one.error),
        _number(one.first_byte, MAX_SECONDS),
        _number(one.seconds, MAX_SECONDS),
        *[int(_number(count, MAX_COUNT)) for count in value[16:21]],
        None if one.micro_usd is None else int(_number(one.micro_usd, MAX_COUNT)),
        _text(one.request_id),
    ]
    return RequestEntry._make(checked)


def _attempt(value: Any) -> AttemptRecord:
    target, why, seconds = _list(value)
    return AttemptRecord(_text(target), _text(why), _number(seconds, MAX_SECONDS))


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value if len(value) <= MAX_TEXT and value.isprintable() else clean(value, MAX_TEXT)


def _number(value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError("not a number in the range")
    return value
