"""Runs several uvicorn workers on one port, with a stop that waits for each of them."""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess

from claude_proxy.server.draining import Step, StopSignals

# How long a worker that starts may take to say whether it serves, in seconds.
LOOK_SECONDS = 1.0
# From when on a worker that has not started is treated like one that hangs, in seconds.
START_SECONDS = 120.0


class ReportedOtherwise(logging.Filter):
    """Drops uvicorn's words about a start that has failed: the process has logged the cause."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "startup failed. Exiting." not in record.msg and "failed to start, stopping" not in record.msg


class Workers(Multiprocess):
    """The parent of the workers. At a stop, uvicorn (0.54) itself sends one SIGTERM and then ignores signals until the end."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
        """``ready`` is called once, when every worker serves."""
        super().__init__(config, sockets)
        self._ready: Callable[[], None] | None = ready
        self._began = time.monotonic()
        self.has_failed = False
        self._signals = StopSignals()
        self._at_once = False

    def handle_int(self) -> None:
        """Start the stop, or end it immediately."""
        self._take(signal.SIGINT)

    def handle_term(self) -> None:
        """Start the stop, or end it immediately."""
        self._take(signal.SIGTERM)

    def join_all(self) -> None:
        """Wait until each worker has drained; forward a second signal."""
        is_forwarded = False
        for process in self.processes:
            while process.process.is_alive():
                if self._at_once and not is_forwarded:
                    is_forwarded = True
                    self._end_workers()
                process.process.join(0.1)
                self.handle_signals()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended, as uvicorn does; call ``ready`` when each has started.

        Stops when a worker cannot start. uvicorn's own check would wait a minute for a worker that has already ended.
        """
        if self._ready is None or time.monotonic() - self._began > START_SECONDS:
            super().keep_subprocess_alive()
        self.has_failed = any(process.exitcode == STARTUP_FAILURE for process in self.processes)
        if self.has_failed:
            self.should_exit.set()
        elif self._ready is not None and all(process.is_ready(LOOK_SECONDS) for process in self.processes):
            ready, self._ready = self._ready, None
            ready()

    def _take(self, number: int) -> None:
        step = self._signals.step(number)
        self._at_once = self._at_once or step is Step.END
        self.should_exit.set()

    def _end_workers(self) -> None:
        for process in self.processes:
            if process.pid is not None and process.process.is_alive():
                os.kill(process.pid, signal.SIGQUIT)


class OneServer(uvicorn.Server):
    """The server of a single process."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        """``ready`` is called when the server accepts connections."""
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does."""
        await super().startup(sockets)
        self._ready()


def run(app: str, *, ready: Callable[[], None], host: str, port: int, workers: int, **options: Any) -> None:
    """Serve an app until the process is stopped; call ``ready`` when it serves. Exits with 3 when it cannot start."""
    logging.getLogger("uvicorn.error").addFilter(ReportedOtherwise())
    config = uvicorn.Config(app, host=host, port=port, workers=workers, **options)
    if workers > 1:
        parent = Workers(config, [config.bind_socket()], ready)
        parent.run()
        if parent.has_failed:
            sys.exit(STARTUP_FAILURE)
        return
    config.load_app()
    server = OneServer(config, ready)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
