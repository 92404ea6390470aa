"""Mistakes in config.yaml: YAML, the shape of its entries, references to variables."""

from planted_mistakes import CONFIG, OAUTH, Row, config

GLM_BASE = "      api_base: https://api.z.ai/api/anthropic\n"
GLM_KEY = "      api_key: os.environ/ZAI_API_KEY\n"
END = CONFIG[CONFIG.index("litellm_settings") :]
FALLBACKS = "    - claude-*: [glm]\n"

ROWS = (
    # --- text that is not YAML ---
    config(
        "a tab for indentation", GLM_BASE, GLM_BASE.replace("      ", "\t"),
        "config.yaml line 8: is not YAML: is indented with a tab", "indent it with spaces",
    ),
    config(
        "litellm_params as far in as the dash", "  - model_name: gpt\n    litellm_params:",
        "  - model_name: gpt\n  litellm_params:",
        "config.yaml line 11: is not YAML: has litellm_params at another depth", "indent it as far as the m of model_name",
    ),
    config(
        "one key indented by a space more", GLM_KEY, " " + GLM_KEY,
        "config.yaml line 9: is not YAML: is indented by 7 spaces, which does not match", "the same indentation",
    ),
    config(
        "one key indented by a space less", GLM_KEY, GLM_KEY[1:],
        "config.yaml line 9: is not YAML: is indented by 5 spaces, which does not match", "the same indentation",
    ),
    config(
        "an entry of which only the # was removed", "router_settings:\n",
        "   - model_name: own\n     litellm_params: {model: openai/own}\nrouter_settings:\n",
        "config.yaml line 14: is not YAML: is indented by 3 spaces", "remove one space in front of each of its lines",
    ),
    config(
        "no space behind a dash", "  - model_name: gpt", "  -model_name: gpt",
        "config.yaml line 10: is not YAML: has no space behind the dash", "write `- `",
    ),
    config(
        "no space behind a colon", "      model: openai/gpt-5.2", "      model:openai/gpt-5.2",
        "config.yaml line 12: is not YAML: has no space behind the colon", "write `name: value`",
    ),
    config(
        "a quote that is never closed", "https://api.z.ai/api/anthropic", '"https://api.z.ai/api/anthropic',
        "config.yaml line 8: is not YAML: opens a quote that is never closed", "close the quote",
    ),
    config(
        "a bracket that is never closed", "[request_transformer.proxy_handler_instance]",
        "[request_transformer.proxy_handler_instance",
        "config.yaml line 19: is not YAML: opens a [ that is not closed", "close it with ]",
    ),
    config(
        "a star without quotes", FALLBACKS, "    - *: [glm]\n",
        "config.yaml line 16: is not YAML: has a name or value that starts with *", "put it into quotes",
    ),
    config(
        "a comment of another language", "router_settings:\n", "// who answers then\nrouter_settings:\n",
        "config.yaml line 14: is not YAML: is a comment in another language's form", "start a comment with #",
    ),
    config(
        "marks of a merge", "  num_retries: 2\n", "<<<<<<< HEAD\n  num_retries: 2\n=======\n  num_retries: 3\n>>>>>>> main\n",
        "config.yaml line 17: is not YAML: is a mark of an unresolved Git merge", "keep one of the two versions",
    ),
    config(
        "a reference of a shell inside braces",
        "    litellm_params:\n      model: openai/gpt-5.2\n      api_key: os.environ/OPENAI_API_KEY\n",
        "    litellm_params: {model: openai/gpt-5.2, api_key: ${OPENAI_API_KEY}}\n",
        "config.yaml line 11: is not YAML: names the variable OPENAI_API_KEY as a shell does",
        "write os.environ/OPENAI_API_KEY",
    ),
    Row(
        "a file that is saved as UTF-16", ("config.yaml: is not YAML", "utf-8"),
        files={"config.yaml": CONFIG.encode("utf-16")},
    ),
    # --- YAML that means something else ---
    config(
        "no-break spaces in front of a key", "      api_base: https", "      api_base:\u00a0https",
        "config.yaml line", "has a no-break space (U+00A0)", "replace it with an ordinary space",
    ),
    config(
        "a no-break space behind a value", "model: openai/gpt-5.2", "model: openai/gpt-5.2\u00a0",
        "config.yaml line 12: has a no-break space (U+00A0), which YAML reads as a letter", "replace it with an ordinary space",
    ),
    config(
        "curly quotes", "model: openai/gpt-5.2", "model: \u201copenai/gpt-5.2\u201d",
        "config.yaml line 12: has curly quotes, which YAML reads as a part of the value", "write straight quotes",
    ),
    config(
        "a section twice", "general_settings:\n", "router_settings:\n  timeout: 600\ngeneral_settings:\n",
        "config.yaml line 21: router_settings is there twice (first in line 14), and only the last one is read", "keep one",
    ),
    # --- the shape of an entry ---
    config(
        "litellm_params not indented",
        "    litellm_params:\n      model: openai/gpt-5.2\n      api_key: os.environ/OPENAI_API_KEY\n",
        "    litellm_params:\n    model: openai/gpt-5.2\n    api_key: os.environ/OPENAI_API_KEY\n",
        "config.yaml line 10: model_list: entry 3 should have model, api_key below litellm_params", "indent them further",
    ),
    config(
        "a dash in front of the parameters", "      model: openai/gpt-5.2\n      api_key: os.environ/OPENAI",
        "      - model: openai/gpt-5.2\n        api_key: os.environ/OPENAI",
        "config.yaml line 10: model_list: entry 3 should have litellm_params as a mapping", "remove the dash",
    ),
    Row(
        "no dash in front of a model",
        ("config.yaml line 1: model_list: should hold at least one model", "write `- model_name: NAME`"),
        files={"config.yaml": CONFIG.split("  - model_name: glm")[0].replace("- ", "  ") + END},
    ),
    config(
        "name instead of model_name", "  - model_name: gpt\n", "  - name: gpt\n",
        "config.yaml line 10: model_list: entry 3 should have model_name",
    ),
    config(
        "an entry without a model", "      model: openai/gpt-5.2\n", "",
        "config.yaml line 10: model_list: entry 3 should have a model in its litellm_params",
    ),
    config(
        "a misspelt parameter", "      api_base: https", "      api_bse: https",
        "config.yaml line 8: api_bse is not known in litellm_params", "did you mean api_base?",
    ),
    config(
        "a setting in the wrong section", "  num_retries: 2\n", "  drop_params: true\n",
        "config.yaml line 17: drop_params is not known in router_settings", "it belongs under litellm_settings",
    ),
    config(
        "fallbacks at the top of the file", "router_settings:\n  fallbacks:\n    - claude-*: [glm]\n",
        "fallbacks:\n  - claude-*: [glm]\nrouter_settings:\n",
        "config.yaml line 14: fallbacks is not known at the top of the file", "it belongs under router_settings",
    ),
    config(
        "the port in config.yaml", "general_settings:\n", "general_settings:\n  port: 4000\n",
        "config.yaml line 22: port is not known in general_settings", "write PORT in .env",
    ),
    config(
        "users at the top of the file", "general_settings:\n", "users:\n  anna: {models: [glm]}\ngeneral_settings:\n",
        "config.yaml line 21: users: belongs under claude_proxy",
    ),
    config(
        "no callback", "  callbacks: [request_transformer.proxy_handler_instance]\n", "",
        "config.yaml line 18: litellm_settings: callbacks should name request_transformer.proxy_handler_instance",
    ),
    config(
        "a number as a key", "os.environ/ZAI_API_KEY", "1234567890",
        "config.yaml line 9: api_key of glm is a number in YAML, so the start leaves glm out", "put it into quotes",
    ),
    config(
        "a version that YAML reads as a date", "      api_key: os.environ/OPENAI_API_KEY\n",
        "      api_key: os.environ/OPENAI_API_KEY\n      api_version: 2025-04-01\n",
        "config.yaml line 14: api_version of gpt is a date in YAML, so the start leaves gpt out", "put it into quotes",
    ),
    config(
        "a limit with a unit", "      api_key: os.environ/OPENAI_API_KEY\n",
        "      api_key: os.environ/OPENAI_API_KEY\n      rpm: 60/min\n",
        "config.yaml line 14: rpm of gpt is not a number, so the start leaves gpt out", "without a unit",
    ),
    config(
        "a cache without a Redis", "  drop_params: true\n", "  cache: true\n",
        "config.yaml line 20: cache needs a Redis of LiteLLM's own", "cache_params: {type: local}",
    ),
    config(
        "a callback without its file", "[request_transformer.proxy_handler_instance]",
        "[request_transformer.proxy_handler_instance, custom_callbacks.handler]",
        "config.yaml line 19: callbacks names custom_callbacks.handler, and there is no custom_callbacks.py", "add the file",
    ),
    config(
        "an included file that does not exist", "router_settings:\n", "include: [models.yaml]\nrouter_settings:\n",
        "config.yaml line 14: include names models.yaml, which does not exist", "remove the entry",
    ),
    config(
        "variables of config.yaml as a list", "router_settings:\n", "environment_variables: [A=b]\nrouter_settings:\n",
        "config.yaml line 14: environment_variables: should be a mapping, such as NAME: value",
    ),
    config(
        "a guardrail without parameters", "router_settings:\n", "guardrails: [{guardrail_name: pii}]\nrouter_settings:\n",
        "config.yaml line 14: guardrails: entry 1 should have litellm_params",
    ),
    # --- references and keys ---
    config(
        "${X} for a key", "os.environ/ZAI_API_KEY", "${ZAI_API_KEY}",
        "config.yaml line 9: api_key does not name a variable in the form that is read", "write os.environ/ZAI_API_KEY",
    ),
    config(
        "$X for an address", "https://api.z.ai/api/anthropic", "$ZAI_API_BASE",
        "config.yaml line 8: api_base does not name a variable in the form that is read", "write os.environ/ZAI_API_BASE",
    ),
    config(
        "a dot for the slash", "os.environ/ZAI_API_KEY", "os.environ.ZAI_API_KEY",
        "config.yaml line 9: api_key does not name a variable", "write os.environ/ZAI_API_KEY",
    ),
    config(
        "the variable's name alone", "os.environ/ZAI_API_KEY", "ZAI_API_KEY",
        "config.yaml line 9: api_key is the name of a variable and is sent as the key", "write os.environ/ZAI_API_KEY",
    ),
    config(
        "a reference within a text", "https://api.z.ai/api/anthropic", "https://os.environ/ZAI_HOST/api/anthropic",
        "config.yaml line 8: api_base does not name a variable", "alone, as the whole value: os.environ/ZAI_HOST",
    ),
    config(
        "a reference in a header", GLM_KEY, '      extra_headers: {Authorization: "Bearer os.environ/ZAI_API_KEY"}\n',
        "config.yaml line 9: extra_headers: Authorization names a variable", "use api_key for the key",
    ),
    config(
        "a key in clear text", "os.environ/ZAI_API_KEY", "made-up-clear-text-key",
        "config.yaml line 9: api_key is in config.yaml in clear text", "put it into .env", level="!",
    ),
    config(
        "the pool's tokens as a model's key", "os.environ/ZAI_API_KEY", "os.environ/CLAUDE_OAUTH_TOKENS",
        "config.yaml line 9: CLAUDE_OAUTH_TOKENS is the proxy's own secret", "another name",
    ),
    config(
        "a variable that is not set", "os.environ/ZAI_API_KEY", "os.environ/MY_GLM_KEY",
        "config.yaml line 5: model glm is not ready", "set MY_GLM_KEY in .env", level="!",
    ),
    config(
        "a name almost as the variable that is set", "os.environ/OPENAI_API_KEY", "os.environ/OPENAI_KEY",
        "config.yaml line 13: model gpt is not ready: OPENAI_KEY is not set",
        "did you mean OPENAI_API_KEY, which is set? If not, set OPENAI_KEY in .env", level="!",
    ),
    config(
        "another name of the provider in its variable", "os.environ/ZAI_API_KEY", "os.environ/GLM_API_KEY",
        "config.yaml line 9: model glm is not ready: GLM_API_KEY is not set",
        "did you mean ZAI_API_KEY, which is set? If not, set GLM_API_KEY in .env", level="!",
    ),
    config(
        "a Claude token as another provider's key", "os.environ/ZAI_API_KEY", OAUTH,
        "config.yaml line 9: api_key is a key of Anthropic by its form, and model glm sends it to api.z.ai",
    ),
)  # fmt: skip
