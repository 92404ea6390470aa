"""check/: each kind of error is found with its place and cause, and a correct project has no finding."""

import copy
import functools
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import httpx
import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from claude_proxy.check import (
    client,
    client_file,
    deployments,
    dotenv_text,
    endpoints,
    fallbacks,
    files,
    hosts,
    installation,
    listing,
    live,
    models,
    names,
    report,
    table,
    tokens,
    users,
    variables,
    web_search,
)
from claude_proxy.check.facts import (
    DotEnv,
    Facts,
    gather,
    read_dotenv,
    read_users,
    site_packages,
)
from claude_proxy.check.findings import Level, error, info, warning
from claude_proxy.check.lines import lines_of
from claude_proxy.cli import onboarding
from claude_proxy.config.outbound_proxies import outbound_proxies
from claude_proxy.config.settings import Settings, SettingsError
from claude_proxy.providers.endpoints import Hosts, Origin

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = (ROOT / "config.yaml.example").read_text(encoding="utf-8")
STATIC, MASTER = "sk-made-up-static-0123456789abcdef", "sk-made-up-master-0123456789abcdef"
SETTINGS = [
    "fallbacks",
    "default_fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "model_group_alias",
    "num_retries",
]
OAUTH = "sk-ant-oat01-" + "made-up-oauth-" * 6 + "abcdefghijk"
OTHER_OAUTH = OAUTH[:-1] + "x"
API_KEY = "sk-ant-api03-" + "made-up-key-" * 8
ENVIRON = {"PROXY_STATIC_TOKEN": STATIC, "LITELLM_MASTER_KEY": MASTER}


@functools.cache
def parsed(text):
    """Return what a config.yaml says and the line of each of its entries: the example is read once, for a tenth of a second."""
    return yaml.safe_load(text), lines_of(text)


def facts(config=EXAMPLE, dotenv="", client_settings=None, **environ):
    """The facts of a project that is right but for what is given; ``environ`` is also in .env."""
    loaded, config_lines = parsed(config if isinstance(config, str) else yaml.safe_dump(config))
    values = ENVIRON | environ
    lines = {name: number for number, name in enumerate(values, start=1)}
    try:
        settings = Settings.parse(values)
    except SettingsError:
        settings = None
    return Facts(
        environ=values,
        dotenv=DotEnv(Path(".env"), {**values, **dict(line.split("=", 1) for line in dotenv.splitlines())}, lines),
        config=copy.deepcopy(loaded),
        lines=config_lines,
        settings=settings,
        users=read_users(values, settings),
        client=client_file.ClientFile(values=client_settings) if client_settings else None,
        litellm_version=installation.PINNED,
    )


def entry(name="m", model="anthropic/x", **params):
    return {"model_name": name, "litellm_params": {"model": model, **params}}


def said(findings):
    """Each finding as its level and its sentence."""
    return [f"{finding.level.value} {finding}" for finding in findings]


def only(findings, *parts):
    """There is one finding, and it says all of this."""
    (found,) = said(findings)
    for part in parts:
        assert part in found, found


# --- what is right -----------------------------------------------------------------------------------------------------------


def test_nothing_is_found_in_the_example():
    """The example with its tokens set has no errors, and the warnings are about keys that are not set; the pool is empty."""
    results = table.run(facts(), table.When.START, table.When.COMMAND)
    found = [finding for _, findings in results for finding in findings]
    assert {finding.problem for finding in found} == {
        *(f"model {name} is not ready" for name in ("glm", "glm-fast", "kimi", "openrouter")),
        "glm, glm-fast are not ready, so these fallbacks are skipped",
        "the pool has no credential: a request for anthropic/*, claude-* without the user's own Claude login gets an error",
    }


def test_the_ready_blocks_are_right():
    """With every comment sign taken away the example has still no key that is unknown, and no endpoint that is wrong."""
    text = "\n".join(
        line.replace("  # ", "  ", 1) if line.startswith(("  # - ", "  #   ")) else line for line in EXAMPLE.split("\n")
    )
    everything = facts(text)
    assert len(everything.models) > len(facts().models)
    assert said(table.of_config(everything)) == []


# --- config.yaml -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"router_setings": {}}, ["error", "line 1", "router_setings is not known", "did you mean router_settings?"]),
        ({"whatever": 1}, ["warning", "whatever is not known", "nothing reads it"]),
        ({"router_settings": {"num_retrys": 1}}, ["error", "line 2", "num_retrys", "did you mean num_retries?"]),
        ({"litellm_settings": {"drop_param": True}}, ["error", "line 2", "in litellm_settings", "drop_params"]),
        ({"general_settings": {"master_kye": "x"}}, ["error", "in general_settings", "master_key"]),
        ({"claude_proxy": {"user": {}}}, ["error", "in claude_proxy", "did you mean users?"]),
        ({"fallbacks": []}, ["error", "line 1", "not known at the top of the file", "belongs under router_settings"]),
        ({"include": ["more.yaml"]}, ["warning", "line 1", "are not checked"]),
        ({"model_list": [entry() | {"model_inf": {}}]}, ["error", "line 4", "model_info"]),
        ({"model_list": [entry(api_bse="https://x/y")]}, ["error", "line 3", "api_bse", "did you mean api_base?"]),
        ({"model_list": [entry(of_the_provider=1)]}, ["info", "line 4", "sends it to the provider"]),
    ],
)  # fmt: skip
def test_unknown_keys(config, says):
    """A key that nothing reads is found with its line, and a misspelling with what it was meant to be."""
    only(files.unknown_keys(facts(config)), *says)


@pytest.mark.parametrize(
    "config",
    [
        {"claude_proxy": {"users": {"anna": ["glm"]}}},
        {"model_list": [entry(input_cost_per_token=0.1, output_cost_per_token_above_200k_tokens=1, top_k=5, temperature=0.1)]},
        {"model_list": [entry() | {"model_info": {"access_groups": ["a"]}}]},
    ],
)
def test_known_keys(config):
    """Keys of this project's, prices, and parameters of a request are known."""
    assert said(files.unknown_keys(facts(config))) == []


def test_repeated_keys():
    """YAML keeps the last of two equal keys, so the second one's line is reported, at any depth."""
    text = "model_list: [{a: 1}]\nrouter_settings:\n  num_retries: 1\n  num_retries: 2\nmodel_list: [{a: 1}]\n"
    found = said(files.repeated_keys(facts(text)))
    assert [part in one for part, one in zip(("line 4: num_retries", "line 5: model_list"), found, strict=True)] == [True, True]
    assert "first in line 1" in found[1]


