"""Every fault of ``faults.py`` against the real proxy, and clients that leave: what is seen, and that nothing is left behind.

The faults are tried many at a time on one proxy, before the first test looks at what came of them.
"""

import contextlib
import itertools
import json
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from fault_upstream import ELSEWHERE, Case, FaultUpstream, Script, Turn
from faults import ERROR_TYPES, FAULTS, REDIRECTS, STATUSES, is_only_for_streams, once, served, status
from processes import MASTER_KEY, STATIC_TOKEN, Proxy, question
from stream_validator import read_message, read_sse, read_whole

AT_ONCE = 12
# A task that LiteLLM starts once, some time after the first response that it records.
OF_LITELLM = "LoggingWorker._worker_loop"
# Of the deployments whose upstream falls silent; every other one has the time that a busy machine needs.
SHORT_SECONDS = 2
# What any one step may take, in seconds: more than a proxy's longest time-out.
BOUND = 60.0
# All tries are under way at the same time, and wait for their turn.
BOUND_OF_ALL = 10 * BOUND
TOKENS = {f"t{number:02}": f"sk-ant-oat01-made-up-faults-{number:02}" for number in range(24)}
LABELS = {token: label for label, token in TOKENS.items()}
KEYS = {"KIMI_API_KEY": "made-up-kimi-key-0123", "OPENAI_API_KEY": "made-up-openai-key-0123"}
SECRETS = (*TOKENS.values(), *KEYS.values(), STATIC_TOKEN, MASTER_KEY)
MODELS = {"claude": "claude-sonnet-5", "kimi": "kimi", "gpt": "gpt"}
SHORT = {"claude": "claude-short", "kimi": "kimi-short", "gpt": "gpt-short"}

CONFIG = """
model_list:
  - model_name: claude-short
    litellm_params: {{model: anthropic/claude-short, timeout: {seconds}}}
  - model_name: claude-*
    litellm_params: {{model: anthropic/claude-*, timeout: 50}}
  - model_name: kimi
    litellm_params: {{model: anthropic/kimi-k2, api_base: "{url}/kimi", api_key: os.environ/KIMI_API_KEY, timeout: 50}}
  - model_name: kimi-short
    litellm_params: {{model: anthropic/kimi-k2, api_base: "{url}/kimi", api_key: os.environ/KIMI_API_KEY, timeout: {seconds}}}
  - model_name: gpt
    litellm_params: {{model: openai/gpt-x, api_base: "{url}/v1", api_key: os.environ/OPENAI_API_KEY, timeout: 50}}
  - model_name: gpt-short
    litellm_params: {{model: openai/gpt-x, api_base: "{url}/v1", api_key: os.environ/OPENAI_API_KEY, timeout: {seconds}}}
router_settings:
  num_retries: 0
  fallbacks:
    - claude-helped: [kimi]
  disable_cooldowns: true
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
  drop_params: true
general_settings:
  custom_auth: custom_auth.user_api_key_auth
  master_key: os.environ/LITELLM_MASTER_KEY
"""
# The proxy, which on a signal tells what it is at.
WATCH = """
import asyncio, json, os, runpy, signal, socket, sys

def tell(*_):
    names = sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks(asyncio.get_running_loop()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(json.dumps(names).encode(), ("127.0.0.1", int(os.environ["WATCH_PORT"])))

signal.signal(signal.SIGUSR1, tell)
sys.path[0] = os.getcwd()
runpy.run_module("claude_proxy", run_name="__main__", alter_sys=True)
"""


class WatchedProxy(Proxy):
    def __init__(self, home: Path, config: str, **variables: str) -> None:
        home.mkdir(exist_ok=True)
        self.program = home / "watch.py"
        self.program.write_text(WATCH)
        super().__init__(home, config, **variables)


class Try(NamedTuple):
    """One request: which kind of provider, whether it streams, and the fault's name."""

    kind: str
    stream: bool
    fault: str

    def __str__(self) -> str:
        return f"{self.kind}-{'stream' if self.stream else 'whole'}-{self.fault}"


