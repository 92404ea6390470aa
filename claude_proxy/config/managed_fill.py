"""What the proxy knows and fills into managed settings: the models of a user, the check in auto mode, hints. No I/O.

What the operator writes comes on top (``config/managed_settings.py``).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy.config.client_models import (
    CHECK_MODEL_VARIABLE,
    CONTEXT_VARIABLE,
    FORCE_VARIABLE,
    MODEL_VARIABLES,
    ClientModels,
    of_another_model,
)
from claude_proxy.config.client_settings import ENV, PICKER
from claude_proxy.config.managed_settings import ManagedSettings, Policy
from claude_proxy.providers.endpoints import matches
from claude_proxy.providers.model_names import CLAUDE_CODE_MODELS

# With this one, each model request says in a header what it is for.
HINTS_VARIABLE = "CLAUDE_CODE_GATEWAY_HINT_HEADERS"
# With this one, the client asks for /v1/models.
DISCOVERY_VARIABLE = "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY"
# With these, a client that has signed in sends metrics and events to the proxy. It needs no address: it knows the proxy's.
TELEMETRY_VARIABLES = {
    "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}
AVAILABLE, ENFORCE = "availableModels", "enforceAvailableModels"
# ANTHROPIC_MODEL would win over the model that the user has saved with /model at each start; this one is what Default is.
DEFAULT_VARIABLE = "ANTHROPIC_DEFAULT_MODEL"
DEFAULT_VARIABLES = tuple(name for name in MODEL_VARIABLES if name != "ANTHROPIC_MODEL")
# The model of each family. After a sign-in at a gateway, Claude Code 2.1.332 takes older ones by itself. In availableModels the
# name of a family stands for all of its models.
FAMILIES = {name.split("-")[1]: name for name in CLAUDE_CODE_MODELS}
# The family of Claude Code's own default model, and that of its checks in auto mode.
DEFAULT_FAMILY, CHECK_FAMILY = "opus", "sonnet"


def policy_of(
    managed: ManagedSettings,
    models: ClientModels,
    environ: Mapping[str, str],
    user: str,
    groups: Collection[str],
    *,
    has_login: bool,
    takes_telemetry: bool = False,
) -> Policy | None:
    """Return what a user gets; None for one without a policy. ``groups`` are case-folded.

    ``takes_telemetry`` is whether the proxy passes Claude Code's telemetry on.
    """
    if not managed.applies(user, groups):
        return None
    telemetry = TELEMETRY_VARIABLES if takes_telemetry else None
    known = filled(models, environ, user, has_login=has_login, telemetry=telemetry) if managed.fill else {}
    return managed.policy(user, groups, known)


def filled(
    models: ClientModels,
    environ: Mapping[str, str],
    user: str,
    *,
    has_login: bool,
    telemetry: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the settings for a user. ``has_login`` is whether the proxy has a credential for Claude.

    ``telemetry`` are the variables with which Claude Code exports telemetry to the proxy; None while the proxy passes none on.
    """
    names = _Names(models, models.ready(environ, user), user, has_login=has_login)
    claude, others = names.claude(), names.others()
    default = None if claude else models.default(environ, user, has_login=False)
    is_claude = default is None or models.is_claude(default)
    context = None if default is None or is_claude else models.context_of(default)
    rows, window = models.rows(names.ready, default, is_claude=is_claude, context=context)
    variables = {HINTS_VARIABLE: "1", **(telemetry or {})}
    if default is None:
        variables |= names.variables()
    elif is_claude:
        variables[DEFAULT_VARIABLE] = default
    else:
        variables |= dict.fromkeys(DEFAULT_VARIABLES, default) | {FORCE_VARIABLE: "1"} | of_another_model(default, window)
    if window and any(row.behaves_as is None for row in rows):
        variables[CONTEXT_VARIABLE] = str(window)
    settings: dict[str, Any] = {ENV: variables}
    if rows:
        replaced = {} if is_claude else {"replaceBuiltInOptions": True}
        settings[PICKER] = {"options": [row.fields() for row in rows], **replaced}
    if others is not None:
        # Without such a list, /model would have each other model twice: as a row, and under the name of the discovery.
        variables[DISCOVERY_VARIABLE] = "1"
        settings[AVAILABLE] = [*claude, *others]
        if claude and DEFAULT_FAMILY not in claude:
            settings[ENFORCE] = True
    return settings


@dataclass(frozen=True)
class _Names:
    """The names that a user may use. ``ready`` are those of models that lack no key."""

    models: ClientModels
    ready: list[str]
    user: str
    has_login: bool

    def claude(self) -> list[str]:
        """Return Claude's models as ``availableModels`` has them: families, names, and starts of names."""
        found: dict[str, None] = {}
        for name in self._candidates():
            if "*" in name:
                found |= dict.fromkeys(self._of_pattern(name))
            elif self._is_own_claude(name):
                found[name] = None
        return [*found]

    def others(self) -> list[str] | None:
        """Return all other models; None where a pattern lets the user use any name."""
        ready, found = frozenset(self.ready), dict[str, None]()
        for name in self._candidates():
            if "*" in name:
                example = name.replace("*", "0")
                if self._may_use(example) and not self.models.is_claude(example):
                    return None
            elif name in ready or (not self.models.is_named(name) and self._may_use(name)):
                found |= {} if self._is_own_claude(name) else {name: None}
        return [*found]

    def variables(self) -> dict[str, str]:
        """Return the model of each family, and one for checks that Claude Code makes by itself."""
        usable = {family: name for family, name in FAMILIES.items() if self._is_claude(name)}
        check = usable.get(CHECK_FAMILY) or next(iter(usable.values()), "")
        return {f"ANTHROPIC_DEFAULT_{family.upper()}_MODEL": name for family, name in usable.items()} | (
            {CHECK_MODEL_VARIABLE: check} if check else {}
        )

    def _candidates(self) -> Iterable[str]:
        """Return the names and patterns of the models, and those that config.yaml lists for the user."""
        return dict.fromkeys((*self.models.names, *self.models.listed_for(self.user)))

    def _may_use(self, name: str) -> bool:
        return bool(self.models.deployments(name)) and self.models.allows(self.user, name)

    def _is_own_claude(self, name: str) -> bool:
        """Whether a name is one of Anthropic's own names."""
        return name.startswith("claude-") and self._is_claude(name)

    def _is_claude(self, name: str) -> bool:
        """Whether the user may use a name that is Claude, and there is a credential for it."""
        has_key = self.has_login or all(one["litellm_params"].get("api_key") for one in self.models.deployments(name))
        return has_key and self.models.is_claude(name) and self.models.allows(self.user, name)

    def _of_pattern(self, pattern: str) -> Iterator[str]:
        """Yield the families of which the user may use any model; for a narrower pattern the start of its names."""
        # A version that no pattern was written for.
        families = {family: f"claude-{family}-0-0" for family in FAMILIES}
        whole = [family for family, example in families.items() if matches(pattern, example)]
        yield from (family for family in whole if self._is_claude(families[family]))
        start = pattern.split("*", 1)[0].rstrip("-")
        if not whole and start.startswith("claude-") and self._is_claude(pattern.replace("*", "0")):
            yield start
