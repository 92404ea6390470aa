"""proxy/charge.py: the cost of a request while its response passes, and what the client gets only after it is counted."""

import asyncio
import json
from datetime import date

import pytest

from claude_proxy.anthropic.request_view import RequestView
from claude_proxy.anthropic.sse import KEEPALIVE
from claude_proxy.anthropic.usage import StreamSummary, Usage
from claude_proxy.config.budgets import Budget, Period
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.charge import EVENT_BYTES, UPDATE_SECONDS, Charge
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.upstream.headers import read
from claude_proxy.usage.spend import SpendBook
from claude_proxy.usage.standing import Standing

pytestmark = pytest.mark.anyio

TODAY = date(2026, 11, 18)
STANDING = Standing(Budget("user:anna", {Period.DAY: 100}), Period.DAY, 100, 80, 9.0)


def event(kind, **more):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


START = event("message_start", message={"usage": {"input_tokens": 1000, "output_tokens": 1}})
TEXT = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * 400})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 30})
STOP = event("message_stop")


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


class Passing:
    """A response on its way: one micro-USD for each token of input, and ten for each of output."""

    def __init__(self, *, standing=None, confirms=True, stream=True):
        self.book = SpendBook(clock=Clock())
        self.journal = Journal()
        self.journal.begin(Provider.CLAUDE, "anthropic/claude-x", "claude-x")
        self.sent = []
        self.asked = []
        self.woken = []
        self.confirmed = asyncio.Event()
        self.confirming = asyncio.Event()
        self.clock = Clock()
        request = Request(read([]), [], b"{}", RequestView("claude-x", streams=stream), user="anna")
        self.response = ClientResponse(self._send, request, Redactor([]), self.journal)
        self.charge = self.response.charge = Charge(
            self.book.open(("user:anna",), TODAY),
            self.journal,
            "claude-x",
            self._cost,
            standing=lambda: standing,
            confirm=self._confirm if confirms else None,
            wake=lambda: self.woken.append(self.spent),
            input_tokens=self._input_tokens,
            clock=self.clock,
        )

    async def _send(self, message):
        self.sent.append(message)

    async def _confirm(self):
        self.confirming.set()
        await self.confirmed.wait()

    async def _input_tokens(self):
        return 700

    def _cost(self, model, served, usage):
        self.asked.append((model, served))
        return usage.input + 10 * usage.output

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def headers(self):
        return dict(self.sent[0]["headers"])

    @property
    def spent(self):
        return self.book.spent("user:anna", Period.DAY, TODAY)

    async def stream(self, *chunks):
        """Send chunks as a lane does: the summary reads each one before it is sent."""
        if self.journal.summary is None:
            self.journal.summary = StreamSummary()
            await self.response.begin(200, [("content-type", "text/event-stream")])
        for chunk in chunks:
            self.journal.summary.feed(chunk)
            await self.response.write(chunk)


async def test_the_input_counts_from_the_first_event():
    """Once the provider has reported the input, it counts, while the output is still to come."""
    one = Passing()
    await one.stream(START)
    assert one.spent == 1010


async def test_the_output_counts_while_it_streams():
    """Between two reports the output is estimated by the length of its content, at most four times a second."""
    one = Passing()
    await one.stream(START, TEXT)
    assert one.spent == 1010
    one.clock.now += UPDATE_SECONDS
    await one.stream(TEXT)
    assert 1000 + 10 * 2 * 400 // 4 <= one.spent <= 1000 + 10 * 2 * (400 + EVENT_BYTES) // 4


async def test_keepalives_cost_nothing():
    """A stream of which only keep-alives pass has no output."""
    one = Passing()
    await one.stream(START)
    one.clock.now += UPDATE_SECONDS
    await one.stream(*[KEEPALIVE] * 50)
    assert one.spent == 1010


async def test_the_final_counts_replace_the_estimate_before_the_client_gets_the_end():
    """The last events wait until the amount is in the store, so the client's next request meets it everywhere."""
    one = Passing()
    await one.stream(START, *[TEXT] * 3)
    ending = asyncio.ensure_future(one.stream(END, STOP))
    await one.confirming.wait()
    assert one.spent == 1300
    assert END not in one.body
    one.confirmed.set()
    await ending
    await one.response.end()
    assert one.body.endswith(END + STOP)
    await one.charge.finish()
    assert (one.spent, one.woken) == (1300, [])


@pytest.mark.parametrize("cut", range(1, len(END + STOP), 7))
async def test_the_end_waits_however_it_is_cut(cut):
    """Wherever the network cuts the last events, the client has no complete final event before the amount is confirmed."""
    one = Passing()
    await one.stream(START)
    rest = END + STOP
    ending = asyncio.ensure_future(one.stream(rest[:cut], rest[cut:]))
    await one.confirming.wait()
    assert END not in one.body
    one.confirmed.set()
    await ending
    assert one.body.endswith(END + STOP)


async def test_a_whole_response_waits_too():
    """Of a response that is not a stream, the body waits until its amount is in the store."""
    one = Passing(stream=False)
    one.journal.usage = Usage(7, 2)
    await one.response.begin(200, [])
    ending = asyncio.ensure_future(one.response.end(b"{}"))
    await one.confirming.wait()
    assert (one.spent, one.body) == (27, b"")
    one.confirmed.set()
    await ending
    assert one.body == b"{}"


async def test_a_response_that_broke_off_keeps_what_had_passed():
    """A client that disconnects before the final counts has spent what was streamed, not the first report alone."""
    one = Passing()
    await one.stream(START, *[TEXT] * 5)
    one.response.leave()
    await one.charge.finish()
    assert one.spent >= 1000 + 10 * 5 * 400 // 4
    assert one.woken == [one.spent]


