"""Applies a changed configuration to LiteLLM's running router. Depends on LiteLLM's shapes."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import litellm
from litellm.proxy import proxy_server
from litellm.types.router import RetryPolicy

from claude_proxy.check.watcher import Change, NotTakenUp
from claude_proxy.config import models
from claude_proxy.config.deployments import parameters

# The settings that LiteLLM's own update accepts, with the value that applies when a setting is removed from the file.
UPDATED: Mapping[str, Any] = {
    "num_retries": 2, "retry_after": 0, "retry_policy": None, "model_group_retry_policy": None, "timeout": None,
    "model_group_alias": {}, "context_window_fallbacks": [],
}  # fmt: skip


def deployments_of(name: str) -> list[Mapping[str, Any]]:
    """Return the ``litellm_params`` of every deployment of a model name, as LiteLLM's router finds them."""
    router = proxy_server.llm_router
    found = router.get_model_list(model_name=name) if router else None
    return [parameters(one["litellm_params"], one.get("model_info")) for one in found or ()]


def apply_config(router: Any, old: Mapping[str, Any], new: Mapping[str, Any], found: Change) -> Iterator[str]:
    """Replace the router's models, fallbacks and settings; yield a message for each model that LiteLLM rejected.

    Without ``await``, so no request sees a partial change. Raises ``NotTakenUp`` and restores the old state on an error.
    """
    if router is None:
        raise NotTakenUp("LiteLLM has not started")
    settings = new.get("router_settings") or {}
    for name, check in CHECKED.items():
        try:
            check(router, settings.get(name))
        except (ValueError, TypeError):
            # Without the error's own text, which contains the value.
            raise NotTakenUp(f"router_settings: LiteLLM does not accept the value of {name}") from None
    try:
        _set_models(router, new)
        _set_settings(router, settings, found.settings)
    except Exception as error:
        _set_models(router, old)
        _set_settings(router, old.get("router_settings") or {}, found.settings)
        raise NotTakenUp(f"LiteLLM rejects it ({type(error).__name__})") from error
    taken = {model["model_name"] for model in router.model_list}
    return (f"model {name} was left out: LiteLLM rejects it" for name in models.model_names(new) if name not in taken)


def _set_models(router: Any, loaded: Mapping[str, Any]) -> None:
    # LiteLLM's own replacement of the list would keep these, including patterns that are removed.
    router.pattern_router.patterns = {}
    router.provider_default_deployment_ids = []
    router.deployment_names = []
    router.set_model_list(copy.deepcopy(loaded.get("model_list") or []))
    proxy_server.llm_model_list = router.get_model_list()


def _set_settings(router: Any, settings: Mapping[str, Any], changed: tuple[str, ...]) -> None:
    fallbacks = copy.deepcopy(settings.get("fallbacks") or litellm.fallbacks)
    default = settings.get("default_fallbacks") or litellm.default_fallbacks
    router.fallbacks = [*(fallbacks or []), {"*": list(default)}] if default else fallbacks
    if "content_policy_fallbacks" in changed:
        router.content_policy_fallbacks = copy.deepcopy(settings.get("content_policy_fallbacks"))
    for name, value in UPDATED.items():
        if name in changed:
            wanted = copy.deepcopy(settings.get(name, value))
            if wanted is None:  # LiteLLM's update converts the value to a number
                setattr(router, name, litellm.request_timeout if name == "timeout" else None)
            else:
                router.update_settings(**{name: wanted})


def _check_fallbacks(router: Any, value: Any) -> None:
    router.validate_fallbacks(fallback_param=value)


def _check_policy(_: Any, value: Any) -> None:
    RetryPolicy(**(value or {}))


# Checks for settings that LiteLLM would reject at its start, and that would otherwise fail after half of the change.
CHECKED = {"fallbacks": _check_fallbacks, "content_policy_fallbacks": _check_fallbacks, "retry_policy": _check_policy}
