"""Arbitrary input of a client, an upstream or an operator: nothing raises, passes a limit, or shows a secret.

The rules are those of ``fuzz/rules.py``; here they get structured inputs, and the cases that once broke one.
"""

import json
from collections import Counter
from datetime import date

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_thinking import GARBAGE, SIZES, streams

from claude_proxy.access import users_file
from claude_proxy.config import models
from claude_proxy.config.model_access import Limits
from claude_proxy.config.settings import VARIABLES
from claude_proxy.config.users import UserBook
from claude_proxy.credentials.wordings import (
    EXTRA_USAGE,
    NOT_CLAUDE_CODE,
    OUT_OF_CREDIT,
    REFUSED_ACCOUNT,
    UNHEALED_THINKING,
    WRONG_HEADER,
)
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.request import parse_body, read_view
from fuzz import rules
from fuzz.targets import TARGETS

MANY = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
TRIED: Counter[str] = Counter()


@pytest.fixture(autouse=True, scope="module")
def figures():
    """Print the number of inputs of each surface at the end."""
    yield
    print("\nhostile inputs tried, none lost:", ", ".join(f"{name} {count}" for name, count in sorted(TRIED.items())))


SECRETS = ("sk-ant-oat01-made-up-alpha", "sk-ant-api03-made-up-delta", "sk-made-up-static-0123456789")
ODD = st.text(st.characters(exclude_characters="\x00"), max_size=12)


def pieces(*given, size=8):
    """Texts that are almost valid."""
    return st.lists(st.one_of(st.sampled_from([*given, *SECRETS]), ODD), max_size=size).map("".join)


# --- Streams -----------------------------------------------------------------------------------------------------------------

STARTED = b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-sonnet-5"}}\n\n'


@MANY
@given(st.one_of(GARBAGE, streams().map(lambda both: both[0]), GARBAGE.map(lambda data: STARTED + data)), SIZES)
@example(STARTED.replace(b"\n", b"\r"), [len(STARTED) - 1])
def test_streams(data, sizes):
    """An upstream's stream, or any other bytes, is forwarded the same for every cut, and Claude's to the byte."""
    TRIED["streams"] += 1
    rules.stream(data, sizes or [1])


@pytest.mark.parametrize("index", [10**4300 - 1, -1, 1e300, True, None, "0"])
def test_an_index_that_is_none(index):
    """An index that is too large belongs to no block, even if the index after it could not be printed."""
    TRIED["streams"] += 1
    blocks = [("thinking", 0), ("text", index), ("thinking", 1), ("text", 2)]
    start = [{"type": "content_block_start", "index": place, "content_block": {"type": kind}} for kind, place in blocks]
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in start)
    thinking = ThinkingFilter()
    assert b'"index":0' in (thinking.feed(data) + thinking.finish()).replace(b" ", b"")


# --- Headers and routes ------------------------------------------------------------------------------------------------------

NAMES = [
    "x-litellm-api-key", "authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key", "cookie",
    "x-claude-token-mode", "x-claude-code-session-id", "anthropic-beta", "anthropic-version", "user-agent", "accept", "host",
    "content-type", "content-length", "transfer-encoding", "connection", "x-forwarded-host", "forwarded", "x-litellm-timeout",
    "x-litellm-tags", "litellm-changed-by", "x-mcp-servers", "x-original-url", "proxy-authorization", "te", "x-app",
]  # fmt: skip


@st.composite
def header_lists(draw):
    """Headers as a server reads them: names in any case, repeated, with values in Latin-1."""
    found = []
    for name, value in draw(
        st.lists(st.tuples(st.sampled_from(NAMES), pieces("Bearer ", "bearer\t", ", x-", ":", ",")), max_size=8)
    ):
        spelled = draw(st.sampled_from([str.lower, str.upper, str.title, str.swapcase]))(name)
        found.append((spelled, value.encode("utf-8", "surrogatepass").decode("latin-1")))
    return found


@MANY
@given(header_lists())
@example([("user-agent", f"cli {SECRETS[0]}"), ("X-CLAUDE-CODE-SESSION-ID", SECRETS[1])])
@example([("x-litellm-api-key", f"Bearer bearer {SECRETS[0]}")])
@example([("Connection", "authorization, anthropic-beta, host, x-app"), ("x-app", "cli"), ("anthropic-beta", "a")])
def test_headers(sent):
    """LiteLLM gets no switch and no credential of a client, in any case, repetition or spacing."""
    TRIED["headers"] += 1
    rules.client_headers(sent)


