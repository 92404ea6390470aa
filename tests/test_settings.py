"""config/settings.py: every variable read once, every mistake reported together, no secret in any message."""

import dataclasses
import os
import re

import pytest

from claude_proxy.config import settings as module
from claude_proxy.config.settings import SECRET_NAMES, VARIABLES, LogFormat, Settings, SettingsError, TokenMode, read_pool
from claude_proxy.config.users import UserBook
from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.order import Order
from claude_proxy.credentials.pool import Affinity, ExtraUsage

TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"
DATABASE = "postgresql://user:made-up-password@database.example:5433/litellm"
REDIS = "rediss://user:made-up-password@redis.example:6380/1"
# The file of PROXY_USER_TOKENS is a variable of its own, which is read whenever it changes.
IN_FILES = sorted({*SECRET_NAMES} - {"PROXY_USER_TOKENS"})
OAUTH, KEY = "sk-ant-oat01-made-up-a", "sk-ant-api03-made-up-k"


def mistakes_of(**environ):
    with pytest.raises(SettingsError) as caught:
        Settings.parse(environ)
    assert "made-up" not in str(caught.value)
    return caught.value.mistakes


def test_nothing_set():
    """With nothing set the proxy is open, its pool is empty, and every other value is the documented default."""
    assert Settings.parse({}) == Settings(
        static_token=None,
        users=UserBook(),
        master_key=None,
        credentials=(),
        mode=TokenMode.ROTATE,
        cooldown_seconds=60,
        quarantine_seconds=900,
        affinity=Affinity.SESSION,
        soft_limit=0.98,
        order=Order.HEADROOM,
        extra_usage=ExtraUsage.LAST,
        max_wait_seconds=0,
        state_file="",
        redis_url=None,
        database_url=None,
        workers=1,
        drain_seconds=120,
        claude_base="https://api.anthropic.com",
        log_format=LogFormat.TEXT,
        host="127.0.0.1",
        port=4000,
        domain="localhost",
    )


def test_empty_values_are_not_set():
    """A variable that is there and empty, as in a fresh ``.env``, means its default."""
    assert Settings.parse(dict.fromkeys(VARIABLES, " ")) == Settings.parse({})


def test_everything_set():
    """Every variable takes effect, and OAuth tokens stand before API keys."""
    settings = Settings.parse(
        {
            "PROXY_STATIC_TOKEN": f" {TOKEN}\n",
            "LITELLM_MASTER_KEY": MASTER,
            "CLAUDE_OAUTH_TOKENS": f"anna={OAUTH},",
            "CLAUDE_API_KEYS": KEY,
            "CLAUDE_TOKEN_MODE": "passthrough",
            "CLAUDE_TOKEN_COOLDOWN_SECONDS": "0.5",
            "CLAUDE_TOKEN_QUARANTINE_SECONDS": "0",
            "CLAUDE_TOKEN_AFFINITY": "none",
            "CLAUDE_TOKEN_SOFT_LIMIT": "1",
            "CLAUDE_POOL_ORDER": "reset-first",
            "CLAUDE_EXTRA_USAGE": "never",
            "CLAUDE_POOL_MAX_WAIT_SECONDS": "240",
            "CLAUDE_POOL_STATE_FILE": " /data/pool.sqlite3 ",
            "REDIS_URL": REDIS,
            "DATABASE_URL": DATABASE,
            "NUM_WORKERS": "64",
            "PROXY_DRAIN_SECONDS": "0.5",
            "ANTHROPIC_API_BASE": "http://127.0.0.1:9/prefix/",
            "PROXY_LOG_FORMAT": "json",
            "HOST": "::",
            "PORT": "65535",
        }
    )
    assert settings.static_token.reveal() == TOKEN
    assert settings.master_key.reveal() == MASTER
    assert [(each.label, each.kind) for each in settings.credentials] == [("anna", Kind.OAUTH), ("api-key-1", Kind.API_KEY)]
    assert (settings.mode, settings.affinity) == (TokenMode.PASSTHROUGH, Affinity.NONE)
    assert (settings.cooldown_seconds, settings.quarantine_seconds) == (0.5, 0)
    assert (settings.soft_limit, settings.max_wait_seconds, settings.workers, settings.drain_seconds) == (1, 240, 64, 0.5)
    assert (settings.state_file, settings.redis_url.reveal()) == ("/data/pool.sqlite3", REDIS)
    assert (settings.order, settings.extra_usage) == (Order.RESET_FIRST, ExtraUsage.NEVER)
    assert settings.log_format is LogFormat.JSON
    assert settings.database_url.reveal() == DATABASE
    assert (settings.claude_base, settings.host, settings.port) == ("http://127.0.0.1:9/prefix", "::", 65535)


