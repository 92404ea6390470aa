"""A backup of a running proxy, restored into an empty folder, serves the same users with the same tokens and credentials."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import httpx
from conftest import CONFIG, TOKENS, by_credential
from processes import MASTER_KEY, ROOT, STATIC_TOKEN, Proxy, clean_environment, question

PASSPHRASE = "made up and long enough"
SETTINGS = f"""PROXY_STATIC_TOKEN={STATIC_TOKEN}
LITELLM_MASTER_KEY={MASTER_KEY}
ZAI_API_KEY=made-up-zai-key-0123
OPENAI_API_KEY=made-up-openai-key-0123
"""
# Of the folder and not of the environment.
NOT_SET = {"PROXY_STATIC_TOKEN": "", "LITELLM_MASTER_KEY": ""}


def command(home: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "claude_proxy", "--project", str(home), *arguments],
        cwd=ROOT, env=clean_environment(home), input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def usage(proxy: Proxy) -> set[tuple[str, str, str]]:
    """Who used which credential how often, by the proxy's ledger."""
    text = httpx.get(f"{proxy.url}/usage.csv", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False).text
    return {(line["user"], line["credential"], line["requests"]) for line in csv.DictReader(io.StringIO(text))}


def test_a_new_machine_goes_on_where_the_old_one_ended(upstream, tmp_path):
    """The static token, a user's token, the pool's credentials and the usage are the same on a new machine."""
    old, new, saved = tmp_path / "old", tmp_path / "new", tmp_path / "saved"
    (old / "secrets").mkdir(parents=True)
    (old / ".env").write_text(SETTINGS)
    (old / ".env").chmod(0o600)
    (old / "secrets" / "pooled").write_text(TOKENS["a"])
    (old / "secrets" / "pooled").chmod(0o600)
    (old / "credentials.yaml").write_text("credentials:\n- {label: a, secret_file: secrets/pooled}\n")
    (old / "credentials.yaml").chmod(0o600)
    upstream.answer = by_credential()
    config = CONFIG.format(url=upstream.other_url)
    proxy = Proxy(old, config, ANTHROPIC_API_BASE=upstream.url, **NOT_SET).wait_ready()
    try:
        anna = re.search(r"sk-[0-9a-f]{64}", command(old, "user", "add", "anna").stdout)[0]
        assert proxy.ask(question("claude-opus-4-8"), token=anna).status_code == 200
        proxy.logged("user=anna")
        command(old, "backup", str(saved), "--passphrase-file", "-", given=f"{PASSPHRASE}\n")
    finally:
        proxy.stop()
    # What the proxy has written at its end is in a backup that is made then.
    command(old, "backup", str(saved), "--force", "--passphrase-file", "-", given=f"{PASSPHRASE}\n")
    command(new, "restore", str(saved), "--passphrase-file", "-", given=f"{PASSPHRASE}\n")
    proxy = Proxy(new, None, ANTHROPIC_API_BASE=upstream.url, **NOT_SET).wait_ready()
    try:
        upstream.seen.clear()
        for token, status in ((anna, 200), (STATIC_TOKEN, 200), ("sk-made-up-another", 401), (None, 401)):
            assert proxy.ask(question("claude-opus-4-8"), token=token).status_code == status
        assert {seen.header("authorization") for seen in upstream.seen if seen.path.startswith("/v1/messages")} == {
            f"Bearer {TOKENS['a']}"
        }
        proxy.logged("user=static")
        assert usage(proxy) == {("anna", "a", "2"), ("static", "a", "1")}
    finally:
        proxy.stop()
