"""Mistakes in config.yaml about money and limits: budgets, prices, groups, and the limits of requests."""

from planted_mistakes import CONFIG, Row, config

END = CONFIG[CONFIG.index("litellm_settings") :]
AT = "config.yaml line 19: claude_proxy: "


def block(name: str, text: str, *says: str, level: str = "✗") -> Row:
    """A row whose mistake is in the block, which starts in line 18; ``text`` is its lines."""
    return config(name, END, f"claude_proxy:\n{text}{END}", *says, level=level)


ROWS = (
    block(
        "a budget without a period", "  budget: 100\n",
        f"{AT}budget: should have amounts in USD by day, week or month", "write {month: 100}",
    ),
    block(
        "a budget with a currency", "  default_budget: {day: 10 USD}\n",
        f"{AT}default_budget: day: should be an amount in USD above 0", "write day: 10",
    ),
    block("a budget of nothing", "  budget: {day: 0}\n", f"{AT}budget: day: should be an amount in USD above 0"),
    block("a period of another word", "  budget: {monthly: 10}\n", f"{AT}budget: monthly is not known; did you mean month?"),
    block(
        "a city instead of a time zone", "  budget: {month: 10, timezone: Berlin}\n",
        f"{AT}budget: timezone: should be a name such as Europe/Berlin",
    ),
    block(
        "a time zone in another budget", "  default_budget: {month: 10, timezone: Europe/Berlin}\n",
        f"{AT}default_budget: timezone applies to all budgets", "write it as claude_proxy: budget: {timezone: ...}",
    ),
    block("a soft budget in words", "  budget: {month: 10, soft: only told}\n", f"{AT}budget: soft: should be true"),
    block(
        "another word for a refusal", "  budget: {month: 10}\n  budget_without_store: deny\n",
        "config.yaml line 20: claude_proxy: budget_without_store: should be refuse or allow",
    ),
    block(
        "unpriced models without a word for it", "  budget: {month: 10}\n  unpriced_models: false\n",
        "config.yaml line 20: claude_proxy: unpriced_models: should be refuse or allow",
    ),
    block(
        "a misspelt rule for unpriced models", "  unpriced_model: refuse\n",
        "config.yaml line 19: unpriced_model is not known in claude_proxy", "did you mean unpriced_models?",
    ),
    block(
        "a misspelt budget", "  bugdet: {month: 10}\n",
        "config.yaml line 19: bugdet is not known in claude_proxy", "did you mean budget?",
    ),
    block(
        "a misspelt budget of a user", "  users:\n    static: {bugdet: {month: 10}}\n",
        "config.yaml line 20: claude_proxy: users: static: bugdet is not known; did you mean budget?",
    ),
    block(
        "a budget at the top of the file", "  users:\n    static: {models: [glm]}\nbudget: {month: 10}\n",
        "config.yaml line 21: budget: belongs under claude_proxy",
    ),
    block(
        "a limit in words", "  users:\n    static: {requests_per_minute: sixty}\n",
        "config.yaml line 20: claude_proxy: users: static: requests_per_minute: should be a whole number",
        "write requests_per_minute: 60",
    ),
    block(
        "no streams at all", "  users:\n    static: {streams: 0}\n",
        "config.yaml line 20: claude_proxy: users: static: streams: should be a whole number", "write streams: 4",
    ),
    block(
        "a list of groups instead of the groups", "  groups: [team-a]\n",
        f"{AT}groups: should hold names of groups", "write team-a: {budget: {month: 500}}",
    ),
    block(
        "credentials that are a text", "  groups:\n    team-a: {credentials: anna}\n",
        "config.yaml line 20: claude_proxy: groups: team-a: credentials: should be a list", "write credentials: [anna]",
    ),
    block(
        "credentials that do not exist", "  groups:\n    team-a: {credentials: [ana]}\n",
        "config.yaml line 20: no credential has the label or the group ana", "did you mean anna?",
    ),
    block(
        "a price of input alone", "  prices:\n    glm: {input: 0.6}\n",
        "config.yaml line 20: claude_proxy: prices: glm: lacks output, in USD per million tokens",
    ),
    block(
        "one price for everything", "  prices:\n    glm: 0.6\n",
        "config.yaml line 20: claude_proxy: prices: glm: should have input and output in USD per million tokens",
        "write glm: {input: 0.6, output: 2.2}",
    ),
    block(
        "a price per token", "  prices:\n    glm: {input: 0.6, output: 2.2, cached_input: 0.1}\n",
        "config.yaml line 20: claude_proxy: prices: glm: cached_input is not known",
    ),
    block(
        "a long context without its length", "  prices:\n    glm: {input: 1, output: 2, long_context: {input: 2}}\n",
        "config.yaml line 20: claude_proxy: prices: glm: long_context: above: should be the number of input tokens",
    ),
    Row(
        "a model without a price below a budget",
        ("config.yaml line 10: no price is known for model gpt", "write claude_proxy: prices: gpt: {input: USD, output: USD}"),
        (
            ("config.yaml", "openai/gpt-5.2", "openai/my-own"),
            ("config.yaml", END, f"claude_proxy:\n  budget: {{month: 10}}\n{END}"),
        ),
        level="!",
    ),
)  # fmt: skip
