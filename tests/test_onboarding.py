"""cli/onboarding.py: what a client needs, for every model and in every form, as the programs that read it see it."""

import json
import re

import pytest

from claude_proxy.cli.onboarding import (
    FORMATS,
    OnboardingError,
    Setup,
    client_models,
    is_for_this_machine_only,
    placeholder,
    proxy_url,
    setup,
)
from claude_proxy.config.client_models import (
    CHECK_MODEL_VARIABLE,
    CHECK_VARIABLE,
    CONTEXT_VARIABLE,
    MODEL_VARIABLES,
    SEARCH_VARIABLE,
)
from claude_proxy.config.picker_rows import COMPACT_VARIABLE
from claude_proxy.config.settings import Settings

TOKEN, OAUTH = "sk-made-up-token", "sk-ant-oat01-made-up-a"


def model(name, target, **params):
    return {"model_name": name, "litellm_params": {"model": target, **params}}


DEMO = model("demo", "anthropic/demo", api_base="http://demo.invalid")
CLAUDE = model("claude-*", "anthropic/claude-*")
GLM = model("glm", "anthropic/glm", api_base="https://z.example", api_key="os.environ/ZAI_API_KEY")
POSING = model("claude-posing", "anthropic/claude-x", api_base="https://z.example")
LOADED = {"model_list": [DEMO, CLAUDE, GLM, POSING]}
ZAI = {"ZAI_API_KEY": "made-up"}
PLAIN = Setup("http://127.0.0.1:4000", TOKEN, "glm", is_claude=False)


def limited(*models):
    return LOADED | {"claude_proxy": {"users": {"anna": {"models": list(models)}}}}


@pytest.mark.parametrize(
    ("environ", "given", "url"),
    [
        ({}, None, "http://127.0.0.1:4000"),
        ({"HOST": "0.0.0.0", "PORT": "80"}, None, "http://127.0.0.1:80"),
        ({"HOST": "::"}, None, "http://127.0.0.1:4000"),
        ({"HOST": "proxy.team"}, None, "http://proxy.team:4000"),
        ({"HOST": "::1"}, None, "http://[::1]:4000"),
        ({"HOST": "0.0.0.0", "PROXY_DOMAIN": "proxy.example.com"}, None, "https://proxy.example.com"),
        ({"HOST": "::", "PROXY_DOMAIN": "proxy.example.com", "HTTPS_PORT": "8443"}, None, "https://proxy.example.com:8443"),
        ({"HOST": "0.0.0.0", "PROXY_DOMAIN": "localhost"}, None, "http://127.0.0.1:4000"),
        ({"HOST": "localhost", "PROXY_DOMAIN": "proxy.example.com"}, None, "http://localhost:4000"),
        ({"HOST": "::", "PROXY_DOMAIN": "proxy.example.com"}, "https://other.example.org", "https://other.example.org"),
        ({"HOST": "0.0.0.0", "CLAUDE_PROXY_PUBLISHED_HOST": "0.0.0.0"}, None, "http://127.0.0.1:4000"),
        ({"HOST": "0.0.0.0", "CLAUDE_PROXY_PUBLISHED_HOST": "10.0.0.5"}, None, "http://10.0.0.5:4000"),
        ({"HOST": "0.0.0.0", "CLAUDE_PROXY_PUBLISHED_HOST": "[::1]"}, None, "http://[::1]:4000"),
        ({"HOST": "0.0.0.0", "CLAUDE_PROXY_PUBLISHED_PORT": "4080"}, None, "http://127.0.0.1:4080"),
        (
            {"HOST": "0.0.0.0", "CLAUDE_PROXY_PUBLISHED_PORT": "4080", "PROXY_DOMAIN": "proxy.example.com"},
            None,
            "https://proxy.example.com",
        ),
        ({}, "https://proxy.example.org/", "https://proxy.example.org"),
        ({}, " https://proxy.example.org/anthropic", "https://proxy.example.org/anthropic"),
    ],
    ids=["default", "all", "all-ipv6", "name", "ipv6", "domain", "domain-port", "no-domain", "domain-for-nobody",
         "domain-given", "docker", "docker-at-one-address", "docker-at-ipv6", "docker-scaled", "docker-scaled-domain", "given",
         "given-with-a-path"],
)  # fmt: skip
def test_the_address(environ, given, url):
    """The address is the given one, or the domain's where others reach the proxy, or the published one of this machine."""
    assert proxy_url(Settings.parse(environ), given, environ) == url


