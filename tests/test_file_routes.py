"""server/file_routes.py: an upload passes part by part, up to a limit."""

import pytest

from claude_proxy.anthropic.errors import Refused
from claude_proxy.server.file_routes import MAX_FILE_BYTES, Upload, _length

pytestmark = pytest.mark.anyio


def receiving(*messages):
    left = [*messages]

    async def receive():
        return left.pop(0)

    return receive


def part(body, *, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


async def test_parts_pass_as_they_arrive():
    """Each part is sent in its turn; nothing is kept."""
    upload = Upload(receiving(part(b"a"), part(b""), part(b"bc", more=False)))
    assert [one async for one in upload.parts()] == [b"a", b"bc"]
    assert upload.failure is None


async def test_an_upload_beyond_the_limit():
    """An upload without an announced length ends at the limit, with a 413 that closes the connection."""
    upload = Upload(receiving(part(b"abc"), part(b"d"), part(b"e")), limit=3)
    with pytest.raises(Refused) as refused:
        assert [one async for one in upload.parts()] == [b"abc"]
    assert refused.value is upload.failure
    assert (refused.value.status, ("connection", "close") in refused.value.headers) == (413, True)


async def test_a_client_that_disconnects():
    """A client that disconnects ends the request to Anthropic."""
    upload = Upload(receiving(part(b"abc"), {"type": "http.disconnect"}))
    with pytest.raises(ConnectionAbortedError):
        assert [one async for one in upload.parts()] == [b"abc"]
    assert isinstance(upload.failure, ConnectionAbortedError)


@pytest.mark.parametrize(
    ("sent", "length"), [("7", 7), ("", None), ("x", None), ("-1", None), (str(MAX_FILE_BYTES), MAX_FILE_BYTES)]
)
def test_an_announced_length(sent, length):
    """The length that the client announces is passed on, if it is one."""
    assert _length([("Content-Length", sent)]) == length


@pytest.mark.parametrize("sent", [str(MAX_FILE_BYTES + 1), "9" * 5000])
def test_an_announced_length_beyond_the_limit(sent):
    """A body that is announced as too large is refused before it is read."""
    with pytest.raises(Refused) as refused:
        _length([("content-length", sent)])
    assert refused.value.status == 413
