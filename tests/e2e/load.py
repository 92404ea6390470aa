"""Clients in threads: one that asks once, and many that ask all the time."""

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from processes import STATIC_TOKEN, new_question

CLIENTS = 6


class Load:
    """Clients that ask one after the other until they are told to stop; every answer is kept, with the time of its asking.

    ``pause`` is how many seconds a client waits between two requests: without one they use all processors.
    """

    def __init__(self, url: str, token: str = STATIC_TOKEN, model: str = "claude-sonnet-5", pause: float = 0) -> None:
        self.url, self.token, self.model, self.pause = url, token, model, pause
        self.answers: list[tuple[float, int | str]] = []
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._done = [self._pool.submit(self._client, number) for number in range(CLIENTS)]

    def _client(self, number: int) -> None:
        headers = {"x-litellm-api-key": self.token, "content-type": "application/json"}
        with httpx.Client(trust_env=False, timeout=60) as client:
            for turn in itertools.count():
                if self._stop.wait(self.pause):
                    return
                asked = time.monotonic()
                session = {"x-claude-code-session-id": f"session-{number}-{turn // 7}"} if number % 2 else {}
                body = new_question(self.model, stream=turn % 2 == 0)
                begun = False
                try:
                    with client.stream("POST", f"{self.url}/v1/messages", json=body, headers=headers | session) as answer:
                        begun = True
                        answer.read()
                        self.answers.append((asked, answer.status_code))
                except httpx.TransportError as error:
                    self.answers.append((asked, "cut off in its stream" if begun else repr(error)))

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests have been answered."""
        poll, target = threading.Event(), len(self.answers) + more
        for _ in range(1200):
            if len(self.answers) >= target:
                return
            poll.wait(0.1)
        raise AssertionError(f"only {len(self.answers)} answers")

    def stop(self) -> list[int | str]:
        self._stop.set()
        self._pool.shutdown()
        for done in self._done:
            done.result()
        return [status for _, status in self.answers]


class Asking:
    """A request in a thread of its own: ``wait_begun`` waits for a stream's first bytes, ``result`` for its end."""

    def __init__(self, url: str, token: str = STATIC_TOKEN, *, stream: bool = True, model: str = "claude-sonnet-5") -> None:
        self._url, self._headers = f"{url}/v1/messages", {"x-litellm-api-key": token}
        self._body = new_question(model, stream=stream)
        self.begun = threading.Event()
        self.status = 0
        self.content = b""
        self.broken = ""
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            with (
                httpx.Client(trust_env=False, timeout=60) as client,
                client.stream("POST", self._url, json=self._body, headers=self._headers) as answer,
            ):
                self.status = answer.status_code
                for part in answer.iter_raw():
                    self.content += part
                    self.begun.set()
        except httpx.TransportError as error:
            self.broken = repr(error)
        self.begun.set()

    def wait_begun(self) -> "Asking":
        assert self.begun.wait(60)
        return self

    def result(self) -> "Asking":
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self

    @property
    def is_whole(self) -> bool:
        return (self.status, self.broken) == (200, "") and self.content.endswith(b'data: {"type": "message_stop"}\n\n')

    @property
    def last_event(self) -> dict:
        return json.loads(self.content.rpartition(b"data: ")[2])
