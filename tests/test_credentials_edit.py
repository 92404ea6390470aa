"""config/credentials_edit.py: one entry changes, the rest of the file stays, and no change adds an error."""

import itertools
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import yaml

from claude_proxy.config import credentials_edit as edit
from claude_proxy.config.credentials_edit import HEAD, NotEdited, assignments
from claude_proxy.config.credentials_file import parse
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.secret import Secret

A, B, K = "sk-ant-oat01-made-up-a", "sk-ant-oat01-made-up-b", "sk-ant-api03-made-up-k"
FIXED = Credential("fixed", Kind.OAUTH, Secret(B), source="CLAUDE_OAUTH_TOKENS")
TEXT = f"""# Ours.

credentials:
    # The first.
    - label: anna   # of the team
      secret: {A}
      priority: 2

    # The second.
    - label: k
      secret: "{K}"
# The end.
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "credentials.yaml"


def add(path, label, secret, pool=(), **terms):
    edit.add(path, pool, label, "secret", Secret(secret), terms=terms)


def entries(path):
    return yaml.safe_load(path.read_text())["credentials"]


def refused(call, *arguments, **named):
    with pytest.raises(NotEdited) as caught:
        call(*arguments, **named)
    assert "made-up" not in str(caught.value)
    return caught.value.mistakes


def test_the_first_one_makes_the_file(path):
    """A new file starts with an explanation, only its owner can read it, and its lock is beside it."""
    add(path, "anna", A, priority=2, groups=["a", "b"])
    assert path.read_text().startswith(HEAD)
    assert entries(path) == [{"label": "anna", "secret": A, "priority": 2, "groups": ["a", "b"]}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in path.parent.iterdir()) == ["credentials.yaml", "credentials.yaml.lock"]


def test_everything_else_stays_as_it_is(path):
    """Comments, blank lines and other entries keep their bytes; only the changed entry is rewritten."""
    path.write_text(TEXT)
    edit.change(path, (), "k", {"paused": True})
    assert path.read_text() == TEXT.replace(f'secret: "{K}"\n', f"secret: {K}\n      paused: true\n")
    add(path, "b", B)
    assert path.read_text().endswith(f"      paused: true\n    - label: b\n      secret: {B}\n# The end.\n")
    edit.remove(path, (), "anna")
    assert path.read_text().startswith("# Ours.\n\ncredentials:\n    # The first.\n\n    # The second.\n    - label: k\n")
    assert [entry["label"] for entry in entries(path)] == ["k", "b"]


@pytest.mark.parametrize(
    "text",
    [
        f"credentials: [{{label: anna, secret: {A}}}, {{label: k, secret: {K}}}]",
        f"credentials:\n- {{label: anna, secret: {A}}}\n- {{label: k, secret: {K}}}",
        f"credentials:\n-\n  label: anna\n  secret: {A}\n-\n  label: k\n  secret: {K}\n",
        f"credentials:\n- label: anna\n  secret: >-\n    {A}\n\n- secret: {K}\n  label: k\n",
        f"{{credentials: [{{label: anna, secret: &x {A}}}, {{label: k, secret: {K}}}]}}",
    ],
)
def test_any_form_of_yaml_can_be_changed(path, text):
    """A change has exactly the requested effect in every form of YAML."""
    path.write_text(text)
    before = entries(path)
    edit.change(path, (), "anna", {"weight": 2})
    add(path, "b", B)
    edit.remove(path, (), "k")
    assert entries(path) == [before[0] | {"weight": 2}, {"label": "b", "secret": B}]


@pytest.mark.parametrize("text", ["", "# Nothing.\n", "credentials:\n", "credentials: []\n", "# Nothing.\ncredentials: []\n"])
def test_an_empty_file_gets_its_first_entry(path, text):
    """A file without entries keeps its comments and gets an entry; the last entry can be removed again."""
    path.write_text(text)
    add(path, "anna", A)
    assert entries(path) == [{"label": "anna", "secret": A}]
    assert path.read_text().startswith(text.partition("credentials")[0])
    edit.remove(path, (), "anna")
    assert parse(path.read_text()) == ((), ())


def test_values_are_set_and_taken_away(path):
    """A value replaces the one before, None removes it, and the label can be changed."""
    path.write_text(TEXT)
    edit.change(path, (), "anna", {"priority": None, "weight": 2, "made": "2026-03-01", "label": "ann"})
    assert entries(path)[0] == {"label": "ann", "secret": A, "weight": 2, "made": date(2026, 3, 1)}
    edit.change(path, (), "ann", {"paused": True})
    edit.change(path, (), "ann", {"paused": False, "made": None, "weight": None})
    assert entries(path)[0] == {"label": "ann", "secret": A}


def test_words_of_a_command_line():
    """Numbers, flags and lists are parsed, and an empty value becomes None."""
    words = ["priority=2", "weight=0.5", "paused=true", "groups=team-a, team-b", "owner=123", "reserve=", "max_concurrency=x"]
    assert assignments(words) == {
        "priority": 2, "weight": 0.5, "paused": True, "groups": ["team-a", "team-b"], "owner": "123", "reserve": None,
        "max_concurrency": "x",
    }  # fmt: skip
    assert refused(assignments, ["priority"]) == ("a change is name=value, such as priority=2",)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"priority": "x", "weight": 0},
            ("priority should be a whole number from -1000 to 1000", "weight should be a number from 0.01 to 1000"),
        ),
        ({"prioritty": 2}, ("prioritty is not a setting; did you mean priority?",)),
        ({"secret": A}, (f"secret is not a setting; the settings are {', '.join(edit.SETTABLE)}",)),
        ({"label": None}, ("a label cannot be removed",)),
        ({"label": "k"}, ("credentials.yaml line 10, k: has the same label as an earlier entry",)),
        ({"kind": "api_key"}, ("credentials.yaml line 5, anna: secret is an OAuth token, which is not its kind",)),
    ],
)  # fmt: skip
def test_what_would_be_a_mistake_is_not_done(path, values, says):
    """A change that would make the file invalid is rejected with all errors, and the file is unchanged."""
    path.write_text(TEXT)
    assert refused(edit.change, path, (), "anna", values) == says
    assert path.read_text() == TEXT


def test_who_is_there_already(path):
    """An existing label or secret is not added again; a variable's credential can be moved with the same secret."""
    path.write_text(TEXT)
    assert "already has a credential anna" in refused(add, path, "anna", B)[0]
    here = [Credential("anna", Kind.OAUTH, Secret(A), source=str(path)), FIXED]
    assert refused(add, path, "ann", A, pool=here) == (f"anna is the same credential, and {path} already has it",)
    assert (
        "another credential already has the label fixed (CLAUDE_OAUTH_TOKENS)"
        in refused(add, path, "fixed", "sk-ant-oat01-other", pool=here)[0]
    )
    add(path, "fixed", B, pool=here)
    assert [entry["label"] for entry in entries(path)] == ["anna", "k", "fixed"]