def test_settings_are_frozen_and_hide_their_secrets():
    """Settings cannot be changed after the start, and printing them shows no secret."""
    settings = Settings.parse({"PROXY_STATIC_TOKEN": TOKEN, "CLAUDE_OAUTH_TOKENS": OAUTH, "REDIS_URL": REDIS})
    assert "made-up" not in repr(settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CLAUDE_TOKEN_MODE", "rotating", "'rotating'; set it to rotate or passthrough"),
        ("CLAUDE_TOKEN_AFFINITY", "yes", "'yes'; set it to session or none"),
        ("CLAUDE_POOL_ORDER", "priority", "'priority'; set it to headroom or reset-first"),
        ("CLAUDE_EXTRA_USAGE", "always", "'always'; set it to last or never"),
        ("CLAUDE_TOKEN_COOLDOWN_SECONDS", "1m", "'1m'; set it to a number of seconds from 0 to 604800"),
        ("CLAUDE_TOKEN_COOLDOWN_SECONDS", "-1", "'-1'"),
        ("CLAUDE_TOKEN_COOLDOWN_SECONDS", "nan", "'nan'"),
        ("CLAUDE_TOKEN_QUARANTINE_SECONDS", "inf", "'inf'"),
        ("CLAUDE_TOKEN_QUARANTINE_SECONDS", "604801", "'604801'"),
        ("CLAUDE_TOKEN_SOFT_LIMIT", "98", "'98'; set it to a fraction from 0 to 1"),
        ("CLAUDE_TOKEN_SOFT_LIMIT", "98%", "'98%'"),
        ("CLAUDE_TOKEN_SOFT_LIMIT", "-0.1", "'-0.1'"),
        ("CLAUDE_TOKEN_SOFT_LIMIT", "nan", "'nan'"),
        ("CLAUDE_POOL_MAX_WAIT_SECONDS", "241", "'241'; set it to a number of seconds from 0 to 240"),
        ("CLAUDE_POOL_MAX_WAIT_SECONDS", "5s", "'5s'"),
        ("PROXY_DRAIN_SECONDS", "2m", "'2m'; set it to a number of seconds from 0 to 3600"),
        ("PROXY_DRAIN_SECONDS", "3601", "'3601'"),
        ("PROXY_DRAIN_SECONDS", "-1", "'-1'"),
        ("CLAUDE_POOL_MAX_WAIT_SECONDS", "-1", "'-1'"),
        ("NUM_WORKERS", "0", "'0'; set it to a number of processes from 1 to 64"),
        ("NUM_WORKERS", "65", "'65'"),
        ("NUM_WORKERS", "1.5", "'1.5'"),
        ("NUM_WORKERS", "auto", "'auto'"),
        ("REDIS_URL", "made-up.example:6379", "write one such as redis://localhost:6379/0"),
        ("REDIS_URL", "http://:made-up@localhost:6379", "is not the address of a Redis"),
        (
            "DATABASE_URL",
            "mysql://:made-up@localhost",
            "is not the address of a PostgreSQL; write one such as postgresql",
        ),
        ("PORT", "http", "'http'; set it to a port number from 1 to 65535"),
        ("PORT", "0", "'0'"),
        ("PORT", "65536", "'65536'"),
        ("PORT", "80.5", "'80.5'"),
        ("ANTHROPIC_API_BASE", "api.anthropic.com", "write one such as https://api.anthropic.com"),
        ("ANTHROPIC_API_BASE", "ftp://api.anthropic.com", "is not a usable URL"),
        ("ANTHROPIC_API_BASE", "https://", "is not a usable URL"),
        ("ANTHROPIC_API_BASE", "https://made-up@api.anthropic.com", "is not a usable URL"),
        ("ANTHROPIC_API_BASE", "https://api.anthropic.com:0", "is not a usable URL"),
        ("ANTHROPIC_API_BASE", "https://api.anthropic.com:made-up", "is not a usable URL"),
        ("ANTHROPIC_API_BASE", "https://[made-up", "is not a usable URL"),
        ("ANTHROPIC_API_BASE", "https://api.anthropic.com\n.made-up", "is not a usable URL"),
        ("PORT", OAUTH, "is a Claude credential (sk-ant-...); set it to a port number"),
        ("CLAUDE_TOKEN_MODE", KEY, "is a Claude credential (sk-ant-...); set it to rotate or passthrough"),
        ("PROXY_STATIC_TOKEN", f"{TOKEN} {TOKEN}", "contains a space"),
        ("PROXY_STATIC_TOKEN", f"{TOKEN},{TOKEN}", "a comma"),
        ("PROXY_STATIC_TOKEN", f"{TOKEN}é", "an HTTP header cannot carry"),
        ("PROXY_STATIC_TOKEN", OAUTH, "sk-ant-"),
        ("LITELLM_MASTER_KEY", f"Bearer {MASTER}", "contains a space"),
        ("LITELLM_MASTER_KEY", KEY, "sk-ant-"),
        ("CLAUDE_OAUTH_TOKENS", f"{OAUTH},{KEY}", "entry 2 is an API key"),
        ("CLAUDE_API_KEYS", OAUTH, "entry 1 is an OAuth token"),
        ("CLAUDE_API_KEYS", f"anna={KEY},anna={KEY}2", "'anna'"),
    ],
)
def test_one_mistake(name, value, says):
    """A mistake is one sentence that begins with the variable and says what to write instead, never a secret."""
    (mistake,) = mistakes_of(**{name: value})
    assert mistake.startswith(f"{name}: ")
    assert says in mistake
    assert re.search("; (set it|write) ", mistake)


