"""The context meter on what Claude Code really sends: a count and the message's own usage say the same of another model."""

import json

import pytest
import upstream as up
from conftest import by_provider
from processes import question, streamed
from test_meter import FEW_TOKENS, FIXTURES, another_tokenizer, captured, providers_number

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="no recorded requests of Claude Code's here")
CALIBRATING = "first_turn_interactive"


def counting(count):
    """A provider of chat completions that names its number; without ``count`` one that names none."""

    def answer(seen: up.Seen) -> up.Reply:
        reply = up.openai_reply(seen, up.text("hello"))
        said = [chunk for chunk in reply.chunks or () if b'"usage"' not in chunk]
        usage = {"prompt_tokens": providers_number(seen.json, count), "completion_tokens": 2} if count else None
        last = {"choices": [], "usage": usage}
        return up.Reply(headers=reply.headers, chunks=[*said[:-1], b"data: %s\n\n" % json.dumps(last).encode(), said[-1]])

    return answer


def told(proxy, body):
    """The tokens of a request: as counted before, and as its message has them at the end."""
    asked = {name: body[name] for name in ("messages", "system", "tools") if name in body}
    message = proxy.ask(question("gpt") | asked | {"stream": True})
    usage = streamed(message)[-2]["usage"]
    counted = proxy.ask({"model": "gpt"} | asked, path="/v1/messages/count_tokens").json()["input_tokens"]
    return counted, usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]


@pytest.mark.parametrize("names", [False, True], ids=["names-none", "names-its-number"])
def test_a_count_and_a_message_agree(start_proxy, upstream, names):
    """Within a tenth on each request; to the token where the provider names no number."""
    proxy = start_proxy()
    upstream.answer = by_provider(gpt=counting(another_tokenizer() if names else None))
    bodies = captured()
    told(proxy, bodies[CALIBRATING])
    for name, body in bodies.items():
        counted, said = told(proxy, body)
        assert abs(counted - said) <= (max(said / 10, FEW_TOKENS) if names else 0), name
