"""Runs one target in this process with libFuzzer: ``python -m fuzz.one TARGET [libFuzzer's options] FOLDER``."""

import sys

import atheris

with atheris.instrument_imports(include=["claude_proxy"]):
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    name, *options = sys.argv[1:]
    atheris.Setup([name, *options], TARGETS[name].run)
    atheris.Fuzz()  # ends the process
