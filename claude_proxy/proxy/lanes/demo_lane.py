"""The lane for the models ``demo`` and ``claude-demo``: the proxy itself makes the response."""

from collections.abc import Callable

from claude_proxy.anthropic.usage import usage_of
from claude_proxy.providers import demo
from claude_proxy.proxy.lanes.attempt import Attempt
from claude_proxy.proxy.outcome import DONE, Outcome


class DemoLane:
    """One per process; ``text`` returns the current text of the response."""

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text

    async def attempt(self, attempt: Attempt) -> Outcome:
        """Respond that the proxy works, and which keys are missing."""
        request = attempt.request
        body = demo.response(request.model, len(request.raw), self._text(), streams=request.streams)
        attempt.journal.usage = usage_of(body)
        if attempt.capture is not None:
            attempt.capture.feed(body)
        kind = "text/event-stream; charset=utf-8" if request.streams else "application/json"
        length = [] if request.streams else [("content-length", str(len(body)))]
        await attempt.outlet.begin(200, [("content-type", kind), *length])
        await attempt.outlet.end(body)
        return DONE
