"""Stand-ins for every provider of config.yaml.example, which respond with what they received."""

import json
import re
from collections.abc import Mapping
from typing import Any

import dialects_upstream as strict
import upstream as up
from native_upstream import FORMATS

CLIENT_LOGIN = "sk-ant-oat01-of-the-client"
# A Claude model with this in its name is out of order, and this credential is rate-limited.
OUTAGE, LIMITED = "outage", "oauth-3"
GOOGLE_TOKEN = "made-up-access"
TOKEN = {"access_token": GOOGLE_TOKEN, "expires_in": 3600, "token_type": "Bearer"}
JSON = {"content-type": "application/json"}
KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


class Echo:
    """What the upstream answers. ``owners`` has the name of each secret that a provider may be sent."""

    def __init__(self, owners: Mapping[str, str]) -> None:
        self._owners = {**owners, CLIENT_LOGIN: "of the client", GOOGLE_TOKEN: "of Google"}

    def __call__(self, seen: up.Seen) -> up.Reply:
        """Answer in the format of the request."""
        sent = strict.Sent(**vars(seen))
        if seen.path == "/token":
            return up.Reply(headers=JSON, body=json.dumps(TOKEN).encode())
        if seen.method == "GET":
            return up.Reply(404)
        if seen.is_claude and (refused := self._refused(sent)):
            return refused
        if seen.path.endswith("/count_tokens"):
            return up.Reply(headers=JSON, body=b'{"input_tokens": 4711}')
        blocks = [up.text(self.words(sent))]
        # Claude's own thinking is its own; that of everybody else stays out of the conversation.
        if not (seen.is_claude or sent.provider in ("claude-bedrock", "claude-vertex")):
            blocks.insert(0, up.thinking("a thought of this model"))
        return FORMATS["nova"].reply(seen, *blocks) if sent.provider == "nova" else strict.reply(sent, *blocks)

    def _refused(self, sent: strict.Sent) -> up.Reply | None:
        if self.credential(sent) == LIMITED:
            return up.anthropic_error(429, "rate_limit_error", "This request would exceed your rate limit.", retry_after="3600")
        if OUTAGE in sent.json.get("model", ""):
            return up.anthropic_error(529, "overloaded_error", "Overloaded")
        return None

    def credential(self, sent: strict.Sent) -> str:
        """Return whose credential a request carries."""
        found = [value.removeprefix("Bearer ") for name in KEY_HEADERS if (value := sent.header(name))]
        found += re.findall(r"(?:^|&)key=([^&]+)", sent.query)
        named = ["of AWS" if value.startswith("AWS4-HMAC-SHA256 ") else self._owners.get(value, "unknown") for value in found]
        return ", ".join(named) or "none"

    def words(self, sent: strict.Sent) -> str:
        """Return what was received, in a line."""
        body: dict[str, Any] = sent.json
        text = sent.body.decode()
        version = sent.header("anthropic-version") or body.get("anthropic_version")
        hours = text.count('"ttl": "1h"') + text.count('"ttl":"1h"')
        betas = sent.header("anthropic-beta") or ",".join(body.get("anthropic_beta", ()))
        return "; ".join(
            (
                f"POST {sent.path}",
                f"model {body.get('model', '-')}",
                f"credential {self.credential(sent)}",
                f"fields {', '.join(sorted(body))}",
                f"betas {betas or 'none'}",
                f"version {version or 'none'}",
                f"thoughts {text.count('thought')}",
                f"cache marks {text.count('cache_control')}, {hours} for an hour",
            )
        )
