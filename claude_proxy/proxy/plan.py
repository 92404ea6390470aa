"""Plans a request: the deployments of its model, then those of its fallbacks. Plain values, no I/O."""

from collections.abc import Callable, Mapping, Sequence
from random import choices
from typing import NamedTuple

from claude_proxy.anthropic.errors import MODEL_NOT_READY, UNKNOWN_MODEL, Refused
from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.models import ActiveConfig, Fallbacks
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.request import Request

# Whether the user of a request may not use a model of config.yaml, because no price is known.
LacksPrice = Callable[[Request, str], bool]


def no_price_needed(*_: object) -> bool:
    """Return that every model may be used."""
    return False


class Target(NamedTuple):
    """One model of config.yaml, with its deployments."""

    name: str
    deployments: tuple[Deployment, ...]

    @property
    def enters_litellm(self) -> bool:
        """Whether LiteLLM handles the model: a lane does so only if it supports every deployment."""
        return any(one.lane is Lane.LITELLM for one in self.deployments)

    @property
    def is_claude(self) -> bool:
        """Whether the first deployment is Claude's."""
        return self.deployments[0].provider is Provider.CLAUDE

    def in_order(self) -> Sequence[Deployment]:
        """Return the deployments in the order for one request: weighted at random, each once."""
        left = list(self.deployments)
        if len(left) == 1:
            return left
        order: list[Deployment] = []
        while left:
            weights = [one.weight for one in left]
            place = choices(range(len(left)), weights if any(weights) else None)[0]  # noqa: S311 - spreads load
            order.append(left.pop(place))
        return order


class Plan(NamedTuple):
    """The targets of one request, in order. The first is the requested model."""

    first: Target
    fallbacks: Fallbacks

    def without(self, is_left_out: Callable[[str], bool]) -> "Plan":
        """Return the plan without these fallbacks; this one if it has none of them."""
        found = self.fallbacks
        if not any(map(is_left_out, (*found.general, *(found.context_window or ()), *(found.content_policy or ())))):
            return self

        def left(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return names and tuple(name for name in names if not is_left_out(name))

        return self._replace(
            fallbacks=Fallbacks(left(found.general) or (), left(found.context_window), left(found.content_policy))
        )


def why_no_fallback(skipped: Mapping[str, Sequence[str]]) -> str:
    """Say why no fallback follows a failed attempt; ``skipped`` has those that are not ready, with their unset variables."""
    return "; ".join(
        f"fallback {name} is not ready: set {' and '.join(unset)}" if unset else f"fallback {name} is not served"
        for name, unset in skipped.items()
    )


def plan(name: str, config: ActiveConfig) -> Plan:
    """Return the plan for a model. Raises ``Refused`` for an unknown model and for one without its key."""
    deployments = config.deployments(name)
    if not deployments:
        raise Refused(404, f"model: {name} is not served by this proxy", reason=UNKNOWN_MODEL)
    missing = config.missing(name)
    if missing:
        words = f"{name} is not ready: set {' and '.join(missing)} on the proxy (.env) and restart it."
        raise Refused(400, words, reason=MODEL_NOT_READY)
    return Plan(Target(name, deployments), config.fallbacks(name))
