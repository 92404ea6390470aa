"""The real Claude Code CLI works through the proxy: whole sessions, on several providers."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import upstream as up
from claude_code import NEWEST, OLDER, ClaudeCode
from conftest import TOKENS, by_credential, by_provider
from processes import Proxy, free_port

from claude_proxy.check.models import CLAUDE_CODE_NAMES
from claude_proxy.providers.model_names import CLAUDE_CODE_MODELS

BOTH_RELEASES = pytest.mark.parametrize("user", [NEWEST, OLDER], indirect=True)


@pytest.fixture
def user(request: pytest.FixtureRequest, tmp_path: Path, pooled: Proxy) -> ClaudeCode:
    """A user of the proxy with a pool, and with the newest Claude Code where a test asks for no other."""
    return ClaudeCode(tmp_path, pooled.url, package=getattr(request, "param", NEWEST))


def results_so_far(seen: up.Seen) -> list[str]:
    """The tool results of a conversation, in Anthropic's or in OpenAI's format."""
    found = []
    for entry in seen.json["messages"]:
        if entry["role"] == "tool":
            found.append(str(entry["content"]))
        elif isinstance(entry.get("content"), list):
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


@BOTH_RELEASES
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
    asked = [seen.credential for seen in upstream.asked]
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


def blocks_of(messages: list[dict[str, Any]], *types: str) -> list[dict[str, Any]]:
    """The blocks of some types in a conversation in Anthropic's format."""
    return [block for m in messages if isinstance(m.get("content"), list) for block in m["content"] if block["type"] in types]


def unpaired(messages: list[dict[str, Any]]) -> set[str]:
    """The tool calls that are not answered before the model's next turn, and the results of no call; in both formats."""
    found: set[str] = set()
    open_calls: set[str] = set()
    for message in messages:
        results = {block["tool_use_id"] for block in blocks_of([message], "tool_result")}
        results |= {message["tool_call_id"]} if message["role"] == "tool" else set()
        found |= results - open_calls
        open_calls -= results
        if message["role"] == "assistant":
            found |= open_calls
            open_calls = {block["id"] for block in blocks_of([message], "tool_use")}
            open_calls |= {call["id"] for call in message.get("tool_calls") or ()}
    return found | open_calls


class Strict:
    """Three providers that forgive nothing: Claude takes no thinking but its own, the others none, nobody a lone tool call.

    ``plan`` says what the model does next: a tool, a text, or that it breaks the turn off with an error.
    """

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.complaints: list[str] = []
        self.signed: list[dict[str, Any]] = []
        self._numbers = count(1)

    def claude(self, seen: up.Seen) -> up.Reply:
        thoughts = blocks_of(seen.json["messages"], "thinking", "redacted_thinking")
        if any(block not in self.signed for block in thoughts):
            return self._complain(seen, "messages: Invalid `signature` in `thinking` block")
        number = next(self._numbers)
        own = up.thinking(f"Claude's thought {number}", f"c2lnbmVk{number:04}")
        hidden = {"type": "redacted_thinking", "data": f"aGlkZGVu{number:04}"}
        said = self._next(seen)
        if isinstance(said, up.Reply):
            return said
        self.signed += [own, hidden]
        return up.anthropic_reply(seen, own, hidden, *said)

    def glm(self, seen: up.Seen) -> up.Reply:
        if blocks_of(seen.json["messages"], "thinking", "redacted_thinking") or "thinking" in seen.json:
            return self._complain(seen, "thinking is no known type")
        said = self._next(seen)
        return said if isinstance(said, up.Reply) else up.anthropic_reply(seen, up.thinking("foreign thought"), *said)

    def gpt(self, seen: up.Seen) -> up.Reply:
        if any(word in json.dumps(seen.json["messages"]) for word in ('"thinking', "reasoning_content", "redacted")):
            return self._complain(seen, "unknown field: thinking")
        said = self._next(seen)
        return said if isinstance(said, up.Reply) else up.openai_reply(seen, *said, reasoning="foreign thought")

    def _next(self, seen: up.Seen) -> up.Reply | list[dict[str, Any]]:
        if lone := unpaired(seen.json["messages"]):
            return self._complain(seen, f"tool_use without tool_result: {lone}")
        if not self.plan:
            return self._complain(seen, "nothing more was planned")
        if self.plan[0] == "break":  # and it stays so: Claude Code tries a refused request in other forms
            return up.anthropic_error(400, "invalid_request_error", "made up: no more of this")
        if self.plan.pop(0) == "tool":
            return [up.text("looking"), up.tool("Bash", {"command": "echo seen", "description": "Say what is seen"})]
        return [up.text("done")]

    def _complain(self, seen: up.Seen, words: str) -> up.Reply:
        self.complaints.append(f"{seen.path}: {words}")
        return up.anthropic_error(400, "invalid_request_error", words)


