"""The pool is edited while requests are under way: none is lost, no session moves without cause, and no secret is shown."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import upstream as up
from conftest import CONFIG, TOKENS, by_credential, proxy_environment
from processes import MASTER_KEY, STATIC_TOKEN, Proxy, question
from test_workers import RedisServer, workers_of

from claude_proxy.config import credentials_edit
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.secret import Secret

SESSIONS = 100
CLIENTS = 100
EDITS = 50
# Of the file; those of the variable are touched by no edit.
LAST = "last"
EDITED = {label: f"sk-ant-oat01-made-up-{label * 12}" for label in [*"defghi", LAST]}


class Streams:
    """Short streams of many sessions, each asked at any of the proxies; what every session met is kept in order."""

    def __init__(self, proxies: list[Proxy], upstream: up.Upstream) -> None:
        self.upstream = upstream
        self.urls = itertools.cycle([proxy.url for proxy in proxies])
        self.problems: list[str] = []
        self.answers = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(CLIENTS)

    def ask(self, client: httpx.Client, session: int) -> None:
        headers = {"x-litellm-api-key": STATIC_TOKEN, "x-claude-code-session-id": f"session-{session}"}
        with self._lock:
            url = next(self.urls)
        try:
            answer = client.post(f"{url}/v1/messages", json=question("claude-sonnet-5", stream=True), headers=headers)
            whole = answer.status_code == 200 and "message_stop" in answer.text and "made-up" not in answer.text
            problem = "" if whole else f"{answer.status_code} {answer.text[:300]}"
        except httpx.TransportError as error:
            problem = repr(error)
        with self._lock:
            self.answers += 1
            if problem:
                self.problems.append(problem)

    def round(self) -> dict[int, str]:
        """Ask every session once; return which credential each met."""
        self.upstream.seen.clear()
        with httpx.Client(trust_env=False, timeout=60) as client:
            [*self._threads.map(lambda session: self.ask(client, session), range(SESSIONS))]
        return {session: labels[-1] for session, labels in self.met().items()}

    def met(self) -> dict[int, list[str]]:
        """The credentials that each session has met, in order."""
        labels = {token: label for label, token in (TOKENS | EDITED).items()}
        found: dict[int, list[str]] = {}
        for seen in self.upstream.asked:
            number = int((seen.header("x-claude-code-session-id") or "-1").rpartition("-")[2])
            found.setdefault(number, []).append(labels[seen.credential or ""])
        return found

    def settle(self) -> dict[int, str]:
        """Ask until every process knows where each session is."""
        before, same = self.round(), 0
        for _ in range(30):
            found = self.round()
            same = same + 1 if found == before else 0
            if same == 2:
                return found
            before = found
        raise AssertionError("the sessions do not stay where they are")

    def begin(self) -> None:
        """Ask sessions at random until the end."""

        def client(seed: int) -> None:
            chance = random.Random(seed)
            # Each on a connection of its own: a server may close an idle one at the moment at which it is used again.
            with httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
                for _ in range(400):
                    if self._stop.is_set():
                        return
                    self.ask(client, chance.randrange(SESSIONS))

        self._running = [self._threads.submit(client, seed) for seed in range(CLIENTS)]

    def asked_of_new_sessions(self) -> set[str]:
        """The credentials that sessions meet which no credential had before."""
        self.upstream.seen.clear()
        with httpx.Client(trust_env=False, timeout=60) as client:
            for session in range(SESSIONS, 2 * SESSIONS):
                self.ask(client, session)
        return {label for labels in self.met().values() for label in labels}

    def wait_for(self, more: int) -> None:
        until(lambda target=self.answers + more: self.answers >= target)

    def end(self) -> None:
        self._stop.set()
        for running in self._running:
            running.result()
        self._threads.shutdown()


def until(holds: Callable[[], bool]) -> None:
    poll = threading.Event()
    for _ in range(1200):
        if holds():
            return
        poll.wait(0.1)
    raise AssertionError("it does not happen")


def pool_of(proxy: Proxy) -> dict[str, str]:
    """The state of each credential, as one of the proxy's workers knows it."""
    headers = {"x-litellm-api-key": MASTER_KEY, "accept": "application/json"}
    data = httpx.get(f"{proxy.url}/pool", headers=headers, trust_env=False, timeout=30).json()
    assert "made-up" not in json.dumps(data)
    return {one["label"]: one["state"]["name"] for one in data["credentials"]}


