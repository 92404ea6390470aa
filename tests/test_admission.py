"""proxy/admission.py: who is refused before a provider is asked, and what happens without the store."""

import asyncio
import logging
from datetime import UTC, datetime

import pytest

from claude_proxy.anthropic.errors import Refused
from claude_proxy.anthropic.request_view import RequestView
from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.budgets import Budgets, Period
from claude_proxy.proxy.admission import Admission
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.replication import CombinedState, Synchronizer
from claude_proxy.state.store import StoreUnavailable
from claude_proxy.upstream.headers import read
from claude_proxy.usage.standing import ActiveBudgets

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp()
DAY = 86400.0
# Every response costs a dollar.
PRICE = 1_000_000
BLOCK = {"users": {"anna": {"budget": {"day": 10}}}, "groups": {"team-a": {"budget": {"week": 15}}}}


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Flaky(MemoryStore):
    unavailable = False

    async def push(self, rows):
        await asyncio.sleep(0)
        if self.unavailable:
            raise StoreUnavailable(self.kind, "gone")
        await super().push(rows)

    async def pull(self, cursor):
        await asyncio.sleep(0)
        if self.unavailable:
            raise StoreUnavailable(self.kind, "gone")
        return await super().pull(cursor)


class Process:
    """A process with budgets, and its connection to the store."""

    def __init__(self, store, clock, block=BLOCK):
        self.budgets = ActiveBudgets(lambda: Budgets.of({"claude_proxy": block}), clock)
        self.sync = Synchronizer(store, CombinedState(*self.budgets.parts), clock=clock, interval=3600.0)
        self.admission = Admission(
            self.budgets,
            lambda *_: PRICE,
            confirm=self.sync.confirm,
            unpriced=lambda model: ["openai/own"] if model == "own" else [],
            clock=clock,
        )

    async def ask(self, user="anna", groups=(), **more):
        """Send a request and receive its whole response; raise ``Refused`` if there is none."""
        journal = Journal()
        request = Request(read([]), [], b"{}", RequestView("m", streams=False), user=user, groups=groups, **more)
        charge = await self.admission.admit(request, journal)
        journal.usage = Usage(1, 1)
        if charge is not None:
            await charge.ending()
            await charge.finish()
        return charge


async def stream_of_requests(processes, count=None, **more):
    """Ask one process after the other, each time after the response, until a request is refused; return the responses."""
    responses = 0
    while count is None or responses < count:
        try:
            await processes[responses % len(processes)].ask(**more)
        except Refused:
            break
        responses += 1
        assert responses < 1000
    return responses


@pytest.fixture
async def store():
    return Flaky()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def process(store, clock):
    return lambda block=BLOCK: Process(store, clock, block)


async def test_a_spent_budget_refuses_the_next_request(process):
    """Ten responses of a dollar fit into a budget of ten dollars, and the eleventh request is refused."""
    assert await stream_of_requests([process()]) == 10


async def test_two_processes_have_one_budget(process):
    """A client that alternates between two processes gets exactly as many responses as the budget has room for."""
    assert await stream_of_requests([process(), process()]) == 10


@pytest.mark.parametrize("streams", [1, 7, 100])
async def test_at_most_one_response_of_each_stream_passes_the_budget(process, streams):
    """However many clients ask at once through four processes, each gets at most one response beyond the budget."""
    four = [process() for _ in range(4)]
    found = await asyncio.gather(*(stream_of_requests([*four[turn % 4 :], *four[: turn % 4]]) for turn in range(streams)))
    assert 10 <= sum(found) <= 10 - 1 + streams


async def test_a_shared_budget_counts_all_of_its_users(process):
    """The budget of a group is spent by all of them together, and a user outside of it is not refused."""
    one = process()
    assert await stream_of_requests([one], user="ben", groups=("team-a",)) == 15
    with pytest.raises(Refused) as refused:
        await one.ask("eve", ("team-a",))
    assert ("anthropic-ratelimit-unified-overage-scope", "group_pool") in refused.value.headers
    assert await stream_of_requests([one], 3, user="zoe") == 3