def test_all_mistakes_are_reported_together():
    """One start shows every mistake, not only the first."""
    mistakes = mistakes_of(PORT="x", CLAUDE_TOKEN_MODE="x", CLAUDE_OAUTH_TOKENS=KEY, PROXY_STATIC_TOKEN="made up")
    assert sorted(mistake.split(":")[0] for mistake in mistakes) == [
        "CLAUDE_OAUTH_TOKENS", "CLAUDE_TOKEN_MODE", "PORT", "PROXY_STATIC_TOKEN",
    ]  # fmt: skip


def test_the_static_token_is_not_the_master_key():
    """One value for both would make every client an administrator, so it is a mistake."""
    (mistake,) = mistakes_of(PROXY_STATIC_TOKEN=TOKEN, LITELLM_MASTER_KEY=TOKEN)
    assert mistake.startswith("LITELLM_MASTER_KEY: ")


def test_a_label_is_unique_over_both_lists():
    """A label stands for one credential, so the two lists may not share one."""
    (mistake,) = mistakes_of(CLAUDE_OAUTH_TOKENS=f"anna={OAUTH}", CLAUDE_API_KEYS=f"anna={KEY}")
    assert "'anna'" in mistake


@pytest.mark.parametrize("name", IN_FILES)
def test_a_secret_from_a_file(name, tmp_path):
    """Every secret that is read once may stand in the file that ``NAME_FILE`` names, with a line end after it."""
    value = {"CLAUDE_OAUTH_TOKENS": OAUTH, "CLAUDE_API_KEYS": KEY, "REDIS_URL": REDIS, "DATABASE_URL": DATABASE}.get(
        name, TOKEN
    )
    (tmp_path / "secret").write_text(f"{value}\n")
    settings = Settings.parse({f"{name}_FILE": str(tmp_path / "secret")})
    secrets = [settings.static_token, settings.master_key, settings.redis_url, settings.database_url]
    secrets += [each.secret for each in settings.credentials]
    assert [secret.reveal() for secret in secrets if secret] == [value]


