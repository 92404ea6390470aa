"""`claude-proxy check` finds each planted mistake in words, with its file and line, and finds nothing in what is right."""

import functools
import itertools
import json

import pytest
from planted_mistakes import (
    SECRETS,
    Row,
    of_client,
    of_config,
    of_dotenv,
    of_first_hour,
    of_managed_settings,
    of_models,
    of_sections,
    of_values,
    right,
)

from claude_proxy.check import installation
from claude_proxy.cli import main
from claude_proxy.cli import project as project_folder
from claude_proxy.config.models import ConfigError
from claude_proxy.config.settings import SettingsError

KINDS = (of_config, of_sections, of_values, of_models, of_first_hour, of_dotenv, of_client, of_managed_settings)
ROWS = tuple(row for kind in KINDS for row in kind.ROWS)

owned_files = functools.cache(installation.owned_files)


@pytest.fixture
def check(tmp_path, capsys, monkeypatch):
    """Write a project, run the command on it, and return its output; nothing of it is a traceback or a secret."""
    # What is installed is the same for every project.
    monkeypatch.setattr(installation, "owned_files", owned_files)

    def run(files, *arguments, shared=()):
        write(tmp_path, files)
        for name in shared:
            (tmp_path / name).chmod(0o644)
        client = ["--client-settings", str(tmp_path / "settings.json")] if "settings.json" in files else []
        code = 0
        try:
            main.main(["--project", str(tmp_path), "check", "--offline", *client, *arguments])
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        assert not [secret for secret in SECRETS if secret in printed.out + printed.err], printed.out
        assert "Traceback" not in printed.out + printed.err
        assert "please report this" not in printed.out
        return code, printed.out.replace(str(tmp_path), "PROJECT")

    return run


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_planted_mistake_is_found(check, row: Row):
    """The mistake is one line of the report: its file and line, the cause, and what to write instead."""
    code, printed = check(row.project(), shared=row.shared)
    found = [line for line in printed.splitlines() if all(part in line for part in row.says)]
    assert found, printed
    assert found[0].startswith(f"{row.level} "), printed
    assert code == (1 if "✗" in printed else 0)


@pytest.mark.parametrize("row", [row for row in ROWS if "over lines" in row.name], ids=lambda row: row.name)
def test_a_list_over_lines_is_one_error(check, row: Row):
    """Its other lines are not reported again as variables, as credentials in a wrong place, or for a comma at their end."""
    _, printed = check(row.project())
    assert "1 error, 0 warnings." in printed


def write(folder, files):
    """Write the files of a project, readable for their owner alone."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o600)


def start_fails(project):
    """Whether the start rejects these files, in the order in which `serve` validates them."""
    try:
        project_folder.load_environment(project, None)
        project_folder.checked(project_folder.config_path(project, None))
    except (SettingsError, ConfigError):
        return True
    return False


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_prevents_a_start_is_an_error(check, tmp_path, row: Row):
    """The command fails for every project with which the start fails, by the start's own validation."""
    write(tmp_path, row.project())
    if start_fails(tmp_path):
        code, printed = check(row.project())
        assert code == 1, printed


def test_there_are_enough_mistakes():
    """The table has at least 77 rows, each with a name of its own."""
    names = [row.name for row in ROWS]
    assert len(names) == len({*names}) >= 77


@pytest.mark.parametrize("name", right.PROJECTS)
def test_nothing_is_found_in_a_project_that_is_right(check, name):
    """A project that works has no error and no warning, and the command ends with 0."""
    files = {path: text for path, text in right.PROJECTS[name].items() if text is not None}
    code, printed = check(files)
    found = [line for line in printed.splitlines() if line.startswith(("✗", "!"))]
    # The shipped example is checked where there is no config.yaml, which is reported, with the keys that it needs.
    expected = ("! there is no config.yaml", "! config.yaml.example line") if name == "the shipped example" else ()
    assert not [line for line in found if not line.startswith(expected or "-")], printed
    assert code == 0


@pytest.mark.parametrize("row", ROWS[:: len(ROWS) // 12], ids=lambda row: row.name)
def test_a_finding_as_json(check, row: Row):
    """Each finding has its level, file, line, message and remedy, and the exit code is the same as without --json."""
    code, printed = check(row.project(), "--json", shared=row.shared)
    report = json.loads(printed)
    assert code == int(not report["ok"])
    findings = list(itertools.chain.from_iterable(one["findings"] for one in report["checks"]))
    assert findings
    for finding in findings:
        assert {"level", "file", "line", "message", "remedy"} <= finding.keys()
        line = f"{finding['message']}; {finding['remedy']}"
        if all(part.replace("PROJECT", "") in line for part in row.says):
            assert f"{finding['file']}".removeprefix("PROJECT") in row.says[0]
            assert finding["line"] is None or f"line {finding['line']}" in line
            return
    raise AssertionError(printed)
