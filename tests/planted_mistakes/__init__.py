"""Mistakes that users make, as data: the files that a user wrote, and what `claude-proxy check` has to say of them.

Each module holds rows of one kind. A row changes a project that is right: it replaces text in one of its files, or adds a file.
"""

from dataclasses import dataclass, field

STATIC, MASTER = "sk-made-up-static-0123456789abcdef", "sk-made-up-master-0123456789abcdef"
OAUTH = "sk-ant-oat01-" + "made-up-oauth-" * 6 + "abcdefghijk"
OTHER_OAUTH = OAUTH[:-1] + "x"
API_KEY = "sk-ant-api03-" + "made-up-key-" * 8

CONFIG = """\
model_list:
  - model_name: claude-*
    litellm_params:
      model: anthropic/claude-*
  - model_name: glm
    litellm_params:
      model: anthropic/glm-5.3
      api_base: https://api.z.ai/api/anthropic
      api_key: os.environ/ZAI_API_KEY
  - model_name: gpt
    litellm_params:
      model: openai/gpt-5.2
      api_key: os.environ/OPENAI_API_KEY
router_settings:
  fallbacks:
    - claude-*: [glm]
  num_retries: 2
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
  drop_params: true
general_settings:
  custom_auth: custom_auth.user_api_key_auth
  master_key: os.environ/LITELLM_MASTER_KEY
"""
DOTENV = f"""\
PROXY_STATIC_TOKEN={STATIC}
LITELLM_MASTER_KEY={MASTER}
CLAUDE_OAUTH_TOKENS=anna={OAUTH}
ZAI_API_KEY=made-up-zai-key-0123456789
OPENAI_API_KEY=made-up-openai-key-0123456789
PORT=4000
"""
SETTINGS = f"""\
{{
  "env": {{
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:4000",
    "ANTHROPIC_AUTH_TOKEN": "{STATIC}",
    "ANTHROPIC_MODEL": "glm"
  }}
}}
"""
RIGHT = {"config.yaml": CONFIG, ".env": DOTENV}
# What an output never holds.
SECRETS = (STATIC, MASTER, OAUTH, OTHER_OAUTH, API_KEY, "made-up")


@dataclass(frozen=True)
class Row:
    """One mistake. ``says`` are parts of one line of the output, its place among them."""

    name: str
    says: tuple[str, ...]
    # In which file what is replaced by what.
    changes: tuple[tuple[str, str, str], ...] = ()
    # Files that are added or replaced as a whole; None takes one away.
    files: dict[str, str | bytes | None] = field(default_factory=dict)
    level: str = "✗"
    # Files that others can read too.
    shared: tuple[str, ...] = ()

    def project(self) -> dict[str, str | bytes]:
        """Return the files of the project with the mistake in it."""
        files: dict[str, str | bytes] = {**RIGHT}
        if any(name == "settings.json" for name, _, _ in self.changes):
            files["settings.json"] = SETTINGS
        for name, before, after in self.changes:
            text = files[name]
            assert isinstance(text, str)
            assert text.count(before) == 1, f"{self.name}: {before} is {text.count(before)} times in {name}"
            files[name] = text.replace(before, after)
        files |= {name: text for name, text in self.files.items() if text is not None}
        return {name: text for name, text in files.items() if name not in self.files or self.files[name] is not None}


def config(name: str, before: str, after: str, *says: str, level: str = "✗") -> Row:
    """A row whose mistake is in config.yaml."""
    return Row(name, says, (("config.yaml", before, after),), level=level)


def dotenv(name: str, before: str, after: str, *says: str, level: str = "✗") -> Row:
    """A row whose mistake is in .env."""
    return Row(name, says, ((".env", before, after),), level=level)


def settings(name: str, before: str, after: str, *says: str, level: str = "✗") -> Row:
    """A row whose mistake is in a client's settings.json."""
    return Row(name, says, (("settings.json", before, after),), level=level)
