"""The pool and the book in Prometheus' format. Every number is the whole proxy's: it comes from what the workers share.

All times and counts are read from the book, so any worker answers a scrape, and none has counters of its own. The number of
series is bounded, whatever clients ask for: the book's sums are (``ledger_page.py``), and the rest is of the configuration.
"""

from collections.abc import Iterable, Iterator
from math import isinf

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from claude_proxy.credentials.expiry import age_of, login_of
from claude_proxy.credentials.rate_limits import Snapshot
from claude_proxy.credentials.scope import Scope
from claude_proxy.usage.ledger import Book
from claude_proxy.usage.ledger_page import BUCKETS, FIRST_BYTE, MOVED, OTHER, TOTAL, Names, Taken
from claude_proxy.usage.report import STATES, StoreStatus, Viewer, headroom_of_pool, is_cooling_down, state_name, windows

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TOKENS = ("input", "output", "cache_read", "cache_write")
LABELS = Names._fields


class _Collector(Collector):
    def __init__(self, snapshots: Iterable[Snapshot], book: Book, viewer: Viewer, knowledge: StoreStatus) -> None:
        self._snapshots = [one for one in snapshots if one.credential.label not in viewer.hidden]
        self._book = book
        self._viewer = viewer
        self._knowledge = knowledge

    def collect(self) -> Iterator[Metric]:
        yield from self._usage()
        yield from self._times()
        yield from self._credentials()
        yield from self._pool()

    def _usage(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("claude_proxy_requests", "Requests that were answered.", labels=LABELS)
        errors = CounterMetricFamily("claude_proxy_errors", "Requests that failed.", labels=LABELS)
        tokens = CounterMetricFamily("claude_proxy_tokens", "Tokens, as the provider counted them.", labels=(*LABELS, "type"))
        moved = CounterMetricFamily("claude_proxy_failovers", "Moves away from a credential or a model.", labels=("left",))
        sums: dict[Names, Taken] = {}
        for names, taken in self._book.taken().items():
            hidden = not self._viewer.everybody and names.user != self._viewer.name
            shown = names._replace(user=OTHER) if hidden else names
            shown = shown._replace(credential=OTHER) if names.credential in self._viewer.hidden else shown
            sums[shown] = sums.get(shown, Taken()) + taken
        for names, taken in sums.items():
            requests.add_metric(names, taken.requests)
            errors.add_metric(names, taken.errors)
            for kind in TOKENS:
                tokens.add_metric((*names, kind), getattr(taken, kind))
        for left, count in self._moved().items():
            moved.add_metric((left,), count)
        yield from (requests, errors, tokens, moved)

    def _moved(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for (left,), (count,) in self._book.sums(MOVED).items():
            shown = OTHER if left in self._viewer.hidden else left
            found[shown] = found.get(shown, 0.0) + count
        return found

    def _times(self) -> Iterator[Metric]:
        for kind, name, text in (
            (FIRST_BYTE, "claude_proxy_first_byte_seconds", "From a request's arrival to the first byte of its answer."),
            (TOTAL, "claude_proxy_request_seconds", "From a request's arrival to the end of its answer."),
        ):
            family = HistogramMetricFamily(name, text, labels=("model",))
            for (model,), (*counts, total) in self._book.sums(kind).items():
                below, buckets = 0.0, []
                for bucket, count in zip(BUCKETS, counts, strict=True):
                    below += count
                    buckets.append(("+Inf" if isinf(bucket) else str(bucket), below))
                family.add_metric((model,), buckets, total)
            yield family

    def _credentials(self) -> Iterator[Metric]:
        one, two = ("credential",), ("credential", "window")
        states = GaugeMetricFamily("claude_proxy_credential_state", "1 for the state it is in.", labels=(*one, "state"))
        sessions = GaugeMetricFamily("claude_proxy_credential_sessions", "Sessions of the last hour.", labels=one)
        until = GaugeMetricFamily(
            "claude_proxy_credential_cooldown_until_seconds", "When a rest ends.", labels=(*one, *Scope._fields)
        )
        filled = GaugeMetricFamily("claude_proxy_credential_utilization_ratio", "How full a window is.", labels=two)
        reset = GaugeMetricFamily("claude_proxy_credential_reset_seconds", "When a window opens anew.", labels=two)
        since = GaugeMetricFamily("claude_proxy_setup_token_since_seconds", "When a setup token was made or seen.", labels=one)
        ends = GaugeMetricFamily("claude_proxy_setup_token_ends_seconds", "When its year is over.", labels=one)
        login = GaugeMetricFamily("claude_proxy_login_expires_seconds", "When a home's login expires.", labels=one)
        for snapshot in self._snapshots:
            label = snapshot.credential.label
            for state in STATES:
                states.add_metric((label, state), float(state_name(snapshot) == state))
            sessions.add_metric((label,), snapshot.sessions)
            for scope, cooldown in snapshot.cooldowns.items():
                until.add_metric((label, *scope), cooldown.until)
            for name, window in windows(snapshot).items():
                filled.add_metric((label, name), window.utilization)
                reset.add_metric((label, name), window.reset)
            if age := age_of(snapshot):
                since.add_metric((label,), age.since)
                ends.add_metric((label,), age.ends)
            if (found := login_of(snapshot)) and found.expires is not None:
                login.add_metric((label,), found.expires)
        yield from (states, sessions, until, filled, reset, since, ends, login)

    def _pool(self) -> Iterator[Metric]:
        pool = self._snapshots
        yield GaugeMetricFamily("claude_proxy_pool_credentials", "Credentials in the pool.", value=len(pool))
        room = headroom_of_pool(pool)
        if room is not None:
            usable = sum(not is_cooling_down(one) for one in pool) / len(pool)
            yield GaugeMetricFamily("claude_proxy_pool_usable_ratio", "Share of credentials that may be asked.", value=usable)
            yield GaugeMetricFamily("claude_proxy_pool_headroom_ratio", "Mean room of their fullest windows.", value=room)
        shared = bool(self._knowledge.shared) and not self._knowledge.away
        yield GaugeMetricFamily("claude_proxy_shared", "1 while the workers share what they know.", value=float(shared))


def exposition(snapshots: Iterable[Snapshot], book: Book, viewer: Viewer, knowledge: StoreStatus) -> bytes:
    """Return the metrics in Prometheus' text format.

    Who does not see everybody finds other people summed as ``other``, and so the credentials that are for others.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshots, book, viewer, knowledge))
    return generate_latest(registry)
