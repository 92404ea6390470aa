"""Mistakes in a client's settings.json that the file itself shows; what only a request shows is in tests/e2e."""

from planted_mistakes import MASTER, OAUTH, SETTINGS, STATIC, Row, settings

URL = '"http://127.0.0.1:4000"'
QUIET = '    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",\n'
PASSTHROUGH = '    "ANTHROPIC_CUSTOM_HEADERS": "x-claude-token-mode: passthrough",\n'
TOKEN = f'    "ANTHROPIC_AUTH_TOKEN": "{STATIC}",\n'
MODEL = '    "ANTHROPIC_MODEL": "glm"\n'


def whole(name: str, text: str | bytes, *says: str, level: str = "✗") -> Row:
    """A row with a settings.json of its own."""
    return Row(name, says, files={"settings.json": text}, level=level)


ROWS = (
    # --- JSON ---
    settings(
        "a comma behind the last entry", MODEL, MODEL.replace("\n", ",\n"),
        "settings.json line 5: is not JSON: the last entry has a comma behind it", "remove the comma",
    ),
    settings(
        "a comment", MODEL, "    // the model\n" + MODEL,
        "settings.json line 5: is not JSON: there is a comment", "JSON has no comments",
    ),
    settings(
        "single quotes", '"ANTHROPIC_MODEL": "glm"', "'ANTHROPIC_MODEL': 'glm'",
        "settings.json line 5: is not JSON: a text is in single quotes", "write double quotes",
    ),
    settings(
        "curly quotes in JSON", '"glm"', "\u201cglm\u201d",
        "settings.json line 5: is not JSON: a text is in curly quotes", "straight double quotes",
    ),
    settings(
        "no comma between two entries", f'{STATIC}",\n', f'{STATIC}"\n',
        "settings.json line 4: is not JSON: a comma is missing at the end of the entry", "write the comma",
    ),
    settings(
        "a name without quotes", '"ANTHROPIC_MODEL": ', "ANTHROPIC_MODEL: ",
        "settings.json line 5: is not JSON: a name or text has no quotes", "double quotes",
    ),
    whole(
        "the last bracket missing", SETTINGS.rstrip().removesuffix("}"),
        "settings.json line 6: is not JSON: it ends before its last }", "close every {",
    ),
    whole("an empty file", "", "settings.json line 1: is not JSON: it is empty", "`claude-proxy settings` prints"),
    # --- where the variables are ---
    whole(
        "variables outside env", f'{{\n  "ANTHROPIC_BASE_URL": {URL},\n  "ANTHROPIC_AUTH_TOKEN": "{STATIC}"\n}}\n',
        "settings.json line 2: ANTHROPIC_BASE_URL: is outside env", 'move it into "env": {...}',
    ),
    settings("another name for env", '"env"', '"environment"', "settings.json line 2: environment: is not read",
    "should be env"),
    whole(
        "env as a list", '{\n  "env": ["ANTHROPIC_MODEL=glm"]\n}\n',
        "settings.json line 2: env: is a list", 'write "env": {"NAME": "value"}',
    ),
    # --- the address ---
    settings(
        "an address that ends with /v1", URL, '"http://127.0.0.1:4000/v1"',
        "settings.json line 3: ANTHROPIC_BASE_URL: ends with /v1", "remove /v1",
    ),
    settings(
        "an address that ends with /v1/messages", URL, '"http://127.0.0.1:4000/v1/messages"',
        "settings.json line 3: ANTHROPIC_BASE_URL: ends with /v1/messages", "remove /v1/messages",
    ),
    settings(
        "an address of the proxy without a scheme", URL, '"127.0.0.1:4000"',
        "settings.json line 3: ANTHROPIC_BASE_URL: has no scheme", "write http:// or https:// in front",
    ),
    settings(
        "the address of every interface", URL, '"http://0.0.0.0:4000"',
        "settings.json line 3: ANTHROPIC_BASE_URL: names 0.0.0.0", "write 127.0.0.1",
    ),
    settings(
        "Anthropic's own address", URL, '"https://api.anthropic.com"',
        "settings.json line 3: ANTHROPIC_BASE_URL: is the address of Anthropic and not of the proxy",
    ),
    settings(
        "another name for the address", '"ANTHROPIC_BASE_URL"', '"ANTHROPIC_API_BASE"',
        "settings.json line 3: ANTHROPIC_API_BASE: is not a variable of Claude Code", "did you mean ANTHROPIC_BASE_URL?",
    ),
    # --- the token ---
    settings("no token", TOKEN, "", "settings.json: has no token of the proxy", "`claude-proxy settings` prints it"),
    settings(
        "the master key", STATIC, MASTER,
        "settings.json line 4: ANTHROPIC_AUTH_TOKEN: is LITELLM_MASTER_KEY, which is for administration", "PROXY_STATIC_TOKEN",
    ),
    settings(
        "a Claude token for the proxy", STATIC, OAUTH,
        "settings.json line 4: ANTHROPIC_AUTH_TOKEN: is a Claude credential", "`claude-proxy settings` prints it",
    ),
    settings(
        "Bearer in front of the token", f'"{STATIC}"', f'"Bearer {STATIC}"',
        "settings.json line 4: ANTHROPIC_AUTH_TOKEN: has Bearer in front", "write the token alone",
    ),
    settings(
        "the words for the token", STATIC, "PROXY_STATIC_TOKEN-from-.env",
        "settings.json line 4: ANTHROPIC_AUTH_TOKEN: has PROXY_STATIC_TOKEN-from-.env in place of the token",
        "the token itself",
    ),
    settings(
        "two tokens", TOKEN, TOKEN + '    "ANTHROPIC_API_KEY": "made-up-second-token",\n',
        "settings.json line 5: ANTHROPIC_API_KEY: is set beside ANTHROPIC_AUTH_TOKEN", "remove ANTHROPIC_API_KEY", level="!",
    ),
    settings(
        "the proxy's token in the place of the login", TOKEN, TOKEN + PASSTHROUGH + QUIET,
        "settings.json line 4: ANTHROPIC_AUTH_TOKEN: replaces the user's login, which passthrough needs",
        "form B: remove ANTHROPIC_AUTH_TOKEN; form A: remove x-claude-token-mode",
    ),
    settings(
        "a token in the headers without the switch", TOKEN,
        f'    "ANTHROPIC_CUSTOM_HEADERS": "x-litellm-api-key: {STATIC}",\n',
        "settings.json line 4: ANTHROPIC_CUSTOM_HEADERS: Claude Code also sends the token to Anthropic",
        'add "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"', level="!",
    ),
    settings(
        "a token as an API key without the switch", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY",
        "settings.json line 4: ANTHROPIC_API_KEY: Claude Code also sends the token to Anthropic",
        'add "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"', level="!",
    ),
    settings(
        "a token as an API key with the switch", TOKEN, TOKEN.replace("AUTH_TOKEN", "API_KEY") + QUIET,
        "settings.json line 4: ANTHROPIC_API_KEY: only CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC keeps Claude Code from sending",
        "write it in ANTHROPIC_AUTH_TOKEN instead", level="i",
    ),
    # --- headers, models and switches ---
    settings(
        "a misspelt header for the token", TOKEN, f'    "ANTHROPIC_CUSTOM_HEADERS": "x-litellm-apikey: {STATIC}",\n' + QUIET,
        "settings.json line 4: ANTHROPIC_CUSTOM_HEADERS: x-litellm-apikey is not a header of the proxy",
        "did you mean x-litellm-api-key?",
    ),
    settings(
        "a misspelt header for the mode", TOKEN, TOKEN + PASSTHROUGH.replace("token-mode", "tokenmode"),
        "settings.json line 5: ANTHROPIC_CUSTOM_HEADERS: x-claude-tokenmode is not a header of the proxy",
        "did you mean x-claude-token-mode?",
    ),
    settings(
        "a mode that does not exist in the headers", TOKEN, TOKEN + PASSTHROUGH.replace("passthrough", "pass"),
        "settings.json line 5: ANTHROPIC_CUSTOM_HEADERS: the value of x-claude-token-mode is neither rotate nor passthrough",
        "write one of the two",
    ),
    settings(
        "a comma between two headers", TOKEN,
        f'    "ANTHROPIC_CUSTOM_HEADERS": "x-litellm-api-key: {STATIC}, x-claude-token-mode: passthrough",\n',
        "settings.json line 4: ANTHROPIC_CUSTOM_HEADERS: has , between two headers", "one header a line", level="!",
    ),
    settings(
        "a semicolon between two headers", TOKEN,
        f'    "ANTHROPIC_CUSTOM_HEADERS": "x-litellm-api-key: {STATIC}; x-claude-token-mode: passthrough",\n',
        "settings.json line 4: ANTHROPIC_CUSTOM_HEADERS: has ; between two headers", "one header a line",
    ),
    settings(
        "headers as JSON", TOKEN, f'    "ANTHROPIC_CUSTOM_HEADERS": "{{\\"x-litellm-api-key\\": \\"{STATIC}\\"}}",\n',
        "settings.json line 4: ANTHROPIC_CUSTOM_HEADERS: holds JSON", "one header a line",
    ),
    settings(
        "a model that is not served", '"glm"', '"gml"',
        "settings.json line 5: ANTHROPIC_MODEL: is gml, which is not served", "did you mean glm?",
    ),
    settings(
        "the long window of a model that is not Claude", '"glm"', '"glm[1m]"',
        "settings.json line 5: ANTHROPIC_MODEL: has [1m], which is for Claude models", "remove [1m]", level="!",
    ),
    settings(
        "a time in seconds", MODEL, '    "API_TIMEOUT_MS": "600",\n' + MODEL,
        "settings.json line 5: API_TIMEOUT_MS: is 600 milliseconds", "write 600000", level="!",
    ),
    settings(
        "a client's time with a unit", MODEL, '    "API_TIMEOUT_MS": "50m",\n' + MODEL,
        "settings.json line 5: API_TIMEOUT_MS: is not a number of milliseconds", "write one such as 3000000",
    ),
    settings(
        "telemetry that is not turned off", MODEL, MODEL,
        "settings.json: CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC is not set, so Claude Code also sends telemetry to Anthropic",
        'add "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1" to turn that off', level="i",
    ),
    settings(
        "Bedrock beside the proxy", MODEL, '    "CLAUDE_CODE_USE_BEDROCK": "1",\n' + MODEL,
        "settings.json line 5: CLAUDE_CODE_USE_BEDROCK: sends the requests to a cloud and not to the proxy", "remove it",
    ),
    settings(
        "a client of Bedrock at the root of the proxy", MODEL,
        '    "CLAUDE_CODE_USE_BEDROCK": "1",\n    "CLAUDE_CODE_SKIP_BEDROCK_AUTH": "1",\n'
        f'    "ANTHROPIC_BEDROCK_BASE_URL": {URL},\n' + MODEL,
        "settings.json line 7: ANTHROPIC_BEDROCK_BASE_URL: should end with /bedrock", "write http://127.0.0.1:4000/bedrock",
    ),
    settings(
        "a client of Vertex AI with Google's credential", MODEL,
        '    "CLAUDE_CODE_USE_VERTEX": "1",\n    "ANTHROPIC_VERTEX_BASE_URL": "http://127.0.0.1:4000/vertex_ai/v1",\n' + MODEL,
        "settings.json line 5: CLAUDE_CODE_USE_VERTEX: needs CLAUDE_CODE_SKIP_VERTEX_AUTH beside it",
        'add "CLAUDE_CODE_SKIP_VERTEX_AUTH": "1"',
    ),
    settings(
        "attribution switched off", MODEL, '    "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",\n' + MODEL,
        "settings.json line 5: CLAUDE_CODE_ATTRIBUTION_HEADER: removes what Anthropic recognises Claude Code by",
    ),
)  # fmt: skip
