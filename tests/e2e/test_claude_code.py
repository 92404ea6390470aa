"""The real Claude Code CLI works through the proxy: whole sessions, on several providers."""

import json
from pathlib import Path

import pytest
import upstream as up
from claude_code import ClaudeCode
from conftest import TOKENS, by_credential, by_provider
from processes import Proxy


@pytest.fixture
def user(tmp_path: Path, pooled: Proxy) -> ClaudeCode:
    """A user of the proxy with a pool."""
    return ClaudeCode(tmp_path, pooled.url)


def results_so_far(seen: up.Seen) -> list[str]:
    """The tool results of a conversation, in Anthropic's or in OpenAI's format."""
    found = []
    for entry in seen.json["messages"]:
        if entry["role"] == "tool":
            found.append(str(entry["content"]))
        elif isinstance(entry["content"], list):
            found += [str(block.get("content")) for block in entry["content"] if block.get("type") == "tool_result"]
    return found


def worker(project: Path, seen: up.Seen) -> list[dict[str, object]]:
    """A model that reads a file, edits it, runs a command and says what it saw."""
    if not seen.json.get("tools"):
        return [up.text("a title")]
    path = str(project / "notes.txt")
    steps = [
        up.tool("Read", {"file_path": path}),
        up.tool("Edit", {"file_path": path, "old_string": "apples", "new_string": "pears"}),
        up.tool("Bash", {"command": f"cat {path}", "description": "Show the file"}),
    ]
    done = results_so_far(seen)
    if len(done) < len(steps):
        return [up.text(f"step {len(done) + 1}"), steps[len(done)]]
    return [up.text(f"the file says: {done[2]}")]


def test_a_task_and_its_continuation_on_other_providers(user, upstream):
    """A task that reads, edits and runs a command ends well on both formats, and goes on on Claude with no 400."""

    def model(seen: up.Seen) -> list[dict[str, object]]:
        return [up.thinking("foreign thought"), *worker(user.project, seen)]

    def claude(seen: up.Seen) -> up.Reply:
        foreign = [block for m in seen.json["messages"] if isinstance(m["content"], list) for block in m["content"]]
        if any(block["type"] == "thinking" and not block.get("signature") for block in foreign):
            return up.anthropic_error(400, "invalid_request_error", "messages.1.content.0: Invalid `signature`")
        return up.anthropic_reply(seen, up.thinking("own thought", "c2lnbmVk"), up.text("Claude goes on"))

    upstream.answer = by_provider(
        claude=claude,
        glm=lambda seen: up.anthropic_reply(seen, *model(seen)),
        gpt=lambda seen: up.openai_reply(seen, *worker(user.project, seen), reasoning="foreign thought"),
    )
    for name in ("glm", "gpt"):
        (user.project / "notes.txt").write_text("apples\n")
        run = user.run("Change apples to pears", "--allowedTools", "Read", "Edit", "Bash", model=name)
        assert (run.code, run.retries) == (0, 0), run.result
        assert run.result == "the file says: pears"
        assert (user.project / "notes.txt").read_text() == "pears\n"
    continued = user.run("And now?", "--continue", model="claude-sonnet-5")
    assert (continued.code, continued.result, continued.retries) == (0, "Claude goes on", 0)
    last = [seen for seen in upstream.seen if seen.is_claude][-1]
    assert len(results_so_far(last)) == 3
    back = user.run("And back?", "--continue", model="glm")
    assert (back.code, back.retries) == (0, 0)
    again = user.run("And again?", "--continue", model="claude-sonnet-5")
    assert (again.code, again.result) == (0, "Claude goes on")
    assert "own thought" in upstream.seen[-1].everything
    assert not any("foreign thought" in seen.everything for seen in upstream.seen)


def test_a_rotation_is_not_visible_to_claude_code(start_proxy, tmp_path, upstream):
    """A limited and a refused credential cost the CLI no retry and no message; the session stays on the third."""
    upstream.answer = by_credential(
        a=lambda _: up.anthropic_error(429, "rate_limit_error", "limit", retry_after="300"),
        b=lambda _: up.anthropic_error(401, "authentication_error", "OAuth access token is invalid."),
        c=lambda seen: up.anthropic_reply(seen, up.text("served")),
    )
    run = ClaudeCode(tmp_path, start_proxy().url).run("Hello")
    assert (run.code, run.result, run.retries) == (0, "served", 0)
    asked = [seen.credential for seen in upstream.seen]
    assert asked[:3] == [TOKENS["a"], TOKENS["b"], TOKENS["c"]]
    assert set(asked[3:]) <= {TOKENS["c"]}


def test_claude_sees_the_cli_as_it_is(user, upstream):
    """What the CLI sends to the proxy arrives at Claude with its body, betas and client headers; nothing is added."""
    assert user.run("Hello", model="claude-sonnet-4-5").code == 0
    main = next(seen for seen in upstream.seen if seen.json.get("tools"))
    assert main.query == "beta=true"
    assert main.header("user-agent").startswith("claude-cli/")
    assert main.header("x-app") == "cli"
    assert main.header("anthropic-beta").startswith("claude-code-20250219,")
    assert main.header("anthropic-beta").endswith(",oauth-2025-04-20")
    assert main.json["system"][0]["text"].startswith("x-anthropic-billing-header:")
    assert {"context_management", "thinking", "metadata"} <= set(main.json)
    assert main.header("authorization").removeprefix("Bearer ") in TOKENS.values()


def test_the_demo_answers_claude_code(user, upstream):
    """The README's first claude -p works with no key at all."""
    run = user.run("Hello", model="demo")
    assert run.code == 0
    assert run.result.startswith("The proxy works")
    assert upstream.seen == []


def test_a_wrong_token_fails_at_once(tmp_path, pooled):
    """A wrong token is one request and a clear message, not three minutes of retries."""
    run = ClaudeCode(tmp_path, pooled.url, token="sk-not-the-token").run("Hello", model="demo")
    assert (run.code, run.retries) == (1, 0)
    assert "The token is not this proxy's" in run.result


def test_a_model_without_its_key_fails_in_words(user):
    """A provider whose key is not set tells the CLI's user which one, at once."""
    run = user.run("Hello", model="keyless")
    assert (run.code, run.retries) == (1, 0)
    assert "set NEVER_SET_API_KEY on the proxy" in run.result


def test_custom_headers_with_a_comma_are_understood(tmp_path, pooled, upstream):
    """Both headers that a guide put into one line count: the token opens the proxy, the mode is passthrough."""
    user = ClaudeCode(tmp_path, pooled.url)
    del user.environment["ANTHROPIC_AUTH_TOKEN"]
    own = "sk-ant-oat01-made-up-logged-in"
    comma = f"x-litellm-api-key: {pooled.static_token}, x-claude-token-mode: passthrough"
    run = user.run("Hello", ANTHROPIC_CUSTOM_HEADERS=comma, CLAUDE_CODE_OAUTH_TOKEN=own, model="claude-sonnet-5")
    assert run.code == 0, run.result
    assert {seen.credential for seen in upstream.seen} == {own}
    assert json.loads(upstream.seen[0].body)["model"] == "claude-sonnet-5"
