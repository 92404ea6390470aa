"""The rest of Anthropic's API through a real proxy with two workers: whose an object is, which key has it, what it costs."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import upstream as up
from account_upstream import AccountUpstream, as_json, error
from conftest import CONFIG, proxy_environment
from processes import MASTER_KEY, Proxy

BATCHES, FILES = "/v1/messages/batches", "/v1/files"
ONE, TWO, OWN = "sk-ant-api03-made-up-one", "sk-ant-api03-made-up-two", "sk-ant-api03-made-up-own"
PLAN = "sk-ant-oat01-made-up-plan"
VERSION = {"anthropic-version": "2023-06-01"}
# A batch costs half: a request of the stand-in has 10 tokens of input and 5 of output, so 0.01 USD.
BLOCK = """
claude_proxy:
  users:
    ben: {models: ["claude-a"]}
    carla: {budget: {day: 1}}
    dora: {requests_per_minute: 1}
  prices:
    "claude-*": {input: 1000, output: 2000}
    mine: {input: 1000, output: 2000}
"""
MINE = "  - model_name: mine\n    litellm_params: {{model: anthropic/claude-y}}\n"
HOSTILE_IDS = ("..", "../models", "a%2Fb", "a%2F..%2Fb", ".", "a.b", "a%00", "x" * 300, "%e4%b8%ad", "a%20b", "%0d%0aa")


def token_of(user: str) -> str:
    return f"made-up-token-of-{user}-0123456789"


class Service:
    """The proxy, which can be restarted, and what stands for Anthropic."""

    def __init__(self, home: Any) -> None:
        self.account = AccountUpstream()
        self.upstream = up.Upstream(self.account.answer)
        self.home = home
        self.config = CONFIG.replace("  - model_name: glm\n", f"{MINE}  - model_name: glm\n").format(
            url=self.upstream.other_url
        )
        self.start(f"one={ONE},two={TWO}", workers=2)

    def start(self, keys: str, *, workers: int) -> None:
        users = ",".join(f"{user}={token_of(user)}" for user in ("anna", "ben", "carla", "dora"))
        variables = proxy_environment(self.upstream) | {
            "CLAUDE_OAUTH_TOKENS": f"plan={PLAN}", "CLAUDE_API_KEYS": keys, "NUM_WORKERS": str(workers),
            # Without it, a key that serves a conversation would be used for new objects after the other one.
            "CLAUDE_TOKEN_AFFINITY": "none", "PROXY_USER_TOKENS": users,
        }  # fmt: skip
        self.proxy = Proxy(self.home, self.config + BLOCK, **variables).wait_ready()

    def close(self) -> None:
        self.proxy.stop()
        self.upstream.close()

    def call(self, method: str, path: str, user: str = "anna", **more: Any) -> httpx.Response:
        """Send a request on a new connection, which either worker may take."""
        token = MASTER_KEY if user == "admin" else token_of(user)
        headers = {"x-litellm-api-key": token, **VERSION} | more.pop("headers", {})
        return httpx.request(method, f"{self.proxy.url}{path}", headers=headers, trust_env=False, timeout=60, **more)

    def upload(self, content: bytes = b"made up", user: str = "anna", **headers: str) -> httpx.Response:
        return self.call("POST", FILES, user, files={"file": ("a.html", content)}, headers=headers)

    def batch(self, *requests: dict[str, Any], user: str = "anna", **headers: str) -> httpx.Response:
        entries = [{"custom_id": str(number), "params": one} for number, one in enumerate(requests or (params(),))]
        return self.call("POST", BATCHES, user, json={"requests": entries}, headers=headers)

    def holder(self, identifier: str) -> str:
        """The key that has an object."""
        accounts = self.account.accounts.items()
        (key,) = (key for key, account in accounts if identifier in account.files or identifier in account.batches)
        return key

    def wait_for(self, look: Callable[[], Any]) -> Any:
        """Look until there is something, and return it."""
        pause = threading.Event()
        for _ in range(500):
            if found := look():
                return found
            pause.wait(0.02)
        raise AssertionError(self.proxy.output)

    def spent(self, user: str) -> float:
        """What counts in a user's budget, in USD."""
        shown = self.call("GET", "/api/oauth/usage", user).raise_for_status().json()
        return shown["extra_usage"]["used_credits"] / 100