@pytest.mark.parametrize(
    ("host", "url", "expected"),
    [
        ("0.0.0.0", "http://127.0.0.1:4000", True),
        ("::", "http://127.0.0.1:4000", True),
        ("0.0.0.0", "https://proxy.example.com", False),
        ("10.0.0.1", "http://10.0.0.1:4000", False),
        ("127.0.0.1", "http://127.0.0.1:4000", False),
        ("::1", "http://[::1]:4000", False),
    ],
)
def test_an_address_for_this_machine_only(host, url, expected):
    """An address of this machine's own is one that misleads only where other machines reach the proxy."""
    assert is_for_this_machine_only(Settings.parse({"HOST": host}), url, {}) is expected
    published = {"CLAUDE_PROXY_PUBLISHED_HOST": host}
    assert is_for_this_machine_only(Settings.parse({"HOST": "0.0.0.0"}), url, published) is expected


@pytest.mark.parametrize(
    "given",
    ["proxy.example.org", "ftp://x", "https://", "https://a:b@x", "https://x:0", "https://x:y", "https://x/?a", "https://x/a b",
     "https://x/v1", "https://x/v1/", ""],
)  # fmt: skip
def test_an_address_that_cannot_be_used(given):
    """What is no address, or one to which Claude Code would add a second /v1, is a sentence about --url."""
    with pytest.raises(OnboardingError, match=r"^--url: should"):
        proxy_url(Settings.parse({}), given, {})


def environment(**options):
    settings = Settings.parse({})
    return setup(LOADED, settings, url="http://x", token=TOKEN, **{"model": None, **options}).environment()


def test_a_model_that_is_not_claude_is_all_of_claude_codes_models():
    """With another model no name is left under which Claude Code would ask for one that nobody serves."""
    assert {environment(model="glm")[name] for name in MODEL_VARIABLES} == {"glm"}
    assert {environment(model="claude-posing")[name] for name in MODEL_VARIABLES} == {"claude-posing"}


def test_claude_keeps_its_own_small_models():
    """With one of Claude's models only the main one is named, and with none nothing is."""
    assert [name for name in MODEL_VARIABLES if name in environment(model="claude-opus-4-8[1m]")] == ["ANTHROPIC_MODEL"]
    assert [name for name in MODEL_VARIABLES if name in environment()] == []


@pytest.mark.parametrize("name", ["glm", "claude-posing", "glm[1m]", "claude-opus-4-8", None])
def test_who_checks_calls_in_auto_mode(name):
    """With a model that is not Claude, Claude Code checks calls itself and asks that model; with Claude nothing is said."""
    said = {variable: environment(model=name).get(variable) for variable in (CHECK_VARIABLE, CHECK_MODEL_VARIABLE)}
    other = None if name in ("claude-opus-4-8", None) else name.removesuffix("[1m]")
    assert said == {CHECK_VARIABLE: other and "0", CHECK_MODEL_VARIABLE: other}


@pytest.mark.parametrize("name", ["glm", "glm[1m]"])
def test_the_mark_of_the_long_context_is_claude_s(name):
    """The mark would win over the window that the block says, so a model that is not Claude is named without it."""
    assert {environment(model=name)[variable] for variable in MODEL_VARIABLES} == {"glm"}


SIZED = model("sized", "openai/x", api_base="https://z.example")


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("sized", [32768], "32768"),
        ("sized", [400000], "400000"),
        ("sized", [128000, 64000], "64000"),
        ("sized", [None, 64000], "64000"),
        ("sized", [None], "200000"),
        ("sized", ["many", True, 0], "200000"),
        ("sized[1m]", [None], "1000000"),
        ("sized[1m]", [400000], "400000"),
        ("claude-opus-4-8", [], None),
        (None, [], None),
    ],
)
def test_how_much_a_model_takes(name, sizes, expected):
    """Every block says how much a model takes that is not Claude: by config.yaml, or a size that most models have."""
    entries = [SIZED | ({"model_info": {"max_input_tokens": size}} if size is not None else {}) for size in sizes]
    loaded = {"model_list": [CLAUDE, *entries]}
    one = setup(loaded, Settings.parse({}), url="http://x", token=TOKEN, model=name)
    for form in ("settings", "vscode", "shell", "fish", "powershell"):
        text = FORMATS[form].render([one]).replace(f'"{CONTEXT_VARIABLE}": ""', "")
        assert (f'"{CONTEXT_VARIABLE}"' in text) is (expected is not None)
    assert one.environment().get(CONTEXT_VARIABLE) == expected


@pytest.mark.parametrize(("name", "says"), [("nobody", "nobody is not served"), ("demo", "anna may not use demo")])
def test_a_model_that_would_be_refused(name, says):
    """A block that the proxy would refuse is not printed."""
    with pytest.raises(OnboardingError, match=f"^--model: {says}"):
        setup(limited("glm"), Settings.parse({}), url="http://x", token=TOKEN, model=name, user="anna")


