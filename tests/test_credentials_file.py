"""config/credentials_file.py: the values of an entry, and a message without values for each error."""

import os
from datetime import date

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from claude_proxy.config.credentials_file import FILE_VARIABLE, OWN_FILES, file_in_use, files_of, parse, read_text
from claude_proxy.credentials.credential import Kind, Terms

SECRET = "sk-ant-oat01-made-up-secret"
KEY = "sk-ant-api03-made-up-secret"
NOT_YAML = "is not YAML; look at the indentation, colons and quotes there"
BAD_LABEL = "label should be 1 to 64 letters, digits and _ . @ -, the first a letter or a digit"
NO_VALUE = "secret is empty, or has a space, a comma or a character that no HTTP header can carry"
FORM = "secret starts neither with sk-ant-oat nor with sk-ant-api; copy it again, or set its kind"
DATED = "made is only for setup tokens, which expire after a year"
SOURCES = "should have one of secret, secret_file, claude_home"
DAY = "made should be the day on which the setup token was made, such as 2026-03-01"


def one(text):
    found = parse(text)
    assert found.mistakes == ()
    (entry,) = found.entries
    return entry


def mistakes(text):
    found = parse(text)
    assert "made-up" not in " ".join(found.mistakes)
    return [mistake.removeprefix("credentials.yaml ") for mistake in found.mistakes]


def entry(more="", label="anna", secret=SECRET):
    return f"credentials:\n  - label: {label}\n    secret: {secret}\n{more}"


@pytest.mark.parametrize("text", ["", "# nothing\n", "credentials:\n", "credentials: []\n", "{}"])
def test_a_file_without_entries_is_no_mistake(text):
    """A file without entries has no credentials and no errors."""
    assert parse(text) == ((), ())


def test_an_entry_with_everything():
    """Every key of an entry is read, and the prefix determines the kind if it is not set."""
    found = one(
        entry(
            "    made: 2026-03-01\n    priority: -2\n    weight: 2\n    reserve: 0.2\n    owner: b+n\n    max_concurrency: 4\n"
            "    groups: [team-a, team-b]\n    extra_usage: last\n    paused: true\n"
        )
    )
    assert (found.label, found.line, found.source, found.value.reveal()) == ("anna", 2, "secret", SECRET)
    assert found.made == date(2026, 3, 1)
    assert found.terms == Terms(
        priority=-2, weight=2.0, reserve=0.2, owner="b+n", max_concurrency=4, groups=frozenset({"team-a", "team-b"}),
        extra_usage="last", paused=True,
    )  # fmt: skip


def test_what_is_empty_is_not_there():
    """A key without a value counts as not set, and a single group needs no list."""
    assert one(entry("    priority:\n    max_concurrency: null\n    groups: team-a\n")).terms == Terms(
        groups=frozenset({"team-a"})
    )


@pytest.mark.parametrize(
    ("value", "since"),
    [
        ("true", None),
        ("2026-11-30T22:00:00Z", 1_796_076_000.0),
        ("2026-11-30 22:00:00", 1_796_076_000.0),
        ("2026-11-30 23:00:00+01:00", 1_796_076_000.0),
        ("'2026-11-30T22:00:00+00:00'", 1_796_076_000.0),
    ],
)
def test_since_when_it_is_paused(value, since):
    """A pause may have its time, which is UTC unless it names another zone."""
    assert one(entry(f"    paused: {value}\n")).terms == Terms(paused=True, paused_since=since)
    assert one(entry("    paused: false\n")).terms == Terms()


