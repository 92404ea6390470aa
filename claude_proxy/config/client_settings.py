"""The settings of Claude Code by name and kind, and what is wrong with a value. Plain values, no I/O.

The names are those of the settings reference (code.claude.com/docs/en/settings-reference), and the kinds are those that Claude
Code 2.1.332 accepts: it ignores a key that it does not know, and a value of another kind. A newer release may know more keys,
and more words for one, so an unknown key or word is not an error.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

ENV, PERMISSIONS, PICKER = "env", "permissions", "modelPicker"


class Kind(NamedTuple):
    """What a setting should be, in words, and the test for it."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(one, kind) for one in value)


BOOLEAN = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("a text; write it in quotes", lambda value: isinstance(value, str))
INTEGER = Kind("a whole number", lambda value: _is_number(value) and value == int(value))
NUMBER = Kind("a number", _is_number)
TEXTS = Kind("a list of texts", _is_list_of(str))
MAPPING = Kind("a mapping", lambda value: isinstance(value, dict))
MAPPINGS = Kind("a list of mappings", _is_list_of(dict))
TEXT_MAPPING = Kind(
    "a mapping of texts; write each value in quotes",
    lambda value: isinstance(value, dict) and all(isinstance(one, str) for one in value.values()),
)
# Claude Code makes a text of each value of env.
VARIABLES = Kind(
    "a mapping of names to texts", lambda value: isinstance(value, dict) and not any(map(_is_nested, value.values()))
)
LIST = Kind("a list", lambda value: isinstance(value, list))
ANY = Kind("", lambda _: True)


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | dict)


_NAMES: tuple[tuple[Kind, str], ...] = (
    (
        BOOLEAN,
        """agentPushNotifEnabled allowAllClaudeAiMcps allowClaudeInChromeWithManagedMcp allowManagedHooksOnly
        allowManagedMcpServersOnly allowManagedPermissionRulesOnly allowNestedModelAccessUnderForceLogin alwaysThinkingEnabled
        autoCompactEnabled autoCompactRaisedForLoad autoContinueAtUsageLimit autoDreamEnabled autoMemoryEnabled
        autoScrollEnabled autoUploadSessions awaySummaryEnabled axScreenReader bashEditDiffEnabled channelsEnabled
        clawdFileProgressEnabled disableAgentView disableAllHooks disableArtifact disableBundledSkills
        disableClaudeAiConnectors disableCommandPluginSources disableDirectMcpSkills disablePluginDirectory
        disableRemoteControl disableReplyCheck disableSideloadFlags disableSkillShellExecution disableWindowsBashCommandSplit
        disableWorkflows doneMeansMerged emojiCompletionEnabled enableAllProjectMcpServers enableArtifact enableWorkflows
        enforceAvailableModels fastMode fastModePerSessionOptIn fileCheckpointingEnabled forceRemoteSettingsRefresh
        idleCompaction includeCoAuthoredBy includeGitInstructions inputNeededNotifEnabled isolatePeerMachines
        precomputeCompactionEnabled prefersReducedMotion promptSuggestionEnabled remoteControlAtStartup respectGitignore
        respondToBashCommands responseComparisonEnabled showClearContextOnPlanAccept showMessageTimestamps
        showThinkingSummaries showTurnDuration skipAutoPermissionPrompt skipDangerousModePermissionPrompt
        skipWebFetchPreflight skipWorkflowUsageWarning spinnerTipsEnabled switchModelsOnFlag syncClaudeAiPlugins
        syncClaudeAiSkills syntaxHighlightingDisabled terminalProgressBarEnabled terminalTitleFromRename todoFeatureEnabled
        totalTokensReminderAfterUserTurn ultracode useAutoModeDuringPlan verbose voiceEnabled wheelScrollAccelerationEnabled
        workflowKeywordTriggerEnabled wslInheritsWindowsSettings""",
    ),
    (
        TEXT,
        """$schema advisorModel agent apiKeyHelper attributionProject autoMemoryDirectory awsAuthRefresh awsCredentialExport
        claudeMd crossSessionInbound desktopMcpServersListScope downloadsMirrorUrl editorMode forceLoginGatewayUrl
        gcpAuthRefresh language maxEffortLevel minimumVersion model modelCatalogPublicKey modelCatalogUrl modelProposedGoals
        otelHeadersHelper outputStyle plansDirectory pluginTrustMessage preferredNotifChannel processWrapper promptCacheTtl
        prUrlTemplate proxyAuthHelper requiredMaximumVersion requiredMinimumVersion subagentPromptCacheTtl teammateMode theme
        timeFormat timeZone""",
    ),
    (
        INTEGER,
        """bashOutputMaxChars cleanupPeriodDays desktopSessionCleanupPeriodDays maxProseWidth precomputeArmTokens
        skillListingMaxDescChars taskOutputMaxChars totalTokensReminderBudget""",
    ),
    (NUMBER, "feedbackSurveyRate skillListingBudgetFraction"),
    (
        TEXTS,
        """allowedHttpHookUrls allowedProviders appendPlugins availableModels claudeMdExcludes companyAnnouncements deniedModels
        disabledMcpjsonServers enabledMcpjsonServers fallbackModel gatewayInternalNetworks httpHookAllowedEnvVars
        pluginSuggestionMarketplaces prependPlugins""",
    ),
    (
        MAPPING,
        """additionalMarketplaces attributionProjectPolicy autoCompactOfferAnswer autoMode breakReminder enabledPlugins
        extraKnownMarketplaces fileSuggestion hooks managedMcpServers modelPicker modelPricing modelSettings permissions
        pluginConfigs policyHelper policyHelpers quietHours remote remoteControl remoteTools sandbox spellcheck
        spinnerTipsOverride spinnerVerbs statusLine subagentStatusLine vimInsertModeRemaps voice worktree xaaIdp""",
    ),
    (TEXT_MAPPING, "additionalDirectoryConfigRoots modelOverrides skillOverrides"),
    (VARIABLES, ENV),
    (
        MAPPINGS,
        """allowedChannelPlugins allowedMarketplaces allowedMcpServers blockedMarketplaces deniedMcpServers footerLinksRegexes
        sshConfigs strictKnownMarketplaces""",
    ),
    (LIST, "sshHostCommands"),
    (ANY, "attribution autoCompactWindow forceLoginOrgUUID strictPluginOnlyCustomization"),
)
# The words that a setting can have.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "askUserQuestionTimeout": ("60s", "5m", "10m", "never"),
    "autoUpdatesChannel": ("latest", "stable", "rc"),
    "availableModelsMatch": ("prefix", "exact"),
    "daemonColdStart": ("transient", "ask"),
    "defaultShell": ("bash", "powershell"),
    "defaultView": ("chat", "transcript"),
    "dialogExpiry": ("60s", "5m", "10m", "never"),
    "disableAutoMode": ("disable",),
    "disableDeepLinkRegistration": ("disable",),
    "effortLevel": ("low", "medium", "high", "xhigh"),
    "feedbackDrafts": ("notify", "quiet", "off"),
    "forceLoginMethod": ("claudeai", "console", "gateway"),
    "keybindingFlavor": ("classic", "readline"),
    "managedSourcesBehavior": ("first-wins", "merge"),
    "parentSettingsBehavior": ("first-wins", "merge"),
    "remoteMessageReceipts": ("on", "always", "off"),
    "totalTokensReminder": ("off", "infinite", "fixed", "countdown", "padded-countdown"),
    "tui": ("default", "fullscreen"),
    "viewMode": ("default", "verbose", "focus"),
    "workflowSizeGuideline": ("unrestricted", "small", "medium", "large"),
}
KINDS: Mapping[str, Kind] = {name: kind for kind, names in _NAMES for name in names.split()} | dict.fromkeys(CHOICES, TEXT)
# The keys below some settings that are mappings.
NESTED: Mapping[str, Mapping[str, Kind]] = {
    PERMISSIONS: {
        **dict.fromkeys(("allow", "deny", "ask", "additionalDirectories"), TEXTS),
        **dict.fromkeys(("defaultMode", "disableBypassPermissionsMode", "disableAutoMode"), TEXT),
    },
    PICKER: {"options": MAPPINGS, "replaceBuiltInOptions": BOOLEAN},
    "autoMode": {
        **dict.fromkeys(("allow", "soft_deny", "hard_deny", "environment"), TEXTS),
        "classifyAllShell": BOOLEAN,
    },
}
# The keys of a row of modelPicker; the first one is needed.
ROW = ("model", "label", "description", "behavesAs")


