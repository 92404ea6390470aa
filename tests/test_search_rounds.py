"""proxy/lanes/search_rounds.py: what waits between the rounds of a response."""

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest
from chat_streams import CALLED, STOP, USAGE, call, calls, chunk, sse
from lanes import Raw, Response
from stream_validator import read_message

from claude_proxy.anthropic.errors import own_refusal
from claude_proxy.anthropic.search_blocks import Page
from claude_proxy.anthropic.stream_writer import StreamWriter
from claude_proxy.openai.chat_round import ChatRound
from claude_proxy.openai.chat_stream import RequestContext
from claude_proxy.providers.compatibility import STRICT
from claude_proxy.providers.search_stream import SearchStream
from claude_proxy.providers.search_tool import SearchTool
from claude_proxy.proxy.lanes.search_rounds import Passing, RoundCalls, RoundRefused, SearchRounds
from claude_proxy.proxy.outcome import failed
from claude_proxy.upstream.client import BrokenOffError, StreamedResponse, TimedOutError

pytestmark = pytest.mark.anyio

CONTEXT = RequestContext("asked", STRICT, lambda: 50)
EVENTS = {"content-type": "text/event-stream"}
SEARCHING = sse(calls(call(0, '{"query": "a"}', given="c1", name="web_search")), CALLED, USAGE)
ANSWER = sse(chunk({"content": "pears"}), STOP, USAGE)
REFUSED = RoundRefused(failed(529, own_refusal(529, "busy", [])))
RESET = aiohttp.ClientPayloadError("reset")


class Rounds:
    """Rounds from given responses, and what was opened for them."""

    def __init__(self, *rounds, streams=True, begun=True):
        self.raws, self.asked, self.waits, self.searched = [], [], asyncio.Event(), asyncio.Event()
        self.waits.set()
        self.left = [*rounds]
        self.writer = StreamWriter("asked")
        stream = SearchStream(self.writer, SearchTool(), ChatRound(CONTEXT, self.writer))
        calls, outlet = RoundCalls(self._again, self._search), SimpleNamespace(begun=begun)
        self.rounds = SearchRounds(stream, self._response(), calls, outlet, streams=streams)

    def _response(self):
        one = self.left.pop(0)
        if isinstance(one, Exception):
            raise one
        self.raws.append(Raw(one if isinstance(one, Response) else Response(200, headers=EVENTS, chunks=[one])))
        return StreamedResponse(self.raws[-1])

    async def _again(self, turns):
        self.asked.append([*turns])
        return self._response(), ChatRound(CONTEXT, self.writer)

    async def _search(self, query):
        self.asked.append(query)
        self.searched.set()
        await self.waits.wait()
        return [Page("Pears", "https://pears.invalid/")]

    async def read(self):
        out = b""
        while part := await self.rounds.piece():
            out += part
        return out


async def test_the_order_of_things():
    """The model, the search, the model again with both turns; each response is closed before what follows."""
    one = Rounds(SEARCHING, ANSWER)
    message = read_message(await one.read())
    assert [block["type"] for block in message["content"]] == ["server_tool_use", "web_search_tool_result", "text"]
    assert (one.asked[0], [turn["role"] for turn in one.asked[1]]) == ("a", ["assistant", "user"])
    assert [raw.was_closed for raw in one.raws] == [True, True]
    assert await one.rounds.piece() == b""
    await one.rounds.close()


async def test_a_search_is_told_before_it_is_made():
    """The client sees what is searched for while it is."""
    one = Rounds(SEARCHING, ANSWER)
    one.waits.clear()
    first = await one.rounds.piece()
    first += b"" if b"server_tool_use" in first else await one.rounds.piece()
    assert b'"type":"server_tool_use"' in first
    assert one.asked == []
    await one.rounds.close()


