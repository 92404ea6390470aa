"""Rewrites the assertions of each test file in one of xdist's processes, where each would rewrite all of them.

Every process collects every file, all in the same order and at the same time. So each rewrites its share before it collects,
as pytest would, and the others find that in pytest's cache.
"""

import sys
from pathlib import Path

import pytest
from _pytest.assertion.rewrite import PYC_TAIL, _read_pyc, _rewrite_test, _write_pyc, assertstate_key, get_cache_dir

TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Rewrite this process's share, if there are several processes and what one has written helps another."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None or sys.dont_write_bytecode:
        return
    first = int(worker["workerid"].removeprefix("gw"))
    for file in sorted(TESTS.rglob("test_*.py"))[first :: worker["workercount"]]:
        folder = get_cache_dir(file)
        folder.mkdir(parents=True, exist_ok=True)
        cached = folder / f"{file.stem}{PYC_TAIL}"
        if _read_pyc(file, cached) is None:
            digest, code = _rewrite_test(file, session.config)
            _write_pyc(session.config.stash[assertstate_key], code, digest, cached)