@pytest.mark.parametrize(
    ("environ", "user", "expected"),
    [
        ({"PROXY_STATIC_TOKEN": TOKEN}, None, "PROXY_STATIC_TOKEN-from-.env"),
        ({"PROXY_STATIC_TOKEN": TOKEN}, "anna", "the-token-of-anna"),
        ({"PROXY_USER_TOKENS": f"anna={TOKEN}"}, None, "the-token-that-user-add-showed"),
        ({}, None, "none-is-needed"),
    ],
)
def test_what_stands_for_the_token(environ, user, expected):
    """Where the token is not shown, the words in its place say which one belongs there."""
    assert placeholder(Settings.parse(environ), user) == expected


def test_settings_json():
    """The block is the ``env`` of Claude Code's settings.json."""
    assert json.loads(FORMATS["settings"].render([PLAIN])) == {"env": PLAIN.environment()}


def test_vscode():
    """The block for VS Code holds the same variables as a list of names and values, and asks for no login."""
    block = json.loads(FORMATS["vscode"].render([PLAIN]))
    assert block["claudeCode.disableLoginPrompt"] is True
    assert {entry["name"]: entry["value"] for entry in block["claudeCode.environmentVariables"]} == PLAIN.environment()


@pytest.mark.parametrize(
    ("name", "command"),
    [("glm", "claude-glm"), ("claude-opus-4-8[1m]", "claude-opus-4-8-1m"), ("Open/Router:free", "claude-open-router-free"),
     (None, "claude-via-proxy"), ("proxy", "claude-proxy-model"), ("Claude-Proxy", "claude-proxy-model"),
     ("claude", "claude-claude"), ("模型", "claude-model")],
)  # fmt: skip
def test_the_name_of_the_command(name, command):
    """A command is called after its model, in characters that every shell takes, and never like a command that exists."""
    assert Setup("http://x", TOKEN, name, is_claude=False).command == command


@pytest.mark.parametrize("form", ["shell", "fish", "powershell"])
def test_no_function_replaces_another(form):
    """Two models whose names become the same command get two commands."""
    setups = [Setup("http://x", TOKEN, name, is_claude=False) for name in ("GLM 5", "glm-5", None, "glm/5")]
    text = FORMATS[form].render(setups)
    assert re.findall(r"^(?:function )?(claude-[\w-]+)(?=\(\) \(| \{|$)", text, re.MULTILINE) == [
        "claude-glm-5", "claude-glm-5-2", "claude-via-proxy", "claude-glm-5-3",
    ]  # fmt: skip


def test_form_b():
    """Form B has the proxy's token in a header of its own, for ANTHROPIC_AUTH_TOKEN would keep the login from being sent."""
    one = setup(LOADED, Settings.parse({}), url="http://x", token=TOKEN, model=None, form="b")
    said = one.environment()
    assert said["ANTHROPIC_CUSTOM_HEADERS"] == f"x-litellm-api-key: {TOKEN}\nx-claude-token-mode: passthrough"
    assert "ANTHROPIC_AUTH_TOKEN" not in said
    assert "claudeCode.disableLoginPrompt" not in json.loads(FORMATS["vscode"].render([one]))
    assert one.for_code() == said | {"ANTHROPIC_AUTH_TOKEN": ""}
    assert PLAIN.for_code() == PLAIN.environment() | {"ANTHROPIC_API_KEY": "", "ANTHROPIC_CUSTOM_HEADERS": ""}


@pytest.mark.parametrize("form", ["a", "b"])
@pytest.mark.parametrize("model", [None, "glm"])
def test_a_command_empties_what_another_block_sets(form, model):
    """The settings of a command hold every variable that the block of another form or model could set, if only as empty."""
    one = setup(LOADED, Settings.parse({}), url="http://x", token=TOKEN, model=model, form=form)
    others = [
        setup(LOADED, Settings.parse({}), url="http://x", token=TOKEN, model=name, form=other)
        for name in (None, "glm") for other in ("a", "b")
    ]  # fmt: skip
    written = {name for other in others for name in other.environment()} - {SEARCH_VARIABLE}
    found = one.alone()["env"]
    assert written <= set(found)
    assert {name: value for name, value in found.items() if value} == one.environment()


def test_other_models_for_small_work():
    """A haiku and a subagent model replace that one variable, beside Claude and beside any other model."""
    others = {"ANTHROPIC_DEFAULT_HAIKU_MODEL": "claude-posing", "CLAUDE_CODE_SUBAGENT_MODEL": "demo"}
    said = environment(model="glm", others=others)
    assert {name: said[name] for name in others} == others
    assert {said[name] for name in {*MODEL_VARIABLES} - {*others}} == {"glm"}
    assert {name: value for name, value in environment(others=others).items() if name in MODEL_VARIABLES} == others
    with pytest.raises(OnboardingError, match=r"^--haiku-model: nobody is not served"):
        environment(model="glm", others={"ANTHROPIC_DEFAULT_HAIKU_MODEL": "nobody"})


