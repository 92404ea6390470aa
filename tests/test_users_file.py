"""access/users_file.py: adding, removing and listing people in a file that others may edit and every worker reads."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from claude_proxy.access import users_file
from claude_proxy.access.users_file import UsersError
from claude_proxy.config.users import UserBook, digest_of, parse_list, parse_users
from claude_proxy.secret import Secret

TODAY = date(2026, 11, 21)
CARL = "sk-made-up-token-of-carl"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "users"


@pytest.fixture
def book(path):
    fixed, _ = parse_users(parse_list(f"carl={CARL}"))
    return UserBook(fixed, path, forbidden={digest_of(Secret("sk-made-up-static")): "PROXY_STATIC_TOKEN"})


def add(path, book, name, token=None):
    return users_file.add(path, book, name, token, TODAY).reveal()


def names(book):
    return [user.name for user in book.all_users()]


def test_add(path, book):
    """A new person gets a random token that works at once; the file holds its hash only and is its owner's alone."""
    tokens = [add(path, book, name) for name in ("anna", "ben")]
    assert tokens[0] != tokens[1]
    assert all(token.startswith("sk-") and len(token) > 60 for token in tokens)
    assert [book.find([Secret(token)])[0].name for token in tokens] == ["anna", "ben"]
    assert not any(token in path.read_text() for token in tokens)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["users", "users.lock"]


def test_add_with_a_token_of_ones_own(path, book):
    """A token that is given is the one that works."""
    assert add(path, book, "anna", "made-up-and-long-enough") == "made-up-and-long-enough"
    assert book.find([Secret("made-up-and-long-enough")])[0].name == "anna"


@pytest.mark.parametrize(
    ("name", "token", "says"),
    [
        ("anna", None, "A user named anna already exists."),
        ("carl", None, "A user named carl already exists."),
        ("ANNA", None, "A user named anna already exists; upper and lower case make no difference."),
        ("Carl", None, "A user named carl already exists; upper and lower case make no difference."),
        ("ben", CARL, "he token is also that of 'carl'"),
        ("ben", "sk-made-up-static", "he token is also PROXY_STATIC_TOKEN"),
        ("ben", "short", "fewer than 16 characters"),
        ("ben", "", "fewer than 16 characters"),
        ("admin", None, "is reserved"),
        ("b\nen", None, "he name must have 1 to 64"),
        ("", None, "he name must have 1 to 64"),
    ],
)
def test_who_cannot_be_added(path, book, name, token, says):
    """A name or token that is taken or cannot be is refused in words without the token, and the file stays as it was."""
    add(path, book, "anna")
    before = path.read_bytes()
    with pytest.raises(UsersError, match=says) as caught:
        add(path, book, name, token)
    assert not token or token not in str(caught.value)
    assert path.read_bytes() == before


def test_remove(path, book):
    """A removed person is gone at once; comments, other people and broken lines stay as they stand."""
    path.parent.mkdir()
    path.write_bytes(b"# people\r\nbroken\xff\nanna = made-up-token-of-anna\nannabel=made-up-token-of-annabel")
    users_file.remove(path, book, "anna")
    assert path.read_bytes() == b"# people\r\nbroken\xff\nannabel=made-up-token-of-annabel"
    add(path, book, "anna")
    assert names(book) == ["carl", "annabel", "anna"]


@pytest.mark.parametrize(("name", "says"), [("nobody", "is not in"), ("carl", "is in PROXY_USER_TOKENS")])
def test_who_cannot_be_removed(path, book, name, says):
    """Whoever is not in the file cannot be taken out of it; of the variable's people it is said where they stand."""
    with pytest.raises(UsersError, match=says):
        users_file.remove(path, book, name)
    assert not path.exists()


def test_the_last_one_leaves_the_file(path, book):
    """The file stays when nobody is in it any more, so that the proxy stays closed."""
    add(path, book, "anna")
    users_file.remove(path, book, "anna")
    assert names(book) == ["carl"]
    assert path.exists()


def test_the_list(path, book):
    """The list has everybody with the day of their adding where it is known, and no token."""
    add(path, book, "anna")
    path.write_text(path.read_text() + "ben=made-up-token-of-ben\n")
    listed = users_file.listed(path, book)
    assert [(row.name, row.since) for row in listed] == [("carl", ""), ("anna", "2026-11-21"), ("ben", "")]
    assert [row.place for row in listed] == ["PROXY_USER_TOKENS", str(path), str(path)]
    assert "made-up" not in str(listed).replace(str(path), "")


def test_find(path, book):
    """A person is found by name, and one that is not there is a sentence."""
    assert users_file.find(book, "carl").token.reveal() == CARL
    with pytest.raises(UsersError, match="There is no user named nobody"):
        users_file.find(book, "nobody")


def test_many_at_once_lose_nobody(path, book):
    """Commands that run at the same time wait for each other: everybody is in the file afterwards."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(path, UserBook(path=path), f"user{number}"), range(24)))
    assert sorted(names(UserBook(path=path))) == sorted(f"user{number}" for number in range(24))


def test_the_owners_choices_stay(path, book):
    """A file that is there keeps its mode, and a link to it stays a link."""
    path.parent.mkdir()
    real = path.with_name("real")
    real.write_text("")
    real.chmod(0o640)
    path.symlink_to(real)
    add(path, book, "anna")
    assert path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert names(book) == ["carl", "anna"]


def test_a_place_that_cannot_be_written(tmp_path, book):
    """A folder that is none is one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsersError, match="cannot be written"):
        add(tmp_path / "file" / "users", book, "anna")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_adds_for_somebody_else(path, book):
    """What root writes belongs to the folder's owner, as whom the proxy runs; a file that is there keeps its own."""
    path.parent.mkdir()
    os.chown(path.parent, 10001, 10002)
    add(path, book, "anna")
    assert {(entry.stat().st_uid, entry.stat().st_gid) for entry in path.parent.iterdir()} == {(10001, 10002)}
    os.chown(path, 10003, 10003)
    add(path, book, "ben")
    assert path.stat().st_uid == 10003


@pytest.mark.parametrize("name", ["anna", "Anna", "ANNA"])
def test_a_name_is_the_same_in_any_case(path, book, name):
    """A user is found and removed in upper and lower case, and listed with the day of the file."""
    add(path, book, "Anna")
    assert users_file.find(book, name).name == "Anna"
    assert [(row.name, row.since) for row in users_file.listed(path, book)][1:] == [("Anna", "2026-11-21")]
    users_file.remove(path, book, name)
    assert names(book) == ["carl"]
    with pytest.raises(UsersError, match="is in PROXY_USER_TOKENS"):
        users_file.remove(path, book, "CARL")


def test_nobody_is_added_to_a_file_that_others_may_write(path, book):
    """Who is in such a file is not known, so nobody is added to it, in words with the remedy; removing still works."""
    add(path, book, "anna")
    path.chmod(0o666)
    with pytest.raises(UsersError, match="chmod go-w"):
        add(path, book, "ben")
    users_file.remove(path, book, "anna")
    assert "anna" not in path.read_text()


def test_what_is_made_is_its_owners_alone(path, book):
    """A new folder and a new file can be written by their owner alone, whatever the process lets others do."""
    before = os.umask(0o002)
    try:
        add(path, book, "anna")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path)] == [0o700, 0o600]
    assert names(book) == ["carl", "anna"]