@dataclass
class Came:
    """What a client got for its request."""

    status: int
    headers: dict[str, str]
    body: bytes
    # Whether the answer came to its end.
    whole: bool
    case: Case

    @property
    def turn(self) -> Turn:
        return self.case.turns[-1]

    @property
    def said(self) -> bytes:
        return bytes(self.turn.said)

    @property
    def events(self) -> list[dict[str, object]]:
        lines = self.body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode("utf-8", "replace").split("\n")
        return [event for line in lines if line.startswith("data:") and (event := _object(line[5:]))]

    @property
    def text(self) -> str:
        if self.turn.streams:
            return "".join(event["delta"].get("text", "") for event in self.events if "text" in event.get("delta", {}))
        return "".join(block.get("text", "") for block in json.loads(self.body)["content"])


def _object(text: str) -> dict[str, object] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


@dataclass
class Watched:
    """The proxy, and what it holds: tasks, file descriptors."""

    proxy: Proxy
    ear: socket.socket

    def tasks(self) -> Counter[str]:
        self.proxy.process.send_signal(signal.SIGUSR1)
        return Counter(name for name in json.loads(self.ear.recv(1 << 20)) if name != OF_LITELLM)

    def descriptors(self) -> Counter[str]:
        """What is open, by name; a connection's name is its peer's port and its state, as the kernel numbers it."""
        process = Path(f"/proc/{self.proxy.process.pid}")
        rows = [line.split() for line in (process / "net" / "tcp").read_text().splitlines()[1:]]
        peers = {f"socket:[{row[9]}]": f"peer {int(row[2].rpartition(':')[2], 16)} state {row[3]}" for row in rows}
        found: Counter[str] = Counter()
        for link in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed while it was looked at
                name = str(link.readlink())
                found[peers.get(name, name.partition(":")[0])] += 1
        return found

    def beside(self, upstream: FaultUpstream) -> Counter[str]:
        """What is open beside the connections to the upstream."""
        idle = {f"peer {port} state 01" for port in upstream.ports}
        return Counter({name: count for name, count in self.descriptors().items() if name not in idle})

    def states(self) -> dict[str, str]:
        answer = httpx.get(f"{self.proxy.url}/pool", headers={"x-litellm-api-key": MASTER_KEY, "accept": "application/json"})
        return {one["label"]: one["state"]["name"] for one in answer.json()["credentials"]}


@pytest.fixture(scope="module")
def faulty() -> Iterator[FaultUpstream]:
    upstream = FaultUpstream()
    yield upstream
    upstream.close()
    assert upstream.failures == []


def started(faulty: FaultUpstream, home: Path, **variables: str) -> Iterator[Watched]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.settimeout(BOUND)
        environment = {
            "ANTHROPIC_API_BASE": faulty.url,
            "CLAUDE_OAUTH_TOKENS": ",".join(f"{label}={token}" for label, token in TOKENS.items()),
            "WATCH_PORT": str(ear.getsockname()[1]),
            **KEYS,
            **variables,
        }
        config = CONFIG.format(url=faulty.other_url, seconds=SHORT_SECONDS)
        proxy = WatchedProxy(home, config, **environment)
        yield Watched(proxy, ear)
        proxy.stop()
        assert "Traceback" not in proxy.output
        assert not any(secret in proxy.output for secret in SECRETS)


@pytest.fixture(scope="module")
def patient(faulty, tmp_path_factory) -> Iterator[Watched]:
    """A proxy of one credential, which waits for it; not ready yet."""
    variables = {"CLAUDE_OAUTH_TOKENS": f"t00={TOKENS['t00']}", "CLAUDE_POOL_MAX_WAIT_SECONDS": "240"}
    yield from started(faulty, tmp_path_factory.mktemp("patient"), **variables)


@pytest.fixture(scope="module")
def before() -> dict[str, int | Counter[str]]:
    """What the proxy held before the first fault."""
    return {}


@pytest.fixture(scope="module")
def watched(faulty, before, patient, tmp_path_factory) -> Iterator[Watched]:
    """The proxy of all other tests; both start at the same time."""
    for watched in started(faulty, tmp_path_factory.mktemp("faults")):
        watched.proxy.wait_ready()
        patient.proxy.wait_ready()
        warm(watched.proxy, faulty)
        before |= {"tasks": watched.tasks(), "descriptors": watched.beside(faulty)}
        yield watched


