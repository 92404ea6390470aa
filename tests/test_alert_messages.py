"""alerts/messages.py: the texts of notifications."""

import pytest

from claude_proxy.alerts.firing import Notice
from claude_proxy.alerts.messages import MAX_NOTICES, MAX_TITLE, Message, messages, plain, trial
from claude_proxy.alerts.rules import Alert
from claude_proxy.config.alerts import Alerts

EMPTY = Alert("pool-empty", "critical", "The pool is empty.", "Add a credential.")
LOW = Alert("pool-low", "warning", "The pool is low.", "Add one.")
PAGE = Alerts(name="Team proxy", page="https://proxy.example.org/pool")


def texts(*notices, config=PAGE):
    return [message for message, _ in messages(notices, config)]


def test_one_alert():
    """A message about one alert has its text as the title, and says what to do and where to look."""
    body = "Critical: The pool is empty.\nWhat to do: Add a credential.\nhttps://proxy.example.org/pool"
    assert texts(Notice(EMPTY, 1.0)) == [Message("Team proxy: The pool is empty.", body, "failure")]


def test_several_alerts_are_one_message_and_ends_another():
    """What fires is one message, of the kind of the most severe one; what is over is another."""
    fires, over = texts(Notice(EMPTY, 1.0), Notice(LOW, 1.0), Notice(LOW, 1.0, is_over=True), config=Alerts())
    assert (fires.title, fires.kind) == ("claude-proxy: 2 alerts", "failure")
    assert fires.body.splitlines()[2] == "Warning: The pool is low."
    assert over == Message("claude-proxy: over: The pool is low.", "Over: The pool is low.", "success")


def test_messages_are_bounded():
    """A storm of alerts is one message of bounded length."""
    (message,) = texts(*(Notice(LOW._replace(key=str(number), text="x" * 300), 1.0) for number in range(90)))
    assert f"And {90 - MAX_NOTICES} more." in message.body
    (long,) = texts(Notice(LOW._replace(text="x" * 300), 1.0))
    assert len(long.title) == MAX_TITLE


WORDS = " ".join(["word"] * 60)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (
            "The pool is empty: none of its 3 credentials is usable (2 more are paused); the first is usable again at 02:32",
            None,
        ),
        (f"The pool is empty for {'x' * 100}; {WORDS}", f"The pool is empty for {'x' * 100}"),
        (WORDS, f"{' '.join(['word'] * 37)}…"),
        ("x" * 300, f"{'x' * 187}…"),
    ],
    ids=["whole", "a-clause", "a-word", "no-words"],
)
def test_a_title_is_whole_or_ends_with_a_clause_or_a_word(text, title):
    """A title is not cut inside a word, unless it has none, and the body has the whole text."""
    (message,) = texts(Notice(LOW._replace(text=text), 1.0))
    assert message.title == f"Team proxy: {title or text}"
    assert len(message.title) <= MAX_TITLE
    assert text in message.body


@pytest.mark.parametrize(
    "text", ["<!channel> hello", "@everyone", "@here", "<@U123>", "[x](https://example.org)", "<at>x</at>"]
)
def test_no_name_mentions_anybody(text):
    """A model's name, which a client may have made up, calls nobody in a chat and links nowhere."""
    found = plain(text)
    assert not any(mark in found for mark in ("<", ">", "@everyone", "@here", "]("))
    assert plain("anna@example.org uses claude-*") == "anna@example.org uses claude-*"


def test_the_message_of_a_trial():
    """A test says that it is one."""
    assert trial(PAGE).title == "Team proxy: test"
    assert "https://proxy.example.org/pool" in trial(PAGE).body
