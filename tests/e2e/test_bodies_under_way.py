"""Many and large bodies at the same time, through the real proxy: one user's memory is bounded, and others are served."""

import re
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import upstream as up
from conftest import by_provider, module_proxy
from processes import STATIC_TOKEN, Proxy, answer_text, question

from claude_proxy.server.bodies import MAX_RATIO, memory_for_bodies

ANNA, BEN = "sk-made-up-token-of-anna-0123456789", "sk-made-up-token-of-ben-0123456789"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    started = module_proxy(shared_upstream, tmp_path_factory.mktemp("bodies"), PROXY_USER_TOKENS=f"anna={ANNA},ben={BEN}")
    running = next(started)
    # Whatever happens, this machine stays usable.
    resource.prlimit(running.process.pid, resource.RLIMIT_AS, (6 << 30, 6 << 30))
    running.ask(question("glm"))
    yield running
    next(started, None)


def memory(proxy: Proxy) -> int:
    """Bytes of memory that the proxy's process holds."""
    status = Path(f"/proc/{proxy.process.pid}/status").read_text(encoding="utf-8")
    return 1024 * int(re.findall(r"VmRSS:\s*(\d+)", status)[0])


def test_bodies_that_trickle(proxy):
    """Bodies that never end take half of the budget at the most; beyond it they are refused, and another user is served."""
    share = memory_for_bodies(1) // 2
    size = 38 * MEGABYTE
    count = share // size + 6
    before = memory(proxy)
    head = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-litellm-api-key: %s\r\ncontent-length: %d\r\n\r\n"
    connections = [socket.create_connection(("127.0.0.1", proxy.port), timeout=60) for _ in range(count)]
    refused = 0
    try:
        for connection in connections:
            try:
                connection.sendall(head % (ANNA.encode(), size + MEGABYTE) + b'{"model":"glm","z":"')
                for _ in range(size // MEGABYTE):
                    connection.sendall(b"x" * MEGABYTE)
            except OSError:  # refused and closed while it was being sent
                refused += 1
                connection.close()
        assert (
            refused + sum(is_refused(connection) for connection in connections if connection.fileno() >= 0)
            >= count - share // size
        )
        assert answer_text(proxy.ask(question("glm"), token=BEN)) == "from glm"
        assert memory(proxy) - before < 1.5 * share
    finally:
        for connection in connections:
            connection.close()
    served = [proxy.ask(question("glm"), token=ANNA).status_code for _ in range(50)]
    assert served[-1] == 200, "the memory of bodies whose clients are gone is free again"


def is_refused(connection: socket.socket) -> bool:
    """Whether the proxy has answered 429 already, or closed the connection."""
    connection.settimeout(0)
    try:
        answer = connection.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True
    assert answer.startswith(b"HTTP/1.1 429")
    assert b"retry-after: 5" in answer
    return True


@pytest.mark.parametrize("model", ["glm", "gpt", "claude-sonnet-5"])
def test_bodies_of_many_parts(proxy, upstream, model):
    """Eight bodies of nine megabytes, held by a slow provider, take eight times their size at the most, whatever is in them."""
    waiting = threading.Event()

    def hang(seen):
        waiting.wait(60)
        reply = up.openai_reply if model == "gpt" else up.anthropic_reply
        return reply(seen, up.text("late"))

    upstream.answer = by_provider(glm=hang, gpt=hang, claude=hang)
    before, largest = memory(proxy), 0
    texts = b'{"type":"text","text":"%s"},' % (b"x" * 900)
    try:
        with ThreadPoolExecutor(8) as pool:
            for part in (b'{"a":[]},', b"[],", b"1,", texts):
                body = b'{"model":"%s","max_tokens":9,"messages":[{"role":"user","content":"x"}],"z":[%s1]}' % (
                    model.encode(),
                    part * (9 * MEGABYTE // len(part)),
                )
                answers = [pool.submit(send, proxy, body) for _ in range(8)]
                if part is not texts:
                    assert {answer.result() for answer in answers} == {413}
                largest = max(largest, memory(proxy) - before)
            waiting.set()
            assert {answer.result() for answer in answers} <= {200, 429, 502}
    finally:
        waiting.set()
    assert largest < MAX_RATIO * 8 * 9 * MEGABYTE


def send(proxy: Proxy, body: bytes) -> int:
    with httpx.Client(trust_env=False, timeout=120) as client:
        return client.post(f"{proxy.url}/v1/messages", content=body, headers={"x-litellm-api-key": STATIC_TOKEN}).status_code