def warm(proxy: Proxy, faulty: FaultUpstream) -> None:
    """Send a good request of each kind, streaming and not."""
    for model, stream in itertools.product(MODELS.values(), (False, True)):
        came = ask(proxy, faulty.case(served), model, stream=stream)
        assert (came.status, came.whole) == (200, True)


def ask(proxy: Proxy, case: Case, model: str, *, stream: bool) -> Came:
    """Send a request; what breaks off is kept as far as it came."""
    body, whole = bytearray(), True
    sent = {"json": question(model, case.words, stream=stream), "headers": {"x-litellm-api-key": STATIC_TOKEN}}
    with (
        httpx.Client(trust_env=False, timeout=BOUND) as client,
        client.stream("POST", f"{proxy.url}/v1/messages", **sent) as answer,
    ):
        try:
            for part in answer.iter_raw():
                body += part
        except httpx.RemoteProtocolError:
            whole = False
    return Came(answer.status_code, dict(answer.headers), bytes(body), whole, case)


# --- What the client is to see -----------------------------------------------------------------------------------------------

Check = Callable[[Came], None]


def good(came: Came) -> None:
    """The answer, all of it."""
    assert (came.status, came.whole) == (200, True), came
    if came.turn.line.is_claude:
        as_said(came)
    assert_valid(came)
    assert came.text.endswith("with an é in it"), came.body[-500:]
    if came.turn.streams:
        assert [event["type"] for event in came.events].count("message_stop") == 1


def assert_valid(came: Came) -> None:
    """What the proxy writes itself is as Anthropic documents it; what it relays is its upstream's."""
    if came.turn.is_openai and came.turn.streams:
        read_message(came.body, read_sse)
    elif came.turn.is_openai:
        read_whole(json.loads(came.body))


def as_said(came: Came) -> None:
    """Status and body as the upstream sent them, to the byte."""
    assert (came.status, came.whole) == (came.turn.status, True), came
    assert came.body == came.said
    assert came.headers.get("request-id") == "req_made_up"


def cut(came: Came) -> None:
    """What the upstream sent until it broke off, and no end."""
    assert (came.status, came.whole) == (200, False), came
    if came.turn.line.is_claude:
        assert came.said.startswith(came.body)
    if came.turn.streams and b"\n\n" in came.said:
        assert came.events[0]["type"] == "message_start"


def cut_early(came: Came) -> None:
    """The same, without what came in one piece with the fault."""
    assert (came.status, came.whole) == (200, False), came
    if came.turn.line.is_claude:
        assert came.said.startswith(came.body)


def error(*statuses: int) -> Check:
    """An error in Anthropic's shape, in words for people, and short."""

    def check(came: Came) -> None:
        assert came.status in statuses, (came.status, came.body[:300])
        assert came.whole
        told = json.loads(came.body)
        assert told["type"] == "error"
        assert told["error"]["type"]
        assert told["error"]["message"]
        assert_presentable(came)

    return check


def error_at_the_end(came: Came) -> None:
    """A stream that had begun and ends with an error in Anthropic's shape."""
    assert (came.status, came.whole) == (200, True), came
    kinds = [event["type"] for event in came.events]
    assert kinds[-1] == "error", came.body[-500:]
    assert "message_stop" not in kinds
    assert_valid(came)
    assert_presentable(came)


def either(*checks: Check) -> Check:
    """One of them, as soon as the stream has begun or not."""

    def check(came: Came) -> None:
        (checks[0] if came.status != 200 else checks[1])(came)

    return check


def good_or_error_at_the_end(came: Came) -> None:
    """All of an answer that misses only HTTP's own end: an error follows where that is seen before the answer's end."""
    (good if came.events[-1]["type"] == "message_stop" else error_at_the_end)(came)


def ended_somehow(came: Came) -> None:
    """An end, be it an error's or a message's: whether what is beyond the length is seen depends on when it arrives."""
    assert (came.status, came.whole) == (200, True), came
    assert came.events[-1]["type"] in ("error", "message_stop")
    assert_presentable(came)


