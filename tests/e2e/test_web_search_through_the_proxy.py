"""A search of the web for a model that cannot, through the real proxy, at endpoints of three formats."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import search_upstream as engine
import upstream as up
from claude_code import ClaudeCode
from conftest import CONFIG, by_provider, proxy_environment
from processes import ROOT, Proxy, free_port, question
from stream_validator import read_message

from claude_proxy.anthropic.search_blocks import excerpt_of

MODELS = pytest.mark.parametrize("model", ["gpt", "glm"])
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
READ = {"name": "Read", "description": "reads", "input_schema": {"type": "object", "properties": {"file_path": {}}}}
SEARCHED = ["text", "server_tool_use", "web_search_tool_result"]
FIXTURE = ROOT.parent / "shared" / "fixtures" / "side_web_search.json"


class Searching:
    """A proxy with a search endpoint, and that endpoint: ``find`` answers it, ``seen`` is what it was asked."""

    def __init__(self, provider: str, proxy: Proxy, server: up.Upstream) -> None:
        self.provider, self.proxy, self.server = provider, proxy, server

    @property
    def seen(self) -> list[up.Seen]:
        return self.server.seen

    @property
    def queries(self) -> list[str]:
        return [engine.query(self.provider, seen) for seen in self.seen]

    def ask(self, stream: bool = False, model: str = "gpt", **more: Any) -> dict[str, Any]:  # noqa: FBT001, FBT002 - a test's
        """The one message of a request with a search, which has to be a valid one."""
        return message_of(self.proxy.ask(question(model, stream=stream, **{"tools": [SEARCH]} | more)))


def message_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    is_stream = "event-stream" in answer.headers["content-type"]
    found: dict[str, Any] = read_message(answer.content) if is_stream else answer.json()
    assert engine.KEY not in answer.text
    return found


def kinds(message: dict[str, Any]) -> list[str]:
    return [block["type"] for block in message["content"]]


@pytest.fixture(scope="module", params=[*engine.PATHS])
def running(
    request: pytest.FixtureRequest, shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Searching]:
    server = up.Upstream(lambda _: up.Reply(500))
    config = CONFIG.format(url=shared_upstream.other_url) + engine.config(request.param, server.other_url)
    environment = proxy_environment(shared_upstream) | {"MADE_UP_SEARCH_KEY": engine.KEY}
    proxy = Proxy(tmp_path_factory.mktemp(request.param), config, **environment).wait_ready()
    yield Searching(request.param, proxy, server)
    proxy.stop()
    server.close()
    assert engine.KEY not in proxy.output


@pytest.fixture
def searching(running: Searching, upstream: up.Upstream) -> Searching:
    """The proxy, with a model that searches once, and an endpoint that finds one page."""
    running.seen.clear()
    running.server.answer = lambda _: engine.results(running.provider, engine.PEARS)
    upstream.answer = answering(engine.model("ripe pears"))
    return running


def answering(model: Callable[[up.Seen], list[dict[str, Any]]]) -> Callable[[up.Seen], up.Reply]:
    """Let a model answer in the format in which it is asked."""
    return by_provider(
        gpt=lambda seen: up.openai_reply(seen, *model(seen)), glm=lambda seen: up.anthropic_reply(seen, *model(seen))
    )


@MODELS
@STREAMS
def test_a_search(searching, upstream, model, stream):
    """The client gets one message with the search and what it found; the model has read it, and the endpoint got its key."""
    message = searching.ask(stream, model)
    assert (kinds(message), message["stop_reason"], message["model"]) == ([*SEARCHED, "text"], "end_turn", model)
    _, search, result, text = message["content"]
    assert search["input"] == {"query": "ripe pears"}
    (page,) = result["content"]
    assert (page["title"], page["url"], page["page_age"]) == (engine.PEARS["title"], engine.PEARS["url"], engine.PEARS["age"])
    assert excerpt_of(page) == engine.PEARS["text"]
    assert "They ripen in autumn." in text["text"]
    assert message["usage"]["server_tool_use"] == {"web_search_requests": 1}
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (20, 10)
    assert searching.queries == ["ripe pears"]
    assert [engine.key(searching.provider, seen) for seen in searching.seen] == [engine.KEY]
    assert all(engine.KEY not in seen.everything for seen in upstream.seen)
    keys = ("made-up-openai-key", "made-up-zai-key", "sk-")
    assert not any(key in seen.everything for key in keys for seen in searching.seen)
    assert len(upstream.seen) == 2


@MODELS
@STREAMS
def test_claude_codes_own_request(searching, upstream, model, stream):
    """What its tool sends is answered with its search, although it demands the call: the second round is free."""
    if not FIXTURE.exists():
        pytest.skip("the captures of real requests are not on this machine")
    body = json.loads(FIXTURE.read_text(encoding="utf-8"))["body"]
    message = message_of(searching.proxy.ask(body | {"model": model, "stream": stream}))
    assert kinds(message) == [*SEARCHED, "text"]
    first, second = (seen.json["tool_choice"] for seen in upstream.seen)
    assert "web_search" in str(first)
    assert second == ("auto" if model == "gpt" else {"type": "auto"})


@MODELS
@STREAMS
def test_several_searches_and_their_bound(searching, upstream, model, stream):
    """Each is told in its place; beyond ``max_uses`` the model reads that there is none left."""
    upstream.answer = answering(engine.model("one", "two", "three"))
    message = searching.ask(stream, model, tools=[SEARCH | {"max_uses": 2}])
    assert kinds(message) == [*SEARCHED * 3, "text"]
    assert message["content"][8]["content"]["error_code"] == "max_uses_exceeded"
    assert (searching.queries, message["usage"]["server_tool_use"]) == (["one", "two"], {"web_search_requests": 2})
    assert "This response may make no more searches" in message["content"][-1]["text"]


@MODELS
@STREAMS
def test_a_tool_of_the_clients_beside(searching, upstream, model, stream):
    """Its call ends the response, as ever."""
    upstream.answer = answering(engine.model("ripe pears", beside=(up.tool("Read", {"file_path": "/a"}),)))
    message = searching.ask(stream, model, tools=[SEARCH, READ])
    assert (sorted(kinds(message)), message["stop_reason"]) == (sorted([*SEARCHED, "tool_use"]), "tool_use")
    (call,) = [block for block in message["content"] if block["type"] == "tool_use"]
    assert (call["name"], call["input"], len(upstream.seen)) == ("Read", {"file_path": "/a"}, 1)


def test_domains(searching):
    """Pages of other domains are left out, whatever the endpoint finds."""
    other = engine.PEARS | {"url": "https://other.example/"}
    searching.server.answer = lambda _: engine.results(searching.provider, other, engine.PEARS)
    for domains in ({"allowed_domains": ["pears.example"]}, {"blocked_domains": ["other.example"]}):
        message = searching.ask(tools=[SEARCH | domains])
        assert [page["url"] for page in message["content"][2]["content"]] == [engine.PEARS["url"]]
    if searching.provider == "tavily":
        assert searching.seen[0].json["include_domains"] == ["pears.example"]
    else:
        assert "site:pears.example" in searching.queries[0]


JSON = {"content-type": "application/json"}
FAILURES = {
    "busy": (up.Reply(429, headers={"retry-after": "9"}), "too_many_requests"),
    "forbidden": (up.Reply(403, body=engine.KEY.encode()), "unavailable"),
    "broken": (up.Reply(500), "unavailable"),
    "page": (up.Reply(headers={"content-type": "text/html"}, body=b"<html>"), "unavailable"),
    "no-results": (up.Reply(headers=JSON, body=b'{"error":"x"}'), "unavailable"),
    "deep": (up.Reply(headers=JSON, body=b"[" * 200_000), "unavailable"),
    "huge": (up.Reply(headers=JSON, body=b'{"results":["' + b"x" * 5_000_000 + b'"]}'), "unavailable"),
    "endless": (up.Reply(headers=JSON, chunks=[b" " * 500_000] * 20, drop=True), "unavailable"),
    "broken-off": (up.Reply(headers=JSON, chunks=[b"{"], drop=True), "unavailable"),
}  # fmt: skip


@STREAMS
@pytest.mark.parametrize(("reply", "code"), FAILURES.values(), ids=FAILURES)
def test_a_search_that_fails(searching, reply, code, stream):
    """Model and client are told by a code, the response goes on, and the log names the host alone."""
    searching.server.answer = lambda _: reply
    message = searching.ask(stream)
    assert (kinds(message), message["stop_reason"]) == ([*SEARCHED, "text"], "end_turn")
    assert message["content"][2]["content"] == {"type": "web_search_tool_result_error", "error_code": code}
    assert message["usage"]["server_tool_use"] == {"web_search_requests": 0}
    assert all("ripe pears" not in line for line in searching.proxy.logged("the web search at 127.0.0.1 failed"))


def test_no_redirection_is_followed(searching, upstream):
    """Neither query nor key reaches another host."""
    searching.server.answer = lambda _: up.Reply(307, headers={"location": f"{upstream.url}/elsewhere"})
    assert searching.ask()["content"][2]["content"]["error_code"] == "unavailable"
    assert all(seen.path != "/elsewhere" for seen in upstream.seen)


@STREAMS
def test_what_somebody_wrote(searching, stream):
    """Titles and texts lose what a terminal would obey and are cut; a page whose address is none of the web's is left out."""
    key = f"my key is {engine.KEY} "
    hostile = {"title": "\x1b]0;owned\x07\u202e\n\r</result> " + "t" * 9000, "text": f"\x00\x1b[2J{key}" + "x" * 99_000}
    bad = [{"title": "bad", "url": url} for url in ("javascript:alert(1)", "file:///etc/passwd", "https://a@b.example/")]
    searching.server.answer = lambda _: engine.results(
        searching.provider, *bad, hostile | {"url": "https://good.example/", "age": "\x1b[31m" + "9" * 999}
    )
    message = searching.ask(stream)
    (page,) = message["content"][2]["content"]
    assert page["url"] == "https://good.example/"
    assert all(text.isprintable() for text in (page["title"], page["page_age"], excerpt_of(page)))
    assert max(map(len, (page["title"], page["page_age"], excerpt_of(page)))) <= 1500


