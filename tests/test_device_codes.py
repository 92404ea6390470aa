"""signin/device_codes.py: codes that a client requests, and that its user approves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.secret import Secret
from claude_proxy.signin import device_codes
from claude_proxy.signin.device_codes import LETTERS, LIFETIME_SECONDS, DeviceCodes, State, normalized
from claude_proxy.signin.identity import Identity
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.rows import Row

pytestmark = pytest.mark.anyio
ANNA = Identity("anna", ("team-a",), "anna@example.org")
NOW = 1_800_000_000.25


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def codes(store, clock):
    return DeviceCodes(store, clock)


async def test_an_approved_login(codes, store, clock):
    """What one process started and another approved is approved for all, with the identity and the time of its start."""
    started = await codes.start("192.0.2.7", "claude-cli/2")
    assert (started.expires_in, started.interval) == (600, 5)
    assert (await codes.poll(started.device_code)).state is State.PENDING
    clock.now += 100
    other = DeviceCodes(store, clock)
    pending = await other.find(started.user_code)
    assert pending == (started.user_code, 500, "192.0.2.7", "claude-cli/2")
    assert await other.approve(started.user_code, ANNA)
    assert await codes.poll(started.device_code) == (State.APPROVED, ANNA, NOW)


async def test_a_denied_login(codes):
    """A denied login stays denied."""
    started = await codes.start()
    assert await codes.deny(started.user_code)
    assert not await codes.approve(started.user_code, ANNA)
    assert (await codes.poll(started.device_code)).state is State.DENIED


async def test_the_first_decision_wins(codes):
    """A code is approved once: a second approval changes nothing and is not found on the page."""
    started = await codes.start()
    assert await codes.approve(started.user_code, ANNA)
    assert not await codes.approve(started.user_code, Identity("mallory"))
    assert not await codes.deny(started.user_code)
    assert await codes.find(started.user_code) is None
    assert (await codes.poll(started.device_code)).identity == ANNA


async def test_of_two_decisions_at_once_one_wins(codes, store, clock, monkeypatch):
    """Two processes that decide at the same moment agree on one decision."""
    started = await codes.start()
    other, pushed = DeviceCodes(store, clock), store.push

    async def push_late(rows):
        monkeypatch.undo()
        assert await other.approve(started.user_code, ANNA)
        await pushed(rows)

    monkeypatch.setattr(store, "push", push_late)
    assert not await codes.approve(started.user_code, Identity("mallory"))
    assert (await codes.poll(started.device_code)).identity == ANNA


@pytest.mark.parametrize("seconds", [LIFETIME_SECONDS, 1e9, -LIFETIME_SECONDS])
async def test_a_code_expires(codes, clock, seconds):
    """After its lifetime a code is unknown on the page and for the client, also where the clock was set back."""
    started = await codes.start()
    clock.now += seconds
    assert await codes.find(started.user_code) is None
    assert not await codes.approve(started.user_code, ANNA)
    assert (await codes.poll(started.device_code)).state is State.EXPIRED


async def test_an_approval_expires_too(codes, clock):
    """An approved login that nobody redeems is worth nothing later."""
    started = await codes.start()
    assert await codes.approve(started.user_code, ANNA)
    clock.now += LIFETIME_SECONDS
    assert (await codes.poll(started.device_code)).state is State.EXPIRED


@pytest.mark.parametrize("code", ["", "x", "BCDF-GHJK", "\ud83d", "B" * 200])
async def test_a_code_that_does_not_exist(codes, code):
    """An unknown code is no error of the process."""
    assert (await codes.poll(Secret(code))).state is State.EXPIRED
    assert await codes.find(code) is None


async def test_the_two_codes_are_not_interchangeable(codes):
    """A user code redeems nothing, and a device code is nothing that a page accepts."""
    started = await codes.start()
    assert (await codes.poll(Secret(started.user_code))).state is State.EXPIRED
    assert await codes.find(started.device_code.reveal()) is None


async def test_the_store_has_no_device_code(codes, store):
    """Who reads the store cannot redeem a login."""
    started = await codes.start()
    rows, _ = await store.pull(0)
    assert all(started.device_code.reveal() not in row.key + row.value for row in rows)
    assert len(started.device_code.reveal()) >= 43


async def test_a_user_code_in_use_is_not_given_again(codes, monkeypatch):
    """Of two logins with one user code the later one gets another."""
    made = iter(["BBBB-BBBB", "BBBB-BBBB", "CCCC-CCCC"])
    monkeypatch.setattr(device_codes, "new_user_code", lambda: next(made))
    assert [(await codes.start()).user_code for _ in range(2)] == ["BBBB-BBBB", "CCCC-CCCC"]


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"user": 1}', '{"approved": true, "identity": {"name": "admin"}}'])
async def test_a_row_of_another_version(codes, store, value):
    """A row that this version cannot read approves nothing."""
    started = await codes.start()
    rows, _ = await store.pull(0)
    key = json.loads(rows[0].value)["user"]
    await store.push([Row(f"{key}:decision", NOW + 1, value)])
    assert (await codes.poll(started.device_code)).state is State.DENIED
    await store.push([Row(key, NOW + 1, value)])
    assert await codes.find(started.user_code) is None


@pytest.mark.parametrize("typed", ["BCDF-GHJK", "bcdfghjk", " bc df - gh jk ", "bcdf--ghjk"])
def test_how_a_code_may_be_typed(typed):
    """Case, blanks and hyphens make no difference."""
    assert normalized(typed) == "BCDF-GHJK"


@given(st.text())
def test_what_is_typed_never_breaks(typed):
    """Any text is a code in the form in which it is shown, or none."""
    code = normalized(typed)
    assert code == "" or (len(code) == 9 and set(code) <= {*LETTERS, "-"} and normalized(code) == code)


def test_letters_spell_no_words():
    """A code has no vowel and no digit, and more than 34 bits."""
    assert not set(LETTERS) & set("AEIOUY0123456789")
    assert len(LETTERS) ** device_codes.CODE_LENGTH > 2**34