async def test_the_input_of_a_response_that_broke_off_is_never_free():
    """A provider that reports the input only at the end has an estimate of it, if the client disconnects before that."""
    one = Passing()
    await one.stream(event("message_start", message={"usage": {"input_tokens": 0, "output_tokens": 0}}), TEXT)
    one.response.leave()
    await one.charge.finish()
    assert one.spent >= 700 + 10 * 400 // 4
    counted = Passing(confirms=False)
    await counted.stream(event("message_start", message={"usage": {"input_tokens": 0}}), TEXT, END, STOP)
    await counted.response.end()
    await counted.charge.finish()
    assert counted.spent == 300


async def test_a_client_that_disconnects_before_the_first_byte():
    """The provider counts the input from the moment at which it has the request, so it is estimated, and pushed at once."""
    one = Passing()
    one.journal.record_sent()
    one.response.leave()
    await one.charge.finish()
    assert (one.spent, one.woken) == (700, [700])
    reported = Passing()
    reported.journal.record_sent()
    reported.journal.usage = Usage(cache_read=3, input=1)
    await reported.charge.finish()
    assert reported.spent == 1


async def test_a_request_that_is_not_at_a_provider_costs_nothing():
    """Neither a request that was not sent yet, nor one that failed, nor one that waits for a fallback has a cost."""
    waiting = Passing()
    failed = Passing()
    failed.journal.record_sent()
    failed.journal.record_failed()
    next_one = Passing()
    next_one.journal.record_sent()
    next_one.journal.begin(Provider.OPENAI, "openai/gpt", "gpt")
    own = Passing()
    own.journal.record_sent()
    own.journal.of_client = True
    for one in (waiting, failed, next_one, own):
        one.response.leave()
        await one.charge.finish()
        assert (one.spent, one.woken) == (0, [])


async def test_a_whole_response_without_counts_has_its_input():
    """A provider that reports nothing has an estimate of the input, before the client receives the end."""
    one = Passing(stream=False, confirms=False)
    one.journal.record_sent()
    await one.response.begin(200, [])
    await one.charge.ending()
    assert one.spent == 700


async def test_the_last_final_counts_apply():
    """A provider that sends its final event twice is charged by the second one, and the end waits for that amount."""
    one = Passing()
    one.confirmed.set()
    await one.stream(START, event("message_delta", delta={}, usage={"output_tokens": 2}), END, STOP)
    one.confirmed.clear()
    one.confirming.clear()
    ending = asyncio.ensure_future(one.response.end())
    await one.confirming.wait()
    assert one.spent == 1300
    assert one.sent[-1]["more_body"]
    one.confirmed.set()
    await ending


async def test_a_stream_without_final_counts_is_estimated():
    """A provider that reports no output has an estimate by the length of its response."""
    one = Passing(confirms=False)
    await one.stream(event("message_start", message={"usage": {"input_tokens": 5}}), TEXT, STOP)
    await one.response.end()
    assert one.spent >= 5 + 10 * 400 // 4


async def test_without_a_response_nothing_is_spent():
    """A request that no provider responded to costs nothing."""
    one = Passing()
    await one.charge.finish()
    assert one.spent == 0


async def test_the_model_that_responded_has_the_price():
    """A fallback's response is charged by the fallback's name and provider, and not by what the first attempt had cost."""
    one = Passing(confirms=False)
    await one.stream(START)
    one.journal.begin(Provider.OPENAI, "openai/gpt", "gpt")
    one.journal.usage = Usage(1, 1)
    await one.response.end()
    await one.charge.finish()
    assert one.asked[-1] == ("gpt", "openai/gpt")
    assert one.spent == 11


async def test_what_the_provider_reported_beside_the_translation_counts():
    """At the end of a translated stream, the counts of its provider apply: they may have a price that no event has."""
    one = Passing(confirms=False)
    one.journal.reported = lambda: Usage(3, 4)
    await one.stream(START)
    assert one.spent == 1010
    await one.stream(END)
    assert one.spent == 43


async def test_the_clients_own_login_costs_nothing():
    """What the client's own credential paid for is not counted."""
    one = Passing(confirms=False)
    one.journal.of_client = True
    await one.stream(START, TEXT, END)
    await one.response.end()
    assert one.spent == 0


async def test_an_unknown_price_costs_nothing():
    """Without a known price the response passes, and nothing is counted."""
    one = Passing(confirms=False)
    one.charge._cost = lambda *_: None
    await one.stream(START, END)
    await one.response.end()
    assert one.spent == 0


async def test_a_user_with_a_budget_gets_its_headers():
    """The status has the budget's headers, also that of a stream whose provider is silent for long."""
    one = Passing(standing=STANDING)
    await one.response.begin(200, [("anthropic-ratelimit-unified-status", "rejected"), ("x", "y")])
    assert one.headers[b"anthropic-ratelimit-unified-status"] == b"allowed_warning"
    assert one.headers[b"x"] == b"y"
    early = Passing(standing=STANDING)
    early.journal.begin(Provider.OPENAI, "openai/gpt", "gpt")
    await early.response.reassure()
    assert early.headers[b"anthropic-ratelimit-unified-overage-utilization"] == b"0.80"


async def test_a_user_without_a_budget_gets_the_headers_unchanged():
    """Without a budget of the user nothing is removed and nothing added."""
    one = Passing()
    await one.response.begin(200, [("anthropic-ratelimit-unified-status", "rejected")])
    assert one.headers == {b"anthropic-ratelimit-unified-status": b"rejected"}
