"""proxy/relay.py: what passes a stream on, to the byte or through the thinking filter."""

import asyncio
import json
import weakref
from functools import partial
from types import SimpleNamespace

import pytest

from claude_proxy.anthropic.sse import KEEPALIVE, error_of
from claude_proxy.anthropic.usage import Usage, usage_of
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.lanes.claude_lane import renamed
from claude_proxy.proxy.relay import (
    MAX_FIRST_EVENT,
    FailedStream,
    Renaming,
    StreamCapture,
    close_stream,
    filtered,
    relayed,
    timed,
)

THOUGHT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta"}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def test_silence_is_broken_while_thinking_is_swallowed():
    """While nothing goes out, silent upstream or swallowed thinking, a keep-alive does; then the stream goes on."""

    async def run():
        go_on = asyncio.Event()

        async def upstream():
            yield THOUGHT
            await go_on.wait()
            yield STOP

        stream = upstream()
        seen = []
        async for ready in filtered(await anext(stream), stream, ThinkingFilter(), keepalive=0.0):
            seen.append(ready)
            if len(seen) == 3:
                go_on.set()
        return seen

    seen = asyncio.run(run())
    assert seen[:3] == [KEEPALIVE] * 3
    assert [ready for ready in seen if ready != KEEPALIVE] == [STOP]


def test_a_lively_stream_gets_no_keepalive():
    """What the upstream sends in time passes alone."""

    async def run():
        async def upstream():
            yield STOP
            yield STOP

        stream = upstream()
        return [ready async for ready in filtered(await anext(stream), stream, ThinkingFilter(), keepalive=60.0)]

    assert asyncio.run(run()) == [STOP, STOP]


@pytest.mark.parametrize("leaves_after", [1, 2])
def test_a_filtered_stream_closes_its_upstream(leaves_after):
    """When the client leaves, in whatever moment, the upstream's generator is closed."""
    closed = []

    async def run():
        async def upstream():
            try:
                while True:
                    yield STOP
            finally:
                closed.append(True)

        stream = upstream()
        driver = filtered(await anext(stream), stream, ThinkingFilter(), keepalive=60.0)
        for _ in range(leaves_after):
            await anext(driver)
        await driver.aclose()

    asyncio.run(run())
    assert closed == [True]


def test_a_silent_stream_closes_its_upstream():
    """A client that leaves after a keep-alive, while the next chunk is awaited, closes the upstream's generator, too."""
    closed = []

    async def run():
        async def upstream():
            try:
                yield STOP
                await asyncio.Event().wait()
            finally:
                closed.append(True)

        stream = upstream()
        driver = filtered(await anext(stream), stream, ThinkingFilter(), keepalive=0.0)
        assert [await anext(driver), await anext(driver)] == [STOP, KEEPALIVE]
        await driver.aclose()
        assert closed == [True]

    asyncio.run(run())


def test_streams_inside_streams_are_closed():
    """Each of LiteLLM's wrapped streams is closed, down to the one that holds the connection."""
    closed = []

    def stream(name, **inner):
        async def aclose():
            closed.append(name)

        return SimpleNamespace(aclose=aclose, **inner)

    asyncio.run(close_stream(stream("outer", _source_iterator=SimpleNamespace(completion_stream=stream("inner")))))
    assert closed == ["outer", "inner"]


# To the client


class Out:
    """An outlet that keeps what it was given, and can tell that something came."""

    def __init__(self):
        self.begun = None
        self.written = []
        self.ended = False

    async def begin(self, status, headers):
        self.begun = (status, headers)

    async def write(self, data):
        if data:
            self.written.append(data)

    async def end(self):
        self.ended = True


def message_start(model):
    return f'event: message_start\ndata: {{"type":"message_start","message":{{"id":"m","model":"{model}"}}}}\n\n'.encode()


ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def reading(chunks):
    """Return a reader of chunks that loses nothing when it is cancelled."""
    pending = []

    async def read():
        if not pending:
            pending.append(asyncio.ensure_future(anext(chunks, b"")))
        chunk = await asyncio.shield(pending[0])
        pending.clear()
        return chunk

    return read


async def relay(chunks, editor=None, keepalive=None, *, needs_event=False):
    out, capture = Out(), StreamCapture(copies=True)

    async def upstream():
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    begin = partial(out.begin, 200, [])
    try:
        editor = editor or Renaming(*renamed("m", "m"))
        await relayed(reading(upstream()), out, editor, capture, begin=begin, keepalive=keepalive, needs_event=needs_event)
    finally:
        out.capture, out.copy = capture, capture.copy
    return out


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_relayed_stream_arrives_to_the_byte(size):
    """However a stream is cut, its bytes arrive unchanged and in order, and the copy holds them all."""
    stream = message_start("m") + PING + THOUGHT + b": comment\n\nevent: new\ndata: {}\n\nhalf an ev"
    out = asyncio.run(relay([stream[i : i + size] for i in range(0, len(stream), size)]))
    assert (b"".join(out.written), out.copy, out.begun, out.ended) == (stream, stream, (200, []), True)


