"""cli/main.py: how a mistake ends a command."""

import pytest
from command_line import refused, stopped

from claude_proxy.cli import main
from claude_proxy.cli import project as project_folder


@pytest.mark.parametrize("command", ["serve", "settings"])
def test_mistakes_are_printed_together(project, command, capsys):
    """All mistakes of ``.env`` and ``config.yaml`` are printed at once, without a secret, and the exit code is 1."""
    (project / ".env").write_text(
        "PORT=http\nCLAUDE_TOKEN_MODE=both\nCLAUDE_OAUTH_TOKENS=sk-ant-api03-made-up\nPROXY_STATIC_TOKEN='made up'\n"
        "ZAI_API_KEY_FILE=/no/made-up\n"
    )
    example = (project_folder.ROOT / "config.yaml.example").read_text()
    (project / "config.yaml").write_text(example)
    mistakes = stopped(capsys, "--project", str(project), command)
    assert sorted(mistake.split(":")[0] for mistake in mistakes) == [
        "CLAUDE_OAUTH_TOKENS", "CLAUDE_TOKEN_MODE", "PORT", "PROXY_STATIC_TOKEN", "ZAI_API_KEY_FILE",
    ]  # fmt: skip
    assert "made-up" not in str(mistakes)
    assert "made up" not in str(mistakes)


def test_mistakes_of_both_files(project, capsys):
    """A mistake in ``config.yaml`` does not hide those of the settings."""
    (project / ".env").write_text("PORT=http\n")
    (project / "config.yaml").write_text("model_list: []\n")
    mistakes = stopped(capsys, "--project", str(project), "serve")
    assert any(mistake.startswith("PORT: ") for mistake in mistakes)
    assert any("model_list" in mistake for mistake in mistakes)


def test_no_command(capsys):
    """Without a command the usage is shown."""
    with pytest.raises(SystemExit) as caught:
        main.main([])
    assert caught.value.code == 2
    assert "Usage: claude-proxy" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "add", "admin"),
        ("user", "add", "anna", "--model", "nobody-serves-this"),
        ("user", "add", "anna", "--url", "nowhere"),
        ("user", "add", "anna", "--token", "short"),
        ("user", "remove", "anna"),
        ("settings", "--user", "anna"),
        ("settings", "--model", "nobody-serves-this"),
    ],
)
def test_what_cannot_be_done_changes_nothing(peopled, capsys, arguments):
    """A command with a mistake says so in a sentence, prints nothing to paste and writes nobody down."""
    assert len(refused(capsys, peopled, *arguments)) == 1
    assert not (peopled / ".state" / "users").exists()
