"""The facts about LiteLLM that the code relies on: each test fails if a new version changes one."""

import importlib.metadata
import importlib.util
import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path

import litellm
import litellm_contract
import litellm_names
import pytest
import yaml
from litellm.integrations.custom_logger import CustomLogger
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
from litellm.proxy import proxy_server
from litellm.proxy.types_utils.utils import get_instance_fn
from litellm.router import Router
from starlette.applications import Starlette

from claude_proxy.check import installation, names
from claude_proxy.check.watcher import ROUTER_SETTINGS, NotTakenUp, change
from claude_proxy.config import models
from claude_proxy.litellm.callback import ClaudeProxy
from claude_proxy.litellm.lane_client import LaneClient, PlainClient
from claude_proxy.litellm.router import UPDATED, apply_config, deployments_of
from claude_proxy.server.options import LITELLM_ENVIRONMENT

ROOT = Path(__file__).resolve().parent.parent
HOOKS = litellm_contract.HOOKS
# `make test LITELLM=...` names another release.
TESTED = os.environ.get("LITELLM") or installation.PINNED
IDS = [f"{number}-{fact.what}" for number, fact in enumerate(litellm_contract.FACTS)]


def test_the_release_that_is_meant_is_installed():
    """The hooks were measured with one version of LiteLLM, which is installed, or the one that is being tried."""
    assert importlib.metadata.version("litellm") == TESTED


@pytest.mark.parametrize("fact", litellm_contract.FACTS, ids=IDS)
def test_litellm_does_what_is_relied_on(fact):
    """LiteLLM still has it; the message says what changed, which file relies on it, and where to look."""
    assert not fact.told(), fact.told()


@pytest.mark.parametrize("fact", litellm_contract.FACTS, ids=IDS)
def test_a_fact_that_is_gone_is_told(fact, monkeypatch):
    """Each check can fail: after a change in LiteLLM it reports the change and the file that relies on it."""
    fact.spoil(monkeypatch)
    told = fact.told()
    assert fact.where in told
    assert fact.look in told


def test_every_variable_for_litellm_is_a_fact():
    """Every variable that a start sets for LiteLLM is among the facts."""
    assert set(LITELLM_ENVIRONMENT) <= set(litellm_contract.VARIABLES)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hooks_signature_is_the_base_classs(hook):
    """LiteLLM calls a hook by the names of its own base class's parameters."""
    ours, theirs = inspect.signature(getattr(ClaudeProxy, hook)), inspect.signature(getattr(CustomLogger, hook))
    assert list(ours.parameters) == list(theirs.parameters)


def test_the_hooks_stand_in_the_callback_classs_own_body():
    """LiteLLM looks for several hooks in the class itself and silently ignores inherited ones."""
    assert ClaudeProxy.__bases__ == (CustomLogger,)
    assert ClaudeProxy.__subclasses__() == []
    assert "async_pre_call_hook" in HOOKS
    assert "async_post_call_streaming_iterator_hook" in HOOKS


@pytest.mark.parametrize("client", [PlainClient(http=None), LaneClient(None, None, None)], ids=["plain", "lane"])
def test_the_client_has_what_the_base_classs_constructor_would_set(client):
    """The skipped constructor sets nothing that the base class's ``post`` and ``client`` read and ours lacks."""
    read = {
        name for name in ("_client", "_owns_client", "timeout", "event_hooks") if name in inspect.getsource(AsyncHTTPHandler)
    }
    assert read <= set(vars(client))
    assert isinstance(client, AsyncHTTPHandler)


def test_the_app_keeps_its_middleware_where_the_gateway_goes():
    """Starlette calls ``middleware_stack`` for every request, so replacing it puts the gateway around everything."""
    assert isinstance(proxy_server.app, Starlette)
    assert "await self.middleware_stack(" in inspect.getsource(Starlette.__call__)


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """A folder with only a configuration, like in a container that mounts one."""
    monkeypatch.setenv("PROXY_STATIC_TOKEN", "sk-made-up-static")
    monkeypatch.syspath_prepend(str(ROOT))
    path = tmp_path / "config.yaml"
    path.write_text((ROOT / "config.yaml.example").read_text())
    return path


