"""The retry and fallback rules of ``router_settings``: frozen values with LiteLLM's semantics, no I/O."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.config import sections
from claude_proxy.providers.endpoints import fallback_models

# LiteLLM's values (1.108.7), which come from the package openai.
NUM_RETRIES = 2
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 8.0
# The key of ``retry_policy`` for each status. Other client errors are bad requests. If a status has no key, or its key is not
# set, ``DefaultRetries`` applies.
RETRY_POLICY = {
    401: "AuthenticationErrorRetries", 403: "", 404: "NotFoundErrorRetries", 408: "TimeoutErrorRetries",
    429: "RateLimitErrorRetries", 500: "InternalServerErrorRetries", 503: "ServiceUnavailableErrorRetries",
    504: "TimeoutErrorRetries", 529: "InternalServerErrorRetries",
}  # fmt: skip
# In seconds; a longer ``retry-after`` is ignored.
LONGEST_RETRY_AFTER = 60.0
# Client errors that LiteLLM retries (its ``should_retry``).
REPEATED = frozenset({408, 409, 429})
# Lists of fallbacks that LiteLLM validates when it starts; it does not start with any other shape.
VALIDATED_FALLBACKS = ("fallbacks", "content_policy_fallbacks")
# What LiteLLM accepts as ``routing_strategy``; it does not start with any other value.
STRATEGIES = (
    "simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing", "usage-based-routing",
    "usage-based-routing-v2", "provider-budget-routing", "lar1",
)  # fmt: skip


@dataclass(frozen=True)
class Routing:
    """The rules for a failed attempt. Times are in seconds."""

    fallbacks: tuple[Mapping[str, list[str]], ...] = ()
    context_window_fallbacks: tuple[Mapping[str, list[str]], ...] | None = None
    content_policy_fallbacks: tuple[Mapping[str, list[str]], ...] | None = None
    num_retries: int = NUM_RETRIES
    retry_after: float = 0.0
    retry_policy: Mapping[str, int] = field(default_factory=dict)
    model_group_retry_policy: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    timeout: float | None = None
    stream_timeout: float | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Routing":
        """Read config.yaml. ``router_settings`` has priority over ``litellm_settings``; invalid values are ignored."""
        router, general = _mapping(config.get("router_settings")), _mapping(config.get("litellm_settings"))

        def listed(name: str) -> tuple[Mapping[str, list[str]], ...]:
            return _entries(router.get(name) or general.get(name))

        default = router.get("default_fallbacks") or general.get("default_fallbacks")
        retries = (_whole(each.get("num_retries")) for each in (router, general))
        return cls(
            fallbacks=(*listed("fallbacks"), *([{"*": list(default)}] if isinstance(default, list) else [])),
            context_window_fallbacks=listed("context_window_fallbacks") or None,
            content_policy_fallbacks=listed("content_policy_fallbacks") or None,
            num_retries=next((found for found in retries if found is not None), NUM_RETRIES),
            retry_after=number(router.get("retry_after")) or 0.0,
            retry_policy=_policy(router.get("retry_policy")),
            model_group_retry_policy={
                str(name): _policy(policy) for name, policy in _mapping(router.get("model_group_retry_policy")).items()
            },
            timeout=number(router.get("timeout")) or number(general.get("request_timeout")) or None,
            stream_timeout=number(router.get("stream_timeout")) or None,
        )

    def fallbacks_of(self, model: str) -> list[str]:
        """Return the fallback models of a model, in order: those of the most specific pattern."""
        return fallback_models(model, self.fallbacks) or []

    def context_window_fallbacks_of(self, model: str) -> list[str] | None:
        """Return the models for a conversation that is too long for this one; None if only the other rules apply."""
        return None if self.context_window_fallbacks is None else fallback_models(model, self.context_window_fallbacks) or []

    def content_policy_fallbacks_of(self, model: str) -> list[str] | None:
        """Return the models for a request that violates this model's content policy; None as above."""
        return None if self.content_policy_fallbacks is None else fallback_models(model, self.content_policy_fallbacks) or []

    def retries(self, model: str, status: int, requested: int | None) -> int:
        """Return how often a model's failed attempt is retried in total; ``requested`` is the deployment's own number."""
        policy = self.model_group_retry_policy.get(model, self.retry_policy)
        key = RETRY_POLICY.get(status, "" if status >= 500 else "BadRequestErrorRetries")
        if policy and (repeats := policy.get(key, policy.get("DefaultRetries"))) is not None:
            return repeats
        if status < 500 and status not in REPEATED:
            return 0
        return self.num_retries if requested is None else requested