def params(model: str = "claude-a", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]} | more


def with_file(*files: str, model: str = "claude-a") -> dict[str, Any]:
    content = [{"type": "document", "source": {"type": "file", "file_id": one}} for one in files]
    return params(model, messages=[{"role": "user", "content": content}])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("batches-and-files"))
    yield service
    service.close()


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    running.upstream.seen.clear()
    yield running
    running.account.instead.clear()
    running.account.limited = ""


def kind_of(response: httpx.Response) -> str:
    assert response.json()["type"] == "error"
    return str(response.json()["error"]["type"])


# --- One model ---------------------------------------------------------------------------------------------------------------


def test_one_model(service):
    """One model is the entry that the list has for this user, by its listed name or its own; another one is a 404."""
    listed = {one["id"]: one for one in service.call("GET", "/v1/models").json()["data"]}
    for name in ("mine", "claude-proxy/mine", "claude-proxy%2Fmine"):
        response = service.call("GET", f"/v1/models/{name}")
        assert (response.status_code, response.json()) == (200, listed["claude-proxy/mine"])
    for user, name in (("ben", "mine"), ("anna", "unknown"), ("anna", "x" * 400), ("anna", "..")):
        refused = service.call("GET", f"/v1/models/{name}", user)
        assert (refused.status_code, kind_of(refused)) == (404, "not_found_error")
    assert service.upstream.seen == []


# --- Objects and their owners ------------------------------------------------------------------------------------------------


def test_a_file_is_used_with_the_key_that_has_it(service):
    """Whichever worker gets a request, it goes to the key that made the file; the file keeps its bytes."""
    content = b"<script>made up</script>\n\nevent: error\ndata: {}\n\n" + ONE.encode() + bytes(range(256)) * 4000
    identifier = service.upload(content).raise_for_status().json()["id"]
    key = service.holder(identifier)
    service.upstream.seen.clear()
    for _ in range(3):
        assert service.call("GET", f"{FILES}/{identifier}?beta=true").json()["size_bytes"] == len(content)
        answer = service.call("POST", "/v1/messages", json=with_file(identifier))
        assert answer.status_code == 200
        downloaded = service.call("GET", f"{FILES}/{identifier}/content")
        assert downloaded.content == content
    assert downloaded.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in downloaded.headers["content-security-policy"]
    assert {seen.credential for seen in service.upstream.seen} == {key}
    assert {seen.header("anthropic-version") for seen in service.upstream.seen} == {VERSION["anthropic-version"]}


def test_new_objects_use_every_key_and_never_a_plan(service):
    """New objects are made with the API keys in turn; a subscription's token sees none of these requests."""
    made = [service.upload().json()["id"] for _ in range(8)] + [service.batch().json()["id"] for _ in range(8)]
    assert {service.holder(one) for one in made} == {ONE, TWO}
    assert PLAN not in {seen.credential for seen in service.upstream.seen}


