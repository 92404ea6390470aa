"""Updates the pool from Anthropic's responses: cooldowns, windows, rejected credentials. Plain and synchronous."""

import logging
import re
from collections.abc import Callable, Iterable

from claude_proxy.credentials import pool_rows
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.order import Order
from claude_proxy.credentials.pool_changes import state_of
from claude_proxy.credentials.rate_limits import (
    ALL_MODELS,
    MAX_UTILIZATION,
    NO_COOLDOWN,
    OVERAGE,
    Cooldown,
    CredentialState,
    Suspicion,
    Window,
    general_windows,
)
from claude_proxy.credentials.response_rules import Action, Verdict
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.credentials.shared_pool import SharedPool
from claude_proxy.credentials.upstream_response import UNIFIED, ReportedWindow, UpstreamResponse, known_windows
from claude_proxy.text import clean

logger = logging.getLogger(__name__)

ORGANIZATION = "anthropic-organization-id"
# How long a refusal that one caller received waits for confirmation by another caller's request, in seconds.
SUSPICION_SECONDS = 600.0
# How often a refusal with unknown wording must occur within that time, while other credentials respond well.
UNKNOWN_TIMES = 3
# The number of unknown wordings kept for a credential, and the length of each.
MAX_UNKNOWN = 20
MAX_WORDS = 200
# Cooldowns after the first, second and third refusal in a row, in seconds; after that the quarantine applies.
REFUSED_SECONDS = (5.0, 60.0, 300.0)
_DIGITS = re.compile(r"[0-9]+")


