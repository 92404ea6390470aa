"""LiteLLM's own command, with the entry files beside its config.yaml: the bundle does what it does as a proxy of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import upstream as up
from conftest import CONFIG, TOKENS, by_credential, by_provider, proxy_environment
from processes import ROOT, Proxy, answer_text, question


class PlainLitellm(Proxy):
    """``litellm --config config.yaml`` in a folder with the entry files."""

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        program = Path(sys.executable).with_name("litellm")
        return [str(program), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(self.port), *arguments]

    def folder(self) -> Path:
        for name in ("request_transformer.py", "custom_auth.py"):
            (self.home / name).symlink_to(ROOT / name)
        return self.home


@pytest.fixture(scope="module")
def plugin(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    environment = proxy_environment(shared_upstream) | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_RUST": "true"}
    running = PlainLitellm(
        tmp_path_factory.mktemp("plugin"), CONFIG.format(url=shared_upstream.other_url), **environment
    ).wait_ready()
    yield running
    running.stop()


def limited(_: up.Seen) -> up.Reply:
    return up.anthropic_error(429, "rate_limit_error", "This request would exceed your rate limit.", retry_after="120")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_claude_is_asked_with_another_credential(plugin, upstream, stream):
    """A limited credential is left for the next one before the client sees a byte."""
    upstream.answer = by_credential(a=limited)
    answer = plugin.ask(question("claude-sonnet-5", stream=stream))
    assert answer.status_code == 200
    assert answer_text(answer) in ("from b", "from c")
    assert all(seen.credential in TOKENS.values() for seen in upstream.asked)


@pytest.mark.parametrize("model", ["glm", "gpt"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_other_providers_see_no_credential_of_claude_s(plugin, upstream, model, stream):
    """Another provider answers with its own key, and sees neither the pool's credentials nor the client's."""
    client = "sk-ant-oat01-made-up-client-0123456789"
    answer = plugin.ask(question(model, stream=stream), authorization=f"Bearer {client}")
    assert (answer.status_code, answer_text(answer)) == (200, f"from {model}")
    said = repr([(seen.headers, seen.body) for seen in upstream.asked])
    assert not any(secret in said for secret in (client, *TOKENS.values()))


def test_a_wrong_token_is_refused(plugin, upstream):
    """The static token is checked, and nothing is asked for another one."""
    answer = plugin.ask(question("claude-sonnet-5"), x_litellm_api_key="sk-made-up-wrong-token")
    assert answer.status_code == 401
    assert upstream.asked == []


def test_a_fallback_answers_for_claude(plugin, upstream):
    """When Claude fails, the fallback of the most specific pattern answers."""
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(529, "overloaded_error", "Overloaded"))
    assert answer_text(plugin.ask(question("claude-fallback-x"))) == "from glm"