async def test_a_wait_that_is_cancelled_loses_nothing():
    """Somebody who waits with a limit gets the rest later, and searches once."""
    one = Rounds(SEARCHING, ANSWER)
    one.waits.clear()
    out = b""
    while "a" not in one.asked:
        waiting = asyncio.ensure_future(one.rounds.piece())
        await asyncio.wait({waiting}, timeout=0)
        for _ in range(20):
            await asyncio.sleep(0)
        if waiting.done():
            out += waiting.result()
        else:
            waiting.cancel()
            await asyncio.wait({waiting})
    one.waits.set()
    out += await one.read()
    assert read_message(out)["content"][-1]["text"] == "pears"
    assert one.asked.count("a") == 1


async def test_closing_ends_what_is_under_way():
    """A client that has left costs no search and no response further."""
    one = Rounds(SEARCHING, ANSWER)
    one.waits.clear()
    waiting = asyncio.ensure_future(one.read())
    await one.searched.wait()
    waiting.cancel()
    await asyncio.wait({waiting})
    await one.rounds.close()
    assert one.raws[0].was_closed
    assert one.asked == ["a"]


@pytest.mark.parametrize(
    "broken", [REFUSED, TimedOutError("x"), BrokenOffError("x"), Response(200, headers=EVENTS, chunks=[b"data: {", RESET])]
)
async def test_a_later_round_that_fails(broken):
    """A stream that the client has a part of ends with an error event."""
    one = Rounds(SEARCHING, broken)
    message = read_message(await one.read())
    assert message["type"] == "error"
    assert message["error"]["type"] == ("overloaded_error" if broken is REFUSED else "api_error")
    await one.rounds.close()


@pytest.mark.parametrize("broken", [REFUSED, TimedOutError("x")])
async def test_a_later_round_of_a_whole_response_that_fails(broken):
    """Nothing has left, so it is an error of the attempt's, which another target may spare the client."""
    one = Rounds(SEARCHING, broken, streams=False, begun=False)
    with pytest.raises(type(broken)):
        await one.read()
    await one.rounds.close()


async def test_a_first_round_that_breaks_off():
    """Before anything has left it is an error of the attempt's, too."""
    one = Rounds(Response(200, headers=EVENTS, chunks=[b": hi\n\n", RESET]), begun=False)
    with pytest.raises(BrokenOffError):
        await one.read()
    await one.rounds.close()


async def test_whole_answers_and_unasked_streams():
    """Each round is read in the form in which it comes."""
    search = {"id": "c1", "type": "function", "function": {"name": "web_search", "arguments": '{"query": "a"}'}}
    whole = Response(json={"choices": [{"message": {"tool_calls": [search]}, "finish_reason": "tool_calls"}]})
    for streams in (True, False):
        message = read_message(await Rounds(whole, ANSWER, streams=streams).read())
        assert message["content"][-1]["text"] == "pears"
    page = Response(200, headers={"content-type": "text/html"}, body=b"<html>")
    assert read_message(await Rounds(SEARCHING, page).read())["type"] == "error"


async def test_a_provider_that_keeps_its_connection_open():
    """Behind ``[DONE]`` nothing is waited for."""
    one = Rounds(Response(200, headers=EVENTS, chunks=[SEARCHING, RESET]), ANSWER)
    assert read_message(await one.read())["content"][-1]["text"] == "pears"


async def test_the_message_as_a_whole():
    """It is what its stream told, or the error that ended it."""
    message = await Rounds(SEARCHING, ANSWER, streams=False).rounds.collected()
    assert [block["type"] for block in message["content"]] == ["server_tool_use", "web_search_tool_result", "text"]
    assert message["content"][0]["input"] == {"query": "a"}
    assert (await Rounds(sse(chunk({"content": "half"}), done=False), streams=False).rounds.collected())["type"] == "error"


def test_nothing_is_changed_on_the_way():
    """What the rounds have written is for the client as it is."""
    assert (Passing().feed(b"x"), Passing().finish()) == (b"x", b"")
