"""Mistakes in .env, in credentials.yaml and in the users file."""

from planted_mistakes import API_KEY, DOTENV, MASTER, OAUTH, OTHER_OAUTH, RIGHT, STATIC, Row, dotenv

POOL = f"CLAUDE_OAUTH_TOKENS=anna={OAUTH}\n"
ZAI = "ZAI_API_KEY=made-up-zai-key-0123456789\n"
OPENAI = "OPENAI_API_KEY=made-up-openai-key-0123456789\n"
PORT = "PORT=4000\n"
THIRD = OAUTH[:-1] + "z"
ONE_MORE = "continues the list CLAUDE_OAUTH_TOKENS of line 3 and is not read"
TWO_MORE = "lines 4 to 5 continue the list CLAUDE_OAUTH_TOKENS of line 3 and are not read"
IN_ONE_LINE = ("write the whole list in one line, with commas between its entries", "double quotes around all of it")


def pool_file(name: str, text: str, *says: str, level: str = "✗") -> Row:
    """A row whose mistake is in credentials.yaml."""
    return Row(name, says, files={"credentials.yaml": text}, level=level)


ROWS = (
    # --- lines ---
    dotenv(
        "semicolons between tokens", POOL, f"CLAUDE_OAUTH_TOKENS=anna={OAUTH};ben={OTHER_OAUTH}\n",
        ".env line 3: CLAUDE_OAUTH_TOKENS: has ; between two entries", "write a comma",
    ),
    dotenv(
        "semicolons between users", PORT, "PORT=4000\nPROXY_USER_TOKENS=anna=made-up-token-of-anna;b+n=made-up-token-of-ben\n",
        ".env line 7: PROXY_USER_TOKENS: has ; between two entries", "write a comma",
    ),
    dotenv(
        "a token over two lines", POOL, f"CLAUDE_OAUTH_TOKENS=anna={OAUTH[:60]}\n{OAUTH[60:]}\n",
        ".env line 4: continues the value of CLAUDE_OAUTH_TOKENS in line 3", "join the two lines",
    ),
    dotenv(
        "a token in a line of its own", POOL, f"CLAUDE_OAUTH_TOKENS=\n{OAUTH}=\n",
        ".env line 4: starts with a Claude credential and not with a name", "in one line",
    ),
    dotenv(
        "a token over two lines in quotes", POOL, f'CLAUDE_OAUTH_TOKENS="anna={OAUTH[:60]}\n{OAUTH[60:]}"\n',
        ".env line 3: CLAUDE_OAUTH_TOKENS, entry 2: does not start with sk-ant-oat", "write each credential in one line",
    ),
    dotenv(
        "a quote at one end", ZAI, 'ZAI_API_KEY=made-up-zai-key-0123456789"\n',
        ".env line 4: ZAI_API_KEY: has a quote at one end only", "remove it",
    ),
    dotenv(
        "a quote of a value that is never closed", ZAI, 'ZAI_API_KEY="made-up-zai-key-0123456789\n',
        ".env line 4: opens a quote that is never closed, so the line is not read", "close the quote",
    ),
    dotenv(
        "quotes around half of a value", ZAI, 'ZAI_API_KEY="made-up-zai"-key-0123456789\n',
        ".env line 4: has text behind the closing quote and is not read", "around the whole value",
    ),
    dotenv(
        "quotes around one credential", POOL, f'CLAUDE_OAUTH_TOKENS=anna="{OAUTH}"\n',
        ".env line 3: CLAUDE_OAUTH_TOKENS, anna: has quotes in it", "remove them",
    ),
    dotenv(
        "curly quotes of a chat", ZAI, "ZAI_API_KEY=\u201cmade-up-zai-key-0123456789\u201d\n",
        ".env line 4: ZAI_API_KEY: has curly quotes", "write straight quotes or none",
    ),
    dotenv(
        "a $ for Docker", ZAI, "ZAI_API_KEY=made-up-$zai-key-0123456789\n",
        ".env line 4: ZAI_API_KEY: has a $, which Docker Compose replaces", "single quotes", level="!",
    ),
    dotenv(
        "export in front", PORT, "export PORT=4000\n",
        ".env line 6: PORT: has export in front", "write PORT=value", level="i",
    ),
    dotenv(
        "spaces around =", PORT, "PORT = 4000\n",
        ".env line 6: PORT: has spaces around =", "write PORT=value", level="i",
    ),
    dotenv(
        "a colon for =", PORT, "PORT: 4000\n",
        ".env line 6: has a colon behind PORT and is not read", "write PORT=value",
    ),
    dotenv(
        "a command of Windows", PORT, "set PORT=4000\n",
        ".env line 6: is a command of a shell and is not read", "write NAME=value",
    ),
    dotenv(
        "a variable twice", PORT, "PORT=4000\nPORT=4001\n",
        ".env line 7: PORT: is set twice; the last one applies", "remove the other line (line 6)", level="!",
    ),
    dotenv(
        "a list of tokens in two variables", POOL, POOL + f"CLAUDE_OAUTH_TOKENS=ben={OTHER_OAUTH}\n",
        ".env line 4: CLAUDE_OAUTH_TOKENS: is set twice; the last one applies",
        "write all entries in one line, with commas between them, and remove the other line (line 3)", level="!",
    ),
    *(
        dotenv(f"a list over lines: {name}", POOL, f"CLAUDE_OAUTH_TOKENS={text}", f".env line 4: {continues}", *IN_ONE_LINE)
        for name, text, continues in (
            ("a comma at the end", f"anna={OAUTH},\nben={OTHER_OAUTH}\n", ONE_MORE),
            ("no comma", f"anna={OAUTH}\nben={OTHER_OAUTH}\n", ONE_MORE),
            ("an indented entry", f"anna={OAUTH},\n    ben={OTHER_OAUTH}\n", ONE_MORE),
            ("a backslash", f"anna={OAUTH},\\\nben={OTHER_OAUTH}\n", ONE_MORE),
            ("no labels", f"{OAUTH},\n{OTHER_OAUTH}\n", ONE_MORE),
            ("a date", f"anna={OAUTH},\nben@2026-03-01={OTHER_OAUTH}\n", ONE_MORE),
            ("three entries", f"anna={OAUTH},\nben={OTHER_OAUTH},\nci={THIRD}\n", TWO_MORE),
            ("nothing in the first line", f"\nanna={OAUTH},\nben={OTHER_OAUTH}\n", TWO_MORE),
        )
    ),
    dotenv(
        "a list of users over lines", PORT, PORT + "PROXY_USER_TOKENS=anna=made-up-token-of-anna,\nben=made-up-token-of-ben\n",
        ".env line 8: continues the list PROXY_USER_TOKENS of line 7 and is not read", *IN_ONE_LINE,
    ),
    dotenv(
        "a semicolon at the end", ZAI, "ZAI_API_KEY=made-up-zai-key-0123456789;\n",
        ".env line 4: ZAI_API_KEY: ends with ;, which is sent as a part of the value", "remove it",
    ),
    dotenv(
        "a no-break space in a key", ZAI, "ZAI_API_KEY=made-up-zai\u00a0key-0123456789\n",
        ".env line 4: ZAI_API_KEY: has a space or a character that no HTTP header can carry", "copy the key again",
    ),
    Row(
        "Windows line ends", (".env: has Windows line ends (CRLF)", "a shell does not"),
        files={".env": DOTENV.replace("\n", "\r\n")}, level="i",
    ),
    Row(
        "a byte order mark", (".env line 1: starts with a byte order mark (BOM)", "without BOM"),
        files={".env": "\ufeff" + DOTENV}, level="i",
    ),
    Row("a .env of PowerShell, in UTF-16", (".env: is not UTF-8 text", "save it as UTF-8"),
    files={".env": DOTENV.encode("utf-16")}),
    Row(".env.txt", (".env.txt: is not read", "its name should be .env"), files={".env": None, ".env.txt": DOTENV}),
    # --- names ---
    dotenv(
        "a misspelt variable", POOL, POOL.replace("OAUTH_TOKENS", "OATH_TOKENS"),
        ".env line 3: CLAUDE_OATH_TOKENS:", "CLAUDE_OAUTH_TOKENS",
    ),
    dotenv(
        "the first letter missing", f"PROXY_STATIC_TOKEN={STATIC}", f"ROXY_STATIC_TOKEN={STATIC}",
        ".env line 1: ROXY_STATIC_TOKEN: is not a known variable and is not read", "did you mean PROXY_STATIC_TOKEN?",
    ),
    dotenv(
        "two words in one", OPENAI, OPENAI.replace("OPENAI_API_KEY", "OPEN_AI_API_KEY"),
        ".env line 5: OPEN_AI_API_KEY: is not a known variable", "did you mean OPENAI_API_KEY?",
    ),
    dotenv(
        "two words for one in a key that no model names", PORT, PORT + "OPEN_ROUTER_API_KEY=made-up-0123456789\n",
        ".env line 7: OPEN_ROUTER_API_KEY: is not a known variable", "did you mean OPENROUTER_API_KEY?",
    ),
    dotenv(
        "a key that no model names", PORT, PORT + "GROQ_API_KEY=gsk_made-up-0123456789\n",
        ".env line 7: GROQ_API_KEY: is set, and neither this proxy nor config.yaml names it", level="i",
    ),
    dotenv(
        "Claude Code's own variable for the pool", POOL, f"CLAUDE_CODE_OAUTH_TOKEN={OAUTH}\n",
        ".env line 3: CLAUDE_CODE_OAUTH_TOKEN: holds a Claude credential and is not read", "write CLAUDE_OAUTH_TOKENS=",
    ),
    dotenv(
        "the SDK's variable for the pool", POOL, f"ANTHROPIC_API_KEY={API_KEY}\n",
        ".env line 3: ANTHROPIC_API_KEY: holds a Claude credential and is not read", "write CLAUDE_API_KEYS=",
    ),
    dotenv(
        "another name for the port", PORT, "LITELLM_PORT=4000\n",
        ".env line 6: LITELLM_PORT: is not a variable of this proxy and is not read", "did you mean PORT?", level="!",
    ),
    # --- values ---
    dotenv(
        "an OAuth token among the API keys", POOL, POOL + f"CLAUDE_API_KEYS={OTHER_OAUTH}\n",
        ".env line 4: CLAUDE_API_KEYS: entry 1 is an OAuth token; move it to CLAUDE_OAUTH_TOKENS",
    ),
    dotenv(
        "an API key among the OAuth tokens", POOL, f"CLAUDE_OAUTH_TOKENS=ci={API_KEY}\n",
        ".env line 3: CLAUDE_OAUTH_TOKENS: entry 1 is an API key; move it to CLAUDE_API_KEYS",
    ),
    dotenv(
        "a label twice", POOL, f"CLAUDE_OAUTH_TOKENS=anna={OAUTH},anna={OTHER_OAUTH}\n",
        ".env line 3: CLAUDE_OAUTH_TOKENS: entry 2 has the label 'anna', which an earlier entry already has",
    ),
    dotenv(
        "a token twice", POOL, f"CLAUDE_OAUTH_TOKENS=anna={OAUTH},ben={OAUTH}\n",
        ".env line 3: CLAUDE_OAUTH_TOKENS, ben: is the same value as anna", "remove one", level="!",
    ),
    dotenv(
        "half of a token", POOL, f"CLAUDE_OAUTH_TOKENS=anna={OAUTH[:60]}\n",
        ".env line 3: CLAUDE_OAUTH_TOKENS, anna: has 60 characters", "copy it whole", level="!",
    ),
    dotenv(
        "the example's token", f"={STATIC}", "=sk-1234",
        ".env line 1: PROXY_STATIC_TOKEN: is the value of an example", "openssl rand -hex 32",
    ),
    dotenv(
        "an open proxy", f"={STATIC}", "=open",
        ".env line 1: PROXY_STATIC_TOKEN: is `open`: everyone who can reach the port", "openssl rand -hex 32", level="!",
    ),
    dotenv(
        "the word open in capitals", f"={STATIC}", "=OPEN",
        ".env line 1: PROXY_STATIC_TOKEN: is 'OPEN'", "write `open` to let everyone use the proxy",
    ),
    dotenv(
        "one token for clients and administration", f"LITELLM_MASTER_KEY={MASTER}", f"LITELLM_MASTER_KEY={STATIC}",
        ".env line 2: LITELLM_MASTER_KEY: is the same as PROXY_STATIC_TOKEN", "a value of its own",
    ),
    dotenv(
        "a Claude key as OpenAI's", OPENAI, f"OPENAI_API_KEY={API_KEY}\n",
        ".env line 5: OPENAI_API_KEY: is a Claude credential, and config.yaml sends it to another provider", "remove it",
    ),
    dotenv(
        "OpenRouter's key as OpenAI's", OPENAI, "OPENAI_API_KEY=sk-or-v1-made-up-0123456789\n",
        ".env line 5: OPENAI_API_KEY: holds a key of OpenRouter by its form, and model gpt sends it to api.openai.com",
    ),
    dotenv(
        "a domain with a scheme", PORT, "PORT=4000\nPROXY_DOMAIN=https://proxy.example.org\n",
        ".env line 7: PROXY_DOMAIN: has a scheme", "write PROXY_DOMAIN=proxy.example.org",
    ),
    dotenv(
        "a domain with a port", PORT, "PORT=4000\nPROXY_DOMAIN=proxy.example.org:8443\n",
        ".env line 7: PROXY_DOMAIN: has a port or a path", "HTTPS_PORT",
    ),
    dotenv(
        "Claude's address with /v1", PORT, "PORT=4000\nANTHROPIC_API_BASE=https://api.anthropic.com/v1\n",
        ".env line 7: ANTHROPIC_API_BASE: ends with /v1", "remove /v1",
    ),
    dotenv(
        "Claude's address with /v1/messages", PORT, "PORT=4000\nANTHROPIC_API_BASE=https://api.anthropic.com/v1/messages\n",
        ".env line 7: ANTHROPIC_API_BASE: ends with /v1/messages", "remove /v1/messages",
    ),
    dotenv("a port in words", PORT, "PORT=http\n", ".env line 6: PORT: is 'http'", "a port number from 1 to 65535"),
    dotenv(
        "a mode that does not exist", PORT, "PORT=4000\nCLAUDE_TOKEN_MODE=pool\n",
        ".env line 7: CLAUDE_TOKEN_MODE: is 'pool'", "rotate or passthrough",
    ),
    dotenv(
        "a Redis without a scheme", PORT, "PORT=4000\nREDIS_URL=localhost:6379\n",
        ".env line 7: REDIS_URL: is not the address of a Redis", "redis://localhost:6379/0",
    ),
    dotenv(
        "a space in the token", f"={STATIC}", f"={STATIC} and-more",
        ".env line 1: PROXY_STATIC_TOKEN: contains a space", "openssl rand -hex 32",
    ),
    dotenv(
        "a short token for a user", PORT, "PORT=4000\nPROXY_USER_TOKENS=anna=short\n",
        ".env line 7: PROXY_USER_TOKENS: entry 1: the token has fewer than 16 characters",
    ),
    dotenv(
        "a secret and its file", ZAI, ZAI + "PROXY_STATIC_TOKEN_FILE=/run/secrets/token\n",
        ".env line 5: PROXY_STATIC_TOKEN_FILE: PROXY_STATIC_TOKEN is set too", "only one of them",
    ),
    # --- files that others can read ---
    Row(
        "a .env that others can read", (".env: can be read by every user of this machine", "`chmod 600 .env`"),
        shared=(".env",), level="!",
    ),
    Row(
        "a credentials.yaml that others can read",
        ("/credentials.yaml: can be read by other users of this machine", "`chmod 600 ", "/credentials.yaml`"),
        files={"credentials.yaml": f"credentials:\n  - {{label: ben, secret: {OTHER_OAUTH}}}\n"},
        shared=("credentials.yaml",), level="!",
    ),
    Row(
        "a credential's file that others can read",
        ("/keys/ben: can be read by other users of this machine", "`chmod 600 ", "/keys/ben`"),
        files={"credentials.yaml": "credentials:\n  - {label: ben, secret_file: keys/ben}\n", "keys/ben": OTHER_OAUTH},
        shared=("keys/ben",), level="!",
    ),
    Row(
        "a users file with tokens that others can read",
        ("/.state/users: can be read by other users of this machine", "`chmod 600 ", "/.state/users`"),
        files={".state/users": "anna=made-up-token-of-anna\n"}, shared=(".state/users",), level="!",
    ),
    Row(
        "a generated token that others can read",
        ("/.state/token: can be read by other users of this machine", "`chmod 600 ", "/.state/token`"),
        files={".env": DOTENV.replace(f"PROXY_STATIC_TOKEN={STATIC}\n", ""), ".state/token": STATIC},
        shared=(".state/token",), level="!",
    ),
    # --- the other files ---
    Row(
        "a line of the users file", ("/.state/users line 2: expected name=token",),
        files={".state/users": "anna=made-up-token-of-anna\nben made-up-token-of-ben\n"},
    ),
    pool_file(
        "a label twice in credentials.yaml",
        f"credentials:\n  - {{label: ben, secret: {OAUTH[:-1]}y}}\n  - {{label: ben, secret: {OTHER_OAUTH}}}\n",
        "credentials.yaml line 3, ben: has the same label as an earlier entry",
    ),
    pool_file(
        "a misspelt key in credentials.yaml", f"credentials:\n  - label: ben\n    token: {OTHER_OAUTH}\n",
        "credentials.yaml line 3, ben: token is not known",
    ),
    pool_file(
        "the wrong kind in credentials.yaml", f"credentials:\n  - label: ben\n    kind: api_key\n    secret: {OTHER_OAUTH}\n",
        "credentials.yaml line 2, ben: secret is an OAuth token, which is not its kind",
    ),
    pool_file(
        "a tab in credentials.yaml", f"credentials:\n\t- label: ben\n\t  secret: {OTHER_OAUTH}\n",
        "credentials.yaml line 2: is not YAML", "indentation",
    ),
    Row(
        "credentials.yml", ("credentials.yml: is not read", "its name should be credentials.yaml"),
        files={"credentials.yml": "credentials: []\n"},
    ),
)  # fmt: skip
assert {"config.yaml", ".env"} == {*RIGHT}
