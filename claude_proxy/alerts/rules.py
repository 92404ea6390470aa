"""Which alerts a situation causes. Pure: the same situation always causes the same alerts. No secret is in their texts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from claude_proxy.alerts.situation import Situation
from claude_proxy.config import alerts as config
from claude_proxy.config.alerts import CRITICAL, INFO, SEVERITIES, WARNING, Thresholds
from claude_proxy.config.settings import POOL_SOURCES
from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.expiry import DAY, token_expiry_of
from claude_proxy.credentials.rate_limits import ALL_MODELS, NO_COOLDOWN, Snapshot, general_windows
from claude_proxy.credentials.response_rules import UNPAID
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.text import clean
from claude_proxy.usage.report import EXPIRED, PAUSED, REJECTED, headroom, is_cooling_down, state_name, unserved_families
from claude_proxy.usage.spend import ALL
from claude_proxy.usage.standing import Standing

HOUR = 3600.0
# The maximum length of an alert's text, and the maximum number of alerts of one rule.
MAX_TEXT = 300
MAX_OF_RULE = 100
# Alerts about the budgets of many users, which those of single users never displace.
OF_ALL = ("budget:all:", "budget:group:")
# The maximum number of model families that an alert names.
MAX_FAMILIES = 5
# From this share of failed requests on, in per cent, the error rate is critical.
CRITICAL_ERRORS = 50
# From these numbers of days before the end of a setup token on, its alert has the severity.
ENDS_CRITICAL, ENDS_WARNING = 1, 7
# From this share on, in per cent, a budget is a warning.
BUDGET_WARNING = 95
SETUP_TOKEN = "token (`claude setup-token`)"  # noqa: S105 - not a token


class Alert(NamedTuple):
    """``key`` identifies what the alert is about. ``action`` is what an operator does about it.

    ``level`` rises with each threshold of a rule that has several: a message is sent for each. ``on_page`` is the action in
    the words of the page, whose buttons do what a command does; empty if it has the same words. ``cause`` is when the cause
    began, if that is known.
    """

    key: str
    severity: str
    text: str
    action: str
    level: int = 0
    on_page: str = ""
    cause: float | None = None


Rule = Callable[[Situation, Thresholds], Iterable[Alert]]


def alerts_of(situation: Situation, thresholds: Thresholds) -> list[Alert]:
    """Return the alerts of a situation, the most severe first. A rule with a bug is an alert."""
    found = [alert for rule in RULES for alert in _alerts_of_rule(rule, situation, thresholds)]
    cleaned = (
        one._replace(text=clean(one.text, MAX_TEXT), action=clean(one.action, MAX_TEXT), on_page=clean(one.on_page, MAX_TEXT))
        for one in found
    )
    return by_severity(cleaned)


def _alerts_of_rule(rule: Rule, situation: Situation, thresholds: Thresholds) -> list[Alert]:
    try:
        found = [*rule(situation, thresholds)]
        if len(found) > MAX_OF_RULE:
            found.sort(key=lambda one: not (_is_for_all(one) or one.key in situation.firing))
        return found[:MAX_OF_RULE]
    except Exception as problem:  # noqa: BLE001 - the alerts of all other rules, and the page, go on
        name = rule.__name__
        text = f"The rule {name} cannot be evaluated ({type(problem).__name__})."
        return [Alert(f"rule-failed:{name}", WARNING, text, "Please report this; the rule can be switched off.")]


def _is_for_all(alert: Alert) -> bool:
    return alert.severity == CRITICAL or alert.key.startswith(OF_ALL)


def by_severity(alerts: Iterable[Alert]) -> list[Alert]:
    """Return alerts, the most severe first."""
    return sorted(alerts, key=lambda one: -SEVERITIES.index(one.severity))


def in_words(at: float, zone: ZoneInfo, now: float) -> str:
    """Return a time as an operator reads it: the weekday within a week, otherwise the date."""
    moment = datetime.fromtimestamp(at, zone)
    name = "UTC" if str(zone) == "UTC" else moment.tzname() or str(zone)
    return f"{moment:%a %H:%M} {name}" if abs(at - now) < 6 * DAY else f"{moment:%Y-%m-%d %H:%M} {name}"


def in_use(pool: Iterable[Snapshot]) -> list[Snapshot]:
    """Return the credentials that are not paused."""
    return [one for one in pool if not one.credential.terms.paused]


def pool_empty(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """No credential is usable, or none for a model family that clients request."""
    if config.POOL_EMPTY in thresholds.off:
        return
    if found := shortage(situation.pool):
        text = f"{found.words(situation.zone, situation.now)}."
        # A second message is sent if the pool is empty for some model families and then for all.
        yield Alert("pool-empty", CRITICAL, text, found.remedy(), 2 if found.is_whole else 1, found.remedy(on_page=True))


class Shortage(NamedTuple):
    """What a pool cannot serve: every request, or those for some model families. ``ends``: when that changes by itself."""

    pool: Sequence[Snapshot]
    is_whole: bool
    families: Sequence[str]
    ends: float | None

    def words(self, zone: ZoneInfo, now: float) -> str:
        """Return the shortage as a sentence without its full stop."""
        count, paused = len(in_use(self.pool)), len(self.pool) - len(in_use(self.pool))
        scope = "" if self.is_whole else f" for {self.names}"
        which = "its credential is not usable" if count == 1 else f"none of its {count} credentials is usable"
        more = f" ({paused} more {'is' if paused == 1 else 'are'} paused)" if paused else ""
        if not count:
            which, more = "its credential is paused" if paused == 1 else f"its {paused} credentials are paused", ""
        first = (
            f"{'it' if count == 1 else 'the first'} is usable again at {in_words(self.ends, zone, now)}" if self.ends else ""
        )
        return f"The pool is empty{scope}: {which}{more}; {first or 'that does not change by itself'}"

    @property
    def names(self) -> str:
        """The model families in words."""
        return in_list([Scope(family).words for family in self.families])

    def remedy(self, *, on_page: bool = False) -> str:
        """Return what an operator can do, as a sentence: with commands, or with the words of the page's buttons."""
        states = {state_name(one) for one in self.pool}
        add, resume = ("", "") if on_page else (" (`claude-proxy pool add LABEL`)", " (`claude-proxy pool resume LABEL`)")
        ways = [f"add a credential{add}", *([f"resume a paused one{resume}"] if PAUSED in states else [])]
        ways += ["do what the alert of a rejected one says"] if REJECTED in states else []
        ways += ["log in again where a login has expired"] if EXPIRED in states else []
        ways += ["wait for the reset"] if self.ends else []
        found = in_list(ways, "or")
        return f"{found[0].upper()}{found[1:]}."


