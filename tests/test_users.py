"""config/users.py: how a person's entry reads, and how a file of them counts while it changes."""

import hashlib
import logging
import os

import pytest

from claude_proxy.config.settings import Settings, SettingsError
from claude_proxy.config.users import RESERVED, SETTLED_SECONDS, UserBook, digest_of, parse_lines, parse_list, parse_users
from claude_proxy.secret import Secret

ANNA, BEN = "sk-made-up-token-of-anna", "sk-made-up-token-of-ben"
STATIC, MASTER = "sk-made-up-static-token", "sk-made-up-master-key"
ANNA_HASH = f"sha256:{hashlib.sha256(ANNA.encode()).hexdigest()}"


def names(users):
    return [user.name for user in users]


# What an entry may be


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (f"anna={ANNA}", {"anna": ANNA}),
        (f"anna={ANNA},ben={BEN}", {"anna": ANNA, "ben": BEN}),
        (f" anna = {ANNA} ,\n ben={BEN} , ", {"anna": ANNA, "ben": BEN}),
        (f"a.b-c_d@example.org={ANNA}", {"a.b-c_d@example.org": ANNA}),
        (f"anna={ANNA_HASH}", {"anna": ANNA}),
        (f"anna={ANNA_HASH.upper().replace('SHA256', 'sha256')}", {"anna": ANNA}),
        (f"anna={ANNA}==", {"anna": f"{ANNA}=="}),
    ],
)
def test_a_list_of_users(text, expected):
    """Entries are name=token or name=sha256:hash, and what is kept of either is the hash."""
    users, mistakes = parse_users(parse_list(text))
    assert mistakes == ()
    assert {user.name: user.digest for user in users} == {name: digest_of(Secret(token)) for name, token in expected.items()}


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("made-up-secret-of-nobody", "expected name=token"),
        ("=made-up-secret-of-nobody", "the name must have 1 to 64"),
        ("an na=made-up-secret-of-nobody", "the name must have 1 to 64"),
        ("ännä=made-up-secret-of-nobody", "the name must have 1 to 64"),
        ("-anna=made-up-secret-of-nobody", "the name must have 1 to 64"),
        (f"{'a' * 65}=made-up-secret-of-nobody", "the name must have 1 to 64"),
        ("sk-made-up-secret=anna.of.the.second.team", "there is a token in place of the name"),
        ("anna=", "fewer than 16 characters"),
        ("anna=made-up", "fewer than 16 characters"),
        ("anna=made-up-secret of-nobody", "the token contains a space"),
        ("anna=made-up-secret-of-nöbody", "the token contains a space, a comma or a character"),
        ("anna=sk-ant-oat01-made-up", "is a Claude credential"),
        ("anna=sha256:made-up", "the 64 hexadecimal digits"),
        (f"anna={ANNA_HASH}0", "the 64 hexadecimal digits"),
        *((f"{name}=made-up-secret-of-nobody", "is reserved") for name in sorted(RESERVED)),
        ("Admin=made-up-secret-of-nobody", "is reserved"),
        (f"other={ANNA}", "the token is also that of 'anna'"),
        (f"other={ANNA_HASH}", "the token is also that of 'anna'"),
        (f"anna={BEN}", "a user named 'anna' already exists"),
        (f"Anna={BEN}", "a user named 'anna' already exists, and 'Anna' is the same name"),
        (f"other={MASTER}", "the token is also LITELLM_MASTER_KEY"),
    ],
)
def test_a_broken_entry_is_nobodys(entry, says):
    """A broken entry adds nobody and takes nobody away; the sentence about it names its place and holds no token."""
    forbidden = {digest_of(Secret(MASTER)): "LITELLM_MASTER_KEY"}
    users, mistakes = parse_users(
        [("line 1", f"anna={ANNA}"), ("line 2", entry), ("line 3", f"ben={BEN}")], forbidden=forbidden
    )
    assert names(users) == ["anna", "ben"]
    (mistake,) = mistakes
    assert mistake.startswith("line 2: ")
    assert says in mistake
    assert "made-up" not in mistake


def test_lines_of_a_file():
    """A file has one person a line, comments and empty lines; a line that is no text is a broken line and no more."""
    content = (
        f"\ufeff# people\r\n\r\n  # and one more\nanna={ANNA_HASH}  # since 2026-11-21\n".encode()
        + b"\xff\xfe=made-up-secret-of-nobody\n"
        + f"ben = {BEN}".encode()
    )
    users, mistakes = parse_users(parse_lines(content))
    assert names(users) == ["anna", "ben"]
    assert [mistake.split(":")[0] for mistake in mistakes] == ["line 5"]


def test_the_hash_shows_no_token():
    """A user's representation holds no token, whichever way it was written."""
    users, _ = parse_users(parse_list(f"anna={ANNA},ben={BEN}"))
    assert "made-up" not in repr(users)