@pytest.mark.parametrize("make", ["upload", "batch"])
def test_another_user_has_no_access(service, make):
    """Another user finds an object under no route; the master key does; its maker deletes it, and then nobody finds it."""
    identifier = getattr(service, make)().raise_for_status().json()["id"]
    base, content = (FILES, "content") if make == "upload" else (BATCHES, "results")
    service.upstream.seen.clear()
    routes = [("GET", ""), ("DELETE", ""), ("GET", f"/{content}"), *([("POST", "/cancel")] if make == "batch" else [])]
    for method, rest in routes:
        refused = service.call(method, f"{base}/{identifier}{rest}", "ben")
        assert (refused.status_code, kind_of(refused)) == (404, "not_found_error")
    assert identifier not in [one["id"] for one in service.call("GET", base, "ben").json()["data"]]
    assert service.upstream.seen == []
    assert service.call("GET", f"{base}/{identifier}", "admin").json()["id"] == identifier
    assert identifier in [one["id"] for one in service.call("GET", f"{base}?limit=100", "admin").json()["data"]]
    assert service.call("DELETE", f"{base}/{identifier}").status_code == 200
    for user in ("anna", "admin"):
        assert service.call("GET", f"{base}/{identifier}", user).status_code == 404


def test_a_message_with_a_file_of_somebody_else(service):
    """A message, a count of tokens or a batch that names another user's file, or an unknown one, is a 404 before it is sent."""
    identifier = service.upload().json()["id"]
    service.upstream.seen.clear()
    for file, user in ((identifier, "ben"), ("file_unknown", "anna")):
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            refused = service.call("POST", path, user, json=with_file(file))
            assert (refused.status_code, kind_of(refused)) == (404, "not_found_error")
        assert service.batch(params(), with_file(file), user=user).status_code == 404
    escaped = json.dumps(with_file(identifier)).replace("file_id", "fil\\u0065_id").encode()
    headers = {"content-type": "application/json"}
    assert service.call("POST", "/v1/messages", "ben", content=escaped, headers=headers).status_code == 404
    assert service.upstream.seen == []


def test_files_of_two_keys(service):
    """A request with files of two keys could be read by neither: it is a 400 in words. A batch goes to the key of its files."""
    files: dict[str, str] = {}
    for _ in range(20):
        identifier = service.upload().json()["id"]
        files[service.holder(identifier)] = identifier
        if len(files) == 2:
            break
    refused = service.call("POST", "/v1/messages", json=with_file(*files.values()))
    assert (refused.status_code, "with one API key" in refused.text) == (400, True)
    for key, file in files.items():
        assert service.holder(service.batch(with_file(file)).json()["id"]) == key


def test_an_error_with_a_file_has_no_fallback(service):
    """If the key that has the file cannot serve, its error goes to the client: no other key and no other model is asked."""
    file = service.upload().json()["id"]
    for reply, status in ((error(529, "overloaded_error"), 529), (error(500, "api_error"), 500)):
        service.account.instead["POST", "/v1/messages"] = reply
        service.upstream.seen.clear()
        refused = service.call("POST", "/v1/messages", json=with_file(file, model="claude-fallback-x"))
        assert refused.status_code == status
        assert [seen.credential for seen in service.upstream.seen] == [service.holder(file)]


def test_pages_of_a_list(service):
    """Page by page each of the user's objects comes once, the newest first, also after some of them are gone."""
    made = [service.upload(user="dora").json().get("id")] + [service.upload(user="carla").json()["id"] for _ in range(5)]
    assert made[0]
    newest_first = made[:0:-1]
    account = service.account.accounts[service.holder(newest_first[1])]
    del account.files[newest_first[1]]  # deleted at Anthropic, and not through the proxy
    assert service.call("DELETE", f"{FILES}/{newest_first[3]}", "carla").status_code == 200
    found, query = [], "limit=2"
    for _ in range(5):
        page = service.call("GET", f"{FILES}?beta=true&{query}", "carla").raise_for_status().json()
        found += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        # The cursor of today's client libraries, and that of earlier ones.
        query = f"limit=2&page={page['next_page']}" if len(found) == 2 else f"limit=2&after_id={page['last_id']}"
    assert found == [newest_first[0], newest_first[2], newest_first[4]]
    for query in (f"ids={found[0]},{found[2]},file_x", f"ids[]={found[0]}&ids[]={found[2]}"):
        page = service.call("GET", f"{FILES}?{query}", "carla").json()
        assert ([one["id"] for one in page["data"]], page["next_page"]) == ([found[0], found[2]], None)
    for query in ("limit=0", "after_id=file_of_nobody", "scope_id=x", "a=1&" * 300):
        assert service.call("GET", f"{FILES}?{query}", "carla").status_code == 400