@pytest.mark.parametrize("name", IN_FILES)
def test_a_secret_from_a_file_and_a_variable(name, tmp_path):
    """A secret that is set in two ways is a mistake, because nobody could tell which one holds."""
    (tmp_path / "secret").write_text(TOKEN)
    (mistake,) = mistakes_of(**{name: TOKEN, f"{name}_FILE": str(tmp_path / "secret")})
    assert mistake.startswith(f"{name}_FILE: {name} is set too")


@pytest.mark.parametrize("content", [None, b"\xff\xfe made-up"], ids=["missing", "not-text"])
@pytest.mark.parametrize("name", IN_FILES)
def test_a_file_that_cannot_be_read(name, content, tmp_path):
    """A secret's file that cannot be read is a mistake of its own and shows nothing of what it holds."""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    (mistake,) = mistakes_of(**{f"{name}_FILE": str(tmp_path / "secret")})
    assert mistake.startswith(f"{name}_FILE: ")
    assert "cannot be read" in mistake


def test_a_secret_in_place_of_a_path():
    """Whoever puts the secret itself where its file's path belongs does not find it in the log."""
    (mistake,) = mistakes_of(CLAUDE_OAUTH_TOKENS_FILE=OAUTH)
    assert mistake.startswith("CLAUDE_OAUTH_TOKENS_FILE: ")


def test_a_file_for_what_is_no_secret_is_not_read(tmp_path):
    """Only secrets have a ``_FILE``: a PORT_FILE, say, is somebody else's variable."""
    assert Settings.parse({"PORT_FILE": str(tmp_path / "none")}).port == 4000


def test_secret_names():
    """Every variable that holds a secret is marked as one."""
    assert set(SECRET_NAMES) == {
        "PROXY_STATIC_TOKEN", "LITELLM_MASTER_KEY", "CLAUDE_OAUTH_TOKENS", "CLAUDE_API_KEYS", "REDIS_URL",
        "DATABASE_URL", "PROXY_USER_TOKENS",
    }  # fmt: skip


@pytest.mark.parametrize("url", ["redis://localhost:6379/0", "rediss://h", "unix:///run/redis.sock?db=1", " redis://h "])
def test_redis_addresses(url):
    """Every kind of address that redis-py knows is one."""
    assert Settings.parse({"REDIS_URL": url}).redis_url.reveal() == url.strip()


@pytest.fixture
def fresh_process(monkeypatch):
    """Nothing has been taken out of the environment yet."""
    taken = {}
    monkeypatch.setattr(module, "_taken", lambda: taken)


OWN = {
    "CLAUDE_OAUTH_TOKENS": OAUTH, "CLAUDE_API_KEYS": KEY, "PROXY_STATIC_TOKEN": TOKEN, "PROXY_USER_TOKENS": "anna=made-up-anna",
    "REDIS_URL": REDIS, "CLAUDE_PROXY_REDIS_URL": REDIS,
}  # fmt: skip


