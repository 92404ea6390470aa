"""Clients that mean harm, through the real proxy: nobody else is asked, no secret leaves, and the proxy goes on serving.

Each group counts what it tried. After each the proxy still answers, and a host of the attacker's was never asked.
"""

import gzip
import itertools
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import upstream as up
from conftest import API_KEY, CLIENT_TOKEN, PROVIDER_KEYS, TOKENS, by_provider, module_proxy
from processes import MASTER_KEY, ROOT, STATIC_TOKEN, Proxy, answer_text, question, validated

from claude_proxy.anthropic.messages import FOR_PROVIDERS

CLAUDE, GLM, GPT = "claude-sonnet-5", "glm", "gpt"
MODELS = {CLAUDE: "from claude", GLM: "from glm", GPT: "from gpt"}
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
LIMITED = "sk-made-up-token-of-anna-who-is-limited"
SECRETS = (*TOKENS.values(), API_KEY, *PROVIDER_KEYS.values(), MASTER_KEY, "sk-ant-api03-made-up-deployment")
MARK = "smuggled"


@pytest.fixture(scope="module")
def attacker() -> Iterator[up.Upstream]:
    """A host that no configuration names: whatever asks it has been led there by a request."""
    server = up.Upstream(lambda seen: up.anthropic_reply(seen, up.text("from the attacker")))
    yield server
    server.close()


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from module_proxy(
        shared_upstream, tmp_path_factory.mktemp("hostile"), CLAUDE_API_KEYS=API_KEY, PROXY_USER_TOKENS=f"anna={LIMITED}"
    )


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    headers = {"x-litellm-api-key": STATIC_TOKEN, "content-type": "application/json"}
    hooks = {"response": [validated]}
    with httpx.Client(base_url=proxy.url, headers=headers, trust_env=False, timeout=60, event_hooks=hooks) as one:
        yield one


@pytest.fixture(autouse=True)
def nothing_is_lost(proxy: Proxy, upstream: up.Upstream, attacker: up.Upstream) -> Iterator[None]:
    """After every group: the attacker was not asked, each credential was seen by its own host alone, all models answer."""
    yield
    assert attacker.seen == []
    for seen in upstream.seen:
        # LiteLLM asks a provider for its models of its own accord, with that provider's key.
        has_key = seen.method == "POST" or seen.path.endswith("/models")
        own = {*TOKENS.values(), API_KEY} if seen.is_claude else {PROVIDER_KEYS[key_of(seen)]} if has_key else set()
        assert {secret for secret in SECRETS if secret in seen.everything} <= own, seen.path
    upstream.answer = by_provider()
    for model, words in MODELS.items():
        answer = proxy.ask(question(model))
        assert said(answer) == words
    assert not [secret for secret in (*SECRETS, STATIC_TOKEN, CLIENT_TOKEN) if secret in proxy.output]


def key_of(seen: up.Seen) -> str:
    return "OPENAI_API_KEY" if seen.path.startswith("/openai") else "ZAI_API_KEY"


def figure(what: str, tried: int, **more: Any) -> None:
    rest = "".join(f", {name.replace('_', ' ')} {value}" for name, value in more.items())
    print(f"{what}: {tried} tried, 0 lost{rest}")


def said(answer: httpx.Response) -> str:
    """The text of an answer; of an error, what it is."""
    return answer_text(answer) if answer.status_code == 200 else f"HTTP {answer.status_code}: {answer.text}"


def is_clean(answer: httpx.Response) -> bool:
    """Whether an answer is a success or a refusal in Anthropic's shape that is the client's fault, without any secret in it."""
    if any(secret in f"{answer.headers} {answer.text}" for secret in SECRETS):
        return False
    if answer.status_code == 200:
        return True
    return 400 <= answer.status_code < 500 and answer.json()["type"] == "error"


# --- LiteLLM's own parameters ------------------------------------------------------------------------------------------------


def parameters() -> list[str]:
    """Every parameter that LiteLLM knows, by the table that tests/test_contract.py compares with LiteLLM, and a few more."""
    table = (ROOT / "claude_proxy" / "check" / "litellm_names.txt").read_text(encoding="utf-8")
    (section,) = re.findall(r"\[litellm_params\]\n(.*?)(?:\n\n|\Z)", table, re.DOTALL)
    more = {
        "base_url", "extra_headers", "extra_body", "extra_query", "headers", "user_config", "router_settings_override",
        "context_window_fallbacks", "content_policy_fallbacks", "default_fallbacks", "litellm_params", "mock_testing_fallbacks",
        "mock_testing_context_fallbacks", "mock_delay", "mock_tool_calls", "specific_deployment", "model_group", "deployment",
        "no-log", "mcp_servers", "user", "client", "http_client", "aclient", "api_type", "input_cost_per_token", "logger_fn",
        "success_callback", "failure_callback", "callbacks", "litellm_logging_obj", "standard_callback_dynamic_params",
        "_is_async", "batch_models", "models", "enforced_params", "policies", "disable_fallbacks", "proxies", "transport",
        "endpoint", "url",
    }  # fmt: skip
    return sorted({*section.split(), *more} - FOR_PROVIDERS - {"self"})