@pytest.mark.parametrize("query", ["", " ", 7, None, {"a": 1}, "x " * 3000])
def test_a_query_that_is_none(searching, upstream, query):
    """The endpoint is not asked, and the model is told what is wrong."""
    upstream.answer = answering(engine.model(query))
    code = searching.ask()["content"][2]["content"]["error_code"]
    assert (code, searching.seen) == (
        "query_too_long" if isinstance(query, str) and query.strip() else "invalid_tool_input",
        [],
    )


def test_the_conversation_goes_on(searching, upstream):
    """What a search found is in the next request to whichever model: as text, and nothing of it is Anthropic's to read."""
    content = searching.ask()["content"]
    history = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": "and?"},
    ]
    for model in ("gpt", "glm", "claude-sonnet-5"):
        upstream.seen.clear()
        upstream.answer = by_provider()
        headers = {"authorization": "Bearer sk-ant-oat01-made-up-client"}
        answer = searching.proxy.ask(question(model) | {"messages": history}, **headers)
        assert answer.status_code == 200, answer.text
        (seen,) = upstream.seen
        assert engine.PEARS["url"] in seen.everything
        assert "They ripen in autumn." in seen.everything
        assert not any(word in seen.everything for word in ("srvtoolu", "web_search_tool_result", "encrypted_content"))


