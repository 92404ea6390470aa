"""What a client writes into its request takes nobody's Claude away: the upstream quotes requests in its errors, as Anthropic.

Genuine refusals of an account are recognised all the same.
"""

import answers
import httpx
import pytest
import upstream as up
from conftest import API_KEY, TOKENS, by_provider, module_proxy
from processes import STATIC_TOKEN, Proxy, answer_text, question

from claude_proxy.credentials.wordings import (
    EXTRA_USAGE,
    NOT_CLAUDE_CODE,
    OUT_OF_CREDIT,
    REFUSED_ACCOUNT,
    UNHEALED_THINKING,
    WRONG_HEADER,
)

ANNA, BEN = "sk-made-up-token-of-anna-0123456789", "sk-made-up-token-of-ben-0123456789"
USERS = {"PROXY_USER_TOKENS": f"anna={ANNA},ben={BEN}"}
SENTENCES = [
    *EXTRA_USAGE,
    *NOT_CLAUDE_CODE,
    *WRONG_HEADER,
    *REFUSED_ACCOUNT,
    *OUT_OF_CREDIT,
    *UNHEALED_THINKING,
    "error",
    "has been revoked",
]
MODEL = "claude-sonnet-5"
DISABLED = "This organization has been disabled."
FIELDS = {"model", "messages", "max_tokens", "tools", "tool_choice", "stream"}
EXPECTED = "does not match any of the expected tags"


def complaint(seen: up.Seen) -> str:
    """What Anthropic's validation says of a request: its message quotes what it complains of. Empty when all is well."""
    body = seen.json
    found = [f"{name}: Extra inputs are not permitted" for name in body if name not in FIELDS]
    found += [f"model: {body['model']}"] if body["model"] != MODEL else []
    for i, message in enumerate(body["messages"]):
        found += of_message(f"messages.{i}", message)
    found += [
        f"tools.{i}.custom.name: '{tool['name']}' should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
        for i, tool in enumerate(body.get("tools", []))
    ]
    if "tool_choice" in body:
        found.append(f"tool_choice: Tool '{body['tool_choice']['name']}' not found in provided tools")
    beta, version = (seen.header("anthropic-beta") or "").split(",")[0], seen.header("anthropic-version")
    if beta and not beta.startswith("oauth-"):
        found.append(f"Unexpected value(s) `{beta}` for the `anthropic-beta` header.")
    if version not in (None, "2023-06-01"):
        found.append(f'anthropic-version: "{version}" is not a valid version')
    return found[0] if found else ""


def of_message(place: str, message: dict) -> list[str]:
    found = []
    if message["role"] not in ("user", "assistant"):
        found.append(f'messages: Unexpected role "{message["role"]}". Allowed roles are "user" or "assistant".')
    for j, block in enumerate(message["content"] if isinstance(message["content"], list) else []):
        if block["type"] != "text":
            found.append(f"{place}.content.{j}: Input tag '{block['type']}' found using 'type' {EXPECTED}: 'text'")
        more = [name for name in block if name not in ("type", "text")]
        found += [f"{place}.content.{j}.text.{name}: Extra inputs are not permitted" for name in more]
    return found


def quoting(seen: up.Seen) -> up.Reply:
    words = complaint(seen)
    return up.anthropic_error(400, "invalid_request_error", words) if words else up.anthropic_reply(seen, up.text("served"))


def hostile(words: str) -> list[tuple[dict, dict[str, str]]]:
    """Requests, with their headers, that hold these words in every place that an error quotes."""
    plain = question(MODEL)

    def blocks(*each):
        return plain | {"messages": [{"role": "user", "content": list(each)}]}

    bodies = [
        blocks({"type": words}),
        blocks({"type": "text", "text": "x", words: 1}),
        plain | {"messages": [{"role": words, "content": "x"}]},
        plain | {"tools": [{"name": words, "input_schema": {"type": "object"}}]},
        plain | {"tool_choice": {"type": "tool", "name": words}},
        plain | {words: 1},
        plain | {f"{words.capitalize()}. x": 1},
        plain | {"model": f"claude-{words}"},
    ]
    return [(body, {}) for body in bodies] + [(plain, {"anthropic-beta": words}), (plain, {"anthropic-version": words})]


def states(proxy: Proxy) -> dict[str, str]:
    """What the status page says of each credential."""
    headers = {"x-litellm-api-key": STATIC_TOKEN, "accept": "application/json"}
    answer = httpx.get(f"{proxy.url}/pool", headers=headers, trust_env=False)
    return {one["label"]: one["state"]["words"] for one in answer.json()["credentials"]}


def refusing(words: str, *credentials: str):
    """An upstream that refuses the accounts of these credentials; without any, all of them."""

    def answer(seen: up.Seen) -> up.Reply:
        if not credentials or seen.credential in credentials:
            return up.anthropic_error(400, "invalid_request_error", words)
        return up.anthropic_reply(seen, up.text("served"))

    return by_provider(claude=answer)


