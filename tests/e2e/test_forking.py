"""A forked proxy is the same as one of an interpreter of its own."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CONFIG
from forking import AT_IMPORT, EMPTY, READ_LATER, TEMPLATE, Forked, may_fork, template
from processes import ROOT, Proxy
from test_status_through_the_proxy import until
from test_workers import workers_of

# Writes down what a process finds around itself when LiteLLM loads it.
SPY = """
import gc, json, locale, logging, os, resource, signal, sys, threading, warnings
from pathlib import Path
from litellm.integrations.custom_logger import CustomLogger

found = {
    "arguments": sys.argv,
    "main": getattr(sys.modules["__main__"], "__file__", None),
    # LiteLLM adds a folder when it is imported, and ``serve`` the project's: which comes first does not matter.
    "path": sorted(sys.path),
    "folder": os.getcwd(),
    "environment": {name: value for name, value in os.environ.items() if "PORT" not in name},
    "session": os.getsid(0) == os.getpgid(0) == os.getpid(),
    "files": sorted(os.readlink(f"/proc/self/fd/{number}").split(":")[0] for number in (0, 1, 2)),
    "mask": os.umask(0o77) or os.umask(0),
    "signals": {number: str(signal.getsignal(number)).split(" at ")[0] for number in signal.valid_signals()},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "limits": [resource.getrlimit(number) for number in range(8)],
    "warnings": repr(warnings.filters),
    "encodings": [sys.stdout.encoding, sys.stderr.encoding, sys.getfilesystemencoding(), locale.getlocale()],
    "buffered": [sys.stdout.line_buffering, sys.stderr.line_buffering],
    "threads": sorted(thread.name for thread in threading.enumerate()),
    "loggers": {name: logging.getLogger(name).getEffectiveLevel() for name in ("", "LiteLLM", "LiteLLM Proxy", "uvicorn")},
    "garbage": [gc.isenabled(), gc.get_threshold()],
    "modules": sorted(sys.modules),
}
(Path(__file__).parent / f"found-{os.getpid()}.json").write_text(json.dumps(found, default=str))
instance = CustomLogger()
"""


# As a session of tests does: it starts a process that forks, has it fork one more, and waits until it is killed itself.
SESSION = """
import os, signal, socket
import template

ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if os.fork() == 0:
    ours.close()
    template.next_job(theirs, template.as_a_proxy)
    signal.pause()
theirs.close()
with open(os.devnull, "wb") as log:
    socket.send_fds(ours, [b"{}"], [log.fileno()])
print(int(ours.recv(32)), flush=True)
signal.pause()
"""


def without_inherited(found):
    """Leave out the signals that the tests' own start ignores: each kind of process passes that on in its own way."""
    inherited = [
        number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT) if signal.getsignal(number) == signal.SIG_IGN
    ]
    return found | {"signals": {number: what for number, what in found["signals"].items() if int(number) not in inherited}}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_forked_proxy_finds_what_one_of_its_own_start_finds(start_proxy, tmp_path, upstream, monkeypatch, workers):
    """The environment, arguments, signals, files, limits and modules of a forked process are those of a new interpreter."""
    home = tmp_path / "proxy"
    home.mkdir()
    (home / "spy.py").write_text(SPY)
    config = CONFIG.replace("callbacks: [", "callbacks: [spy.instance, ").format(url=upstream.other_url)
    found = []
    for fresh in (False, True):
        monkeypatch.setattr(Proxy, "fresh", fresh)
        proxy = start_proxy(config=config, NUM_WORKERS=str(workers))
        assert isinstance(proxy.process, Forked) is not fresh
        serving = {proxy.process.pid} if workers == 1 else {*workers_of(proxy)}
        by_a_template = [number for number in serving if b"template.py" in Path(f"/proc/{number}/cmdline").read_bytes()]
        assert len(by_a_template) == (0 if fresh else workers)
        until(lambda: len([*home.glob("found-*.json")]) == workers)
        assert proxy.stop() == (-signal.SIGTERM if workers == 1 else 0)
        for number in serving:
            file = home / f"found-{number}.json"
            found.append(without_inherited(json.loads(file.read_text())))
            file.unlink()
    assert len(found) == 2 * workers
    assert {
        name: [each[name] for each in found] for name in found[0] if any(each[name] != found[0][name] for each in found)
    } == {}
    assert found[0]["session"] is (workers == 1)


def test_no_forked_proxy_outlives_the_tests(tmp_path):
    """Where the tests' process is killed, and stops nothing, the proxies that were forked for it end."""
    session = subprocess.Popen([sys.executable, "-c", SESSION], cwd=TEMPLATE.parent, stdout=subprocess.PIPE, text=True)
    with session:
        forked = os.pidfd_open(int(session.stdout.readline()))
        session.kill()
    ended, _, _ = select.select([forked], [], [], 30)
    os.close(forked)
    assert ended == [forked]


def test_a_forked_proxy_that_does_not_start_ends_as_one_of_its_own_start(start_proxy, monkeypatch):
    """Wrong settings end either with the same words and the same status."""
    ends = []
    for fresh in (False, True):
        monkeypatch.setattr(Proxy, "fresh", fresh)
        with pytest.raises(RuntimeError) as failure:
            start_proxy(config="model_list: [\n")
        ends.append(str(failure.value))
    assert ends[0] == ends[1]
    assert ends[0].startswith("the proxy ended with 1:")


def test_a_forked_proxy_is_killed_like_any_process(start_proxy):
    """Its process group is its own, and the signal that ended it is its status."""
    proxy = start_proxy()
    assert isinstance(proxy.process, Forked)
    assert proxy.process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        proxy.process.wait(0)
    os.killpg(proxy.process.pid, signal.SIGKILL)
    assert proxy.process.wait(10) == proxy.process.poll() == proxy.process.returncode == -signal.SIGKILL


def test_what_an_import_may_read_is_not_given_to_a_fork(tmp_path):
    """A variable that is not known to be read later, be it in ``.env``, and one with another value, take a new interpreter."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("ZAI_API_KEY=made-up\n")
    plain = {"PATH": template().path, "HOME": str(tmp_path), **AT_IMPORT}
    assert may_fork(plain | dict.fromkeys(READ_LATER, "made-up") | dict.fromkeys(EMPTY, ""), dotenv)
    for name in ("HTTP_PROXY", "LITELLM_LOG", "DATABASE_URL", "PYTHONPATH", "MADE_UP"):
        assert not may_fork(plain | {name: "made-up"}, dotenv)
    for name in AT_IMPORT:
        assert not may_fork(plain | {name: "1"}, dotenv)
    assert not may_fork(plain | {"PATH": f"{tmp_path}:{plain['PATH']}"}, dotenv)
    for line in ("SERVER_ROOT_PATH=/made-up\n", "DATABASE_URL=made-up\n"):
        dotenv.write_text(line)
        assert not may_fork(plain, dotenv)


def test_a_copy_of_the_example_is_forked(tmp_path):
    """Tests that start with a copied `.env.example` take no interpreter of their own, whichever variables it lists."""
    plain = {"PATH": template().path, "HOME": str(tmp_path), **AT_IMPORT}
    assert may_fork(plain, ROOT / ".env.example")
