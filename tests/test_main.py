"""cli/main.py: which commands there are, and how a wrong command line, an error, Ctrl-C and a closed pipe end one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import parsed, refused, run, stopped

from claude_proxy import __version__
from claude_proxy.cli import main, status_command
from claude_proxy.cli import project as project_folder

ROOT = project_folder.ROOT


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


def python(*arguments, **more):
    """Run the command line in a process of its own."""
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    return subprocess.run(
        [sys.executable, "-P", *arguments], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
        env=environ | {"PYTHONPATH": str(ROOT), **more.pop("environ", {})}, **more,
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_version_and_the_help_import_no_command(option):
    """The version names the three versions, the help every command, and neither waits for LiteLLM or for any command."""
    done = python("-X", "importtime", "-m", "claude_proxy", option)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"litellm", "httpx", "yaml", "rich", "claude_proxy.cli.project"}
    if option == "--version":
        assert done.stdout.startswith(f"claude-proxy {__version__} (LiteLLM 1.")
        assert done.stdout.endswith(f", Python {sys.version.split()[0]})\n")
    else:
        assert all(f"\n  {name}  " in done.stdout for name in main.COMMANDS)
        assert max(map(len, done.stdout.splitlines())) <= 80


def commands():
    """Every command and action, as words."""
    for name in main.COMMANDS:
        found = main.commands().get_command(None, name)
        yield from ([name, action] for action in getattr(found, "commands", ())) if hasattr(found, "commands") else [[name]]


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_every_command_has_help(words, capsys):
    """The help of a command fits eighty columns, starts with a sentence, and each of its options is explained."""
    main.main([*words, "--help"])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.startswith(f"Usage: claude-proxy {' '.join(words)} [OPTIONS]")
    command = main.commands()
    for word in words:
        command = command.get_command(None, word)
    assert command.help.endswith(".")
    assert all(param.help.endswith(".") for param in command.params if param.param_type_name == "option")


def test_every_command_line_in_the_help_is_right(capsys):
    """The examples at the end of each help are command lines that the parser takes."""
    examples = [example for words in commands() for example in example_lines(words)]
    assert len(examples) > 8
    for example in [*examples, *main.EXAMPLES]:
        program, *words = example.partition("#")[0].partition(" >")[0].partition(" |")[0].split()
        assert program == "claude-proxy"
        if words[0] != "COMMAND":
            parsed(words)


def example_lines(words):
    command = main.commands()
    for word in words:
        command = command.get_command(None, word)
    return command.examples


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["statsu"], "No such command 'statsu'. Did you mean 'status'?"),
        (["user", "ad"], "No such command 'ad'. Did you mean 'add'?"),
        (["status", "--wach"], "No such option '--wach'. Did you mean '--watch'?"),
        (["--versoin"], "No such option '--versoin'. Did you mean '--version'?"),
        (["user", "add"], "Missing argument 'NAME'."),
        (["pool", "set", "anna"], "Missing argument"),
        (["nothing-like-it"], "No such command 'nothing-like-it'."),
    ],
)
def test_a_wrong_command_line_gets_a_suggestion(capsys, arguments, says):
    """An unknown command or option is named with the one that is meant, and the exit code is 2."""
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (2, "")
    assert says in printed.err


@pytest.mark.parametrize("option", ["project", "data"])
def test_folders_stand_before_the_command_or_after_it(option, tmp_path):
    """``--project`` and ``--data`` mean the same at every place; of two the one that is nearer to the end applies."""
    words = [f"--{option}", str(tmp_path)]
    for arguments in ([*words, "user", "list"], ["user", *words, "list"], ["user", "list", *words]):
        assert getattr(parsed(arguments), option) == tmp_path
    assert getattr(parsed([f"--{option}", "elsewhere", "user", "list", *words]), option) == tmp_path
    assert getattr(parsed(["user", "list"]), option) is None


def test_ctrl_c_ends_a_command(project, capsys, monkeypatch):
    """Ctrl-C ends a command without a traceback, and with 130."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(status_command, "ask", interrupted)
    with pytest.raises(SystemExit) as caught:
        run(project, "usage")
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out, printed.err.strip()) == (128 + signal.SIGINT, "", "")


def test_a_closed_pipe_ends_a_command(project):
    """A program that reads only the start of the output, such as ``head -1``, causes no traceback and no error."""
    reading, writing = os.pipe()
    os.close(reading)
    (project / ".state").mkdir()
    (project / ".state" / "users").write_text("anna=made-up-and-long-enough\n")
    for more in ({}, {"PYTHONUNBUFFERED": "1"}):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "claude_proxy", "--project", str(project), "user", "list", "--json"],
            stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env={"PYTHONPATH": str(ROOT), **more}, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
    os.close(writing)


@pytest.mark.parametrize(
    "command", [["settings"], ["user", "list"], ["user", "add", "anna"], ["check", "--offline"], ["models"]]
)
def test_a_folder_that_cannot_be_read(project, command, capsys, monkeypatch):
    """A folder that the user may not look into is one line, and not a traceback."""

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", "/made/up")

    monkeypatch.setattr(project_folder.Path, "stat", denied)
    with pytest.raises(SystemExit) as caught:
        run(project, *command)
    monkeypatch.undo()
    printed = capsys.readouterr()
    assert caught.value.code == 1
    assert "cannot open this folder" in printed.err or printed.err == "Error: /made/up: Permission denied\n"
    assert "Traceback" not in printed.err


def test_a_full_disk_ends_a_command(project):
    """Output that cannot be written is one line, and not a traceback."""
    (project / ".state").mkdir()
    (project / ".state" / "users").write_text("anna=made-up-and-long-enough\n")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "claude_proxy", "--project", str(project), "user", "list"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, env={"PYTHONPATH": str(ROOT)}, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


def test_no_output_at_all(project):
    """A command whose streams are closed does its work, and ends as it would."""
    start = f"{sys.executable} -P -m claude_proxy --project {project} {{}} >&- 2>&-"
    for command, code in (("user list", 0), ("user remove nobody", 1), ("no-such-command", 2)):
        done = subprocess.run(["sh", "-c", start.format(command)], check=False, env={"PYTHONPATH": str(ROOT)}, timeout=60)
        assert done.returncode == code


def test_a_terminal_without_the_characters(project):
    """Where the output's encoding has no ✓, it is written as an escape."""
    done = python("-m", "claude_proxy", "--project", str(project), "check", "--offline", environ={"PYTHONIOENCODING": "ascii"})
    assert "Traceback" not in done.stderr
    assert "\\u2713 " in done.stdout
