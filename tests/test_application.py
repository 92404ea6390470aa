"""server/application.py: the parts of one process, and what they know of other processes."""

import asyncio
import json
import logging

import pytest
from lanes import Received

from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.order import Order
from claude_proxy.credentials.pool import ExtraUsage, PoolRequest
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.credentials.response_rules import Action, Verdict
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.secret import Secret
from claude_proxy.server import application
from claude_proxy.server.application import App
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.store import StoreUnavailable
from claude_proxy.usage.record import Record
from claude_proxy.usage.used import Range

pytestmark = pytest.mark.anyio

POOL = "sk-ant-oat01-made-up-pool"
NOW = 1_800_000_000.0
DEMO = {"model": "anthropic/demo", "api_base": "http://demo.invalid"}
GLM = {"model": "anthropic/glm", "api_base": "https://api.z.ai/api/anthropic", "api_key": "os.environ/ZAI_API_KEY"}
CONFIG = {
    "model_list": [{"model_name": "demo", "litellm_params": DEMO}, {"model_name": "glm", "litellm_params": GLM}],
}


def app_of(store=None, *, loaded=CONFIG, clock=lambda: NOW, **variables):
    settings = Settings.parse({"CLAUDE_OAUTH_TOKENS": f"a={POOL},b={POOL}2"} | variables)
    found = {model["model_name"]: [model["litellm_params"]] for model in loaded["model_list"]}
    config = ActiveConfig(loaded, {}, lookup=lambda name: found.get(name, ()))
    return App(settings, config, Redactor([]), store=store, clock=clock)


@pytest.fixture
async def new_app():
    """Make applications that are closed after the test."""
    made = []

    def new_app(store=None, **more):
        made.append(app_of(store, **more))
        return made[-1]

    yield new_app
    for app in made:
        await app.close()


def limit(app, label, verdict=None):
    verdict = verdict or Verdict(Action.NEXT, "limit", ((EVERYTHING, NOW + 3600),))
    app.pool.record_response(app.pool.state(label).credential, verdict, UpstreamResponse(429, {}))


# --- other credentials -------------------------------------------------------------------------------------------------------


OTHER = Credential("c", Kind.OAUTH, Secret("sk-made-up-of-another-form"))


async def test_a_new_credential_is_known_to_the_redaction_first(new_app):
    """What leaves the process loses the secret of a new credential, and the pool has it, with the day on which it was seen."""
    app = new_app()
    app.replace_credentials([OTHER])
    assert app.redactor.text("sk-made-up-of-another-form") == "***"
    assert [(one.credential.label, one.since) for one in app.pool.snapshot()] == [("c", NOW)]


async def test_what_others_know_of_a_new_credential_is_looked_at_again(new_app):
    """What another process has told of a credential before this one had it is taken in, its sessions included."""
    store = MemoryStore()
    first, second = new_app(store), new_app(store)
    for app in (first, second):
        await app.load_shared_state()
    first.replace_credentials([OTHER])
    first.pool.choose(PoolRequest("s"))
    limit(first, "c", Verdict(Action.NEXT, "limit", ((Scope("opus"), NOW + 3600),)))
    await first._sync.exchange()
    await second._sync.exchange()
    second.replace_credentials([*second.settings.credentials, OTHER])
    await second._sync.exchange()
    assert second.pool.choose(PoolRequest("s")).label == "c"
    assert second.pool.cooling_down(Scope("opus")) == {"c"}


async def test_what_is_lifted_is_told_to_the_others(new_app):
    """A credential whose rests end by hand has a row in the store, under the key that every process knows it by."""
    store = MemoryStore()
    app = new_app(store)
    await app.load_shared_state()
    app.pool.lift("a")
    await app._sync.exchange()
    rows = {row.key: row.stamp for row in (await store.pull(0))[0]}
    assert rows[f"lifted:{app.pool.state('a').key}"] == NOW


async def test_the_pool_is_watched(new_app, tmp_path, monkeypatch):
    """From the start of the watch a change of credentials.yaml is in the pool by itself."""
    app, taken = new_app(), asyncio.Event()
    (tmp_path / "credentials.yaml").write_text("credentials:\n  - {label: c, secret: sk-ant-oat01-made-up-c}\n")
    monkeypatch.setattr(app.pool, "record_first_seen", taken.set)
    app.watch_pool({"CLAUDE_CREDENTIALS_FILE": str(tmp_path / "credentials.yaml")})
    async with asyncio.timeout(20):
        await taken.wait()
    assert [one.credential.label for one in app.pool.snapshot()] == ["c"]
    assert app.pool_problems() == ()


# --- what other processes know -----------------------------------------------------------------------------------------------


class SlowStore(MemoryStore):
    """A store that answers when it is told to."""

    def __init__(self):
        super().__init__()
        self.ready = asyncio.Event()

    async def pull(self, cursor):
        await self.ready.wait()
        return await super().pull(cursor)