def test_a_large_stream_has_no_copy(monkeypatch):
    """Beyond a bound LiteLLM's books get a short stream with the same counts, and nothing else is kept."""
    monkeypatch.setattr("claude_proxy.proxy.relay.MAX_COPY", 500)
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
    delta = b'data: {"type":"message_delta","usage":{"output_tokens":9}}\n\n'
    capture = asyncio.run(relay([start, *[PING] * 100, delta, STOP])).capture
    assert capture.copy.startswith(start)
    assert len(capture.copy) < 500
    assert (usage_of(capture.copy), capture.summary.usage) == (Usage(7, 9), Usage(7, 9))
    assert capture.copy.endswith(STOP)


def test_the_first_event_leaves_before_the_second_comes():
    """A whole first event is sent at once, while the upstream has said nothing more."""

    async def run():
        out, go_on, seen = Out(), asyncio.Event(), []

        async def upstream():
            yield message_start("m")
            seen.append(list(out.written))
            go_on.set()
            yield STOP

        begin = partial(out.begin, 200, [])
        await relayed(reading(upstream()), out, Renaming(*renamed("m", "m")), StreamCapture(), begin=begin)
        return seen

    assert asyncio.run(run()) == [[message_start("m")]]


def test_a_stream_that_begins_with_an_error_is_not_begun():
    """The client has seen nothing of a stream whose first event is an error, so that something else may answer."""
    for chunks in ([ERROR], [ERROR[:20], ERROR[20:] + b"more"]):
        with pytest.raises(FailedStream) as failed:
            asyncio.run(relay(chunks))
        assert (failed.value.kind, failed.value.body) == ("overloaded_error", ERROR)


def test_an_error_later_on_arrives():
    """An error after the first event is passed on like every other event."""
    out = asyncio.run(relay([message_start("m"), ERROR]))
    assert (b"".join(out.written), out.ended) == (message_start("m") + ERROR, True)


def test_a_stream_that_breaks_off_is_not_ended():
    """What came before the break is sent, and the break is raised and not made an end."""
    broke = ConnectionResetError("reset")

    async def run():
        out = Out()

        async def upstream():
            yield message_start("m")
            raise broke

        with pytest.raises(ConnectionResetError):
            await relayed(
                reading(upstream()), out, Renaming(*renamed("m", "m")), StreamCapture(), begin=partial(out.begin, 200, [])
            )
        return out

    out = asyncio.run(run())
    assert (out.written, out.ended) == ([message_start("m")], False)


def test_headers_do_not_wait_for_ever(monkeypatch):
    """When the first event takes too long, the status leaves without it."""
    monkeypatch.setattr("claude_proxy.proxy.relay.FIRST_EVENT_SECONDS", 0.0)

    async def run():
        out, begun = Out(), asyncio.Event()

        async def begin():
            await out.begin(200, [])
            begun.set()

        async def upstream():
            await begun.wait()
            yield message_start("m")

        await relayed(reading(upstream()), out, Renaming(*renamed("m", "m")), StreamCapture(), begin=begin)
        return out

    assert asyncio.run(run()).written == [message_start("m")]


@pytest.mark.parametrize("chunks", [[], [b"half an ev"], [b"x" * (MAX_FIRST_EVENT + 1), b"y"]], ids=["empty", "half", "large"])
def test_what_is_no_event_arrives_too(chunks):
    """An empty stream, half an event and an event beyond all bounds are passed on as they are."""
    out = asyncio.run(relay(chunks))
    assert (b"".join(out.written), out.begun, out.ended) == (b"".join(chunks), (200, []), True)


def test_a_filtered_relay_is_kept_alive():
    """While the thinking of another provider is swallowed, a keep-alive takes its place."""
    out = asyncio.run(relay([message_start("m"), THOUGHT, STOP], ThinkingFilter("m"), keepalive=0.0))
    assert [data for data in out.written if data != KEEPALIVE] == [message_start("m"), STOP]
    assert KEEPALIVE in out.written


def test_a_silence_ends_no_write_and_loses_no_chunk():
    """Only a wait for the next chunk is interrupted: a client that takes its time gets every byte, in order."""
    chunks = [message_start("m"), *(b"data: %d\n\n" % number for number in range(20))]

    class Slow(Out):
        async def write(self, data):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await super().write(data)

    async def upstream():
        for chunk in chunks:
            await asyncio.sleep(0)
            yield chunk

    async def run():
        out = Slow()
        begin = partial(out.begin, 200, [])
        await relayed(reading(upstream()), out, Renaming(*renamed("m", "m")), StreamCapture(), begin=begin, keepalive=0.0)
        return out

    out = asyncio.run(run())
    assert [data for data in out.written if data != KEEPALIVE] == chunks
    assert out.ended


