"""No start beside a release of LiteLLM that steals: real processes, with a made-up distribution on their path."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from claude_proxy import guard

ROOT = Path(__file__).resolve().parent.parent


def distribution(folder: Path, version: str) -> Path:
    """A folder of packages in which LiteLLM is that release, and tells when it is imported."""
    metadata = folder / f"litellm-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: litellm\nVersion: {version}\n")
    (folder / "litellm").mkdir()
    (folder / "litellm" / "__init__.py").write_text("print('LiteLLM was imported')")
    return folder


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(folder), str(ROOT)))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": path, **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("version", sorted(guard.COMPROMISED))
def test_serve_refuses_a_bad_release(tmp_path, version):
    """`claude-proxy serve` ends with words and an error before LiteLLM is imported, and writes nothing."""
    packages = distribution(tmp_path / "packages", version)
    (tmp_path / "project").mkdir()
    done = run(packages, "-m", "claude_proxy", "--project", str(tmp_path / "project"), "serve")
    assert done.returncode == 1
    assert f"LiteLLM {version} is installed" in done.stderr
    assert "replace every credential" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list((tmp_path / "project").iterdir()) == []


@pytest.mark.parametrize("module", ["request_transformer", "claude_proxy.litellm.app", "claude_proxy.cli.check_command"])
def test_an_import_refuses_a_bad_release(tmp_path, module):
    """Whatever imports the project ends, a worker too, before LiteLLM is imported; no ``except Exception`` keeps it going."""
    packages = distribution(tmp_path, "1.82.8")
    done = run(packages, "-c", f"try:\n    import {module}\nexcept Exception:\n    pass\nprint('went on')")
    assert (done.returncode, done.stdout) == (1, "")
    assert "LiteLLM 1.82.8 is installed" in done.stderr


def test_litellms_own_command_does_not_serve_with_it(tmp_path):
    """``litellm --config`` ends when it loads our callback in such an environment: it does not serve without our rules."""
    (tmp_path / "litellm-1.107.0.dist-info").mkdir()
    (tmp_path / "litellm-1.107.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: litellm\nVersion: 1.107.0\n")
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml.example").read_text(encoding="utf-8"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "-m",
        "litellm.proxy.proxy_cli",
        "--config",
        str(tmp_path / "config.yaml"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    done = run(tmp_path, *command, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_MASTER_KEY="sk-made-up-master")
    assert done.returncode != 0
    assert "LiteLLM 1.107.0 is installed" in done.stderr + done.stdout


def test_a_startup_file_is_found(tmp_path):
    """The file that a bad release leaves among the packages stops a start, whatever LiteLLM is there now."""
    (tmp_path / "litellm_init.pth").write_text("# made up\n")
    done = run(tmp_path, "-m", "claude_proxy", "--project", str(tmp_path), "user", "list")
    assert done.returncode == 1
    assert f"{tmp_path / 'litellm_init.pth'} exists" in done.stderr


@pytest.mark.parametrize("version", ["1.108.7", "1.82.6", "1.106.2"])
def test_other_releases_are_let_through(tmp_path, version):
    """Only what is known to be bad is refused; another release than the tested one gets a warning from the checks."""
    distribution(tmp_path, version)
    assert guard.found([str(tmp_path)]) == []


def test_no_bad_release_is_installed_for_the_tests():
    """`make test LITELLM=...` asks this before anything is fetched."""
    for version in guard.COMPROMISED:
        with pytest.raises(SystemExit, match=version.replace(".", r"\.")):
            guard.require(version)
    guard.require("1.108.7")