class Editor:
    """Edits the file as the commands do, in an order of its own; ``wanted`` is what has to come of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fixed = [
            Credential(label, Kind.OAUTH, Secret(token), source="CLAUDE_OAUTH_TOKENS") for label, token in TOKENS.items()
        ]
        self.wanted: dict[str, str] = {}
        self.said: list[str] = []

    def add(self, label: str) -> None:
        credentials_edit.add(self.path, self.fixed, label, "secret", Secret(EDITED[label]))
        self.wanted[label] = "usable"

    def edit(self, number: int) -> None:
        """Do one of the five things, to one credential after another."""
        label = "defghi"[number % 6]
        if label not in self.wanted:
            self.add(label)
        elif self.wanted[label] == "paused":
            credentials_edit.change(self.path, self.fixed, label, {"paused": None})
            self.wanted[label] = "usable"
        elif number % 3 == 0:
            credentials_edit.change(self.path, self.fixed, label, {"paused": True})
            self.wanted[label] = "paused"
        elif number % 3 == 1:
            credentials_edit.remove(self.path, self.fixed, label)
            del self.wanted[label]
        else:
            credentials_edit.change(self.path, self.fixed, label, {"priority": number % 5, "groups": [f"g{number}"]})


def workers_that_read(proxy: Proxy, label: str) -> int:
    """How many workers have said that the credential is new."""
    return len(re.findall(rf"the pool changed: new: [^;\n]*\b{label}\b", proxy.output))


def survives_a_broken_file(proxy: Proxy, editor: Editor) -> None:
    """With a broken file a worker that ends is replaced by one that serves, and all say what is wrong."""
    mistake = "credentials.yaml line 1: credentials should be a list"
    # Both workers read the whole file before it breaks, so that only the new one has news afterwards.
    editor.add(LAST)
    until(lambda: workers_that_read(proxy, LAST) == 2)
    good = editor.path.read_text()
    editor.path.write_text("credentials: 3\n")
    until(lambda: proxy.output.count(mistake) == 2)
    before = workers_of(proxy)
    os.kill(before[0], signal.SIGKILL)
    # A new worker learns of the broken file when it starts, and of the mended one by itself.
    until(lambda: proxy.output.count(mistake) == 3)
    assert proxy.ask(question("claude-sonnet-5")).status_code == 200
    editor.path.write_text(good)
    until(lambda: workers_that_read(proxy, LAST) == 3)
    assert len({*workers_of(proxy)} - {*before}) == 1
    assert [proxy.ask(question("claude-sonnet-5")).status_code for _ in range(20)] == [200] * 20


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer()
    yield server
    server.kill()


@pytest.mark.parametrize("shared", ["workers", "replicas"])
def test_fifty_edits_under_load(shared, request, upstream, tmp_path):
    """While a hundred sessions ask, fifty edits lose no request, move no session of an untouched credential, and all apply."""
    editor = Editor(tmp_path / "credentials.yaml")
    for label in "de":
        editor.add(label)
    environment = proxy_environment(upstream) | {"CLAUDE_CREDENTIALS_FILE": str(editor.path)}
    count = 1
    if shared == "workers":
        environment["NUM_WORKERS"] = "2"
    else:
        count, redis = 2, request.getfixturevalue("redis")
        environment["REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
    upstream.answer = by_credential()
    config = CONFIG.format(url=upstream.other_url)
    proxies = [Proxy(tmp_path / f"proxy-{number}", config, **environment) for number in range(count)]
    try:
        for proxy in proxies:
            proxy.wait_ready()
        streams = Streams(proxies, upstream)
        before = streams.settle()
        assert {*before.values()} == {*TOKENS, "d", "e"}
        upstream.seen.clear()
        streams.begin()
        for number in range(EDITS):
            editor.edit(number)
            streams.wait_for(8)
        editor.add("h")
        wanted = dict.fromkeys(TOKENS, "usable") | editor.wanted
        for proxy in proxies:
            until(lambda proxy=proxy: all(pool_of(proxy) == wanted for _ in range(4)))
        streams.end()
        moved = {
            session: labels
            for session, labels in streams.met().items()
            if before[session] in TOKENS and {*labels} != {before[session]}
        }
        assert moved == {}
        # Each other one that can be used belongs to a group by now.
        assert streams.asked_of_new_sessions() == {*TOKENS, "h"}
        assert streams.problems == []
        for proxy in proxies:
            assert "the pool changed: " in proxy.output
            assert "the pool stays unchanged" not in proxy.output
            assert not [token for token in (TOKENS | EDITED).values() if token in proxy.output]
        if shared == "workers":
            survives_a_broken_file(proxies[0], editor)
    finally:
        for proxy in proxies:
            proxy.stop()