def test_a_file_that_claude_writes(service):
    """A file that Claude writes for a user on an API key is that user's to list and to download, and nobody else's."""
    service.account.limited = PLAN  # so that an API key serves the message
    tools = [{"type": "code_execution_20250825", "name": "code_execution"}]
    message = service.call("POST", "/v1/messages", "ben", json=params(tools=tools)).raise_for_status().json()
    file = message["content"][0]["content"]["content"][0]["file_id"]
    assert service.wait_for(lambda: service.call("GET", f"{FILES}/{file}/content", "ben").content == b"written by claude")
    assert file in [one["id"] for one in service.call("GET", FILES, "ben").json()["data"]]
    assert service.call("GET", f"{FILES}/{file}/content").status_code == 404


# --- Batches -----------------------------------------------------------------------------------------------------------------


def test_a_batch_and_its_results(service):
    """The models of a batch are those of config.yaml, its results are read through the proxy, and name the client's models."""
    batch = service.batch(params("mine"), params("claude-a")).raise_for_status().json()
    assert batch["results_url"] == f"{service.proxy.url}{BATCHES}/{batch['id']}/results"
    (sent,) = (seen.json for seen in service.upstream.seen)
    assert [entry["params"]["model"] for entry in sent["requests"]] == ["claude-y", "claude-a"]
    token = {"x-litellm-api-key": token_of("anna")}
    results = httpx.get(batch["results_url"], headers=token, trust_env=False)
    lines = [json.loads(line) for line in results.text.splitlines()]
    assert [line["result"]["message"]["model"] for line in lines] == ["mine", "claude-a"]
    listed = service.call("GET", BATCHES).json()["data"]
    assert listed[0] == batch
    canceled = service.call("POST", f"{BATCHES}/{batch['id']}/cancel").json()
    assert (canceled["processing_status"], canceled["results_url"]) == ("canceling", batch["results_url"])


def test_a_client_that_leaves_while_its_batch_is_made(service):
    """A batch that Anthropic makes after its client has left is recorded as the client's, who finds it in the list."""

    def listed():
        return {one["id"] for one in service.call("GET", BATCHES, "ben").json()["data"]}

    before = listed()
    body = json.dumps({"requests": [{"custom_id": "a", "params": params()}]}).encode()
    head = f"POST {BATCHES} HTTP/1.1\r\nhost: x\r\nx-litellm-api-key: {token_of('ben')}\r\ncontent-length: {len(body)}\r\n\r\n"
    service.account.free.clear()
    try:
        with socket.create_connection(("127.0.0.1", service.proxy.port)) as sent:
            sent.sendall(head.encode() + body)
            service.wait_for(lambda: [seen for seen in service.upstream.seen if seen.method == "POST"])
    finally:
        service.account.free.set()
    (new,) = service.wait_for(lambda: listed() - before)
    assert service.call("GET", f"{BATCHES}/{new}", "ben").status_code == 200


def test_which_models_a_batch_may_name(service):
    """A model that the user may not use, one that is not Claude, and an unknown one refuse the whole batch, with its place."""
    for user, model, words in (
        ("ben", "claude-b", "requests.1.params: model: ben may not use claude-b"),
        ("anna", "glm", "requests.1.params.model: glm is not Claude"),
        ("anna", "unknown", "requests.1.params.model: model: unknown is not served"),
    ):
        refused = service.batch(params(), params(model), user=user)
        assert (refused.status_code, words in refused.text) == (400, True)
    assert service.upstream.seen == []


