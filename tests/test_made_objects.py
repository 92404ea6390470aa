"""credentials/made_objects.py: whose an object is, in every process and after a restart, within bounds."""

import json

import pytest

from claude_proxy.credentials import made_objects
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.made_objects import MAX_AGE, MadeObject, MadeObjects, ObjectKind, fingerprint
from claude_proxy.state.replication import LIMITS
from claude_proxy.state.rows import Row

NOW = 1_800_000_000.0
KEY = Credential.of("key", "sk-ant-api03-made-up-key")


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def made(identifier="file_a", user="anna", at=NOW, kind=ObjectKind.FILE, **details):
    return MadeObject(kind, identifier, user, fingerprint(KEY), at, details)


def told(one, other):
    """Let another process have what one has changed."""
    rows = one.changed()
    other.merge(rows)
    return rows


def test_every_process_knows_an_object(clock):
    """What one process records, another finds with the same owner, key and details; an unknown id is nobody's."""
    here, there = MadeObjects(clock), MadeObjects(clock)
    assert here.add(made(count=3))
    told(here, there)
    assert there.find(ObjectKind.FILE, "file_a") == made(count=3)
    assert there.find(ObjectKind.FILE, "file_b") is there.find(ObjectKind.BATCH, "file_a") is None
    assert here.changed() == []


def test_a_restart_loses_nothing(clock):
    """All objects are pushed again to a store that has lost them, deleted ones too."""
    here, there = MadeObjects(clock), MadeObjects(clock)
    here.add(made())
    here.add(made("file_b"))
    here.discard(made("file_b"))
    there.merge(here.everything())
    assert there.find(ObjectKind.FILE, "file_a")
    assert there.find(ObjectKind.FILE, "file_b") is None


def test_an_id_belongs_to_its_first_maker(clock):
    """An upstream that returns an id of another user's object does not give it away, nor does a row of another process."""
    objects = MadeObjects(clock)
    assert objects.add(made())
    assert not objects.add(made(user="ben"))
    objects.merge([made(user="ben", at=NOW + 1).row()])
    assert objects.find(ObjectKind.FILE, "file_a").user == "anna"


def test_a_deleted_object_stays_deleted(clock):
    """A deletion wins over the object's row, in whichever order both arrive, also in the store."""
    here, there = MadeObjects(clock), MadeObjects(clock)
    here.add(made())
    (first,) = here.changed()
    here.discard(made())
    (second,) = here.changed()
    there.merge([second, first])
    assert there.find(ObjectKind.FILE, "file_a") is None
    assert not here.add(made(user="ben"))
    assert second.stamp > first.stamp
    assert [one.deleted for one in there.of_user(ObjectKind.FILE, "anna")] == [True]


def test_a_list_has_the_newest_first(clock):
    """A user's list has that user's objects alone, the newest first; without a user it has all."""
    objects = MadeObjects(clock)
    for identifier, user, at in (("file_a", "anna", NOW), ("file_b", "anna", NOW + 1), ("file_c", "ben", NOW + 2)):
        objects.add(made(identifier, user, at))
    assert [one.id for one in objects.of_user(ObjectKind.FILE, "anna")] == ["file_b", "file_a"]
    assert [one.id for one in objects.of_user(ObjectKind.FILE, None)] == ["file_c", "file_b", "file_a"]


def test_objects_expire(clock):
    """An object that is too old is not found, not listed and not pushed; the store keeps it no shorter and no longer."""
    objects = MadeObjects(clock)
    objects.add(made())
    clock.now += MAX_AGE[ObjectKind.FILE] + 1
    assert objects.find(ObjectKind.FILE, "file_a") is None
    assert objects.of_user(ObjectKind.FILE, "anna") == objects.everything() == []
    kept = {prefix: age for prefix, age, _ in LIMITS}
    assert {f"{kind.value}:": age for kind, age in MAX_AGE.items()}.items() <= kept.items()


def test_there_are_bounds(clock, monkeypatch):
    """One user has a number of objects at most, and beyond the number of all the oldest go."""
    monkeypatch.setattr(made_objects, "MAX_OF_USER", 2)
    monkeypatch.setattr(made_objects, "MAX_ROWS", 3)
    objects = MadeObjects(clock)
    for number in range(2):
        assert objects.has_room(ObjectKind.FILE, "anna")
        objects.add(made(f"file_{number}", at=NOW + number))
    assert not objects.has_room(ObjectKind.FILE, "anna")
    assert objects.has_room(ObjectKind.FILE, "ben")
    assert objects.has_room(ObjectKind.BATCH, "anna")
    objects.discard(made("file_1", at=NOW + 1))
    assert objects.has_room(ObjectKind.FILE, "anna")
    objects.merge([made(f"file_{number}", "ben", NOW + number).row() for number in (2, 3)])
    assert [one.id for one in objects.of_user(ObjectKind.FILE, None)] == ["file_3", "file_2", "file_1"]


def good():
    return json.loads(made().row().value)


@pytest.mark.parametrize(
    "row",
    [
        Row("file:file_a", NOW, "{"),
        Row("file:file_a", NOW, "[]"),
        Row("file:file_a", NOW, json.dumps(good() | {"user": 7})),
        Row("file:file_a", NOW, json.dumps(good() | {"at": True})),
        Row("file:file_a", NOW, json.dumps(good() | {"details": []})),
        Row("file:file_a", NOW, json.dumps(good()).replace("1800000000.0", "Infinity")),
        Row(f"file:{'x' * 200}", NOW, json.dumps(good())),
        Row("session:file_a", NOW, json.dumps(good())),
        Row("file", NOW, json.dumps(good())),
    ],
)
def test_rows_of_others_are_checked(clock, row):
    """A row that no version has written, or of another part, is skipped, and the next one is applied."""
    objects = MadeObjects(clock)
    objects.merge([row, made("file_b").row()])
    assert [one.id for one in objects.of_user(ObjectKind.FILE, None)] == ["file_b"]


def test_the_store_has_no_key(clock):
    """A row contains neither the key nor a part of it."""
    objects = MadeObjects(clock)
    objects.add(made())
    (row,) = objects.changed()
    assert "made-up" not in row.value
    assert fingerprint(KEY) != fingerprint(Credential.of("key", "sk-ant-api03-made-up-other"))
