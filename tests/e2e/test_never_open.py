"""Who gets in where nothing, or no longer anything, says who may use the proxy: real proxies, asked from outside."""

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from conftest import CONFIG
from processes import ROOT, Proxy, clean_environment, question
from test_plugin import PlainLitellm

UNSET = {"PROXY_STATIC_TOKEN": "", "LITELLM_MASTER_KEY": "", "ANTHROPIC_API_BASE": "http://127.0.0.1:9"}
WITH_DEMO = CONFIG.format(url="http://127.0.0.1:9")
Start = Callable[..., Proxy]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A clone in which somebody has copied `.env.example` and filled in nothing."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / ".env").write_text((ROOT / ".env.example").read_text())
    (folder / ".env").chmod(0o600)
    return folder


@pytest.fixture
def start(home: Path):
    """Start a proxy in the clone's folder; it is stopped before the next one, and at the end of the test."""
    running: list[Proxy] = []

    def started(kind: type[Proxy] = Proxy, **variables: str) -> Proxy:
        if running:
            running.pop().stop()
        running.append(kind(home, WITH_DEMO, **UNSET | variables))
        return running[0].wait_ready()

    yield started
    for proxy in running:
        proxy.stop()


def status(proxy: Proxy, token: str | None) -> int:
    return proxy.ask(question("demo"), token=token).status_code


def command(proxy: Proxy, *arguments: str) -> str:
    """Run a command as the operator does, with what `.env` says, and return what it prints."""
    environment = clean_environment(proxy.home, PORT=str(proxy.port))
    called = [sys.executable, "-m", "claude_proxy", "--project", str(proxy.home), *arguments]
    return subprocess.run(called, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def token_of(block: str) -> str:
    return json.loads(block)["env"]["ANTHROPIC_AUTH_TOKEN"]


def test_a_copied_env_is_closed(start, home):
    """Without a token, users or a database the start generates a token, which `settings` prints and a restart keeps.

    Users that come later are let in beside it. Without the file of the token only they are; without their file nobody is,
    at once and after a restart, which generates another token.
    """
    proxy = start()
    token = token_of(command(proxy, "settings"))
    assert stat.S_IMODE((home / ".state" / "token").stat().st_mode) == 0o600
    assert [status(proxy, one) for one in (token, None, "", "none-is-needed", "open")] == [200, 401, 401, 401, 401]
    assert "401" in str(httpx.get(f"{proxy.url}/pool", headers={"accept": "application/json"}, trust_env=False))
    anna = token_of(command(proxy, "user", "add", "anna"))
    assert [status(proxy, one) for one in (token, anna, None)] == [200, 200, 401]
    assert token not in proxy.output

    proxy = start()
    assert [status(proxy, one) for one in (token, anna, None)] == [200, 200, 401]

    (home / ".state" / "token").unlink()
    proxy = start()
    assert [status(proxy, one) for one in (token, anna, None)] == [401, 200, 401]
    assert not (home / ".state" / "token").exists()
    users = home / ".state" / "users"
    content = users.read_text()
    users.write_text("")
    assert [status(proxy, one) for one in (token, anna, None)] == [401, 401, 401]
    users.write_text(content)
    assert status(proxy, anna) == 200
    users.unlink()
    assert [status(proxy, one) for one in (token, anna, None)] == [401, 401, 401]

    proxy = start()
    other = token_of(command(proxy, "settings"))
    assert other != token
    assert [status(proxy, one) for one in (other, token, anna, None)] == [200, 401, 401, 401]


@pytest.mark.parametrize("file", ["empty", "missing", "not-a-file"])
def test_a_named_file_without_users_is_closed(start, home, file):
    """A file of users that is named and names nobody lets nobody in: no token is generated behind the operator's back."""
    path = home / "users-of-the-team"
    if file == "empty":
        path.write_text("")
    if file == "not-a-file":
        path.mkdir()
    if file == "not-a-file":
        with pytest.raises(RuntimeError, match="is a folder and should be a file"):
            start(PROXY_USER_TOKENS_FILE=str(path))
        return
    proxy = start(PROXY_USER_TOKENS_FILE=str(path))
    assert [status(proxy, one) for one in (None, "none-is-needed")] == [401, 401]
    assert not (home / ".state" / "token").exists()
    assert "Nobody can use the proxy yet" in proxy.output


def test_the_word_opens_the_proxy(start):
    """With PROXY_STATIC_TOKEN=open no token is needed, and the log, `/pool`, both pages, `status` and `check` say so."""
    proxy = start(PROXY_STATIC_TOKEN="open")
    (proxy.home / ".env").write_text("PROXY_STATIC_TOKEN=open\n")
    assert [status(proxy, one) for one in (None, "whatever")] == [200, 200]
    words = "This proxy is open: everyone who can reach its port"
    assert f"WARNING: {words}" in proxy.output
    assert httpx.get(f"{proxy.url}/pool", headers={"accept": "application/json"}, trust_env=False).json()["open"] is True
    for path in ("/", "/pool"):
        assert words in httpx.get(f"{proxy.url}{path}", headers={"accept": "text/html"}, trust_env=False).text
    assert words in " ".join(command(proxy, "status").split())
    assert "is `open`: everyone" in command(proxy, "check", "--offline")


def test_a_plain_litellm_without_a_token_is_open(start):
    """As a plugin of LiteLLM's own command `custom_auth.py` lets everyone in where no token is set, and logs that."""
    proxy = start(PlainLitellm, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_MASTER_KEY="sk-made-up-master-key-0123")
    assert [status(proxy, one) for one in (None, "whatever")] == [200, 200]
    assert proxy.logged("WARNING claude_proxy.litellm.bootstrap: This proxy is open: everyone")


def test_a_lost_state_folder_is_closed(start, home):
    """Where the whole folder with token and users is lost, the next start has another token, and opens nothing."""
    proxy = start(PROXY_USER_TOKENS="anna=made-up-token-of-anna-0123")
    assert [status(proxy, one) for one in ("made-up-token-of-anna-0123", None)] == [200, 401]
    for path in (home / ".state").iterdir():
        path.unlink(missing_ok=True)  # the store removes files of its own
    assert status(start(), None) == 401
