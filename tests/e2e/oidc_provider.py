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
        grants = ["authorization_code", "refresh_token"]
        common = {"client_secret": SECRET, "redirect_uris": [redirect_uri], "grant_types": grants}
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
        self._post("keys")

    def change(self, **accounts: dict[str, Any] | None) -> None:
        """Replace the claims of accounts; None removes one."""
        self._post("accounts", accounts)

    def fail(self) -> None:
        """Respond to every request with 503."""
        self._post("outage", value=True)

    def recover(self) -> None:
        """Respond as before."""
        self._post("outage", value=False)

    @property
    def refresh_tokens(self) -> list[str]:
        """The refresh tokens that the provider has issued, the oldest first. Each is valid for one use."""
        found: list[str] = httpx.get(f"{self.url}/test/refresh-tokens", trust_env=False).json()
        return found

    def _post(self, path: str, value: object = None) -> None:
        httpx.post(f"{self.url}/test/{path}", json=value, trust_env=False).raise_for_status()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.log.close()
