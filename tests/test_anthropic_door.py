"""server/anthropic_door.py: which operation a route is, and what is no route."""

import pytest

from claude_proxy.anthropic.errors import Refused
from claude_proxy.credentials.made_objects import ObjectKind
from claude_proxy.server.anthropic_door import AnthropicDoor, operation_of
from claude_proxy.server.object_calls import Operation

B, F = "/v1/messages/batches", "/v1/files"
BATCH, FILE = ObjectKind.BATCH, ObjectKind.FILE


@pytest.mark.parametrize(
    ("method", "route", "found"),
    [
        ("POST", B, (BATCH, Operation.MAKE, "")),
        ("GET", B, (BATCH, Operation.LIST, "")),
        ("GET", f"{B}/msgbatch_1", (BATCH, Operation.RETRIEVE, "msgbatch_1")),
        ("POST", f"{B}/msgbatch_1/cancel", (BATCH, Operation.CANCEL, "msgbatch_1")),
        ("DELETE", f"{B}/msgbatch_1", (BATCH, Operation.DELETE, "msgbatch_1")),
        ("GET", f"{B}/msgbatch_1/results", (BATCH, Operation.CONTENT, "msgbatch_1")),
        ("POST", F, (FILE, Operation.MAKE, "")),
        ("GET", F, (FILE, Operation.LIST, "")),
        ("GET", f"{F}/file_1", (FILE, Operation.RETRIEVE, "file_1")),
        ("DELETE", f"{F}/file_1", (FILE, Operation.DELETE, "file_1")),
        ("GET", f"{F}/file_1/content", (FILE, Operation.CONTENT, "file_1")),
    ],
)
def test_operations(method, route, found):
    """The routes are those of Anthropic's reference."""
    assert operation_of(method, route) == found


@pytest.mark.parametrize(
    ("method", "route", "status"),
    [
        ("GET", f"{F}/..", 404),
        ("GET", f"{F}/../models", 404),
        ("GET", f"{F}/file.1", 404),
        ("GET", f"{F}/a/b/c", 404),
        ("GET", f"{F}//content", 404),
        ("GET", f"{F}/", 404),
        ("GET", f"{F}/file 1", 404),
        ("GET", f"{F}/file_1\n", 404),
        ("GET", f"{F}/{'x' * 129}", 404),
        ("GET", f"{F}/file%2F1", 404),
        ("GET", f"{F}/file_1/results", 404),
        ("GET", f"{B}/msgbatch_1/content", 404),
        ("GET", f"{B}/msgbatch_1/cancel/", 404),
        ("PUT", F, 405),
        ("DELETE", B, 405),
        ("PATCH", f"{B}/msgbatch_1", 405),
        ("GET", f"{B}/msgbatch_1/cancel", 405),
    ],
)
def test_what_is_no_route(method, route, status):
    """An id with a slash, a dot or another character, or a huge one, is never a part of a path at Anthropic."""
    with pytest.raises(Refused) as refused:
        operation_of(method, route)
    assert refused.value.status == status


def test_what_the_door_serves():
    """The door takes these routes and none beside them."""
    door = AnthropicDoor(None, None)
    served = {("GET", "/v1/models/claude-x"), ("PUT", f"{F}/x"), ("GET", F), ("POST", B), ("GET", f"{B}/x/results")}
    assert all(door.serves(*route) for route in served)
    other = {
        ("GET", "/v1/models"), ("POST", "/v1/models/claude-x"), ("GET", "/v1/filesystem"), ("POST", "/v1/messages"),
        ("GET", "/v1/messages/batchesx"), ("GET", "/files"),
    }  # fmt: skip
    assert not any(door.serves(*route) for route in other)
