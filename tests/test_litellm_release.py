"""deploy/litellm_release.py: which release of LiteLLM the weekly run tries."""

import importlib.util
import sys
from pathlib import Path

import pytest

from claude_proxy.guard import COMPROMISED

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def newest(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("litellm_release", ROOT / "deploy" / "litellm_release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.newest


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ("1.9.2, 1.10.0, 1.9.11", "1.10.0"),
        ("1.10.0rc1, 1.10.0.dev3, 1.10.0.post1, 1.9.9", "1.9.9"),
        (f"{max(COMPROMISED)}, 1.2.3", "1.2.3"),
        (f"{', '.join(sorted(COMPROMISED))}, 1.2.3", "1.2.3"),
    ],
)
def test_the_newest_release_is_chosen(newest, versions, chosen):
    """The newest final release by its numbers, whatever the order, and never a compromised one."""
    assert newest(f"litellm (made up)\nAvailable versions: {versions}\n  INSTALLED: 1.2.3\n") == chosen


@pytest.mark.parametrize("listed", ["", "ERROR: No matching distribution found\n", "Available versions: 1.107.0\n"])
def test_no_release_is_an_error(newest, listed):
    """Without a release that may be tried the run ends, and tries nothing."""
    with pytest.raises(SystemExit, match="no release"):
        newest(listed)
