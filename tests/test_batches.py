"""proxy/batches.py: what is refused before a batch is sent, what is sent, and what it may cost at most."""

import json

import pytest

from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.model_access import Limits
from claude_proxy.config.models import ActiveConfig
from claude_proxy.proxy import batches
from claude_proxy.proxy.batches import IMAGE_TOKENS, SEARCHES, checked_batch, deployments_of, most_of, parsed_batch, total

pytestmark = pytest.mark.anyio

WINDOW = 200_000
ENTRIES = {
    "claude-x": {"model": "anthropic/claude-x"},
    "mine": {"model": "anthropic/claude-y"},
    "glm": {"model": "anthropic/glm-5", "api_base": "http://127.0.0.1:9/glm"},
}
CONFIG = {"model_list": [{"model_name": name, "litellm_params": params} for name, params in ENTRIES.items()]}
LIMITS = Limits.of({"claude_proxy": {"users": {"anna": {"models": ["claude-x"]}}}})
HI = [{"role": "user", "content": "hi"}]


def config():
    return ActiveConfig(CONFIG, {}, lookup=lambda name: [ENTRIES[name]] if name in ENTRIES else [])


def params(model="claude-x", **more):
    return {"model": model, "max_tokens": 100, "messages": HI} | more


def raw(*several):
    entries = [{"custom_id": str(number), "params": one} for number, one in enumerate(several)]
    return json.dumps({"requests": entries}).encode()


def read(*several, user="ben", limits=LIMITS):
    body = parsed_batch(raw(*several))
    found = deployments_of(body, config())
    return checked_batch(body, user, found, limits, dict.fromkeys(found, WINDOW))


def test_what_is_sent():
    """Each model has the name that Anthropic knows; everything else is the client's, without the tags for the proxy."""
    batch = read(params(), params("mine", tags={"project": "p"}), params("claude-proxy/claude-x"))
    sent = [entry["params"] for entry in json.loads(batch.body)["requests"]]
    assert sent == [params(), params("claude-y"), params()]
    assert (batch.count, batch.names) == (3, {"claude-x", "mine"})
    assert batch.models == {"claude-x": ("claude-x", "anthropic/claude-x"), "claude-y": ("mine", "anthropic/claude-y")}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "JSON object"),
        (b'{"requests":[]}', "list of 1 to"),
        (b'{"requests":{}}', "list of 1 to"),
        (b'{"requests":[7]}', "requests.0.params.model"),
        (b'{"requests":[{"params":{"model":7}}]}', "requests.0.params.model"),
        (raw(params(), params("x" * 300)), "requests.1.params.model"),
        (raw(params(), params("unknown")), "requests.1.params.model: model: unknown is not served"),
        (raw(params("glm")), "glm is not Claude"),
        (raw(params(temperature=1)).replace(b'"temperature": 1', b'"temperature": 1e999'), "not JSON"),
        (raw(params(x=0)).replace(b'"x": 0', b'"x": ' + b"[" * 500 + b"]" * 500), "nested"),
        (b'{"requests":' + b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_refused(body, words):
    """A batch with anything that is no request to Claude is a 400 that names its place, and nothing of it is sent."""
    with pytest.raises(Refused, match=words) as refused:
        deployments_of(parsed_batch(body), config())
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "forbidden",
    [
        params("mine"),
        params(fallbacks=[{"model": "mine"}]),
        params(tools=[{"type": "advisor_x", "name": "a", "model": "mine"}]),
    ],
)
def test_a_model_that_the_user_may_not_use(forbidden):
    """The models of every request are checked, those that it names for Claude too; other users may use them."""
    with pytest.raises(Refused, match=r"requests\.1\.params: model: Anna may not use mine"):
        read(params(), forbidden, user="Anna")
    assert read(params(), forbidden).count == 2


def test_the_number_of_models(monkeypatch):
    """A batch names a bounded number of models, because the store keeps their names."""
    monkeypatch.setattr(batches, "MAX_MODELS", 1)
    with pytest.raises(Refused, match="at most 1 models"):
        read(params(), params("mine"))


def test_files_of_all_requests():
    """The files of all requests are those of the batch."""
    upload = [{"role": "user", "content": [{"type": "container_upload", "file_id": "file_a"}]}]
    assert read(params(), params(messages=upload)).files == {"file_a"}


def content(*blocks):
    return params(messages=[{"role": "user", "content": [*blocks]}])


def test_the_most_of_a_text():
    """The estimate of a text is above what any tokenizer makes of it, and the output is what the client allows."""
    found = most_of(content({"type": "text", "text": "word " * 3000}), WINDOW)
    assert 4000 < found.input < 6000
    assert (found.output, found.service_tier) == (100, "batch")
    assert most_of(content({"type": "text", "text": "\u4e2d" * 3000}), WINDOW).input >= 3000
    assert most_of(params(max_tokens=10**9), WINDOW).output == WINDOW
    assert most_of(params(max_tokens=True), WINDOW).output == 0
    assert most_of(content({"type": "image", "source": {}}), WINDOW).input >= IMAGE_TOKENS


@pytest.mark.parametrize(
    "unknown",
    [
        content({"type": "document", "source": {"type": "base64", "data": ""}}),
        content({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
        content({"type": "image", "source": {"type": "file", "file_id": "file_a"}}),
        content({"type": "container_upload", "file_id": "file_a"}),
        params(tools=[{"type": "code_execution_20250825", "name": "code_execution"}]),
        params(mcp_servers=[{"type": "url", "url": "https://example.com"}]),
        content({"type": "text", "text": "x" * 3 * WINDOW}),
    ],
)
def test_an_input_of_unknown_size_is_a_whole_window(unknown):
    """What a request does not show, and what is longer than the window, is the window."""
    assert most_of(unknown, WINDOW).input == WINDOW


@pytest.mark.parametrize(
    "tool", [{"name": "n", "input_schema": {}}, {"type": "custom", "name": "n"}, {"type": "bash_20250124"}]
)
def test_a_tool_of_the_client_adds_nothing_unknown(tool):
    """A tool that the client executes adds nothing to a batch."""
    assert most_of(params(tools=[tool]), WINDOW).input < 200


def test_what_else_decides_the_price():
    """What is cached is priced as written for an hour, if it is; web searches, speed and region have their prices."""
    cached = [{"type": "text", "text": "s" * 300, "cache_control": {"type": "ephemeral"}}]
    found = most_of(params(system=cached), WINDOW)
    assert (found.input, found.cache_write_1h) == (0, 0)
    assert found.cache_write > 100
    cached[0]["cache_control"]["ttl"] = "1h"
    found = most_of(params(system=cached), WINDOW)
    assert found.cache_write_1h == found.cache_write > 100
    search = {"type": "web_search_20250305", "name": "web_search"}
    found = most_of(params(tools=[search, search | {"max_uses": 3}], speed="fast", inference_geo="us"), WINDOW)
    assert (found.web_searches, found.speed, found.region) == (SEARCHES + 3, "fast", "us")


async def test_the_sum(monkeypatch):
    """A batch costs what its requests cost; one without a known price costs nothing."""
    monkeypatch.setattr(batches, "SUMMED_AT_ONCE", 2)
    most = read(params(), params("mine"), params()).most
    assert await total(most, lambda name, served, usage: None if name == "mine" else usage.output) == 200