@pytest.mark.parametrize(
    ("line", "source", "kind"),
    [
        ("secret_file: keys/anna", "secret_file", None),
        ("claude_home: ~/.claude", "claude_home", None),
        (f"secret: {KEY}\n    kind: api_key", "secret", Kind.API_KEY),
        ("secret: made-up-of-another-form\n    kind: oauth", "secret", Kind.OAUTH),
    ],
)
def test_where_a_secret_may_be(line, source, kind):
    """A secret is in the entry, in a file, or in Claude Code's home folder; its kind may be set."""
    found = one(f"credentials:\n  - label: anna\n    {line}\n")
    assert (found.source, found.kind) == (source, kind)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # The file
        ("a: [", [f"line 1: {NOT_YAML}"]),
        (f"credentials:\n  - label: anna\n   secret: '{SECRET}\n", [f"line 3: {NOT_YAML}"]),
        ("- a", ["line 1: is a list; write `credentials:` above it, with the list indented below"]),
        ("a", ["credentials.yaml: should be a mapping with the key credentials"]),
        ("credentials: 3", ["line 1: credentials should be a list, each entry with a label and a secret"]),
        ("credential: []", ["line 1: credential is not known; did you mean credentials?"]),
        (f"{SECRET}: []", ["line 1: has a key that is not valid"]),
        (f"credentials:\n  - {SECRET}\n", ["line 2, entry 1: should be a mapping with a label and a secret"]),
        # What is missing or too much
        (f"credentials:\n  - secret: {SECRET}\n", ["line 2, entry 1: has no label"]),
        ("credentials:\n  - label: anna\n", [f"line 2, anna: {SOURCES}"]),
        (entry("    secret_file: a\n"), [f"line 2, anna: {SOURCES}, and has secret and secret_file"]),
        (entry() + f"  - label: anna\n    secret: {KEY}\n", ["line 4, anna: has the same label as an earlier entry"]),
        (entry("    secret: a\n"), ["line 4, anna: secret is set twice; keep one"]),
        # Keys and values
        (entry("    prioritty: 2\n"), ["line 4, anna: prioritty is not known; did you mean priority?"]),
        (entry(f"    {SECRET}: 2\n"), ["line 4, anna: has a key that is not valid"]),
        (entry("    priority: high\n"), ["line 4, anna: priority should be a whole number from -1000 to 1000"]),
        (entry("    priority: true\n"), ["line 4, anna: priority should be a whole number from -1000 to 1000"]),
        (entry("    weight: 0\n"), ["line 4, anna: weight should be a number from 0.01 to 1000"]),
        (entry("    weight: .nan\n"), ["line 4, anna: weight should be a number from 0.01 to 1000"]),
        (entry("    reserve: 20\n"), ["line 4, anna: reserve should be a fraction from 0 to 1"]),
        (entry("    owner: a b\n"), ["line 4, anna: owner should be the name of a user"]),
        (entry("    max_concurrency: 0\n"), ["line 4, anna: max_concurrency should be a whole number from 1"]),
        (entry("    groups: [a, 2]\n"), ["line 4, anna: groups should be a list of names: letters, digits and _ . @ -"]),
        (entry("    extra_usage: often\n"), ["line 4, anna: extra_usage should be never or last"]),
        (
            entry("    paused: 1\n"),
            ["line 4, anna: paused should be true, false, or the time since which it is paused, such as 2026-03-01 09:30:00Z"],
        ),
        (entry("    kind: key\n"), ["line 4, anna: kind should be oauth or api_key"]),
        (entry("    made: 2026-02-31\n"), ["line 4, anna: made has a value that cannot be read"]),
        (entry("    made: soon\n"), [f"line 4, anna: {DAY}"]),
        (entry(label="a b"), [f"line 2, entry 1: {BAD_LABEL}"]),
        (entry(label=SECRET), [f"line 2, entry 1: {BAD_LABEL}"]),
        # Secrets
        (entry(secret="made-up"), [f"line 2, anna: {FORM}"]),
        (entry(secret=f"'{SECRET} {KEY}'"), [f"line 2, anna: {NO_VALUE}"]),
        (entry(secret=f"{SECRET}{KEY}"), ["line 2, anna: secret contains more than one credential"]),
        (entry("    kind: oauth\n", secret=KEY), ["line 2, anna: secret is an API key, which is not its kind"]),
        (entry("    made: 2026-03-01\n", secret=KEY), [f"line 2, anna: {DATED}"]),
        ("credentials:\n  - label: anna\n    claude_home: a\n    made: 2026-03-01\n", [f"line 2, anna: {DATED}"]),
        (
            "credentials:\n  - label: anna\n    claude_home: a\n    kind: api_key\n",
            ["line 2, anna: kind should be oauth: claude_home holds a login"],
        ),
        (
            f"credentials:\n  - label: anna\n    secret_file: {SECRET}\n",
            ["line 2, anna: secret_file holds a credential, and should hold a path"],
        ),
    ],
)
def test_mistakes(text, says):
    """An error is a message with the line and the label, and without values."""
    assert mistakes(text) == says


def test_all_mistakes_at_once_and_the_good_entries():
    """All errors are reported together, and the valid entries are returned."""
    text = entry("    priority: x\n    weigth: 2\n") + f"  - label: ben\n    secret: {KEY}\n  - label: carl\n"
    assert [line.split(":")[0] for line in mistakes(text)] == ["line 4, anna", "line 5, anna", "line 8, carl"]
    assert [found.label for found in parse(text).entries] == ["ben"]


def test_brackets_without_an_end():
    """Text that is not YAML gives a message and no traceback."""
    assert len(mistakes("credentials: " + "[" * 5000)) == 1


def test_what_is_shown_of_an_entry_holds_no_secret():
    """The printed form of an entry and of the parsed file contains no secret."""
    assert "made-up" not in repr(parse(entry()))


# Where it is


def test_the_named_file_alone_counts(tmp_path):
    """A configured file is used; otherwise the launcher's first existing file, or its last for a new one."""
    first, last = tmp_path / "a", tmp_path / "b"
    own = {OWN_FILES: f"{first}\n{last}"}
    assert files_of({}) == ()
    assert file_in_use({}) is None
    assert file_in_use(own) == last
    first.write_text("")
    assert file_in_use(own) == first
    assert files_of(own | {FILE_VARIABLE: str(last)}) == (last,)


def test_only_small_files_of_text_are_read(tmp_path):
    """Only a small text file is read, without a byte order mark."""
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfa")
    assert read_text(path) == "a"
    for content in (b"\xff\xfe", b"a" * 1_000_001):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"UTF-8|large"):
            read_text(path)
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a file"):
        read_text(tmp_path / "pipe")


PIECES = (
    "credentials:", "\n", "  - ", "label: a", f"secret: {SECRET}", SECRET, "&x ", "*x", "<<: ", "{", "}", "[", "]", "? ", "|\n",
    "'", '"', "\t",
    "# c", "\x00", "\ud800", "made: ", "priority: ", "groups: ", "owner: ", "!!timestamp 2001-99-99", "!!set {a}",
    "!!binary x", ".inf", "1e999",
    "---\n", "null", "1:2:3", "    ", ",",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@given(st.one_of(TEXTS, TEXTS.map(entry)))
@example(entry("    paused: !!timestamp 2001-99-99\n"))
@example(entry(f"    groups: {SECRET}\n"))
@example(entry(f"    owner: {SECRET}\n"))
def test_any_text_ends_in_entries_or_sentences(text):
    """Any text gives entries or messages, raises nothing, and shows no secret."""
    assert "made-up" not in repr(parse(text))
