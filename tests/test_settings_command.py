"""cli/settings_command.py: the block that is printed, and what is said beside it."""

import contextlib
import json
import os
import re

import pytest
from command_line import refused, run

from claude_proxy.cli import onboarding
from claude_proxy.cli import project as project_folder
from claude_proxy.config.settings_json import checksum


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


def test_the_published_port_is_the_balancer_s(peopled, capsys):
    """With Docker's profile scale, which has a Redis, the address is the load balancer's, whatever Redis is used."""
    os.environ |= {"HOST": "0.0.0.0", "SCALE_PORT": "4999", "CLAUDE_PROXY_PUBLISHED_HOST": "127.0.0.1"}
    for peer, own, port in (("127.0.0.1", "", 4999), ("127.0.0.1", "redis://127.0.0.1:9/0", 4999), ("redis.invalid", "", 4000)):
        os.environ |= {"CLAUDE_PROXY_PEER_REDIS": f"redis://{peer}:6379/0", "REDIS_URL": own}
        os.environ.pop("CLAUDE_PROXY_PUBLISHED_PORT", None)
        run(peopled, "settings")
        printed = capsys.readouterr()
        assert json.loads(printed.out)["env"]["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{port}"
        assert NOTE not in printed.err


def test_form_b_is_printed(peopled, capsys):
    """``--form b`` prints the block for users with a login of their own, and says so."""
    run(peopled, "settings", "--form", "b")
    printed = capsys.readouterr()
    assert "x-claude-token-mode: passthrough" in json.loads(printed.out)["env"]["ANTHROPIC_CUSTOM_HEADERS"]
    assert "a login of their own" in printed.err


@pytest.mark.parametrize("command", [("settings",), ("user", "add", "anna")], ids=["settings", "user-add"])
@pytest.mark.parametrize("form", ["python", "typescript", "github"])
def test_where_the_token_of_code_belongs(peopled, capsys, command, form):
    """A format without the token names the variable or the repository's secret for it, and shows the token beside the block."""
    run(peopled, *command, "--format", form)
    printed = capsys.readouterr()
    where = "gh secret set CLAUDE_PROXY_TOKEN\nThe token is" if form == "github" else "Set CLAUDE_PROXY_TOKEN to"
    (token,) = re.findall(rf"{where} (\S+)$", printed.err, re.MULTILINE)
    assert len(token) > 40
    assert token not in printed.out


def test_the_models_for_small_work_are_options(peopled, capsys):
    """``--haiku-model`` and ``--subagent-model`` name a model each, and one that is not served is an error."""
    run(peopled, "settings", "--haiku-model", "demo", "--subagent-model", "claude-demo")
    said = json.loads(capsys.readouterr().out)["env"]
    assert (said["ANTHROPIC_DEFAULT_HAIKU_MODEL"], said["CLAUDE_CODE_SUBAGENT_MODEL"]) == ("demo", "claude-demo")
    assert refused(capsys, peopled, "settings", "--haiku-model", "nobody")[0].startswith("--haiku-model: nobody is not served")


@pytest.mark.parametrize("arguments", [(), ("--model", "demo"), ("--form", "b"), ("--form", "b", "--model", "demo")])
def test_check_accepts_a_printed_block(peopled, capsys, tmp_path, arguments):
    """``claude-proxy check`` has nothing to say against settings that the proxy itself printed."""
    run(peopled, "settings", *arguments)
    (tmp_path / "settings.json").write_text(capsys.readouterr().out)
    with contextlib.suppress(SystemExit):
        run(peopled, "check", "--offline", "--client-settings", str(tmp_path / "settings.json"))
    printed = capsys.readouterr().out
    assert "config.yaml" in printed, "the check was read"
    assert not [line for line in printed.splitlines() if "settings.json" in line and not line.startswith("✓")]


@pytest.mark.parametrize("command", [("settings",), ("user", "add", "anna")], ids=["settings", "user-add"])
@pytest.mark.parametrize("form", [*onboarding.FORMATS])
def test_the_block_as_json(peopled, capsys, command, form):
    """``--json`` has the address, the token, where the block goes, and the block: as JSON where it is JSON, else as text."""
    run(peopled, *command, "--format", form, "--json", "--model", "demo")
    found = json.loads(capsys.readouterr().out)
    assert [*found] == ["format", "where", "url", "token", "block"]
    assert (found["format"], found["url"]) == (form, "http://127.0.0.1:4000")
    assert found["token"].startswith("sk-")
    assert isinstance(found["block"], dict) is (form in ("settings", "vscode"))
    assert found["block"]


MANAGED = """
claude_proxy:
  users:
    anna: {models: [demo], groups: [Team-A]}
  managed_settings:
    groups: {team-a: {language: German}, team-b: {model: opus}}
"""


def test_managed_settings_are_printed(peopled, capsys):
    """``--managed`` prints what the route has for a user: by their groups, those of a sign-in too, and their models."""
    with (peopled / "config.yaml").open("a") as file:
        file.write(MANAGED)
    run(peopled, "settings", "--managed", "--user", "anna", "--group", "TEAM-B")
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["language"], found["model"], found["availableModels"]) == ("German", "opus", ["demo"])
    assert "by group team-a, group team-b and what the proxy knows" in printed.err

    run(peopled, "settings", "--managed", "--user", "anna", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["checksum"] == checksum(found["settings"])
    assert refused(capsys, peopled, "settings", "--managed")[0] == (
        "no entry of managed_settings applies to static, who gets a 404"
    )


def test_managed_settings_need_the_section(peopled, capsys):
    """Without the section there is nothing to print, and ``--group`` alone has no meaning."""
    assert "has no claude_proxy: managed_settings" in refused(capsys, peopled, "settings", "--managed")[0]
    assert refused(capsys, peopled, "settings", "--group", "team-a")[0] == "--group is for --managed"