CONFIG_WITH_FALLBACKS = """model_list:
- model_name: glm
  litellm_params: {model: anthropc/glm, api_base: "http://127.0.0.1:1/v1"}
router_settings:
  fallbacks: [{glm: [gone]}]
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", []),
        (CONFIG_WITH_FALLBACKS.replace("model_list", "model_lst"), ["model_lst is not known; did you mean model_list?"]),
        (CONFIG_WITH_FALLBACKS.split("router", 1)[0] * 2, ["model_list is there twice"]),
        (CONFIG_WITH_FALLBACKS[CONFIG_WITH_FALLBACKS.index("router") :], []),
    ],
)
def test_no_cascade(text, says):
    """Without one model_list there is no finding about models, and no check of them that passes."""
    results = table.run(facts(text), *table.When)
    found = said(finding for _, findings in results for finding in findings)
    assert len(found) == len(says), found
    assert all(words in one for words, one in zip(says, found, strict=True))
    assert "what Claude Code asks for is served" not in [check.title for check, _ in results]


# --- users -------------------------------------------------------------------------------------------------------------------

TOKEN = "made-up-token-of-somebody"


def limited(*names, **environ):
    users = {name: {"models": ["glm"]} for name in names}
    return facts(yaml.safe_dump({"claude_proxy": {"users": users}}), **environ)


@pytest.mark.parametrize(
    ("name", "environ", "says"),
    [
        ("Annaa", {}, ["warning", "line 3: no user is called Annaa", "did you mean anna?"]),
        ("annna", {}, ["warning", "did you mean anna?"]),
        ("doras", {}, ["warning", "did you mean dora?"]),
        ("removed", {}, ["warning", "no user is called removed", "run `claude-proxy user add removed`, or remove the entry"]),
        ("anyone", {}, ["warning", "no user is called anyone, so this limit has no effect; remove the entry"]),
        (
            "Annna",
            {"DATABASE_URL": "postgresql://host/name"},
            ["warning", "the models of a virtual key are set in the database", "did you mean anna?"],
        ),
    ],
)
def test_limits_of_nobody(tmp_path, name, environ, says):
    """A limited user who is neither in the variable nor in the file is found with the line and the user that was meant."""
    (tmp_path / "users").write_text(f"dora={TOKEN}-dora\n")
    given = {"PROXY_USER_TOKENS": f"anna={TOKEN}", "CLAUDE_PROXY_USERS_FILE": str(tmp_path / "users"), **environ}
    only(users.limited_users(limited(name, **given)), *says)
    assert users.limited_users in table.OF_CONFIG


def test_limits_of_somebody(tmp_path):
    """Users of the variable and of the file, the static token, all virtual keys and an open proxy may have limits."""
    (tmp_path / "users").write_text(f"dora={TOKEN}-dora\n")
    given = limited("Anna", "DORA", "static", PROXY_USER_TOKENS=f"anna={TOKEN}", PROXY_USER_TOKENS_FILE=str(tmp_path / "users"))
    assert said(users.limited_users(given)) == []
    assert said(users.limited_users(limited("anyone", PROXY_STATIC_TOKEN=""))) == []
    assert said(users.limited_users(limited("key", DATABASE_URL="postgresql://host/name"))) == []


def test_a_file_of_users_that_others_may_write(tmp_path):
    """The finding names the file, its mode and the remedy, and no limited user is reported as unknown."""
    path = tmp_path / "users"
    path.write_text(f"anna={TOKEN}\n")
    path.chmod(0o666)
    given = limited("anna", PROXY_USER_TOKENS_FILE=str(path))
    only(users.users_file(given), "error", f"({path}, mode 666)", f"`chmod go-w {path}`")
    assert said(users.limited_users(given)) == []


def test_limits_where_people_are_not_known(tmp_path):
    """The users of an unreadable file are not known, so no limited user is reported as unknown."""
    path = tmp_path / "users" / "below-a-file"
    path.parent.write_text("")
    given = limited("anna", PROXY_USER_TOKENS_FILE=str(path))
    assert said(users.limited_users(given)) == []
    only(users.users_file(given), "error", "cannot be read")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# people\nanna made-up-secret\n", ["error", "users line 2: expected name=token"]),
        (f"anna={TOKEN}\nanna={TOKEN}-2\n", ["error", "users line 2: a user named 'anna' already exists"]),
        ("dora=made-up\n", ["error", "users line 1: the token has fewer than 16 characters"]),
        (f"dora={STATIC}\n", ["error", "users line 1: the token is also PROXY_STATIC_TOKEN"]),
        (None, ["error", "PROXY_USER_TOKENS_FILE: names a file that does not exist"]),
    ],
)
def test_the_file_of_users(tmp_path, text, says):
    """A line that cannot be read is found with its number, and no token is shown."""
    if text is not None:
        (tmp_path / "users").write_text(text)
    found = list(users.users_file(facts(PROXY_USER_TOKENS_FILE=str(tmp_path / "users"))))
    only(found, *says)
    assert "made-up" not in str(found)


def test_a_right_file_of_users(tmp_path):
    """Users, comments and empty lines are right, and so is a file that does not exist yet."""
    assert said(users.users_file(facts(CLAUDE_PROXY_USERS_FILE=str(tmp_path / "users")))) == []
    (tmp_path / "users").write_text(f"# people\n\nanna={TOKEN}  # since 2026-01-01\n")
    assert said(users.users_file(facts(CLAUDE_PROXY_USERS_FILE=str(tmp_path / "users")))) == []


def test_a_file_of_another_name(tmp_path):
    """A config.yml is not read; beside a config.yaml it is merely said."""
    (tmp_path / "config.yml").write_text("")
    alone = replace(facts(), config_path=tmp_path / "config.yaml")
    only(files.file_names(alone), "error", "config.yml", "should be config.yaml")
    (tmp_path / "config.yaml").write_text("")
    only(files.file_names(alone), "warning")


def test_unset_variables():
    """A model without its key is found with its line and the variable's name."""
    config = {"model_list": [entry("a", api_key="os.environ/A_API_KEY"), entry("b", api_key="os.environ/SET")]}
    only(models.unset_variables(facts(config, SET="1")), "warning", "line 2", "model a is not ready", "set A_API_KEY in .env")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("anthropc/claude-x", ["error", "line 3", "did you mean anthropic?"]),
        ("nobody-has-this/x", ["error", "is not a provider"]),
    ],
)
def test_providers(model, says):
    """A prefix that LiteLLM does not know is an error."""
    config = f"model_list:\n- model_name: m\n  litellm_params: {{model: {model}}}\n"
    only(deployments.providers(facts(config)), *says)


@pytest.mark.parametrize("model", ["openrouter/a/b:free", "vertex_ai/claude", "anthropic/*", "hosted_vllm/x"])
def test_known_providers(model):
    """A known prefix is right."""
    assert said(deployments.providers(facts({"model_list": [entry(model=model)]}))) == []


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"model": "anthropic/x", "api_base": "https://host/api/v1/"}, ["error", "ends with /v1", "remove /v1"]),
        ({"model": "anthropic/x", "api_base": "https://api.anthropic.com/v1"}, ["error", "ends with /v1"]),
        ({"model": "openai/x", "api_base": "https://host/v1/v1"}, ["error", "/v1 twice"]),
        ({"model": "openai/x", "api_base": "https://host/v1/chat/completions"}, ["warning", "remove /chat/completions"]),
        ({"model": "openai/x", "api_base": "https://host"}, ["warning", "has no path"]),
        ({"model": "openai/x", "api_base": "host/v1"}, ["error", "has no scheme"]),
        ({"model": "openai/x", "api_base": "os.environ/BASE"}, ["error", "has no scheme"]),
        (
            {"model": "openai/x", "api_base": "http://far.example.com/v1", "api_key": "os.environ/KEY"},
            ["warning", "unencrypted"],
        ),
    ],
)
def test_endpoints(params, says):
    """The path of an api_base fits its format, and a key goes to another network encrypted."""
    config = {"model_list": [{"model_name": "m", "litellm_params": params}]}
    only(endpoints.endpoints(facts(config, KEY="made-up-key", BASE="not a url")), *says)


@pytest.mark.parametrize(
    "params",
    [
        {"model": "anthropic/x", "api_base": "https://host/api/anthropic"},
        {"model": "openai/x", "api_base": "https://host/v1"},
        {"model": "openai/x", "api_base": "http://127.0.0.1:8000/v1", "api_key": "made-up-key"},
        {"model": "openai/x", "api_base": "http://host.docker.internal:8000/v1", "api_key": "made-up-key"},
        {"model": "openai/x", "api_base": "http://far.example.com/v1", "api_key": "none"},
        {"model": "openai/x", "api_base": "os.environ/NOT_SET"},
    ],
)
def test_right_endpoints(params):
    """Requests to a private network may be unencrypted; a variable that is not set is reported by another check."""
    assert said(endpoints.endpoints(facts({"model_list": [{"model_name": "m", "litellm_params": params}]}))) == []


@pytest.mark.parametrize(
    ("info", "says"),
    [
        (None, []),
        ({"mode": "chat"}, []),
        ({"chat_server": "sglang"}, []),
        ({"chat_server": "sgland"}, ["error", "line 5", "chat_server of m", "sglang"]),
        ({"chat_server": ["sglang"]}, ["error", "chat_server of m"]),
    ],
)
def test_chat_servers(info, says):
    """A server that is named is one of the table's."""
    config = {"model_list": [{"model_name": "m", "litellm_params": {"model": "openai/x"}, "model_info": info}]}
    found = deployments.chat_servers(facts(config))
    only(found, *says) if says else said(found) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("made-up-clear-text", ["warning", "line 3", "api_key is in config.yaml in clear text"]),
        ("$MY_KEY", ["error", "write os.environ/MY_KEY"]),
        ("${MY_KEY}", ["error", "write os.environ/MY_KEY"]),
        ("os.environ.MY_KEY", ["error", "write os.environ/MY_KEY"]),
        ("os.environ[MY_KEY]", ["error", "write os.environ/MY_KEY"]),
        (" os.environ/MY_KEY", ["error", "write os.environ/MY_KEY"]),
    ],
)
def test_keys_in_clear_text(value, says):
    """A key in config.yaml is found, and so is a reference that is not quite one; neither value is shown."""
    found = list(models.clear_text_keys(facts({"model_list": [entry(api_key=value)]})))
    only(found, *says)
    assert "made-up" not in str(found)