def test_a_budget_and_batches(service):
    """What a batch may cost at most counts at once, at half the price, and its real cost once its results are read."""
    before = service.spent("carla")
    # About 40 tokens of input at most, and 50 of output, for each request: 0.07 USD.
    batch = service.batch(params(), params(), user="carla").raise_for_status().json()
    reserved = service.spent("carla") - before
    assert 0.1 <= reserved <= 0.2
    assert service.batch(*[params()] * 30, user="carla").status_code == 429
    refused = service.batch(params(max_tokens=10_000), user="carla")
    assert (refused.status_code, kind_of(refused)) == (429, "billing_error")
    assert "This batch may cost up to $10.0" in refused.text
    assert "lower max_tokens" in refused.text
    assert service.spent("carla") - before == pytest.approx(reserved)
    service.account.instead["POST", BATCHES] = error(400, "invalid_request_error")
    assert service.batch(params(), user="carla").status_code == 400
    assert service.spent("carla") - before == pytest.approx(reserved)
    for _ in range(3):
        assert len(service.call("GET", f"{BATCHES}/{batch['id']}/results", "carla").text.splitlines()) == 2
    assert service.spent("carla") - before == pytest.approx(0.02)
    (line,) = service.proxy.logged("input=20 output=10")
    assert "user=carla model=claude-a served=anthropic/claude-a" in line
    assert "usd=0.02" in line


def test_limits_of_requests(service):
    """Making an object is a request of its user; looking at one is not."""
    for _ in range(3):
        service.batch(user="dora")
    assert service.batch(user="dora").status_code == 429
    assert service.call("GET", BATCHES, "dora").status_code == 200


# --- Credentials -------------------------------------------------------------------------------------------------------------


def test_a_credential_of_the_clients_own(service):
    """With the client's own key everything is between the client and Anthropic; only models and addresses are the proxy's."""
    own = {"x-api-key": OWN, "x-claude-token-mode": "passthrough"}
    file = service.upload(**own).json()["id"]
    batch = service.batch(params("mine"), **own).json()
    assert service.holder(file) == service.holder(batch["id"]) == OWN
    assert batch["results_url"].startswith(service.proxy.url)
    for user in ("anna", "ben"):  # whoever has the key
        assert service.call("GET", f"{FILES}/{file}", user, headers=own).status_code == 200
        assert service.call("POST", "/v1/messages", user, json=with_file(file), headers=own).status_code == 200
    (listed,) = service.call("GET", BATCHES, headers=own).json()["data"]
    assert listed["results_url"] == batch["results_url"]
    assert service.call("GET", f"{FILES}/{file}").status_code == 404  # without it, the file is nobody's here
    assert service.batch(params("claude-b"), user="ben", **own).status_code == 400
    assert {seen.credential for seen in service.upstream.seen} == {OWN}


def test_a_subscription_alone(pooled):
    """A proxy whose pool has subscriptions alone says in Anthropic's shape that it does not support batches and files."""
    headers = {"x-litellm-api-key": pooled.static_token, **VERSION}
    with httpx.Client(base_url=pooled.url, headers=headers, trust_env=False) as client:
        entry = {"custom_id": "a", "params": params()}
        refusals = [client.post(BATCHES, json={"requests": [entry]}), client.post(FILES, files={"file": b"x"})]
        assert client.get(BATCHES).json()["data"] == client.get(FILES).json()["data"] == []
    for refused in refusals:
        assert (refused.status_code, kind_of(refused), "API key" in refused.text) == (501, "not_supported", True)


# --- Hostile clients and upstreams -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identifier", HOSTILE_IDS)
def test_hostile_ids(service, identifier):
    """An id that is no id never reaches Anthropic."""
    for base in (FILES, BATCHES):
        for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/content"), ("GET", "/results")):
            path = f"{base}/{identifier}{rest}"
            with socket.create_connection(("127.0.0.1", service.proxy.port)) as sent:
                head = (
                    f"{method} {path} HTTP/1.1\r\nhost: x\r\nx-litellm-api-key: {token_of('anna')}\r\nconnection: close\r\n\r\n"
                )
                sent.sendall(head.encode())
                assert sent.makefile("rb").readline().split()[1] in (b"404", b"405", b"400")
    assert service.upstream.seen == []


