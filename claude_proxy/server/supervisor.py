"""Runs several uvicorn workers on one port, with a stop that waits for each of them."""

import os
import signal
from typing import Any

import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess

from claude_proxy.server.draining import Step, StopSignals


class Workers(Multiprocess):
    """The parent of the workers. At a stop, uvicorn (0.54) itself sends one SIGTERM and then ignores signals until the end."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
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
        is_told = False
        for process in self.processes:
            while process.process.is_alive():
                if self._at_once and not is_told:
                    is_told = True
                    self._end_workers()
                process.process.join(0.1)
                self.handle_signals()

    def _take(self, number: int) -> None:
        step = self._signals.step(number)
        self._at_once = self._at_once or step is Step.END
        self.should_exit.set()

    def _end_workers(self) -> None:
        for process in self.processes:
            if process.pid is not None and process.process.is_alive():
                os.kill(process.pid, signal.SIGQUIT)


def run(app: str, *, host: str, port: int, workers: int, **options: Any) -> None:
    """Serve an app until the process is stopped."""
    if workers == 1:
        uvicorn.run(app, host=host, port=port, **options)
        return
    config = uvicorn.Config(app, host=host, port=port, workers=workers, **options)
    Workers(config, [config.bind_socket()]).run()
