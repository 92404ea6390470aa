"""The pool and its usage as Prometheus metrics, for the whole proxy.

All values come from shared state, so every worker can respond to a scrape, and no worker has counters of its own. The number of
series is bounded, because the sums of the history and the configuration are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isinf

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from claude_proxy.config.money import MICRO_USD
from claude_proxy.credentials.expiry import login_of, token_expiry_of
from claude_proxy.credentials.rate_limits import Snapshot
from claude_proxy.credentials.scope import Scope
from claude_proxy.usage.numbers import BUCKETS, FIRST_BYTE, FIRST_BYTE_MS, OTHER, TOTAL, TOTAL_MS, WIDTH, Totals, add
from claude_proxy.usage.report import STATES, StoreStatus, Viewer, headroom_of_pool, is_cooling_down, state_name, windows
from claude_proxy.usage.used import Counted

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TOKENS = ("input", "output", "cache_read", "cache_write")
LABELS = ("user", "model", "served", "credential")


class _Collector(Collector):
    def __init__(
        self, snapshots: Iterable[Snapshot], counted: Counted, viewer: Viewer, store: StoreStatus, *, more: Iterable[Metric]
    ) -> None:
        self._snapshots = [one for one in snapshots if one.credential.label not in viewer.hidden]
        self._counted = counted
        self._viewer = viewer
        self._store = store
        self._more = more

    def collect(self) -> Iterator[Metric]:
        yield from self._usage()
        yield from self._times()
        yield from self._credentials()
        yield from self._pool()
        yield from self._more

    def _usage(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("claude_proxy_requests", "Requests with a response.", labels=LABELS)
        errors = CounterMetricFamily("claude_proxy_errors", "Failed requests.", labels=LABELS)
        tokens = CounterMetricFamily("claude_proxy_tokens", "Tokens, as counted by the provider.", labels=(*LABELS, "type"))
        cost = CounterMetricFamily("claude_proxy_cost_usd", "Known costs of responses, in USD.", labels=LABELS)
        unpriced = CounterMetricFamily("claude_proxy_unpriced", "Responses without a known cost.", labels=LABELS)
        failovers = CounterMetricFamily("claude_proxy_failovers", "Failovers from a credential or a model.", labels=("left",))
        sums: dict[tuple[str, str, str, str], Totals] = {}
        for (user, model, served, credential), counts in self._counted.totals.items():
            shown = OTHER if credential in self._viewer.hidden else credential
            is_own = self._viewer.sees_all_users or user == self._viewer.name
            names = (user, model, served, shown) if is_own else (OTHER, OTHER, "", shown)
            sums[names] = sums.get(names, Totals()) + Totals(*counts)
        for names, totals in sums.items():
            requests.add_metric(names, totals.requests)
            errors.add_metric(names, totals.errors)
            cost.add_metric(names, totals.micro_usd / MICRO_USD)
            unpriced.add_metric(names, totals.unpriced)
            for kind in TOKENS:
                tokens.add_metric((*names, kind), getattr(totals, kind))
        for left, count in self._failovers().items():
            failovers.add_metric((left,), count)
        yield from (requests, errors, tokens, cost, unpriced, failovers)

    def _failovers(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for left, count in self._counted.left.items():
            shown = OTHER if left in self._viewer.hidden else left
            found[shown] = found.get(shown, 0.0) + count
        return found

    def _times(self) -> Iterator[Metric]:
        times = self._seen_times()
        for buckets, sum_place, name, text in (
            (
                FIRST_BYTE,
                FIRST_BYTE_MS,
                "claude_proxy_first_byte_seconds",
                "From a request's arrival to the first byte of its response.",
            ),
            (TOTAL, TOTAL_MS, "claude_proxy_request_seconds", "From a request's arrival to the end of its response."),
        ):
            family = HistogramMetricFamily(name, text, labels=("model",))
            for model, numbers in times.items():
                below, found = 0, []
                for bound, count in zip(BUCKETS, numbers[buckets], strict=True):
                    below += count
                    found.append(("+Inf" if isinf(bound) else str(bound), below))
                family.add_metric((model,), found, numbers[sum_place] / 1000)
            yield family

    def _seen_times(self) -> Mapping[str, Sequence[int]]:
        """Return the times by model; those of models that the viewer did not use as one."""
        if self._viewer.sees_all_users:
            return self._counted.times
        own = {model for user, model, *_ in self._counted.totals if user == self._viewer.name}
        found: dict[str, list[int]] = {}
        for model, numbers in self._counted.times.items():
            add(found.setdefault(model if model in own else OTHER, [0] * WIDTH), numbers)
        return found

    def _credentials(self) -> Iterator[Metric]:
        one, two = ("credential",), ("credential", "window")
        states = GaugeMetricFamily("claude_proxy_credential_state", "1 for the current state.", labels=(*one, "state"))
        sessions = GaugeMetricFamily("claude_proxy_credential_sessions", "Sessions in the last hour.", labels=one)
        until = GaugeMetricFamily(
            "claude_proxy_credential_cooldown_until_seconds", "End of a cooldown.", labels=(*one, *Scope._fields)
        )
        filled = GaugeMetricFamily("claude_proxy_credential_utilization_ratio", "Utilization of a window.", labels=two)
        reset = GaugeMetricFamily("claude_proxy_credential_reset_seconds", "Reset of a window.", labels=two)
        since = GaugeMetricFamily(
            "claude_proxy_setup_token_since_seconds", "Creation or first use of a setup token.", labels=one
        )
        ends = GaugeMetricFamily("claude_proxy_setup_token_ends_seconds", "Expiry of a setup token.", labels=one)
        login = GaugeMetricFamily("claude_proxy_login_expires_seconds", "Expiry of a Claude Code login.", labels=one)
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
            if token := token_expiry_of(snapshot):
                since.add_metric((label,), token.created)
                ends.add_metric((label,), token.expires)
            if (found := login_of(snapshot)) and found.expires is not None:
                login.add_metric((label,), found.expires)
        yield from (states, sessions, until, filled, reset, since, ends, login)

    def _pool(self) -> Iterator[Metric]:
        pool = self._snapshots
        yield GaugeMetricFamily("claude_proxy_pool_credentials", "Credentials in the pool.", value=len(pool))
        room = headroom_of_pool(pool)
        if pool:
            usable = sum(not is_cooling_down(one) for one in pool) / len(pool)
            yield GaugeMetricFamily("claude_proxy_pool_usable_ratio", "Share of usable credentials.", value=usable)
        if room is not None:
            yield GaugeMetricFamily("claude_proxy_pool_headroom_ratio", "Mean headroom of the fullest windows.", value=room)
        shared = bool(self._store.kind) and not self._store.unavailable
        yield GaugeMetricFamily("claude_proxy_shared", "1 while the workers share their state.", value=float(shared))


def exposition(
    snapshots: Iterable[Snapshot], counted: Counted, viewer: Viewer, store: StoreStatus, more: Iterable[Metric] = ()
) -> bytes:
    """Return the metrics in Prometheus' text format; ``more`` are those of other parts.

    A viewer who may not see every user gets other users with their models, and credentials reserved for others, summed as
    ``other``.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshots, counted, viewer, store, more=more))
    return generate_latest(registry)
