"""alerts/firing.py: which alerts fire, since when, and who has been notified of them."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_proxy.alerts.firing import GIVE_UP_SECONDS, HOLD_SECONDS, KEY, MAX_ALERTS, OVER_SECONDS, FiringAlerts
from claude_proxy.alerts.rules import Alert
from claude_proxy.config.alerts import Target
from claude_proxy.secret import Secret
from claude_proxy.state.rows import Row

NOW = 1_800_000_000.0
OPS = Target("ops", Secret("json://made-up"))
CALLED = Target("called", Secret("json://made-up"), "critical")
LOW = Alert("pool-low", "warning", "The pool is low.", "Add one.")
BUDGET = Alert("budget:all:day", "info", "75 % is spent.", "Nothing.", 1)


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def firing(clock):
    return FiringAlerts(clock)


def sent(firing, target=OPS):
    """What a target is notified of now: keys, with ``over`` for an end."""
    due = firing.due(target)
    firing.record_sent(target.name, due)
    return [f"{'over ' if one.is_over else ''}{one.alert.key}" for one in due]


def pass_time(firing, clock, seconds, *alerts):
    firing.update(alerts)
    clock.now += seconds
    firing.update(alerts)


def test_an_alert_is_sent_once_and_once_when_it_is_over(firing, clock):
    """One notice when it has fired for a while, and one when it has been over for a while."""
    firing.update([LOW])
    assert sent(firing) == []
    pass_time(firing, clock, HOLD_SECONDS, LOW)
    assert [sent(firing), sent(firing)] == [["pool-low"], []]
    pass_time(firing, clock, 86400, LOW)
    assert sent(firing) == []
    pass_time(firing, clock, OVER_SECONDS - 1)
    assert sent(firing) == []
    pass_time(firing, clock, 1)
    assert [sent(firing), sent(firing)] == [["over pool-low"], []]


def test_what_comes_back_was_never_over(firing, clock):
    """An alert that fires again before its end was sent causes no message, and its time goes on."""
    pass_time(firing, clock, HOLD_SECONDS, LOW)
    sent(firing)
    pass_time(firing, clock, OVER_SECONDS - 1)
    pass_time(firing, clock, OVER_SECONDS, LOW)
    assert sent(firing) == []
    assert firing.since("pool-low") == NOW


def test_a_short_alert_is_not_sent(firing, clock):
    """What is over before the time of hold was not worth a message, and neither is its end."""
    pass_time(firing, clock, HOLD_SECONDS - 1, LOW)
    pass_time(firing, clock, OVER_SECONDS)
    assert sent(firing) == []
    assert json.loads(firing.everything()[0].value if firing.changed() else "{}") == {}


def test_each_level_is_sent_once(firing, clock):
    """A budget at 75, 95 and 100 per cent causes three messages, and one end."""
    for level in (1, 2, 3):
        pass_time(firing, clock, HOLD_SECONDS, BUDGET._replace(level=level))
        assert [sent(firing), sent(firing)] == [[BUDGET.key], []]
    pass_time(firing, clock, HOLD_SECONDS, BUDGET._replace(level=1))
    assert sent(firing) == []
    pass_time(firing, clock, HOLD_SECONDS, BUDGET._replace(level=2))
    assert sent(firing) == [BUDGET.key]
    pass_time(firing, clock, OVER_SECONDS)
    assert [sent(firing), sent(firing)] == [[f"over {BUDGET.key}"], []]


def test_a_target_gets_what_it_wants(firing, clock):
    """A target for critical alerts gets no other one, nor its end."""
    critical = Alert("pool-empty", "critical", "The pool is empty.", "Add one.")
    pass_time(firing, clock, HOLD_SECONDS, LOW, critical)
    assert sent(firing, CALLED) == ["pool-empty"]
    assert sent(firing) == ["pool-empty", "pool-low"]
    pass_time(firing, clock, OVER_SECONDS)
    assert sent(firing, CALLED) == ["over pool-empty"]
    assert sorted(sent(firing)) == ["over pool-empty", "over pool-low"]


def test_the_end_of_what_was_not_sent_is_not_sent(firing, clock):
    """A target that could not be reached while an alert fired is not notified that it is over."""
    pass_time(firing, clock, HOLD_SECONDS, LOW)
    sent(firing)
    pass_time(firing, clock, OVER_SECONDS)
    assert sent(firing, Target("away", Secret("json://made-up"))) == []


def test_an_end_that_cannot_be_sent_is_forgotten(firing, clock):
    """After some hours nobody needs to know that an alert was over."""
    pass_time(firing, clock, HOLD_SECONDS, LOW)
    sent(firing)
    pass_time(firing, clock, GIVE_UP_SECONDS)
    assert sent(firing) == []


def test_a_restart_sends_nothing_again(firing, clock):
    """The next process knows since when an alert fires and who was notified."""
    pass_time(firing, clock, HOLD_SECONDS, LOW)
    sent(firing)
    after = FiringAlerts(clock)
    after.merge(firing.changed())
    clock.now += 60
    after.update([LOW])
    assert sent(after) == []
    assert after.since("pool-low") == NOW
    assert after.of_prefix("pool") == [LOW]
    assert after.since_of("pool-") == {"low": NOW}
    pass_time(after, clock, OVER_SECONDS)
    assert sent(after) == ["over pool-low"]


def test_a_target_that_is_no_longer_there_is_forgotten(firing, clock):
    """An alert does not stay recorded for a target that was removed."""
    pass_time(firing, clock, HOLD_SECONDS, LOW)
    sent(firing)
    firing.forget_targets(["another"])
    pass_time(firing, clock, OVER_SECONDS)
    assert json.loads(firing.changed()[0].value) == {}


def test_the_later_state_wins(firing, clock):
    """An older row changes nothing."""
    pass_time(firing, clock, HOLD_SECONDS, LOW)
    (row,) = firing.changed()
    assert firing.changed() == []
    firing.merge([Row(KEY, row.stamp - 1, "{}"), Row("other", NOW + 5, "{}")])
    assert firing.everything() == [row]


def test_a_clock_that_was_ahead(clock):
    """What was recorded by a clock that was ten years ahead for a moment is sent and over as ever, in every process."""
    first, second = FiringAlerts(clock), FiringAlerts(clock)
    clock.now += 10 * 365 * 86400
    first.update([LOW])
    clock.now = NOW
    second.merge(first.changed())
    pass_time(second, clock, HOLD_SECONDS, LOW)
    assert sent(second) == ["pool-low"]
    first.merge(second.changed())
    pass_time(first, clock, OVER_SECONDS)
    assert sent(first) == ["over pool-low"]


def test_the_number_of_alerts_is_bounded(firing, clock):
    """However many alerts there are, a bounded number is recorded."""
    firing.update([Alert(f"k{number}", "info", "x", "y") for number in range(MAX_ALERTS + 20)])
    assert len(json.loads(firing.changed()[0].value)) == MAX_ALERTS


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["severity", "level", "told", "over", "since", "text", "action", "x"]), inner, max_size=7
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON | st.text(max_size=20))
def test_whatever_a_row_contains(value):
    """No row of another version, or of a wrong writer, ends the alerts."""
    firing = FiringAlerts(lambda: NOW)
    text = value if isinstance(value, str) else json.dumps(value)
    firing.merge([Row(KEY, NOW, text), Row(KEY, NOW + 1, json.dumps({"key": value}))])
    firing.update([LOW])
    firing.due(OPS)
