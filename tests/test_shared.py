"""signin/shared.py: what every process knows of the sign-ins of all."""

from claude_proxy.signin import shared as module
from claude_proxy.signin.shared import KEYS, SharedSignIns
from claude_proxy.state.rows import Row


def test_rows_of_sign_ins_are_kept():
    """A process keeps the newest row of each sign-in, and the keys, for a store that has lost them; rows of other parts not."""
    shared = SharedSignIns()
    rows = [Row("signin:a", 2.0, "new"), Row("signin:a", 1.0, "old"), Row(KEYS, 0.0, "keys"), Row("usage:x", 1.0, "{}")]
    shared.merge(rows)
    assert sorted(row.value for row in shared.everything()) == ["keys", "new"]
    assert shared.changed() == []


def test_a_row_that_the_store_did_not_take():
    """It is pushed once, by the next exchange with the store, and applies here at once."""
    shared = SharedSignIns()
    row = Row("signin:a", 2.0, "new")
    shared.push_later(row)
    assert shared.known("a") == row
    assert [shared.changed(), shared.changed()] == [[row], []]


def test_an_ended_sign_in_does_not_come_back():
    """Once a sign-in has ended, no row of it is kept, whatever comes in which order."""
    for order in (slice(None), slice(None, None, -1)):
        shared = SharedSignIns()
        shared.merge([Row("signin:a", 2.0, "new"), Row("signout:a", 1.0, "{}")][order])
        assert shared.has_ended("a")
        assert not shared.has_ended("b")
        assert [row.key for row in shared.everything()] == ["signout:a"]


def test_memory_is_bounded(monkeypatch):
    """Beyond the limit, the oldest rows are dropped."""
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    shared = SharedSignIns()
    shared.merge([Row(f"signin:{number}", float(number), "") for number in range(5)])
    shared.merge([Row(f"signout:x{number}", float(number), "") for number in range(5)])
    assert {row.key for row in shared.everything()} == {
        "signin:2", "signin:3", "signin:4", "signout:x2", "signout:x3", "signout:x4",
    }  # fmt: skip