MASTER_REFERENCE = "os.environ/LITELLM_MASTER_KEY"


@pytest.mark.parametrize("name", ["CLAUDE_API_KEYS", "CLAUDE_OAUTH_TOKENS", "PROXY_STATIC_TOKEN", "REDIS_URL"])
def test_the_proxy_s_own_secrets_are_not_for_litellm(name):
    """A reference to a variable that LiteLLM does not see is an error at its place; the master key is there for LiteLLM."""
    config = {"model_list": [entry(api_key=f"os.environ/{name}")], "general_settings": {"master_key": MASTER_REFERENCE}}
    only(models.own_secrets(facts(config)), "error", f"{name} is the proxy's own", "another name")


@pytest.mark.parametrize("value", ["none", "EMPTY", "os.environ/MY_KEY", "not-needed"])
def test_no_key_in_clear_text(value):
    """A reference, and a word for no key, are right."""
    assert said(models.clear_text_keys(facts({"model_list": [entry(api_key=value)]}))) == []


def searching(**section):
    """A configuration that searches the web."""
    return yaml.safe_load(EXAMPLE) | {"claude_proxy": {"web_search": section}}


BRAVE = {"provider": "brave", "api_key": "os.environ/MADE_UP_KEY"}
OWN = {"provider": "searxng", "api_base": "http://searxng:8080"}


@pytest.mark.parametrize(
    ("section", "environ", "says"),
    [
        (BRAVE, {}, ["warning", "web_search", "lacks MADE_UP_KEY; no model can search the web", "set MADE_UP_KEY in .env"]),
        (BRAVE, {"MADE_UP_KEY": OAUTH}, ["warning", "has a Claude credential as its key"]),
        (BRAVE | {"api_base": "http://search.example.org"}, {"MADE_UP_KEY": "made-up-key"},
         ["warning", "the key of web_search is sent to search.example.org unencrypted", "write https://"]),
    ],
)  # fmt: skip
def test_a_web_search(section, environ, says):
    """The finding says why no model can search, or that the key is sent unencrypted; it never shows the key."""
    found = facts(searching(**section), **environ)
    only(web_search.web_search(found), *says)
    assert "made-up" not in "".join(said(table.of_config(found)))


@pytest.mark.parametrize(
    ("section", "environ"),
    [
        (BRAVE, {"MADE_UP_KEY": "made-up-key"}), (OWN, {}), (OWN | {"api_key": "none"}, {}),
        ({"provider": "bing"}, {}),  # a mistake, which stops the start and is told there
    ],
)  # fmt: skip
def test_a_right_web_search(section, environ):
    """There is no finding about a web search that is ready, or without one."""
    assert said(web_search.web_search(facts(searching(**section), **environ))) == []
    assert said(web_search.web_search(facts())) == []


def test_the_key_of_a_web_search():
    """It may stand in clear text as little as another key, and its host is looked at as a provider's."""
    found = facts(searching(provider="brave", api_key="made-up-key-0123", api_base=f"http://127.0.0.1:{closed_port()}"))
    only(models.clear_text_keys(found), "warning", "api_key is in config.yaml in clear text")
    assert any("web_search" in one and "accepts no connection" in one for one in said(hosts.hosts(found)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fallbacks": [{"glm": ["gml-fast"]}]}, ["error", "gml-fast, which is not served", "did you mean glm-fast?"]),
        ({"fallbacks": [{"gone": ["glm"]}]}, ["warning", "the fallback of gone never applies"]),
        ({"fallbacks": [{"opus-*": ["glm"]}]}, ["warning", "opus-*"]),
        ({"context_window_fallbacks": [{"glm": ["gone"]}]}, ["error", "gone, which is not served"]),
        ({"default_fallbacks": ["gone"]}, ["error", "default_fallbacks is gone"]),
        ({"model_group_alias": {"short": "gone"}}, ["error", "the alias short is gone"]),
        ({"fallbacks": ["glm"]}, ["error", "is not a model with a list of fallbacks"]),
        ({"fallbacks": [{"glm": "kimi"}]}, ["error", "is not a model with a list of fallbacks"]),
    ],
)
def test_fallbacks(settings, says):
    """A fallback goes from a model that there is to a model that there is."""
    config = yaml.safe_load(EXAMPLE) | {"router_settings": settings}
    only(fallbacks.fallbacks(facts(config)), "config.yaml line", *says)


@pytest.mark.parametrize(
    "settings",
    [
        {"fallbacks": [{"claude-haiku-*": ["glm"]}, {"anthropic/claude-x": ["claude-anything"]}, {"*": ["glm"]}]},
        {"fallbacks": [{"short": ["glm"]}, {"glm": ["short"]}], "model_group_alias": {"short": "glm"}},
    ],
)
def test_right_fallbacks(settings):
    """A pattern counts on both sides, and an alias is a name."""
    assert said(fallbacks.fallbacks(facts(yaml.safe_load(EXAMPLE) | {"router_settings": settings}))) == []


LOCAL = entry("local", "openai/local", api_base="http://127.0.0.1:8000/v1", api_key="none")
HAIKU = {"fallbacks": [{"claude-*": ["local"]}, {"claude-haiku-*": ["glm-fast"]}, {"anthropic/claude-haiku-*": ["glm-fast"]}]}


def test_a_pattern_without_a_usable_fallback():
    """A pattern whose fallbacks are all skipped has none: the check names it, what to set, and the line that does not apply."""
    loaded = yaml.safe_load(EXAMPLE)
    config = loaded | {"model_list": [*loaded["model_list"], LOCAL], "router_settings": HAIKU}
    only(
        fallbacks.unready_fallbacks(facts(config, CLAUDE_OAUTH_TOKENS=OAUTH)),
        "warning config.yaml line",
        "claude-haiku-*, anthropic/claude-haiku-* have no usable fallback: glm-fast is not ready",
        "the less specific line claude-* does not apply instead",
        "set ZAI_API_KEY in .env, or write another model on these lines of fallbacks",
    )
    assert said(fallbacks.unready_fallbacks(facts(config, CLAUDE_OAUTH_TOKENS=OAUTH, ZAI_API_KEY="made-up"))) == []


def test_a_skipped_fallback_beside_a_usable_one():
    """A fallback that is skipped while another one of its line responds is named, and the line has a usable fallback."""
    loaded = yaml.safe_load(EXAMPLE)
    settings = {"fallbacks": [{"claude-*": ["glm", "local"]}]}
    config = loaded | {"model_list": [*loaded["model_list"], LOCAL], "router_settings": settings}
    only(fallbacks.unready_fallbacks(facts(config, CLAUDE_OAUTH_TOKENS=OAUTH)), "glm is not ready, so this fallback is skipped")


def test_the_names_that_claude_code_asks_for():
    """Each of Claude Code's own models that is not served is found, unless a variable replaces it."""
    config = {"model_list": [entry("glm"), entry("claude-opus-5-5")]}
    found = said(models.claude_code_names(facts(config, "ANTHROPIC_DEFAULT_HAIKU_MODEL=glm")))
    assert "not served: claude-sonnet-5-5 (sonnet), claude-fable-5-2 (fable);" in found[0]
    assert len(found) == 1
    assert said(models.claude_code_names(facts())) == []


@pytest.mark.parametrize(
    ("variable", "value", "served"),
    [
        ("ANTHROPIC_MODEL", "gml", False),
        ("ANTHROPIC_MODEL", "glm[1m]", True),
        ("ANTHROPIC_MODEL", "opusplan", True),
        ("ANTHROPIC_DEFAULT_OPUS_MODEL", "kimmi", False),
        ("CLAUDE_CODE_SUBAGENT_MODEL", "sonnet", True),
        ("CLAUDE_CODE_SUBAGENT_MODEL", "haiku-9", False),
    ],
)
@pytest.mark.parametrize("place", [".env", "settings.json"])
def test_the_names_that_variables_ask_for(variable, value, served, place):
    """A variable of Claude Code's, in .env or in settings.json, names a model that is served."""
    given = {"dotenv": f"{variable}={value}"} if place == ".env" else {"client_settings": {variable: value}}
    found = [line for line in said(models.claude_code_names(facts(**given))) if "which is not served" in line]
    assert bool(found) is not served
    assert all(one.startswith("error") and variable in one and value in one for one in found)


