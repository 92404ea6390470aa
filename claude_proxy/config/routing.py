"""The rules of ``router_settings`` by which retries and fallbacks are chosen: frozen values, LiteLLM's semantics, no I/O."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.providers.endpoints import fallback_models

# As LiteLLM has them (1.106.2), which takes them over from the package openai.
NUM_RETRIES = 2
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 8.0
# Of ``retry_policy``: which of its keys an error belongs to. Other errors are repeated by ``num_retries``.
RETRY_POLICY = {
    400: "BadRequestErrorRetries", 401: "AuthenticationErrorRetries", 403: "AuthenticationErrorRetries",
    404: "NotFoundErrorRetries", 408: "TimeoutErrorRetries", 429: "RateLimitErrorRetries",
    503: "ServiceUnavailableErrorRetries", 504: "TimeoutErrorRetries",
}  # fmt: skip
# Client errors that LiteLLM repeats (its ``should_retry``).
REPEATED = frozenset({408, 409, 429})


@dataclass(frozen=True)
class Routing:
    """What follows a failure. Times are in seconds."""

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
        """Read a configuration that its check has nothing against. ``router_settings`` go before ``litellm_settings``."""
        router, general = config.get("router_settings") or {}, config.get("litellm_settings") or {}

        def setting(name: str) -> Any:
            value = router.get(name)
            return general.get(name) if value is None else value

        default = setting("default_fallbacks")
        retries, timeout = setting("num_retries"), router.get("timeout") or general.get("request_timeout")
        return cls(
            fallbacks=(*_entries(setting("fallbacks")), *([{"*": list(default)}] if default else [])),
            context_window_fallbacks=_optional(setting("context_window_fallbacks")),
            content_policy_fallbacks=_optional(setting("content_policy_fallbacks")),
            num_retries=NUM_RETRIES if retries is None else int(retries),
            retry_after=float(router.get("retry_after") or 0),
            retry_policy=_policy(router.get("retry_policy")),
            model_group_retry_policy={
                str(name): _policy(policy) for name, policy in (router.get("model_group_retry_policy") or {}).items()
            },
            timeout=float(timeout) if timeout else None,
            stream_timeout=float(router["stream_timeout"]) if router.get("stream_timeout") else None,
        )

    def fallbacks_of(self, model: str) -> list[str]:
        """Return the models that answer when this one does not, in order: those of the most specific pattern."""
        return fallback_models(model, self.fallbacks) or []

    def context_window_fallbacks_of(self, model: str) -> list[str] | None:
        """Return the models for a conversation that is too long for this one; None where only the other rules apply."""
        return None if self.context_window_fallbacks is None else fallback_models(model, self.context_window_fallbacks) or []

    def content_policy_fallbacks_of(self, model: str) -> list[str] | None:
        """Return the models for a request that this one refuses as against its policy; None as above."""
        return None if self.content_policy_fallbacks is None else fallback_models(model, self.content_policy_fallbacks) or []

    def retries(self, model: str, status: int, requested: int | None) -> int:
        """Return how often a model's failed attempt is repeated in all; ``requested`` is the deployment's own number."""
        policy = self.model_group_retry_policy.get(model, self.retry_policy)
        key = RETRY_POLICY.get(status, "InternalServerErrorRetries" if status >= 500 else "BadRequestErrorRetries")
        if policy and (number := policy.get(key, policy.get("DefaultRetries"))) is not None:
            return number
        if status < 500 and status not in REPEATED:
            return 0
        return self.num_retries if requested is None else requested


def pause(attempt: int, least: float) -> float:
    """Return how many seconds to wait before a model's one deployment is asked again; ``attempt`` counts from 0."""
    grown = min(max(FIRST_RETRY_SECONDS * 2.0**attempt, least), LONGEST_RETRY_SECONDS)
    return grown * (1 + 0.25 * random.random())  # noqa: S311 - spreads load


def _entries(value: object) -> Iterable[Mapping[str, list[str]]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _optional(value: object) -> tuple[Mapping[str, list[str]], ...] | None:
    return tuple(_entries(value)) if isinstance(value, list) and value else None


def _policy(value: object) -> Mapping[str, int]:
    found = value.items() if isinstance(value, dict) else ()
    return {str(name): number for name, number in found if isinstance(number, int)}
