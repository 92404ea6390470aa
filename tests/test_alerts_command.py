"""cli/alerts_command.py: what needs attention, and a test of the notifications."""

import json

import pytest
import respx
from command_line import refused, run

from claude_proxy.cli import alerts_command, main

URL = "http://127.0.0.1:4000"
MASTER = "sk-made-up-master"
ALERT = {
    "key": "pool-low", "severity": "warning", "text": "The pool has 5 % left.", "action": "Add a credential.",
    "since": 1796079600.0,
}  # fmt: skip
OVERVIEW = {"sentence": "All is well: 2 of 2 credentials are usable."}
CONFIG = """
model_list: [{model_name: demo, litellm_params: {model: anthropic/demo, api_base: "http://demo.invalid"}}]
litellm_settings: {callbacks: [request_transformer.proxy_handler_instance]}
general_settings: {custom_auth: custom_auth.user_api_key_auth}
claude_proxy:
  alerts:
    name: Team
    to: [os.environ/MADE_UP_SLACK, {name: Ops, url: "json://127.0.0.1:9/made-up-token"}]
"""


@pytest.fixture
def proxy(project):
    (project / ".env").write_text(f"LITELLM_MASTER_KEY={MASTER}\n")
    with respx.mock(using="httpx", assert_all_called=False) as mock:
        yield mock.get(f"{URL}/pool")


@pytest.fixture
def configured(project, monkeypatch):
    """A project with two targets; ``sent`` has what is sent to them, and ``reasons`` what they respond."""
    (project / ".env").write_text(f"LITELLM_MASTER_KEY={MASTER}\nMADE_UP_SLACK=slack://made-up-slack\n")
    (project / "config.yaml").write_text(CONFIG)
    sent, reasons = [], ["", ""]

    def deliver(found):
        sent.extend((url.reveal(), message.title) for url, message in found)
        return reasons[: len(found)]

    monkeypatch.setattr(alerts_command, "deliver_now", deliver)
    return sent, reasons


def test_alerts_are_a_table(project, proxy, capsys):
    """Each alert has a row with its severity, since when, and what to do."""
    proxy.respond(json={"alerts": [ALERT], "overview": OVERVIEW})
    run(project, "alerts")
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "severity since_UTC alert what_to_do",
        "warning 2026-11-30 23:00 The pool has 5 % left. Add a credential.",
    ]


def test_without_alerts_the_state_is_a_sentence(project, proxy, capsys):
    """Nothing to do is said in words; as JSON it is an empty list."""
    proxy.respond(json={"alerts": [], "overview": OVERVIEW})
    run(project, "alerts")
    assert capsys.readouterr().err == "All is well: 2 of 2 credentials are usable.\n"
    run(project, "alerts", "--json")
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("data", [{}, {"alerts": [{}], "overview": OVERVIEW}, [], {"alerts": 3, "overview": OVERVIEW}])
def test_another_program(project, proxy, capsys, data):
    """What is not this proxy is an error in words."""
    proxy.respond(json=data)
    assert refused(capsys, project, "alerts")


def test_a_message_is_sent_to_each_target(project, configured, capsys):
    """Each target gets a message, and a line with its name and no address."""
    sent, _ = configured
    run(project, "alerts", "test")
    assert sent == [("slack://made-up-slack", "Team: test"), ("json://127.0.0.1:9/made-up-token", "Team: test")]
    assert capsys.readouterr().out == "sent      slack\nsent      Ops\n"


def test_a_target_that_does_not_accept_it(project, configured, capsys):
    """The reason is shown, and the exit code is 1."""
    _, reasons = configured
    reasons[1] = "A Connection error occurred"
    with pytest.raises(SystemExit) as caught:
        main.main(["--project", str(project), "alerts", "test", "--json"])
    assert caught.value.code == 1
    assert json.loads(capsys.readouterr().out) == [
        {"target": "slack", "sent": True, "reason": ""},
        {"target": "Ops", "sent": False, "reason": "A Connection error occurred"},
    ]


def test_a_variable_that_is_not_set(project, configured, capsys):
    """A target that lacks its variable is named, and the others get their message."""
    (project / ".env").write_text(f"LITELLM_MASTER_KEY={MASTER}\n")
    with pytest.raises(SystemExit) as caught:
        main.main(["--project", str(project), "alerts", "test"])
    assert caught.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "sent      Ops",
        "not sent  MADE_UP_SLACK: this variable is not set, and an address refers to it",
    ]


def test_without_targets(project, capsys):
    """It is said where targets are set."""
    (project / ".env").write_text(f"LITELLM_MASTER_KEY={MASTER}\n")
    (project / "config.yaml").write_text(CONFIG.partition("claude_proxy:")[0])
    assert "docs/alerts.md" in " ".join(refused(capsys, project, "alerts", "test"))