def test_a_model_that_only_sounds_like_claude():
    """It is allowed and said: the host decides who sees a credential."""
    config = {"model_list": [entry("claude-glm", api_base="https://api.z.ai/api/anthropic"), entry("claude-x")]}
    only(models.claude_names_elsewhere(facts(config)), "info", "claude-glm is served by api.z.ai")


# --- .env --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dotenv(tmp_path):
    def written(text, mode=0o600):
        path = tmp_path / ".env"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return replace(facts(), dotenv=read_dotenv(path))

    return written


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# a comment\n\nPORT 4000\n", ["error", ".env line 3", "has no = behind PORT and is not read"]),
        ("PORT=4000\nHOST=\nPORT=4001\n", ["warning", ".env line 3", "PORT", "twice"]),
        ("PROXY_STATIC_TOKN=x\n", ["error", ".env line 1", "did you mean PROXY_STATIC_TOKEN?"]),
        ("\nCLAUDE_OAUTH_TOKEN=x\n", ["error", ".env line 2", "did you mean CLAUDE_OAUTH_TOKENS?"]),
        ("zai_api_key=x\n", ["error", "did you mean ZAI_API_KEY?"]),
    ],
)
def test_lines_of_env(dotenv, text, says):
    """A line that is not read, a name that is set twice, and a misspelt name are found."""
    given = dotenv(text)
    only([*dotenv_text.lines(given), *variables.names_in_dotenv(given)], *says)


@pytest.mark.parametrize("text", ["XAI_API_KEY=1\nMY_OWN=2\n", "ZAI_API_KEY_FILE=/x\n", "export PORT=4000\n", "PORT=\n", ""])
def test_right_lines_of_env(dotenv, text):
    """Variables of other programs are allowed."""
    given = dotenv(text)
    found = [*dotenv_text.lines(given), *variables.names_in_dotenv(given)]
    assert not [one for one in found if one.level is not Level.INFO]


@pytest.mark.parametrize(("mode", "who"), [(0o644, "every user"), (0o640, "its group"), (0o600, None)])
def test_permissions(dotenv, mode, who):
    """Only the owner should be able to read .env."""
    found = said(files.permissions(dotenv("", mode)))
    assert (who is None) is (found == [])
    assert who is None or who in found[0]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("CLAUDE_OAUTH_TOKENS", f"anna={OAUTH[:40]}", ["warning", "anna", "has 40 characters"]),
        ("CLAUDE_OAUTH_TOKENS", f'anna="{OAUTH}"', ["error", "anna", "has quotes in it"]),
        ("CLAUDE_OAUTH_TOKENS", f"anna={OAUTH},ben={OAUTH}", ["warning", "ben", "is the same value as anna"]),
        ("CLAUDE_OAUTH_TOKENS", "anna=made-up-and-not-anthropics", ["error", "anna", "does not start with sk-ant-oat"]),
        ("CLAUDE_OAUTH_TOKENS", "sk-ant-oat01-AAA", ["error", "entry 1", "the value of an example"]),
        ("CLAUDE_OAUTH_TOKENS", "anna=sk-ant-oat01-...", ["error", "the value of an example"]),
        ("CLAUDE_API_KEYS", "sk-made-up-of-openai", ["error", "entry 1", "does not start with sk-ant-api"]),
    ],
)
def test_credentials(variable, value, says):
    """A credential that no request can go out with is found by its label, and its value is not shown."""
    found = list(tokens.credentials(facts(**{variable: value})))
    only(found, variable, *says)
    assert "made-up" not in str(found)


def test_right_credentials(tmp_path):
    """Whole credentials are right, from a file as well."""
    (tmp_path / "keys").write_text(f"ci={API_KEY}")
    right = facts(CLAUDE_OAUTH_TOKENS=f"anna={OAUTH}, ben = {OTHER_OAUTH}", CLAUDE_API_KEYS_FILE=str(tmp_path / "keys"))
    assert said(tokens.credentials(right)) == []
    assert len(right.settings.credentials) == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CLAUDE_OAUTH_TOKENS", API_KEY), ("CLAUDE_API_KEYS", OAUTH), ("LITELLM_MASTER_KEY", STATIC)],
)
def test_what_stops_a_start(tmp_path, variable, value):
    """A credential in the wrong variable and two tokens that are the same stop a start, and the check says so."""
    (tmp_path / "config.yaml").write_text(EXAMPLE)
    found = said(files.mistakes(gather(tmp_path / "config.yaml", tmp_path / ".env", ENVIRON | {variable: value})))
    assert [one.startswith(f"error {variable}: ") for one in found] == [True]
    assert "made-up" not in found[0]


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ("sk-1234", "error"), ("changeme", "error"), ("YOUR_PROXY_STATIC_TOKEN", "error"), ("sk-your-key-here", "error"),
        ("sk-a1b2c3", "warning"), ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "warning"),
        (STATIC, None),
    ],
)  # fmt: skip
def test_weak_tokens(value, level):
    """Examples are errors, short tokens are warnings, and neither is shown."""
    found = said(tokens.weak_tokens(facts(PROXY_STATIC_TOKEN=value)))
    assert [one.split()[0] for one in found] == ([level] if level else [])
    assert value not in "".join(found)


@pytest.mark.parametrize("value", ["made-up\u00a0key", "your-api-key", "made-up-key ", OAUTH])
def test_provider_keys(value):
    """A provider's key with quotes or spaces, an example's, and a Claude credential in its place are errors."""
    found = list(tokens.provider_keys(facts(ZAI_API_KEY=value)))
    only(found, "error", "ZAI_API_KEY")
    assert "made-up" not in str(found)
    assert said(tokens.provider_keys(facts(ZAI_API_KEY="made-up-and-right"))) == []


def test_an_open_proxy():
    """A proxy that PROXY_STATIC_TOKEN opens is found."""
    only(tokens.open_proxy(facts(PROXY_STATIC_TOKEN="open")), "warning", "PROXY_STATIC_TOKEN", "everyone")
    assert said(tokens.open_proxy(facts())) == []


# --- what Claude Code is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("x-litellm-api-key: made-up, x-claude-token-mode: passthrough", ["warning", "has , between"]),
        ("x-litellm-api-key: made-up; x-claude-token-mode: passthrough", ["error", "has ; between"]),
        (r"x-litellm-api-key: made-up\nx-claude-token-mode: passthrough", ["error", r"literal \n"]),
        ('{"x-litellm-api-key": "made-up"}', ["error", "holds JSON"]),
        ("x-litellm-api-key made-up", ["error", "line 1 of it is not `name: value`"]),
    ],
)
@pytest.mark.parametrize("place", [".env", "settings.json", "config.yaml"])
def test_custom_headers(place, value, says):
    """A separator that Claude Code does not know is found wherever the variable is set; the headers are not shown."""
    name = "ANTHROPIC_CUSTOM_HEADERS"
    given = {
        ".env": {"dotenv": f"{name}={value}"},
        "settings.json": {"client_settings": {name: value}},
        "config.yaml": {"config": yaml.safe_load(EXAMPLE) | {"environment_variables": {name: value}}},
    }
    found = list(client.client_variables(facts(**given[place])))
    only(found, name, *says)
    assert "made-up" not in str(found)


@pytest.mark.parametrize(
    "value",
    ["x-litellm-api-key: made-up\nx-claude-token-mode: passthrough", "x-a: one, two; three", "x-a: http://host:1/,b", "x-a:"],
)
def test_right_custom_headers(value):
    """One header a line is right, and a comma within a value is a value's."""
    assert said(client.client_variables(facts(client_settings={"ANTHROPIC_CUSTOM_HEADERS": value}))) == []


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ANTHROPIC_BASE_URL": "http://server:4000/v1"}, ["error", "ends with /v1"]),
        ({"ANTHROPIC_BASE_URL": "http://server:4000/v1/messages"}, ["error", "ends with /v1"]),
        ({"ANTHROPIC_BASE_URL": "server:4000"}, ["error", "has no scheme"]),
        ({"CLAUDE_CODE_ATTRIBUTION_HEADER": "0"}, ["error", "a 429 without a limit"]),
        ({"ANTHROPIC_AUTH_TOKEN": MASTER}, ["error", "is LITELLM_MASTER_KEY"]),
    ],
)
def test_client_variables(variables, says):
    """A base URL with /v1, the switched-off attribution, and the master key as a user's token are errors."""
    found = list(client.client_variables(facts(client_settings=variables)))
    only(found, *says, *variables)
    assert MASTER not in str(found)