def passed_without_end(came: Came) -> None:
    """What there is of a stream that its upstream ends before the message's end, which the client notices by that."""
    assert (came.status, came.whole) == (200, True), came
    assert came.events[0]["type"] == "message_start"
    assert "message_stop" not in [event["type"] for event in came.events]


def assert_presentable(came: Came) -> None:
    text = came.body.decode()
    assert len(text) < 20_000
    assert "Traceback" not in text
    assert 'File "' not in text
    assert ELSEWHERE not in text


HARMLESS = {
    "served", "early-hints", "late-headers", "slow-headers", "long-header", "many-headers", "until-close", "byte-by-byte",
    "split-character", "one-chunk", "crlf", "cr", "no-space-after-data", "comments", "unknown-event", "ping-without-data",
    "fields-of-sse", "after-the-end", "huge-event", "no-content-type", "wrong-content-type", "odd-content-type",
    "gzip", "gzip-in-pieces", "deflate", "identity",
}  # fmt: skip
NO_ANSWER = {
    "closed-before-headers", "half-closed-before-headers", "reset-before-headers", "closed-in-headers", "reset-in-headers",
    "garbage", "smtp", "status-of-letters", "status-1000", "header-without-colon", "two-lengths", "length-of-letters",
    "header-too-long", "switching-protocols", *map(str, REDIRECTS),
}  # fmt: skip
SILENT = {"no-headers", "half-the-headers", "no-body", "stalled-at-once", "stalled", "stalled-between-events"}
BROKEN_AT_ONCE = {"closed-after-headers", "reset-after-headers"}
BROKEN = {
    "closed-in-an-event", "reset-in-an-event", "reset-between-events", "half-closed-in-an-event", "truncated-chunk",
    "bad-chunk-size", "bad-chunk-size-later", "no-last-chunk", "length-too-long",
}  # fmt: skip
NO_MESSAGE = {
    "no-sse", "empty", "null", "list", "other-object", "deep-json", "html", "json-instead-of-a-stream", "no-blank-lines",
    "204", "205",
}  # fmt: skip
ODD_CODINGS = {"br-lying", "unknown-coding"}
LYING = {"gzip-lying", "deflate-lying"}
# Malformed in the bytes that may come with the head: aiohttp then has no response at all.
MALFORMED = {"bad-chunk-size", "bad-chunk-size-later", "length-too-short"}
# The connection ends before a byte. A kept one is taken for stale, and the request asked once more on a new one.
TAKEN_FOR_STALE = {"closed-before-headers", "half-closed-before-headers", "reset-before-headers"}
# Of these every credential would get the same or another one serves: a case of the pool's.
ANOTHER_SERVES = {"401", "402", "403", "429", "429-with-a-time", "first-rate_limit_error"}
STATUS_OF = dict(zip(ERROR_TYPES, (400, 401, 402, 403, 404, 413, 429, 500, 504, 529, 500), strict=True))


def another_serves(stream: bool, fault: str) -> bool:  # noqa: FBT001
    """Whether another credential answers: only a stream has a first event."""
    return fault in ANOTHER_SERVES and (stream or not fault.startswith("first"))


def claude_sees(stream: bool, fault: str) -> Check:  # noqa: FBT001
    """Claude's answers are the client's as they came; what cannot be an answer is an error of the proxy's own."""
    if fault in HARMLESS or another_serves(stream, fault):
        return good
    if fault == "page-403":  # the network in front of Anthropic refuses the proxy's address
        return error(503)
    if fault in NO_ANSWER | ODD_CODINGS | LYING | {"error-lying-gzip"}:
        return error(502)
    if fault in {"no-headers", "half-the-headers"}:
        return error(504)
    if fault in MALFORMED:
        return either(error(502), as_said if fault == "length-too-short" else cut_early)
    return cut if fault in SILENT | BROKEN_AT_ONCE | BROKEN else as_said


