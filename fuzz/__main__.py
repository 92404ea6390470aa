"""``python -m fuzz``: runs each target for a limited time or number of inputs, and prints the number of inputs and failures."""

import argparse
import functools
import json
import logging
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from fuzz import growth
from fuzz.targets import TARGETS

# libFuzzer's limits: time, memory and size of an input.
LIMITS = ("-timeout=20", "-rss_limit_mb=2048", "-max_len=3000", "-print_final_stats=1")
_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_BROKEN = re.compile(r"=== Uncaught Python exception|ERROR: libFuzzer|Traceback \(most recent call last\)")


# The target without libFuzzer: random shapes whose time is measured.
GROWTH = "growth"
GROWTH_SIZE = 15_000


class Result(NamedTuple):
    """The result of a target. ``covered`` counts branches of ``claude_proxy``; ``output`` is libFuzzer's output."""

    target: str
    executions: int
    covered: int
    features: int
    kept: int
    crashes: int
    output: str


class Fuzzer:
    """Runs targets in forks of one process, which has imported the instrumented code; used as a context manager."""

    def __enter__(self) -> Self:
        # A child process inherits its parent's peak memory; the shell in between has a small one.
        command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-m", "fuzz.one"]
        self._process = subprocess.Popen(  # noqa: S603 - this program's own
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def fuzz(self, target: str, *, seconds: int = 0, runs: int = -1, finds: Path | None = None) -> Result:
        """Run a target for ``seconds`` or ``runs``. An input that breaks a rule ends it and is written to ``finds``."""
        with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as log:
            for place, seed in enumerate(TARGETS[target].seeds):
                (Path(folder) / f"seed-{place}").write_bytes(seed)
            found = f"-artifact_prefix={finds.resolve() if finds else folder}/{target}-"
            bounds = [f"-max_total_time={seconds}", f"-runs={runs}", "-seed=1", found]
            status = self._run([log.name, target, *bounds, *LIMITS, folder])
            output = Path(log.name).read_text(encoding="utf-8", errors="replace")
        executions = _EXECUTIONS.search(output)
        covered = _COVERAGE.findall(output)[-1:] or [(0, 0, 0)]
        crashed = status != 0 or _BROKEN.search(output) is not None
        return Result(target, int(executions[1]) if executions else 0, *map(int, covered[0]), int(crashed), output)

    def _run(self, job: list[str]) -> int:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(f"{json.dumps(job)}\n")
        stdin.flush()
        return int(stdout.readline())


def grow(*, seconds: float = 0, runs: int = 1_000_000_000, seed: int = 1) -> Result:
    """Measure random request shapes for ``seconds`` or ``runs``; one whose time grows faster than its size ends the run."""
    choice, ends, tried = random.Random(seed), time.monotonic() + seconds if seconds else float("inf"), 0  # noqa: S311
    while tried < runs and time.monotonic() < ends:
        words, run, make, size = growth.random_shape(choice, GROWTH_SIZE)
        tried += 1
        found = growth.measured(run, make, size)
        if not found.is_linear:
            return Result(GROWTH, tried, 0, 0, 0, 1, f"{words}: {found}")
    return Result(GROWTH, tried, 0, 0, 0, 0, "")


def report(results: Iterable[Result]) -> int:
    """Print a line for each result and return the number of crashes."""
    crashes = 0
    print(f"{'target':<12}{'executions':>12}{'branches':>10}{'features':>10}{'corpus':>8}{'crashes':>9}")
    for result in results:
        crashes += result.crashes
        numbers = f"{result.executions:>12}{result.covered:>10}{result.features:>10}{result.kept:>8}{result.crashes:>9}"
        print(f"{result.target:<12}{numbers}", flush=True)
        if result.crashes:
            print(result.output[-4000:], flush=True)
    return crashes


def main() -> None:
    """Run the named targets, or all; exit with 1 if a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"some of {', '.join(TARGETS)}; without one, all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--finds", type=Path, default=Path("fuzz/finds"), help="the folder for inputs that break a rule")
    options = parser.parse_args()
    names = options.targets or [*TARGETS, GROWTH]
    unknown = [name for name in names if name not in (*TARGETS, GROWTH)]
    if unknown:
        parser.error(f"unknown target: {' or '.join(unknown)}")
    # The gateway's log lines about rejected heads are no results.
    logging.disable()
    options.finds.mkdir(parents=True, exist_ok=True)
    with Fuzzer() as fuzzer:
        run = functools.partial(fuzzer.fuzz, seconds=options.seconds, finds=options.finds)
        broken = report(grow(seconds=options.seconds) if name == GROWTH else run(name) for name in names)
    sys.exit(broken > 0)


if __name__ == "__main__":
    main()
