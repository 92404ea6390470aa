"""A certified OpenID Connect provider from npm, in a process of its own on this machine."""

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import clean_environment

FOLDER = Path(__file__).parent / "provider"
PACKAGE = FOLDER / "node_modules" / "oidc-provider" / "package.json"
SECRET = "made-up-client-secret-0123456789"
ACCOUNTS = {
    "anna": {"email": "Anna@example.com", "email_verified": True, "groups": ["Team-A", "team-b"]},
    "ben": {"email": "ben@other.example", "email_verified": True},
    "carla": {"email": "carla@example.com", "email_verified": False},
    "dora": {"preferred_username": "dora"},
}


def require() -> str:
    """Return the path of Node, after the provider is installed from its lock; skip, with the reason, where it cannot be."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node and npm are not installed, so the OpenID Connect provider cannot be")
    with (FOLDER / "package-lock.json").open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests installs it, too
        locked = json.load(lock)["packages"]["node_modules/oidc-provider"]["version"]
        if not PACKAGE.exists() or json.loads(PACKAGE.read_text(encoding="utf-8"))["version"] != locked:
            command = [npm, "ci", "--silent", "--ignore-scripts"]
            installed = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
            if installed.returncode != 0:
                pytest.skip(f"npm could not install the OpenID Connect provider: {installed.stderr[-300:]}")
    return node


class OidcProvider:
    """A running provider with the clients ``proxy`` and ``proxy-es256``; ``url`` is its issuer. Any password is right."""

    def __init__(self, folder: Path, redirect_uri: str, accounts: dict[str, Any] | None = None) -> None:
        node = require()
        common = {"client_secret": SECRET, "redirect_uris": [redirect_uri], "grant_types": ["authorization_code"]}
        clients = [
            {"client_id": "proxy", "token_endpoint_auth_method": "client_secret_basic", **common},
            {
                "client_id": "proxy-es256", "token_endpoint_auth_method": "client_secret_post",
                "id_token_signed_response_alg": "ES256", **common,
            },
        ]  # fmt: skip
        settings = json.dumps({"clients": clients, "accounts": accounts or ACCOUNTS})
        self.log = (folder / "provider.log").open("w")
        self.process = subprocess.Popen(
            [node, "provider.mjs"], cwd=FOLDER, env=clean_environment(folder, PROVIDER=settings), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, (folder / "provider.log").read_text()

    def renew_keys(self) -> None:
        """Replace every key of the provider."""
        httpx.post(f"{self.url}/test/keys", trust_env=False).raise_for_status()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.log.close()
