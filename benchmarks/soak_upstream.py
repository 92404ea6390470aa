"""The soak test's upstream, in its own process: Claude on one port, two other providers on another.

It prints its two ports as JSON, serves until its standard input ends, and returns its ledger at ``/ledger``. It paces a
response like a model.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvloop
from aiohttp import web

from benchmarks import script
from benchmarks.script import Plan
from benchmarks.simulated_limits import CUT, DROPPED, LEFT, WHOLE, SimulatedLimits
from claude_proxy.providers.endpoints import model_family

MAX_BODY = 64 * 1024 * 1024


class Upstream:
    """Responds by the plan in the request and by the simulated limits."""

    def __init__(self, limits: SimulatedLimits) -> None:
        self._limits = limits
        self._numbers: set[int] = set()
        # The number of responses in progress.
        self._open = 0

    def app(self) -> web.Application:
        """Return the app for both ports; a deployment has its own path."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/v1/messages", self._claude)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        app.router.add_post("/glm/v1/messages", self._glm)
        app.router.add_post("/openai/v1/chat/completions", self._openai)
        app.router.add_get("/ledger", self._ledger)
        return app

    async def _claude(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        plan, fields = script.plan_in(body), json.loads(body)
        if plan is None:
            return web.json_response(script.whole(Plan(0, 1, 0.0, tool=False), fields["model"]))
        first = plan.number not in self._numbers
        self._numbers.add(plan.number)
        credential = request.headers.get("authorization", "").removeprefix("Bearer ")
        decision = self._limits.decide(plan, credential, model_family(fields["model"]), first=first)
        headers = dict(decision.headers) | {"request-id": f"req_{plan.number}"}
        if decision.outcome == DROPPED:
            return self._dropped(request)
        if decision.status != 200:
            error = {"type": "error", "error": {"type": decision.kind, "message": decision.words}}
            return web.json_response(error, status=decision.status, headers=headers)
        cut = decision.outcome == CUT
        if not fields.get("stream"):
            return await self._at_once(plan, script.whole(plan, fields["model"]), headers, cut=cut, request=request)
        return await self._paced(request, plan, script.claude(plan, fields["model"]), headers, cut=cut)

    async def _glm(self, request: web.Request) -> web.StreamResponse:
        return await self._other(request, "glm", script.whole, partial(script.claude, thinks=True))

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        return await self._other(request, "openai", script.openai_whole, script.openai)

    async def _other(
        self,
        request: web.Request,
        provider: str,
        whole: Callable[[Plan, str], dict[str, Any]],
        stream: Callable[[Plan, str], list[bytes]],
    ) -> web.StreamResponse:
        body = await request.read()
        plan, fields = script.plan_in(body), json.loads(body)
        if plan is None:
            return web.json_response({}, status=400)
        self._limits.served(plan, provider)
        if not fields.get("stream"):
            return await self._at_once(plan, whole(plan, fields["model"]), {}, request=request)
        return await self._paced(request, plan, stream(plan, fields["model"]), {})

    @staticmethod
    async def _count(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response({"input_tokens": 1})

    async def _at_once(
        self, plan: Plan, message: dict[str, Any], headers: dict[str, str], *, request: web.Request, cut: bool = False
    ) -> web.StreamResponse:
        await asyncio.sleep(plan.seconds)
        body = json.dumps(message).encode()
        if not cut:
            self._limits.became(plan.number, WHOLE)
            return web.Response(body=body, content_type="application/json", headers=headers)
        response = web.StreamResponse(headers=headers | {"content-type": "application/json", "content-length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        return self._dropped(request)

    async def _paced(
        self, request: web.Request, plan: Plan, parts: list[bytes], headers: dict[str, str], *, cut: bool = False
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers | {"content-type": "text/event-stream", "cache-control": "no-cache"})
        arrived, started = script.now(), time.monotonic()
        outcome = LEFT
        self._open += 1
        try:
            await response.prepare(request)
            # The first piece contains the time of the request's arrival, and is sent with the second one.
            await response.write(script.stamped(parts[0], arrived) + script.stamped(parts[1], script.now()))
            for place, part in enumerate(parts[2:], start=1):
                if cut and place == len(parts) // 2:
                    outcome = CUT
                    return self._dropped(request)
                await asyncio.sleep(started + plan.seconds * place / (len(parts) - 2) - time.monotonic())
                await response.write(script.stamped(part, script.now()))
            await response.write_eof()
            outcome = WHOLE
        except ConnectionError:  # the proxy closed the connection, as it does after its client left
            pass
        finally:
            self._open -= 1
            self._limits.became(plan.number, outcome)
        return response

    @staticmethod
    def _dropped(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.StreamResponse()

    async def _ledger(self, _: web.Request) -> web.Response:
        return web.json_response({"open": self._open, "arrivals": self._limits.ledger, "cpu": time.process_time()})


async def serve(all_rate_limited_every: float) -> None:
    """Serve until the standard input ends."""
    upstream = Upstream(SimulatedLimits(time.monotonic, time.time, all_rate_limited_every))
    runner = web.AppRunner(upstream.app(), access_log=None)
    await runner.setup()
    sites = [web.TCPSite(runner, "127.0.0.1", 0, backlog=4096) for _ in range(2)]
    for site in sites:
        await site.start()
    ports = [address[1] for address in runner.addresses]
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The soak test's upstream.")
    parser.add_argument("--all-rate-limited-every", type=float, default=90.0)
    uvloop.run(serve(parser.parse_args().all_rate_limited_every))
