"""Rules of config.yaml choose a model by what a request is for; the real Claude Code names that in a header."""

from collections.abc import Iterator

import pytest
import upstream as up
from claude_code import ClaudeCode
from conftest import CONFIG, by_provider, proxy_environment
from processes import Proxy, answer_text, question

RULES = """
claude_proxy:
  rules:
    - {name: summaries, when: {request: [compaction, auxiliary]}, model: gpt}
    - {name: pictures, when: {images: true, model: "claude-*"}, model: glm}
    - {name: long, when: {tokens_above: 5000, model: claude-opus-4-*}, model: glm-fast}
    - {name: unready, when: {request: side_reply}, model: keyless}
"""
CLASS = "x-claude-code-request-class"
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}


@pytest.fixture(scope="module")
def proxy(shared_upstream, tmp_path_factory) -> Iterator[Proxy]:
    config = CONFIG.format(url=shared_upstream.other_url) + RULES
    started = Proxy(tmp_path_factory.mktemp("rules"), config, **proxy_environment(shared_upstream))
    yield started.wait_ready()
    started.stop()


def test_a_compaction_goes_to_the_cheap_model(proxy, upstream, tmp_path):
    """The real client's main conversation stays at Claude, before and after the cheap model wrote its summary."""
    upstream.seen.clear()
    upstream.answer = by_provider(gpt=lambda seen: up.openai_reply(seen, up.text("<summary>it was made up</summary>")))
    user = ClaudeCode(tmp_path, proxy.url)
    hints = {"CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1"}
    assert user.run("Hello", model="claude-opus-5-5", **hints).result == "from claude"
    assert user.run("/compact", "--continue", model="claude-opus-5-5", **hints).code == 0
    assert user.run("Go on", "--continue", model="claude-opus-5-5", **hints).result == "from claude"
    kinds = [(seen.path.startswith("/openai"), seen.header(CLASS)) for seen in upstream.asked]
    assert [to_gpt for to_gpt, _ in kinds] == [False, True, False]
    assert {kind for to_gpt, kind in kinds if not to_gpt} == {"main"}
    assert "it was made up" in upstream.asked[-1].body.decode()
    assert len(proxy.logged("rule=summaries")) == 1


@pytest.mark.parametrize(
    ("body", "kind", "rule", "words"),
    [
        (question("claude-opus-4-8"), "main", None, "from claude"),
        (question("claude-opus-4-8"), "auxiliary", "summaries", "from gpt"),
        (question("claude-opus-4-8"), "Compaction", "summaries", "from gpt"),
        (question("claude-opus-4-8", [PICTURE]), "main", "pictures", "from glm"),
        (question("claude-opus-4-8", "word " * 8000), "main", "long", "from glm"),
        (question("claude-sonnet-5", "word " * 8000), "main", None, "from claude"),
    ],
)
def test_the_first_rule_that_fits_applies(proxy, upstream, body, kind, rule, words):
    """Response header and log name the rule; the response has the name of the requested model."""
    upstream.answer = by_provider()
    for stream in (False, True):
        response = proxy.ask(body | {"stream": stream}, x_claude_code_request_class=kind)
        assert response.status_code == 200
        assert response.headers.get("x-claude-proxy-rule") == rule
        assert answer_text(response) == words
        assert f'"model":"{body["model"]}"' in response.text.replace('": "', '":"')


@pytest.mark.parametrize("status", [500, 429, 401])
def test_the_requested_model_is_the_last_fallback(proxy, upstream, status):
    """If a rule's model fails, the requested one responds."""
    upstream.answer = by_provider(gpt=lambda _: up.Reply(status, body=b'{"error": {"message": "no", "type": "x"}}'))
    response = proxy.ask(question("claude-opus-4-8"), x_claude_code_request_class="auxiliary")
    assert (response.status_code, response.headers["x-claude-proxy-rule"]) == (200, "summaries")
    assert "from claude" in response.text


def test_a_model_without_its_key(proxy, upstream):
    """A rule whose model lacks its key does not apply."""
    upstream.answer = by_provider()
    response = proxy.ask(question("claude-opus-4-8"), x_claude_code_request_class="side_reply")
    assert (response.status_code, response.headers.get("x-claude-proxy-rule")) == (200, None)
    assert "from claude" in response.text
