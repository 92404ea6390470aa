"""check/alerts.py: whether alerts can arrive; nothing is sent."""

import pytest
import yaml
from test_check import EXAMPLE, facts, only, said

from claude_proxy.check import alerts as check
from claude_proxy.check.alerts import alerts

SLACK = "slack://TAAAAAAAA/BBBBBBBBB/cccccccccccccccccccccccc/"


@pytest.fixture(autouse=True)
def _services(monkeypatch):
    """What apprise says of an address, without a process; a message in place of None would be sent."""

    def deliver(found):
        assert all(message is None for _, message in found)
        return ["apprise does not know an address of this form" if "nonsense" in url.reveal() else "" for url, _ in found]

    monkeypatch.setattr(check, "deliver_now", deliver)


def with_targets(*targets, **environ):
    return facts(yaml.safe_load(EXAMPLE) | {"claude_proxy": {"alerts": {"to": [*targets]}}}, **environ)


@pytest.mark.parametrize(
    ("target", "environ", "says"),
    [
        ("os.environ/MADE_UP", {}, ["warning", "lacks MADE_UP; no alert is sent to it", "set MADE_UP in .env"]),
        (
            "os.environ/MADE_UP",
            {"MADE_UP": "nonsense://x"},
            ["error", "cannot be used: apprise does not know", "docs/alerts.md"],
        ),
        (SLACK, {}, ["warning", "a token in clear text", "write os.environ/NAME here"]),
        ({"url": "mailto://a:made-up-password@example.org"}, {}, ["warning", "a token in clear text"]),
        ("json://hooks.example.org/x", {}, ["warning", "sent to hooks.example.org unencrypted", "write jsons:// or https://"]),
        ("os.environ/MADE_UP", {"MADE_UP": "http://hooks.example.org/x"}, ["warning", "sent to hooks.example.org unencrypted"]),
    ],
)
def test_addresses(target, environ, says):
    """An address that cannot be used, or that shows its token, is reported at its line, without the address."""
    findings = [*alerts(with_targets("jsons://example.org/x", target, **environ))]
    only(iter(findings), *says)
    assert "cccc" not in str(said(iter(findings)))
    assert "made-up-password" not in str(said(iter(findings)))


def test_right_addresses():
    """Addresses that are complete are not reported, and without any nothing is checked."""
    right = ["os.environ/MADE_UP", "jsons://example.org/x", "json://127.0.0.1:9/x", "mailto://a:os.environ/P@example.org"]
    assert said(alerts(with_targets(*right, MADE_UP=SLACK, P="made-up-password"))) == []
    assert said(alerts(facts())) == []


def test_a_section_with_errors_is_reported_elsewhere():
    """The start reports them; this check does not add to that."""
    assert said(alerts(with_targets("no address"))) == []
