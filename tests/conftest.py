"""What holds for every test: an environment without anybody's settings, and no way out of this machine."""

import functools
import gc
import ipaddress
import os
import socket

import aiohttp
import httpx
import httpx._transports.default
import hypothesis
import pytest
import requests

# Fixtures that several files share.
pytest_plugins = ("command_line", "pools", "rewriting", "stores")

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")
# LiteLLM asks the internet for its price list when it is imported, which is before any fixture runs.
KEPT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
os.environ.update(KEPT)

# Variables of this project, of Claude Code, of LiteLLM and of the providers, by how their names begin or end.
PREFIXES = (
    "ANTHROPIC_", "AWS_", "AZURE_", "CLAUDE_", "DATABASE_", "GEMINI_", "GOOGLE_", "KIMI_", "LITELLM_", "OPENAI_", "OPENROUTER_",
    "PRISMA_", "PROXY_", "REDIS_", "VERTEX_", "ZAI_",
)  # fmt: skip
SUFFIXES = ("_API_BASE", "_API_KEY", "_BASE_URL", "_TOKEN", "_TOKEN_FILE", "_API_KEY_FILE")
# Make hands its own flags on, to whatever make a test starts.
NAMES = frozenset({"CONFIG_FILE_PATH", "HOST", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "NUM_WORKERS", "PORT"})


def with_one_context(create):
    """Make the usual TLS context once: each of the tests' many clients reads all certificates otherwise, in some 15 ms."""
    usual = functools.cache(lambda: create(trust_env=False))

    def context(verify=True, cert=None, trust_env=True):  # noqa: FBT002 - httpx's own arguments
        named = trust_env and (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"))
        return usual() if verify is True and cert is None and not named else create(verify, cert, trust_env)

    return context


httpx._transports.default.create_ssl_context = with_one_context(httpx.create_ssl_context)


class OutgoingConnection(AssertionError):
    """A test tried to reach another machine."""


def is_settings_of_somebody(name: str) -> bool:
    return name not in KEPT and (name in NAMES or name.startswith(PREFIXES) or name.endswith(SUFFIXES))


@pytest.fixture(autouse=True)
def clean_environment():
    """Take out what would reach the code under test from outside, and afterwards put everything back as it was."""
    before = dict(os.environ)
    for name in before:
        if is_settings_of_somebody(name):
            del os.environ[name]
    yield
    # Never empty in between: a test file's own threads may be starting processes.
    for name in {*os.environ} - {*before}:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch):
    """Let a socket connect to this machine only."""

    def guarded(connect):
        def wrapper(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
                raise OutgoingConnection(f"a test connects to {address[0]}")
            return connect(self, address)

        return wrapper

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture
def http_clients_as_they_were(monkeypatch):
    """Put every HTTP client back as it was: the entry files guard those of their process."""
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport  # noqa: PLC0415 - it takes seconds

    for client, name in (
        (httpx.AsyncClient, "_transport_for_url"),
        (httpx.Client, "_transport_for_url"),
        (LiteLLMAiohttpTransport, "_proxy_from_env"),
        (aiohttp.ClientSession, "_request"),
        (aiohttp.StreamReader, "read"),
        (requests.Session, "get_redirect_target"),
    ):
        monkeypatch.setattr(client, name, getattr(client, name))


@pytest.fixture
def no_garbage_search():
    """What refers to itself in a ring stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


def pytest_addoption(parser):
    parser.addoption("--no-skip", action="store_true", help="fail when a test was skipped: the machine should have everything")
    fresh = "start each proxy as an interpreter of its own; without it most are forked from a process that has LiteLLM imported"
    parser.addoption("--fresh-processes", action="store_true", help=fresh)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection():
    """Collect no garbage while modules are imported, and none of theirs later: that took a quarter of the time."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Run the tests of growth first: once thousands of tests have filled the memory, more data costs more than its share."""
    items.sort(key=lambda item: not item.path.name.startswith("test_growth"))


def pytest_sessionfinish(session, exitstatus):
    """Turn a run with skipped tests into a failure where nothing may be missing."""
    if exitstatus != pytest.ExitCode.OK or not session.config.getoption("--no-skip"):
        return
    skipped = session.config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped", [])
    if skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\n{len(skipped)} tests were skipped, and --no-skip forbids that")
