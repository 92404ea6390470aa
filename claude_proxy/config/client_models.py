"""What Claude Code needs to know of the models: which are Claude, their windows, the rows for ``/model``. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from claude_proxy.config import models
from claude_proxy.config.model_access import Limits
from claude_proxy.config.picker_rows import (
    COMPACT_VARIABLE,
    LONG_CONTEXT,
    USUAL_CONTEXT,
    Row,
    described,
    larger_known,
    needs_compact_variable,
    smaller_known,
)
from claude_proxy.config.settings import Settings
from claude_proxy.config.users import folded
from claude_proxy.providers.endpoints import Hosts, Provider, matches

DEMO_MODELS = ("demo", "claude-demo")
# The models that Claude Code requests of its own accord (titles, subagents, the names opus, sonnet, haiku and fable).
HAIKU_VARIABLE, SUBAGENT_VARIABLE = "ANTHROPIC_DEFAULT_HAIKU_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL"
# Without ANTHROPIC_DEFAULT_MODEL, "Default" in /model is the opus model with LONG_MARK.
MODEL_VARIABLES = (
    "ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL",
    HAIKU_VARIABLE, "ANTHROPIC_DEFAULT_FABLE_MODEL", SUBAGENT_VARIABLE,
)  # fmt: skip
# Without this one, a subagent takes the model that its own file names, and some of Claude Code's own take the session's.
FORCE_VARIABLE = "CLAUDE_CODE_SUBAGENT_MODEL_FORCE"
# Claude Code 2.1.332 assumes a million tokens for a model that it does not know, and would compact far too late. It reads this
# variable for such a model only, and not where the name ends with LONG_MARK.
CONTEXT_VARIABLE = "CLAUDE_CODE_MAX_CONTEXT_TOKENS"
# In auto mode Claude Code 2.1.332 has Anthropic's server check each call, and no other server can: behind another model it
# refuses every call that needs a check. With the first one off it checks by itself, with requests to the model of the second.
CHECK_VARIABLE, CHECK_MODEL_VARIABLE = "CLAUDE_CODE_AUTO_MODE_SERVER", "CLAUDE_CODE_AUTO_MODE_MODEL"
# Claude Code finds most tools by a search, and each find changes the start of the request, which the provider has cached.
# "auto" sends every tool from the start as long as they take less than a tenth of the window.
SEARCH_VARIABLE, SEARCH = "ENABLE_TOOL_SEARCH", "auto"
# Claude Code's own mark for the context of a million tokens, which it takes off.
LONG_MARK = "[1m]"

# Returns how many tokens a model takes by LiteLLM's list; None if it is not listed.
ListedWindow = Callable[[str], int | None]


def of_another_model(model: str, context: int | None) -> dict[str, str]:
    """Return the variables that Claude Code needs for a model that is not Claude."""
    window = {CONTEXT_VARIABLE: str(context)} if context else {}
    if context and needs_compact_variable(context):
        window[COMPACT_VARIABLE] = str(context)
    return window | {CHECK_VARIABLE: "0", CHECK_MODEL_VARIABLE: model, SEARCH_VARIABLE: SEARCH}


class ClientModels:
    """The models of a configuration in which ``models.load`` found no error."""

    def __init__(self, loaded: Mapping[str, Any], settings: Settings, listed: ListedWindow) -> None:
        self._loaded = loaded
        self._hosts = Hosts(settings.claude_base)
        self._listed = listed
        self._limits = Limits.of(loaded)
        self._named: dict[str, list[dict[str, Any]]] = {}
        for entry in loaded.get("model_list") or []:
            self._named.setdefault(entry["model_name"], []).append(entry)

    @property
    def names(self) -> list[str]:
        """The names and patterns, in the order of the file."""
        return [*self._named]

    def is_named(self, model: str) -> bool:
        """Whether the file has an entry of exactly this name."""
        return model in self._named

    def allows(self, user: str, model: str) -> bool:
        """Whether the user may use a model."""
        return self._limits.allows(user, model)

    def listed_for(self, user: str) -> tuple[str, ...]:
        """Return the names and patterns that config.yaml lists for a user; none for a user without a list."""
        return self._limits.patterns.get(folded(user), ())

    def deployments(self, model: str) -> list[dict[str, Any]]:
        """Return the entries of ``model_list`` that serve a model: those of its name, or those whose pattern it fits."""
        if exact := self._named.get(model):
            return exact
        return [entry for name, entries in self._named.items() if matches(name, model) for entry in entries]

    def is_claude(self, model: str) -> bool:
        """Whether every deployment of a model is Claude itself, by its host."""
        params = [entry["litellm_params"] for entry in self.deployments(model)]
        providers = [
            self._hosts.provider(str(one["model"]), one.get("custom_llm_provider"), one.get("api_base")) for one in params
        ]
        return bool(providers) and all(provider is Provider.CLAUDE for provider in providers)

    def context_of(self, model: str) -> int:
        """Return a model's window: by ``model_info``, else LiteLLM's list, else the usual; the least of several."""
        found = [self._context_of(entry) for entry in self.deployments(model.removesuffix(LONG_MARK))]
        return min(filter(None, found), default=LONG_CONTEXT if model.endswith(LONG_MARK) else USUAL_CONTEXT)

    def _context_of(self, deployment: Mapping[str, Any]) -> int | None:
        info = deployment.get("model_info")
        size = info.get("max_input_tokens") if isinstance(info, dict) else None
        if type(size) is int and size > 0:  # true is no size
            return size
        return self._listed(str(deployment["litellm_params"]["model"]))

    def describe(self, model: str) -> str:
        """Return what Claude Code shows beside a model that it has discovered."""
        return "Through claude-proxy" if self.is_claude(model) else described(self.context_of(model))

    def row_of(self, model: str) -> Row:
        """Return a model's row for ``/model``. A Claude model under a name of the operator's behaves as what it is."""
        size = self.context_of(model)
        if self.is_claude(model):
            return Row(model, size, str(self.deployments(model)[0]["litellm_params"]["model"]).rpartition("/")[2])
        return Row(model, size, smaller_known(size))

    def rows(
        self, names: Sequence[str], own: str | None = None, *, is_claude: bool = True, context: int | None = None
    ) -> tuple[tuple[Row, ...], int | None]:
        """Return the rows for ``/model``, the user's ``own`` model first, and the window of ``CONTEXT_VARIABLE``.

        That variable is one for all models without ``behavesAs``: the window of the own model, ``context``, else the smallest
        of the rows. A model that takes less is left out, or Claude Code would send it more than it takes.
        """
        found = {name: self.row_of(name) for name in names if not name.startswith("claude-") or not self.is_claude(name)}
        if own is None or is_claude:
            sizes = [row.context for row in found.values() if row.behaves_as is None]
            first = (self.row_of(own),) if own in found else ()
            context = min(sizes, default=None)
        else:
            context = context or USUAL_CONTEXT
            first = (Row(own, context, larger_known(context)),)
        others = [row for row in found.values() if row.model != own and (row.behaves_as or row.context >= (context or 0))]
        return (*first, *others), context

    def ready(self, environ: Mapping[str, str], user: str = "") -> list[str]:
        """Return the user's models, without patterns, that lack no key; demos only if there are no others."""
        missing = models.unset_variables(self._loaded, environ)
        names = [name for name in self.names if "*" not in name and name not in missing]
        ready = [name for name in names if self._limits.allows(user, name)]
        return [name for name in ready if name not in DEMO_MODELS] or ready[:1]

    def picker_models(self, environ: Mapping[str, str], user: str = "") -> list[str]:
        """Return the user's models that are ready, and the demo as the last one: it tests the connection without a key."""
        ready = self.ready(environ, user)
        demo = [name for name in DEMO_MODELS if name in self.names and self._limits.allows(user, name)]
        return ready if {*ready} & {*demo} else [*ready, *demo[:1]]

    def default(self, environ: Mapping[str, str], user: str = "", *, has_login: bool) -> str | None:
        """Return the model to name: none where a pool or the user's login serves Claude; else the first that is ready."""
        claude = [name for name in self.names if name.startswith("claude-") and self.is_claude(name)]
        if has_login and any(self._limits.allows(user, name) for name in claude):
            return None
        return next(iter(self.ready(environ, user)), None)


class CurrentModels:
    """Returns the models of the configuration that applies now."""

    def __init__(self, config: models.ActiveConfig, settings: Settings, listed: ListedWindow) -> None:
        self._config = config
        self._settings = settings
        self._listed = listed
        self._found = config.loaded, ClientModels(config.loaded, settings, listed)

    def __call__(self) -> ClientModels:
        loaded = self._config.loaded
        if self._found[0] is not loaded:
            self._found = loaded, ClientModels(loaded, self._settings, self._listed)
        return self._found[1]
