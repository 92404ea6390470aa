"""config/models.py: the parts of ``config.yaml`` that the proxy reads, and its required values."""

from pathlib import Path

import pytest
import yaml

from claude_proxy.config.deployments import Lane
from claude_proxy.config.models import (
    CALLBACK,
    CUSTOM_AUTH,
    MAX_NAMES,
    ActiveConfig,
    ConfigError,
    load,
    model_names,
    not_ready,
    redis_url,
    unset_variables,
    variables,
)
from claude_proxy.providers.endpoints import Hosts

EXAMPLE = Path(__file__).parent.parent / "config.yaml.example"
MODEL = {"model_name": "glm", "litellm_params": {"model": "anthropic/glm", "api_key": "os.environ/ZAI_API_KEY"}}
GOOD = {
    "model_list": [MODEL],
    "litellm_settings": {"callbacks": [CALLBACK]},
    "general_settings": {"custom_auth": CUSTOM_AUTH},
}


@pytest.fixture
def written(tmp_path):
    def written(content):
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
        return path

    return written


def mistakes_of(path):
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(mistake.startswith(f"{path}: ") for mistake in caught.value.mistakes)
    return [mistake.removeprefix(f"{path}: ") for mistake in caught.value.mistakes]


def test_the_example_works_as_it_stands():
    """``config.yaml.example`` passes its own check and has the promised models."""
    names = model_names(load(EXAMPLE))
    assert {"demo", "claude-demo", "anthropic/*", "claude-*", "glm", "glm-fast", "kimi", "openrouter"} <= set(names)


def test_a_good_file(written):
    """A valid file is returned unchanged."""
    assert load(written(GOOD)) == GOOD


def test_one_callback_without_a_list(written):
    """A single callback without a list is valid, like in LiteLLM."""
    assert load(written(GOOD | {"litellm_settings": {"callbacks": CALLBACK}}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, ["should hold a mapping with the key model_list"]),
        ([], ["should hold a mapping with the key model_list"]),
        (GOOD | {"model_list": []}, ["model_list: should hold at least one model"]),
        (GOOD | {"model_list": {"a": 1}}, ["model_list: should hold at least one model"]),
        (GOOD | {"model_list": [MODEL, {"model_name": "x"}]}, ["model_list: entry 2 should have"]),
        (GOOD | {"model_list": ["x", {"litellm_params": {"model": "x"}}]}, ["entry 1", "entry 2"]),
        (GOOD | {"model_list": [{"model_name": "x", "litellm_params": {}}]}, ["entry 1"]),
        (GOOD | {"litellm_settings": {}}, [f"callbacks should name {CALLBACK}"]),
        (GOOD | {"litellm_settings": None}, [f"callbacks should name {CALLBACK}"]),
        (GOOD | {"litellm_settings": []}, [f"callbacks should name {CALLBACK}"]),
        (GOOD | {"litellm_settings": {"callbacks": ["other"]}}, [f"callbacks should name {CALLBACK}"]),
        (GOOD | {"general_settings": {"custom_auth": "other"}}, [f"custom_auth should be {CUSTOM_AUTH}"]),
        (GOOD | {"general_settings": ["x"]}, ["general_settings: should be a mapping of settings"]),
        (GOOD | {"claude_proxy": {"users": {"anna": {"models": ["nobody"]}}}}, ["anna: nobody is neither"]),
        ({}, ["model_list", "callbacks", "custom_auth"]),
    ],
    ids=[
        "empty", "list", "no-model", "models-are-a-mapping", "half-a-model", "odd-models", "no-target", "no-callback",
        "settings-null", "settings-list", "another-callback", "another-auth", "general-list", "limits", "everything",
    ],
)  # fmt: skip
def test_what_is_missing_is_said(written, content, says):
    """Each missing value that the project's rules need is reported, all of them together."""
    mistakes = mistakes_of(written(content))
    assert len(mistakes) == len(says)
    for mistake, part in zip(mistakes, says, strict=True):
        assert part in mistake


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("x", "entry 1 should have model_name, and litellm_params with a model; it is not a mapping"),
        ({"litellm_params": {"model": "x"}}, "entry 1 should have model_name, the name that clients request"),
        ({"model_name": "x", "litellm_params": [{"model": "x"}]}, "remove the dash in front of its keys"),
        ({"model_name": "x", "litellm_params": None, "model": "x", "api_key": "k"}, "should have model, api_key below"),
        ({"model_name": "x", "litellm_params": {"api_key": "k"}, "model": "x"}, "model is beside it, so indent it"),
        ({"model_name": "x", "litellm_params": {"model": ["x"]}}, "should have one text as the model"),
        ({"model_name": "x", "litellm_params": {"model": "x"}, "model_info": ["y"]}, "should have model_info as a mapping"),
    ],
)
def test_an_entry_of_another_shape(written, entry, says):
    """The sentence has the entry's number, its problem, and what to write."""
    (mistake,) = mistakes_of(written(GOOD | {"model_list": [entry]}))
    assert mistake.startswith("model_list: entry 1 should have ")
    assert says in mistake


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"router_settings": {"fallbacks": {"a": ["b"]}}}, "router_settings: fallbacks: is a mapping and should be a list"),
        ({"environment_variables": ["A=b"]}, "environment_variables: should be a mapping"),
    ],
)
def test_settings_with_which_litellm_does_not_start(written, more, says):
    """They are reported before LiteLLM is imported."""
    (mistake,) = mistakes_of(written(GOOD | more))
    assert mistake.startswith(says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"model_list:\n  - a: [1\n  api_key: sk-made-up\n", "line 3"),
        (b"model_list:\n\t- api_key: sk-made-up\n", "line 2"),
        (b'a: 1\nb: "sk-made-up\n', "line 3"),
        (b"a: !!python/object/apply:os.system [made-up]\n", "line 1"),
        (b"a: \xff made-up\n", "is not YAML"),
        (b"a: \x00 made-up\n", "is not YAML"),
    ],
    ids=["bracket", "tab", "quote", "python-object", "not-text", "control"],
)
def test_bad_yaml(written, content, says):
    """Invalid YAML gives one message with the line and without its text, which may be a key."""
    (mistake,) = mistakes_of(written(content))
    assert says in mistake
    assert "\n" not in mistake
    assert "made-up" not in mistake