# Loads each name in a process of its own, forked from one that has LiteLLM's proxy, as LiteLLM has when it loads them.
LOADS = """
import gc, os, sys
gc.disable()
sys.path[:] = [entry for entry in sys.path if entry]
import litellm.proxy.proxy_server
from litellm.proxy.types_utils.utils import get_instance_fn

config, callback, *names = sys.argv[1:]
for name in names:
    if os.fork() == 0:
        instance, again = get_instance_fn(name, config), get_instance_fn(callback, config)
        from claude_proxy.litellm.callback import ClaudeProxy
        print(callable(instance) or isinstance(instance, ClaudeProxy), again.app.settings.static_token is not None, flush=True)
        os._exit(0)
    os.wait()
"""


def test_entry_files_load_as_litellm_loads_them():
    """LiteLLM runs an entry file by its path, without the project on the import path."""
    names = (models.CALLBACK, models.CUSTOM_AUTH)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PROXY_STATIC_TOKEN": "sk-made-up-static", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    program = [sys.executable, "-c", LOADS, str(ROOT / "config.yaml"), models.CALLBACK, *names]
    done = subprocess.run(program, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"] * 2 * len(names), done.stderr


@pytest.mark.usefixtures("http_clients_as_they_were")
def test_entry_files_are_found_without_a_copy_beside_the_configuration(configured):
    """If config.yaml is alone in its folder, LiteLLM imports the entry files from the installed project."""
    assert get_instance_fn(models.CALLBACK, str(configured)) is get_instance_fn(models.CALLBACK, str(ROOT / "config.yaml"))


def test_entry_files_bind_and_define_nothing():
    """State and classes live in the package, since LiteLLM may run an entry file several times."""
    for name in ("request_transformer", "custom_auth"):
        source = (ROOT / f"{name}.py").read_text()
        assert "class " not in source
        assert "from __future__" not in source
        assert source.count("def ") <= 1


def test_the_names_that_the_checks_know_are_litellms():
    """The table is what LiteLLM knows; another release may know more, and `python tests/litellm_names.py` then writes it."""
    found = litellm_names.collect()
    known = {section: names.known(section) - names.OURS.get(section, set()) for section in found}
    gone = {section: sorted(known[section] - found[section]) for section in found if known[section] - found[section]}
    assert not gone, f"config.yaml's names that LiteLLM {TESTED} no longer has; look at claude_proxy/check/litellm_names.txt"
    assert TESTED != installation.PINNED or litellm_names.TABLE.read_text(encoding="utf-8") == litellm_names.text(found)
    assert {"api_base", "reasoning_effort", "rpm"} <= names.known("litellm_params")
    assert litellm_names.PRICE.pattern == names.PRICE.pattern


def test_the_pin_is_the_one_that_is_checked():
    """The release that the check wants is the one of the lock."""
    assert f"\nlitellm=={installation.PINNED} " in (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert installation.PINNED not in installation.COMPROMISED


# --- a configuration that is put in force under way --------------------------------------------------------------------------

OLD = {
    "model_list": [
        {"model_name": "glm", "litellm_params": {"model": "anthropic/glm", "api_base": "https://host/a", "api_key": "x"}},
        {"model_name": "old-*", "litellm_params": {"model": "anthropic/*", "api_base": "https://host/a", "api_key": "x"}},
    ],
    "router_settings": {"fallbacks": [{"old-*": ["glm"]}], "num_retries": 2, "retry_policy": {"TimeoutErrorRetries": 1}},
}


@pytest.fixture
def router(monkeypatch):
    monkeypatch.setattr(proxy_server, "llm_model_list", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteLLM's own, from pydantic: it would leave every model out
        made = Router(model_list=OLD["model_list"], ignore_invalid_deployments=True, **OLD["router_settings"])
        yield made
        made.discard()


def served(router, name):
    return [deployment["litellm_params"]["model"] for deployment in router.get_model_list(model_name=name) or ()]


def put(router, new):
    return list(apply_config(router, OLD, new, change(OLD, new)))


def test_a_new_configuration_takes_the_old_ones_place(router, monkeypatch):
    """Models, patterns, fallbacks and retries are the new ones, keys come from the environment, and nothing old is left."""
    monkeypatch.setenv("MADE_UP_API_KEY", "made-up")
    new = {
        "model_list": [
            {"model_name": "kimi", "litellm_params": {"model": "anthropic/kimi", "api_key": "os.environ/MADE_UP_API_KEY"}},
            {"model_name": "new-*", "litellm_params": {"model": "openai/*"}},
        ],
        "router_settings": {"fallbacks": [{"new-*": ["kimi"]}], "num_retries": 5, "default_fallbacks": ["kimi"]},
    }
    before = yaml.safe_dump(new)
    assert put(router, new) == []
    assert (served(router, "kimi"), served(router, "new-x")) == (["anthropic/kimi"], ["openai/x"])
    assert (served(router, "glm"), served(router, "old-x")) == ([], [])
    assert router.get_model_list(model_name="kimi")[0]["litellm_params"]["api_key"] == "made-up"
    assert router.fallbacks == [{"new-*": ["kimi"]}, {"*": ["kimi"]}]
    assert (router.num_retries, router.retry_policy) == (5, None)
    assert [model["model_name"] for model in proxy_server.llm_model_list] == ["kimi", "new-*"]
    assert yaml.safe_dump(new) == before


def test_a_names_deployments_are_the_routers(router, monkeypatch):
    """The deployments are those of a name or of a pattern, with its star replaced; none before LiteLLM has started."""
    monkeypatch.setattr(proxy_server, "llm_router", router)
    (one,), (two,) = deployments_of("glm"), deployments_of("old-x")
    assert (one["model"], one["api_base"], one["api_key"]) == ("anthropic/glm", "https://host/a", "x")
    assert two["model"] == "anthropic/x"
    assert deployments_of("nobody") == []
    monkeypatch.setattr(proxy_server, "llm_router", None)
    assert deployments_of("glm") == []


def test_a_model_that_litellm_leaves_out_is_named(router):
    """LiteLLM leaves out a model with an unknown provider; the others are served, and a message names it."""
    new = OLD | {"model_list": [*OLD["model_list"], {"model_name": "m", "litellm_params": {"model": "made-up-provider/x"}}]}
    assert put(router, new) == ["model m was left out: LiteLLM rejects it"]
    assert served(router, "glm")


@pytest.mark.parametrize(
    "settings",
    [
        {"fallbacks": [{"glm": ["a"], "b": ["glm"]}]},
        {"fallbacks": ["made-up"]},
        {"retry_policy": {"TimeoutErrorRetries": "made-up"}},
    ],
)
def test_what_litellm_would_not_start_with_is_refused(router, settings):
    """The router is unchanged, and no value of the file is in the message."""
    with pytest.raises(NotTakenUp) as caught:
        put(router, {"model_list": OLD["model_list"][:1], "router_settings": settings})
    assert "made-up" not in str(caught.value)
    assert served(router, "old-x")
    assert router.fallbacks == OLD["router_settings"]["fallbacks"]


def test_what_litellm_breaks_on_half_way_is_undone(router, monkeypatch):
    """If the replacement fails in the middle, the old models and settings apply again."""
    whole = router.update_settings

    def fails_once(**settings):
        monkeypatch.setattr(router, "update_settings", whole)
        raise RuntimeError

    monkeypatch.setattr(router, "update_settings", fails_once)
    with pytest.raises(NotTakenUp):
        put(router, {"model_list": OLD["model_list"][:1], "router_settings": {"num_retries": 7}})
    assert served(router, "old-x")
    assert (router.num_retries, router.fallbacks) == (2, OLD["router_settings"]["fallbacks"])
    assert router.retry_policy.TimeoutErrorRetries == 1


def test_the_settings_that_change_under_way_are_the_routers():
    """Each one is an attribute that LiteLLM's router reads for every request, or copies into one."""
    own = {"fallbacks", "default_fallbacks", "content_policy_fallbacks"}
    assert set(UPDATED) | own == ROUTER_SETTINGS
    assert set(UPDATED) <= litellm.constants.RUNTIME_UPDATABLE_ROUTER_SETTINGS
