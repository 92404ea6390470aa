"""What happens when something breaks: a dead upstream, half a stream, a client that hangs up, wrong settings."""

import json
import threading

import httpx
import pytest
import upstream as up
from conftest import CLIENT_TOKEN, CONFIG, TOKENS, by_credential, by_provider
from processes import STATIC_TOKEN, Proxy, free_port, question, streamed

OWN = {"authorization": f"Bearer {CLIENT_TOKEN}"}


def test_overload_is_not_the_credentials_fault(own_pooled, upstream):
    """A 529 reaches the client at once as Anthropic's own, for Claude Code repeats it by itself, and rests nobody."""
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(529, "overloaded_error", "Overloaded"))
    answer = own_pooled.ask(question("claude-sonnet-5"))
    assert (answer.status_code, answer.json()["error"]) == (529, {"type": "overloaded_error", "message": "Overloaded"})
    assert len(upstream.seen) == 1
    upstream.answer = by_provider()
    assert own_pooled.ask(question("claude-sonnet-5")).status_code == 200
    assert "rate-limited" not in own_pooled.output


def test_a_fallback_that_lacks_its_key_is_none(own_pooled, upstream):
    """Where the fallback could not answer, Claude's error comes at once, and no failover is told of that did not happen."""
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(529, "overloaded_error", "Overloaded"))
    assert own_pooled.ask(question("claude-unready-x")).status_code == 529
    assert len(upstream.seen) == 1
    assert "failovers" not in own_pooled.logged("model=claude-unready-x")[0]


def test_overload_is_repeated_before_a_fallback_answers(own_pooled, upstream):
    """Where a fallback is ready LiteLLM asks Claude twice more first: another model is a change that the user notices."""
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(529, "overloaded_error", "Overloaded"))
    answer = own_pooled.ask(question("claude-fallback-x"))
    assert (answer.status_code, answer.json()["content"][0]["text"]) == (200, "from glm")
    assert [seen.is_claude for seen in upstream.seen] == [True, True, True, False]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_dead_upstream_is_an_error_in_anthropics_shape(start_proxy, stream):
    """When nobody listens at the other end the client gets an error that it may repeat, in Anthropic's shape."""
    dead = f"http://127.0.0.1:{free_port()}"
    proxy: Proxy = start_proxy(config=CONFIG.format(url=dead), ANTHROPIC_API_BASE=dead)
    for model in ("claude-sonnet-5", "glm", "gpt"):
        answer = proxy.ask(question(model, stream=stream))
        assert answer.status_code >= 500
        assert answer.json()["type"] == "error"
        assert answer.headers.get("x-should-retry") != "false"


@pytest.mark.parametrize("model", ["claude-sonnet-5", "glm"])
def test_half_a_stream_is_not_taken_for_a_whole_one(poolless, upstream, model):
    """When the upstream drops in the middle, what came is passed on and the message does not end as if it were whole."""

    def half(seen: up.Seen) -> up.Reply:
        events = up.sse(*up.events_of(up.message(up.text("one two"), model=seen.json["model"])))
        return up.Reply(headers={"content-type": "text/event-stream"}, chunks=events[:3], drop=True)

    upstream.answer = by_provider(claude=half, glm=half)
    try:
        events = streamed(poolless.ask(question(model, stream=True), **OWN))
    except httpx.RemoteProtocolError:
        return  # cut off, as the upstream was
    assert events[0]["type"] == "message_start"
    assert "message_stop" not in {event["type"] for event in events}
    assert events[-1]["type"] == "error"


def test_an_error_in_the_middle_of_a_stream_arrives(poolless, upstream):
    """Anthropic's error event after some content reaches the client as it was sent."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    def broken(seen: up.Seen) -> up.Reply:
        events = up.sse(*up.events_of(up.message(up.text("one two"), model=seen.json["model"]))[:3], error)
        return up.Reply(headers={"content-type": "text/event-stream"}, chunks=events)

    upstream.answer = by_provider(claude=broken)
    answer = poolless.ask(question("claude-sonnet-5", stream=True), **OWN)
    assert streamed(answer)[-1] == error


@pytest.mark.parametrize("model", ["claude-sonnet-5", "glm", "gpt"])
def test_a_client_that_hangs_up_ends_the_upstreams_stream(poolless, upstream, model):
    """When the client leaves, the upstream's stream is closed, and the proxy serves the next request."""
    closed = threading.Event()

    def endless(seen: up.Seen) -> up.Reply:
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "more " * 2000}}
        start = up.sse(*up.events_of(up.message(up.text("one"), model=seen.json["model"]))[:3])
        more = up.sse(delta)[0]
        if seen.path.endswith("/chat/completions"):
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            chunk["choices"] = [{"index": 0, "delta": {"content": "more " * 2000}, "finish_reason": None}]
            start, more = [], f"data: {json.dumps(chunk)}\n\n".encode()

        def chunks():
            try:
                yield from start
                for _ in range(20_000):
                    yield more
            finally:
                closed.set()

        return up.Reply(headers={"content-type": "text/event-stream"}, chunks=chunks())

    upstream.answer = by_provider(claude=endless, glm=endless, gpt=endless)
    with httpx.Client(trust_env=False, timeout=30) as client:
        headers = {"x-litellm-api-key": STATIC_TOKEN, "content-type": "application/json", **OWN}
        body = json.dumps(question(model, stream=True))
        with client.stream("POST", f"{poolless.url}/v1/messages", content=body, headers=headers) as response:
            assert next(response.iter_bytes())
    assert closed.wait(30)
    upstream.answer = by_provider()
    assert poolless.ask(question(model), **OWN).status_code == 200


