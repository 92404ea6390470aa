"""server/object_calls.py: the pages of a list."""

import pytest

from claude_proxy.anthropic.errors import Refused
from claude_proxy.credentials.made_objects import MadeObject, ObjectKind, is_id
from claude_proxy.server import object_calls
from claude_proxy.server.batch_routes import has_ended
from claude_proxy.server.object_calls import KEPT_SECONDS, MAX_KEPT_BYTES, Descriptions, page_of

# The newest first, as a list is: o9 to o0.
EVERY = [MadeObject(ObjectKind.FILE, f"o{number}", "anna", "key", float(number)) for number in reversed(range(10))]


def ids(query, every=EVERY, is_there=lambda _: True):
    page = page_of(every, query, is_there)
    return "".join(one.id[1:] for one in page.objects), page.has_more


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, ("9876543210", False)),
        ({"limit": "3"}, ("987", True)),
        ({"limit": "10"}, ("9876543210", False)),
        ({"limit": "3", "after_id": "o7"}, ("654", True)),
        ({"limit": "3", "after_id": "o3"}, ("210", False)),
        ({"after_id": "o0"}, ("", False)),
        ({"limit": "3", "before_id": "o3"}, ("654", True)),
        ({"limit": "3", "before_id": "o6"}, ("987", False)),
        ({"before_id": "o9"}, ("", False)),
        ({"limit": "3", "page": "page_o7"}, ("654", True)),
        ({"ids": "o3,o5,o77,o3"}, ("53", False)),
    ],
)
def test_pages(query, page):
    """A page is next to its cursor, in the order of the list, and says whether there is more in its direction."""
    assert ids(query) == page


@pytest.mark.parametrize("size", range(1, 12))
def test_all_pages_are_the_list(size):
    """Page by page, each object comes once, in either direction."""
    forward, cursor = "", {}
    for _ in range(20):
        page, more = ids({"limit": str(size)} | cursor)
        forward += page
        if not more:
            break
        cursor = {"after_id": f"o{page[-1]}"}
    assert forward == "9876543210"
    backward, cursor = "0", {"before_id": "o0"}
    for _ in range(20):
        page, more = ids({"limit": str(size)} | cursor)
        backward = page + backward
        if not more:
            break
        cursor = {"before_id": f"o{page[0]}"}
    assert backward == "9876543210"


def test_deleted_and_hidden_objects():
    """A deleted object is in no page, and neither is one whose key is gone; both can be a cursor."""
    objects = [MadeObject(*(one.kind, one.id, one.user, one.key, one.at), {}, one.id == "o5") for one in EVERY]
    there = lambda one: one.id != "o4"  # noqa: E731
    assert ids({}, objects, there) == ("98763210", False)
    assert ids({"limit": "2", "after_id": "o5"}, objects, there) == ("32", True)
    assert ids({"limit": "2", "before_id": "o4"}, objects, there) == ("76", True)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"}, {"limit": "-1"}, {"limit": "1001"}, {"limit": "x"}, {"limit": ""}, {"limit": "9" * 5000},
        {"limit": "\u0663"}, {"after_id": "o77"}, {"before_id": ""}, {"after_id": "o1", "before_id": "o3"},
        {"page": "page_o77"}, {"page": "page_o1", "after_id": "o1"}, {"ids": ",".join(map(str, range(101)))},
    ],
)  # fmt: skip
def test_what_is_no_page(query):
    """A query that Anthropic would refuse is a 400."""
    with pytest.raises(Refused) as refused:
        page_of(EVERY, query, lambda _: True)
    assert refused.value.status == 400


def test_a_page_is_bounded(monkeypatch):
    """A page is no larger than the proxy asks for at once; the client is told that there is more."""
    monkeypatch.setattr(object_calls, "LARGEST_PAGE", 4)
    assert ids({"limit": "1000"}) == ("9876", True)


@pytest.mark.parametrize("value", [None, 7, "", "a/b", "..", "a b", "x" * 200, ["a"], "a\n", "\u00e9"])
def test_what_is_no_id(value):
    """An id of Anthropic's response that could not be a part of a path is none."""
    assert not is_id(value)
    assert is_id("file_011CNha8iCJcU1wXNR6q4V8w")


class Clock:
    now = 1_800_000_000.0

    def __call__(self):
        return self.now


def test_descriptions_that_cannot_change(monkeypatch):
    """What cannot change is kept for an hour; a batch in progress, a large one and the oldest beyond a number are not."""
    monkeypatch.setattr(object_calls, "MAX_KEPT", 2)
    clock = Clock()
    kept = Descriptions(has_ended, clock)
    ended = {"processing_status": "ended"}
    kept.keep("a", ended)
    kept.keep("b", {"processing_status": "in_progress"})
    kept.keep("c", ended | {"x": "x" * MAX_KEPT_BYTES})
    assert [kept.find(identifier) for identifier in "abc"] == [ended, None, None]
    clock.now += KEPT_SECONDS / 2
    kept.keep("d", ended)
    kept.keep("e", ended)
    assert [kept.find(identifier) for identifier in "ade"] == [None, ended, ended]
    clock.now += KEPT_SECONDS
    assert kept.find("d") is None