def test_an_upstream_that_lies(service):
    """An id that is no text, or another user's, makes no object; the client gets a 502, and the other user keeps the file."""
    file = service.upload().json()["id"]
    for found in ({"id": 7}, {"id": "../x"}, {"id": None}, {"id": file}, {}):
        service.account.instead["POST", FILES] = as_json(found)
        assert service.upload(user="ben").status_code == 502
    for body in (b"[]", b"{", b"", b"\xff"):
        service.account.instead["POST", FILES] = up.Reply(200, {"content-type": "application/json"}, body)
        assert service.upload(user="ben").status_code == 502
    service.account.instead["POST", FILES] = up.Reply(302, {"location": "http://127.0.0.1:9/"})
    assert service.upload(user="ben").status_code == 502
    assert service.call("GET", f"{FILES}/{file}").status_code == 200
    assert service.call("GET", f"{FILES}/{file}", "ben").status_code == 404


def test_an_upstream_that_shows_a_secret(service):
    """A secret in a JSON answer of Anthropic does not reach the client."""
    file = service.upload().json()["id"]
    service.account.instead["GET", f"{FILES}/{file}"] = as_json({"id": file, "filename": ONE})
    assert ONE not in service.call("GET", f"{FILES}/{file}").text
    service.account.instead["GET", f"{FILES}/{file}"] = error(400, "invalid_request_error", f"the key {MASTER_KEY}")
    assert MASTER_KEY not in service.call("GET", f"{FILES}/{file}").text


def test_results_that_end_in_the_middle(service):
    """Results that break off end for the client as they do for the proxy, and count nothing."""
    before = service.spent("carla")
    batch = service.batch(user="carla").json()["id"]
    reserved = service.spent("carla")
    assert reserved > before
    path = f"{BATCHES}/{batch}/results"
    service.account.instead["GET", path] = up.Reply(200, chunks=[b'{"custom_id":"0","result":{"ty'], drop=True)
    with pytest.raises(httpx.RemoteProtocolError):
        service.call("GET", path, "carla")
    service.account.instead["GET", path] = up.Reply(200, chunks=[b'{"custom_id":"0","result":{"ty'])
    assert service.call("GET", path, "carla").status_code == 200
    assert service.spent("carla") == pytest.approx(reserved)
    service.account.instead.clear()
    service.call("GET", path, "carla")
    assert service.spent("carla") - before == pytest.approx(0.01)


# --- A restart: the last test, because the proxy has one worker and another key from then on ---------------------------------


def test_a_restart(service):
    """After a restart each user has the same objects, on the same keys; a key that is gone is said in words."""
    files: dict[str, str] = {}
    for _ in range(20):
        identifier = service.upload(user="ben").json()["id"]
        files[service.holder(identifier)] = identifier
        if len(files) == 2:
            break
    batch = service.batch(with_file(files[ONE]), user="ben").json()["id"]
    service.proxy.stop()
    service.start(f"renamed={ONE},three=sk-ant-api03-made-up-three", workers=1)
    assert service.call("GET", f"{FILES}/{files[ONE]}", "ben").json()["id"] == files[ONE]
    assert service.call("GET", f"{BATCHES}/{batch}", "ben").json()["id"] == batch
    assert service.call("GET", f"{FILES}/{files[ONE]}").status_code == 404
    gone = files[TWO]
    message = service.call("POST", "/v1/messages", "ben", json=with_file(gone))
    for response in (service.call("GET", f"{FILES}/{gone}", "ben"), message):
        assert (response.status_code, "no longer in this proxy's pool" in response.text) == (404, True)
    listed = [one["id"] for one in service.call("GET", FILES, "ben").json()["data"]]
    assert files[ONE] in listed
    assert gone not in listed