def test_right_client_variables():
    """The block that `claude-proxy settings` prints is right."""
    block = {"ANTHROPIC_BASE_URL": "http://server:4000/anthropic", "ANTHROPIC_AUTH_TOKEN": STATIC, "ANTHROPIC_MODEL": "glm"}
    assert said(client.client_variables(facts(client_settings=block))) == []


@pytest.mark.parametrize("person", [None, "anna"])
@pytest.mark.parametrize("environ", [{}, {"PROXY_STATIC_TOKEN": "", "PROXY_USER_TOKENS": "anna=made-up-token-of-anna"}])
@pytest.mark.parametrize("form", ["{ANTHROPIC_AUTH_TOKEN}", "x-litellm-api-key: {ANTHROPIC_CUSTOM_HEADERS}"])
def test_the_words_that_stand_for_the_token(person, environ, form):
    """The block that a log shows has words in the token's place; in either variable they are named."""
    words = onboarding.placeholder(facts(**environ).settings, person)
    variable = form.split("{")[1].rstrip("}")
    given = facts(client_settings={variable: form.format(**{variable: words})}, **environ)
    only(client.client_variables(given), "error", f"settings.json: {variable}: has {words} in place of the token")


def test_an_open_proxy_takes_any_word():
    """The words for no token are right where none is needed, and nowhere else."""
    given = {"ANTHROPIC_AUTH_TOKEN": onboarding.placeholder(facts(PROXY_STATIC_TOKEN="").settings, None)}
    assert said(client.client_variables(facts(client_settings=given, PROXY_STATIC_TOKEN=""))) == []
    only(client.client_variables(facts(client_settings=given)), "error", "none-is-needed in place of the token")


def test_passthrough_needs_the_login():
    """With the proxy's token in ANTHROPIC_AUTH_TOKEN Claude Code sends no login, so passthrough has nothing to pass."""
    given = facts(client_settings={"ANTHROPIC_AUTH_TOKEN": STATIC}, CLAUDE_TOKEN_MODE="passthrough")
    only(client.client_variables(given), "warning", "form B")


@pytest.mark.parametrize("text", ["{", '{"env": {"ANTHROPIC_AUTH_TOKEN": "made-up"', None])
def test_settings_json_that_cannot_be_read(tmp_path, text):
    """The problem is named, without any of the content."""
    if text is not None:
        (tmp_path / "settings.json").write_text(text)
    found = client_file.read_client_file(tmp_path / "settings.json")
    only(found.problems, "error", "settings.json", "cannot be read" if text is None else "ends before its last }")
    assert "made-up" not in str(found.problems)


@pytest.mark.parametrize("url", [None, "127.0.0.1:4000"])
def test_a_client_without_an_address_is_not_reported_to_reach_the_proxy(monkeypatch, url):
    """The check that sends requests is left out where the file names no address to send them to."""
    monkeypatch.setattr(table, "CHECKS", table.CHECKS[-1:])
    given = facts(client_settings={"ANTHROPIC_BASE_URL": url} if url else {"ANTHROPIC_AUTH_TOKEN": STATIC})
    assert table.run(given, table.When.ONLINE) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1/v1"},
        {"ANTHROPIC_AUTH_TOKEN": f"Bearer {STATIC}"},
        {"ANTHROPIC_AUTH_TOKEN": ""},
        {"ANTHROPIC_CUSTOM_HEADERS": "x-claude-token-mode: passthru"},
    ],
)
def test_an_error_of_the_file_is_not_reported_again_by_a_request(monkeypatch, wrong):
    """No request is sent with an address, a token or headers that the file itself shows to be wrong."""
    requests = table.CHECKS[-1:]
    client_checks = [one for one in table.CHECKS if one.find in (client.client_file, client.client_variables)]
    monkeypatch.setattr(table, "CHECKS", (*client_checks, *requests))
    given = facts(client_settings={"ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_AUTH_TOKEN": STATIC} | wrong)
    results = table.run(given, *table.When)
    assert [check.title for check, _ in results] == [one.title for one in client_checks]
    assert [one.level.value for _, found in results for one in found].count("error") == 1


@pytest.mark.parametrize(
    ("value", "count"), [("50m", 1), ("3_000_000", 1), ("-5", 1), ("3000000", 0), ("3000000.0", 0), (" 600000 ", 0), ("", 0)]
)
def test_a_time_is_a_number_of_milliseconds(value, count):
    """A time with a unit is an error; a whole number, also as JSON has it, is none."""
    found = said(client.client_variables(facts(client_settings={"API_TIMEOUT_MS": value})))
    assert len(found) == count


@pytest.mark.parametrize(
    "more",
    [
        {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        {"CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1"},
    ],
    ids=["quiet", "discovery"],
)
def test_a_client_with_nothing_to_say(more):
    """Nothing is reported with telemetry turned off, nor with the discovery of models, which needs it."""
    right = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:4000", "ANTHROPIC_AUTH_TOKEN": STATIC}
    assert said(client.client_file(facts(client_settings=right | more))) == []


# --- what is installed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "level"),
    [
        (None, "error"),
        ("1.82.7", "error"),
        ("1.82.8", "error"),
        ("1.107.0", "error"),
        ("1.106.2", "warning"),
        ("1.108.7", None),
    ],
)
def test_litellm_versions(version, level):
    """A compromised release is an error, another one than the pinned a warning."""
    found = said(installation.litellm_version(replace(facts(), litellm_version=version)))
    assert [one.split()[0] for one in found] == ([level] if level else [])


def test_proxies_of_the_environment():
    """What cannot be read of the environment's proxies is a warning each, without a proxy's address."""
    environ = {
        "NO_PROXY": "::1/128,[::1,.example.com",
        "HTTPS_PROXY": "socks5://anna:made-up@s.invalid",
        "HTTP_PROXY": "p.invalid:1",
    }
    found = said(installation.outbound_proxies(facts(**environ)))
    assert [line.split(";")[0] for line in found] == [
        "warning HTTPS_PROXY: names a SOCKS proxy, which is not supported, so it is not used",
        "warning NO_PROXY: '[::1' is no host, address or network",
    ]
    assert "made-up" not in "".join(found)
    assert said(installation.outbound_proxies(facts(NO_PROXY="localhost, 10.0.0.0/8,[fd00::1]:80"))) == []


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("litellm_init.pth", "import os; os.system('true')\n", True),
        ("late.pth", "/a/folder\r\nimport\tos\n", True),
        ("sitecustomize.py", "", True),
        ("usercustomize.py", "", True),
        ("owned.pth", "import owned_by_a_package\n", False),
        ("folders.pth", "/a/folder\n# import os\n", False),
        ("_virtualenv.pth", "import _virtualenv", False),
        ("_virtualenv.pth", "import _virtualenv; import os", True),
        ("module.py", "import os", False),
    ],
)
def test_startup_files(tmp_path, name, content, found):
    """Code that runs at every start of Python is found when no package's RECORD names its file."""
    (tmp_path / "a-1.dist-info").mkdir()
    (tmp_path / "a-1.dist-info" / "RECORD").write_text("owned.pth,sha256=x,1\na/b.py,,\n")
    (tmp_path / name).write_text(content)
    findings = said(installation.startup_files(replace(facts(), packages=(tmp_path,))))
    assert [one.startswith("error") and name in one for one in findings] == ([True] if found else [])


def test_this_environment_is_clean():
    """The interpreter that runs the tests has a folder of packages, and nothing unknown runs at its start."""
    assert site_packages()
    assert said(installation.startup_files(replace(facts(), packages=site_packages()))) == []