def test_who_is_not_there(path):
    """An unknown label is reported; for a variable's credential the message says how to move it."""
    path.write_text(TEXT)
    assert "has no credential nobody" in refused(edit.remove, path, (), "nobody")[0]
    (says,) = refused(edit.change, path, [FIXED], "fixed", {"paused": True})
    assert says.startswith("fixed comes from CLAUDE_OAUTH_TOKENS, which no command changes. To move it, run ")


@pytest.mark.parametrize(("label", "secret"), [(A, B), ("a b", B), ("a", "made-up"), ("a", f"{A} {B}"), ("a", "")])
def test_what_cannot_be_added(path, label, secret):
    """An invalid label or secret is rejected without showing it, and no file is created."""
    assert refused(add, path, label, secret)
    assert not path.exists()


def test_a_file_of_a_secret_has_to_be_there(path):
    """The path of a secret file is accepted once the file contains a secret."""
    missing = Secret(str(path.parent / "k"))
    assert "cannot be read" in refused(edit.add, path, (), "k", "secret_file", missing)[0]
    assert "start Claude Code in that home" in refused(edit.add, path, (), "k", "claude_home", missing)[0]
    (path.parent / "k").write_text(K)
    edit.add(path, (), "k", "secret_file", missing, terms={"priority": 1})
    assert entries(path) == [{"label": "k", "secret_file": missing.reveal(), "priority": 1}]


@pytest.mark.parametrize("content", [b"credentials: 3", b"credentials:\n  - label: anna\n", b"\xff"])
def test_a_broken_file_is_not_changed(path, content):
    """A file with errors must be fixed by hand first, and is unchanged."""
    path.write_bytes(content)
    assert "first" in refused(add, path, "b", B)[-1]
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_written(path, monkeypatch):
    """If the file cannot be written, the message has the reason and the variable."""
    path.parent.joinpath("file").write_text("")
    (says,) = refused(add, path.parent / "file" / "credentials.yaml", "b", B)
    assert "CLAUDE_CREDENTIALS_FILE" in says


def test_no_change_is_lost(path):
    """Concurrent commands wait for each other, and no entry is lost."""
    with ThreadPoolExecutor(8) as threads:
        [*threads.map(lambda number: add(path, f"a{number}", f"{A}{number}"), range(20))]
    assert {entry["label"] for entry in entries(path)} == {f"a{number}" for number in range(20)}


def test_no_form_loses_anything(path):
    """Entries of many forms keep their values through changes of any of them."""
    forms = [
        f"{{label: LABEL, secret: {A}}}",
        f"label: LABEL\n  secret: {A}  # why\n  groups:\n  - a\n  - b",
        f"secret: '{A}'\n  label: LABEL\n\n  # below\n",
        f"secret: >-\n    {A}\n  label: LABEL",
    ]
    for chosen in itertools.product(forms, repeat=3):
        texts = [form.replace("LABEL", f"l{number}").replace(A, f"{A}{number}") for number, form in enumerate(chosen)]
        path.write_text("credentials:\n" + "".join(f"- {text}\n" for text in texts))
        before = entries(path)
        assert [entry["label"] for entry in before] == ["l0", "l1", "l2"]
        for number in range(3):
            edit.change(path, (), f"l{number}", {"priority": number + 1})
        assert entries(path) == [entry | {"priority": number + 1} for number, entry in enumerate(before)]
        edit.remove(path, (), "l1")
        assert [entry["label"] for entry in entries(path)] == ["l0", "l2"]