def test_a_file_that_is_not_there(tmp_path):
    """An unreadable file is reported with the reason."""
    assert mistakes_of(tmp_path / "config.yaml") == ["cannot be read (No such file or directory)"]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("os.environ/ZAI_API_KEY", {"ZAI_API_KEY"}),
        ({"a": ["os.environ/A", {"b": "os.environ/B"}], "c": "os.environ/A"}, {"A", "B"}),
        ("see os.environ/A", set()),
        ("os.environ/A/B", set()),
        ("os.environ/", set()),
        ({}, set()),
        ([], set()),
        (None, set()),
        (7, set()),
    ],
    ids=["one", "nested", "in-a-sentence", "path", "no-name", "empty-mapping", "empty-list", "null", "number"],
)
def test_variables(value, names):
    """A value that is exactly ``os.environ/NAME`` refers to a variable, anywhere."""
    assert variables(value) == names


def test_unset_variables():
    """A model's unset or empty variables are reported; other models are not."""
    models = [
        MODEL,
        {"model_name": "azure", "litellm_params": {"model": "azure/x", "b": "os.environ/B", "a": "os.environ/A"}},
        {"model_name": "demo", "litellm_params": {"model": "anthropic/demo"}},
        {"model_name": "set", "litellm_params": {"model": "x", "api_key": "os.environ/SET"}},
    ]
    missing = unset_variables({"model_list": models}, {"SET": "1", "A": ""})
    assert missing == {"glm": ("ZAI_API_KEY",), "azure": ("A", "B")}


def test_no_model_list():
    """Without models nothing is missing and there are no names."""
    assert (unset_variables({}, {}), model_names({"model_list": None})) == ({}, [])


def test_model_names():
    """Names are in the file's order, without duplicates."""
    models = [{"model_name": name, "litellm_params": {"model": "x"}} for name in ("b", "a", "b")]
    assert model_names({"model_list": models}) == ["b", "a"]