@BOTH_RELEASES
def test_a_session_goes_from_provider_to_provider_in_the_middle_of_tool_loops(user, upstream):
    """Nobody gets thinking that is not its own or half a tool loop, and Claude gets its signed blocks back as they were."""
    strict = Strict()
    upstream.answer = by_provider(claude=strict.claude, glm=strict.glm, gpt=strict.gpt)
    turns = [
        ("claude-sonnet-5", ["tool", "break"]),
        ("glm", ["tool", "break"]),
        ("gpt", ["tool", "break"]),
        ("claude-sonnet-5", ["tool", "tool", "text"]),
        ("glm", ["tool", "text"]),
        ("gpt", ["text"]),
        ("claude-sonnet-5", ["tool", "text"]),
    ]
    session: list[str] = []
    for number, (model, plan) in enumerate(turns):
        strict.plan = [*plan]
        # The session is named in every other turn; else it is the last one of the folder.
        way = [] if not session else ["--continue"] if number % 2 else ["--resume", session[0]]
        run = user.run("Look again", *way, "--allowedTools", "Bash", model=model)
        session = session or [run.events[0]["session_id"]]
        broken_off = plan[-1:] if plan[-1] == "break" else []
        assert (strict.complaints, strict.plan) == ([], broken_off), (number, model, run.result)
        assert run.code == len(broken_off), (number, model, run.result)
    last = upstream.seen[-1].json["messages"]
    assert blocks_of(last, "thinking", "redacted_thinking") == strict.signed[:-2]
    assert len(strict.signed) == 2 * 6
    assert len(blocks_of(last, "tool_use")) == len(blocks_of(last, "tool_result")) == 7


MODELS = pytest.mark.parametrize("model", ["claude-sonnet-5", "glm", "gpt"])


def whichever(answer: Any) -> Any:
    """Let every provider answer by one function, which returns blocks or a whole reply."""

    def reply(seen: up.Seen, make: Any) -> up.Reply:
        said = answer(seen)
        return said if isinstance(said, up.Reply) else make(seen, *said)

    return by_provider(
        claude=lambda seen: reply(seen, up.anthropic_reply),
        glm=lambda seen: reply(seen, up.anthropic_reply),
        gpt=lambda seen: reply(seen, up.openai_reply),
    )


def asked_last(seen: up.Seen) -> str:
    """The texts of the conversation's last message."""
    content = seen.json["messages"][-1].get("content")
    return content if isinstance(content, str) else json.dumps(content)


@MODELS
def test_a_subagent_works_for_the_session(user, upstream, model):
    """What a subagent found comes back to the model that started it."""
    task = "Tell the made-up answer"

    def answer(seen: up.Seen) -> list[dict[str, Any]]:
        first = json.dumps([m for m in seen.json["messages"] if m["role"] == "user"])
        if task in first:
            return [up.text("the answer is 4711")]
        if "4711" in first or "4711" in str(results_so_far(seen)):
            return [up.text("it found 4711")]
        wanted = {"description": "Find it", "prompt": task, "subagent_type": "general-purpose", "run_in_background": False}
        return [up.tool("Agent", wanted)]

    upstream.answer = whichever(answer)
    run = user.run("Use an agent", "--allowedTools", "Agent", model=model)
    assert (run.code, run.retries, run.result) == (0, 0, "it found 4711")


