"""``make simulate``: a week of forty users on 5 and on 20 accounts, with several orders; writes docs/SIMULATION.md.

The same seed gives the same figures on every machine, because nothing depends on real time.
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
from benchmarks.orders import BeforeWeek, OmniscientWeek
from benchmarks.week import MAX_WAIT, Figures, OurWeek, Week, World, reset_first

PAGE = Path(__file__).parent.parent / "docs" / "SIMULATION.md"
ACCOUNTS = (5, 20)
SEEDS = (1, 2, 3, 4)
# The demand relative to what the accounts provide in a week: with the first, some windows run out; the second exceeds them.
USUAL, OVERLOADED = 1.1, 1.3
OURS, BEFORE, OMNISCIENT = "headroom", "before", "omniscient"
RESET_FIRST = "reset-first"
ORDERS: Mapping[str, Callable[[World], Week]] = {
    OURS: OurWeek,
    RESET_FIRST: reset_first,
    BEFORE: BeforeWeek,
    OMNISCIENT: OmniscientWeek,
}
OF_OVERLOAD: Mapping[str, Callable[[World], Week]] = {OURS: OurWeek, RESET_FIRST: reset_first}

HEAD = """# Simulation

This page was written by `make simulate`. A simulated Anthropic gets the requests of {users} users for a week, by seed:
working hours, sessions with a growing context, subagents, token counts. Each account has a five-hour window, a weekly
window of {week:g} of these, a weekly Opus window of {opus:g}, and {counts} token counts per minute; the weeks end on
different days. There are incidents: all accounts reject their tokens (401) for a minute, one account does for three
hours, and Anthropic is overloaded three times. Once all accounts and once a single account are reset early, which no
response announces. The proxy's own code chooses credentials, applies cooldowns and fails over, on a simulated clock;
`CLAUDE_POOL_MAX_WAIT_SECONDS` is {wait:g}. Figures are sums over the seeds {seeds}.

- **lost**: refused requests that some account would have served. **Unannounced**: refused requests that only an account would
  have served that was reset early or accepted its token again, which no response had announced.
- **switches** per session, and millions of tokens **re-read** although the cache of the previous account was warm.
- **served**: requests. The client of a refused request retries as the response says, if that is within ten minutes.
"""
USUAL_HEAD = """
## An ordinary week

The demand is {load:g} times what the accounts provide in seven days; on Monday they have more. **before** is the order of
revision 4b4496c; **omniscient** knows every account and all future requests of each session.

| Accounts | Order | Requests | Lost | Unannounced | Switches per session | Re-read, millions |
| --- | --- | --- | --- | --- | --- | --- |
"""
OVERLOADED_HEAD = """
## An overloaded week

The demand is {load:g} times what the accounts provide in seven days, without incidents and early resets.

| Accounts | Order | Requests | Served | By seed | Lost | Unannounced | Switches per session | Re-read, millions |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def run(
    orders: Mapping[str, Callable[[World], Week]], accounts: int, load: float, seeds: Iterable[int], *, calm: bool = False
) -> dict[str, list[Figures]]:
    """Return the figures of each order, for a week per seed; ``calm`` means no incidents and no early resets."""
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
        f"| {accounts} | {order} | {all_of_it.requests:,} | {all_of_it.lost:,} | {all_of_it.unannounced:,} "
        f"| {_switches(all_of_it)} | {all_of_it.reread / 1e6:.1f} |"
    )


def row_of_overload(accounts: int, order: str, figures: list[Figures], beside: list[Figures]) -> str:
    """Return a line of the second table; ``beside`` are the figures for the comparison."""
    all_of_it = total(figures)
    ratio = statistics.mean(one.served / other.served for one, other in zip(figures, beside, strict=True)) - 1
    change = f" ({ratio:+.1%})".replace("%", " %") if figures is not beside else ""
    by_seed = ", ".join(f"{one.served:,}" for one in figures)
    return (
        f"| {accounts} | {order} | {all_of_it.requests:,} | {all_of_it.served:,}{change} | {by_seed} | {all_of_it.lost:,} "
        f"| {all_of_it.unannounced:,} | {_switches(all_of_it)} | {all_of_it.reread / 1e6:.1f} |"
    )


def page(accounts: Iterable[int] = ACCOUNTS, seeds: Iterable[int] = SEEDS) -> str:
    """Run everything and return the page."""
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
    """Print the page, and write it if requested; return 0."""
    parser = argparse.ArgumentParser(description="Simulate a week of a team's work on the pool, with several orders.")
    parser.add_argument("--write", action="store_true", help="write docs/SIMULATION.md")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="the number of weeks for each order")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    text = page(seeds=range(1, options.seeds + 1))
    sys.stdout.write(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
