"""Mistakes of the first hour in .env: what users copy from a terminal, from another program or from a chat."""

from planted_mistakes import API_KEY, OAUTH, OTHER_OAUTH, STATIC, Row, dotenv

POOL = f"CLAUDE_OAUTH_TOKENS=anna={OAUTH}\n"
OPENAI = "OPENAI_API_KEY=made-up-openai-key-0123456789\n"
PORT = "PORT=4000\n"


def more(name: str, text: str, *says: str, level: str = "✗") -> Row:
    """A row with one more line behind the others, which is line 7."""
    return dotenv(name, PORT, f"{PORT}{text}\n", *says, level=level)


def pool(name: str, value: str, *says: str, level: str = "✗") -> Row:
    """A row with another value of CLAUDE_OAUTH_TOKENS, in line 3."""
    return dotenv(name, POOL, f"CLAUDE_OAUTH_TOKENS={value}\n", *says, level=level)


ROWS = (
    # --- credentials ---
    pool(
        "a list of tokens as JSON", f'["{OAUTH}","{OTHER_OAUTH}"]',
        ".env line 3: CLAUDE_OAUTH_TOKENS: is JSON", "write `value` or `label=value`, separated by commas",
    ),
    pool(
        "the login of Claude Code as JSON", f'{{"claudeAiOauth":{{"accessToken":"{OAUTH}"}}}}',
        ".env line 3: CLAUDE_OAUTH_TOKENS: is JSON", "write `value` or `label=value`, separated by commas",
    ),
    pool(
        "a colon behind a label", f"anna:{OAUTH}",
        ".env line 3: CLAUDE_OAUTH_TOKENS: entry 1 has a colon behind its label", "write `value` or `label=value`",
    ),
    pool(
        "two tokens without a comma", f"anna={OAUTH}{OTHER_OAUTH}",
        ".env line 3: CLAUDE_OAUTH_TOKENS: entry 1 holds two credentials without a comma between them", "separated by commas",
    ),
    pool(
        "a path for the tokens", "/run/secrets/tokens",
        ".env line 3: CLAUDE_OAUTH_TOKENS, entry 1: is a path", "the variable of the same name with _FILE",
    ),
    dotenv(
        "a token for the path", POOL, f"CLAUDE_OAUTH_TOKENS_FILE={OAUTH}\n",
        ".env line 3: CLAUDE_OAUTH_TOKENS_FILE: the file cannot be read (it is a credential and no path)",
        "set it to the path of a readable file",
    ),
    pool(
        "the refresh token of a login", OAUTH.replace("oat01", "ort01"),
        ".env line 3: CLAUDE_OAUTH_TOKENS, entry 1: is the refresh token of a login and no credential",
        "run `claude setup-token`, and write what it prints (sk-ant-oat...)",
    ),
    dotenv(
        "a key for administration at Anthropic", POOL, f"CLAUDE_API_KEYS={API_KEY.replace('api03', 'admin01')}\n",
        ".env line 3: CLAUDE_API_KEYS, entry 1: is a key for administration at Anthropic", "make an API key (sk-ant-api...)",
    ),
    pool(
        "Bearer in front of a token", f"Bearer {OAUTH}",
        ".env line 3: CLAUDE_OAUTH_TOKENS, entry 1: is the word Bearer", "remove it",
    ),
    pool(
        "a label with a space", f"Anna Berg={OAUTH}",
        ".env line 3: CLAUDE_OAUTH_TOKENS, entry 1: does not start with sk-ant-oat", "write the label without spaces",
    ),
    pool(
        "a date in another form", f"anna@01.03.2026={OAUTH}",
        ".env line 3: CLAUDE_OAUTH_TOKENS, anna@01.03.2026: has 01.03.2026 as a part of its label, and not as a date",
        "write LABEL@2026-03-01=...", level="!",
    ),
    # --- values ---
    dotenv(
        "a command in the place of a token", f"={STATIC}", "=$(openssl rand -hex 32)",
        ".env line 1: PROXY_STATIC_TOKEN: is a command of a shell, which is not run", "run it, and write what it prints",
    ),
    dotenv(
        "a command in backticks", f"={STATIC}", "=`openssl rand -hex 32`",
        ".env line 1: PROXY_STATIC_TOKEN: is a command of a shell, which is not run", "run it, and write what it prints",
    ),
    dotenv(
        "another variable in the place of a value", OPENAI, "OPENAI_API_KEY=${MY_KEY}\n",
        ".env line 5: OPENAI_API_KEY: is the name of another variable, which only Docker Compose replaces",
        "write the value itself",
    ),
    dotenv(
        "Bearer in front of a key", OPENAI, OPENAI.replace("=", "=Bearer "),
        ".env line 5: OPENAI_API_KEY: has Bearer in front", "write the key alone",
    ),
    dotenv(
        "a name pasted with its value", OPENAI, "OPENAI_API_KEY=" + OPENAI,
        ".env line 5: OPENAI_API_KEY: has OPENAI_API_KEY= twice", "remove one",
    ),
    dotenv(
        "a comment without a space in front", OPENAI, OPENAI.rstrip() + "# for work\n",
        ".env line 5: OPENAI_API_KEY: has a # behind the key, which starts a comment only after a space",
        "write a space before the #",
    ),
    more(
        "a host with a scheme", "HOST=http://0.0.0.0",
        ".env line 7: HOST: is http://0.0.0.0, which is more than an address", "write HOST=0.0.0.0, and the port in PORT",
    ),
    more(
        "a host with a port", "HOST=0.0.0.0:4000",
        ".env line 7: HOST: is 0.0.0.0:4000, which is more than an address", "write HOST=0.0.0.0, and the port in PORT",
    ),
    more(
        "Docker's address with a port", "PROXY_BIND=127.0.0.1:4000",
        ".env line 7: PROXY_BIND: has a scheme or a port, and should hold an address only",
        "write PROXY_BIND=127.0.0.1, and the port in PORT",
    ),
    more(
        "two profiles without a comma", "COMPOSE_PROFILES=scale tls",
        ".env line 7: COMPOSE_PROFILES: scale tls is not a profile: they are db, scale, tls",
        "separate two profiles with a comma",
    ),
    more(
        "a profile that does not exist", "COMPOSE_PROFILES=scaled",
        ".env line 7: COMPOSE_PROFILES: scaled is not a profile", "did you mean scale?",
    ),
    more(
        "another provider's address as Claude's", "ANTHROPIC_API_BASE=https://openrouter.ai/api",
        ".env line 7: ANTHROPIC_API_BASE: is the address of openrouter.ai, and the proxy sends Claude credentials there",
        "write the address as api_base of a model in config.yaml",
    ),
    more(
        "a limit in percent", "CLAUDE_TOKEN_SOFT_LIMIT=98",
        ".env line 7: CLAUDE_TOKEN_SOFT_LIMIT: is '98'", "set it to a fraction from 0 to 1",
    ),
    more(
        "a time with a unit", "CLAUDE_POOL_MAX_WAIT_SECONDS=1m",
        ".env line 7: CLAUDE_POOL_MAX_WAIT_SECONDS: is '1m'", "set it to a number of seconds",
    ),
    more(
        "a colon in the list of users", "PROXY_USER_TOKENS=anna:made-up-token-of-anna",
        ".env line 7: PROXY_USER_TOKENS: entry 1: expected name=token", "write = in place of the colon",
    ),
)  # fmt: skip