async def test_a_soft_budget_refuses_nobody(process):
    """Beyond a soft budget requests are admitted."""
    block = {"users": {"anna": {"budget": {"day": 1, "soft": True}}}}
    assert await stream_of_requests([process(block)], 5) == 5


async def test_a_token_count_is_free_and_never_refused(process):
    """Beyond a spent budget tokens can be counted, and a count adds nothing."""
    one = process()
    await stream_of_requests([one])
    charge = await one.ask(counts_tokens=True)
    assert dict(charge.headers([]))["anthropic-ratelimit-unified-overage-utilization"] == "0.99"
    assert one.budgets.standings(one.budgets.of_user("anna", ()))[0].spent == 10 * PRICE


async def test_a_new_day_has_a_new_budget(process, clock):
    """After the reset a user can ask again; the amounts of the day before stay counted on their day."""
    one = process()
    await stream_of_requests([one])
    clock.now += DAY
    assert await stream_of_requests([one]) == 10
    clock.now -= DAY  # the clock is set back: that day's budget is still spent
    assert await stream_of_requests([one]) == 0


async def test_an_override_applies_in_every_process(process):
    """A raised budget admits requests in all processes, and a lowered one refuses them."""
    one, other = process(), process()
    await stream_of_requests([one])
    one.budgets.overrides.change("user:anna", {Period.DAY: 12 * PRICE})
    await one.sync.exchange()
    assert await stream_of_requests([other]) == 2
    other.budgets.overrides.change("user:anna", {})
    await other.sync.exchange()
    assert await stream_of_requests([one]) == 0


async def test_without_budgets_nothing_is_counted(process, store):
    """A configuration without budgets has no charge and asks no store."""
    store.unavailable = True
    one = process({})
    assert await one.ask() is None
    assert not one.sync.unavailable


async def test_a_user_without_a_budget_does_not_wait_for_the_store(process, store):
    """Where others have budgets, a user without one is counted, and is not delayed by an exchange."""
    store.unavailable = True
    one = process()
    assert await one.ask("zoe") is not None
    assert not one.sync.unavailable


async def test_without_the_store_a_process_goes_on_with_what_it_knows(process, store, caplog):
    """By default a missing store refuses nobody: the process checks its own amounts, and logs that once an outage."""
    caplog.set_level(logging.WARNING, "claude_proxy.proxy.admission")
    one, other = process(), process()
    await stream_of_requests([one], 4)
    await other.sync.exchange()
    store.unavailable = True
    assert await stream_of_requests([one]) == 6
    assert await stream_of_requests([other]) == 6
    words = "the store is not available: budgets are checked with the amounts that this process knows"
    assert [record.getMessage() for record in caplog.records if "budgets" in record.getMessage()] == [words, words]
    store.unavailable = False
    for each in (one, other, one):
        await each.sync.exchange()
    assert one.budgets.standings(one.budgets.of_user("anna", ()))[0].spent == 16 * PRICE


@pytest.mark.parametrize(
    ("block", "user", "lacking"),
    [
        (BLOCK, "anna", False),
        (BLOCK | {"unpriced_models": "allow"}, "anna", False),
        (BLOCK | {"unpriced_models": "refuse"}, "Anna", True),
        (BLOCK | {"unpriced_models": "refuse"}, "ben", True),
        (BLOCK | {"unpriced_models": "refuse"}, "zoe", False),
        ({"users": {"anna": {"budget": {"day": 1, "soft": True}}}, "unpriced_models": "refuse"}, "anna", False),
        ({"budget": {"day": 1}, "unpriced_models": "refuse"}, "admin", True),
        ({"default_budget": {"day": 1}, "unpriced_models": "refuse"}, "admin", False),
        ({"unpriced_models": "refuse"}, "anna", False),
    ],
    ids=["default", "allow", "own", "of-the-group", "no-budget", "soft", "of-all", "master-key", "no-budgets"],
)
async def test_a_model_without_a_price(process, block, user, lacking):
    """If the operator says so, whoever has a hard budget may not use a model whose price is not known."""
    one = process(block)
    groups = ("team-a",) if user == "ben" else ()
    request = Request(read([]), [], b"{}", RequestView("m", streams=False), user=user, groups=groups)
    assert one.admission.lacks_price(request, "own") is lacking
    assert not one.admission.lacks_price(request, "priced")


