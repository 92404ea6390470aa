"""Evaluates the rules all the time and notifies the targets, in the process that holds the lease.

Four rules:
  1. Nothing here raises, and no request waits for it.
  2. While a message is being sent, the rules are evaluated on, and the lease is renewed.
  3. A target that does not accept a message is tried again after pauses that grow to 15 minutes.
  4. A target that has failed for ``FAILING_SECONDS`` is itself an alert, which the other targets get.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from claude_proxy.alerts.delivery import Outgoing, Report, deliver
from claude_proxy.alerts.firing import FiringAlerts, Notice
from claude_proxy.alerts.lease import Lease
from claude_proxy.alerts.messages import Message, messages
from claude_proxy.alerts.rules import Alert, alerts_of, by_severity
from claude_proxy.alerts.situation import Situation
from claude_proxy.config.alerts import INFO, WARNING, Alerts, Target
from claude_proxy.secret import Secret
from claude_proxy.text import clean

logger = logging.getLogger(__name__)

# How often the rules are evaluated, in seconds.
TICK_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0
FAILING_SECONDS = 120.0
# How long a stop waits for messages that are being sent.
STOP_SECONDS = 5.0
DELIVERY, REJECTED = "delivery:", "credential-rejected:"
# Every alert is also a line in the log, once; the name that a target must not have.
LOG = Target("(log)", Secret(""))
Deliver = Callable[[Outgoing, Report], Awaitable[None]]


@dataclass
class _Failure:
    """The failures of a target in a row."""

    since: float
    retry_at: float
    pause: float
    reason: str


class AlertWatch:
    """One per process. ``situation`` and ``config`` return what applies now; ``is_unavailable`` whether the store is away.

    ``wake`` shares changes with the other processes now.
    """

    def __init__(
        self,
        situation: Callable[[], Situation],
        config: Callable[[], Alerts],
        *,
        clock: Callable[[], float],
        is_shared: bool,
        is_unavailable: Callable[[], bool] = lambda: False,
        wake: Callable[[], None] = lambda: None,
        deliver: Deliver = deliver,
    ) -> None:
        self._situation = situation
        self._config = config
        self._clock = clock
        self._is_unavailable = is_unavailable
        self._wake = wake
        self._deliver = deliver
        self._firing = FiringAlerts(clock)
        self._lease = Lease(clock, is_shared=is_shared)
        self._failures: dict[str, _Failure] = {}
        self._sending: asyncio.Task[None] | None = None
        self._is_failing = False

    @property
    def parts(self) -> tuple[FiringAlerts, Lease]:
        """What the processes share."""
        return self._firing, self._lease

    def rejected_since(self) -> Mapping[str, float]:
        """Return since when an alert about a rejected credential fires, by label."""
        return self._firing.since_of(REJECTED)

    def current(self, situation: Situation) -> list[Alert]:
        """Return the alerts of a situation and of failing targets, the most severe first."""
        found = alerts_of(situation._replace(firing=self._firing.keys), self._config().thresholds)
        return by_severity([*found, *self._firing.of_prefix(DELIVERY)])

    def since(self, key: str) -> float:
        """Return since when an alert fires; now for one that nobody has noted yet."""
        return self._firing.since(key)

    async def run(self) -> None:
        """Evaluate the rules until cancelled."""
        while True:
            try:
                self.step()
                self._is_failing = False
            except Exception as problem:  # rule 1
                if not self._is_failing:
                    logger.warning("alerts cannot be evaluated (%s); trying again", type(problem).__name__, exc_info=problem)
                self._is_failing = True
            await asyncio.sleep(TICK_SECONDS)

    def step(self) -> None:
        """Evaluate the rules once. If this process holds the lease, start to send what is due."""
        config = self._config()
        found = alerts_of(self._situation()._replace(firing=self._firing.keys), config.thresholds)
        if not self._lease.is_held(unavailable=self._is_unavailable()):
            self._firing.observe(found)
            return
        self._firing.update([*found, *self._failing_targets(config)])
        self._firing.forget_targets([LOG.name, *(target.name for target in config.targets)])
        self._write_log()
        if self._sending is None or self._sending.done():
            due = [(target, notices) for target in config.targets if (notices := self._due(target))]
            self._sending = asyncio.ensure_future(self._send(due, config)) if due else None

    async def close(self) -> None:
        """Wait a moment for messages that are being sent, and let another process take over."""
        if self._sending is not None and not self._sending.done():
            await asyncio.wait({self._sending}, timeout=STOP_SECONDS)
            self._sending.cancel()
            await asyncio.wait({self._sending})
        self._lease.release()

    def _due(self, target: Target) -> list[Notice]:
        failure = self._failures.get(target.name)
        if failure and self._clock() < failure.retry_at:
            return []
        return [one for one in self._firing.due(target) if one.alert.key != f"{DELIVERY}{target.name}"]

    def _write_log(self) -> None:
        notices = self._firing.due(LOG)
        for one in notices:
            if one.is_over:
                logger.info("alert is over: %s", one.alert.text)
            else:
                level = logging.INFO if one.alert.severity == INFO else logging.WARNING
                logger.log(level, "alert (%s): %s %s", one.alert.severity, one.alert.text, one.alert.action)
        self._firing.record_sent(LOG.name, notices)

    async def _send(self, due: Sequence[tuple[Target, Sequence[Notice]]], config: Alerts) -> None:
        found = [(target, message, notices) for target, every in due for message, notices in messages(every, config)]

        open_places = set(range(len(found)))

        def report(place: int, reason: str) -> None:
            open_places.discard(place)
            self._record_result(*found[place], reason)

        try:
            await self._deliver([(target.url, message) for target, message, _ in found], report)
        except Exception as problem:  # noqa: BLE001 - rule 1
            for place in [*open_places]:
                report(place, f"it failed ({type(problem).__name__})")

    def _record_result(self, target: Target, _: Message, notices: Sequence[Notice], reason: str) -> None:
        if reason:
            self._record_failure(target.name, reason)
            return
        self._firing.record_sent(target.name, notices)
        if self._failures.pop(target.name, None) is not None:
            logger.info("alerts are sent to %s again", target.name)
        self._wake()

    def _record_failure(self, name: str, reason: str) -> None:
        now, before = self._clock(), self._failures.get(name)
        shown = clean(reason, 200)
        if before is None:
            logger.warning("an alert could not be sent to %s: %s; trying again", name, shown)
        pause = min(LONGEST_PAUSE, 2 * before.pause) if before else FIRST_PAUSE
        self._failures[name] = _Failure(before.since if before else now, now + pause, pause, shown)

    def _failing_targets(self, config: Alerts) -> list[Alert]:
        names = {target.name for target in config.targets}
        self._failures = {name: one for name, one in self._failures.items() if name in names}
        return [
            Alert(
                f"{DELIVERY}{name}",
                WARNING,
                f"Alerts cannot be sent to {name}: {one.reason}.",
                "`claude-proxy alerts test` tries each target.",
            )
            for name, one in self._failures.items()
            if self._clock() >= one.since + FAILING_SECONDS
        ]
