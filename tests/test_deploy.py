"""deploy/: the units for those without Docker start what the other ways start, and name no machine's folder."""

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from command_line import parsed

from claude_proxy.config.settings import Settings

DEPLOY = Path(__file__).parent.parent / "deploy"
SERVICE, AGENT = DEPLOY / "claude-proxy.service", DEPLOY / "org.claude-proxy.plist"


def filled(path: Path, folder: Path) -> str:
    text = path.read_text(encoding="utf-8")
    assert "@FOLDER@" in text
    return text.replace("@FOLDER@", str(folder))


def arguments(command: list[str]) -> object:
    """What our own parser understands of a unit's command."""
    assert command[0].endswith("/.venv/bin/python")
    assert command[1:3] == ["-m", "claude_proxy"]
    return parsed(command[3:])


def service_lines(folder: Path) -> dict[str, str]:
    lines = [line.partition("=") for line in filled(SERVICE, folder).splitlines() if not line.startswith("#")]
    return {name: value for name, equals, value in lines if equals}


def test_the_service_is_right(tmp_path):
    """Systemd finds no mistake in the unit once its folder is filled in."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    python = tmp_path / "folder" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    unit = tmp_path / SERVICE.name
    unit.write_text(filled(SERVICE, tmp_path / "folder"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, [line for line in checked.stderr.splitlines() if SERVICE.name in line]) == (0, [])


def test_the_service_starts_the_proxy(tmp_path):
    """The unit's command is one of ours, with the state directory as the writable folder, and it may write nothing else."""
    lines = service_lines(tmp_path)
    options = arguments(lines["ExecStart"].split())
    assert (options.command, str(options.data)) == ("serve", "%S/claude-proxy")
    assert lines["StateDirectory"] == "claude-proxy"
    assert (lines["DynamicUser"], lines["ProtectSystem"], lines["NoNewPrivileges"]) == ("yes", "strict", "yes")


def test_the_agent_starts_the_proxy(tmp_path):
    """Launchd's list is a property list whose command is one of ours, in the project's folder."""
    agent = plistlib.loads(filled(AGENT, tmp_path).encode())
    assert agent["Label"] == AGENT.stem
    assert arguments(agent["ProgramArguments"]).command == "serve"
    assert agent["WorkingDirectory"] == str(tmp_path)
    assert agent["Umask"] == 0o077
    assert agent["StandardOutPath"].startswith(str(tmp_path / ".state"))


def test_a_stop_may_take_as_long_as_requests_have(tmp_path):
    """Neither systemd nor launchd ends a proxy that drains, and for what comes after that it has as long as in Docker."""
    drains = Settings.parse({}).drain_seconds
    agent = plistlib.loads(filled(AGENT, tmp_path).encode())
    assert (int(service_lines(tmp_path)["TimeoutStopSec"]), agent["ExitTimeOut"]) == (drains + 20, drains + 20)
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]["proxy"]["stop_grace_period"] == f"${{PROXY_DRAIN_SECONDS:-{drains:g}}}s20s"


@pytest.mark.parametrize("path", [SERVICE, AGENT], ids=["service", "agent"])
def test_the_installation_command_fills_the_folder_in(path, tmp_path):
    """The sed of the file's own comment leaves no placeholder, whatever the folder is called."""
    script = f"s|@FOLDER@|{tmp_path / 'a folder'}|g"
    assert 'sed "s|@FOLDER@|$PWD|g"' in path.read_text(encoding="utf-8")
    done = subprocess.run(["sed", script, str(path)], capture_output=True, text=True, check=True).stdout
    body = done.split("[Unit]" if path is SERVICE else "<plist", 1)[1]
    assert "@FOLDER@" not in body
    assert "a folder/.venv/bin/python" in body
