"""config/alerts.py: what operators are alerted to, and where."""

import pytest

from claude_proxy.config.alerts import (
    CRITICAL,
    INFO,
    NUMBERS,
    RULE_NAMES,
    WARNING,
    Alerts,
    Thresholds,
    missing,
    mistakes,
    secrets,
)

SLACK = "slack://TAAAAAAAA/BBBBBBBBB/made-up-token-of-slack/#ops"


def config(**section):
    return {"claude_proxy": {"alerts": section}}


def alerts(environ=None, **section):
    assert [*mistakes(config(**section))] == []
    return Alerts.of(config(**section), environ or {})


def test_without_the_section_every_rule_applies_and_nothing_is_sent():
    """The defaults are the rules that are documented, and no target."""
    assert Alerts.of({}, {}) == Alerts((), "claude-proxy", "", Thresholds())
    assert Thresholds() == alerts(rules=dict.fromkeys(RULE_NAMES, True)).thresholds


def test_each_rule_can_be_switched_off():
    """A rule that is false is off."""
    off = alerts(rules=dict.fromkeys(RULE_NAMES, False)).thresholds
    assert (off.pool_low, off.token_ends, off.budget, off.error_rate) == (None, (), (), None)
    assert len(off.off) == len(RULE_NAMES) - 4


def test_rules_are_tuned():
    """What is written applies; what is left out keeps its default."""
    found = alerts(
        rules={"pool_low": {"below": 25}, "budget": [50], "token_ends": [14], "error_rate": {"minutes": 5}}
    ).thresholds
    assert (found.pool_low, found.budget, found.token_ends, found.error_rate) == ((25, 2), (50,), (14,), (20, 20, 5))


def test_targets_have_names():
    """A target without a name has that of its kind, with a number for a second one; a web address that of its host."""
    found = alerts(
        to=[SLACK, SLACK, "https://hooks.example.org/x", {"url": "json://127.0.0.1", "name": "Ops", "severity": "critical"}]
    ).targets
    assert [one.name for one in found] == ["slack", "slack 2", "hooks.example.org", "Ops"]
    assert [one.wants(WARNING) for one in found] == [True, True, True, False]
    assert found[3].wants(CRITICAL)
    assert found[0].wants(INFO)


@pytest.mark.parametrize(
    ("url", "value", "found"),
    [
        ("os.environ/URL", "discord://1/2", "discord://1/2"),
        ("mailto://ops:os.environ/URL@mail.example.org", "p@ss/word", "mailto://ops:p%40ss%2Fword@mail.example.org"),
        ("slack://os.environ/URL/#ops", "T/B/x y", "slack://T/B/x%20y/#ops"),
    ],
)
def test_an_address_refers_to_variables(url, value, found):
    """A reference is replaced wherever it stands; inside an address its value is escaped."""
    assert [one.url.reveal() for one in alerts({"URL": value}, to=[url]).targets] == [found]


def test_a_target_that_lacks_its_variable_is_left_out():
    """The proxy starts without it, and the others are notified."""
    assert [one.name for one in alerts({}, to=["os.environ/URL", {"url": SLACK, "name": "b"}]).targets] == ["b"]
    assert missing("mailto://a:os.environ/ONE@os.environ/TWO", {"ONE": "1", "TWO": " "}) == ("TWO",)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("x", "should be a mapping"),
        ({"too": []}, "too is not known; did you mean to?"),
        ({"to": SLACK}, "should be a list"),
        ({"to": ["made-up-secret"]}, "entry 1 should be an address such as"),
        ({"to": [{"name": "x"}]}, "entry 1 should be an address such as"),
        ({"to": [SLACK, {"url": SLACK, "severty": "info"}]}, "entry 2: severty is not known; did you mean severity?"),
        ({"to": [{"url": SLACK, "severity": "bad"}]}, "severity: should be one of info, warning, critical"),
        ({"to": [{"url": SLACK, "name": ""}]}, "name: should be a text"),
        ({"name": 3}, "name: should be a text"),
        ({"url": "nowhere"}, "url: should be the address of the page"),
        ({"rules": []}, "rules: should be a mapping"),
        ({"rules": {"pool_lo": False}}, "did you mean pool_low?"),
        ({"rules": {"pool_low": 10}}, "pool_low: should be {below: 10, hours: 2}, or false"),
        ({"rules": {"pool_low": {"below": 0}}}, "below: should be a whole number from 1 to 99"),
        ({"rules": {"pool_low": {"under": 1}}}, "under is not known"),
        ({"rules": {"budget": [101]}}, "budget: should be per cent of the budget"),
        ({"rules": {"token_ends": []}}, "token_ends: should be days"),
        ({"rules": {"pool_empty": 1}}, "pool_empty: should be true or false"),
    ],
)
def test_mistakes(section, words):
    """Each error is one message with the way to write it, and no address."""
    (found,) = mistakes({"claude_proxy": {"alerts": section}})
    assert words in found
    assert "made-up" not in found


def test_a_section_in_the_wrong_place():
    """A section at the beginning of a line is reported."""
    assert "belongs under claude_proxy" in next(mistakes({"alerts": {}}))


def test_the_defaults_of_numbers_are_those_of_the_thresholds():
    """The two places in which a default is written agree."""
    assert tuple(one.default for one in NUMBERS["pool_low"].values()) == Thresholds().pool_low
    assert tuple(one.default for one in NUMBERS["error_rate"].values()) == Thresholds().error_rate


def test_no_secret_is_shown():
    """A target hides its address, and the redaction gets the address, its password and its tokens."""
    (found,) = alerts(to=["mailto://ops:made-up-pa%73s@mail.example.org/x"]).targets
    assert "made-up" not in repr(found)
    hidden = {one.reveal() for one in secrets([found, *alerts(to=[SLACK]).targets])}
    assert {"made-up-pa%73s", "made-up-pass", "made-up-token-of-slack", SLACK} <= hidden