def kimi_sees(stream: bool, fault: str) -> Check:  # noqa: FBT001, PLR0911 - a table with a row for each return
    """Of a provider in Anthropic's format a stream passes as it came, and every failure before it is an error."""
    if fault in HARMLESS or (stream and fault in {"invalid-utf-8", "invalid-json", "no-object"}):
        return good
    if fault in {"no-headers", "half-the-headers"} or (fault in SILENT and not stream):
        return error(504)
    if fault in NO_ANSWER | BROKEN_AT_ONCE | ODD_CODINGS | LYING | NO_MESSAGE | {"no-body", "stalled-at-once"}:
        return error(500, 502)
    if stream and fault in MALFORMED:
        return either(error(502), passed_without_end if fault == "length-too-short" else cut_early)
    if fault in SILENT | BROKEN:
        return cut if stream else error(502)
    if fault in {"length-too-short", "gzip-truncated", "no-end", "invalid-utf-8"}:
        return passed_without_end if stream else error(502)
    if fault == "two-starts":
        return good
    if fault.startswith("later-"):
        return error_at_the_end
    return error(*_statuses_of(fault, {422: 400}))


def gpt_sees(stream: bool, fault: str) -> Check:  # noqa: FBT001, PLR0911 - a table with a row for each return
    """What is translated is an error before the stream, or the stream's last event."""
    if fault in HARMLESS | {"two-starts", "no-end"} or (stream and fault in {"no-object", "length-too-long"}):
        return good
    if fault in {"no-headers", "half-the-headers"} or (fault in SILENT and not stream):
        return error(504)
    if fault in NO_ANSWER | ODD_CODINGS:
        return error(500, 502)
    if fault == "gzip-truncated" and stream:
        return good  # what is lost of it says nothing
    if stream and (fault in STATUSES or fault in {"error-in-gzip", "error-lying-gzip", "huge-error", "429-with-a-time"}):
        return error(*_statuses_of(fault, {422: 400}))
    if fault.startswith("later-"):
        return error_at_the_end
    if fault in STATUSES or fault.startswith("page-") or "error" in fault.split("-"):
        return error(*_statuses_of(fault, {422: 400}))
    begun = {"no-last-chunk": good_or_error_at_the_end, "length-too-short": ended_somehow}.get(fault, error_at_the_end)
    return either(error(400, 429, 500, 502), begun) if stream else error(429, 500, 502)


def _statuses_of(fault: str, others: dict[int, int]) -> tuple[int, ...]:
    """The status that a fault has, as LiteLLM passes it on."""
    if fault.startswith("first-"):
        told = STATUS_OF[fault.removeprefix("first-")]
    elif fault in {"error-in-gzip", "error-lying-gzip", "huge-error"}:
        told = 400
    else:
        told = int(fault.removeprefix("page-").removesuffix("-with-a-time"))
    return (others.get(told, told),)


SEES = {"claude": claude_sees, "kimi": kimi_sees, "gpt": gpt_sees}
TABLE = {**FAULTS, **STATUSES}
TRIES = [
    Try(kind, stream, fault)
    for fault in TABLE
    for kind in MODELS
    for stream in (False, True)
    if stream or not is_only_for_streams(fault)
    # A status that LiteLLM passes on is the same whether a stream was asked for or not; every second one shows it.
    if kind == "claude" or fault not in STATUSES or stream is bool(int(fault) % 2)
]


def script_of(tried: Try) -> Script:
    script = TABLE[tried.fault]
    return once(script) if tried.kind == "claude" and tried.fault in ANOTHER_SERVES else script


@pytest.fixture(scope="module")
def tried(watched, faulty, request) -> Iterator[dict[Try, Future[Came]]]:
    """All tries that this run looks at, under way."""

    def one(tried: Try) -> Came:
        model = (SHORT if tried.fault in SILENT else MODELS)[tried.kind]
        return ask(watched.proxy, faulty.case(script_of(tried)), model, stream=tried.stream)

    ours = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    wanted = [item.callspec.params["each"] for item in ours if "each" in getattr(item, "fixturenames", ())]
    # Those that wait for a time-out wait beside all others.
    wanted.sort(key=lambda each: each.fault not in SILENT)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {each: pool.submit(one, each) for each in wanted}


