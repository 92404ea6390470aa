"""signin/browser_sessions.py: what is kept of a browser between two steps of a sign-in."""

import json

import pytest

from claude_proxy.secret import Secret
from claude_proxy.signin.browser_sessions import LIFETIME_SECONDS, BrowserSessions, form_token, new_id, read_id
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.rows import Row

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock():
    return [1_000_000.0]


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def sessions(store, clock):
    return BrowserSessions(store, lambda: clock[0])


async def test_a_session(sessions, store):
    """Facts are found under their id by any process of the store, which has a hash of the id only."""
    session = await sessions.start({"code": "BCDF-GHJK"})
    assert await BrowserSessions(store, sessions._clock).find(session) == {"code": "BCDF-GHJK"}
    rows, _ = await store.pull(0)
    assert session.reveal() not in json.dumps([(row.key, row.value) for row in rows])
    assert read_id(session.reveal()).matches(session)
    assert not (await sessions.start({})).matches(session)


async def test_the_end_of_a_session(sessions, clock):
    """A session ends when it is used, after its lifetime, and when the clock jumps in either direction."""
    session = await sessions.start({"code": "x"})
    for jump in (LIFETIME_SECONDS, -LIFETIME_SECONDS):
        clock[0] += jump
        assert await sessions.find(session) == {}
        clock[0] -= jump
    assert await sessions.find(session) == {"code": "x"}
    await sessions.end(session)
    assert await sessions.find(session) == {}
    await sessions.end(session)
    await sessions.end(None)
    await sessions.end(new_id())


async def test_no_session(sessions, store):
    """An id that the proxy did not make has no facts, and a row of another version has none."""
    assert await sessions.find(None) == await sessions.find(new_id()) == {}
    session = await sessions.start({"code": "x"})
    ((row,), _) = await store.pull(0)
    for stamp, value in enumerate(("[]", "null", "{", "[" * 100_000), start=1):
        await store.push([Row(row.key, row.stamp + stamp, value)])
        assert await sessions.find(session) == {}


def test_ids_in_cookies():
    """Only a text of the form of an id is one."""
    for text in (None, "", "x", "x" * 42, "x" * 44, "ä" * 43, f"{'x' * 42};", f"{'x' * 42}\n"):
        assert read_id(text) is None
    assert read_id("x" * 43).reveal() == "x" * 43


def test_the_value_of_a_form():
    """A form's value belongs to one session, and says nothing of the session's id."""
    session = Secret("x" * 43)
    assert form_token(session) == form_token(Secret("x" * 43)) != form_token(new_id())
    assert len(form_token(session)) == 64