@pytest.mark.parametrize(
    ("name", "others", "forced"),
    [("glm", (), True), (None, (), False), ("glm", ("haiku",), False), (None, ("haiku",), False), (None, ("subagent",), True),
     ("glm", ("haiku", "subagent"), True)],
)  # fmt: skip
def test_which_model_every_subagent_has(name, others, forced):
    """With another model, or a model for subagents, no agent's file leads to a Claude model; a haiku model keeps its own."""
    variables = {"haiku": "ANTHROPIC_DEFAULT_HAIKU_MODEL", "subagent": "CLAUDE_CODE_SUBAGENT_MODEL"}
    said = environment(model=name, others={variables[one]: "demo" for one in others})
    assert said.get("CLAUDE_CODE_SUBAGENT_MODEL_FORCE") == ("1" if forced else None)


def test_tool_search():
    """A model that is not Claude gets every tool from the start while they are few; Claude Code decides for Claude."""
    assert environment(model="glm")["ENABLE_TOOL_SEARCH"] == "auto"
    assert "ENABLE_TOOL_SEARCH" not in environment()


def sized(name, size, target="openai/x"):
    return model(name, target, api_base="https://z.example") | {"model_info": {"max_input_tokens": size}}


SEVERAL = {
    "model_list": [
        CLAUDE, model("opus-of-ours", "anthropic/claude-opus-4-8"), sized("small", 32_000), sized("middle", 128_000),
        sized("usual", 200_000), sized("large", 400_000), sized("huge", 1_100_000),
    ]
}  # fmt: skip
SONNET, OPUS = "claude-sonnet-4-6", "claude-opus-4-8"


@pytest.mark.parametrize(
    ("name", "context", "rows"),
    [
        ("usual", "200000", {"usual": SONNET, "large": SONNET, "huge": OPUS}),
        ("middle", "128000", {"middle": SONNET, "usual": SONNET, "large": SONNET, "huge": OPUS}),
        ("large", "400000", {"large": OPUS, "usual": SONNET, "huge": OPUS}),
        ("huge", "1100000", {"huge": OPUS, "usual": SONNET, "large": SONNET}),
        ("small", "32000", {"small": None, "middle": None, "usual": SONNET, "large": SONNET, "huge": OPUS}),
        (None, "32000", {"small": None, "middle": None, "usual": SONNET, "large": SONNET, "huge": OPUS}),
    ],
)
def test_the_models_for_the_picker(name, context, rows):
    """Each model in /model has a window that is not larger than its own; one that would get a larger one is left out."""
    settings = Settings.parse({"CLAUDE_OAUTH_TOKENS": OAUTH})
    listed = client_models(SEVERAL, settings).ready({})
    one = setup(SEVERAL, settings, url="http://x", token=TOKEN, model=name, listed=listed)
    picker = json.loads(FORMATS["settings"].render([one]))["modelPicker"]
    assert {row["model"]: row.get("behavesAs") for row in picker["options"]} == rows | {"opus-of-ours": OPUS}
    assert next(iter(picker["options"]))["model"] == name or name is None
    assert one.environment()[CONTEXT_VARIABLE] == context
    assert one.environment().get(COMPACT_VARIABLE) == (context if name in ("middle", "large") else None)
    assert picker.get("replaceBuiltInOptions", False) is (name is not None)


def test_claude_alone_needs_no_picker():
    """Without a model that Claude Code does not know, the block is the variables and nothing else."""
    one = setup(
        {"model_list": [CLAUDE]}, Settings.parse({}), url="http://x", token=TOKEN, model=None, listed=["claude-opus-4-8"]
    )
    assert json.loads(FORMATS["settings"].render([one])) == {"env": one.environment()}
    assert CONTEXT_VARIABLE not in one.environment()


@pytest.mark.parametrize("form", ["a", "b"])
@pytest.mark.parametrize("block", [name for name, one in FORMATS.items() if not one.has_token])
def test_code_holds_no_token(block, form):
    """What is committed with a project reads the token where it runs."""
    text = FORMATS[block].render([Setup("http://x", TOKEN, "glm", is_claude=False, form=form)])
    assert TOKEN not in text
    assert "CLAUDE_PROXY_TOKEN" in text


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_where_it_goes(form):
    """Each form names the place for it, on every system that has one."""
    assert FORMATS[form].where