@pytest.mark.parametrize("each", TRIES, ids=str)
def test_a_fault(tried, each):
    """The client sees what the upstream's answer was worth, in time; a credential is left for its own faults only."""
    came = tried[each].result(BOUND_OF_ALL)
    SEES[each.kind](each.stream, each.fault)(came)
    turns = came.case.turns
    again = each.fault in TAKEN_FOR_STALE
    expected = 2 if each.kind == "claude" and another_serves(each.stream, each.fault) else 1
    assert expected <= len(turns) <= expected + again
    if each.fault in SILENT:
        assert came.case.left.wait(BOUND), "the upstream's connection is closed"
    assert not any(secret.encode() in came.body for secret in SECRETS)
    assert "location" not in came.headers


# --- What is refused at the door ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_upstream_that_is_not_there(watched, faulty, tried, kind, stream):
    """A connection that is refused, and one that is reset before a word, is an error; afterwards all is as before."""
    case = faulty.case(served)
    for broken in (faulty.refusing, faulty.slamming):
        with broken():
            error(500, 502)(ask(watched.proxy, case, MODELS[kind], stream=stream))
        assert case.turns == []
    good(ask(watched.proxy, case, MODELS[kind], stream=stream))


@pytest.mark.parametrize("fault", ["reset-before-headers", "closed-in-headers", "closed-after-headers", "gzip-lying", "302"])
def test_a_broken_connection_is_no_end_of_the_fallbacks(watched, faulty, tried, fault):
    """Where nothing of Claude's answer has left, another model may answer.

    A reset of a connection that was kept is no answer: the request is sent once more on a new one.
    """

    async def script(turn: Turn) -> None:
        await (FAULTS[fault] if turn.line.is_claude else served)(turn)

    for stream in (False, True):
        came = ask(watched.proxy, faulty.case(script), "claude-helped", stream=stream)
        asked = [turn.line.is_claude for turn in came.case.turns]
        assert asked in ([True, False], *([[True, True, False]] if fault == "reset-before-headers" else []))
        good(came)


# --- Clients that leave ------------------------------------------------------------------------------------------------------


class Leaver:
    """A client that sends what it is told to, and hangs up."""

    def __init__(self, proxy: Proxy, case: Case, model: str, *, stream: bool) -> None:
        body = json.dumps(question(model, case.words, stream=stream)).encode()
        head = (
            f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-litellm-api-key: {STATIC_TOKEN}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), BOUND)

    def read_until(self, words: bytes) -> None:
        found = b""
        while words not in found:
            part = self.socket.recv(65536)
            assert part, found
            found += part

    def leave(self) -> None:
        self.socket.close()


async def before_headers(turn: Turn) -> None:
    await turn.case.abandoned(turn)


async def before_the_first_event(turn: Turn) -> None:
    await turn.chunked()
    await turn.case.abandoned(turn)


