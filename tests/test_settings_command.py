"""cli/settings_command.py: the block that is printed, and what is said beside it."""

import json
import os

import pytest
from command_line import run

from claude_proxy.cli import project as project_folder


def test_the_settings_command_prints_the_block(project, capsys):
    """``claude-proxy settings`` prints the block and nothing else, with the token in it."""
    project_folder.prepare(project, None)
    run(project, "settings")
    printed = json.loads(capsys.readouterr().out)
    assert printed["env"]["ANTHROPIC_AUTH_TOKEN"] == project_folder.known_values(project / ".env")["PROXY_STATIC_TOKEN"]


NOTE = "this address works on this machine only; --url https://... gives the one for others"


@pytest.mark.parametrize("command", [("settings",), ("user", "add", "anna")], ids=["settings", "user-add"])
@pytest.mark.parametrize(
    ("environ", "arguments", "url", "noted"),
    [
        ({}, (), "http://127.0.0.1:4000", False),
        ({"HOST": "0.0.0.0"}, (), "http://127.0.0.1:4000", True),
        ({"HOST": "0.0.0.0", "PROXY_DOMAIN": "proxy.example.com"}, (), "https://proxy.example.com", False),
        ({"HOST": "0.0.0.0"}, ("--url", "http://127.0.0.1:9"), "http://127.0.0.1:9", False),
    ],
    ids=["loopback", "everywhere", "domain", "given"],
)
def test_a_block_for_others_has_an_address_for_others(peopled, capsys, command, environ, arguments, url, noted):
    """Where others reach the proxy, a block has the domain's address, or it is said that they need another one."""
    os.environ |= environ
    run(peopled, *command, *arguments)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["env"]["ANTHROPIC_BASE_URL"] == url
    assert (NOTE in printed.err) is noted


def test_a_token_that_is_known_is_shown(peopled, capsys):
    """Whoever's token itself stands in the variable gets a block with it."""
    os.environ["PROXY_USER_TOKENS"] = "anna=made-up-and-long-enough"
    run(peopled, "settings", "--user", "anna", "--format", "vscode")
    assert "made-up-and-long-enough" in capsys.readouterr().out