# --- the network -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def listening():
    """A server that accepts connections and responds with a time."""

    class Handler(http.server.BaseHTTPRequestHandler):
        skew = 0.0

        def do_HEAD(self):
            self.send_response_only(404)
            self.send_header("date", formatdate(time.time() + self.skew, usegmt=True))
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_hosts(listening):
    """A host that takes no connection is found with who needs it: an error for a ready model, else a warning."""
    closed = f"http://127.0.0.1:{closed_port()}"
    config = {
        "model_list": [
            entry("here", "openai/x", api_base=f"{url(listening)}/v1"),
            entry("demo", "anthropic/demo", api_base="http://demo.invalid"),
            entry("away", "openai/x", api_base=f"{closed}/v1"),
            entry("away-too", "anthropic/x", api_base=closed),
        ]
    }
    only(hosts.hosts(facts(config)), "error", "accepts no connection", "away, away-too", "config.yaml line")
    only(hosts.hosts(facts(config, HTTPS_PROXY="http://127.0.0.1:1")), "warning", "HTTPS_PROXY is set")
    config["model_list"] = [entry("away", "openai/x", api_base=f"{closed}/v1", api_key="os.environ/NOT_SET")]
    only(hosts.hosts(facts(config)), "warning", "away")


@pytest.mark.parametrize(("credentials", "level"), [(OAUTH, "error"), ("", "warning")])
def test_claudes_host(credentials, level):
    """With a pool an unreachable Claude host is an error; without one it is a warning."""
    base = f"http://127.0.0.1:{closed_port()}"
    config = {"model_list": [entry("claude-*", "anthropic/claude-*")]}
    found = facts(config, ANTHROPIC_API_BASE=base, CLAUDE_OAUTH_TOKENS=credentials)
    only(hosts.hosts(found), level, "ANTHROPIC_API_BASE", "(needed by Claude)")


def test_the_place_of_a_default_address():
    """Where ANTHROPIC_API_BASE has its default, a host that cannot be reached is a problem of the model that needs it."""
    for base in ({}, {"ANTHROPIC_API_BASE": "https://api.anthropic.com"}):
        places = {target.origin.host: target.place for target in hosts.targets(facts(**base))}
        assert places["api.anthropic.com"].startswith("config.yaml line ")
    (place,) = (
        one.place for one in hosts.targets(facts(ANTHROPIC_API_BASE="https://gateway.example")) if "Claude" in one.users
    )
    assert place.endswith("ANTHROPIC_API_BASE")


def test_a_host_without_a_name(monkeypatch):
    """An unknown name is reported differently from a host that does not respond."""

    def unknown(*_, **__):
        raise OSError

    monkeypatch.setattr(hosts.socket, "getaddrinfo", unknown)
    assert hosts.reach(Origin("https", "gone.invalid", 443)) == "is not found (DNS)"


@pytest.mark.parametrize(("skew", "found"), [(0.0, False), (-30.0, False), (3600.0, True), (-3600.0, True)])
def test_the_clock(listening, skew, found):
    """A difference of more than a minute to Claude's host is reported, with its direction."""
    listening.RequestHandlerClass.skew = skew
    told = said(hosts.clock(facts(ANTHROPIC_API_BASE=url(listening))))
    assert bool(told) is found
    assert not found or ("behind" if skew > 0 else "ahead") in told[0]


@pytest.mark.parametrize(
    ("exceptions", "found"), [("", True), ("[::1,::1/128,claude.invalid:80", False)], ids=["through", "past"]
)
def test_the_clock_behind_a_web_proxy(listening, monkeypatch, exceptions, found):
    """Claude's host gets the request for its time through the environment's HTTP proxy, unless NO_PROXY excludes it."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTP_PROXY", url(listening))
    monkeypatch.setenv("NO_PROXY", exceptions)
    outbound_proxies.cache_clear()
    listening.RequestHandlerClass.skew = 3600.0
    try:
        assert bool(said(hosts.clock(facts(ANTHROPIC_API_BASE="http://claude.invalid")))) is found
    finally:
        outbound_proxies.cache_clear()


def test_a_clock_that_nobody_tells():
    """A host that does not answer says nothing about the time."""
    assert said(hosts.clock(facts(ANTHROPIC_API_BASE=f"http://127.0.0.1:{closed_port()}"))) == []


# --- how it is told ----------------------------------------------------------------------------------------------------------

RESULTS = [
    ("all is right", []),
    ("something is", [error("here", "is wrong", "do this"), warning("", "may be"), info("there", "is so")]),
    ("known", [info("x", "y")]),
]


def test_the_report_for_a_person():
    """What is right comes first, then each error and warning with what to do, and the sum comes last."""
    assert report.text(RESULTS).splitlines() == [
        "✓ all is right", "i there: is so", "i x: y", "✓ known", "✗ here: is wrong; do this", "! may be", "1 error, 1 warning.",
    ]  # fmt: skip


def test_the_report_for_a_program():
    """The same as JSON, in which a warning is no failure."""
    told = json.loads(report.as_json(RESULTS))
    assert (told["ok"], [check["ok"] for check in told["checks"]]) == (False, [True, False, True])
    assert told["checks"][1]["findings"][0] == {
        "level": "error", "file": None, "line": None, "place": "here", "problem": "is wrong", "message": "here: is wrong",
        "remedy": "do this",
    }  # fmt: skip
    assert not report.failed([warning("", "may be")])


def test_a_secret_is_in_no_report():
    """No finding shows the value of a variable that holds a secret."""
    secrets = {
        "PROXY_STATIC_TOKEN": "sk-1234", "LITELLM_MASTER_KEY": "canary-1", "CLAUDE_OAUTH_TOKENS": "a=canary-2,canary-2",
        "CLAUDE_API_KEYS": "'canary-3'", "ZAI_API_KEY": '"canary-4"',
    }  # fmt: skip
    config = yaml.safe_load(EXAMPLE)
    config["model_list"].append(entry("canary", api_key="canary-5-in-clear-text", api_base="http://canary-6@host/v1"))
    results = table.run(facts(config, **secrets), table.When.START, table.When.COMMAND)
    told = report.as_json([(check.title, findings) for check, findings in results])
    assert "canary-" not in told
    assert told.count('"level": "error"') >= 4


# --- the command -------------------------------------------------------------------------------------------------------------

PLANTED_CONFIG = """model_list:
  - model_name: claude-opus-5-5
    litellm_params: {model: anthropic/claude-opus-5-5}
  - model_name: glm
    litellm_params: {model: anthropic/glm-5.3, api_base: "https://api.z.ai/api/anthropic/v1", api_key: os.environ/ZAI_API_KEY}
  - model_name: kimi
    litellm_params: {model: anthropic/kimi, api_bse: "https://api.kimi.com/coding", api_key: made-up-clear-text-key}
router_settings:
  fallbacks:
    - claude-*: [gml]
  num_retrys: 2
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
general_settings:
  custom_auth: custom_auth.user_api_key_auth
