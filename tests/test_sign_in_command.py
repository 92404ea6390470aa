"""cli/sign_in_command.py: who has signed in, and what ends a sign-in."""

import asyncio
import json
import os

import pytest
from command_line import mode_of, run

from claude_proxy.cli import main
from claude_proxy.config.settings import Settings
from claude_proxy.config.sign_in import SignIn as Config
from claude_proxy.config.signing_keys import Place
from claude_proxy.secret import Secret
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.sessions import InvalidGrant
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.state.sqlite import SqliteStore


def with_store(project, use):
    """Run something beside the command, as the running proxy would."""

    async def used():
        store = SqliteStore(project / ".state" / "pool.sqlite3")
        try:
            sign_in = SignIn(
                store,
                Place(project / ".state" / "signing-keys"),
                Settings.parse(os.environ).users,
                lambda: Config(provider=True),
            )
            return await use(sign_in)
        finally:
            await store.close()

    return asyncio.run(used())


async def signed_in(sign_in, identity):
    started = await sign_in.start("")
    assert await sign_in.codes.approve(started.user_code, identity)
    return await sign_in.redeem(started.device_code)


@pytest.fixture
def tokens(peopled):
    (peopled / ".state").mkdir(mode=0o700, exist_ok=True)
    return with_store(peopled, lambda sign_in: signed_in(sign_in, Identity("ben@example.org", ("team-a", "team-b"))))


def failed(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 1
    return capsys.readouterr().err


def test_the_list(peopled, tokens, capsys):
    """The list has a line for each sign-in, as text and as JSON, and no secret."""
    run(peopled, "sign-in", "list")
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == ["user", "groups", "with", "since", "last_refresh"]
    assert "ben@example.org  team-a team-b  identity provider  20" in text
    run(peopled, "sign-in", "list", "--json")
    shown = capsys.readouterr().out
    (row,) = json.loads(shown)
    assert set(row) == {"user", "groups", "with", "since", "last_refresh"}
    assert tokens.refresh_token.reveal() not in text + shown


def test_nobody_has_signed_in(peopled, capsys):
    """Without a sign-in the list says so, and JSON is an empty list."""
    run(peopled, "sign-in", "list")
    assert "Nobody has signed in" in capsys.readouterr().err
    run(peopled, "sign-in", "list", "--json")
    assert json.loads(capsys.readouterr().out) == []


def test_revoke(peopled, tokens, capsys):
    """``revoke`` ends the sign-ins of a user, however the name is written; a second time there is nothing to end."""
    run(peopled, "sign-in", "revoke", "Ben@example.org")
    assert "Ended 1 sign-in of Ben@example.org" in capsys.readouterr().err
    with pytest.raises(InvalidGrant):
        with_store(peopled, lambda sign_in: sign_in.refresh(tokens.refresh_token))
    assert "has no sign-in" in failed(capsys, "--project", str(peopled), "sign-in", "revoke", "ben@example.org")


def test_rotate_keys(peopled, tokens, capsys):
    """A rotation keeps the tokens of the old key, and with --discard-old it does not; the file stays the owner's."""

    async def accepted(sign_in):
        return sign_in.tokens.find(Secret(tokens.access_token.reveal())) is not None

    run(peopled, "sign-in", "rotate-keys")
    assert with_store(peopled, accepted)
    assert mode_of(peopled / ".state" / "signing-keys") == 0o600
    run(peopled, "sign-in", "rotate-keys", "--discard-old")
    assert "every user has to sign in again" in capsys.readouterr().err
    assert not with_store(peopled, accepted)
    (peopled / ".state" / "signing-keys").write_text("half a file")
    assert "With --discard-old new ones" in failed(capsys, "--project", str(peopled), "sign-in", "rotate-keys")
    run(peopled, "sign-in", "rotate-keys", "--discard-old")


def test_sign_ins_in_memory(peopled, capsys, monkeypatch):
    """Where the proxy keeps no state, a command cannot see its sign-ins, and says so."""
    monkeypatch.setenv("CLAUDE_POOL_STATE_FILE", "none")
    assert "in the memory of the running proxy" in failed(capsys, "--project", str(peopled), "sign-in", "list")


def test_a_store_that_is_away(peopled, capsys, monkeypatch):
    """A Redis that does not respond is an error in words, without its password."""
    monkeypatch.setenv("REDIS_URL", "redis://:made-up-password@127.0.0.1:1/0")
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-made-up-master-key-0123456789")
    said = failed(capsys, "--project", str(peopled), "sign-in", "list")
    assert "Redis is not available" in said
    assert "made-up-password" not in said