async def test_an_override_is_a_budget_for_which_prices_matter(process):
    """A user whose only budget was set by ``claude-proxy budget`` may not use a model without a price, either."""
    one = process({"unpriced_models": "refuse"})
    request = Request(read([]), [], b"{}", RequestView("m", streams=False), user="zoe")
    assert not one.admission.lacks_price(request, "own")
    one.budgets.overrides.change("user:zoe", {Period.DAY: PRICE})
    assert one.admission.lacks_price(request, "own")


async def test_without_the_store_requests_can_be_refused(process, store):
    """If the operator says so, a user with a budget is refused while the store is missing, and may try again soon."""
    one = process(BLOCK | {"budget_without_store": "refuse"})
    store.unavailable = True
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await one.ask()
        assert (refused.value.status, dict(refused.value.headers)) == (503, {"retry-after": "5"})
    assert await one.ask("zoe") is not None  # no budget to check
    store.unavailable = False
    await one.sync.exchange()
    assert await stream_of_requests([one]) == 10


def of(user="anna", groups=()):
    return Request(read([]), [], b"{}", RequestView("m", streams=False), user=user, groups=groups)


async def test_a_batch_reserves_what_it_may_cost(process):
    """What a batch may cost at most counts at once, as far as a budget has room; the real cost replaces it later."""
    one = process()
    reserved = await one.admission.reserve(of(), 9 * PRICE)
    assert (reserved.tab.amount, reserved.scopes) == (9 * PRICE, ("user:anna", "all"))
    assert await stream_of_requests([one]) == 1
    await one.admission.correct(reserved.scopes, reserved.day, -6 * PRICE)
    assert await stream_of_requests([one]) == 6
    with pytest.raises(Refused, match="is spent"):
        await one.admission.reserve(of(), 0)


async def test_a_batch_that_may_cost_more_than_is_left(process):
    """It is refused with both amounts, and counts nothing."""
    one = process()
    await one.ask()
    with pytest.raises(
        Refused, match=r"may cost up to \$9\.01, and \$9\.00 of your daily budget \(\$10\.00\) is left"
    ) as refused:
        await one.admission.reserve(of(), 9 * PRICE + 10_000)
    assert (refused.value.status, refused.value.kind) == (429, "billing_error")
    assert await one.admission.reserve(of(), 9 * PRICE)


async def test_a_batch_of_a_group_and_of_nobody(process):
    """The budget of a group is checked too; a user without a budget reserves without a check."""
    one = process()
    with pytest.raises(Refused, match="the weekly budget of the group team-a"):
        await one.admission.reserve(of("ben", ("team-a",)), 16 * PRICE)
    assert await one.admission.reserve(of("ben", ("team-a",)), 15 * PRICE)
    assert await one.admission.reserve(of("carla"), 1000 * PRICE)
    assert await process({}).admission.reserve(of(), 1000 * PRICE) is None


async def test_batches_at_the_same_moment_in_two_processes(process):
    """Two batches that together cost more than what is left are not both admitted, whichever process each meets."""
    processes = [process(), process()]
    results = await asyncio.gather(*(one.admission.reserve(of(), 6 * PRICE) for one in processes), return_exceptions=True)
    assert sum(isinstance(one, Refused) for one in results) >= 1
    assert not [one for one in results if isinstance(one, Exception) and not isinstance(one, Refused)]


async def test_a_batch_that_was_not_made(process):
    """A reservation that is cancelled counts nothing."""
    one = process()
    await (await one.admission.reserve(of(), 10 * PRICE)).cancel()
    assert await stream_of_requests([one]) == 10
