"""cli/user_command.py: who gets a token, and who loses one."""

import io
import json
import os
import sys

from command_line import mode_of, run

from claude_proxy.config.settings import Settings


def test_user_add(peopled, capsys):
    """``user add`` prints a block with a new token, this once: the file, the list and later blocks hold none."""
    run(peopled, "user", "add", "anna", "--url", "https://proxy.example.org")
    printed = capsys.readouterr()
    block = json.loads(printed.out)["env"]
    token = block["ANTHROPIC_AUTH_TOKEN"]
    assert block["ANTHROPIC_BASE_URL"] == "https://proxy.example.org"
    assert "shown only this once" in printed.err
    users = peopled / ".state" / "users"
    assert mode_of(users) == 0o600
    run(peopled, "user", "list")
    run(peopled, "settings", "--user", "anna")
    later = capsys.readouterr()
    assert "anna  20" in later.out
    assert later.out.startswith("user  since       place\n")
    assert json.loads(later.out[later.out.index("{") :])["env"]["ANTHROPIC_AUTH_TOKEN"] == "the-token-of-anna"
    assert "cannot be shown again" in later.err
    assert token not in f"{printed.err}{later}{users.read_text()}"
    book = Settings.parse(os.environ).users
    assert [user.name for user in book.all_users()] == ["anna"]


def test_user_add_from_standard_input(peopled, capsys, monkeypatch):
    """A token of one's own need not stand in the list of processes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("made-up-and-long-enough\n"))
    run(peopled, "user", "add", "anna", "--token", "-")
    assert json.loads(capsys.readouterr().out)["env"]["ANTHROPIC_AUTH_TOKEN"] == "made-up-and-long-enough"


def test_user_remove_works_with_broken_settings(peopled, capsys):
    """Taking somebody out needs nothing else to be right."""
    run(peopled, "user", "add", "anna")
    (peopled / ".env").write_text("PORT=http\n")
    (peopled / "config.yaml").write_text("model_list: []\n")
    run(peopled, "user", "remove", "anna")
    capsys.readouterr()
    run(peopled, "user", "list")
    assert capsys.readouterr().out == ""


def test_user_remove_names_what_is_left_in_config_yaml(peopled, capsys):
    """Entries of the user stay in config.yaml, and each is named with its line; case makes no difference."""
    config = peopled / "config.yaml"
    entries = (
        "claude_proxy:\n  users:\n    Anna: {models: [demo]}\n  managed_settings:\n    users:\n      anna: {model: demo}\n"
    )
    config.write_text(f"{config.read_text()}\n{entries}")
    first = len(config.read_text().splitlines()) - len(entries.splitlines())
    run(peopled, "user", "add", "anna")
    run(peopled, "user", "add", "ben")
    capsys.readouterr()
    run(peopled, "user", "remove", "anna")
    left = "still names anna. Remove the entry, unless it is for a later user of that name."
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"config.yaml line {first + 3}: claude_proxy: users {left}",
        f"config.yaml line {first + 6}: claude_proxy: managed_settings: users {left}",
    ]
    run(peopled, "user", "remove", "ben")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_list_without_users(peopled, capsys):
    """Without users the list says whether the file is missing, which is what a deleted one looks like."""
    path = peopled / ".state" / "users"
    run(peopled, "user", "list")
    missing = "There is no users file; no user can log in with a token of their own. `claude-proxy user add NAME` adds one.\n"
    assert capsys.readouterr().err == missing
    run(peopled, "user", "add", "anna")
    run(peopled, "user", "remove", "anna")
    capsys.readouterr()
    run(peopled, "user", "list")
    assert capsys.readouterr().err == "There are no users. `claude-proxy user add NAME` adds one.\n"
    path.unlink()
    run(peopled, "user", "list")
    assert capsys.readouterr().err == missing


def test_the_list_as_json(peopled, capsys):
    """``user list --json`` has a value for each user, and an empty list without any."""
    run(peopled, "user", "list", "--json")
    assert json.loads(capsys.readouterr().out) == []
    run(peopled, "user", "add", "anna")
    os.environ["PROXY_USER_TOKENS"] = "ben=made-up-and-long-enough"
    capsys.readouterr()
    run(peopled, "user", "list", "--json")
    ben, anna = json.loads(capsys.readouterr().out)
    assert ben == {"name": "ben", "since": None, "place": "PROXY_USER_TOKENS"}
    assert (anna["name"], anna["place"]) == ("anna", str(peopled / ".state" / "users"))