PASSWORD = "made-up/p@ss:word"
QUOTED = "made-up%2Fp%40ss%3Aword"


@pytest.mark.parametrize(
    ("router", "environ", "url"),
    [
        ({}, {}, None),
        (None, {}, None),
        # LiteLLM's own settings, as values and as references.
        ({"redis_host": "redis"}, {}, "redis://redis:6379"),
        ({"redis_host": "redis", "redis_port": 6380, "redis_password": PASSWORD}, {}, f"redis://:{QUOTED}@redis:6380"),
        ({"redis_host": "os.environ/MY_REDIS", "redis_port": "os.environ/MY_PORT"},
         {"MY_REDIS": "redis", "MY_PORT": "6380"}, "redis://redis:6380"),
        ({"redis_url": "redis://redis:6379/2", "redis_host": "other"}, {}, "redis://redis:6379/2"),
        ({"redis_url": "os.environ/MY_URL"}, {"MY_URL": "rediss://redis"}, "rediss://redis"),
        ({"redis_host": "os.environ/NOT_SET"}, {}, None),
        ({"redis_password": PASSWORD}, {}, None),
        # LiteLLM's own variables, also for what its settings leave out.
        ({}, {"REDIS_HOST": "redis", "REDIS_PORT": "6380"}, "redis://redis:6380"),
        ({}, {"REDIS_HOST": "redis", "REDIS_PASSWORD": PASSWORD}, f"redis://:{QUOTED}@redis:6379"),
        ({}, {"REDIS_URL": "redis://redis", "REDIS_HOST": "other"}, "redis://redis"),
        ({"redis_host": "redis"}, {"REDIS_HOST": "other", "REDIS_PASSWORD": PASSWORD}, f"redis://:{QUOTED}@redis:6379"),
        ({}, {"REDIS_HOST": "", "REDIS_PORT": "6380"}, None),
    ],
)  # fmt: skip
def test_redis_url(router, environ, url):
    """The Redis of LiteLLM's settings is found where LiteLLM finds it, with its password quoted."""
    assert redis_url({"router_settings": router}, environ) == url
    if not router:
        assert redis_url({}, environ) == url


@pytest.mark.parametrize("content", [b"a: 2026-02-31", b"[" * 5000, b"a: " + b"9" * 5000], ids=["date", "brackets", "digits"])
def test_yaml_that_breaks_its_library(written, content):
    """Other exceptions of the YAML library are reported as a broken file, without quoting it."""
    (mistake,) = mistakes_of(written(content))
    assert mistake.startswith("is not YAML: a date or number that is none")


# --- the configuration that is active ----------------------------------------------------------------------------------------

GLM = {"model": "anthropic/glm", "api_base": "https://api.z.ai/api/anthropic", "api_key": "made-up"}
TWO = {
    "model_list": [
        {"model_name": "glm", "litellm_params": {"model": "anthropic/glm", "api_key": "os.environ/ONE_KEY"}},
        {"model_name": "glm", "litellm_params": {"model": "anthropic/glm", "api_key": "os.environ/TWO_KEY"}},
        {"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*"}},
    ]
}


def active(loaded, environ=(), lookup=lambda _: ()):
    return ActiveConfig(loaded, dict(environ), lookup=lookup)


def test_what_follows_from_a_configuration():
    """Limits, hosts, features, routing and the list of models are replaced together with the configuration."""
    config = active(TWO | {"router_settings": {"num_retries": 1, "model_group_alias": {"g": "glm"}}, "guardrails": []})
    assert (config.features, config.routing.num_retries, "g" in config.listed) == (("guardrails",), 1, True)
    assert config.unset == {"glm": ("TWO_KEY",)}
    config.replace({"claude_proxy": {"users": {"anna": {"models": ["kimi"]}}}})
    assert (config.features, config.routing.num_retries, config.listed, config.unset) == ((), 2, frozenset(), {})
    assert config.limits.patterns