def without_usable(
    fallbacks: Iterable[Mapping[str, list[str]]], is_skipped: Callable[[str], bool]
) -> dict[str, tuple[str, ...]]:
    """Return the patterns whose fallbacks are all skipped, with these fallbacks.

    A less specific pattern does not apply in their place. Of two equal patterns, the first applies.
    """
    first: dict[str, list[str]] = {}
    for entry in fallbacks:
        for pattern, models in entry.items():
            first.setdefault(pattern, models)
    return {pattern: tuple(models) for pattern, models in first.items() if models and all(map(is_skipped, models))}


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each rule with which LiteLLM does not start; ``config`` is a mapping, and nothing else is known."""
    for section in ("router_settings", "litellm_settings"):
        given = _mapping(config.get(section))
        for name in VALIDATED_FALLBACKS:
            yield from (f"{section}: {name}: {problem}" for problem in _fallback_mistakes(given.get(name)))
    settings = config.get("router_settings")
    if settings is None:
        return
    if not isinstance(settings, dict):
        if not (isinstance(settings, list) and any(map(sections.is_model, settings))):  # that is reported by itself
            yield "router_settings: should be a mapping of settings, such as num_retries: 2"
        return
    aliases = settings.get("model_group_alias")
    if aliases is not None and not isinstance(aliases, dict):
        yield "router_settings: model_group_alias: should be a mapping of another name to a model: {fast: glm-fast}"
    strategy = settings.get("routing_strategy")
    if strategy is not None and strategy not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        yield f"router_settings: routing_strategy: should be one of {known}; without the line it is {STRATEGIES[0]}"
    policy = settings.get("retry_policy")
    for name, repeats in policy.items() if isinstance(policy, dict) else ():
        if str(name).endswith("Retries") and repeats is not None and _whole(repeats) is None:
            yield f"router_settings: retry_policy: {name}: should be a whole number"


def _fallback_mistakes(value: object) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, dict):
        yield "is a mapping and should be a list; write each model behind a dash: `- claude-opus-*: [glm]`"
        return
    if not isinstance(value, list):
        yield "should be a list; write each model behind a dash: `- claude-opus-*: [glm]`"
        return
    for place, entry in enumerate(value, start=1):
        if sections.is_model(entry):
            continue  # reported by itself
        if not isinstance(entry, dict):
            yield f"entry {place} should be a model with its fallbacks; write `- claude-opus-*: [glm]`"
        elif len(entry) != 1:
            yield f"entry {place} has {len(entry)} models and should have one; write each model behind a dash of its own"


def pause(attempt: int, least: float, asked: float | None = None) -> float:
    """Return the seconds to wait before a model's only deployment is tried again; ``attempt`` starts at 0.

    ``asked`` is the error's ``retry-after``, which has priority if it is not too long.
    """
    if asked is not None and 0 < asked <= LONGEST_RETRY_AFTER:
        return asked
    grown = min(max(FIRST_RETRY_SECONDS * 2.0**attempt, least), LONGEST_RETRY_SECONDS)
    return grown * (1 + 0.25 * random.random())  # noqa: S311 - spreads load


def number(value: object) -> float | None:
    """Return a number, possibly given as a text; None for anything else, an infinite or a negative number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and found >= 0 else None


def is_entry(value: object) -> bool:
    """Whether this is an entry of a fallback list: patterns, each with a list of model names."""
    return isinstance(value, dict) and all(
        isinstance(models, list) and all(isinstance(model, str) for model in models) for models in value.values()
    )


def _whole(value: object) -> int | None:
    return int(value) if not isinstance(value, bool) and isinstance(value, int | str) and str(value).isdecimal() else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _entries(value: object) -> tuple[Mapping[str, list[str]], ...]:
    return tuple(entry for entry in value if is_entry(entry)) if isinstance(value, list) else ()


def _policy(value: object) -> Mapping[str, int]:
    numbers = {str(name): _whole(repeats) for name, repeats in _mapping(value).items()}
    return {name: repeats for name, repeats in numbers.items() if repeats is not None}