def mistakes(settings: Mapping[Any, Any]) -> Iterator[str]:
    """Yield one sentence for each value of another kind, which Claude Code would ignore; a null takes a setting away."""
    for name, value in settings.items():
        if value is None or not (kind := KINDS.get(name)):
            continue
        if not kind.fits(value):
            yield f"{name}: should be {_words(name, kind)}"
            continue
        for key, inner in NESTED.get(name, {}).items():
            if value.get(key) is not None and not inner.fits(value[key]):
                yield f"{name}: {key}: should be {inner.words}"
    picker = settings.get(PICKER)
    options = picker.get("options") if isinstance(picker, dict) else None
    for place, row in enumerate(options if isinstance(options, list) else (), start=1):
        if isinstance(row, dict) and not (
            isinstance(row.get(ROW[0]), str) and all(isinstance(row.get(key, ""), str) for key in ROW)
        ):
            yield f"{PICKER}: options: entry {place} should have a model, and {', '.join(ROW[1:])} as texts"


def _words(name: str, kind: Kind) -> str:
    choices = CHOICES.get(name)
    # YAML reads on and off without quotes as true and false.
    return f"one of {', '.join(choices)}; write it in quotes" if choices else kind.words


def unknown(settings: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the path of each key that Claude Code does not know, and the keys that it knows there."""
    for name, value in settings.items():
        if name not in KINDS:
            yield (name,), tuple(KINDS)
        elif name == PICKER and isinstance(value, dict):
            yield from (((name, key), tuple(NESTED[PICKER])) for key in value if key not in NESTED[PICKER])


def unknown_words(settings: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each setting whose value is none of its words, and these words."""
    for name, choices in CHOICES.items():
        if name in settings and settings[name] is not None and settings[name] not in choices:
            yield name, choices