@MODELS
def test_a_web_search_is_answered(user, upstream, model):
    """The search that Claude Code asks of a model, with a tool of Anthropic's server, does not break the turn."""

    def answer(seen: up.Seen) -> list[dict[str, Any]]:
        if "Perform a web search" in asked_last(seen):
            return [up.text("found: pears")]
        found = results_so_far(seen)
        return [up.text(found[0])] if found else [up.tool("WebSearch", {"query": "apples or pears"})]

    upstream.answer = whichever(answer)
    run = user.run("Search", "--allowedTools", "WebSearch", model=model)
    assert (run.code, run.retries) == (0, 0)
    assert "found: pears" in run.result
    if model == "claude-sonnet-5":
        search = next(seen for seen in upstream.seen if "Perform a web search" in asked_last(seen))
        assert [tool["type"] for tool in search.json["tools"]] == ["web_search_20250305"]


@MODELS
def test_a_compacted_session_goes_on(user, upstream, model):
    """After /compact the model gets the summary in the place of the conversation."""

    def answer(seen: up.Seen) -> list[dict[str, Any]]:
        if "<summary> block" in asked_last(seen):
            return [up.text("<summary>we spoke of pears</summary>")]
        return [up.text("as you say")]

    upstream.answer = whichever(answer)
    assert user.run("Remember the word quince", model=model).code == 0
    assert user.run("/compact", "--continue", model=model).code == 0
    run = user.run("Go on", "--continue", model=model)
    assert (run.code, run.retries, run.result) == (0, 0, "as you say")
    assert "we spoke of pears" in json.dumps(upstream.seen[-1].json["messages"])
    assert "quince" not in json.dumps(upstream.seen[-1].json["messages"])


@MODELS
def test_a_failed_stream_is_repeated_without_streaming(user, upstream, model):
    """A stream that fails before its first block is whole makes Claude Code ask for a whole answer, and it gets one."""

    def answer(seen: up.Seen) -> up.Reply | list[dict[str, Any]]:
        if not seen.json.get("stream"):
            return [up.text("whole")]
        make = up.openai_reply if model == "gpt" else up.anthropic_reply
        whole = make(seen, up.text("half of it"))
        return up.Reply(headers=whole.headers, chunks=list(whole.chunks or ())[:3], drop=model == "gpt")

    upstream.answer = whichever(answer)
    run = user.run("Hello", model=model)
    assert (run.code, run.result) == (0, "whole")


@MODELS
def test_the_context_is_counted(user, upstream, model):
    """/context counts tokens and buys no answers for that."""
    run = user.run("/context", model=model)
    assert run.code == 0
    assert "Tokens" in run.result
    paths = {seen.path for seen in upstream.seen if seen.method == "POST"}
    assert paths == ({"/v1/messages/count_tokens"} if model == "claude-sonnet-5" else set())


@pytest.mark.parametrize("alias", CLAUDE_CODE_NAMES)
def test_the_names_that_claude_code_asks_for(user, upstream, alias):
    """Its own names stand for the models that ``check`` looks for and the list of models holds."""
    assert user.run("Hello", model=alias).code == 0
    (seen,) = upstream.asked
    assert seen.json["model"] == CLAUDE_CODE_NAMES[alias][0]
    assert seen.json["model"] in CLAUDE_CODE_MODELS


def test_the_million_tokens_are_asked_of_claude(user, upstream):
    """The suffix [1m] becomes the beta that it stands for, and the model's name arrives without it."""
    assert user.run("Hello", model="claude-sonnet-4-5[1m]").code == 0
    (seen,) = upstream.seen
    assert seen.json["model"] == "claude-sonnet-4-5"
    assert "context-1m-2025-08-07" in seen.header("anthropic-beta").split(",")


def test_claude_code_finds_the_models(user):
    """The models whose names Claude Code takes for Claude's are in its menu, and it had them in time."""
    # What is for other hosts ends at a port on which nobody listens.
    nowhere = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}", "NO_PROXY": "127.0.0.1", "DISABLE_TELEMETRY": "1"}
    wanted = {"CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": ""}
    assert user.run("Hello", model="claude-sonnet-5", **nowhere, **wanted).code == 0
    found = json.loads((user.home / ".claude" / "cache" / "gateway-models.json").read_text())
    assert {"claude-demo", "claude-keyed"} <= {model["id"] for model in found["models"]}
