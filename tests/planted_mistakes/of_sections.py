"""Mistakes in config.yaml about its sections: a model below another section, and a section of another name or shape."""

from planted_mistakes import CONFIG, Row, config

OWN = "  - model_name: own\n    litellm_params:\n      model: openai/own\n      api_key: os.environ/OPENAI_API_KEY\n"
GPT = "    litellm_params:\n      model: openai/gpt-5.2\n      api_key: os.environ/OPENAI_API_KEY\n"
SETTINGS = "  callbacks: [request_transformer.proxy_handler_instance]\n  drop_params: true\n"
GENERAL = "  custom_auth: custom_auth.user_api_key_auth\n  master_key: os.environ/LITELLM_MASTER_KEY\n"
MOVE = "move it to the end of model_list"
TO_THE_END = f"{MOVE}, after line 13, with its dash indented by 2 spaces"
LITELLM = "litellm_settings:\n"


def at_the_end(name: str, text: str, *says: str) -> Row:
    """A row with text behind the last line, which is line 23."""
    return Row(name, says, files={"config.yaml": CONFIG + text})


ROWS = (
    # --- alerts ---
    at_the_end(
        "addresses for alerts at the beginning of a line", "alerts:\n  to: [os.environ/SLACK]\n",
        "config.yaml line 24: alerts: belongs under claude_proxy",
    ),
    at_the_end(
        "an address for alerts that is no list", "claude_proxy:\n  alerts:\n    to: os.environ/SLACK\n",
        "config.yaml line 26: claude_proxy: alerts: to: should be a list", "each behind a dash",
    ),
    at_the_end(
        "a name of a service in place of an address", "claude_proxy:\n  alerts:\n    to: [slack]\n",
        "config.yaml line 26: claude_proxy: alerts: to: entry 1 should be an address such as",
    ),
    at_the_end(
        "a rule of alerts with a wrong name", "claude_proxy:\n  alerts:\n    rules: {pool_lo: false}\n",
        "config.yaml line 26: claude_proxy: alerts: rules: pool_lo is not known; did you mean pool_low?",
    ),
    # --- the routes for other clients ---
    at_the_end(
        "the word for other clients in quotes", 'claude_proxy:\n  openai_routes: "true"\n',
        "config.yaml line 25: claude_proxy: openai_routes: should be true or false",
    ),
    at_the_end(
        "the word for other clients at the beginning of a line", "openai_routes: true\n",
        "config.yaml line 24: openai_routes: belongs under claude_proxy",
    ),
    # --- a model below another section ---
    at_the_end(
        "a model at the end of the file", OWN,
        "config.yaml line 24: is not YAML: is an entry of model_list below general_settings", TO_THE_END,
    ),
    at_the_end(
        "a model at the end of the file, behind a comment", "\n  # My own.\n" + OWN,
        "config.yaml line 26: is not YAML: is an entry of model_list below general_settings", TO_THE_END,
    ),
    at_the_end(
        "a model at the end of the file, not indented", OWN.replace("\n  ", "\n")[2:],
        "config.yaml line 24: is not YAML: is an entry of model_list below general_settings", TO_THE_END,
    ),
    at_the_end(
        "a model in braces at the end of the file", "  - {model_name: own, litellm_params: {model: openai/own}}\n",
        "config.yaml line 24: is not YAML: is an entry of model_list below general_settings", TO_THE_END,
    ),
    config(
        "a model behind the settings of LiteLLM", SETTINGS, SETTINGS + OWN,
        "config.yaml line 21: is not YAML: is an entry of model_list below litellm_settings", TO_THE_END,
    ),
    config(
        "a model in front of the settings of LiteLLM", LITELLM, LITELLM + OWN,
        "config.yaml line 19: is not YAML: is an entry of model_list below litellm_settings", TO_THE_END,
    ),
    at_the_end(
        "a model at the end of the file without a dash", "  model_name: own\n  litellm_params: {model: openai/own}\n",
        "config.yaml line 24: model_name is below general_settings, and belongs to an entry of model_list",
        f"write `- model_name: ...`, and {TO_THE_END}",
    ),
    at_the_end(
        "a model at the top of the file without a dash", "model_name: own\nlitellm_params: {model: openai/own}\n",
        "config.yaml line 24: model_name is at the top of the file, and belongs to an entry of model_list",
        f"write `- model_name: ...`, and {TO_THE_END}",
    ),
    config(
        "a model among the callbacks", SETTINGS, "  callbacks:\n  - request_transformer.proxy_handler_instance\n" + OWN,
        "config.yaml line 21: litellm_settings: callbacks: entry 2 is an entry of model_list", MOVE,
    ),
    config(
        "a model among the fallbacks", "    - claude-*: [glm]\n  num_retries: 2\n", "  - claude-*: [glm]\n" + OWN,
        "config.yaml line 17: router_settings: fallbacks: entry 2 is an entry of model_list", MOVE,
    ),
    config(
        "a model in place of the general settings", GENERAL, OWN,
        "config.yaml line 22: general_settings: entry 1 is an entry of model_list", MOVE,
    ),
    at_the_end(
        "a second model_list", "model_list:\n" + OWN,
        "config.yaml line 24: model_list is there twice (first in line 1), and only the last one is read",
        "keep one, with the entries of both below it",
    ),
    # --- the list of models itself ---
    config(
        "models for model_list", "model_list:", "models:",
        "config.yaml line 1: models: is not a section of this file", "write model_list: in place of models:",
    ),
    config(
        "a hyphen in model_list", "model_list:", "model-list:",
        "config.yaml line 1: model-list: is not a section of this file", "write model_list: in place of model-list:",
    ),
    Row(
        "no model_list", ("config.yaml: model_list: should hold at least one model", "write `- model_name: NAME`"),
        files={"config.yaml": CONFIG[CONFIG.index("router_settings") :]},
    ),
    Row(
        "a mapping of names to models",
        (
            "config.yaml line 2: model_list: claude-*: is a key, and model_list should be a list of models",
            "write `- model_name: claude-*` in place of `claude-*:`, and litellm_params below it",
        ),
        files={"config.yaml": CONFIG.replace("  - model_name: claude-*\n", "  claude-*:\n").replace("  - model_name: ", "  ")
               .replace("  glm\n", "  glm:\n").replace("  gpt\n", "  gpt:\n")},
    ),
    config(
        "no litellm_params above the parameters", GPT,
        GPT.replace("    litellm_params:\n", "").replace("      ", "    "),
        "config.yaml line 10: model_list: entry 3 should have model, api_key below litellm_params",
        "write the line `litellm_params:` above them",
    ),
    config(
        "params for litellm_params", GPT, GPT.replace("litellm_params", "params"),
        "config.yaml line 10: model_list: entry 3 should have litellm_params, and has params",
        "write litellm_params: in place of params:",
    ),
    config(
        "the key beside litellm_params", GPT, GPT.replace("      api_key", "    api_key"),
        "config.yaml line 13: api_key is not known in model_list", "it belongs under litellm_params",
    ),
    # --- other sections ---
    config(
        "dashes in front of settings", SETTINGS, SETTINGS.replace("  ", "  - "),
        "config.yaml line 18: litellm_settings: should be a mapping of settings", "remove the dashes in front of its keys",
    ),
    config(
        "dashes in front of the general settings", GENERAL, GENERAL.replace("  ", "  - "),
        "config.yaml line 21: general_settings: should be a mapping of settings", "remove the dashes in front of its keys",
    ),
    # --- settings of general_settings below litellm_settings, where guides have them ---
    config(
        "the master key below litellm_settings", LITELLM, LITELLM + "  master_key: os.environ/LITELLM_MASTER_KEY\n",
        "config.yaml line 19: master_key is not known in litellm_settings", "it belongs under general_settings",
    ),
    config(
        "the database below litellm_settings", LITELLM, LITELLM + "  database_url: os.environ/DATABASE_URL\n",
        "config.yaml line 19: database_url is not known in litellm_settings", "write DATABASE_URL in .env",
    ),
    config(
        "the database below general_settings", GENERAL, GENERAL + "  database_url: os.environ/DATABASE_URL\n",
        "config.yaml line 24: database_url is not known in general_settings", "write DATABASE_URL in .env",
    ),
    # --- fallbacks below litellm_settings ---
    config(
        "a misspelt fallback below litellm_settings", LITELLM, LITELLM + "  fallbacks:\n    - claude-*: [gml]\n",
        "config.yaml line 20: the fallback of claude-* is gml, which is not served", "did you mean glm?",
    ),
    config(
        "the fallback of a misspelt model below litellm_settings", LITELLM, LITELLM + "  fallbacks:\n    - gtp: [glm]\n",
        "config.yaml line 20: the fallback of gtp never applies: no model has that name", "did you mean gpt?", level="!",
    ),
)  # fmt: skip
