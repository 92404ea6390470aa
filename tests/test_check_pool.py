"""check/pool.py: what works in the pool's files and not as it may be meant."""

import json
import os

import pytest
from test_check import facts

from claude_proxy.check import pool
from claude_proxy.config.credentials_file import OWN_FILES

A, K = f"sk-ant-oat01-{'made-up-' * 12}", f"sk-ant-api03-{'made-up-' * 12}"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "credentials.yaml"


def found(check, path, *entries, **variables):
    """What a check finds of these entries; no secret is in it."""
    if entries:
        path.write_text("credentials:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries))
        path.chmod(0o600)
    variables = variables or {"CLAUDE_CREDENTIALS_FILE": str(path)}
    findings = [*check(facts(PROXY_USER_TOKENS="anna=a-token-of-annas-own-0123", **variables))]
    assert "made-up" not in str(findings)
    return [f"{finding.level.value} {finding}".replace(str(path.parent), "") for finding in findings]


def test_a_good_file(path):
    """A file in order has nothing to be said of it, and without any file there is nothing either."""
    entries = [f"label: a, secret: {A}, owner: Anna, reserve: 0.2", f"label: k, secret: {K}"]
    for check in (pool.files, pool.credentials, pool.terms):
        assert found(check, path, *entries) == []
        assert found(check, path, PORT="4000") == []


def test_where_the_file_is(path):
    """A named file that is not there, one that others can read, and one that is hidden by another are told."""
    assert found(pool.files, path) == [
        "warning .env line 4: CLAUDE_CREDENTIALS_FILE: names a file that does not exist; `claude-proxy pool add LABEL` makes it"
    ]
    path.write_text("")
    path.chmod(0o640)
    other = path.with_name("other.yaml")
    other.write_text("")
    assert found(pool.files, path, **{OWN_FILES: f"{path}\n{other}"}) == [
        "warning /other.yaml: is not read, because /credentials.yaml is read; keep one of them",
        "warning /credentials.yaml: can be read by other users of this machine; `chmod 600 /credentials.yaml`",
    ]
    assert os.geteuid() == path.stat().st_uid


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("label: a, secret: sk-ant-oat01-AAA", "error credential a: is the value of an example; write a real one"),
        (
            f"label: a, secret: '{A}\"'",
            "error credential a: has quotes in it, which are sent as a part of the credential; remove them",
        ),
        (
            f"label: a, secret: {A[:60]}",
            "warning credential a: has 60 characters, and a credential of Anthropic has 108; copy it whole",
        ),
        (
            f"label: a, secret: {A}, owner: ana",
            "warning credential a: has the owner ana, who is not a user; did you mean anna?",
        ),
        (f"label: a, secret: {A}, paused: true", "warning every Claude credential is paused; `claude-proxy pool resume LABEL`"),
        ("label: a, claude_home: login", "error credential a: its login has expired: start Claude Code in that home"),
    ],
)
def test_what_is_found(path, entry, says):
    """Each thing is told with the label and what to do about it."""
    path.with_name("login").write_text(json.dumps({"claudeAiOauth": {"accessToken": A, "expiresAt": 1000}}))
    assert [said for check in (pool.credentials, pool.terms) for said in found(check, path, entry)] == [says]


def test_a_home_without_a_login(path):
    """A login that cannot be read is told in the words of the start."""
    (says,) = found(pool.credentials, path, "label: a, claude_home: login")
    assert says.endswith("(No such file or directory): start Claude Code in that home")


def test_a_group_that_no_credential_is_in(path):
    """A group of config.yaml that no credential has is an error at its line, with the name that may be meant."""
    path.write_text(f"credentials:\n  - {{label: a, secret: {A}, groups: [team-a]}}\n")
    path.chmod(0o600)
    users = "  users:\n    anna: {groups: [team-a]}\n    ben: {groups: [teama]}\n"
    text = f"claude_proxy:\n{users}  models:\n    x: {{groups: [other]}}\n"
    said = [str(finding) for finding in pool.groups(facts(text, CLAUDE_CREDENTIALS_FILE=str(path)))]
    nothing = "no credential is in the group {}, so Claude cannot be used here; {}"
    assert said == [
        "config.yaml line 4: " + nothing.format("teama", "did you mean team-a?"),
        "config.yaml line 6: " + nothing.format("other", "`claude-proxy pool set LABEL groups=NAME` puts a credential into it"),
    ]