def bait(attacker: up.Upstream) -> list[Any]:
    """Values of which one would fit whatever takes a parameter."""
    url = attacker.other_url
    deployment = {"model": "anthropic/x", "api_base": url, "base_url": url, "api_key": MARK, "custom_llm_provider": "openai"}
    return [
        url,
        [{**deployment, "litellm_params": deployment, "model_name": GLM}, {"*": [deployment]}, {GLM: [deployment]}],
        {
            **deployment,
            "url": url,
            "authorization": f"Bearer {MARK}",
            "model_list": [{"model_name": GLM, "litellm_params": deployment}],
        },
    ]


def test_a_parameter_of_litellms_does_nothing_in_a_body(client, upstream, attacker):
    """No parameter that LiteLLM knows moves a request, a key or an answer: at the top, in metadata, or given twice."""
    names, baits, tried = parameters(), bait(attacker), 0
    assert len(names) > 200
    groups = [names[start : start + 12] for start in range(0, len(names), 12)]
    for (place, group), (model, words) in itertools.product(enumerate(groups), MODELS.items()):
        value = baits[place % len(baits)]
        switches = dict.fromkeys(group, value)
        body = question(model) | switches | {"metadata": {"user_id": "u", **switches}, "litellm_metadata": switches}
        twice = json.dumps(switches)[1:-1].encode() + b"," + json.dumps(body)[1:].encode()
        for path, content in ((MESSAGES, b"{" + twice), (COUNT, json.dumps(body).encode())):
            answer = client.post(path, content=content)
            tried += len(group)
            assert answer.status_code == 200, (group, answer.text)
            assert path == COUNT or said(answer) == words, group
    others = [seen for seen in upstream.seen if not seen.is_claude]
    assert not [seen for seen in others if attacker.other_url in seen.everything or MARK in seen.everything]
    figure("parameters in a body", tried, parameters=len(names))


DANGEROUS = [
    "api_base", "base_url", "api_key", "custom_llm_provider", "extra_headers", "headers", "extra_body", "fallbacks",
    "user_config", "context_window_fallbacks", "litellm_credential_name", "mock_response", "provider_specific_header",
    "model_list", "client", "router_settings_override", "litellm_params", "guardrails", "prompt_id", "mcp_servers", "timeout",
    "num_retries", "cache",
]  # fmt: skip


def test_each_dangerous_parameter_by_itself(client, upstream, attacker):
    """What would redirect a key, one parameter at a time, with each value that could do it, and streamed as well."""
    tried = 0
    ways = zip(itertools.product(DANGEROUS, [*bait(attacker), 0.001]), itertools.cycle(MODELS), strict=False)
    for (name, value), model in ways:
        answer = client.post(MESSAGES, json=question(model, **{name: value}, stream=tried % 2 == 0))
        tried += 1
        assert said(answer) == MODELS[model], name
    figure("dangerous parameters alone", tried)


def test_a_tool_that_litellm_would_run_is_not_run(client, upstream, attacker):
    """Tools, documents and images that name a host are for the provider to read; the proxy asks none of them."""
    url = attacker.other_url
    tools = [
        {"type": "mcp", "server_label": "x", "server_url": url, "require_approval": "never"},
        {"type": "mcp", "server_url": "litellm_proxy", "headers": {"x": "y"}},
        {"type": "function", "function": {"name": "litellm_web_search", "parameters": {}}, "server_url": url},
        {"type": "web_search_20250305", "name": "web_search", "api_base": url},
        {"type": "file_search", "vector_store_ids": [url]},
        {"type": "code_interpreter", "container": {"url": url}},
    ]
    blocks = [
        {"type": "image", "source": {"type": "url", "url": f"{url}/x.png"}},
        {"type": "document", "source": {"type": "url", "url": f"{url}/x.pdf"}},
        {"type": "file", "file": {"file_id": f"{url}/x", "file_data": url}},
        {"type": "image_url", "image_url": {"url": f"{url}/x.png"}},
        {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [{"type": "image", "source": {"type": "url", "url": f"{url}/x"}}],
        },
    ]
    tried = 0
    for model, path in itertools.product(MODELS, (MESSAGES, COUNT)):
        for tool in tools:
            answer = client.post(path, json=question(model, tools=[tool]))
            tried += 1
            assert answer.status_code < 500, (tool, answer.text)
        for block in blocks:
            answer = client.post(path, json=question(model) | {"messages": [{"role": "user", "content": [block]}]})
            tried += 1
            assert answer.status_code < 500, (block, answer.text)
    figure("tools and blocks that name a host", tried)