def test_the_process_forgets_its_own_secrets_once_they_are_read(fresh_process):
    """``os.environ`` loses the proxy's own secrets and the paths of their files; LiteLLM keeps those that it needs."""
    others = {"DATABASE_URL": DATABASE, "LITELLM_MASTER_KEY": "made-up-master", "ZAI_API_KEY": "made-up-zai"}
    files = {"PROXY_USER_TOKENS_FILE": "/made-up", "LITELLM_MASTER_KEY_FILE": "/made-up", "DATABASE_URL_FILE": "/made-up"}
    os.environ |= OWN | others | files
    read = module.environment()
    assert not (OWN | files).keys() & os.environ.keys()
    assert {name: os.environ[name] for name in others} == others
    assert {name: read[name] for name in OWN} == OWN
    assert "made-up" not in repr(read)


def test_a_secret_that_comes_back_is_taken_again(fresh_process):
    """What LiteLLM reads into the environment later leaves it too, and the value of the start stays."""
    os.environ["PROXY_STATIC_TOKEN"] = TOKEN
    module.environment()
    os.environ |= {"PROXY_STATIC_TOKEN": "made-up-other", "CLAUDE_API_KEYS": KEY}
    read = module.environment()
    assert not {"PROXY_STATIC_TOKEN", "CLAUDE_API_KEYS"} & os.environ.keys()
    assert (read["PROXY_STATIC_TOKEN"], read["CLAUDE_API_KEYS"]) == (TOKEN, KEY)


def test_every_secret_of_the_table_is_taken_or_litellms():
    """A new secret variable leaves the environment unless LiteLLM itself reads it."""
    assert set(module.SECRET_NAMES) - module.OWN_SECRETS == {"DATABASE_URL", "LITELLM_MASTER_KEY"}


# The pool


def test_the_file_and_the_variables_are_one_pool(tmp_path):
    """Credentials of ``credentials.yaml`` stand beside those of the variables, each with where it is from."""
    path = tmp_path / "credentials.yaml"
    path.write_text(f"credentials:\n  - {{label: a, secret: {OAUTH}, priority: 2}}\n")
    settings = Settings.parse({"CLAUDE_CREDENTIALS_FILE": str(path), "CLAUDE_API_KEYS": f"k={KEY}"})
    assert [(one.label, one.kind, one.source) for one in settings.credentials] == [
        ("a", Kind.OAUTH, str(path)),
        ("k", Kind.API_KEY, "CLAUDE_API_KEYS"),
    ]
    assert Settings.parse({"CLAUDE_CREDENTIALS_FILE": str(tmp_path / "none.yaml")}).credentials == ()


def test_a_file_with_mistakes_ends_the_start(tmp_path):
    """Mistakes of the file stand beside those of the variables; a worker beside others goes on with what can be read."""
    path = tmp_path / "credentials.yaml"
    path.write_text(f"credentials:\n  - {{label: a, secret: {OAUTH}}}\n  - {{label: b, secret: {KEY}, weight: 0}}\n")
    environ = {"CLAUDE_CREDENTIALS_FILE": str(path), "CLAUDE_API_KEYS": OAUTH}
    says = "credentials.yaml line 3, b: weight should be a number from 0.01 to 1000"
    found = mistakes_of(**environ)
    assert [mistake.split(":")[0] for mistake in found] == ["CLAUDE_API_KEYS", "credentials.yaml line 3, b"]
    settings = Settings.parse(environ, lenient=True)
    assert [one.label for one in settings.credentials] == ["a"]
    assert settings.pool_problems[-1] == says
    assert len(mistakes_of(**environ, PORT="x")) == 3


def test_every_path_of_the_pool_is_named(tmp_path):
    """What is to be watched are the file, what it names, and the files of the variables."""
    path, tokens = tmp_path / "credentials.yaml", tmp_path / "tokens"
    tokens.write_text(OAUTH)
    path.write_text("credentials:\n  - {label: a, secret_file: a}\n")
    found = read_pool({"CLAUDE_CREDENTIALS_FILE": str(path), "CLAUDE_OAUTH_TOKENS_FILE": str(tokens)})
    assert {*found.paths} == {path, tmp_path / "a", tokens}
    assert [one.source for one in found.credentials] == ["CLAUDE_OAUTH_TOKENS_FILE"]
    assert len(found.mistakes) == 1