@pytest.fixture(scope="module")
def several(shared_upstream, tmp_path_factory):
    """A proxy with three tokens and an API key."""
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("several"), CLAUDE_API_KEYS=f"k={API_KEY}", **USERS)


@pytest.fixture(scope="module")
def lone(shared_upstream, tmp_path_factory):
    """A proxy with one credential."""
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("lone"), CLAUDE_OAUTH_TOKENS=f"a={TOKENS['a']}", **USERS)


@pytest.fixture(params=["several", "lone"])
def proxy(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_words_that_an_error_quotes(proxy, upstream, sentence):
    """Wherever a request holds a recognised sentence, one credential is asked once, nobody is out, and others are served."""
    upstream.answer = by_provider(claude=quoting)
    with httpx.Client(base_url=proxy.url, headers={"x-litellm-api-key": ANNA}, trust_env=False, timeout=60) as client:
        for body, headers in [each for words in (sentence, f"{sentence.capitalize()}. x") for each in hostile(words)]:
            upstream.seen.clear()
            answer = client.post("/v1/messages", json=body, headers=headers)
            (seen,) = upstream.asked
            assert (answer.status_code, answer.json()["error"]["message"]) == (400, complaint(seen))
            assert complaint(seen)
    assert {*states(proxy).values()} == {"usable"}
    for token in (BEN, STATIC_TOKEN):
        assert answer_text(proxy.ask(question(MODEL), token=token)) == "served"


def assert_own_words(answer):
    """The client reads that it is the proxy's account, and not what Claude Code takes for an error of the user's account."""
    message = answer.json()["error"]["message"]
    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
    assert message.startswith("claude-proxy: Anthropic refused an account of this proxy. It is not your account")
    assert "credit" not in message


def test_a_400_that_every_credential_gives(several, upstream):
    """A refusal that a request meets on two credentials: nobody is out, no third one is asked, and a fallback answers."""
    upstream.answer = refusing(DISABLED)
    for stream in (False, True):
        upstream.seen.clear()
        answer = several.ask(question(MODEL, stream=stream), token=ANNA)
        assert_own_words(answer)
        assert len(upstream.asked) == len({seen.credential for seen in upstream.asked}) == 2
    assert answer_text(several.ask(question("claude-fallback-1"), token=ANNA)) == "from glm"
    assert {*states(several).values()} == {"usable"}
    upstream.answer = by_provider(claude=quoting)
    assert answer_text(several.ask(question(MODEL), token=BEN)) == "served"


def test_the_only_credential_and_a_fallback(lone, upstream):
    """A refusal of the only credential: a fallback answers, or the client reads whose it is; one caller puts it never out."""
    upstream.answer = refusing(answers.NO_CREDIT)
    for _ in range(3):
        upstream.seen.clear()
        answer = lone.ask(question(MODEL), token=ANNA)
        assert_own_words(answer)
        assert len(upstream.asked) == 1
    assert answer_text(lone.ask(question("claude-fallback-1"), token=ANNA)) == "from glm"
    assert states(lone) == {"a": "usable"}
    upstream.answer = by_provider(claude=quoting)
    assert answer_text(lone.ask(question(MODEL), token=BEN)) == "served"


def test_a_genuine_refusal(start_proxy, upstream):
    """A sentence of Anthropic's own puts its credential out when another credential answers the same request."""
    proxy = start_proxy(**USERS)
    upstream.answer = refusing(DISABLED, TOKENS["a"])
    for _ in range(3):
        assert answer_text(proxy.ask(question(MODEL), token=ANNA)) == "served"
    assert {label for label, words in states(proxy).items() if words.startswith("rejected")} == {"a"}
    assert [seen.credential for seen in upstream.asked].count(TOKENS["a"]) == 1
    assert len(proxy.logged("credential a is rejected")) == 1


def session(number: int, token: str = STATIC_TOKEN) -> dict[str, str]:
    return {"token": token, "x_claude_code_session_id": f"session-{number}"}


@pytest.mark.parametrize(
    ("same", "another"),
    [((session(1, ANNA), session(2, ANNA)), session(1, BEN)), ((session(1), session(1)), session(2))],
    ids=["users", "sessions"],
)
def test_a_genuine_refusal_of_the_only_credential(start_proxy, upstream, same, another):
    """The only credential goes out when another user meets the refusal, too, or another session of a shared token."""
    proxy = start_proxy(CLAUDE_OAUTH_TOKENS=f"a={TOKENS['a']}", **USERS)
    upstream.answer = refusing(DISABLED)
    for caller in same:
        assert_own_words(proxy.ask(question(MODEL), **caller))
    assert states(proxy) == {"a": "usable"}
    answer = proxy.ask(question(MODEL), **another)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
    assert states(proxy)["a"].startswith("rejected")
