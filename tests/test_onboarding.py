"""cli/onboarding.py: what a client needs, for every model and in every form, as the programs that read it see it."""

import json
import os
import shutil
import subprocess

import pytest

from claude_proxy.cli.onboarding import (
    CHECK_MODEL_VARIABLE,
    CHECK_VARIABLE,
    CONTEXT_VARIABLE,
    FORMATS,
    MODEL_VARIABLES,
    OnboardingError,
    Setup,
    default_model,
    is_claude,
    is_for_this_machine_only,
    placeholder,
    proxy_url,
    ready_models,
    setup,
)  # fmt: skip
from claude_proxy.config.settings import Settings

TOKEN, OAUTH = "sk-made-up-token", "sk-ant-oat01-made-up-a"
# What a shell could stumble over, in a place where it may really stand: the path of an address, or somebody's own token.
ODD = "a'b\"c$d`e\\f%g!h;i&j|k#l~m{n}o*p"


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
        ({}, "https://proxy.example.org/", "https://proxy.example.org"),
        ({}, " https://proxy.example.org/anthropic", "https://proxy.example.org/anthropic"),
    ],
    ids=["default", "all", "all-ipv6", "name", "ipv6", "domain", "domain-port", "no-domain", "domain-for-nobody",
         "domain-given", "given", "given-with-a-path"],
)  # fmt: skip
def test_the_address(environ, given, url):
    """The address is the given one, or the domain's where others reach the proxy, or one that this machine can use."""
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
    assert is_for_this_machine_only(Settings.parse({"HOST": host}), url) is expected


@pytest.mark.parametrize(
    "given",
    ["proxy.example.org", "ftp://x", "https://", "https://a:b@x", "https://x:0", "https://x:y", "https://x/?a", "https://x/a b",
     "https://x/v1", "https://x/v1/", ""],
)  # fmt: skip
def test_an_address_that_cannot_be_used(given):
    """What is no address, or one to which Claude Code would add a second /v1, is a sentence about --url."""
    with pytest.raises(OnboardingError, match=r"^--url: should"):
        proxy_url(Settings.parse({}), given, {})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("claude-opus-4-8", True), ("glm", False), ("demo", False), ("claude-posing", False), ("nobody", False)],
)
def test_what_is_claude(name, expected):
    """A model is Claude when Anthropic's host serves it, whatever its name says."""
    assert is_claude(LOADED, Settings.parse({}), name) is expected


@pytest.mark.parametrize(
    ("loaded", "environ", "pool", "expected"),
    [
        (LOADED, {}, True, None),
        (LOADED, {}, False, "claude-posing"),
        (LOADED, ZAI, False, "glm"),
        ({"model_list": [DEMO, CLAUDE]}, {}, False, "demo"),
        ({"model_list": [CLAUDE]}, {}, False, None),
        (limited("glm"), ZAI, True, "glm"),
        (limited("claude-*"), ZAI, True, None),
        (limited("claude-opus-*"), ZAI, True, None),
        (limited("demo"), ZAI, True, "demo"),
    ],
)
def test_the_model_that_is_named_by_itself(loaded, environ, pool, expected):
    """With a pool Claude Code chooses; without one, or for a person who may not use Claude, it is the first that is ready."""
    settings = Settings.parse({"CLAUDE_OAUTH_TOKENS": OAUTH} if pool else {})
    assert default_model(loaded, settings, environ, "anna") == expected


def test_ready_models():
    """Patterns, models without their key and those that a person may not use are left out; a demo counts for want of others."""
    assert ready_models(LOADED, ZAI) == ["glm", "claude-posing"]
    assert ready_models(limited("glm"), ZAI, "anna") == ["glm"]
    assert ready_models({"model_list": [DEMO, CLAUDE, GLM]}, {}) == ["demo"]


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
    is_other = name not in ("claude-opus-4-8", None)
    assert said == {CHECK_VARIABLE: "0" if is_other else None, CHECK_MODEL_VARIABLE: name if is_other else None}


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
    """Claude Code is told what a model that is not Claude takes: what config.yaml says of it, or a size that most have."""
    entries = [SIZED | ({"model_info": {"max_input_tokens": size}} if size is not None else {}) for size in sizes]
    loaded = {"model_list": [CLAUDE, *entries]}
    one = setup(loaded, Settings.parse({}), url="http://x", token=TOKEN, model=name)
    for form in ("settings", "vscode", "shell", "fish", "powershell"):
        assert (f'"{CONTEXT_VARIABLE}"' in FORMATS[form].render([one])) is (expected is not None)
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
     (None, "claude-proxy")],
)  # fmt: skip
def test_the_name_of_the_command(name, command):
    """A command is called after its model, in characters that every shell takes."""
    assert Setup("http://x", TOKEN, name, is_claude=False).command == command


SHELLS = {
    "bash": ("shell", ["bash", "-c"], "{text}\nclaude-odd -p 'two words' ''"),
    "zsh": ("shell", ["zsh", "-f", "-c"], "{text}\nclaude-odd -p 'two words' ''"),
    "fish": ("fish", ["fish", "--no-config", "-c"], "{text}\nclaude-odd -p 'two words' ''"),
    "pwsh": ("powershell", ["pwsh", "-NoProfile", "-Command"], "{text}\nclaude-odd -p 'two words'; exit $LASTEXITCODE"),
}


@pytest.mark.parametrize("shell", [name for name in SHELLS if name != "pwsh" or shutil.which(name)])
def test_the_command_of_each_shell(shell, tmp_path):
    """In every shell the command hands claude a private file with the very values, passes arguments and code on, cleans up."""
    form, start, script = SHELLS[shell]
    if shutil.which(start[0]) is None:
        pytest.skip(f"{start[0]} is not installed")
    stub, temporary = tmp_path / "bin" / "claude", tmp_path / "temporary"
    places = {"OUT": str(tmp_path), "TMPDIR": str(temporary), "HOME": str(tmp_path)}
    stub.parent.mkdir()
    temporary.mkdir()
    stub.write_text(
        '#!/bin/sh\n[ "$1" = --settings ] && shift && cp -p "$1" "$OUT/settings" && shift\n'
        'printf "%s\\n" "$@" > "$OUT/arguments"\nexit 7\n'
    )
    stub.chmod(0o755)
    odd = Setup(f"http://x/{ODD}", f"{TOKEN}{ODD}", "odd", is_claude=False)
    other = Setup("http://y", TOKEN, "other", is_claude=True)
    text = FORMATS[form].render([other, odd])
    done = subprocess.run(
        [*start, script.replace("{text}", text)],
        env=places | {"PATH": f"{stub.parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert json.loads((tmp_path / "settings").read_text()) == {"env": odd.environment() | {"ANTHROPIC_API_KEY": ""}}
    assert (tmp_path / "settings").stat().st_mode & 0o077 == 0
    arguments = (tmp_path / "arguments").read_text()
    assert arguments == ("-p\ntwo words\n" if shell == "pwsh" else "-p\ntwo words\n\n")
    assert list(temporary.iterdir()) == []


def test_powershell_quotes():
    """In PowerShell's single quotes only a single quote means something, and it is doubled."""
    text = FORMATS["powershell"].render([Setup("http://x", "it's", None, is_claude=True)])
    assert '"ANTHROPIC_AUTH_TOKEN": "it\'\'s"' in text
    assert text.isascii()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_where_it_goes(form):
    """Each form names the place for it, on every system that has one."""
    assert FORMATS[form].where
