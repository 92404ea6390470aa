"""A whole session of the real Claude Code on another model and on Claude in turns is the session that Claude alone has."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import session_script as script
import upstream as up
from claude_code import ClaudeCode
from conftest import TOKENS
from processes import Proxy
from session_transcript import Said, thoughts, transcript

CLAUDE = "claude-opus-5-5"
# The model of each format, by the provider whose strictness stands in for it.
OTHERS = {"chat": "gpt", "gemini": "gemini", "anthropic": "messages"}
# How the image and the PDF reach it; an unknown server of chat completions reads no files.
SHOWN = {
    "chat": ("data:image/png;base64,", "This model cannot read it."),
    "gemini": ('"mime_type": "image/png"', '"mime_type": "application/pdf"'),
    "anthropic": ('"media_type":"image/png"', '"type":"document"'),
}
CONFIG = """
model_list:
  - model_name: claude-*
    litellm_params: {{model: anthropic/claude-*}}
  - model_name: gpt
    litellm_params: {{model: openai/made-up, api_base: "{url}/gpt/v1", api_key: made-up-key}}
  - model_name: gemini
    litellm_params: {{model: gemini/made-up, api_base: "{url}/gemini", api_key: made-up-key}}
  - model_name: messages
    litellm_params: {{model: anthropic/made-up, api_base: "{url}/messages", api_key: made-up-key}}
router_settings: {{num_retries: 0}}
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
  drop_params: true
general_settings:
  custom_auth: custom_auth.user_api_key_auth
  master_key: os.environ/LITELLM_MASTER_KEY
"""


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy with Claude and a model of each format."""
    variables = {"ANTHROPIC_API_BASE": shared_upstream.url, "CLAUDE_OAUTH_TOKENS": f"a={TOKENS['a']}"}
    config = CONFIG.format(url=shared_upstream.other_url)
    running = Proxy(tmp_path_factory.mktemp("models") / "proxy", config, **variables).wait_ready()
    yield running
    running.stop()


def session(proxy: Proxy, upstream: up.Upstream, folder: Path, other: str) -> tuple[ClaudeCode, script.Models]:
    """Have the whole session, the turns that are not Claude's on another model."""
    user = ClaudeCode(folder, proxy.url)
    # With another model than Claude, Claude Code has to check calls itself, and by a model that the proxy serves.
    checked = {"CLAUDE_CODE_AUTO_MODE_SERVER": "0", "CLAUDE_CODE_AUTO_MODE_MODEL": other}
    script.prepare(user.project)
    models = script.Models()
    upstream.seen.clear()
    upstream.answer = models.answer
    name: str | None = None
    for turn in script.turns(user.project):
        models.steps = [*turn.steps]
        model = CLAUDE if turn.on == script.CLAUDE else other
        again = ["--resume", name] if name else []
        run = user.run(turn.prompt, *again, *turn.arguments, model=model, **checked)
        name = name or run.events[0]["session_id"]
        assert (models.complaints, models.steps) == ([], []), (turn.prompt, model, run.result)
        assert (run.code, run.retries) == (0, 0), (turn.prompt, model, run.result)
    return user, models


@pytest.fixture(scope="module")
def on_claude(proxy: Proxy, shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> list[Said]:
    """What was said in the session on Claude alone."""
    user, _ = session(proxy, shared_upstream, tmp_path_factory.mktemp("claude"), CLAUDE)
    return transcript(user)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_session_on_another_model_and_claude(proxy, upstream, tmp_path, on_claude, kind):
    """Tools, images, PDFs, agents, plans, auto mode and a compaction are the same; only Claude's thoughts stay, for it."""
    other = OTHERS[kind]
    user, models = session(proxy, upstream, tmp_path, other)
    assert transcript(user) == on_claude
    assert {*thoughts(user)} == {script.OWN_THOUGHT}
    asked = Counter("claude" if seen.is_claude else "other" for seen in upstream.asked)
    assert asked["other"] > asked["claude"] > 15, asked
    assert models.checks == [other, other]
    sent = [seen.body.decode() for seen in upstream.asked if not seen.is_claude]
    assert [sign for sign in SHOWN[kind] if not any(sign in body for body in sent)] == []
    assert not [seen for seen in upstream.asked if script.FOREIGN_THOUGHT in seen.everything]
    assert not [seen for seen in upstream.asked if script.OWN_THOUGHT in seen.everything and not seen.is_claude]


def test_the_session_on_claude(on_claude):
    """The session that the others are compared with holds all that it is about."""
    called = Counter(block["name"] for who, block in on_claude if block["type"] == "tool_use")
    assert called == {
        "Read": 9, "Bash": 10, "Agent": 2, "Edit": 1, "ToolSearch": 1, "CronList": 1, "Write": 1,
    }, called  # fmt: skip
    results = [block for _, block in on_claude if block["type"] == "tool_result"]
    assert len(results) == called.total()
    assert sum(block.get("is_error") is True for block in results) == 2
    inside = Counter(part["type"] for block in results if isinstance(block["content"], list) for part in block["content"])
    assert inside["image"] == inside["document"] == 2
    assert inside["tool_reference"] == 1
    assert any(script.SUMMARY in block.get("text", "") for _, block in on_claude)
