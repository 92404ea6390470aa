"""access/routes.py: who asks, and which routes there are."""

import pytest

from claude_proxy.access import administration, routes
from claude_proxy.access.routes import (
    MODEL_ROUTES,
    PUBLIC_ROUTES,
    Caller,
    Role,
    check_route,
    identify,
    is_open,
    is_public,
    wants_page,
)
from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.settings import Settings
from claude_proxy.config.users import RESERVED, SignedIn
from claude_proxy.upstream.headers import read

TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"
OAUTH = "sk-ant-oat01-made-up-client"
CLOSED = Settings.parse({"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER})
OPEN = Settings.parse({"LITELLM_MASTER_KEY": MASTER})
BARE = Settings.parse({})
DATABASE = {"DATABASE_URL": "postgresql://made-up"}
WITH_KEYS = Settings.parse(DATABASE | {"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER})


def role(settings, *headers):
    return identify(read(headers), settings).role


@pytest.mark.parametrize(
    ("headers", "closed", "opened"),
    [
        ([("x-litellm-api-key", TOKEN)], Role.USER, Role.OPEN),
        ([("x-litellm-api-key", f"Bearer {TOKEN}")], Role.USER, Role.OPEN),
        ([("Authorization", f"Bearer {TOKEN}")], Role.USER, Role.OPEN),
        ([("x-api-key", TOKEN)], Role.USER, Role.OPEN),
        ([("x-litellm-api-key", f"{TOKEN}, x-claude-token-mode: passthrough")], Role.USER, Role.OPEN),
        ([("x-litellm-api-key", TOKEN), ("Authorization", f"Bearer {OAUTH}")], Role.USER, Role.OPEN),
        ([("x-litellm-api-key", "wrong"), ("Authorization", f"Bearer {TOKEN}")], Role.USER, Role.OPEN),
        ([("x-litellm-api-key", MASTER)], Role.ADMIN, Role.ADMIN),
        ([("Authorization", f"Bearer {MASTER}")], Role.ADMIN, Role.ADMIN),
        ([("x-litellm-api-key", TOKEN), ("x-api-key", MASTER)], Role.ADMIN, Role.ADMIN),
        ([], None, Role.OPEN),
        ([("x-litellm-api-key", "wrong")], None, Role.OPEN),
        ([("x-litellm-api-key", TOKEN[:-1])], None, Role.OPEN),
        ([("x-litellm-api-key", f"{TOKEN}x")], None, Role.OPEN),
        ([("x-litellm-api-key", TOKEN.upper())], None, Role.OPEN),
        ([("x-litellm-api-key", f"{TOKEN}, {MASTER}")], None, Role.OPEN),
        ([("x-litellm-api-key", "ü")], None, Role.OPEN),
        ([("Authorization", f"Basic {TOKEN}")], None, Role.OPEN),
        ([("Authorization", f"Bearer {OAUTH}")], None, Role.OPEN),
        ([("x-claude-token-mode", TOKEN)], None, Role.OPEN),
        ([("cookie", f"token={TOKEN}")], None, Role.OPEN),
    ],
    ids=[
        "token", "with-bearer", "as-authorization", "as-api-key", "with-a-comma", "beside-a-credential",
        "second-header-is-right",
        "master", "master-as-authorization", "both", "nothing", "wrong", "too-short", "too-long", "other-case", "two-in-one",
        "non-ascii", "basic", "claude-credential", "in-another-header", "cookie",
    ],
)  # fmt: skip
def test_identify(headers, closed, opened):
    """The static token makes a user, the master key an administrator; others are refused, or let in by an open proxy."""
    if closed is None:
        with pytest.raises(Refused) as caught:
            role(CLOSED, *headers)
        assert caught.value.status == 401
    else:
        assert role(CLOSED, *headers) is closed
    assert role(OPEN, *headers) is opened


@pytest.mark.parametrize("role", Role)
def test_what_claude_code_reads_for_its_user(role):
    """Every caller who may use the models reads their own data; a virtual key does not, because only LiteLLM can check it."""
    caller = Caller(role, None, "anna")
    for method, route in routes.CLIENT_ROUTES:
        if role is Role.KEY:
            with pytest.raises(Refused, match="not for virtual keys"):
                check_route(caller, method, route)
        else:
            check_route(caller, method, route)
        with pytest.raises(Refused):
            check_route(Caller(Role.USER, None, "anna"), "POST", route)


def test_an_empty_token_opens_nothing():
    """With no secret set nothing that a client sends makes it an administrator."""
    for value in ("", "Bearer ", "None", "null", TOKEN):
        assert role(BARE, ("x-litellm-api-key", value)) is Role.OPEN


PERSON_TOKEN, OTHER_TOKEN = "sk-made-up-token-of-anna", "sk-made-up-token-of-ben"
PEOPLE = Settings.parse({"LITELLM_MASTER_KEY": MASTER, "PROXY_USER_TOKENS": f"anna={PERSON_TOKEN},ben={OTHER_TOKEN}"})
BOTH = Settings.parse({"PROXY_STATIC_TOKEN": TOKEN, "PROXY_USER_TOKENS": f"anna={PERSON_TOKEN}", "LITELLM_MASTER_KEY": MASTER})


@pytest.mark.parametrize(
    ("settings", "token", "role", "name"),
    [
        (BOTH, MASTER, Role.ADMIN, "admin"), (BOTH, TOKEN, Role.USER, "static"), (BOTH, PERSON_TOKEN, Role.USER, "anna"),
        (PEOPLE, OTHER_TOKEN, Role.USER, "ben"), (OPEN, "whatever", Role.OPEN, "anyone"),
    ],
)  # fmt: skip
def test_every_caller_has_a_name(settings, token, role, name):
    """A person is called by name; who holds the master key, the static token or nothing is called what they hold."""
    caller = identify(read([("x-api-key", token)]), settings)
    assert (caller.role, caller.name) == (role, name)


def test_a_person_comes_before_the_static_token():
    """Who sends both tokens is the person, and their own token is what goes on."""
    caller = identify(read([("x-litellm-api-key", TOKEN), ("x-api-key", PERSON_TOKEN)]), BOTH)
    assert (caller.name, caller.token.reveal()) == ("anna", PERSON_TOKEN)


@pytest.mark.parametrize("headers", [[], [("x-api-key", "wrong")], [("x-api-key", PERSON_TOKEN[:-1])]])
def test_a_proxy_with_people_is_not_open(headers):
    """Where people have tokens, nobody comes in without one, whether or not there is a static token."""
    with pytest.raises(Refused) as caught:
        role(PEOPLE, *headers)
    assert caught.value.status == 401


def test_the_caller_carries_its_own_token():
    """What goes on to LiteLLM is the token that opened the door, and nothing for an open proxy."""
    assert identify(read([("x-api-key", TOKEN), ("x-goog-api-key", "other")]), CLOSED).token.reveal() == TOKEN
    assert identify(read([("x-api-key", TOKEN)]), OPEN).token is None


@pytest.mark.parametrize(
    ("headers", "says"),
    [([], "is missing"), ([("x-api-key", "made-up-wrong")], "is not this proxy's"),
     ([("x-api-key", "made-up-wrong")], "worked before was removed or replaced: ask the proxy's operator"),
     ([("Authorization", f"Bearer {OAUTH}")], "is missing")],
    ids=["none", "wrong", "removed", "claude-credential"],
)  # fmt: skip
def test_the_refusal_is_helpful(headers, says):
    """A refusal says whether the token is missing, or wrong or removed, and which header is expected, and holds no secret."""
    with pytest.raises(Refused) as caught:
        role(CLOSED, *headers)
    message = str(caught.value)
    assert says in message
    assert "x-litellm-api-key" in message
    assert "made-up" not in message


USER, ADMIN, ANONYMOUS = (Caller(role, None, role.value) for role in (Role.USER, Role.ADMIN, Role.OPEN))


@pytest.mark.parametrize("caller", [USER, ADMIN, ANONYMOUS], ids=["user", "admin", "open"])
@pytest.mark.parametrize(("method", "route"), sorted(MODEL_ROUTES))
def test_model_routes(caller, method, route):
    """Whoever got in may use the model routes."""
    check_route(caller, method, route)


def test_the_model_routes_are_these():
    """The routes on which a Claude credential is meant are few, and adding one is a decision."""
    assert sorted(MODEL_ROUTES) == [
        ("GET", "/models"), ("GET", "/v1/models"), ("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"),
    ]  # fmt: skip
    assert {route for route in PUBLIC_ROUTES if "health" not in route} == {"/"}


@pytest.mark.parametrize("route", ["/pool", "/metrics"])
def test_a_key_that_nobody_has_checked_sees_no_numbers(route):
    """Anybody can make up a virtual key, and LiteLLM checks it on its own routes only: the pool is not shown for one."""
    with pytest.raises(Refused) as caught:
        check_route(Caller(Role.KEY, None, "key"), "GET", route, database=True)
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("variables", "is_it"),
    [
        ({}, True),
        ({"PROXY_STATIC_TOKEN": TOKEN}, False),
        ({"PROXY_USER_TOKENS": f"anna={PERSON_TOKEN}"}, False),
        ({"DATABASE_URL": "postgresql://u:p@127.0.0.1/d"}, False),
    ],
)
def test_what_closes_a_proxy(variables, is_it):
    """A token for all, one for a person, or a database with its keys: each closes the proxy."""
    assert is_open(Settings.parse(variables)) is is_it


def status_of(caller, method, route):
    try:
        check_route(caller, method, route)
    except Refused as refused:
        return refused.status
    return 200


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("POST", "/v1/chat/completions"), ("POST", "/chat/completions"), ("POST", "/v1/responses"), ("POST", "/v1/embeddings"),
        ("POST", "/v1/completions"), ("POST", "/v1/messages/batches"), ("GET", "/v1/messages"), ("HEAD", "/v1/models"),
        ("POST", "/v1/models"), ("GET", "/v1/models/claude"), ("POST", "/V1/messages"), ("POST", "//v1/messages"),
        ("POST", "/anthropic/v1/messages"), ("POST", "/openai/v1/responses"), ("POST", "/vertex-ai/x"), ("POST", "/gemini/x"),
        ("POST", "/bedrock/model/x/invoke"), ("POST", "/pass-through"), ("GET", "/mcp"), ("GET", "/ui"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"), ("POST", "/metrics"), ("HEAD", "/pool"), ("GET", "/debug/memory/summary"), ("GET", "/credentials"),
        ("POST", "/utils/x"),
        ("POST", "/api/event_logging/batch"), ("GET", "/guardrails/list"), ("POST", "/queue/chat/completions"),
        ("GET", "//key/list"),
        ("GET", "/Key/list"), ("POST", "/health/test_connection"), ("GET", "/config/yaml"), ("POST", "/config/update"),
        ("POST", "/model/new"), ("PATCH", "/model/x/update"), ("GET", "/get/config/callbacks"), ("GET", "/cache/ping"),
        ("GET", "/team/x/callback"), ("POST", "/team//member/x/reset_spend"), ("POST", "/key/a/b/regenerate"),
        ("DELETE", "/key/list"), ("GET", "/router/settings"), ("GET", "/settings"),
        ("OPTIONS", "*"), ("GET", "key/list"), ("GET", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("caller", [USER, ADMIN, ANONYMOUS], ids=["user", "admin", "open"])
def test_what_is_on_no_list_is_closed(caller, method, route):
    """A route that this project does not cover is served to nobody, not even to the master key."""
    assert status_of(caller, method, route) == 404


@pytest.mark.parametrize(
    "route",
    [
        "/key/list",
        "/health",
        "/model/info",
        "/user/list",
        "/team/made-up/members/me",
        "/spend/logs",
        "/usage.csv",
    ],
)
def test_administration_needs_the_master_key(route):
    """Administration, and ``/health``, which calls every model, are open to the master key alone, on an open proxy too."""
    assert [status_of(caller, "GET", route) for caller in (USER, ANONYMOUS, ADMIN)] == [403, 403, 200]


@pytest.mark.parametrize("route", ["/pool", "/metrics"])
def test_quota_and_usage_are_shown_to_all_who_may_use_the_models(route):
    """What shows quota and usage needs no master key; what each caller sees there is another matter."""
    assert [status_of(caller, "GET", route) for caller in (USER, ANONYMOUS, ADMIN)] == [200, 200, 200]


@pytest.mark.parametrize("action", routes.POOL_ACTIONS)
def test_the_pool_is_changed_by_the_master_key_alone(action):
    """What changes the pool is for the master key, on an open proxy too, and for POST."""
    key = Caller(Role.KEY, None, "key")
    assert [status_of(one, "POST", f"/pool/{action}") for one in (USER, ANONYMOUS, key, ADMIN)] == [403, 403, 403, 200]
    assert status_of(ADMIN, "GET", f"/pool/{action}") == 404
    assert status_of(ADMIN, "POST", f"/pool/{action}/x") == 404


@pytest.mark.parametrize(
    ("method", "route", "accept", "page"),
    [
        ("GET", "/pool", "text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("GET", "/pool", "application/json", False),
        ("GET", "/pool", "*/*", False),
        ("GET", "/pool", "", False),
        ("POST", "/pool", "text/html", False),
        ("GET", "/usage.csv", "text/html", False),
        ("GET", "/metrics", "text/html", False),
        ("GET", "/v1/models", "text/html", False),
    ],
)
def test_only_the_page_is_shown_to_everybody(method, route, accept, page):
    """A browser gets the page of /pool without a token, and no header ``accept`` opens anything else."""
    assert wants_page(method, route, accept) is page


def test_no_route_of_a_model_is_administration():
    """The lists do not overlap."""
    assert not [
        one
        for one in MODEL_ROUTES | routes.STATUS_ROUTES | routes.OWN_CHANGES | routes.CLIENT_ROUTES
        if administration.is_served(*one, database=True)
    ]


@pytest.mark.parametrize("settings", [WITH_KEYS, Settings.parse(DATABASE)], ids=["token", "no-token"])
def test_with_a_database_others_need_a_virtual_key(settings):
    """What LiteLLM may take for a key is LiteLLM's to check; nobody is let in without one, nor with a Claude credential."""
    assert role(settings, ("Authorization", "Bearer sk-made-up-virtual")) is Role.KEY
    for headers in ([], [("x-api-key", "made-up")], [("Authorization", f"Bearer {OAUTH}")]):
        with pytest.raises(Refused) as caught:
            role(settings, *headers)
        assert caught.value.status == 401


def test_with_a_database_the_tokens_keep_their_roles():
    """The static token and the master key are told from virtual keys before LiteLLM is asked."""
    assert role(WITH_KEYS, ("x-api-key", TOKEN)) is Role.USER
    assert role(WITH_KEYS, ("x-api-key", MASTER)) is Role.ADMIN


@pytest.mark.parametrize("route", ["/key/list", "/health", "/spend/logs", "/v2/model/info", "/team/list", "/audit/x"])
def test_a_virtual_key_opens_no_administration(route):
    """Only the master key, or who is signed in, administrates; a key may ask about itself and about no other."""
    key = Caller(Role.KEY, None, "key")
    with pytest.raises(Refused) as caught:
        check_route(key, "GET", route, database=True)
    assert caught.value.status == 403
    check_route(Caller(Role.ADMIN, None, "admin"), "GET", route, database=True)
    check_route(key, "GET", "/key/info", database=True)
    with pytest.raises(Refused):
        check_route(key, "GET", "/key/info", "key=another", database=True)


@pytest.mark.parametrize(
    ("method", "route"), [("GET", "/ui"), ("GET", "/ui/api-keys"), ("POST", "/v2/login"), ("GET", "/get_image")]
)
def test_the_pages_are_there_with_a_database_only(method, route):
    """LiteLLM's pages and its sign-in need no token, and are closed where there is nothing to sign in to."""
    assert is_public(method, route, WITH_KEYS)
    assert not is_public(method, route, CLOSED)
    with pytest.raises(Refused) as caught:
        check_route(Caller(Role.ADMIN, None, "admin"), method, route)
    assert caught.value.status == 404


def test_nobody_is_called_what_stands_for_others():
    """A person cannot have a name by which requests of callers without one are counted: it would see their usage."""
    assert {routes.ADMIN_NAME, routes.STATIC_NAME, routes.KEY_NAME, routes.ANYONE} <= RESERVED


class SignIns:
    """Access tokens of a test: the only valid one is that of ben."""

    ready = True

    def find(self, token):
        return SignedIn("ben", ("team-a",), "s1", "") if token.reveal() == "eyJ-of-ben" else None

    def stands(self, signed_in):
        return signed_in.name == "ben"


@pytest.fixture
def signing_in():
    settings = Settings.parse(
        {"PROXY_STATIC_TOKEN": TOKEN, "PROXY_USER_TOKENS": f"anna={PERSON_TOKEN}", "LITELLM_MASTER_KEY": MASTER}
    )
    settings.users.sign_ins = SignIns()
    return settings


def test_a_user_who_has_signed_in(signing_in):
    """An access token makes a user, with the name and the groups of the sign-in, in any header that carries a token."""
    for name, value in (("authorization", "Bearer eyJ-of-ben"), ("x-litellm-api-key", "eyJ-of-ben")):
        caller = identify(read([(name, value)]), signing_in)
        assert (caller.role, caller.name, caller.groups, caller.token.reveal()) == (Role.USER, "ben", ("team-a",), "eyJ-of-ben")
        assert caller.signed_in.session == "s1"
    assert identify(read([("x-api-key", "eyJ-of-ben"), ("authorization", f"Bearer {MASTER}")]), signing_in).role is Role.ADMIN


@pytest.mark.parametrize(("token", "name"), [(MASTER, "admin"), (TOKEN, "static"), (PERSON_TOKEN, "anna")])
def test_other_tokens_beside_sign_in(signing_in, token, name):
    """With sign-in every other token is what it was, and no part of one."""
    caller = identify(read([("x-api-key", token)]), signing_in)
    assert (caller.name, caller.groups, caller.signed_in) == (name, (), None)


def test_a_sign_in_that_has_ended(signing_in):
    """Its token is a 401 that says what to do, without the token in it."""
    with pytest.raises(Refused) as caught:
        identify(read([("authorization", "Bearer eyJ-of-anna")]), signing_in)
    assert caught.value.status == 401
    assert "/login" in str(caught.value)
    assert "eyJ-of-anna" not in str(caught.value)


def test_keys_that_are_not_known_yet(signing_in):
    """Where tokens cannot be checked, one that may be valid is a 503: a 401 would send its user to sign in."""
    signing_in.users.sign_ins.ready = False
    with pytest.raises(Refused) as caught:
        identify(read([("authorization", "Bearer eyJ-of-anna")]), signing_in)
    assert caught.value.status == 503
    assert identify(read([("authorization", f"Bearer {PERSON_TOKEN}")]), signing_in).name == "anna"
    with pytest.raises(Refused) as caught:
        identify(read([("authorization", "Bearer sk-wrong")]), signing_in)
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("method", "route", "attempt"),
    [
        ("HEAD", "/bedrock", False),
        ("GET", "/bedrock/inference-profiles", False),
        ("GET", "/bedrock/inference-profiles/us.anthropic.claude-x", False),
        ("POST", "/bedrock/model/x/count-tokens", True),
        ("POST", "/v1/messages", True),
    ],
)
def test_probes_of_claude_code(method, route, attempt):
    """What Claude Code asks without a token of its own accord is no failed login; with a wrong token it is one."""
    assert routes.is_login_attempt(method, route, read([])) is attempt
    assert routes.is_login_attempt(method, route, read([("x-api-key", "wrong")]))
