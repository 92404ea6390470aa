"""Counts what a batch used, once: when its results have passed whole for the first time, in whichever process."""

import logging
import re
import secrets
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from claude_proxy.anthropic.batch_results import BatchResults
from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.users import folded
from claude_proxy.credentials.made_objects import MadeObject
from claude_proxy.proxy.admission import Admission, Reservation
from claude_proxy.proxy.batches import BATCH, Batch
from claude_proxy.state.rows import Row
from claude_proxy.state.store import Store, StoreUnavailable
from claude_proxy.usage.record import Record

logger = logging.getLogger(__name__)

PREFIX = "batch-counted:"
_DATE = re.compile(r"-[0-9]{8}$")
# The details of a batch in its row.
COUNT, MODELS, RESERVED, SCOPES, DAY, GROUPS, NAME = "count", "models", "reserved", "scopes", "day", "groups", "name"


def details_of(batch: Batch, user: str, groups: tuple[str, ...], reserved: Reservation | None) -> dict[str, Any]:
    """Return what has to be known of a batch when its results are read."""
    found: dict[str, Any] = {COUNT: batch.count, MODELS: {sent: [*names] for sent, names in batch.models.items()}}
    found |= {NAME: user, GROUPS: [*groups]}
    if reserved is not None:
        found |= {RESERVED: reserved.tab.amount, SCOPES: [*reserved.scopes], DAY: reserved.day}
    return found


class BatchCounting:
    """One per process. ``record`` takes the usage of a model; ``cost`` returns its price in micro-USD.

    Two rules:
      1. The reserved amount of a batch is replaced by its real cost once. Of several processes that have read the results, the
         one whose row the store has taken first does it. Without the store, or if the process ends before it has done it, the
         reserved amount stays.
      2. Results count if there are as many as the batch has requests, and each could be read.
    """

    def __init__(
        self,
        store: Store,
        admission: Admission,
        cost: Callable[[str, str, Usage], int | None],
        record: Callable[[Record], None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._admission = admission
        self._cost = cost
        self._record = record
        self._clock = clock

    def reader(self, made: MadeObject) -> BatchResults:
        """Return a reader of the results, which names each model as the client did."""
        models = _models(made)

        def renamed(model: str) -> str:
            sent = model if model in models else _DATE.sub("", model)
            name = models[sent][0] if sent in models else sent
            return model if name == sent else name

        return BatchResults(renamed)

    async def count(self, made: MadeObject, results: BatchResults, label: str) -> None:
        """Count the results that have passed, if they are complete and nobody has counted them before."""
        if not results.is_complete or results.count != made.details.get(COUNT):
            logger.warning("the results of batch %s are not complete, and are not counted", made.id)
            return
        try:
            is_first = await self._claim(made)
        except StoreUnavailable:
            return
        if not is_first:
            return
        models, spent = _models(made), 0
        by_model: dict[tuple[str, str], tuple[Usage, int | None]] = {}
        for reported, usage in results.messages:
            sent = reported if reported in models else _DATE.sub("", reported)
            place = models.get(sent) or next(iter(models.values()), (reported, f"anthropic/{reported}"))
            at_price = replace(usage, service_tier=BATCH)
            cost = self._cost(*place, at_price)
            before, sum_before = by_model.get(place, (Usage(), 0))
            by_model[place] = before + at_price, None if cost is None or sum_before is None else sum_before + cost
            spent += cost or 0
        await self._correct(made, spent)
        for place, used in by_model.items():
            self._record(self._record_of(made, place, used, label))

    async def _claim(self, made: MadeObject) -> bool:
        """Return whether this call is the first one for a batch: rows with equal stamps do not replace each other."""
        claim = Row(f"{PREFIX}{made.id}", made.at, f'"{secrets.token_hex(16)}"')
        await self._store.push([claim])
        return [row.value for row in await self._store.read([claim.key])] == [claim.value]

    async def _correct(self, made: MadeObject, spent: int) -> None:
        reserved, scopes, day = (made.details.get(name) for name in (RESERVED, SCOPES, DAY))
        if type(reserved) is int and isinstance(scopes, list) and isinstance(day, str) and spent != reserved:
            await self._admission.correct([str(scope) for scope in scopes], day, spent - reserved)

    def _record_of(self, made: MadeObject, place: tuple[str, str], used: tuple[Usage, int | None], label: str) -> Record:
        """Return the record of what a batch used of one model, by its name in config.yaml and LiteLLM's name."""
        (name, served), (usage, cost) = place, used
        groups, user = made.details.get(GROUPS), made.details.get(NAME)
        return Record(
            at=self._clock(),
            user=user if isinstance(user, str) and folded(user) == made.user else made.user,
            requested=name,
            served=served,
            credential=label,
            status=200,
            first_byte_seconds=0.0,
            seconds=0.0,
            usage=usage,
            cost=cost,
            model=name,
            groups=tuple(str(group) for group in groups) if isinstance(groups, list) else (),
            lane="claude",
            request_id=made.id,
        )


def _models(made: MadeObject) -> dict[str, tuple[str, str]]:
    """Return the names of a batch's models in config.yaml, and LiteLLM's names, by the names that were sent."""
    found = made.details.get(MODELS)
    pairs = found.items() if isinstance(found, dict) else ()
    return {sent: (str(names[0]), str(names[1])) for sent, names in pairs if isinstance(names, list) and len(names) == 2}
