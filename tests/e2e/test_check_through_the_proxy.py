"""`claude-proxy check --live` as a command, against the proxy that runs and the loopback upstream."""

import json
import subprocess
import sys
import time

import pytest
import upstream as up
from conftest import CLIENT_TOKEN, TOKENS, by_credential, proxy_environment
from processes import MASTER_KEY, ROOT, STATIC_TOKEN, Proxy, clean_environment


@pytest.fixture
def check(pooled: Proxy, upstream: up.Upstream):
    """Run the command beside the proxy, with the proxy's own settings."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = proxy_environment(upstream) | {
            "PROXY_STATIC_TOKEN": STATIC_TOKEN,
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "PORT": str(pooled.port),
        }
        command = [sys.executable, "-m", "claude_proxy", "--project", str(pooled.home), "check", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=clean_environment(pooled.home, **environment), capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip

    return run


def answer(seen: up.Seen) -> up.Reply:
    reset = str(int(time.time()) + 3600)
    rejected = {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-5h-status": "rejected"}
    replies = {
        "a": lambda seen: up.anthropic_reply(seen, up.text("yes")),
        "b": lambda _: up.anthropic_error(401, "authentication_error", "OAuth access token is invalid."),
        "c": lambda _: up.anthropic_error(
            429, "rate_limit_error", "limit", **rejected, **{"anthropic-ratelimit-unified-5h-reset": reset}
        ),
    }
    return by_credential(**replies)(seen)


def test_models_and_credentials_are_asked(check, upstream):
    """Each model that is ready answers through the proxy, each credential is told by its label, and the host sees no guise."""
    upstream.answer = answer
    done = check("--live")
    lines = done.stdout.splitlines()
    for name in ("demo", "glm", "gpt", "claude-haiku-5-5"):
        assert [line for line in lines if line.startswith(f"i {name}: answers, ")], done.stdout
    assert [line for line in lines if line.startswith("i a: taken, ")]
    assert "✗ b: refused: the credential was rejected (HTTP 401); replace it" in lines
    assert [line for line in lines if line.startswith("! c: rate-limited until ") and line.endswith(": limit reached: 5h")]
    assert [line for line in lines if "model keyless is not ready; set NEVER_SET_API_KEY in .env" in line]
    assert done.returncode == 1

    assert not [seen for seen in upstream.seen if seen.is_claude and seen.json["model"] != "claude-haiku-5-5"]
    assert not [seen for seen in upstream.seen if "claude-cli" in seen.everything or "Claude Code" in seen.everything]
    secrets = (*TOKENS.values(), STATIC_TOKEN, MASTER_KEY, CLIENT_TOKEN)
    assert not [secret for secret in secrets if secret in done.stdout + done.stderr]
    assert not [seen for seen in upstream.seen if not seen.is_claude and any(secret in seen.everything for secret in secrets)]


def test_a_model_that_does_not_answer(check, upstream):
    """A provider that refuses its key is an error with its status, for the models that it serves."""
    upstream.answer = lambda seen: (
        up.anthropic_error(401, "authentication_error", "invalid api key")
        if seen.path.startswith("/glm")
        else by_credential()(seen)
    )
    checks = {check["check"]: check for check in json.loads(check("--live", "--json").stdout)["checks"]}
    found = checks["every model answers"]["findings"]
    failed = {finding["place"] for finding in found if finding["level"] == "error"}
    assert {"glm", "glm-fast"} <= failed
    assert "gpt" not in failed
    assert checks["every Claude credential is taken"]["ok"]
    assert checks["every host can be reached"]["ok"]


def test_offline_nobody_is_asked(check, upstream):
    """Offline no host sees a request, with --live or without."""
    check("--offline", "--live")
    assert upstream.seen == []