"""
PLANTED_ENV = f"""PROXY_STATIC_TOKEN=sk-1234
LITELLM_MASTER_KEY={MASTER}
CLAUDE_OAUTH_TOKENS=anna={OAUTH},ben={OAUTH}
ANTHROPIC_CUSTOM_HEADERS="x-litellm-api-key: made-up; x-claude-token-mode: passthrough"
CLAUDE_CODE_ATTRIBUTION_HEADER=0
OPENROUTER_API_KEY=
"""
PLANTED = {
    "an unknown key of a model": "✗ config.yaml line 7: api_bse is not known in litellm_params; did you mean api_base?",
    "an unknown setting": "✗ config.yaml line 11: num_retrys is not known in router_settings; did you mean num_retries?",
    "a variable that is not set": "! config.yaml line 4: model glm is not ready; set ZAI_API_KEY in .env",
    "a path that is doubled": "✗ config.yaml line 5: the api_base of glm ends with /v1",
    "a key in clear text": "! config.yaml line 7: api_key is in config.yaml in clear text",
    "a fallback to nobody": "✗ config.yaml line 10: the fallback of claude-* is gml, which is not served; did you mean glm?",
    "a model that nobody serves": "! config.yaml: Claude Code requests models by itself that are not served: claude-sonnet-5-5",
    "an example's secret": "✗ .env line 1: PROXY_STATIC_TOKEN: is the value of an example",
    "a credential twice": "! .env line 3: CLAUDE_OAUTH_TOKENS, ben: is the same value as anna",
    "a wrong separator": "✗ .env line 4: ANTHROPIC_CUSTOM_HEADERS: has ; between two headers",
    "a switch that costs the login": "✗ .env line 5: CLAUDE_CODE_ATTRIBUTION_HEADER: removes what",
    "a file that all can read": "! .env: can be read by every user of this machine",
}


def run(project, *arguments):
    environment = {"PATH": os.environ["PATH"], "HOME": str(project)}
    command = [sys.executable, "-m", "claude_proxy", "--project", str(project), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "config.yaml").write_text(EXAMPLE)
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in ENVIRON.items()))
    (tmp_path / ".env").chmod(0o600)
    return tmp_path


def test_planted_mistakes(project):
    """Twelve errors in a project are found by one run of the command, which fails and shows no secret."""
    (project / "config.yaml").write_text(PLANTED_CONFIG)
    (project / ".env").write_text(PLANTED_ENV)
    (project / ".env").chmod(0o644)
    done = run(project, "check", "--offline")
    missed = {what: line for what, line in PLANTED.items() if line not in done.stdout}
    assert missed == {}, done.stdout
    assert done.returncode == 1
    assert not [secret for secret in (OAUTH, MASTER, "sk-1234", "made-up") if secret in done.stdout + done.stderr]


def test_planted_bad_yaml(project):
    """A file that is no YAML is found with its line, beside what is wrong in .env."""
    (project / "config.yaml").write_text("model_list:\n  - model_name: [glm\nrouter_settings: {}\n")
    (project / ".env").write_text("PROXY_STATIC_TOKEN=sk-1234\n")
    done = run(project, "check", "--offline")
    assert "config.yaml line 2: is not YAML: opens a [ that is not closed" in done.stdout
    assert "PROXY_STATIC_TOKEN: is the value of an example" in done.stdout
    assert sum(line.startswith("✗") for line in done.stdout.splitlines()) == 2
    assert not [line for line in done.stdout.splitlines() if "served" in line]
    assert done.returncode == 1


def test_planted_people(project):
    """An unreadable line of the users file, and limits for an unknown user or in the wrong place, are found."""
    (project / ".state").mkdir()
    (project / ".state" / "users").write_text(f"anna={TOKEN}\nben made-up-secret\n")
    (project / "config.yaml").write_text(EXAMPLE + "\nclaude_proxy:\n  users:\n    Annna: {models: [glm]}\n")
    done = run(project, "check", "--offline")
    assert f"✗ {project / '.state' / 'users'} line 2: expected name=token" in done.stdout
    assert "no user is called Annna, so this limit has no effect; did you mean anna?" in done.stdout
    assert "made-up" not in done.stdout + done.stderr
    assert done.returncode == 1
    (project / "config.yaml").write_text(EXAMPLE + "\nusers:\n  anna: {models: [glm]}\n")
    assert "users: belongs under claude_proxy" in run(project, "check", "--offline").stdout


def test_a_project_that_is_right(project):
    """Keys that are missing are no failure, and the command writes nothing."""
    before = sorted(path.name for path in project.iterdir())
    done = run(project, "check", "--offline", "--json")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True), done.stdout
    assert sorted(path.name for path in project.iterdir()) == before


def test_a_project_without_files(tmp_path):
    """In a fresh clone the example is checked, which is reported; nothing is written."""
    done = run(tmp_path, "check", "--offline")
    assert "there is no config.yaml" in done.stdout
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_client_settings_file(project):
    """A settings.json that is handed over is checked; one that cannot be read is an error."""
    (project / "settings.json").write_text(json.dumps({"env": {"ANTHROPIC_BASE_URL": "http://server:4000/v1"}}))
    done = run(project, "check", "--offline", "--client-settings", str(project / "settings.json"))
    assert "✗ settings.json line 1: ANTHROPIC_BASE_URL: ends with /v1" in done.stdout
    gone = run(project, "check", "--offline", "--client-settings", str(project / "gone.json"))
    assert gone.returncode == 1
    of_file = [line for line in gone.stdout.splitlines() if "gone.json" in line or "settings.json" in line]
    assert of_file == [f"✗ {project / 'gone.json'}: cannot be read (No such file or directory); give the path of settings.json"]


def test_a_last_good_copy_is_told_of(project):
    """With an invalid file and a copy of the last valid one, the report says that a start would use the copy."""
    (project / ".state").mkdir()
    (project / ".state" / "config.last-good.yaml").write_text(EXAMPLE)
    (project / "config.yaml").write_text("model_list: [")
    done = run(project, "check", "--offline")
    assert "✗" in done.stdout
    assert "a start uses config.last-good.yaml" in done.stdout


@pytest.mark.parametrize(
    ("environ", "outcome"),
    [
        ({}, "a request for anthropic/*, claude-* without the user's own Claude login gets an error; `claude-proxy pool add"),
        ({"ZAI_API_KEY": "made-up"}, "without the user's own Claude login goes to the fallback glm"),
        ({"CLAUDE_TOKEN_MODE": "passthrough"}, ""),
        ({"CLAUDE_API_KEYS": "sk-ant-api03-made-up"}, ""),
    ],
)
def test_an_empty_pool(environ, outcome):
    """The check reports whether a fallback responds for Claude while the pool is empty; a user's own login may be right."""
    found = fallbacks.empty_pool(facts(**environ))
    only(found, "info the pool has no credential", outcome) if outcome else said(found) == []


def test_the_models_of_a_project(project):
    """The list names each model with its provider, host, missing variables and fallbacks, and an empty pool at Claude's."""
    done = run(project, "models")
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert lines["claude-*"][:4] == ["claude-*", "Claude", "api.anthropic.com", "claude-*"]
    assert " ".join(lines["claude-*"][4:]) == "no credential in the pool glm (not ready)"
    assert lines["glm"][3:] == ["api.z.ai", "glm-5.3", "lacks", "ZAI_API_KEY", "-"]
    rows = {row["name"]: row for row in json.loads(run(project, "models", "--json").stdout)}
    assert rows["openrouter"]["model"] == "qwen/qwen3.6-plus:free"
    assert (rows["demo"]["ready"], rows["kimi"]["ready"], rows["claude-*"]["ready"]) == (True, False, False)
    assert {name: rows[name]["fallbacks"] for name in ("claude-*", "claude-demo")} == {"claude-*": ["glm"], "claude-demo": []}


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["glm", "os.environ/X", "https://h/v1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    entries=st.lists(
        st.fixed_dictionaries(
            {
                "model_name": SHAPES,
                "litellm_params": SHAPES | st.fixed_dictionaries({"model": SHAPES, "api_base": SHAPES, "api_key": SHAPES}),
            },
            optional={"model_info": SHAPES | st.fixed_dictionaries({"access_groups": SHAPES})},
        )
        | SHAPES,
        max_size=3,
    ),
    sections=st.fixed_dictionaries(
        {},
        optional={
            "router_settings": SHAPES | st.dictionaries(st.sampled_from(SETTINGS), SHAPES, max_size=4),
            **dict.fromkeys(("litellm_settings", "general_settings", "environment_variables", "claude_proxy"), SHAPES),
        },
    ),
)
def test_no_shape_of_a_config_breaks_a_check(entries, sections):
    """The checks and the list of models handle any content of config.yaml, because the start runs them as well."""
    config = {"model_list": entries, **sections}
    given_facts = replace(facts(), config=config, lines=lines_of(yaml.safe_dump(config)))
    results = table.run(given_facts, table.When.START, table.When.COMMAND)
    assert not [finding for _, findings in results for finding in findings if "check failed" in finding.problem]
    listing.cells(listing.rows(given_facts))
    assert hosts.targets(given_facts) is not None


def test_a_check_that_breaks(monkeypatch):
    """It is an error like any other, and the rest of the checks are made."""

    def broken(_):
        raise RuntimeError("made-up-secret")
        yield

    checks = (table.Check("this is right", broken), table.Check("that is right", files.permissions))
    monkeypatch.setattr(table, "CHECKS", checks)
    ((_, found), (_, nothing)) = table.run(facts(), table.When.START)
    only(found, "error", "this is right: the check failed (RuntimeError)")
    assert nothing == []


# --- the parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "line"),
    [(("a",), "line 1"), (("a", 0, "b"), "line 2"), (("a", 1), "line 3"), (("a", 1, "gone"), "line 3"), (("gone",), "")],
)
def test_lines(path, line):
    """A place that is not there has the line of the longest part that is."""
    assert lines_of("a:\n  - b: 1\n  - c\n").at(*path) == line