def shortage(pool: Sequence[Snapshot]) -> Shortage | None:
    """Return what a pool cannot serve now; None if it can serve what clients request, and for a pool without credentials.

    A pool whose credentials are all paused lacks something only if clients request it.
    """
    used, families = in_use(pool), unserved_families(pool)
    is_whole = all(one.disabled or EVERYTHING in one.cooldowns for one in used)
    if not families and not (used and is_whole):
        return None
    of_each = [
        cooldowns
        for one in used
        if not one.disabled
        for cooldowns in [one.blocking(family) for family in families] or [[one.cooldowns.get(EVERYTHING, NO_COOLDOWN)]]
    ]
    ends = [max(one.until for one in found) for found in of_each if not any(one.rejected for one in found)]
    return Shortage(pool, is_whole, families[:MAX_FAMILIES], min(ends, default=None) or None)


def in_list(words: Sequence[str], last: str = "and") -> str:
    """Return words as a list in a sentence."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def pool_low(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """Little is left of the pool, and no reset changes that for hours."""
    pool = in_use(situation.pool)
    if thresholds.pool_low is None or not pool or all(map(is_cooling_down, pool)):
        return
    below, hours = thresholds.pool_low
    left, later = _room(pool, situation.now), _room(pool, situation.now + hours * HOUR)
    if max(left, later) * 100 >= below:
        return
    at = situation.empty_at
    when = f"; at this pace it is empty at {in_words(at, situation.zone, situation.now)}" if at else ""
    text = f"The pool has {left:.0%} left, and no reset changes that within {hours} h{when}.".replace("%", " %")
    yield Alert("pool-low", WARNING, text, "Add a credential, or let a rule send some requests to another model.")


def _room(pool: Iterable[Snapshot], at: float) -> float:
    """Return the mean headroom of a pool; windows and cooldowns that end before ``at`` are over."""

    def later(one: Snapshot) -> Snapshot:
        windows = {(ALL_MODELS, name): window for name, window in general_windows(one.windows).items() if window.reset > at}
        cooldowns = {scope: cooldown for scope, cooldown in one.cooldowns.items() if cooldown.until > at}
        return Snapshot(
            one.credential, one.since, cooldowns, windows, one.sessions, one.extra_until, one.disabled, {}, one.requested
        )

    found = [headroom(later(one)) for one in pool]
    return sum(found) / len(found)


def credential_rejected(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """Anthropic rejected a credential, and no response since then shows that it works again."""
    if config.REJECTED in thresholds.off:
        return
    for one in in_use(situation.pool):
        label, cooldown = one.credential.label, one.cooldowns.get(EVERYTHING)
        if cooldown is not None and cooldown.rejected:
            said = cooldown.explanation.rstrip(".")
            why = f": {cooldown.reason}" + (f', "{said}"' if said else "")
            text = f"Anthropic rejects the credential {label}{why}."
        elif cooldown is None and not _works_again(one, situation.rejected_since.get(label)):
            text = f"Anthropic rejected the credential {label}, and no request has succeeded with it since then."
        else:
            continue
        on_page, cause = _renewal(one, on_page=True), cooldown.recorded_at or None if cooldown else None
        yield Alert(f"credential-rejected:{label}", WARNING, text, _renewal(one), on_page=on_page, cause=cause)


def _works_again(one: Snapshot, since: float | None) -> bool:
    """Return whether a response with limits came after ``since``; True if there is no way to know."""
    return since is None or not one.windows or any(window.seen > since for window in one.windows.values())


def _renewal(one: Snapshot, *, on_page: bool = False) -> str:
    """Return how a credential works again: with commands, or with the words of the page's buttons."""
    if one.credential.renewed:
        return "Start Claude Code in that home and log in again."
    cooldown, label = one.cooldowns.get(EVERYTHING), one.credential.label
    if cooldown is not None and cooldown.reason in UNPAID:
        then = f"try {label} now" if on_page else f"`claude-proxy pool resume {label}`"
        return f"Pay or add credit for that account (in Anthropic's Console: Billing), then {then}."
    is_key = one.credential.kind is Kind.API_KEY
    what = "API key (in Anthropic's Console: API keys)" if is_key else SETUP_TOKEN
    return _replaced(one, what, on_page=on_page)