def test_headers_and_queries_move_nothing(client, upstream, attacker):
    """No header and no query of LiteLLM's, of a reverse proxy's or of another provider's changes where a request goes."""
    url = attacker.other_url
    host = url.removeprefix("http://")
    switches = [f"x-litellm-{name.replace('_', '-')}" for name in parameters()[::3] if name != "api_key"]
    switches += [
        "x-litellm-model", "x-litellm-tags", "x-litellm-timeout", "x-litellm-stream-timeout", "x-litellm-num-retries",
        "x-litellm-spend-logs-metadata", "x-litellm-enable-message-redaction", "x-litellm-customer-id", "x-litellm-end-user-id",
        "x-mcp-servers", "x-mcp-auth", "x-mcp-access-groups", "x-mcp-toolset-id", "x-api-base", "api-base", "x-base-url",
        "x-forwarded-host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-prefix",
        "x-forwarded-server", "forwarded", "x-original-url", "x-rewrite-url", "x-original-host", "x-host",
        "x-http-method-override", "x-real-ip", "via", "true-client-ip", "cf-connecting-ip", "anthropic-base-url",
        "anthropic-dangerous-direct-browser-access", "openai-organization", "openai-project", "litellm-changed-by",
        "litellm-disable-message-redaction", "x-pass-authorization", "x-pass-api-base", "destination", "referer", "origin",
        "proxy-authorization", "azure-ad-token", "aws-region", "helicone-auth", "llm_provider-host",
    ]  # fmt: skip
    values = [url, f"host={host};proto=http", "/key/generate", f'{{"api_base":"{url}","api_key":"{MARK}"}}', "0.0001"]
    tried = 0
    for (place, name), (model, words) in zip(enumerate(switches), itertools.cycle(MODELS.items()), strict=False):
        answer = client.post(
            f"{MESSAGES}?{name}={url}&api_base={url}&model=gpt",
            json=question(model),
            headers={name: values[place % len(values)]},
        )
        tried += 1
        assert said(answer) == words, name
        assert url not in str(answer.headers)
    for lie in (host, "api.anthropic.com", "127.0.0.1:1", "evil.invalid/../x", "[::1]", "a" * 5000):
        for model, words in MODELS.items():
            answer = client.post(MESSAGES, json=question(model), headers={"host": lie})
            tried += 1
            assert said(answer) == words, lie
    others = [seen for seen in upstream.seen if not seen.is_claude]
    assert not [seen for seen in others if url in seen.everything]
    for name in ("x-forwarded-host", "forwarded", "x-original-url", "x-rewrite-url", "x-http-method-override"):
        for path in ("/", "/health/readiness", "/v1/models"):
            answer = client.get(path, headers={name: "/key/generate", "x-litellm-api-key": "wrong"})
            tried += 1
            assert answer.status_code == (401 if path == "/v1/models" else 200)
    figure("headers and queries", tried, headers=len(switches))


# --- Bodies ------------------------------------------------------------------------------------------------------------------


def memory(proxy: Proxy) -> int:
    """Bytes of memory that the proxy's process holds."""
    status = Path(f"/proc/{proxy.process.pid}/status").read_text(encoding="utf-8")
    return 1024 * int(re.findall(r"VmRSS:\s*(\d+)", status)[0])