class PushedStore(MemoryStore):
    """A store that says when it was pushed to."""

    def __init__(self):
        super().__init__()
        self.pushed = asyncio.Event()

    async def push(self, rows):
        await super().push(rows)
        self.pushed.set()


class AbsentStore(MemoryStore):
    """A store that is away."""

    async def pull(self, cursor):
        raise StoreUnavailable("made up")

    push = pull


async def test_what_others_know_is_there_at_the_first_request(new_app):
    """A rest that another process told holds from the very first request on."""
    store = MemoryStore()
    first, second = new_app(store), new_app(store)
    await first.load_shared_state()
    limit(first, "a")
    await first._sync.exchange()
    await second.load_shared_state()
    assert second.pool.cooling_down(EVERYTHING) == {"a"}


async def test_a_process_tells_the_others_by_itself(new_app):
    """A rest wakes the synchronisation, which does not wait for its interval."""
    store = PushedStore()
    first, second = new_app(store), new_app(store)
    first._sync._interval = first._sync._pause = 3600
    await first.load_shared_state()
    store.pushed.clear()
    limit(first, "a")
    async with asyncio.timeout(5):
        await store.pushed.wait()
    await second.load_shared_state()
    assert second.pool.cooling_down(EVERYTHING) == {"a"}


async def test_a_request_waits_for_what_others_know(new_app):
    """Serving begins with it, so that nobody asks a credential of which another process knows that it rests."""
    store = SlowStore()
    app, client = new_app(store), Received(b'{"model":"demo","messages":[{"role":"user","content":"hi"}]}')
    serving = asyncio.ensure_future(
        app.serving.serve(client.request, client.outlet, client.journal, None, enters_litellm=False)
    )
    for _ in range(5):
        await asyncio.sleep(0)
    assert client.begun is None
    store.ready.set()
    await serving
    assert client.begun[0] == 200


async def test_all_of_the_first_requests_wait_for_what_others_know(new_app):
    """After a restart many clients come at once, and none of them is served before the state is there."""
    store = SlowStore()
    app = new_app(store)
    requests = [asyncio.ensure_future(app.load_shared_state()) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(request.done() for request in requests)
    store.ready.set()
    await asyncio.gather(*requests)
    await app.load_shared_state()


async def test_a_store_that_does_not_answer_holds_nobody_up(monkeypatch):
    """A request waits for the store for so long and no longer."""
    monkeypatch.setattr(application, "LOAD_SECONDS", 0.001)
    app = app_of(SlowStore())
    async with asyncio.timeout(5):
        await app.load_shared_state()
    assert not app._syncing.done()
    app._syncing.cancel()
    await app.client.close()


async def test_without_a_store_nothing_is_waited_for(new_app):
    """There is nobody to learn from, and a limit has nobody to be told to."""
    app = new_app()
    await app.load_shared_state()
    limit(app, "a")
    assert (app.pool.cooling_down(EVERYTHING), app._syncing) == ({"a"}, None)


async def test_the_last_news_are_pushed_at_the_end():
    """What changed since the last exchange, requests in the book included, is in the store once the process is closed."""
    store = MemoryStore()
    app = app_of(store)
    await app.load_shared_state()
    before = {row.key for row in (await store.pull(0))[0]}
    app.record(Record(0.0, "ben", "glm", "", "", 200, 0.1, 0.1))
    app.watching = asyncio.ensure_future(asyncio.Event().wait())
    await app.close()
    assert {row.key for row in (await store.pull(0))[0]} > before
    await asyncio.wait({app.watching})
    assert app.watching.cancelled()


async def test_a_process_that_served_nobody_is_closed():
    """Nothing has begun, so that there is nothing to end."""
    await app_of(MemoryStore()).close()
    await app_of().close()


# --- the status routes, the demo, the record ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "kind", "away"), [(None, None, False), (MemoryStore, "memory", False), (AbsentStore, "memory", True)]
)
async def test_what_the_status_routes_know(new_app, store, kind, away):
    """Where state is shared, whether that is away, and since when the process runs; a look takes in what others know."""
    app = new_app(store() if store else None)
    await app._refresh_state()
    status = app._store_status()
    assert (status.kind, status.unavailable, status.process_started) == (kind, away, NOW)


async def test_a_look_at_the_status_knows_what_others_did_a_moment_ago(new_app):
    """Counts of other processes are there without a request in between."""
    store = MemoryStore()
    first, second = new_app(store), new_app(store)
    await second._refresh_state()
    first.record(Record(0.0, "ben", "glm", "", "", 200, 0.1, 0.1))
    await first._refresh_state()
    await second._refresh_state()
    assert [*(await second.history.used()).of(Range.TODAY).by_user_and_model] == [("ben", "glm")]