class LearningPool(SharedPool):
    """A pool that learns from responses. ``on_cooldown`` is called when a cooldown starts or ends, to share it immediately."""

    def __init__(
        self,
        credentials: Iterable[Credential],
        clock: Callable[[], float],
        *,
        soft_limit: float,
        order: Order,
        quarantine: float,
        cooldown: float,
        on_cooldown: Callable[[], None],
    ) -> None:
        super().__init__(credentials, clock, soft_limit=soft_limit, order=order)
        self._quarantine = quarantine
        self._cooldown = cooldown
        self._on_cooldown = on_cooldown
        # The time of the last good response of any credential, in Unix seconds.
        self._last_success = 0.0
        self._logged_sharing: set[frozenset[str]] = set()

    def record_response(self, credential: Credential, verdict: Verdict, response: UpstreamResponse) -> None:
        """Update cooldowns, utilization and organization from a response.

        A cooldown that already lasts longer is not changed. A good response ends the cooldowns that were recorded before its
        request was sent. An unconfirmed verdict changes nothing here; see ``suspect`` and ``confirm``.
        """
        now = self._clock()
        state = state_of(self._states, credential)
        if state is None:
            return
        self._learn(state, response, now)
        if verdict.action is Action.DONE:
            self._record_success(state, response, now)
        if verdict.action is Action.TRY_ONE_OTHER:
            state.deprioritized_until = now + self._cooldown
        if not verdict.unconfirmed:
            self._apply(state, verdict, now)

    def confirm(self, credential: Credential, verdict: Verdict) -> None:
        """Apply a verdict that another response has confirmed."""
        state = state_of(self._states, credential)
        if state is not None:
            self._apply(state, verdict, self._clock())

    def suspect(self, credential: Credential, refusal: str, caller: str) -> bool:
        """Record an unconfirmed refusal; return whether another caller received the same one within ``SUSPICION_SECONDS``.

        For that time, or until its next good response, the credential is used last.
        """
        now = self._clock()
        state = state_of(self._states, credential)
        if state is None:
            return False
        state.deprioritized_until = now + SUSPICION_SECONDS
        before = state.suspicions.get(refusal)
        if before is not None and before.until > now and before.caller != caller:
            return True
        state.suspicions[refusal] = Suspicion(caller, now + SUSPICION_SECONDS)
        return False

    def record_unknown_refusal(self, credential: Credential, response: UpstreamResponse) -> bool:
        """Record a refusal with unknown wording; return whether the request should be repeated with another credential.

        True after ``UNKNOWN_TIMES`` refusals within ``SUSPICION_SECONDS`` while other requests of the pool succeed.
        """
        now = self._clock()
        state = state_of(self._states, credential)
        if state is None:
            return False
        return len(_times(state, _words(response), now)) >= UNKNOWN_TIMES and self._last_success > now - SUSPICION_SECONDS

    def confirm_unknown_refusal(self, credential: Credential, response: UpstreamResponse) -> None:
        """Reject a credential: another one accepted a request that this one refused with unknown wording.

        Applies at the third such refusal within ``SUSPICION_SECONDS``. The wording is logged, as a basis for a new rule.
        """
        now = self._clock()
        state = state_of(self._states, credential)
        words = _words(response)
        if state is None or len(state.unknown.get(words, ())) < UNKNOWN_TIMES:
            return
        logger.warning(
            "credential %s refuses requests that other credentials accept; its error is unknown to this version: %s",
            credential.label,
            words,
        )
        state.unknown.pop(words)
        reason = f"refused {UNKNOWN_TIMES} requests that other credentials accepted"
        cooldown = Cooldown(now + self._quarantine, reason, rejected=True, recorded_at=now, explanation=response.explanation)
        self._cool_down([state], response.scope, cooldown, now)

    def lift(self, label: str) -> bool:
        """End every cooldown of a credential at the operator's request; return whether it is in the pool."""
        state = self._states.get(label)
        if state is None:
            return False
        now = self._clock()
        pool_rows.lift(state, now)
        state.derive(now)
        self._record_change(pool_rows.lifted_row(state.key, now))
        self._on_cooldown()
        return True

    # --- What is learned -----------------------------------------------------------------------------------------------------

    def _learn(self, state: CredentialState, response: UpstreamResponse, now: float) -> None:
        learned = self._learn_overage(state, response, now)
        for seen in known_windows(response):
            if seen.utilization is None or seen.reset is None:
                continue
            if seen.family and not response.may_concern(seen.family):
                family = seen.family
            else:
                family = response.scope.family if seen.family else ALL_MODELS
            learned |= self._put_window(
                state, family, seen.name, Window(min(seen.utilization, MAX_UTILIZATION), seen.reset, now)
            )
        learned |= self._end_by_windows(state, response, now)
        organization = response.headers.get(ORGANIZATION)
        if organization:
            state.organization = organization
        if learned:
            state.derive(now)

    def _learn_overage(self, state: CredentialState, response: UpstreamResponse, now: float) -> bool:
        """Learn whether the response was billed as extra usage, beyond the plan."""
        if response.status >= 300 or f"{UNIFIED}status" not in response.headers:
            return False
        is_paid = response.headers.get(f"{UNIFIED}overage-in-use", "").strip().lower() == "true"
        if not is_paid:
            ended = state.extra_until > now
            return ended and self._put_window(state, ALL_MODELS, OVERAGE, Window(0.0, now, now))
        full = [window.reset for window in response.windows() if window.rejected and window.reset is not None]
        share = response.headers.get(f"{UNIFIED}overage-utilization", "")
        used = float(share) if share.replace(".", "", 1).isdigit() else 0.0
        if state.extra_until <= now:
            logger.warning(
                "credential %s has used up its plan; its responses are now billed as extra usage", state.credential.label
            )
        until = max(full, default=now + self._cooldown)
        return self._put_window(state, ALL_MODELS, OVERAGE, Window(min(used, MAX_UTILIZATION), until, now))

    def _put_window(self, state: CredentialState, family: str, name: str, window: Window) -> bool:
        before = state.windows.get((family, name))
        if not state.put_window((family, name), window, window.seen):
            return False
        self._record_change(pool_rows.window_row(state, family, name, window))
        if (course := state.follow((family, name), before, window)) is not None:
            self._record_change(pool_rows.course_row(state, family, name, course))
        return True

    def _end_by_windows(self, state: CredentialState, response: UpstreamResponse, now: float) -> bool:
        """End cooldowns whose windows are all open, as a response shows whose request was sent after they were recorded."""
        if not any(cooldown.windows for cooldown in state.cooldowns.values()):
            return False
        is_open = {window.name for window in response.windows() if not window.rejected and _has_room(window)}
        over = [
            scope
            for scope, cooldown in state.cooldowns.items()
            if cooldown.windows
            and cooldown.until > now
            and cooldown.recorded_at < response.sent
            and is_open.issuperset(cooldown.windows)
        ]
        return self._end(state, over, response.sent, now)

    def _record_success(self, state: CredentialState, response: UpstreamResponse, now: float) -> None:
        self._last_success = now
        state.refusals = 0
        if state.suspicions:
            state.suspicions.clear()
            state.deprioritized_until = 0.0
        if state.cooldowns:
            over = [
                scope
                for scope, cooldown in state.cooldowns.items()
                if cooldown.recorded_at < response.sent and scope.covers(response.scope)
            ]
            if self._end(state, over, response.sent, now):
                state.derive(now)

    def _end(self, state: CredentialState, scopes: Iterable[Scope], ended: float, now: float) -> bool:
        """End these cooldowns at the time ``ended``; return whether any of them existed."""
        found = False
        for scope in scopes:
            lasted = state.cooldowns[scope].until > now
            if state.end_cooldown(scope, ended):
                found = True
                self._record_change(pool_rows.ended_row(state, scope, ended))
                if lasted:
                    logger.info("the cooldown of credential %s has ended early", state.credential.label)
        if found:
            self._on_cooldown()
        return found

    def _apply(self, state: CredentialState, verdict: Verdict, now: float) -> None:
        if verdict.rejected:
            self._reject(state, verdict, now + self._quarantine, now)
        if verdict.unauthorized:
            self._refuse(state, verdict, now)
        for scope, until in verdict.cooldowns:
            sharing = self._sharing(state, now) if verdict.windows else [state]
            self._cool_down(sharing, scope, Cooldown(until, verdict.reason, recorded_at=now, windows=verdict.windows), now)

    def _reject(self, state: CredentialState, verdict: Verdict, until: float, now: float) -> None:
        cooldown = Cooldown(until, verdict.reason, rejected=True, recorded_at=now, explanation=verdict.explanation)
        self._cool_down([state], EVERYTHING, cooldown, now)

    def _refuse(self, state: CredentialState, verdict: Verdict, now: float) -> None:
        """Apply a cooldown of seconds, then of minutes, then the quarantine.

        If no other credential has had a good response since, Anthropic itself may have an outage; then a minute is the maximum.
        """
        cooldown = state.cooldowns.get(EVERYTHING, NO_COOLDOWN)
        if cooldown.rejected and cooldown.recorded_at > now - REFUSED_SECONDS[0]:  # a concurrent request
            return
        steps = (*REFUSED_SECONDS, self._quarantine)
        others_succeed = self._last_success > now - SUSPICION_SECONDS and any(
            other is not state and other.refusals == 0 and not other.disabled for other in self._states.values()
        )
        place = min(state.refusals, len(steps) - 1 if others_succeed else 1)
        state.refusals += 1
        self._reject(state, verdict, now + min(steps[place], self._quarantine), now)
        if len(self._states) > 1 and all(other.refusals for other in self._states.values() if not other.disabled):
            logger.warning("Anthropic rejects every credential and may have an outage; each is tried again within a minute")

    def _cool_down(self, states: Iterable[CredentialState], scope: Scope, cooldown: Cooldown, now: float) -> None:
        for state in states:
            if cooldown.until > state.cooldowns.get(scope, NO_COOLDOWN).until and state.put_cooldown(scope, cooldown, now):
                state.derive(now)
                self._record_change(pool_rows.limit_row(state, scope, cooldown))
        self._on_cooldown()

    def _sharing(self, state: CredentialState, now: float) -> list[CredentialState]:
        """Return the credentials that share this one's windows: same organization, and every window resets at the same time.

        The organization alone is not enough: its seats have limits of their own, besides at least one shared limit.
        """
        if state.organization is None:
            return [state]
        resets = _resets(state, now)
        if len(resets) < 2:  # one equal reset may be chance
            return [state]
        sharing = [
            other
            for other in self._kinds[state.credential.kind]
            if other.organization == state.organization and _resets(other, now) == resets
        ]
        if len(sharing) > 1:
            self._log_sharing(sharing)
        return sharing

    def _log_sharing(self, states: Iterable[CredentialState]) -> None:
        labels = frozenset(one.credential.label for one in states)
        if labels not in self._logged_sharing:
            self._logged_sharing.add(labels)
            logger.warning("credentials %s belong to one organization and share their windows", ", ".join(sorted(labels)))


def _has_room(window: ReportedWindow) -> bool:
    return window.utilization is None or window.utilization < 1


def _resets(state: CredentialState, now: float) -> dict[str, int]:
    """Return the reset time of each window for all models, in whole seconds."""
    return {name: round(window.reset) for name, window in general_windows(state.windows).items() if window.reset > now}


def _words(response: UpstreamResponse) -> str:
    """Return the wording of a refusal for comparing and logging, without the numbers that differ each time."""
    text = response.redact(f"{response.error_kind}: {response.words}")
    return clean(f"HTTP {response.status} {_DIGITS.sub('#', text)}", MAX_WORDS)


def _times(state: CredentialState, words: str, now: float) -> list[float]:
    """Record a refusal at ``now``, and return the times of the recent ones."""
    times = [one for one in state.unknown.get(words, ()) if one > now - SUSPICION_SECONDS]
    if words in state.unknown or len(state.unknown) < MAX_UNKNOWN:
        state.unknown[words] = times = [*times[-UNKNOWN_TIMES:], now]
    return times
