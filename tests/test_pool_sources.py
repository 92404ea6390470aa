"""config/pool_sources.py: the variables, the file and its files form one pool."""

import json

import pytest

from claude_proxy.config.pool_sources import pooled
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.secret import Secret

A, B, K = "sk-ant-oat01-made-up-a", "sk-ant-oat01-made-up-b", "sk-ant-api03-made-up-k"
FIXED = (Credential("a", Kind.OAUTH, Secret(A), source="CLAUDE_OAUTH_TOKENS"),)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "credentials.yaml"


def write(path, *entries):
    """Write entries; each is a label and its other lines."""
    lines = [f"  - label: {label}\n" + "".join(f"    {line}\n" for line in more) for label, *more in entries]
    path.write_text("credentials:\n" + "".join(lines))


def read(path, fixed=(), before=(), **more):
    found = pooled(fixed, (path,), before, **more)
    assert "made-up" not in f"{found.mistakes}{found.problems}{found.credentials}"
    return found


def labels(found):
    assert found.mistakes == ()
    return [one.label for one in found.credentials]


def login(path, token=A, expires=1_800_000_000_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"claudeAiOauth": {"accessToken": token, "refreshToken": "made-up", "expiresAt": expires}}))


def test_without_a_file_there_are_the_variables(path):
    """Without a file, now and before, the pool has the variables' credentials."""
    assert labels(read(path, FIXED)) == ["a"]
    assert pooled(FIXED, ()).credentials == FIXED


def test_the_file_adds_to_the_variables(path):
    """Both sources are added, and every credential names its source."""
    write(path, ("b", f"secret: {B}", "priority: 2"))
    found = read(path, FIXED)
    assert labels(found) == ["b", "a"]
    assert [one.source for one in found.credentials] == [str(path), "CLAUDE_OAUTH_TOKENS"]
    assert found.credentials[0].terms.priority == 2
    assert found.paths == (path,)


def test_the_same_secret_is_one_credential(path):
    """A secret in both sources is one credential with the file's terms; so is one that is in the file twice."""
    write(path, ("anna", f"secret: {A}", "priority: 2"), ("again", f"secret: {A}"))
    found = read(path, FIXED)
    assert labels(found) == ["anna"]
    assert found.credentials[0].terms.priority == 2


def test_a_label_of_two_is_a_mistake(path):
    """A label of two secrets is an error that names both places."""
    write(path, ("a", f"secret: {B}"))
    assert read(path, FIXED).mistakes == (
        "credentials.yaml line 2, a: has the label of a credential in CLAUDE_OAUTH_TOKENS; give each its own",
    )


def test_a_secret_in_a_file_of_its_own(path):
    """The path is relative to the folder of credentials.yaml; whitespace around the secret is ignored."""
    (path.parent / "keys").mkdir()
    (path.parent / "keys" / "k").write_text(f"\n{K}\n")
    write(path, ("k", "secret_file: keys/k"))
    found = read(path)
    assert labels(found) == ["k"]
    assert (found.credentials[0].kind, found.credentials[0].secret.reveal()) == (Kind.API_KEY, K)
    assert path.parent / "keys" / "k" in found.paths


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        (None, [], "secret_file names a file that cannot be read (No such file or directory)"),
        ("", [], "the value of secret_file is empty, or has a space, a comma or a character that no HTTP header can carry"),
        (
            f"{A}\n{B}",
            [],
            "the value of secret_file is empty, or has a space, a comma or a character that no HTTP header can carry",
        ),
        (K, ["kind: oauth"], "the value of secret_file is an API key, which is not its kind"),
        (K, ["made: 2026-03-01"], "made is only for setup tokens, which expire after a year"),
    ],
)
def test_a_file_of_a_secret_that_cannot_be_used(path, content, more, says):
    """A missing secret file, or one with an invalid secret, is an error, and the file is watched."""
    if content is not None:
        (path.parent / "k").write_text(content)
    write(path, ("k", "secret_file: k", *more))
    found = read(path)
    assert found.mistakes == (f"credentials.yaml line 2, k: {says}",)
    assert path.parent / "k" in found.paths


@pytest.mark.parametrize(
    ("named", "place"),
    [("home", "home/.credentials.json"), ("home", "home/.claude/.credentials.json"), ("login.json", "login.json")],
)
def test_the_login_of_a_home(path, named, place):
    """The login is found by its folder, by the home folder, or by its path; it has an expiry, and Claude Code renews it."""
    login(path.parent / place)
    write(path, ("anna", f"claude_home: {named}", "priority: 1"))
    found = read(path)
    assert (labels(found), found.problems) == (["anna"], ())
    (anna,) = found.credentials
    assert (anna.kind, anna.secret.reveal(), anna.renewed, anna.expires, anna.source) == (
        Kind.OAUTH, A, True, 1_800_000_000, named,
    )  # fmt: skip
    assert path.parent / place in found.paths


def test_a_login_is_never_written(path):
    """The login's file and folder are unchanged."""
    login(path.parent / "home" / ".credentials.json")
    before = (path.parent / "home" / ".credentials.json").read_bytes()
    write(path, ("anna", "claude_home: home"))
    read(path)
    assert [one.name for one in (path.parent / "home").iterdir()] == [".credentials.json"]
    assert (path.parent / "home" / ".credentials.json").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "{}", '{"claudeAiOauth": 3}', '{"claudeAiOauth": {"accessToken": null}}',
     json.dumps({"claudeAiOauth": {"accessToken": A, "expiresAt": "soon"}})],
)  # fmt: skip
def test_a_home_without_a_login(path, content):
    """An unreadable login is no error: it is in the pool but not used, or keeps its last value."""
    home = path.parent / "home"
    login(home / ".credentials.json", B)
    write(path, ("anna", "claude_home: home"))
    before = read(path).credentials
    if content is None:
        (home / ".credentials.json").unlink()
    else:
        (home / ".credentials.json").write_text(content)
    found = read(path)
    assert labels(found) == ["anna"]
    assert found.credentials[0].is_disabled(0.0)
    assert "start Claude Code in that home" in found.problems[0]
    again = read(path, before=before)
    assert again.problems == found.problems
    assert (again.credentials[0].secret.reveal(), again.credentials[0].is_disabled(0.0)) == (B, False)


def test_two_homes_without_a_login_are_two_credentials(path):
    """Credentials without a secret are distinguished by their home folders."""
    write(path, ("anna", "claude_home: a"), ("ben", "claude_home: b"))
    assert labels(read(path)) == ["anna", "ben"]


def test_a_login_without_an_expiry_does_not_expire(path):
    """A login without an expiry in its file is used."""
    login(path.parent / "home" / ".credentials.json", expires=None)
    write(path, ("anna", "claude_home: home"))
    assert read(path).credentials[0].expires is None


def test_a_file_that_is_gone(path):
    """A file that existed before and is missing is an error, and so is an unreadable one."""
    assert read(path, required=True).mistakes == ("credentials.yaml is missing",)
    path.mkdir()
    assert read(path).mistakes == (f"{path}: cannot be read (Is a directory)",)