async def test_the_latest_requests_outlive_their_process(new_app):
    """Requests that have ended, and those in progress, are known to other processes and to one that starts later."""
    store = MemoryStore()
    first, second, later = (new_app(store) for _ in range(3))
    for app in (first, second):
        await app.load_shared_state()
    first.record(Record(NOW, "ben", "glm", "", "", 200, 0.1, 0.1))
    with first.running.counted("anna"):
        await first._refresh_state()
        await second._refresh_state()
        assert ([one.user for one in second.recent.latest()], second.running.users()) == (["ben"], {"anna": 1})
    await first.close()
    await second._refresh_state()
    await later._show_records()
    for app in (second, later):
        assert ([one.user for one in app.recent.latest()], app.running.users()) == (["ben"], {})


async def test_a_request_is_listed_as_soon_as_it_has_ended(new_app):
    """Without a store too, the list has a request whose record waits to be written."""
    app = new_app()
    app.record(Record(NOW, "ben", "glm", "", "", 200, 0.1, 0.1))
    await app._show_records()
    assert [one.user for one in app.recent.latest()] == ["ben"]
    assert {route.path for route in app.request_routes().routes()} == {"/pool/requests"}


async def test_the_panel_has_the_status_routes(new_app):
    """They are handed to whoever has an app to put them into."""
    assert {route.path for route in new_app().status_routes().routes()} == {"/pool", "/metrics", "/usage.csv"}


async def test_the_demo_names_what_is_served_now(new_app):
    """A model that lacks its key, the size of the pool, and a configuration that was taken up under way."""
    app = new_app()
    client = Received(b'{"model":"demo","messages":[{"role":"user","content":"hi"}]}')
    await app.serving.serve(client.request, client.outlet, client.journal, None, enters_litellm=False)
    (block,) = json.loads(client.body)["content"]
    assert "glm: not ready, set ZAI_API_KEY" in block["text"]
    assert "2 credentials in the pool" in block["text"]
    app.config.replace({"model_list": CONFIG["model_list"][:1]})
    assert "glm" not in app._demo_text()


@pytest.mark.parametrize(
    ("variables", "ready"),
    [
        ({"CLAUDE_OAUTH_TOKENS": ""}, "demo"),
        ({"CLAUDE_OAUTH_TOKENS": "", "CLAUDE_TOKEN_MODE": "passthrough"}, "demo, claude-*"),
        ({}, "demo, claude-*"),
    ],
    ids=["empty-pool", "passthrough", "pool"],
)
async def test_the_demo_lists_the_ready_models(new_app, variables, ready):
    """Claude is ready if the pool has a credential, or if every user has their own login."""
    claude = {"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*"}}
    app = new_app(loaded={"model_list": [CONFIG["model_list"][0], claude]}, **variables)
    assert app._demo_text().endswith(f"Ready models: {ready}.")


async def test_a_request_that_is_over_is_counted_and_logged(caplog):
    """What the gateway hands out after an answer is in the book of usage, and the end of a setup token is told."""
    app = app_of(CLAUDE_OAUTH_TOKENS="anna@2000-01-01=sk-ant-oat01-made-up-anna")
    record = Record(0.0, "ben", "nobody-serves-this", "", "", 404, 0.1, 0.1, error="not_found_error")
    with caplog.at_level(logging.INFO):
        app.record(record)
        app.record(record)
        app.write_records()
    used = (await app.history.used()).of(Range.TODAY)
    assert {names: counts[:2] for names, counts in used.by_user_and_model.items()} == {("ben", "other"): [2, 2]}
    assert [message for message in caplog.messages if "setup token expired" in message] == [
        "credential anna: setup token expired on 2000-12-31; create a new one with `claude setup-token`"
    ]
    assert sum("status=404" in message for message in caplog.messages) == 2


async def test_a_model_is_counted_by_its_name_while_it_is_listed():
    """The list is that of the configuration that is active."""
    app = app_of()
    record = Record(0.0, "ben", "glm", "", "", 200, 0.1, 0.1)
    app.record(record)
    app.write_records()
    app.config.replace({"model_list": CONFIG["model_list"][:1]})
    app.record(record)
    app.write_records()
    assert sorted((await app.history.used()).of(Range.TODAY).by_model()) == ["glm", "other"]


def test_the_settings_reach_the_pool_and_the_hosts():
    """Who is Claude, and how the pool behaves, is what the environment says."""
    app = app_of(ANTHROPIC_API_BASE="https://claude.example", CLAUDE_TOKEN_SOFT_LIMIT="0.5")
    assert app.hosts.is_claude("https://claude.example/v1/messages")
    assert (len(app.pool), app.settings.soft_limit) == (2, 0.5)


def test_the_order_of_the_settings_is_the_pools():
    """The order that the environment names, and its word on extra usage, are those by which the process chooses."""
    app = app_of(CLAUDE_POOL_ORDER="reset-first", CLAUDE_EXTRA_USAGE="never")
    assert {state.order for state in app.pool._states.values()} == {Order.RESET_FIRST}
    assert app.pool._extra_usage is ExtraUsage.NEVER