def test_a_stream_is_passed_on_event_by_event(poolless, upstream):
    """An event reaches the client before the upstream sends the next one, from Claude and through the thinking filter."""
    for model in ("claude-sonnet-5", "glm"):
        arrived = threading.Event()
        waited: list[bool] = []

        def patient(seen: up.Seen, arrived: threading.Event = arrived, waited: list[bool] = waited) -> up.Reply:
            events = up.sse(*up.events_of(up.message(up.text("one two"), model=seen.json["model"])))

            def chunks():
                yield b"".join(events[:3])
                waited.append(arrived.wait(20))
                yield from events[3:]

            return up.Reply(headers={"content-type": "text/event-stream"}, chunks=chunks())

        upstream.answer = by_provider(claude=patient, glm=patient)
        with httpx.Client(trust_env=False, timeout=60) as client:
            headers = {"x-litellm-api-key": STATIC_TOKEN, "content-type": "application/json", **OWN}
            body = json.dumps(question(model, stream=True))
            with client.stream("POST", f"{poolless.url}/v1/messages", content=body, headers=headers) as response:
                received = b""
                for chunk in response.iter_bytes():
                    received += chunk
                    if b"one two" in received:
                        arrived.set()
        assert waited == [True], model
        assert b"message_stop" in received


def test_wrong_settings_stop_the_start_with_all_mistakes(start_proxy):
    """Every mistake of the settings and of config.yaml is told at once, with no secret in it, and the start fails."""
    with pytest.raises(RuntimeError) as failure:
        start_proxy(
            config="model_list: [\n",
            CLAUDE_TOKEN_MODE="borrow",
            CLAUDE_TOKEN_COOLDOWN_SECONDS="soon",
            CLAUDE_OAUTH_TOKENS="sk-ant-api03-made-up-in-the-wrong-place",
            LITELLM_MASTER_KEY=STATIC_TOKEN,
        )
    told = str(failure.value)
    assert "ended with 1" in told
    for name in (
        "config.yaml",
        "CLAUDE_TOKEN_MODE",
        "CLAUDE_TOKEN_COOLDOWN_SECONDS",
        "CLAUDE_OAUTH_TOKENS",
        "LITELLM_MASTER_KEY",
    ):
        assert name in told
    assert "sk-ant-api03-made-up" not in told
    assert STATIC_TOKEN not in told


def test_secrets_may_come_from_files(start_proxy, tmp_path, upstream):
    """Each secret, the providers' keys among them, may stand in a file that NAME_FILE names."""
    values = {
        "PROXY_STATIC_TOKEN": "sk-made-up-from-a-file",
        "LITELLM_MASTER_KEY": "sk-made-up-master-from-a-file",
        "CLAUDE_OAUTH_TOKENS": f"anna={TOKENS['a']}\n",
        "ZAI_API_KEY": "made-up-zai-from-a-file",
    }
    files = {}
    for name, value in values.items():
        (tmp_path / name).write_text(value)
        files |= {f"{name}_FILE": str(tmp_path / name), name: ""}
    proxy = start_proxy(**files)
    upstream.answer = by_credential()
    token = values["PROXY_STATIC_TOKEN"]
    assert proxy.ask(question("claude-sonnet-5"), token=token).status_code == 200
    assert proxy.ask(question("glm"), token=token).status_code == 200
    assert [seen.credential for seen in upstream.seen] == [TOKENS["a"], values["ZAI_API_KEY"]]
    admin = {"x-litellm-api-key": values["LITELLM_MASTER_KEY"]}
    assert httpx.get(f"{proxy.url}/model/info", headers=admin, trust_env=False).status_code == 200
