"""proxy/batch_counting.py: the real cost of a batch replaces what was reserved, once, whoever reads its results."""

import json

import pytest

from claude_proxy.anthropic.usage import Usage
from claude_proxy.credentials.made_objects import MadeObject, ObjectKind
from claude_proxy.proxy.batch_counting import BatchCounting
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.store import StoreUnavailable

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
DETAILS = {
    "count": 2, "models": {"claude-y": ["mine", "anthropic/claude-y"]}, "reserved": 1000, "scopes": ["user:anna", "all"],
    "day": "2027-01-15", "groups": ["team"], "name": "Anna",
}  # fmt: skip
MADE = MadeObject(ObjectKind.BATCH, "msgbatch_1", "anna", "key", NOW, DETAILS)


def line(model="claude-y-20260101"):
    message = {"model": model, "usage": {"input_tokens": 10, "output_tokens": 5}}
    return json.dumps({"custom_id": "a", "result": {"type": "succeeded", "message": message}}).encode() + b"\n"


CANCELED = b'{"custom_id":"b","result":{"type":"canceled"}}\n'


class Away(MemoryStore):
    async def push(self, rows):
        raise StoreUnavailable(self.kind, "gone")


class Process:
    """A process that reads results. The corrections of budgets, and the records."""

    def __init__(self, store=None):
        self.corrected, self.records = [], []
        self.counting = BatchCounting(store or MemoryStore(), self, self.cost, self.records.append, lambda: NOW + 60)

    def cost(self, name, served, usage):
        assert (served, usage.service_tier) == ("anthropic/claude-y", "batch")
        return usage.input + usage.output

    async def correct(self, scopes, day, change):
        self.corrected.append((tuple(scopes), day, change))

    async def read(self, *lines, made=MADE):
        results = self.counting.reader(made)
        out = b"".join([*map(results.feed, lines), results.finish()])
        await self.counting.count(made, results, "key-1")
        return out


async def test_the_real_cost_replaces_the_reserved_one():
    """The difference is corrected on the day of the batch, and the history gets one record for each model."""
    process = Process()
    await process.read(line(), CANCELED)
    assert process.corrected == [(("user:anna", "all"), "2027-01-15", 15 - 1000)]
    (record,) = process.records
    assert (record.user, record.requested, record.model, record.served) == ("Anna", "mine", "mine", "anthropic/claude-y")
    assert (record.usage, record.cost, record.credential) == (Usage(10, 5, service_tier="batch"), 15, "key-1")
    assert (record.groups, record.request_id, record.status, record.at) == (("team",), "msgbatch_1", 200, NOW + 60)


async def test_results_count_once():
    """Of several processes that read the same results, and of several readings, one counts them."""
    store = MemoryStore()
    processes = [Process(store), Process(store)]
    for process in (*processes, *processes):
        assert await process.read(line(), CANCELED)
    assert sum(len(process.corrected) for process in processes) == 1
    assert sum(len(process.records) for process in processes) == 1


@pytest.mark.parametrize("lines", [(line(),), (line(), CANCELED, CANCELED), (line(), CANCELED[:-5]), (line(), b"{}\n"), ()])
async def test_results_that_are_not_complete(lines):
    """Fewer or more results than requests, and results that cannot be read, leave the reserved amount as it is."""
    store = MemoryStore()
    process = Process(store)
    await process.read(*lines)
    assert process.corrected == process.records == []
    await process.read(line(), CANCELED)
    assert len(process.corrected) == 1


async def test_without_the_store():
    """While the store is away nobody knows who was first, so the reserved amount stays."""
    process = Process(Away())
    await process.read(line(), CANCELED)
    assert process.corrected == process.records == []


async def test_the_client_reads_its_own_name_of_the_model():
    """A model leaves with its name in config.yaml, also in its dated form; a name that is the same stays as it came."""
    out = await Process().read(line(), CANCELED)
    assert json.loads(out.splitlines()[0])["result"]["message"]["model"] == "mine"
    same = MadeObject(
        ObjectKind.BATCH, "b", "anna", "key", NOW, DETAILS | {"models": {"claude-y": ["claude-y", "anthropic/claude-y"]}}
    )
    assert await Process().read(line(), CANCELED, made=same) == line() + CANCELED


@pytest.mark.parametrize(
    "changed", [{"reserved": None}, {"scopes": 7}, {"day": None}, {"models": []}, {"groups": 1, "name": 3}]
)
async def test_details_that_another_version_has_written(changed):
    """A row whose details this version does not know raises nothing."""
    process = Process()
    process.counting._cost = lambda *_: 1
    await process.read(line(), CANCELED, made=MadeObject(ObjectKind.BATCH, "b", "anna", "key", NOW, DETAILS | changed))
    assert len(process.records) == 1