def test_the_nearest_name():
    """A name is taken for another's misspelling only when they are alike."""
    assert names.meant("api_bse", names.known("litellm_params")) == "api_base"
    assert names.meant("quite_another", names.known("litellm_params")) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("claude-*", "claude-*", True), ("claude-haiku-*", "claude-*", True), ("*", "glm", True), ("glm", "glm-fast", False),
     ("opus-*", "claude-*", False), ("anthropic/*", "anthropic/claude-x", True)],
)  # fmt: skip
def test_overlap(one, other, same):
    """Two patterns overlap when a name can be both."""
    assert models.overlap(one, other) is same
    assert models.overlap(other, one) is same


def test_a_moment():
    """A moment of another day has its date."""
    assert live._moment(0.0) == "1970-01-01 00:00 UTC"


# --- with live requests ------------------------------------------------------------------------------------------------------


def anthropics_error(status, kind, message, **headers):
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


LIMITED = {"anthropic_ratelimit_unified_status": "rejected", "anthropic_ratelimit_unified_5h_status": "rejected"}
CREDENTIAL_ANSWERS = {
    "taken": (lambda _: httpx.Response(200, json={}), "info", "anna: accepted, "),
    "limited": (
        lambda _: anthropics_error(429, "rate_limit_error", "limit", **LIMITED, anthropic_ratelimit_unified_5h_reset="5000"),
        "warning",
        "anna: rate-limited until 1970-01-01 01:23 UTC: limit reached: 5h",
    ),
    "refused": (
        lambda _: anthropics_error(401, "authentication_error", "OAuth access token is invalid."),
        "error",
        'anna: rejected by Anthropic: the credential was rejected (HTTP 401): "OAuth access token is invalid."; replace it',
    ),
    "refused-with-the-secret": (
        lambda _: anthropics_error(401, "authentication_error", f"{OAUTH} is\ninvalid;\x1b[31m so is {API_KEY}"),
        "error",
        r'anna: rejected by Anthropic: the credential was rejected (HTTP 401): "*** is invalid;\x1b[31m so is ***"; replace it',
    ),
    "disabled": (
        lambda _: anthropics_error(400, "invalid_request_error", "This organization has been disabled."),
        "error",
        'anna: rejected by Anthropic: the account was rejected (HTTP 400): "This organization has been disabled."; replace it',
    ),
    "no-credit": (
        lambda _: anthropics_error(400, "invalid_request_error", "Your credit balance is too low."),
        "error",
        (
            'anna: rejected by Anthropic: the account was rejected: it has no credit left (HTTP 400): "Your credit '
            'balance is too low."; pay or add credit for that account'
        ),
    ),
    "denied": (
        lambda _: anthropics_error(403, "permission_error", "A sentence that no rule knows."),
        "warning",
        'anna: the credential lacks the permission (HTTP 403): "A sentence that no rule knows."',
    ),
    "busy": (
        lambda _: anthropics_error(529, "overloaded_error", "Overloaded"),
        "warning",
        "anna: Anthropic failed to respond (HTTP 529)",
    ),
    "not-for-this-client": (
        lambda request: (
            httpx.Response(200, json={"input_tokens": 1})
            if request.url.path.endswith("/count_tokens")
            else anthropics_error(403, "permission_error", "This credential is only authorized for use with Claude Code")
        ),
        "info",
        "anna: accepted, ",
    ),
}


@pytest.mark.parametrize("case", CREDENTIAL_ANSWERS)
def test_a_credential_that_is_asked(case):
    """Claude's response is reported in the words of the response rules, with the credential's label."""
    answer, level, sentence = CREDENTIAL_ANSWERS[case]
    seen = []

    def handle(request):
        seen.append(request)
        return answer(request)

    settings = facts(CLAUDE_OAUTH_TOKENS=f"anna={OAUTH}").settings
    with httpx.Client(transport=httpx.MockTransport(handle)) as http_client:
        found = live.ask_credentials(http_client, settings, Hosts(), lambda: 1000.0)
    only(found, level, sentence)
    assert OAUTH not in str(found)
    assert {request.url.host for request in seen} == {"api.anthropic.com"}
    assert [request.headers["authorization"] for request in seen] == [f"Bearer {OAUTH}"] * len(seen)


def test_a_credential_is_asked_without_a_guise():
    """No header and no system prompt of Claude Code's is in the request, which asks for one token at most."""
    seen = []

    def handle(request):
        seen.append(request)
        return httpx.Response(200, json={})

    settings = facts(CLAUDE_OAUTH_TOKENS=OAUTH, CLAUDE_API_KEYS=API_KEY).settings
    with httpx.Client(transport=httpx.MockTransport(handle)) as http_client:
        live.ask_credentials(http_client, settings, Hosts(), time.time)
    assert len(seen) == 2
    for request in seen:
        body = json.loads(request.content)
        assert set(body) == {"model", "max_tokens", "messages"}
        assert (body["model"], body["max_tokens"]) == (live.HAIKU, 1)
        assert "claude-cli" not in str(request.headers)
        assert "x-app" not in request.headers
        assert request.headers.get("anthropic-beta", "oauth-2025-04-20") == "oauth-2025-04-20"


def test_who_is_paused_or_expired_is_not_asked(tmp_path):
    """A paused credential and an expired login are reported, and no request is sent with them."""
    (tmp_path / "login").write_text(json.dumps({"claudeAiOauth": {"accessToken": OAUTH, "expiresAt": 1}}))
    (tmp_path / "credentials.yaml").write_text(
        f"credentials:\n  - {{label: p, secret: {API_KEY}, paused: true}}\n  - {{label: e, claude_home: login}}\n"
    )
    seen = []
    settings = facts(CLAUDE_CREDENTIALS_FILE=str(tmp_path / "credentials.yaml")).settings
    with httpx.Client(transport=httpx.MockTransport(seen.append)) as http_client:
        found = live.ask_credentials(http_client, settings, Hosts(), time.time)
    assert [str(finding) for finding in found] == [
        "p: not checked: it is paused",
        "e: its login has expired: start Claude Code in that home",
    ]
    assert seen == []


def test_who_is_taken_rests_no_longer():
    """The cooldown of a credential that works ends in a running proxy, which is reported; a rate-limited one keeps it."""
    lifted = []

    def handle(request):
        return httpx.Response(200, json={}) if request.headers.get("x-api-key") else CREDENTIAL_ANSWERS["limited"][0](request)

    def lift(credential):
        lifted.append(credential.label)
        return True

    settings = facts(CLAUDE_OAUTH_TOKENS=f"anna={OAUTH}", CLAUDE_API_KEYS=f"key={API_KEY}").settings
    with httpx.Client(transport=httpx.MockTransport(handle)) as http_client:
        found = live.ask_credentials(http_client, settings, Hosts(), lambda: 1000.0, lift)
    assert lifted == ["key"]
    assert str(found[1]).endswith("; its cooldown in the running proxy has ended")


def test_no_credential_goes_to_another_host():
    """A host that is not Anthropic's gets no request at all."""
    seen = []
    settings = facts(CLAUDE_OAUTH_TOKENS=OAUTH, ANTHROPIC_API_BASE="https://elsewhere.example.com").settings
    with httpx.Client(transport=httpx.MockTransport(seen.append)) as http_client:
        only(live.ask_credentials(http_client, settings, Hosts(), time.time), "error", "not checked")
    assert seen == []


def test_a_proxy_that_does_not_run():
    """Models are requested through the proxy; without one there is a single error."""
    asked = facts(PORT=str(closed_port()))
    ((_, found), (_, credentials)) = live.ask_all(asked)
    only(found, "error", "proxy: connection refused at http://127.0.0.1:")
    assert credentials == []


def test_which_models_are_asked():
    """Every model with its key is requested, and of Claude only Haiku, for which Anthropic accepts such a request."""
    assert live.asked_models(facts(ZAI_API_KEY="made-up-key")) == ["demo", "claude-demo", "glm", "glm-fast"]
    assert live.asked_models(facts(CLAUDE_OAUTH_TOKENS=OAUTH)) == ["demo", "claude-demo", live.HAIKU]


def test_why_a_model_is_not_asked():
    """A model without its key and a Claude model are not requested, for two reasons that are reported separately."""
    config = {"model_list": [entry("glm", api_base="https://host/x", api_key="os.environ/NOT_SET"), entry("claude-x")]}
    asked = facts(config)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(500))) as http_client:
        found = said(live.ask_models(http_client, asked, asked.settings))
    assert found == [
        "info glm: not requested: the key is not set",
        "info claude-x: not requested: of Claude's models only Haiku is",
    ]
