"""Mistakes of the first hour in config.yaml, the users file, credentials.yaml and a client's settings.json."""

from planted_mistakes import OTHER_OAUTH, SETTINGS, STATIC, Row, config, settings

KEY = "      api_key: os.environ/OPENAI_API_KEY\n"
RETRIES = "  num_retries: 2\n"
URL = '"ANTHROPIC_BASE_URL": "http://127.0.0.1:4000"'


def pool_file(name: str, text: str, *says: str, level: str = "✗") -> Row:
    """A row whose mistake is in credentials.yaml."""
    return Row(name, says, files={"credentials.yaml": text}, level=level)


def users_file(name: str, text: str, *says: str) -> Row:
    """A row whose mistake is in the users file."""
    return Row(name, says, files={".state/users": text})


ROWS = (
    # --- config.yaml ---
    config(
        "url for api_base", KEY, KEY + "      url: https://api.openai.com/v1\n",
        "config.yaml line 14: url is not known in litellm_params", "did you mean api_base?",
    ),
    config(
        "token for api_key", KEY, KEY.replace("api_key", "token"),
        "config.yaml line 13: token is not known in litellm_params", "did you mean api_key?",
    ),
    config(
        "the provider in a key of its own", KEY, KEY + "      provider: openai\n",
        "config.yaml line 14: provider is not known in litellm_params", "PROVIDER/MODEL",
    ),
    config(
        "a provider without a model", "model: openai/gpt-5.2", "model: openai/",
        "config.yaml line 12: the model of gpt has no name behind the provider", "write openai/MODEL",
    ),
    config(
        "a time with a unit in config.yaml", RETRIES, "  timeout: 10m\n",
        "config.yaml line 17: timeout is not a number", "write a number without a unit, in seconds",
    ),
    config(
        "a number in words", RETRIES, "  num_retries: two\n",
        "config.yaml line 17: num_retries is not a number", "write a number without a unit",
    ),
    config(
        "tokens with a unit", KEY, KEY + "    model_info: {max_input_tokens: 200k}\n",
        "config.yaml line 14: max_input_tokens is not a number", "write a number without a unit",
    ),
    config(
        "groups beside the parameters", KEY, KEY + "    access_groups: [cheap]\n",
        "config.yaml line 14: access_groups is not known in model_list", "it belongs under model_info",
    ),
    config(
        "one fallback for every model that is not a list", RETRIES, "  default_fallbacks: glm\n",
        "config.yaml line 17: default_fallbacks is not a list, so it does not apply", "write default_fallbacks: [MODEL]",
    ),
    config(
        "the master key of the documents", "os.environ/LITELLM_MASTER_KEY", "sk-1234",
        "config.yaml line 23: master_key is the value of an example", "write os.environ/LITELLM_MASTER_KEY",
    ),
    config(
        "another variable for the master key", "os.environ/LITELLM_MASTER_KEY", "os.environ/MASTER_KEY",
        "config.yaml line 23: master_key is MASTER_KEY, which is not set", "write os.environ/LITELLM_MASTER_KEY",
    ),
    # --- the users file ---
    users_file(
        "a colon in the users file", "anna: made-up-token-of-anna\n",
        "/.state/users line 1: expected name=token", "write = in place of the colon",
    ),
    users_file(
        "quotes in the users file", 'anna="made-up-token-of-anna"\n',
        "/.state/users line 1: the token has quotes around it", "remove them",
    ),
    users_file(
        "commas in the users file", "anna=made-up-token-of-anna,\nben=made-up-token-of-ben\n",
        "/.state/users line 1: the token ends with ,", "write one user a line",
    ),
    users_file(
        "a hash of another kind in the users file", "anna=$2b$12$made-up-made-up-made-up\n",
        "/.state/users line 1: the token is a hash of another kind", "name=sha256:...",
    ),
    # --- credentials.yaml ---
    pool_file(
        "a list without its key", f"- label: ben\n  secret: {OTHER_OAUTH}\n",
        "credentials.yaml line 1: is a list", "write `credentials:` above it",
    ),
    pool_file(
        "a mapping of labels to secrets", f"credentials:\n  ben: {OTHER_OAUTH}\n",
        "credentials.yaml line 1: credentials should be a list", "write `- label: ben` in place of `ben:`",
    ),
    pool_file(
        "no dash in credentials.yaml", f"credentials:\n  label: ben\n  secret: {OTHER_OAUTH}\n",
        "credentials.yaml line 1: credentials should be a list", "write a dash in front of the first key of each entry",
    ),
    pool_file(
        "a variable in credentials.yaml", "credentials:\n  - {label: ben, secret: os.environ/BEN_TOKEN}\n",
        "credentials.yaml line 2, ben: secret names a variable, and no variable is read here", "or use secret_file",
    ),
    pool_file(
        "Bearer in credentials.yaml", f"credentials:\n  - {{label: ben, secret: Bearer {OTHER_OAUTH}}}\n",
        "credentials.yaml line 2, ben: secret has Bearer in front", "write the credential alone",
    ),
    pool_file(
        "a refresh token in credentials.yaml",
        f"credentials:\n  - {{label: ben, secret: {OTHER_OAUTH.replace('oat01', 'ort01')}}}\n",
        "credentials.yaml line 2, ben: secret is the refresh token of a login", "run `claude setup-token`",
    ),
    pool_file(
        "a reserve for nobody", f"credentials:\n  - {{label: ben, secret: {OTHER_OAUTH}, reserve: 0.2}}\n",
        "credential ben: has reserve and no owner, so nobody can use that part", "add owner: USER", level="!",
    ),
    Row(
        "a misspelt file of a secret",
        ("credentials.yaml line 2, ben: secret_file names a file that cannot be read", "did you mean ben.txt"),
        files={"credentials.yaml": "credentials:\n  - {label: ben, secret_file: keys/benn.txt}\n", "keys/ben.txt": OTHER_OAUTH},
    ),
    # --- settings.json ---
    Row(
        "env twice", ("settings.json line 7: env: is there twice, and only the last one is read", "keep one, with all entries"),
        files={"settings.json": SETTINGS.rstrip()[:-1].rstrip() + ',\n  "env": {"ANTHROPIC_MODEL": "glm"}\n}\n'},
    ),
    Row(
        "lines of a shell in settings.json",
        ("settings.json line 1: is not JSON: it has lines of a shell or of a .env", "`claude-proxy settings` prints"),
        files={"settings.json": f"ANTHROPIC_BASE_URL=http://127.0.0.1:4000\nANTHROPIC_AUTH_TOKEN={STATIC}\n"},
    ),
    settings(
        "export in front of a name", '"ANTHROPIC_BASE_URL"', '"export ANTHROPIC_BASE_URL"',
        "settings.json line 3: export ANTHROPIC_BASE_URL: is not a variable of Claude Code", "did you mean ANTHROPIC_BASE_URL?",
    ),
    settings(
        "the page as the address", URL, URL.replace("4000", "4000/pool"),
        "settings.json line 3: ANTHROPIC_BASE_URL: ends with /pool, which is a page of the proxy", "remove /pool",
    ),
    settings(
        "a variable for the token", STATIC, "$PROXY_STATIC_TOKEN",
        "settings.json line 4: ANTHROPIC_AUTH_TOKEN: is the name of a variable, and Claude Code sends that text",
        "write the token itself",
    ),
    settings(
        "a model that is not served, outside env", '{\n  "env"', '{\n  "model": "gml",\n  "env"',
        "settings.json line 2: model: is gml, which is not served", "did you mean glm?",
    ),
)  # fmt: skip
