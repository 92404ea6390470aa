"""access/revocation.py: requests of users who are removed meanwhile end, and nothing runs while there is no such request."""

import asyncio

import pytest

from claude_proxy.access import revocation
from claude_proxy.access.revocation import Revocation
from claude_proxy.access.routes import ADMIN_NAME, STATIC_NAME, Caller, Role
from claude_proxy.config.users import SignedIn, User, digest_of
from claude_proxy.secret import Secret

pytestmark = pytest.mark.anyio

TOKENS = {"anna": Secret("sk-made-up-token-of-anna"), "ben": Secret("sk-made-up-token-of-ben")}


def user(name, token=None):
    return User(name, digest_of(token or TOKENS[name]))


def caller(name):
    return Caller(Role.USER, TOKENS[name], name)


async def test_who_is_gone_is_ended_once():
    """At a look the requests of a removed user end, each once, and those of others go on."""
    users, ended = [user("anna"), user("ben")], []
    running = Revocation(lambda: users)
    with (
        running.watched(caller("anna"), lambda: ended.append("first")),
        running.watched(caller("anna"), lambda: ended.append("second")),
        running.watched(caller("ben"), lambda: ended.append("ben")),
    ):
        running.look()
        assert ended == []
        users[:] = [user("ben")]
        running.look()
        running.look()
    assert sorted(ended) == ["first", "second"]


async def test_a_new_token_ends_what_runs_on_the_old_one():
    """A user who was removed and added again has another token; what came with the old one ends."""
    users, ended = [user("anna")], []
    running = Revocation(lambda: users)
    with running.watched(caller("anna"), lambda: ended.append(1)):
        users[:] = [user("anna", TOKENS["ben"])]
        running.look()
    assert ended == [1]


@pytest.mark.parametrize(
    "other",
    [
        Caller(Role.ADMIN, Secret("sk-made-up-master"), ADMIN_NAME),
        Caller(Role.USER, Secret("sk-made-up-static"), STATIC_NAME),
        Caller(Role.OPEN, None, "anyone"),
        Caller(Role.KEY, Secret("sk-made-up-key"), "key"),
    ],
    ids=lambda other: other.name,
)
async def test_who_is_no_user_is_not_looked_for(other):
    """Callers without a name of their own are in no list of users, and are not ended for that."""
    ended = []
    running = Revocation(list)
    with running.watched(other, lambda: ended.append(1)):
        running.look()
    assert ended == []


async def test_nothing_runs_without_a_request(monkeypatch):
    """The users are looked up again and again while a request of a user runs, and never otherwise."""
    monkeypatch.setattr(revocation, "LOOK_SECONDS", 0.0)
    looks, looked = [], asyncio.Event()

    def users():
        looks.append(1)
        if len(looks) == 3:
            looked.set()
        return [user("anna")]

    running = Revocation(users)
    for _ in range(2):
        looks.clear()
        looked.clear()
        with running.watched(caller("anna"), lambda: None):
            await looked.wait()
        looks.clear()
        for _ in range(5):
            await asyncio.sleep(0)
        assert looks == []


async def test_a_look_that_fails_is_not_the_last(monkeypatch):
    """An error at a look does not keep the next one from ending a request."""
    monkeypatch.setattr(revocation, "LOOK_SECONDS", 0.0)
    failures, ended = [OSError("made up")], asyncio.Event()

    def users():
        if failures:
            raise failures.pop()
        return []

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    running = Revocation(users)
    with running.watched(caller("anna"), ended.set):
        await ended.wait()
    assert [type(error) for error in told] == [OSError]


async def test_a_sign_in_that_has_ended():
    """At a look the requests of a sign-in that is no longer valid end; those of others, whose token may have expired, go on."""
    standing, ended = {"s1", "s2"}, []
    running = Revocation(list, lambda signed_in: signed_in.session in standing)

    def signed_in(session):
        return Caller(Role.USER, Secret(f"eyJ-of-{session}"), "anna", (), SignedIn("anna", (), session, ""))

    with (
        running.watched(signed_in("s1"), lambda: ended.append("s1")),
        running.watched(signed_in("s2"), lambda: ended.append("s2")),
    ):
        running.look()
        assert ended == []
        standing.remove("s1")
        running.look()
        running.look()
    assert ended == ["s1"]
