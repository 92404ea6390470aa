"""A start with proxies and exceptions in the environment that no library reads, and what is asked through which."""

import subprocess
from collections.abc import Iterator

import pytest
import upstream as up
from conftest import CONFIG, proxy_environment
from processes import Proxy, answer_text, question

PASSWORD = "made-up-word"
# What Docker Desktop, OrbStack and OpenShift set, and what people write.
EXCEPTIONS = (
    " localhost,, .example.com *.svc ::1/128,fd07:b51a:cc66:f0::/64,[::1],[::1]:8080,host:8080,bücher.example,"
    f"http://anna:{PASSWORD}@exception.invalid,[::1,10.0.0.0/99,127.0.0.0/8"
)
# The upstream is both: who is asked for a host that is not there is its proxy.
CLAUDE = "http://claude.invalid"


@pytest.fixture(scope="module")
def behind(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    variables = proxy_environment(shared_upstream) | {
        "ANTHROPIC_API_BASE": CLAUDE,
        "HTTP_PROXY": shared_upstream.url.replace("http://", f"http://anna:{PASSWORD}@"),
        "https_proxy": f"socks5h://anna:{PASSWORD}@127.0.0.1:1",
        "ALL_PROXY": f"http://[{PASSWORD}",
        "NO_PROXY": EXCEPTIONS,
        "no_proxy": EXCEPTIONS,
    }
    running = Proxy(tmp_path_factory.mktemp("behind"), CONFIG.format(url=shared_upstream.other_url), **variables).wait_ready()
    yield running
    running.stop()


def test_the_environment_ends_no_start(behind: Proxy, upstream: up.Upstream) -> None:
    """The proxy serves; what is excepted is asked directly, all else through the HTTP proxy, and mistakes are named once."""
    upstream.answer = lambda seen: up.anthropic_reply(seen, up.text(f"from {seen.header('host')}"))
    assert answer_text(behind.ask(question("claude-sonnet-5"))) == "from claude.invalid"
    assert answer_text(behind.ask(question("glm"))) == f"from {upstream.other_url.removeprefix('http://')}"
    through, directly = upstream.asked
    assert (through.header("proxy-authorization"), directly.header("proxy-authorization")) == (
        "Basic YW5uYTptYWRlLXVwLXdvcmQ=",
        None,
    )
    upstream.answer = lambda seen: up.openai_reply(seen, up.text("from gpt"))
    for model in ("gpt", "gpt-effort"):
        assert answer_text(behind.ask(question(model))) == "from gpt"
    assert all(seen.header("host") == upstream.other_url.removeprefix("http://") for seen in upstream.asked[2:])

    said = [line for line in behind.output.splitlines() if "_proxy: " in line.lower()]
    assert sorted(line.split(";")[0] for line in said) == [
        "WARNING: ALL_PROXY: is not the URL of an HTTP proxy, so it is not used",
        "WARNING: https_proxy: names a SOCKS proxy, which is not supported, so it is not used",
        "WARNING: no_proxy: '10.0.0.0/99' is no host, address or network",
        "WARNING: no_proxy: '[::1' is no host, address or network",
        "WARNING: no_proxy: an item with an @ is no host, address or network",
    ]
    assert PASSWORD not in behind.output


def test_the_check_says_what_is_left_out(behind: Proxy) -> None:
    """`claude-proxy check` works with the same environment, and shows no password either."""
    command = [part for part in behind.command(()) if part != "serve"]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(behind.home),
        "NO_PROXY": EXCEPTIONS,
        "HTTPS_PROXY": f"socks5://{PASSWORD}",
    }
    environment |= {"ANTHROPIC_API_BASE": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        [*command, "check"], env=environment, cwd=behind.folder(), capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "the check broke" not in done.stdout
    assert "NO_PROXY: '[::1' is no host, address or network" in done.stdout
    assert "HTTPS_PROXY: names a SOCKS proxy" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