PARTS = st.sampled_from(
    [
        "/",
        "//",
        "/.",
        "/..",
        "/v1",
        "/messages",
        "/count_tokens",
        "/anthropic",
        "/key",
        "/generate",
        "/info",
        "/ui",
        "/pool",
        "/managed",
        "/settings",
        ";x",
        "%2f",
    ]
)


@MANY
@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "get", "MADE-UP"]),
    st.one_of(st.lists(PARTS, max_size=6).map("".join), ODD),
    ODD,
)
def test_routes(method, path, query):
    """A path that is not exactly on the list is closed to everyone without the master key."""
    TRIED["routes"] += 1
    rules.route(method, path, query)


# --- What operators write ----------------------------------------------------------------------------------------------------

LISTED = pieces(
    "anna", "=", ",", "\n", " ", "@2026-03-01", "@2026-02-30", '"', ";", "#", "sha256:", "0f" * 32, "admin", "\ufeff"
)


@MANY
@given(LISTED)
@example(f"anna@{SECRETS[0]}={SECRETS[1]}")
def test_token_lists(text):
    """A list of credentials is parsed or rejected, and shows none of them."""
    TRIED["token lists"] += 1
    rules.token_list(text)


@MANY
@given(LISTED, LISTED, st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_lists_of_people(content, variable, coding):
    """A list of users is parsed line by line, and no error about a broken line shows a token."""
    TRIED["lists of people"] += 1
    rules.people(content.encode(coding, "replace"), variable)


LINES = st.sampled_from(
    ["anna=sk-made-up-token-of-anna", "ben = sk-made-up-token-of-ben  # b", "#", "x", "", "\xff=1", "\ufeff"]
)
SPACES = st.sampled_from(["", " ", "\t", "\xa0", "\u2003", "\x0b", "\ufeff"])


@settings(MANY, max_examples=150)
@given(st.lists(st.tuples(SPACES, LINES), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
@example([("\xa0", "anna=sk-made-up-token-of-anna")], "\n")
@example([("", "anna=sk-made-up-token-of-anna"), ("\ufeff", "ben = sk-made-up-token-of-ben  # b")], "\n")
def test_the_file_of_people_is_edited(tmp_path_factory, lines, end):
    """An added user is in the file, a removed user is not, and no other line changes, whatever the file contains."""
    TRIED["edits of people"] += 1
    path = tmp_path_factory.mktemp("people") / "users"
    before = end.join(space + line for space, line in lines).encode()
    path.write_bytes(before)
    book = UserBook((), path)
    there = {user.name for user in book.all_users()}
    users_file.add(path, book, "zoe", None, date(2026, 1, 2))
    assert before.rstrip(b"\r\n") in path.read_bytes() or not before.strip()
    assert {user.name for user in UserBook((), path).all_users()} == there | {"zoe"}
    for name in ("zoe", *there):
        users_file.remove(path, UserBook((), path), name)
    assert UserBook((), path).all_users() == ()


VALUES = pieces(
    "a=", ",", "https://", "http://", "host", ":", "@", "/", "redis://", "postgresql://", "1", "-", "rotate", "nan", "٣", "é"
)


@MANY
@given(st.dictionaries(st.sampled_from([name for name in VARIABLES if not name.endswith("_FILE")]), VALUES, max_size=5))
@example({"ANTHROPIC_API_BASE": "https://host\nevil"})
@example({"CLAUDE_TOKEN_MODE": SECRETS[0], "PORT": f"x{SECRETS[1]}"})
def test_settings(environ):
    """Settings are parsed or rejected with messages that contain no secret; a parsed URL can be requested."""
    TRIED["settings"] += 1
    rules.settings(environ)


@MANY
@given(
    pieces(
        "https://",
        "http://",
        "api.anthropic.com",
        "API.Anthropic.COM",
        ":443",
        ".",
        "@",
        "\\",
        "/",
        "#",
        "?",
        "%2e",
        "\t",
        "\n",
    )
)
@example("https://api.anthropic.com\\.evil.test/")
@example("https://api.anthropic.com\t.evil.test/")
def test_addresses(url):
    """A URL that counts as Anthropic's is sent to Anthropic's host."""
    TRIED["addresses"] += 1
    rules.address(url)


SCALARS = st.sampled_from([None, True, 0, -1, 1.5, "", "x", "*", "glm", "os.environ/X", "anthropic/x", date(2026, 1, 2)])
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "model_list",
                    "model_name",
                    "litellm_params",
                    "model",
                    "model_info",
                    "access_groups",
                    "claude_proxy",
                    "users",
                    "models",
                    1,
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
ENTRY = {"model_name": "glm", "litellm_params": {"model": "anthropic/glm"}}
NEEDED = {"litellm_settings": {"callbacks": [models.CALLBACK]}, "general_settings": {"custom_auth": models.CUSTOM_AUTH}}
CONFIGS = st.one_of(
    TREES,
    st.tuples(TREES, TREES, TREES).map(
        lambda parts: (
            {
                "model_list": [ENTRY | {"model_info": parts[0]}],
                "claude_proxy": {"users": {"anna": parts[1]}},
                "router_settings": parts[2],
            }
            | NEEDED
        )
    ),
)


@MANY
@given(
    st.one_of(
        CONFIGS.map(lambda tree: yaml.safe_dump(tree).encode()),
        st.binary(max_size=60),
        ODD.map(lambda text: text.encode(errors="replace")),
    )
)
@example(b"a: 2026-02-31")
@example(b"[" * 5000)
@example(b"a: " + b"9" * 5000)
def test_config(tmp_path_factory, content):
    """A config.yaml is parsed or rejected, and a parsed one raises nothing in later checks."""
    TRIED["config.yaml"] += 1
    path = tmp_path_factory.getbasetemp() / "hostile.yaml"
    path.write_bytes(content)
    try:
        loaded = models.load(path)
    except models.ConfigError as error:
        assert error.mistakes  # noqa: PT017 - whether it is raised is the input's choice
        return
    active_config = models.ActiveConfig(loaded, {})
    assert models.model_names(loaded)
    active_config.limits.allows("anna", "glm")


# --- Bodies ------------------------------------------------------------------------------------------------------------------

FIELDS = [
    "model", "messages", "system", "tools", "content", "type", "role", "id", "tool_use_id", "name", "input", "text", "thinking",
    "signature", "data", "source", "cache_control", "ttl", "metadata", "user_id", "fallbacks", "stream", "max_tokens",
    "context_management", "edits", "output_config", "input_schema", "is_error", "budget_tokens", "api_base", "tool_choice",
    "tool", "definition", "tool_name", "defer_loading", "clear_at", "effort", "display",
]  # fmt: skip
WORDS = [
    "glm", "gpt", "claude-sonnet-5", "user", "assistant", "system", "text", "thinking", "redacted_thinking", "tool_use",
    "tool_result", "image", "document", "base64", "server_tool_use", "web_search_tool_result", "mcp", "advisor", "enabled",
    "tool_addition", "tool_removal", "tool_reference", "tool_definition", "next_user_message", "ephemeral",
    "cpx_" + "\ud83d" * 50, "clear_thinking_20251015", "claude-proxy:glm:s", "{}", "",
]  # fmt: skip


def written(value):
    """Return JSON in which an object is a list of pairs, so that a key may be duplicated."""
    if isinstance(value, tuple):
        return "{" + ",".join(f"{json.dumps(name)}:{written(inner)}" for name, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def objects(inner):
    return st.lists(st.tuples(st.sampled_from(FIELDS), inner), max_size=6).map(tuple)


JSON = st.recursive(
    st.one_of(st.sampled_from(WORDS), st.sampled_from([None, True, 0, -1, 1e308, 10**400]), ODD),
    lambda inner: st.one_of(st.lists(inner, max_size=4), objects(inner)),
    max_leaves=20,
)


def typed(role, inner):
    """Turns with blocks, so that checks of blocks find something."""
    return st.tuples(st.just(("role", role)), st.tuples(st.just("content"), st.lists(objects(inner), max_size=4)))


BODIES = st.one_of(
    objects(JSON),
    st.tuples(
        st.tuples(st.just("model"), st.sampled_from(["glm", "gpt", "claude-proxy/glm"])),
        st.tuples(
            st.just("messages"),
            st.lists(st.one_of(typed("user", JSON), typed("assistant", JSON), JSON), min_size=1, max_size=4),
        ),
        st.tuples(st.sampled_from(["tools", "fallbacks", "model", "system"]), JSON),
        st.tuples(st.sampled_from(["tools", "fallbacks", "context_management", "metadata", "thinking"]), JSON),
    ),
)
TWICE = b'{"model":"glm","messages":[1],"%s":[{"model":"gpt"}],"%s":[]}'


@settings(MANY, max_examples=150)
@given(BODIES.map(written).map(str.encode))
@example(b'{"model":"glm","model":"gpt","messages":[1]}')
@example(b'{"model":"gpt","\\u006dodel":"glm","messages":[1]}')
@example(TWICE % (b"tools", b"tools"))
@example(TWICE % (b"fallbacks", b"fallbacks"))
@example(json.dumps({"model": "glm", "messages": [{"content": [{"type": "tool_use", "id": "cpx_" + "\ud83d" * 50}]}]}).encode())
def test_bodies(raw):
    """A body is rejected, or every provider gets only fields that it accepts; limits hold for any parser."""
    TRIED["bodies"] += 1
    rules.request_body(raw)


@MANY
@given(
    st.one_of(st.binary(max_size=80), st.tuples(st.sampled_from(["utf-16", "utf-32-be", "utf-7", "latin-1", "utf-8-sig"]), ODD))
)
@example(b'{"model":"glm","messages":[1]}\x00')
@example(b"[" * 100_000)
def test_bodies_that_are_no_text(given):
    """Bytes in any encoding are a body or are rejected."""
    TRIED["bodies"] += 1
    raw = (
        given
        if isinstance(given, bytes)
        else json.dumps({"model": "glm", "messages": [given[1]]}, ensure_ascii=False).encode(given[0], "replace")
    )
    rules.request_body(raw)


def test_a_number_of_a_million_digits():
    """A number that Python does not parse makes the body invalid JSON."""
    TRIED["bodies"] += 1
    for max_tokens in (b"9" * 1_000_000, b"9" * 4301):
        body = b'{"model":"glm","messages":["x"],"max_tokens":' + max_tokens + b"}"
        for read in (parse_body, read_view):
            with pytest.raises(Exception, match="not JSON"):
                read(body)


def test_a_field_that_is_there_twice_is_limited_twice():
    """A user with one model cannot name another one in a duplicate field either."""
    TRIED["bodies"] += 2
    limits = Limits.of({"claude_proxy": {"users": {"anna": {"models": ["glm"]}}}})
    for name in (b"tools", b"fallbacks"):
        assert limits.forbidden("anna", "glm", TWICE % (name, name)) == "gpt"


# --- What an error quotes ----------------------------------------------------------------------------------------------------

RECOGNISED = (*EXTRA_USAGE, *NOT_CLAUDE_CODE, *WRONG_HEADER, *REFUSED_ACCOUNT, *OUT_OF_CREDIT, *UNHEALED_THINKING, "Error")


@MANY
@given(pieces(*RECOGNISED, "messages.0.content.0: ", ": ", ". ", "'", "`", "\n", ".", size=5))
def test_quotations(words):
    """Whatever a client quotes of Anthropic's messages, an error that quotes it affects no credential."""
    TRIED["quotations"] += 1
    rules.quotation(words)


# --- What leaves -------------------------------------------------------------------------------------------------------------


@MANY
@given(pieces("sk-ant-", "made-up", "***", "-", size=12), st.lists(st.sampled_from(SECRETS), max_size=3))
def test_redaction(text, secrets):
    """No redacted text contains a secret, even if secrets overlap."""
    TRIED["texts"] += 1
    rules.redacted(text, secrets)


@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzers_seeds(name):
    """The fuzzer's seeds break no rule, cut off at any place or with a noise byte."""
    for seed in TARGETS[name].seeds:
        for place in range(0, len(seed) + 1, max(1, len(seed) // 40)):
            for data in (seed[:place], seed[:place] + b"\xff" + seed[place:], seed[:place] + seed[place + 1 :]):
                TRIED["seeds"] += 1
                TARGETS[name].run(data)