def test_large_bodies(proxy, client):
    """A body of 50 MB is refused in Anthropic's words, with a length or without, and its memory comes back."""
    size, tried = 50_000_000, 0
    client.post(MESSAGES, json=question(GLM))
    before = memory(proxy)

    def parts() -> Iterator[bytes]:
        yield b'{"model":"glm","x":"'
        yield from itertools.repeat(b"x" * 1_000_000, size // 1_000_000)

    for content, path in itertools.product((b"x" * size, parts), (MESSAGES, COUNT, "/anthropic/v1/messages")):
        answer = client.post(path, content=content() if callable(content) else content)
        tried += 1
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")
        assert answer.json()["error"]["message"] == "Request exceeds the maximum size"
    for part in (b"[],", b"{},", b"1,", b'"ab",', b'{"a":1},'):
        body = b'{"model":"glm","messages":[%s1]}' % (part * (39_000_000 // len(part)))
        answer = client.post(MESSAGES, content=body)
        tried += 1
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")
    for path in (MESSAGES, "/key/generate"):  # who has no token is refused before a byte of it is kept
        answer = client.post(path, content=b"x" * size, headers={"x-litellm-api-key": "wrong"})
        tried += 1
        assert answer.status_code == 401
    bomb = gzip.compress(b'{"model":"glm","x":"' + b"0" * size)
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        answer = client.post(MESSAGES, content=bomb, headers={"content-encoding": coding})
        tried += 1
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, "The body is not JSON.")
    kept = memory(proxy) - before
    assert kept < size, "as much as one of these bodies has stayed"
    figure("large bodies", tried, memory_kept=f"{kept / 1e6:.0f} MB")


def nested(depth: int) -> Iterator[bytes]:
    """Bodies with so much inside each other, in every place that somebody looks into."""
    lists, objects = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth
    for deep in (lists, objects):
        yield b'"unknown":' + deep + b',"messages":[{"role":"user","content":"x"}]'
        yield b'"messages":[{"role":"user","content":[{"type":"text","text":"x","y":' + deep + b"}]}]"
        yield (
            b'"messages":[{"role":"user","content":"x"}],"tools":[{"name":"n","input_schema":{"type":"object","x":'
            + deep
            + b"}}]"
        )
        yield b'"messages":[{"role":"user","content":"x"}],"metadata":{"user_id":' + json.dumps(deep.decode()).encode() + b"}"
    yield b'"messages":' + lists
    yield b'"system":' + lists + b',"messages":[{"role":"user","content":"x"}]'


def test_deep_bodies(client):
    """However much stands inside each other, a body is answered or refused as the client's fault."""
    tried = refused = 0
    for depth, model in itertools.product((50, 395, 405, 970, 990, 100_000), MODELS):
        for rest in nested(depth):
            answer = client.post(
                COUNT if tried % 4 == 0 else MESSAGES, content=b'{"model":"%s","max_tokens":9,%s}' % (model.encode(), rest)
            )
            tried += 1
            refused += answer.status_code != 200
            assert is_clean(answer), (depth, model, rest[:90], answer.text[:300])
    figure("deep bodies", tried, refused=refused)


HELLO = b'"max_tokens":9,"messages":[{"role":"user","content":"x"}]'
ODD_BODIES = [
    b"", b"{", b"null", b"[]", b'""', b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"{}", b'{"model":null}', b'{"model":[]}',
    b'{"model":""}', b'{"model":"MODEL","max_tokens":NaN,"messages":[]}',
    b'{"model":"MODEL","temperature":Infinity,' + HELLO + b"}", b'{"model":"MODEL","temperature":-Infinity,' + HELLO + b"}",
    b'{"model":"MODEL","temperature":1e999,' + HELLO + b"}", b'{"model":"MODEL","u":NaN,' + HELLO + b"}",
    b'{"model":"MODEL","u":' + b"9" * 1_000_000 + b"," + HELLO + b"}",
    b'{"model":"MODEL","u":0.' + b"9" * 1_000_000 + b"," + HELLO + b"}",
    b'{"model":"MODEL","u":"' + b"x" * 1_000_000 + b'",' + HELLO + b"}",
    b'{"model":"MODEL","messages":[{"role":"user","content":"' + b"x" * 1_000_000 + b'"}],"max_tokens":9}',
    b'{"model":"MODEL","metadata":{"user_id":"' + b"x" * 1_000_000 + b'"},' + HELLO + b"}",
    b'{"model":"MODEL","tools":[{"name":"' + b"x" * 1_000_000 + b'","input_schema":{}}],' + HELLO + b"}",
    b'{"model":"MODEL","stop_sequences":["' + b"x" * 1_000_000 + b'"],' + HELLO + b"}",
    b'{"model":"MODEL","system":"' + b"x" * 1_000_000 + b'",' + HELLO + b"}",
    b'{"model":"MODEL","messages":[{"role":"user","content":"\\ud800"}],"max_tokens":9}',
    b'{"model":"MODEL","messages":[{"role":"user","content":"\xed\xa0\x80"}],"max_tokens":9}',
    b'{"model":"MODEL","messages":[{"role":"user","content":"\xff"}],"max_tokens":9}',
    b'{"model":"MODEL","u":"\\ud800",' + HELLO + b"}", b'{"model":"MODEL","model":"MODEL",' + HELLO + b"}",
    b'{"model":"gpt","model":"MODEL",' + HELLO + b"}", b'{"model":"MODEL","mode\\u006c":"glm",' + HELLO + b"}",
    b'\xef\xbb\xbf{"model":"MODEL",' + HELLO + b"}", b' \r\n\t{"model":"MODEL",' + HELLO + b"} \n",
    b'{"model":"MODEL",' + HELLO + b"}{}", b'{"model":"MODEL",' + HELLO + b"}\x00",
    b'{"model":"MODEL",' + HELLO + b',"stream":"true"}', b'{"model":"MODEL",' + HELLO + b',"stream":1}',
    b'{"model":"MODEL","messages":{},"max_tokens":9}', b'{"model":"MODEL","messages":"x","max_tokens":9}',
    b'{"model":"MODEL","messages":[]}', b'{"model":"MODEL","messages":[null,1,"x",[]],"max_tokens":9}',
    b'{"model":"MODEL","max_tokens":"x","messages":[{"role":"x","content":{}}]}',
    b'{"model":"MODEL","system":{},"tools":{},"metadata":[],"thinking":[],"tool_choice":[],"stop_sequences":{},' + HELLO + b"}",
    b'{"model":"MODEL","tools":[null,1,"x",[],{}],' + HELLO + b"}",
    b'{"__proto__":{},"constructor":1,"model":"MODEL",' + HELLO + b"}",
]  # fmt: skip
CODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-32-be", "utf-7", "utf-8-sig")


def test_odd_bodies(client):
    """Bodies of any coding and kind are answered, or refused as the client's fault; never is it the proxy that breaks."""
    tried = refused = 0
    bodies = [*ODD_BODIES, *(json.dumps(question("MODEL")).encode(coding) for coding in CODINGS)]
    for raw, (model, path) in itertools.product(bodies, [*((model, MESSAGES) for model in MODELS), (GLM, COUNT)]):
        spelled = [
            (b"MODEL".decode().encode(coding), model.encode(coding))
            for coding in ("utf-8", "utf-16-le", "utf-32-le", "utf-32-be")
        ]
        content = raw
        for before, after in spelled:
            content = content.replace(before, after)
        answer = client.post(path, content=content)
        tried += 1
        refused += answer.status_code != 200
        assert is_clean(answer), (raw[:90], model, path, answer.status_code, answer.text[:300])
    figure("odd bodies", tried, refused=refused)


# --- Names, texts and the log ------------------------------------------------------------------------------------------------

ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x00", "\x1b[2J\x1b[1;31m", "\x9b2J", "\u202e"]


def test_names_of_models(client, proxy, upstream):
    """A name with a line's end or without an end is refused at once; none adds a header, or a line to the log."""
    tried = 0
    for (place, end), base in itertools.product(enumerate(ENDS), ("claude-x", "nobody", "glm", "anthropic/x")):
        answer = client.post((MESSAGES, COUNT)[place % 2], json=question(f"{base}{end}INJECTED: 1{end}x"))
        tried += 1
        assert answer.status_code == 400, (base, end)
        assert "injected" not in answer.headers
    long = [
        "claude-" + "x" * 100_000,
        "anthropic/claude-" + "x" * 100_000,
        "claude-" + "/" * 100_000,
        "claude-proxy/" * 8000 + "glm",
    ]
    for name in [*long, "claude-" + "é" * 300, "\ud800", "claude-\udcff"]:
        answer = client.post(MESSAGES, content=json.dumps(question(name)))
        tried += 1
        assert answer.status_code == 400
    tricks = [
        "openai/gpt-x", "claude-a,glm", "anthropic/openai/gpt", "anthropic/../glm", "claude-x?api_base=x", "*", "GLM",
        "glm/../gpt", "custom_openai/x", "vertex_ai/x", "os.environ/ZAI_API_KEY", "claude-os.environ/ZAI_API_KEY",
        "claude-{0.__class__}", "claude-%s%n", "claude-proxy/claude-proxy/glm", "claude-*", "bedrock/x", "azure/x", "ollama/x",
        "claude-'; DROP TABLE x; --", "claude-${x}",
    ]  # fmt: skip
    for name in tricks:
        answer = client.post(MESSAGES, json=question(name))
        tried += 1
        assert answer.status_code in (200, 404), name
        assert answer.status_code == 404 or said(answer) == (
            "from glm" if name.endswith("/glm") and "proxy" in name else "from claude"
        )
    assert_one_line_each(proxy)
    for path in ("/pool", "/metrics", "/v1/models"):
        assert client.get(path).status_code == 200
    figure("names of models", tried)


def assert_one_line_each(proxy: Proxy) -> None:
    lines = proxy.output.splitlines()
    assert not [line for line in lines if line.strip().startswith("INJECTED")]
    assert not [line for line in lines if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", line)]


def test_texts_of_an_upstream(client, proxy, upstream):
    """What an upstream puts into an error or a header adds no header to the answer and no line to the log."""
    tried = 0

    def hostile(end: str) -> Any:
        def answer(seen: up.Seen) -> up.Reply:
            error = {
                "type": "error",
                "error": {"type": f"x{end}INJECTED: 1", "message": f"no{end}INJECTED: 1{end}{end}INJECTED"},
            }
            headers = {"content-type": "application/json", "retry-after": "1 x-injected: 1"}
            # LiteLLM's own client takes such a header for a broken connection, and asks again.
            odd = {} if seen.path.startswith("/openai") else {"request-id": "é\xff"}
            return up.Reply(400, headers | odd, json.dumps(error).encode())

        return answer

    for end, model in itertools.product(ENDS, MODELS):
        answers = hostile(end)
        upstream.answer = by_provider(claude=answers, glm=answers, gpt=answers)
        for stream in (False, True):
            answer = client.post(MESSAGES, json=question(model, stream=stream))
            tried += 1
            assert answer.status_code == 400, (end, model, answer.text)
            assert answer.json()["type"] == "error"
            assert not [name for name in answer.headers if "injected" in name]
    assert_one_line_each(proxy)
    figure("texts of an upstream", tried)


def test_the_log_has_one_line_for_each_request(client, proxy):
    """Whatever a request holds, the log of requests grows by one line for it."""
    names = ["glm", "claude-x", "nobody", "claude-'\"\\", "claude-é", "nobody model=glm status=200 user=admin"]

    def ask(name):
        client.post(MESSAGES, json=question(name), headers={"user-agent": "x status=200", "x-claude-code-session-id": "a b"})

    ask("the-first")
    proxy.logged("model=the-first ")
    before = len(proxy.logged("claude_proxy.requests:"))
    for name in names:
        ask(name)
    proxy.logged("claude_proxy.requests:", before + len(names))
    ask("the-last")
    proxy.logged("model=the-last ")
    assert len(proxy.logged("claude_proxy.requests:")) == before + len(names) + 1
    assert " user=admin " not in proxy.output
    figure("lines of the log", len(names))


# --- Raw requests ------------------------------------------------------------------------------------------------------------

SENTINEL = b"GET /health/liveliness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
WAIT = 3.0


def exchange(proxy: Proxy, data: bytes) -> tuple[list[int], bytes]:
    """Send bytes as they are and return the statuses of the answers, and all that came until the server was silent."""
    came = bytearray()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT) as connection:
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                came += part
        except OSError:  # it closes on what it does not read, or waits for more
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", bytes(came))], bytes(came)


def request(
    target: bytes, method: bytes = b"POST", *, token: str | None = STATIC_TOKEN, body: bytes = b"", headers: bytes = b""
) -> bytes:
    named = b"" if token is None else b"x-litellm-api-key: %s\r\n" % token.encode()
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s%s\r\n%s" % (method, target, named, length, headers, body)


BODY = json.dumps(question(GLM)).encode()
TARGETS = [
    b"/v1/messages/../../config/update", b"/anthropic/../key/generate", b"/anthropic//v1/messages", b"//v1/messages",
    b"/v1//messages", b"//key/generate", b"/v1/messages/..;/key/generate", b"/v1/messages;x=/key/generate", b"/./key/generate",
    b"/v1/./messages", b"/v1/messages/%2e%2e/%2e%2e/key/generate", b"/%2e%2e/key/generate",
    b"/v1%2fmessages%2f..%2f..%2fkey%2fgenerate", b"/%6bey/generate", b"/health/readiness/../../key/generate",
    b"/health/readiness%2f..%2f..%2fkey%2fgenerate", b"/health/readiness/..%2f..%2fkey/generate",
    b"/health/readiness;/key/generate", b"/health/readiness%00/key/generate", b"/health/readiness%0d%0a/key/generate",
    b"/%00/key/generate", b"/key/generate/", b"/key/generate/.", b"/key/generate%20", b"/key/generate.", b"/KEY/generate",
    b"/Key/Generate", b"/key%2fgenerate", b"/anthropic/key/generate", b"/anthropic/anthropic/key/generate",
    b"/anthropic%2f..%2fkey/generate", b"/ANTHROPIC/v1/messages", b"/V1/MESSAGES", b"/v1/messages.", b"/v1/messages%20",
    b"/v1/messages%2fcount_tokens", b"/v1/messages%00", b"/v1/messages/batches", b"http://127.0.0.1/key/generate",
    b"http://evil.invalid/v1/messages", b"https://api.anthropic.com/v1/messages", b"*", b"/*", b"?x", b"/?x",
    b"/#/key/generate", b"/v1/messages#/key/generate", b"/v1/messages?/../key/generate", b"/v1/messages?x=%0d%0aINJECTED:1",
    b"\\key\\generate", b"/\\key/generate", b"/..\\key/generate", b"/%5ckey/generate", b"/%c0%ae%c0%ae/key/generate",
    b"/%ff/key", b"/%", b"/%zz", b"/config/update", b"/ui/../key/generate", b"/ui%2f..%2fkey/list",
    b"/litellm-asset-prefix/../key/list", b"/.well-known/../key/list", b"/mcp/../key/list", b"/openapi.json", b"/docs",
    b"/redoc", b"/routes", b"/debug/asyncio-tasks", b"/memory-usage", b"/v1/models/../../model/info", b"/test",
    b"/pool/../model/info", b"/metrics/../model/info", b"/models/%2e%2e/model/info", b"/usage.csv", b"/usage.csv/",
    b"/model/info?x", b"/get/x", b"/" + b"a" * 30_000, b"/" + b"%2e%2e/" * 3000 + b"key/generate",
    b"/v1/messages" + b"/" * 20_000, b"/" + b"/" * 20_000 + b"key/generate", "/kéy".encode(), b"/\xff\xfe", b"/v1/messages\x01",
    b"/v1/mess\tages", b"",
]  # fmt: skip
METHODS = [
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"post",
    b"MADE-UP",
    b"GET\tX",
    b"",
]
# What is open to nobody in particular: by these first bytes of an answer's body it is told from administration.
OPEN_BODIES = (b"claude-proxy\n", b"")


def body_of(came: bytes) -> bytes:
    return came.partition(b"\r\n\r\n")[2]


def test_paths(proxy, upstream):
    """However a path is spelled: without a token nothing but the open routes answers, and with one no administration."""
    tried, statuses = 0, {}
    ways = [
        *itertools.product(TARGETS, METHODS[:2]),
        *itertools.product([b"/key/generate", b"/v1/messages", b"/config/update"], METHODS),
    ]
    for (target, method), token in itertools.product(ways, (None, STATIC_TOKEN, LIMITED)):
        body = BODY if method == b"POST" else b""
        codes, came = exchange(proxy, request(target, method, token=token, body=body))
        tried += 1
        assert len(codes) <= 1, (target, codes)
        code = codes[0] if codes else 0
        statuses[code] = statuses.get(code, 0) + 1
        # 0: the server closes without a word. An upgrade or a method that it does not know may be a 501 of its own.
        assert code in (0, 200, 400, 401, 403, 404, 405, 414, 431, 501), (method, target, came[:300])
        if code == 200 and token is None:
            assert body_of(came) in OPEN_BODIES, (target, came[:300])
        if code == 200 and token is not None:
            answered = body_of(came)
            served = (b"from glm", b'"input_tokens"', b'{"data":[],')  # the last one is the list of batches
            assert answered in OPEN_BODIES or any(one in answered for one in served), (target, came[:400])
        assert b"INJECTED" not in came.partition(b"\r\n\r\n")[0]
    figure("paths and methods", tried, answers=statuses)


def test_upgrades(proxy, upstream):
    """Nobody gets a WebSocket or another protocol on any route."""
    tried = 0
    upgrade = b"Upgrade: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bWFkZS11cC1rZXktMDEyMw==\r\n"
    for route, protocol in itertools.product(
        (b"/", b"/v1/realtime", b"/key/generate", b"/v1/messages"), (b"websocket", b"h2c", b"TLS/1.0")
    ):
        data = request(route, b"GET", headers=upgrade % protocol).replace(b"Connection: close", b"Connection: Upgrade, close")
        codes, came = exchange(proxy, data)
        tried += 1
        assert 101 not in codes, came
        assert not [code for code in codes if code >= 500], came
    figure("upgrades", tried)


SMUGGLED = request(b"/v1/messages", body=json.dumps(question(GLM, MARK)).encode())
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-litellm-api-key: " + STATIC_TOKEN.encode() + b"\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
SHAPES = {
    "length and chunks": HEAD
    + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % (len(CHUNKED) + len(SMUGGLED))
    + CHUNKED,
    "chunks and a short length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED,
    "two lengths": HEAD + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY,
    "two lengths in one": HEAD + b"Content-Length: 3, %d\r\n\r\n" % len(BODY) + BODY,
    "two equal lengths": HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
    "a length with a sign": HEAD + b"Content-Length: +%d\r\n\r\n" % len(BODY) + BODY,
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length in hexadecimal": HEAD + b"Content-Length: 0x%x\r\n\r\n" % len(BODY) + BODY,
    "a huge length": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY,
    "a space before the colon": HEAD + b"Content-Length : %d\r\n\r\n" % len(BODY) + BODY,
    "an underscore": HEAD + b"Content_Length: %d\r\n\r\n" % len(BODY) + BODY,
    "a folded header": HEAD + LENGTH + b"X-Folded: a\r\n Transfer-Encoding: chunked\r\n\r\n" + BODY,
    "a folded length": HEAD + b"Content-Length:\r\n %d\r\n\r\n" % len(BODY) + BODY,
    "bare line feeds": HEAD.replace(b"\r\n", b"\n") + LENGTH.replace(b"\r\n", b"\n") + b"\n" + BODY,
    "a bare carriage return": HEAD + LENGTH + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "chunk extensions": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED.replace(b"\r\n", b';a="b\r\n', 1),
    "a plain extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED.replace(b"\r\n", b";a=b\r\n", 1),
    "a chunk with a sign": HEAD + b"Transfer-Encoding: chunked\r\n\r\n+" + CHUNKED,
    "a huge chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\nx",
    "a chunk that is longer": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
    "trailers": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + CHUNKED[:-2]
    + b"x-litellm-api-key: x\r\nContent-Length: 5\r\n\r\n",
    "coding in two words": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "an unknown coding": HEAD + LENGTH + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY,
    "coding with a tab": HEAD + LENGTH + b"Transfer-Encoding:\tchunked\r\n\r\n" + BODY,
    "coding twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKED,
    "coding in capitals": HEAD + LENGTH + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + BODY,
    "version 1.0 with chunks": HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + BODY,
    "version 0.9": b"GET /v1/models\r\n",
    "version 9.9": HEAD.replace(b"HTTP/1.1", b"HTTP/9.9") + LENGTH + b"\r\n" + BODY,
    "no host": HEAD.replace(b"Host: x\r\n", b"") + LENGTH + b"\r\n" + BODY,
    "two hosts": HEAD + b"Host: api.anthropic.com\r\n" + LENGTH + b"\r\n" + BODY,
    "two tokens": HEAD + b"x-litellm-api-key: wrong\r\n" + LENGTH + b"\r\n" + BODY,
    "a null in a header": HEAD + LENGTH + b"X: a\x00b\r\n\r\n" + BODY,
    "a null in a name": HEAD + LENGTH + b"X\x00: a\r\n\r\n" + BODY,
    "no colon": HEAD + LENGTH + b"X\r\n\r\n" + BODY,
    "an empty name": HEAD + LENGTH + b": x\r\n\r\n" + BODY,
    "a body after GET": HEAD.replace(b"POST /v1/messages", b"GET /v1/models") + LENGTH + b"\r\n" + BODY,
    "a second request in the first one's body": HEAD + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "expect": HEAD + LENGTH + b"Expect: 100-continue\r\n\r\n" + BODY,
    "expect something else": HEAD + LENGTH + b"Expect: the-unexpected\r\n\r\n" + BODY,
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "empty lines first": b"\r\n\r\n\r\n" + HEAD + LENGTH + b"\r\n" + BODY,
}


@pytest.mark.parametrize("inner", [False, True], ids=["alone", "with-a-request-behind"])
def test_one_request_stays_one(proxy, upstream, inner):
    """Whatever is wrong with a request's frame: it is refused, or it is one request, and what stands in its body is none."""
    statuses: dict[str, list[int]] = {}
    for name, shape in SHAPES.items():
        upstream.seen.clear()
        codes, came = exchange(proxy, shape + (SMUGGLED if inner and "length and" in name else b"") + SENTINEL)
        statuses[name] = codes
        assert len([code for code in codes if code != 100]) <= 2 + inner, (name, came)
        assert not [code for code in codes if code >= 500 and code != 501], (name, came)
        asked = [seen for seen in upstream.seen if seen.method == "POST"]
        assert len(asked) <= 1, (name, came)
        if not (inner and "length and" in name):
            assert not [seen for seen in asked if MARK in seen.everything], name
        if "second request" in name:
            assert (codes[0], asked) == (400, [])
    print(statuses)
    figure("frames of requests", len(SHAPES))


def test_large_headers(proxy):
    """Fifty megabytes of headers, in one or in many, end in a refusal or in nothing, and their memory comes back."""
    before, tried, answers = memory(proxy), 0, []
    one = b"x-large: " + b"a" * 50_000_000 + b"\r\n"
    many = b"".join(b"x-%d: a\r\n" % number for number in range(3_000_000))
    for headers in (one, many, b"x-litellm-api-key: " + b"b" * 50_000_000 + b"\r\n", b"a" * 50_000_000 + b": x\r\n"):
        codes, _ = exchange(proxy, request(b"/v1/models", b"GET", headers=headers))
        tried += 1
        answers += codes
        assert codes in ([], [400], [413], [431], [200]), codes
    codes, _ = exchange(proxy, request(b"/" + b"a" * 50_000_000, b"GET"))
    tried += 1
    assert codes in ([], [400], [404], [414]), codes
    kept = memory(proxy) - before
    assert kept < 50_000_000
    figure("large headers", tried, answers=answers, memory_kept=f"{kept / 1e6:.0f} MB")


def test_many_that_never_end(proxy, client):
    """Connections whose request never ends hold up nobody else, and leave nothing behind when they go."""
    halves = [
        HEAD,
        HEAD + b"Content-Length: 1000\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"POST /v1/messages HTT",
        HEAD.replace(STATIC_TOKEN.encode(), b"wrong") + b"Content-Length: 1000\r\n\r\n{",
        b"",
    ]
    held = [socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT) for _ in range(120)]
    for connection, half in zip(held, itertools.cycle(halves), strict=False):
        connection.sendall(half)
    for model, words in MODELS.items():
        answer = client.post(MESSAGES, json=question(model))
        assert said(answer) == words
    for connection in held:
        connection.close()
    figure("connections that never end", len(held))