@pytest.mark.parametrize(
    ("environ", "no_pool", "found"),
    [
        ({}, True, {"claude-*": (), "glm": ("ZAI",)}),
        ({"ZAI": "made-up"}, True, {"claude-*": ()}),
        ({}, False, {"glm": ("ZAI",)}),
    ],
)
def test_models_that_are_not_ready(environ, no_pool, found):
    """A model lacks its variables, or Claude lacks a credential; one entry of a name that is ready is enough."""
    entries = [
        ("claude-*", {"model": "anthropic/claude-*"}),
        ("claude-keyed", {"model": "anthropic/claude-x"}),
        ("claude-keyed", {"model": "anthropic/claude-x", "api_key": "sk-ant-made-up"}),
        ("glm", {"model": "anthropic/glm", "api_base": "https://glm.example", "api_key": "os.environ/ZAI"}),
    ]
    config = {"model_list": [{"model_name": name, "litellm_params": params} for name, params in entries]}
    assert not_ready(config, environ, Hosts(), no_pool=no_pool) == found


def test_deployments_are_those_that_litellms_router_finds():
    """Each deployment becomes a value; Claude's own address is recognised; an unknown name has none."""
    found = {
        "claude-x": [{"model": "anthropic/claude-x", "api_base": "https://claude.example"}],
        "glm": [GLM, GLM | {"rpm": 1}],
    }
    config = ActiveConfig({}, {}, hosts=Hosts("https://claude.example"), lookup=lambda name: found.get(name, ()))
    assert [one.lane for one in config.deployments("claude-x")] == [Lane.CLAUDE]
    assert [one.lane for one in config.deployments("glm")] == [Lane.MESSAGES, Lane.LITELLM]
    assert (config.deployments("nobody"), config.is_ready("nobody"), config.missing("nobody")) == ((), False, ())


def entries(*keys):
    return [GLM | {"api_key": key} for key in keys]


@pytest.mark.parametrize(
    ("keys", "asked", "is_ready", "missing"),
    [
        (("one", "two"), ["one", "two"], True, ()),
        ((None, "two"), ["two"], True, ()),
        (("", "two"), ["two"], True, ()),
        ((None, ""), [None, None], False, ("TWO_KEY",)),
    ],
    ids=["both", "one", "one-empty", "none"],
)
def test_deployments_without_their_key(keys, asked, is_ready, missing):
    """Of several deployments the ready ones are used; without any, the missing variables are reported."""
    environ = {name: key for name, key in zip(("ONE_KEY", "TWO_KEY"), keys, strict=True) if key}
    config = active(TWO, environ, lambda _: entries(*keys))
    assert [one.api_key and one.api_key.reveal() for one in config.deployments("glm")] == asked
    assert (config.is_ready("glm"), config.missing("glm")) == (is_ready, missing)


@pytest.mark.parametrize(
    ("name", "params", "lacks"),
    [
        ("glm", {"api_key": None}, True),
        ("glm", {"api_key": ""}, True),
        ("glm", {}, True),
        ("glm", {"api_key": "made-up"}, False),
        ("claude-x", {"api_key": None}, False),
        ("claude-*", {}, False),
    ],
)
def test_what_lacks_a_key(name, params, lacks):
    """A deployment lacks its key if a parameter from the environment is empty and its variable is not set."""
    assert active(TWO).lacks_key(params, name) is lacks


def test_a_key_that_is_not_from_the_environment_is_not_missed():
    """Claude's deployments have no key in config.yaml, because the pool has the credentials."""
    config = active(TWO, lookup=lambda _: [{"model": "anthropic/claude-x"}])
    assert (config.is_ready("claude-x"), config.missing("claude-x")) == (True, ())


def test_names_are_looked_up_once():
    """Lookups are cached until the configuration changes, up to a number of names, because clients choose them."""
    asked = []
    config = active({}, lookup=lambda name: asked.append(name) or [GLM])
    for _ in range(3):
        config.deployments("a"), config.is_ready("a"), config.missing("a")
    assert asked == ["a"]
    config.replace({})
    config.deployments("a")
    assert asked == ["a", "a"]
    for number in range(MAX_NAMES):
        config.deployments(str(number))
    config.deployments("a")
    assert asked.count("a") == 3
    assert len(config._names) <= MAX_NAMES
