"""``make simulate``: a week of forty users on 5 and on 20 accounts, by several orders; writes docs/SIMULATION.md.

The same seed gives the same figures on every machine: nothing is measured, everything is counted.
"""

import argparse
import dataclasses
import logging
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks.accounts import BUDGETS, COUNTS_A_MINUTE
from benchmarks.demand import USERS
from benchmarks.rivals import BeforeWeek, OmniscientWeek
from benchmarks.week import MAX_WAIT, Figures, OurWeek, Week, World, reset_first

PAGE = Path(__file__).parent.parent / "docs" / "SIMULATION.md"
ACCOUNTS = (5, 20)
SEEDS = (1, 2, 3, 4)
# The demand beside what the accounts give in a week: some windows run out, and more than there is.
USUAL, OVERLOADED = 1.1, 1.3
OURS, BEFORE, OMNISCIENT = "headroom", "before", "omniscient"
RESET_FIRST = "reset-first"
ORDERS: Mapping[str, Callable[[World], Week]] = {OURS: OurWeek, BEFORE: BeforeWeek, OMNISCIENT: OmniscientWeek}
OF_OVERLOAD: Mapping[str, Callable[[World], Week]] = {OURS: OurWeek, RESET_FIRST: reset_first}

HEAD = """# Simulation

This page is what `make simulate` wrote. A made Anthropic plays a week of {users} users, by seed: working hours, sessions with a
context that grows, subagents, token counts. Each account has a five-hour window, a week of {week:g} of these, a week of Opus of
{opus:g}, and {counts} token counts a minute; the weeks end on different days. There are incidents: every account refuses its
token (401) for a minute, one does for three hours, Anthropic is overloaded three times. All accounts, and one alone, are reset
before their time, which no answer announces. The proxy's own code chooses, rests and fails over, on a made clock;
`CLAUDE_POOL_MAX_WAIT_SECONDS` is {wait:g}. Figures are sums over the seeds {seeds}.

- **lost**: refusals of a request that some account would have served. Refusals that nobody could know to be needless, because
  an account was reset or accepted its token again before any answer said so, are **untold**.
- **switches** per session, and millions of tokens **re-read** because the cache of the account before was warm.
- **served**: requests. A client that is refused comes back when it is told to, if that is within ten minutes.
"""
USUAL_HEAD = """
## An ordinary week

The demand is {load:g} times what the accounts give in seven days; on Monday they have more. **before** is the order of revision
4b4496c, **omniscient** knows every account and what each session will ask for.

| Accounts | Order | Requests | Lost | Untold | Switches per session | Re-read, millions |
| --- | --- | --- | --- | --- | --- | --- |
"""
OVERLOADED_HEAD = """
## A week with too much to do

The demand is {load:g} times what the accounts give in seven days, without incidents and without resets before their time.

| Accounts | Order | Requests | Served | By seed | Lost | Untold | Switches per session | Re-read, millions |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def run(
    orders: Mapping[str, Callable[[World], Week]], accounts: int, load: float, seeds: Iterable[int], *, calm: bool = False
) -> dict[str, list[Figures]]:
    """Return the figures of each order, a week for each seed; a calm one is without incidents and early resets."""
    found: dict[str, list[Figures]] = {name: [] for name in orders}
    for seed in seeds:
        world = World(seed, accounts, load, calm=calm)
        for name, week in orders.items():
            found[name].append(week(world).run())
    return found


def total(figures: Iterable[Figures]) -> Figures:
    """Return the sums."""
    each = [dataclasses.astuple(one) for one in figures]
    return Figures(*(sum(values) for values in zip(*each, strict=True)))


def row_of_usual(accounts: int, order: str, figures: list[Figures]) -> str:
    """Return a line of the first table."""
    all_of_it = total(figures)
    return (
        f"| {accounts} | {order} | {all_of_it.asked:,} | {all_of_it.lost:,} | {all_of_it.untold:,} "
        f"| {_switches(all_of_it)} | {all_of_it.reread / 1e6:.1f} |"
    )


def row_of_overload(accounts: int, order: str, figures: list[Figures], beside: list[Figures]) -> str:
    """Return a line of the second table; ``beside`` is what a line is compared with."""
    all_of_it = total(figures)
    ratio = statistics.mean(one.served / other.served for one, other in zip(figures, beside, strict=True)) - 1
    change = f" ({ratio:+.1%})".replace("%", " %") if figures is not beside else ""
    by_seed = ", ".join(f"{one.served:,}" for one in figures)
    return (
        f"| {accounts} | {order} | {all_of_it.asked:,} | {all_of_it.served:,}{change} | {by_seed} | {all_of_it.lost:,} "
        f"| {all_of_it.untold:,} | {_switches(all_of_it)} | {all_of_it.reread / 1e6:.1f} |"
    )


def page(accounts: Iterable[int] = ACCOUNTS, seeds: Iterable[int] = SEEDS) -> str:
    """Run everything; return the page."""
    counts, seeds = [*accounts], [*seeds]
    lines = [
        HEAD.format(
            users=USERS,
            week=BUDGETS["7d"],
            opus=BUDGETS["7d_opus"],
            counts=COUNTS_A_MINUTE,
            wait=MAX_WAIT,
            seeds=", ".join(map(str, seeds)),
        ),
        USUAL_HEAD.format(load=USUAL),
    ]
    for count in counts:
        lines += [row_of_usual(count, name, found) + "\n" for name, found in run(ORDERS, count, USUAL, seeds).items()]
    lines.append(OVERLOADED_HEAD.format(load=OVERLOADED))
    for count in counts:
        of_count = run(OF_OVERLOAD, count, OVERLOADED, seeds, calm=True)
        lines += [row_of_overload(count, name, found, of_count[OURS]) + "\n" for name, found in of_count.items()]
    return "".join(lines)


def _switches(figures: Figures) -> str:
    return f"{figures.switches / figures.sessions:.3f}"


def main(arguments: list[str] | None = None) -> int:
    """Print the page, and write it where that is wanted; return 0."""
    parser = argparse.ArgumentParser(description="Play a week of a team's work on the pool, by several orders.")
    parser.add_argument("--write", action="store_true", help="write docs/SIMULATION.md")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many weeks each order gets")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    text = page(seeds=range(1, options.seeds + 1))
    sys.stdout.write(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
