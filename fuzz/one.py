"""Runs targets with libFuzzer, each in a fork of this process: importing instrumented code takes longer than many inputs.

A line of input is a JSON list: the file for the output, the target, libFuzzer's options, and the folder of the inputs. The
line of output for it is the exit status.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import atheris

# Each module that is instrumented would be named.
with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["claude_proxy"]):
    from fuzz.targets import TARGETS


def run(output: str, name: str, *options: str) -> None:
    """Run a target in this process, and end it."""
    with Path(os.devnull).open("rb") as nothing, Path(output).open("wb") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    atheris.Setup([name, *options], TARGETS[name].run)
    atheris.Fuzz()


def main() -> None:
    """Run a target for each line of the input."""
    for line in iter(sys.stdin.readline, ""):
        if (number := os.fork()) == 0:
            run(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