# The settings


def test_users_of_the_variable():
    """PROXY_USER_TOKENS makes people, all of whose mistakes are told at the start, by their place and without a token."""
    assert names(Settings.parse({"PROXY_USER_TOKENS": f"anna={ANNA}"}).users.all_users()) == ["anna"]
    with pytest.raises(SettingsError) as caught:
        Settings.parse({"PROXY_USER_TOKENS": f"anna={STATIC},made-up,admin={BEN}", "PROXY_STATIC_TOKEN": STATIC})
    places = [mistake.split(": ")[:2] for mistake in caught.value.mistakes]
    assert places == [["PROXY_USER_TOKENS", f"entry {number}"] for number in (1, 2, 3)]
    assert "made-up" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "closed"),
    [
        ({}, False),
        ({"PROXY_USER_TOKENS": f"anna={ANNA}"}, True),
        ({"PROXY_USER_TOKENS_FILE": "there"}, True),
        ({"PROXY_USER_TOKENS_FILE": "not-there"}, True),
        ({"CLAUDE_PROXY_USERS_FILE": "there"}, True),
        ({"CLAUDE_PROXY_USERS_FILE": "not-there"}, False),
    ],
)
def test_when_a_proxy_with_users_is_closed(tmp_path, variables, closed):
    """Users, a named file, and the usual file where it is there, even empty, close the proxy."""
    (tmp_path / "there").write_text("")
    paths = {name: str(tmp_path / value) if name.endswith("_FILE") else value for name, value in variables.items()}
    book = Settings.parse(paths).users
    book.all_users()
    assert book.closed is closed


# The file


class Clock:
    """Time that is far from every file's own, so that a file counts as settled."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def path(tmp_path):
    (tmp_path / "users").write_text(f"anna={ANNA}\nben={BEN}\n")
    return tmp_path / "users"


@pytest.fixture
def book(path):
    return UserBook(path=path, clock=Clock())


def who(book, token):
    found = book.find([Secret("something-else-made-up"), Secret(token)])
    return found[0].name if found else None


def test_a_user_is_found_by_token(book):
    """Whoever sends a token of the file is that person; a part of a token, more than one, or its hash is nobody."""
    assert [who(book, token) for token in (ANNA, BEN)] == ["anna", "ben"]
    assert [who(book, token) for token in ("", ANNA[:-1], f"{ANNA}x", ANNA.upper(), ANNA_HASH, "anna", "\ud800")] == [None] * 7


def test_a_line_that_is_taken_out_counts_at_once(book, path):
    """A removed person is refused at the very next look, and an added one let in, without any signal."""
    assert who(book, ANNA) == "anna"
    path.write_text(f"ben={BEN}\n")
    assert [who(book, token) for token in (ANNA, BEN)] == [None, "ben"]
    path.write_text(f"ben={BEN}\nanna={ANNA}\n")
    assert who(book, ANNA) == "anna"


def test_a_file_that_was_put_in_the_others_place_counts(book, path):
    """A file of the same size and times, moved into the place of the first, is read."""
    assert who(book, ANNA) == "anna"
    status = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text().replace(ANNA, ANNA[::-1]))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert [who(book, ANNA), who(book, ANNA[::-1])] == [None, "anna"]


def test_a_settled_file_is_not_read_again(book, path, monkeypatch):
    """While nothing changes, a look is one stat and no reading."""
    assert who(book, ANNA) == "anna"
    monkeypatch.setattr(os, "open", None)
    assert who(book, ANNA) == "anna"


def test_a_young_file_is_read_again(path, monkeypatch):
    """A file of this very moment is read again at the next look: its next change may not show in its time."""
    clock = Clock()
    book, reads, really = UserBook(path=path, clock=clock), [], os.open
    monkeypatch.setattr(os, "open", lambda *given: reads.append(given) or really(*given))
    clock.now = path.stat().st_mtime
    book.all_users()
    book.all_users()
    assert len(reads) == 2
    clock.now += SETTLED_SECONDS * 2
    book.all_users()
    book.all_users()
    assert len(reads) == 3


def test_a_deleted_file_revokes_everybody_in_it(path, caplog):
    """Without the file nobody of it comes in, those of the variable stay, the proxy stays closed, and the log says so once."""
    fixed, _ = parse_users(parse_list(f"carl={ANNA[::-1]}"))
    book = UserBook(fixed, path, clock=Clock())
    assert names(book.all_users()) == ["carl", "anna", "ben"]
    path.unlink()
    assert names(book.all_users()) == names(book.all_users()) == ["carl"]
    only_filed = UserBook(path=path)
    only_filed.all_users()
    assert (book.closed, only_filed.closed) == (True, False)
    assert [record.getMessage() for record in caplog.records] == [f"{path} was removed; its users are refused"]


def test_a_proxy_whose_file_is_deleted_stays_closed(book, path):
    """Where there was a file once, its end does not open the proxy."""
    book.all_users()
    path.unlink()
    assert book.all_users() == ()
    assert book.closed


def test_a_broken_line_keeps_the_others(book, path, caplog):
    """A broken line is told once by its number and without the token, and the other people stay."""
    path.write_text(f"anna={ANNA}\nsecret-made-up-only\nben={BEN}\n")
    for _ in range(3):
        assert names(book.all_users()) == ["anna", "ben"]
    path.write_text(f"anna={ANNA}\nsecret-made-up-only\nben={BEN}\n\n")
    book.all_users()
    assert [record.getMessage() for record in caplog.records] == ["PROXY_USER_TOKENS_FILE: line 2: expected name=token"]


def test_a_file_that_cannot_be_read_keeps_its_users(book, path, caplog, monkeypatch):
    """A file that has become unreadable is told once, its users stay, and it counts again when it can be read."""
    book.all_users()
    content, opened = path.read_text(), os.open

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    path.write_text(f"{content}carl={ANNA[::-1]}\n")
    for _ in range(3):
        assert names(book.all_users()) == ["anna", "ben"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cannot be read (Permission denied)" in caplog.text
    monkeypatch.setattr(os, "open", opened)
    assert names(book.all_users()) == ["anna", "ben", "carl"]


def test_what_is_not_a_file(tmp_path, caplog):
    """A folder or a pipe in the file's place opens nothing and blocks nobody."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert UserBook(path=path).all_users() == ()
    assert len(caplog.records) == 2


