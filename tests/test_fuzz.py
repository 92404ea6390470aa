"""fuzz/: the fuzzer runs each target, finds broken rules, and reports them."""

import importlib.util

import pytest

import fuzz.__main__ as runner
from fuzz.targets import TARGETS

RUNS = 400
needs_atheris = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform")


@pytest.fixture(scope="module")
def fuzzer():
    with runner.Fuzzer() as fuzzer:
        yield fuzzer


@needs_atheris
@pytest.mark.parametrize("name", TARGETS)
def test_a_target(fuzzer, name):
    """Each target tries a number of inputs, reaches code, and breaks no rule."""
    result = fuzzer.fuzz(name, runs=RUNS)
    print(f"\n{name}: {result.executions} inputs tried, {result.crashes} lost")
    assert not result.crashes, result.output
    assert result.executions >= RUNS
    assert result.covered > 0


def result(**more):
    return runner.Result(
        **({"target": "sse", "executions": 5, "covered": 4, "features": 3, "kept": 2, "crashes": 0, "output": "o"} | more)
    )


def test_the_report(capsys):
    """A broken rule is counted and its output shown; a target without one is a line of figures."""
    assert runner.report([result(), result(target="body", crashes=1, output="the reason")]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[1].split() == ["sse", "5", "4", "3", "2", "0"]
    assert told[-1] == "the reason"


@needs_atheris
def test_a_target_that_breaks_is_a_crash(fuzzer, monkeypatch):
    """A run that ends with an error counts as a crash, with the output of libFuzzer or Python."""
    monkeypatch.setitem(TARGETS, "unknown", TARGETS["sse"])  # here and not in the process that is started
    found = fuzzer.fuzz("unknown", runs=1)
    assert found.crashes == 1
    assert "KeyError: 'unknown'" in found.output


def test_random_shapes_grow_in_proportion():
    """Random parts of a request take time in proportion to their length."""
    found = runner.grow(runs=40)
    print(f"\n{found.target}: {found.executions} shapes tried, {found.crashes} lost")
    assert not found.crashes, found.output
    assert found.executions == 40


def test_a_shape_that_grows_faster_is_a_crash(monkeypatch):
    """A shape with quadratic time ends the run and is named."""
    square = ("a square", lambda size: [place in [*range(size)] for place in range(size)], int, 200)
    monkeypatch.setattr(runner.growth, "random_shape", lambda *_: square)
    found = runner.grow(runs=5)
    assert (found.crashes, found.executions) == (1, 1)
    assert found.output.startswith("a square: ")