def test_a_client_that_leaves_in_a_silence_ends_the_relay():
    """A task that is cancelled by somebody else ends, also when its silence runs out in the same moment."""

    async def run():
        out, waits = Out(), asyncio.Event()

        async def silent():
            if out.begun is None:
                return message_start("m")
            waits.set()
            return await asyncio.Event().wait()

        async def ends():
            begin = partial(out.begin, 200, [])
            await relayed(silent, out, Renaming(*renamed("m", "m")), StreamCapture(), begin=begin, keepalive=0.0)

        task = asyncio.ensure_future(ends())
        await waits.wait()
        task.cancel()
        return (await asyncio.wait({task}, timeout=30))[1], task.cancelled()

    assert asyncio.run(run()) == (set(), True)


def test_a_stream_has_one_timer():
    """A lively stream sets a timer for its first event and one for its silences, and leaves none behind."""
    set_at = []

    async def run():
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def counted(when, *arguments, **more):
            set_at.append(call_at(when, *arguments, **more))
            return set_at[-1]

        loop.call_at = counted
        out = Out()
        chunks = [message_start("m"), *[PING] * 100]

        async def read():
            await asyncio.sleep(0)
            return chunks.pop(0) if chunks else b""

        begin = partial(out.begin, 200, [])
        await relayed(read, out, Renaming(*renamed("m", "m")), StreamCapture(), begin=begin, keepalive=60.0)

    asyncio.run(run())
    assert [handle.cancelled() for handle in set_at] == [True, True]


# The model's name

RENAMED = [
    # asked, sent upstream, answered, what the client sees
    ("alias", "claude-x", "claude-x", "alias"),
    ("claude-x", "claude-x", "claude-x-20250929", "claude-x"),
    ("anthropic/claude-x", "claude-x", "claude-x-20250929", "anthropic/claude-x"),
    ("claude-x", "claude-x", "claude-x", "claude-x"),
    # A server-side fallback, which Claude Code shows to its user.
    ("claude-x", "claude-x", "claude-y", "claude-y"),
    ("alias", "claude-x", "claude-x-large", "claude-x-large"),
    ("alias", "claude.x", "claude-x", "claude-x"),
    ('a"\\é', "claude-x", "claude-x", 'a"\\é'),
]


@pytest.mark.parametrize(("asked", "sent", "answered", "seen"), RENAMED)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_stream_names_the_model_that_was_asked_for(asked, sent, answered, seen, size):
    """The name that the proxy sent upstream, dated or not, is the client's again; any other one stays as it is."""
    stream = message_start(answered) + b'event: x\ndata: {"model":"claude-x"}\n\n'
    renaming = Renaming(*renamed(asked, sent))
    got = b"".join(renaming.feed(stream[i : i + size]) for i in range(0, len(stream), size)) + renaming.finish()
    first, second, _ = got.split(b"\n\n")
    assert json.loads(first.split(b"data: ")[1])["message"]["model"] == seen
    assert second == b'event: x\ndata: {"model":"claude-x"}'


@pytest.mark.parametrize(("asked", "sent", "answered", "seen"), RENAMED)
def test_a_whole_message_names_the_model_that_was_asked_for(asked, sent, answered, seen):
    """The same for a whole message, of which every other byte stays: a tool's input may look like it."""
    before = b'{ "content": [{"type":"tool_use","input":{"model":"claude-x"}}],\n "type":"message", "model" : '
    body = before + json.dumps(answered).encode() + b', "x": 1.0}'
    whole = Renaming(*renamed(asked, sent)).whole(body)
    assert json.loads(whole)["model"] == seen
    assert whole.startswith(before)
    assert whole.endswith(b', "x": 1.0}')


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"model":"claude-x","input_tokens":1}', b"[" * 100_000])
def test_what_is_no_message_is_not_renamed(body):
    """Anything that is no message passes to the byte."""
    assert Renaming(*renamed("alias", "claude-x")).whole(body) == body


@pytest.mark.parametrize("chunks", [[], [b"<html>"], [b"event: x\ndata: {}\n"]])
def test_a_stream_without_an_event(chunks):
    """Where events are needed a stream without any is a failed one, before the status has left; else it passes as it is."""
    with pytest.raises(FailedStream) as failed:
        asyncio.run(relay(chunks, needs_event=True))
    assert (failed.value.kind, error_of(failed.value.body)) == ("api_error", "api_error")
    out = asyncio.run(relay(chunks))
    assert (b"".join(out.written), out.begun, out.ended) == (b"".join(chunks), (200, []), True)


def test_a_stream_s_end_needs_no_search_for_garbage(no_garbage_search):
    """The last task's exception refers to the frame that holds the task."""

    class Chunks:
        """Two chunks, and something large in their source."""

        def __init__(self):
            self.left = [b"1", b"2"]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    async def run():
        chunks = Chunks()
        assert [chunk async for chunk in timed(chunks, lambda: 60.0)] == [b"1", b"2"]
        return weakref.ref(chunks)

    assert asyncio.run(run())() is None
