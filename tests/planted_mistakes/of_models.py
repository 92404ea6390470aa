"""Mistakes in config.yaml about models: providers, addresses, names, fallbacks, users, and the web search."""

from planted_mistakes import RIGHT, Row, config

GLM_BASE = "      api_base: https://api.z.ai/api/anthropic\n"
GPT = "      model: openai/gpt-5.2\n      api_key: os.environ/OPENAI_API_KEY\n"
FALLBACKS = "  fallbacks:\n    - claude-*: [glm]\n"
END = "general_settings:\n"
MORE = "router_settings:\n"
OWN = '  - model_name: own\n    litellm_params: {model: openai/qwen3, api_base: "http://127.0.0.1:8000/v1"}\n'
RULES = "claude_proxy:\n  rules:\n    - {when: {request: auxiliary}, model: glm}\n"
TELEMETRY = "claude_proxy:\n  telemetry: {collector: 'http://otel:4318', own: true}\n"
SEARCH = "claude_proxy:\n  web_search:\n    provider: searxng\n    api_base: http://searxng:8080\n"


def more(name: str, entry: str, *says: str, level: str = "✗") -> Row:
    """A row with one more model behind the others; its first line is line 14."""
    return config(name, MORE, entry + MORE, *says, level=level)


ROWS = (
    # --- the provider ---
    config(
        "no prefix, and LiteLLM guesses", "model: openai/gpt-5.2", "model: gpt-4o",
        "config.yaml line 12: model gpt-4o has no provider prefix; LiteLLM assumes openai", "write openai/gpt-4o", level="!",
    ),
    config(
        "no prefix, and LiteLLM does not know the model", "model: openai/gpt-5.2", "model: qwen3-coder",
        "config.yaml line 12: model qwen3-coder has no provider prefix", "the start leaves gpt out", "openai/qwen3-coder",
    ),
    config(
        "Claude without its prefix", "model: anthropic/claude-*", "model: claude-sonnet-5-5",
        "config.yaml line 4: model claude-sonnet-5-5 has no provider prefix", "do not use the pool",
        "write anthropic/claude-sonnet-5-5",
    ),
    config(
        "a misspelt prefix", "model: anthropic/glm-5.3", "model: antropic/glm-5.3",
        "config.yaml line 7: antropic is not a provider that LiteLLM knows", "did you mean anthropic?",
    ),
    config(
        "a prefix of another name", "model: openai/gpt-5.2", "model: google/gemini-3.1-pro",
        "config.yaml line 12: google is not a provider that LiteLLM knows", "did you mean gemini?",
    ),
    config(
        "the organisation of a model as its prefix", "model: openai/gpt-5.2", "model: meta-llama/Llama-4-Maverick",
        "config.yaml line 12: meta-llama is not a provider that LiteLLM knows", "openai/meta-llama/Llama-4-Maverick",
    ),
    config(
        "another provider's model and key at Claude's host", GLM_BASE, "",
        "config.yaml line 7: glm has no api_base, so glm-5.3 is sent to api.anthropic.com with a Claude credential",
        "add the api_base of its provider",
    ),
    config(
        "another provider's key at Claude's host", "      model: anthropic/claude-*\n",
        "      model: anthropic/claude-*\n      api_key: os.environ/ZAI_API_KEY\n",
        "config.yaml line 5: the api_key of claude-* is sent to Anthropic and is not a key of Anthropic's", "remove it",
    ),
    config(
        "models of two providers under one name", "model_name: gpt", "model_name: glm",
        "config.yaml line 10: two different models are both named glm (the first in line 5)", "rename one", level="!",
    ),
    # --- addresses ---
    config(
        "Z.AI's OpenAI format for a model of Anthropic's", "https://api.z.ai/api/anthropic", "https://api.z.ai/api/coding/paas/v4",
        "config.yaml line 8: the api_base of glm is Z.AI's OpenAI format", "write https://api.z.ai/api/anthropic",
    ),
    config(
        "Z.AI's Anthropic format for a model of chat completions", "model: anthropic/glm-5.3\n" + GLM_BASE,
        "model: openai/glm-5.3\n" + GLM_BASE.replace("/anthropic", "/anthropic/v1"),
        "config.yaml line 8: the api_base of glm is Z.AI's Anthropic format", "model: anthropic/...",
        "https://api.z.ai/api/paas/v4",
    ),
    config(
        "/v1 behind an address of Anthropic's format", "https://api.z.ai/api/anthropic", "https://api.z.ai/api/anthropic/v1",
        "config.yaml line 8: the api_base of glm ends with /v1, which the Anthropic format adds by itself", "remove /v1",
    ),
    config(
        "/v1 twice", GPT, GPT + "      api_base: https://api.openai.com/v1/v1\n",
        "config.yaml line 14: the api_base of gpt has /v1 twice", "remove one",
    ),
    config(
        "/chat/completions behind an address", GPT, GPT + "      api_base: https://api.openai.com/v1/chat/completions\n",
        "config.yaml line 14: the api_base of gpt ends with /chat/completions", "remove /chat/completions", level="!",
    ),
    config(
        "an address of chat completions for Anthropic's format", "https://api.z.ai/api/anthropic",
        "https://api.z.ai/api/paas/v4/chat/completions",
        "config.yaml line 8: the api_base of glm is one of chat completions", "write model: openai/...",
    ),
    config(
        "an address of Anthropic's format for chat completions", "model: anthropic/glm-5.3", "model: openai/glm-5.3",
        "config.yaml line 8: the api_base of glm is one of Anthropic's format", "write model: anthropic/...",
    ),
    config(
        "an address without a scheme", "https://api.z.ai/api/anthropic", "api.z.ai/api/anthropic",
        "config.yaml line 8: the api_base of glm has no scheme", "write one such as https://host/path",
    ),
    config(
        "an address without a path", GPT, GPT + "      api_base: http://vllm.internal:8000\n",
        "config.yaml line 14: the api_base of gpt has no path", "need /v1 at its end", level="!",
    ),
    more(
        "Ollama's own API with /v1",
        '  - model_name: qwen\n    litellm_params: {model: ollama_chat/qwen3, api_base: "http://localhost:11434/v1"}\n',
        "config.yaml line 15: the api_base of qwen ends with /v1, which Ollama's own API does not have", "remove /v1",
    ),
    config(
        "a key in the clear over the internet", "https://api.z.ai", "http://api.z.ai",
        "config.yaml line 8: the key of glm is sent to api.z.ai unencrypted", "write https://", level="!",
    ),
    # --- names ---
    more(
        "a name twice with equal parameters", f"  - model_name: gpt\n    litellm_params:\n{GPT}",
        "config.yaml line 14: model_name gpt is there twice with the same litellm_params (line 10)", "remove one", level="!",
    ),
    more(
        "a name twice for two models",
        "  - model_name: gpt\n    litellm_params: {model: openai/gpt-5.2-mini, api_key: os.environ/OPENAI_API_KEY}\n",
        "config.yaml line 14: two different models are both named gpt (the first in line 10)", "rename one",
        "if requests should not be spread over them", level="!",
    ),
    more(
        "a name twice for two keys of one model",
        "  - model_name: gpt\n    litellm_params: {model: openai/gpt-5.2, api_key: os.environ/ZAI_API_KEY}\n",
        "config.yaml line 14: model_name gpt has 2 deployments (first in line 10); requests are spread over them", level="i",
    ),
    config(
        "an alias that is a model", FALLBACKS, "  model_group_alias: {gpt: glm}\n" + FALLBACKS,
        "config.yaml line 15: the alias gpt is also a model_name, so the alias never applies", "remove one", level="!",
    ),
    config(
        "no name that Claude Code requests", "model_name: claude-*", "model_name: sonnet",
        "config.yaml: Claude Code requests models by itself that are not served: claude-opus-5-5 (opus)", "add claude-*",
        level="!",
    ),
    # --- the server ---
    more(
        "chat_server among the parameters", OWN.replace("{model", "{chat_server: vllm, model"),
        "config.yaml line 15: chat_server of own is in litellm_params", "write model_info: {chat_server: NAME}", level="!",
    ),
    more(
        "chat_server at a provider of its own",
        OWN.replace("openai/", "hosted_vllm/") + "    model_info: {chat_server: vllm}\n",
        "config.yaml line 16: chat_server of own has no effect on a model hosted_vllm/...", "write model: openai/...",
        level="!",
    ),
    more(
        "a chat_server that does not exist", OWN + "    model_info: {chat_server: vlm}\n",
        "config.yaml line 16: chat_server of own is not a known server", "vllm",
    ),
    more(
        "model_info that is a list", OWN + "    model_info: [vllm]\n",
        "config.yaml line 14: model_list: entry 4 should have model_info as a mapping",
    ),
    # --- fallbacks ---
    config(
        "fallbacks as a mapping", FALLBACKS, "  fallbacks:\n    claude-*: [glm]\n",
        "config.yaml line 15: router_settings: fallbacks: is a mapping and should be a list", "write each model behind a dash",
    ),
    config(
        "two models in one entry", "    - claude-*: [glm]\n", "    - claude-*: [glm]\n      gpt: [glm]\n",
        "config.yaml line 16: router_settings: fallbacks: entry 1 has 2 models and should have one", "a dash of its own",
    ),
    config(
        "a fallback that is no list", "    - claude-*: [glm]\n", "    - claude-*: glm\n",
        "config.yaml line 16: an entry of fallbacks is not a model with a list of fallbacks", "write `- MODEL: [FALLBACK]`",
    ),
    config(
        "a fallback to itself", "    - claude-*: [glm]\n", "    - glm: [glm]\n",
        "config.yaml line 16: the fallback of glm is glm itself, which is not tried again", "name another model",
    ),
    config(
        "a fallback that is not served", "[glm]", "[gml]",
        "config.yaml line 16: the fallback of claude-* is gml, which is not served", "did you mean glm?",
    ),
    config(
        "a fallback of a model that does not exist", "    - claude-*: [glm]\n", "    - opus: [glm]\n",
        "config.yaml line 16: the fallback of opus never applies: no model has that name", level="!",
    ),
    config(
        "a fallback of anthropic/* alone", FALLBACKS, FALLBACKS.replace("claude-*", "anthropic/*"),
        "config.yaml line 16: the fallback of anthropic/* does not apply to the names that Claude Code requests",
        "(claude-opus-5-5, claude-sonnet-5-5, claude-haiku-5-5, claude-fable-5-2)",
        "also write `- claude-*: [glm]`", level="!",
    ),
    config(
        "a fallback of one family with the prefix alone", FALLBACKS, "  fallbacks:\n    - anthropic/claude-haiku-*: [glm]\n",
        "config.yaml line 16: the fallback of anthropic/claude-haiku-* does not apply", "requests (claude-haiku-5-5);",
        "also write `- claude-haiku-*: [glm]`", level="!",
    ),
    config(
        "a fallback by LiteLLM's name and not by model_name", "[glm]", "[anthropic/glm-5.3]",
        "config.yaml line 16: the fallback of claude-* is anthropic/glm-5.3, which is not served",
        "did you mean glm, its model_name?",
    ),
    config(
        "a routing strategy that does not exist", "  num_retries: 2\n", "  routing_strategy: round-robin\n",
        "config.yaml line 17: router_settings: routing_strategy: should be one of simple-shuffle", "without the line",
    ),
    config(
        "a retry policy in words", "  num_retries: 2\n", "  retry_policy: {RateLimitErrorRetries: none}\n",
        "config.yaml line 17: router_settings: retry_policy: RateLimitErrorRetries: should be a whole number",
    ),
    # --- users and the web search ---
    config(
        "a limit for a user that does not exist", END, "claude_proxy:\n  users:\n    ana: {models: [glm]}\n" + END,
        "config.yaml line 23: no user is called ana, so this limit has no effect",
        "run `claude-proxy user add ana`, or remove the entry", level="!",
    ),
    config(
        "a limit to a model that does not exist", END, "claude_proxy:\n  users:\n    anna: {models: [glm-6]}\n" + END,
        "config.yaml line 23: claude_proxy: users: anna: glm-6 is neither a model of model_list nor a group",
        "; did you mean glm?",
    ),
    config(
        "a limit to a model that is like no other", END, "claude_proxy:\n  users:\n    anna: {models: [acmee]}\n" + END,
        "config.yaml line 23: claude_proxy: users: anna: acmee is neither a model of model_list nor a group",
        "; write a model_name, a pattern such as claude-*, or a group",
    ),
    config(
        "a list of models instead of models", END, "claude_proxy:\n  users:\n    anna: [glm]\n" + END,
        "config.yaml line 23: claude_proxy: users: anna: should hold models, groups, a budget or limits of requests",
    ),
    config(
        "a search provider that does not exist", END, SEARCH.replace("searxng\n", "google\n", 1) + END,
        "config.yaml line 23: claude_proxy: web_search: provider should be one of searxng, brave, tavily",
        "; write one of them, or remove web_search",
    ),
    config(
        "too many results", END, SEARCH + "    max_results: 100\n" + END,
        "config.yaml line 25: claude_proxy: web_search: max_results should be a number from 1 to 20",
    ),
    config(
        "a search without a key", END, "claude_proxy:\n  web_search:\n    provider: brave\n" + END,
        "config.yaml line 22: claude_proxy: web_search: brave needs an api_key",
    ),
    config(
        "a search at the top of the file", END, "web_search:\n  provider: brave\n" + END,
        "config.yaml line 21: web_search: belongs under claude_proxy",
    ),
    config(
        "a misspelt key of the search", END, SEARCH.replace("api_base", "base_url") + END,
        "config.yaml line 24: claude_proxy: web_search: base_url is not known", "the keys are provider, api_base",
    ),
    # --- rules ---
    config(
        "a rule for a model that does not exist", END, RULES.replace("model: glm", "model: glm-6") + END,
        "config.yaml line 23: claude_proxy: rules: entry 1: model: glm-6 is not a model of model_list", "did you mean glm",
    ),
    config(
        "a kind of request that does not exist", END, RULES.replace("auxiliary", "title") + END,
        "config.yaml line 23: claude_proxy: rules: entry 1: when: request should be one or a list of main, subagent",
    ),
    config(
        "rules as a mapping", END, RULES.replace("- {when", "title: {when") + END,
        "config.yaml line 22: claude_proxy: rules: should be a list", "write `- {when: {request: auxiliary}, model: glm}`",
    ),
    config(
        "a misspelt condition", END, RULES.replace("request", "requests") + END,
        "config.yaml line 23: claude_proxy: rules: entry 1: when: requests is not known", "did you mean request?",
    ),
    config(
        "hours without a minute", END, RULES.replace("request: auxiliary", 'time: "22-6"') + END,
        'config.yaml line 23: claude_proxy: rules: entry 1: when: time should be hours of a day, such as "22:00-06:00"',
    ),
    config(
        "a rule that no request reaches", END, RULES.replace("    - {when", "    - {model: glm}\n    - {when") + END,
        "config.yaml line 24: the rule rule-2 never applies", "move rule-1 to the end", level="!",
    ),
    Row(
        "a rule whose model has no key", ("config.yaml line 23: the rule rule-1 never applies, because glm is not ready",),
        (("config.yaml", END, RULES + END), ("config.yaml", "os.environ/ZAI_API_KEY", "os.environ/NOT_SET")), level="!",
    ),
    # --- telemetry ---
    config(
        "a collector's address with its route", END, TELEMETRY.replace(":4318", ":4318/v1/traces") + END,
        "config.yaml line 22: claude_proxy: telemetry: collector should end before /v1",
    ),
    config(
        "a collector without its scheme", END, TELEMETRY.replace("http://", "") + END,
        "config.yaml line 22: claude_proxy: telemetry: collector should be a URL such as http://otel-collector:4318",
    ),
    config(
        "a misspelt key of the telemetry", END, TELEMETRY.replace("own", "owns") + END,
        "config.yaml line 22: claude_proxy: telemetry: owns is not known; did you mean own?",
    ),
    # --- files ---
    Row(
        "config.yml", ("config.yml: is not read", "its name should be config.yaml"),
        files={"config.yaml": None, "config.yml": RIGHT["config.yaml"]},
    ),
    Row(
        "config.yaml.txt of a Windows editor", ("config.yaml.txt: is not read", "its name should be config.yaml"),
        files={"config.yaml": None, "config.yaml.txt": RIGHT["config.yaml"]},
    ),
)  # fmt: skip