def _replaced(one: Snapshot, what: str, *, on_page: bool) -> str:
    """Return how a credential is replaced. The page adds any, and removes those of the credentials file."""
    by_page = on_page and one.credential.source not in POOL_SOURCES
    place = (
        f"add it under Credentials with another label, and remove {one.credential.label}"
        if by_page
        else "and replace the old one in the pool"
    )
    return f"Create a new {what}, {place}."


def token_ends(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """A setup token expires soon, or has expired."""
    for one in in_use(situation.pool):
        expiry = token_expiry_of(one)
        if expiry is None:
            continue
        left = (expiry.expires - situation.now) / DAY
        reached = [days for days in thresholds.token_ends if left <= days]
        if not reached:
            continue
        nearest = min(reached)
        severity = CRITICAL if nearest <= ENDS_CRITICAL else WARNING if nearest <= ENDS_WARNING else INFO
        text = f"Credential {one.credential.label}: {expiry.words(situation.now).partition(';')[0]}."
        key, cause = f"token-ends:{one.credential.label}", expiry.expires - max(reached) * DAY
        action, on_page = (_replaced(one, SETUP_TOKEN, on_page=on_page) for on_page in (False, True))
        yield Alert(key, severity, text, action, len(reached), on_page, cause)


def login_expired(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """The login of a Claude Code home has expired."""
    if config.LOGIN_EXPIRED in thresholds.off:
        return
    for one in situation.pool:
        if state_name(one) == EXPIRED:
            label = one.credential.label
            yield Alert(f"login-expired:{label}", WARNING, f"The login of the credential {label} has expired.", _renewal(one))


def budget(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """A share of a budget is spent."""
    for one in sorted(situation.budgets, key=lambda standing: -standing.percent):
        reached = [share for share in thresholds.budget if one.percent >= share]
        if reached:
            yield _budget_alert(one, len(reached), situation)


def _budget_alert(one: Standing, level: int, situation: Situation) -> Alert:
    of_all = one.budget.scope == ALL
    severity = WARNING if one.percent >= BUDGET_WARNING else INFO
    if one.is_reached and of_all:
        severity = CRITICAL
    whose = "all users" if of_all else one.budget.scope.replace(":", " ", 1)
    resets = in_words(one.resets_at, situation.zone, situation.now)
    effect = "; its requests are refused" if one.is_reached else ""
    text = f"{one.percent} % of the {one.period.value}'s budget of {whose} is spent{effect}. It resets at {resets}."
    scope = one.budget.scope
    action = f"`claude-proxy budget set {scope} {one.period.value}=USD` changes it." if one.percent >= BUDGET_WARNING else ""
    on_page = "Change it, if it should be larger." if action else ""
    none = "Nothing needs to be done yet."
    return Alert(f"budget:{scope}:{one.period.value}", severity, text, action or none, level, on_page)


def error_rate(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """Many requests fail because of the proxy or a provider."""
    found = situation.errors
    if thresholds.error_rate is None:
        return
    above, requests, _ = thresholds.error_rate
    if found.requests < requests or found.percent < above:
        return
    severity = CRITICAL if found.percent >= CRITICAL_ERRORS else WARNING
    text = f"{found.percent} % of the {found.requests} requests of the last {found.minutes} minutes failed."
    where = "The list of requests{} shows which failed, and why."
    yield Alert("error-rate", severity, text, where.format(" on the page /pool"), on_page=where.format(""))


def store_away(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """The store that the processes share, or the history's database, is not available."""
    if config.STORE_AWAY in thresholds.off:
        return
    if situation.history_away:
        text = "The history cannot be written: usage is kept in memory, which a restart loses."
        yield Alert("history-away", WARNING, text, "Check the disk of the state folder; the log has the reason.")
    if situation.store.kind and situation.store.unavailable:
        text = f"{situation.store.kind} is not available: each process continues with its own state, which a restart loses."
        yield Alert("store-away", WARNING, text, "Check the state file's disk, or the Redis; the log has the reason.")


def bad_release(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """A release of LiteLLM is installed that steals credentials."""
    if config.BAD_RELEASE not in thresholds.off and situation.bad_releases:
        text = f"{'; '.join(situation.bad_releases)}."
        yield Alert("litellm-release", CRITICAL, text, "Stop the proxy, make a new environment, and replace every credential.")


def pool_problem(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """The pool's files have errors, so that a change of them does not apply."""
    if config.PROBLEM not in thresholds.off and situation.problems:
        more = f" (and {len(situation.problems) - 1} more)" if len(situation.problems) > 1 else ""
        text = f"The files of the pool have errors: {situation.problems[0]}{more}."
        yield Alert("pool-problem", WARNING, text, "`claude-proxy check` shows each error and its remedy.")


def config_problem(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """A changed config.yaml has errors, so that the old one applies."""
    if config.CONFIG_PROBLEM not in thresholds.off and situation.config_refused:
        text = "config.yaml has changed and is not applied: the proxy keeps its current configuration."
        yield Alert(
            "config-problem", WARNING, text, "`claude-proxy check` shows each error and its remedy; the log has the reason."
        )


def no_credential(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """Models need a credential of the pool, and there is none."""
    names = situation.without_credential
    if config.NO_CREDENTIAL not in thresholds.off and names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        text = f"The pool has no credential, which these models need: {', '.join(names[:3])}{more}."
        yield Alert("no-credential", WARNING, text, "Add one: `claude-proxy pool add`.", on_page="Add one.")


def open_proxy(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """Everyone may use the proxy."""
    if config.OPEN_PROXY not in thresholds.off and situation.is_open:
        text = "This proxy is open: everyone who can reach its port can use its models and credentials."
        yield Alert("open-proxy", INFO, text, "Set PROXY_STATIC_TOKEN to a token, or add users (`claude-proxy user add`).")


def unpriced_model(situation: Situation, thresholds: Thresholds) -> Iterator[Alert]:
    """Responses of a model cost an unknown amount, which no budget counts."""
    if config.UNPRICED in thresholds.off:
        return
    severity = WARNING if situation.budgets else INFO
    for model, count in sorted(situation.unpriced.items(), key=lambda item: -item[1]):
        noun = "response" if count == 1 else "responses"
        text = f"No price is known for the model {model}: {count:.0f} {noun} of the last seven days without a known cost."
        yield Alert(
            f"unpriced-model:{model}",
            severity,
            text,
            "Add its price, or 0, under `claude_proxy: prices:` in config.yaml; this alert then ends.",
        )


RULES: tuple[Rule, ...] = (
    bad_release,
    pool_empty,
    pool_low,
    credential_rejected,
    login_expired,
    token_ends,
    store_away,
    error_rate,
    no_credential,
    config_problem,
    pool_problem,
    budget,
    unpriced_model,
    open_proxy,
)
