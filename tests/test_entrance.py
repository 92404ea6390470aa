"""proxy/entrance.py: a request inside LiteLLM, and what its attempts on a lane come to."""

import asyncio

import pytest
from lanes import Received

from claude_proxy.anthropic.errors import own_refusal
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.proxy.outcome import DONE, failed

pytestmark = pytest.mark.anyio

OF_CLAUDE = failed(429, own_refusal(429, "Claude's"))
OF_PROVIDER = failed(503, own_refusal(503, "the provider's"))
OF_LITELLM = failed(500, own_refusal(500, "LiteLLM's"))


def entrance():
    client = Received()
    return Entrance(client.request, client.outlet, client.journal)


async def comes_to(outcome):
    return outcome


class Work:
    """An attempt that does not end by itself."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.cancelled = False

    async def run(self):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def test_outside_of_a_request_there_is_none():
    """The hooks find no entrance where LiteLLM does something of its own."""
    assert current.get() is None


# The attempts on a lane


async def test_an_attempt_s_outcome_is_kept():
    """What a lane's attempt comes to is returned, and is the last that is known."""
    one = entrance()
    assert await one.run(comes_to(OF_CLAUDE)) is OF_CLAUDE
    assert one.last is OF_CLAUDE


async def test_an_attempt_ends_with_its_client():
    """When the client leaves, the attempt is cancelled and comes to nothing; the call goes on, so that LiteLLM can book it."""
    one, work = entrance(), Work()
    running = asyncio.ensure_future(one.run(work.run()))
    await work.begun.wait()
    assert one.outlet.leave() is True
    assert one.interrupt() is True
    assert await running is None
    assert (work.cancelled, one.last) == (True, None)


async def test_a_cancelled_request_is_cancelled():
    """The end of the process, or of the call, is not taken for the client's leaving; the attempt ends with it."""
    one, work = entrance(), Work()
    running = asyncio.ensure_future(one.run(work.run()))
    await work.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.cancelled


async def test_there_is_nothing_to_interrupt():
    """Where no attempt is under way, before the first and after the last, the gateway has to end the call itself."""
    one = entrance()
    assert one.interrupt() is False
    await one.run(comes_to(DONE))
    assert one.interrupt() is False


async def test_what_an_attempt_raises_is_raised():
    """An error of the lane's own reaches LiteLLM, and the attempt is over."""

    async def breaks():
        raise LookupError("broken")

    one = entrance()
    with pytest.raises(LookupError):
        await one.run(breaks())
    assert one.interrupt() is False


# What the call came to


async def test_a_success_of_litellms_is_the_outcome():
    """When LiteLLM has answered in the end, the errors before it are forgotten."""
    one = entrance()
    one.journal.begin(Provider.CLAUDE, "anthropic/claude-x")
    await one.run(comes_to(OF_CLAUDE))
    assert one.outcome(DONE) is DONE


async def test_a_hooks_refusal_goes_first():
    """What a hook refuses the request with is the client's, whatever LiteLLM made of it, and nothing else may answer."""
    one = entrance()
    await one.run(comes_to(OF_PROVIDER))
    one.refusal = own_refusal(404, "not served")
    found = one.outcome(OF_LITELLM)
    assert (found.status, found.refusal, found.final) == (404, one.refusal, True)


async def test_what_has_begun_stays():
    """When a response has begun, an error of LiteLLM's about it is not the client's."""
    one = entrance()
    one.refusal = own_refusal(404, "not served")
    await one.outlet.begin(200, [])
    assert one.outcome(DONE) is DONE


@pytest.mark.parametrize(
    ("attempts", "shown"),
    [
        ([], OF_LITELLM),
        ([(Provider.CLAUDE, OF_CLAUDE)], OF_CLAUDE),
        ([(Provider.ANTHROPIC_FORMAT, OF_PROVIDER)], OF_PROVIDER),
        ([(Provider.CLAUDE, OF_CLAUDE), (Provider.ANTHROPIC_FORMAT, OF_PROVIDER)], OF_CLAUDE),
        ([(Provider.CLAUDE, OF_CLAUDE), (Provider.OPENAI, None)], OF_CLAUDE),
        ([(Provider.OPENAI, None), (Provider.CLAUDE, OF_CLAUDE)], OF_CLAUDE),
        ([(Provider.ANTHROPIC_FORMAT, OF_PROVIDER), (Provider.OPENAI, None)], OF_LITELLM),
        ([(Provider.CLAUDE, failed(400, own_refusal(400, "first"))), (Provider.CLAUDE, OF_CLAUDE)], OF_CLAUDE),
    ],
    ids=[
        "nobody-asked", "claude", "provider", "fallback-on-a-lane-failed-too", "fallback-of-litellms-failed-too",
        "claude-was-the-fallback", "litellm-was-the-fallback", "claude-twice",
    ],
)  # fmt: skip
async def test_whose_error_the_client_gets(attempts, shown):
    """Of a request whose first choice was Claude it is Claude's own last error; else that of the last attempt."""
    one = entrance()
    for provider, outcome in attempts:
        one.journal.begin(provider, provider.name)
        if outcome is None:
            one.leave_lanes()
        else:
            await one.run(comes_to(outcome))
    assert one.outcome(OF_LITELLM) is shown


async def test_what_is_open_is_closed_at_the_end():
    """Each of the responses that LiteLLM was given is closed once."""
    one, closed = entrance(), []

    async def close():
        closed.append(True)

    one.opened += [close, close]
    await one.close()
    await one.close()
    assert closed == [True, True]


# What LiteLLM loses


@pytest.mark.parametrize(
    ("end", "good", "problem"),
    [
        (None, {"STOP"}, False), ("STOP", {"STOP"}, False), ("", {"STOP"}, True), ("MALFORMED_FUNCTION_CALL", {"STOP"}, True),
        ("", (), True), ("done", (), False),
    ],
)  # fmt: skip
def test_an_end_that_litellm_takes_for_a_good_one(end, good, problem):
    """Where it is known why a response ended, no reason is no good end, nor is one that its format has for failures."""
    one = entrance()
    one.native_end, one.good_ends = end, frozenset(good)
    assert bool(one.end_problem()) is problem


def test_when_to_come_back():
    """The provider's own word joins LiteLLM's error, unless that has one."""
    one = entrance()
    one.retry_after = "20"
    assert ("retry-after", "20") in one.outcome(OF_LITELLM).refusal.headers
    said = failed(429, own_refusal(429, "no", [("retry-after", "7")]))
    assert one.outcome(said) is said
