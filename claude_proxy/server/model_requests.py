"""What holds for every request to a model, on whichever route: limits, budget, early end, record."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from claude_proxy.access.request_limits import RequestLimits
from claude_proxy.access.revocation import Revocation
from claude_proxy.access.routes import Caller
from claude_proxy.anthropic.errors import Refused, own_refusal
from claude_proxy.asgi import Receive, Scope
from claude_proxy.proxy.admission import Admission
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.under_way import UnderWay
from claude_proxy.usage.prices import Prices
from claude_proxy.usage.record import Record
from claude_proxy.usage.running_requests import RunningRequests

# Responds to a request through its outlet. Raises ``Refused``.
Respond = Callable[[UnderWay], Awaitable[None]]


class ModelRequests:
    """Admits, watches and records requests to models. One per process."""

    def __init__(
        self,
        request_limits: RequestLimits,
        revocation: Revocation,
        *,
        admission: Admission | None = None,
        running: RunningRequests | None = None,
        record: Callable[[Record], None] | None = None,
        prices: Prices | None = None,
    ) -> None:
        self._request_limits = request_limits
        self._revocation = revocation
        self._admission = admission
        self._running = running or RunningRequests()
        self._record = record
        self._prices = prices

    async def serve(self, scope: Scope, caller: Caller, receive: Receive, outlet: ClientResponse, respond: Respond) -> None:
        """Call ``respond`` if the caller's limits and budgets allow it.

        A request ends early if the client disconnects, its user is removed or the server stops.
        """
        arrived = time.time()
        under_way = UnderWay(outlet)
        watched = under_way.watch(scope, receive)
        try:
            limited = nullcontext() if outlet.request.counts_tokens else self._request_limits.admitted(caller.name)
            running = nullcontext() if outlet.request.counts_tokens else self._running.counted(caller.name)
            with limited, running, self._revocation.watched(caller, under_way.revoke):
                outlet.charge = await self._admission.admit(outlet.request, outlet.journal) if self._admission else None
                await respond(under_way)
        except Refused as refused:
            await outlet.refuse(refused.refusal())
        except asyncio.CancelledError as ended:
            under_way.accept_end(ended)
        except Exception:
            # The server logs the exception; the client receives an error in Anthropic's format.
            await outlet.refuse(own_refusal(500, "Internal error of the proxy. Its operator can find it in the log.", []))
            raise
        finally:
            watched()
            await under_way.close()
            await outlet.conclude()
            if outlet.charge is not None:
                await outlet.charge.finish()
            if self._record is not None:
                self._record(outlet.record(arrived, self._prices))