async def in_the_middle(turn: Turn) -> None:
    await turn.chunked()
    parts = turn.parts
    for part in parts[: len(parts) // 2 + 1] if turn.streams else [parts[0][:50]]:
        await turn.chunk(part)
    await turn.case.abandoned(turn)


def until(condition: Callable[[], bool]) -> bool:
    """Look again and again, for as long as it may take."""
    pause = threading.Event()
    return any(condition() or pause.wait(0.05) for _ in range(int(BOUND / 0.05)))


def left_lines(proxy: Proxy, model: str) -> int:
    lines = proxy.output.splitlines()
    return sum("claude_proxy.requests" in line and f"model={model} " in line and "status=499" in line for line in lines)


PHASES = {"before headers": before_headers, "before the first event": before_the_first_event, "in the middle": in_the_middle}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_client_that_leaves(watched, faulty, tried, kind, stream, phase):
    """Whenever the client leaves the request to the upstream ends, and the log says who left."""
    case, model = faulty.case(PHASES[phase]), MODELS[kind]
    told = left_lines(watched.proxy, model)
    client = Leaver(watched.proxy, case, model, stream=stream)
    client.socket.sendall(client.request)
    assert case.arrived.wait(BOUND)
    if stream and phase == "in the middle":
        client.read_until(b"message_start")
    client.leave()
    assert case.left.wait(BOUND)
    assert until(lambda: left_lines(watched.proxy, model) == told + 1)
    assert len(case.turns) == 1


@pytest.mark.parametrize("kind", MODELS)
def test_a_client_that_leaves_while_it_sends(watched, faulty, tried, kind):
    """Half a request asks nobody."""
    case = faulty.case(served)
    client = Leaver(watched.proxy, case, MODELS[kind], stream=False)
    client.socket.sendall(client.request[:-10])
    client.leave()
    assert ask(watched.proxy, faulty.case(served), MODELS[kind], stream=False).status == 200
    assert case.turns == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_leaves_during_a_failover(watched, faulty, tried, limited, stream):
    """Between two credentials, too: the second request ends, and no third is sent."""

    async def script(turn: Turn) -> None:
        if turn.number == 0:
            limited.add(LABELS[turn.seen.credential])
            await status(429, "retry-after: 3600")(turn)
        else:
            await turn.case.abandoned(turn)

    case, model = faulty.case(script), MODELS["claude"]
    told = left_lines(watched.proxy, model)
    client = Leaver(watched.proxy, case, model, stream=stream)
    client.socket.sendall(client.request)
    assert case.arrived.wait(BOUND)
    client.leave()
    assert case.left.wait(BOUND)
    assert until(lambda: left_lines(watched.proxy, model) == told + 1)
    assert len({turn.seen.credential for turn in case.turns}) == len(case.turns) == 2


@pytest.fixture(scope="module")
def limited() -> set[str]:
    """The labels of the credentials that rest by a test of its own."""
    return set()


def test_a_client_that_leaves_while_it_waits(watched, patient, faulty):
    """A request that waits for a credential ends with its client, and asks nobody when the rest is over."""
    case = faulty.case(status(429, "retry-after: 200"))
    model = MODELS["claude"]
    good(ask(patient.proxy, faulty.case(served), model, stream=False))
    # LiteLLM goes on with a request that it records when the client has its response.
    assert until(lambda: not any(name.endswith("run_asgi") for name in patient.tasks()))
    ready = patient.tasks()
    for stream in (False, True):
        told = left_lines(patient.proxy, model)
        client = Leaver(patient.proxy, case, model, stream=stream)
        client.socket.sendall(client.request)
        # The second one finds the credential resting.
        assert until(lambda: "too many requests" in patient.proxy.output and bool(patient.tasks() - ready))
        client.leave()
        assert until(lambda told=told: left_lines(patient.proxy, model) == told + 1)
    assert len(case.turns) == 1
    assert until(lambda: not patient.tasks() - ready), patient.tasks() - ready


# --- What is left ------------------------------------------------------------------------------------------------------------


def test_nothing_is_left(watched, faulty, tried, before, limited, capsys):
    """After all of it: no request, connection, descriptor or task of the proxy's, and every credential as it deserves."""
    lost = [each for each, future in tried.items() if future.exception(BOUND_OF_ALL)]
    came = {each: future.result() for each, future in tried.items() if each not in lost}
    warm(watched.proxy, faulty)  # a client closes what has broken when it asks for the next connection
    assert until(lambda: not faulty.serving)
    assert until(lambda: not watched.beside(faulty) - before["descriptors"]), watched.beside(faulty) - before["descriptors"]
    assert until(lambda: not watched.tasks() - before["tasks"]), watched.tasks() - before["tasks"]
    assert len(faulty.lines) <= 2 * 100, "idle connections within the clients' limits"
    states, expected = watched.states(), dict.fromkeys(TOKENS, "usable")
    for each, one in came.items():
        label = LABELS.get(one.case.turns[0].seen.credential or "")
        if label and each.fault in {"402", "429-with-a-time"}:
            expected[label] = "rejected" if each.fault == "402" else "rate-limited"
        elif label and each.fault == "401" and label not in limited:  # it is out for seconds
            assert states[label] in ("usable", "rejected")
            expected[label] = states[label]
    expected |= dict.fromkeys(limited, "rate-limited")
    assert states == expected
    asked = sum(len(case.turns) for case in faulty.cases.values())
    with capsys.disabled():
        print(f"\nfaults: {len(TABLE)}, tried: {len(tried)}, lost: {len(lost)}; requests upstream: {asked}")
    assert lost == []
    assert not [seen.path for seen in faulty.unknown if seen.path == ELSEWHERE], "no redirection was followed"
