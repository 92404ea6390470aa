"""Mistakes in the settings of Claude Code that the proxy sends to its users."""

from planted_mistakes import STATIC, Row, config

HEAD = "router_settings:\n  fallbacks"


def managed(name: str, text: str, *says: str, level: str = "✗") -> Row:
    """A row whose mistake is in managed_settings; they begin in line 16."""
    block = "claude_proxy:\n  users:\n    anna: {groups: [team-a]}\n  managed_settings:\n"
    found = config(name, HEAD, f"{block}{text}{HEAD}", *says, level=level)
    return Row(found.name, found.says, (*found.changes, (".env", "PORT=4000", f"PROXY_USER_TOKENS=anna={ANNA}\nPORT=4000")),
               level=level)  # fmt: skip


ANNA = "sk-made-up-token-of-anna-0123456789"
AT = "config.yaml line 18"
ROWS = (
    managed(
        "a managed setting that is not known", "    all:\n      availabelModels: [glm]\n",
        "config.yaml line 19: availabelModels is not a setting of Claude Code 2.1.332", "did you mean availableModels?",
        level="!",
    ),
    managed(
        "a managed setting of another kind", "    all:\n      cleanupPeriodDays: thirty\n",
        "config.yaml line 19", "managed_settings: all: cleanupPeriodDays: should be a whole number",
    ),
    managed(
        "rules for permissions that are no list",
        "    groups:\n      team-a:\n        permissions:\n          deny: Bash(curl *)\n",
        "config.yaml line 21", "team-a: permissions: deny: should be a list of texts",
    ),
    managed(
        "a word that YAML reads as true", "    all: {remoteMessageReceipts: on}\n",
        AT, "remoteMessageReceipts: should be one of on, always, off; write it in quotes",
    ),
    managed(
        "a word that is none of a setting's", "    all: {effortLevel: highest}\n",
        AT, "effortLevel is none of the words", "write one of low, medium, high, xhigh", level="!",
    ),
    managed(
        "a secret of the environment in managed settings", "    all: {env: {NPM_REGISTRY: os.environ/ZAI_API_KEY}}\n",
        AT, "env: NPM_REGISTRY: refers to a variable, and managed settings go to the users' machines",
    ),
    managed(
        "a credential in managed settings", "    all: {env: {ANTHROPIC_API_KEY: made-up-key-of-somebody}}\n",
        AT, "env: ANTHROPIC_API_KEY: is a credential, and managed settings go to the users' machines", "remove it",
    ),
    managed(
        "the proxy's own token in managed settings", f"    all: {{env: {{ANTHROPIC_CUSTOM_HEADERS: 'x-a: {STATIC}'}}}}\n",
        AT, "holds a secret of the proxy, and managed settings go to the users' machines",
    ),
    managed(
        "managed settings without all in front", "    availableModels: [glm]\n",
        AT, "managed_settings: availableModels is not known", "settings belong under all, groups or users",
    ),
    managed(
        "a misspelt part of managed settings", "    al: {model: opus}\n",
        AT, "managed_settings: al is not known", "did you mean all?",
    ),
    managed(
        "managed settings of a user who is not there", "    users: {ana: {model: opus}}\n",
        AT, "no user is called ana", "did you mean anna?", level="!",
    ),
    managed(
        "managed settings of a group that is not there", "    groups: {team-b: {model: opus}}\n",
        AT, "no group is called team-b", "did you mean team-a?", level="!",
    ),
    managed(
        "a misspelt variable in managed settings", "    all: {env: {ANTHROPIC_MODLE: glm}}\n",
        AT, "ANTHROPIC_MODLE is not a variable of Claude Code", "did you mean ANTHROPIC_MODEL?", level="!",
    ),
    managed(
        "a date in managed settings", "    all: {requiredMinimumVersion: 2026-01-02}\n",
        AT, "requiredMinimumVersion: should be a text; write it in quotes",
    ),
    managed(
        "a row for the picker without a model", "    all: {modelPicker: {options: [{label: GLM}]}}\n",
        AT, "modelPicker: options: entry 1 should have a model",
    ),
    managed(
        "a list of users with managed settings", "    users: [anna]\n",
        AT, "managed_settings: users: should hold names, and under each settings of Claude Code",
    ),
    config(
        "managed settings at the top of the file", HEAD, f"managed_settings: {{all: {{model: opus}}}}\n{HEAD}",
        "config.yaml line 14: managed_settings: belongs under claude_proxy",
    ),
)  # fmt: skip