def test_who_stands_in_both_places(path, caplog):
    """A name of the variable's cannot be taken over by the file."""
    fixed, _ = parse_users(parse_list(f"anna={ANNA[::-1]}"))
    book = UserBook(fixed, path)
    assert [who(book, token) for token in (ANNA, ANNA[::-1], BEN)] == [None, "anna", "ben"]
    assert "line 1: a user named 'anna' already exists" in caplog.text


# A file that others may write


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_a_file_that_others_may_write_names_nobody(book, path, caplog, mode):
    """Its users are refused, the proxy stays closed, the log names the file, its mode and the remedy once; then it counts."""
    assert who(book, ANNA) == "anna"
    path.chmod(mode)
    for _ in range(3):
        assert (who(book, ANNA), book.closed) == (None, True)
    said = f"is a file that others may write ({path}, mode {mode:o}); its users are refused until you run `chmod go-w {path}`"
    assert [record.getMessage() for record in caplog.records] == [f"PROXY_USER_TOKENS_FILE: {said}"]
    path.chmod(0o644)
    assert (who(book, ANNA), book.unsafe) == ("anna", "")


@pytest.mark.parametrize(("mode", "found"), [(0o775, None), (0o757, None), (0o1777, "anna"), (0o1775, "anna"), (0o755, "anna")])
def test_a_folder_that_others_may_write_is_the_same(tmp_path, mode, found):
    """Whoever may write the folder may put another file there, unless its sticky bit forbids it."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "users").write_text(f"anna={ANNA}\n")
    book = UserBook(path=folder / "users", clock=Clock())
    assert who(book, ANNA) == "anna"
    folder.chmod(mode)
    assert who(book, ANNA) == found
    folder.chmod(0o755)
    assert who(book, ANNA) == "anna"


def test_a_link_is_as_safe_as_both_its_ends(tmp_path, path):
    """A link in a folder that others may write, and one that leads into such a folder, are refused."""
    shared = tmp_path / "shared"
    shared.mkdir()
    link = shared / "link"
    link.symlink_to(path)
    back = tmp_path / "back"
    back.symlink_to(shared / "users")
    (shared / "users").write_text(f"anna={ANNA}\n")
    assert [who(UserBook(path=one), ANNA) for one in (link, back)] == ["anna", "anna"]
    shared.chmod(0o777)
    assert [who(UserBook(path=one), ANNA) for one in (link, back)] == [None, None]


def test_an_open_file_decides(path, monkeypatch):
    """What is looked at is the file that is read, and not what stands at its path by then."""
    path.chmod(0o666)
    opened = os.open

    def swapped(*given):
        descriptor = opened(*given)
        good = path.with_name("good")
        good.write_text(path.read_text())
        good.replace(path)
        return descriptor

    monkeypatch.setattr(os, "open", swapped)
    book = UserBook(path=path, clock=Clock())
    assert who(book, ANNA) is None


def test_a_file_of_somebody_else_is_read(path, monkeypatch):
    """In a container the file belongs to a user of the host or to root; its owner is not looked at."""
    really = os.fstat
    monkeypatch.setattr(os, "fstat", lambda given: os.stat_result([*really(given)[:4], 4242, 4242, *really(given)[6:10]]))
    assert who(UserBook(path=path), ANNA) == "anna"