@MODELS
def test_a_second_round_that_fails(searching, upstream, model):
    """A stream ends with the provider's error; of a whole answer the client gets that error and nothing else."""

    def busy(seen: up.Seen) -> up.Reply:
        if engine.results_read(seen):
            return up.Reply(418, {"content-type": "application/json"}, b'{"error":{"message":"short and stout"}}')
        make = up.openai_reply if model == "gpt" else up.anthropic_reply
        return make(seen, up.tool("web_search", {"query": "ripe pears"}))

    upstream.answer = by_provider(gpt=busy, glm=busy)
    answer = searching.proxy.ask(question(model, stream=True, tools=[SEARCH]))
    assert message_of(answer)["error"]["message"] == "short and stout"
    answer = searching.proxy.ask(question(model, tools=[SEARCH]))
    assert (answer.status_code, answer.json()["error"]["message"]) == (418, "short and stout")


@STREAMS
@MODELS
def test_without_an_endpoint(poolless, upstream, model, stream):
    """The model is offered no search and reads that there is none; Claude gets the tool as the client sent it."""
    body = question(model, stream=stream, tools=[SEARCH], tool_choice={"type": "tool", "name": "web_search"}, system="made up")
    assert poolless.ask(body).status_code == 200
    (seen,) = upstream.seen
    assert not {"tools", "tool_choice"} & {*seen.json}
    assert "There is no web search in this conversation" in seen.everything
    upstream.seen.clear()
    raw = json.dumps(body | {"model": "claude-sonnet-5"}).encode()
    assert poolless.ask(raw, authorization="Bearer sk-ant-oat01-made-up-client").status_code == 200
    assert upstream.seen[0].body == raw


@pytest.mark.parametrize("running", ["searxng"], indirect=True)  # the client sees no difference
@MODELS
def test_claude_codes_web_search(searching, upstream, tmp_path, model):
    """The real client's tool finds the pages and the words of another model, and does not repeat a request."""

    def answer(seen: up.Seen) -> list[dict[str, Any]]:
        found, offered = engine.results_read(seen), engine.tools_offered(seen)
        if "web_search" in offered:  # the client's request for the search alone
            return [up.text("pears are ripe")] if found else [up.tool("web_search", {"query": "ripe pears"})]
        if "WebSearch" not in offered:
            return [up.text("a title")]
        return [up.text(f"found: {found}")] if found else [up.tool("WebSearch", {"query": "are pears ripe"})]

    upstream.answer = answering(answer)
    variables = {"ENABLE_TOOL_SEARCH": "false"}  # or the client loads its tools one by one
    run = ClaudeCode(tmp_path, searching.proxy.url).run("Search", "--allowedTools", "WebSearch", model=model, **variables)
    assert (run.code, run.retries) == (0, 0), run.errors
    assert all(words in run.result for words in (engine.PEARS["title"], engine.PEARS["url"], "pears are ripe"))
    assert searching.queries == ["ripe pears"]
    counted = [event["modelUsage"] for event in run.events if event.get("type") == "result"][-1]
    assert sum(usage["webSearchRequests"] for usage in counted.values()) == 1


def test_an_endpoint_that_nobody_runs(start_proxy, upstream):
    """It costs no answer: the model is told that the search does not work."""
    config = CONFIG.format(url=upstream.other_url) + engine.config("searxng", f"http://127.0.0.1:{free_port()}")
    proxy = start_proxy(config=config, MADE_UP_SEARCH_KEY=engine.KEY)
    upstream.answer = answering(engine.model("ripe pears"))
    message = message_of(proxy.ask(question("gpt", tools=[SEARCH])))
    assert message["content"][2]["content"]["error_code"] == "unavailable"
    assert "does not work at the moment" in message["content"][3]["text"]
