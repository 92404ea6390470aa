"""Checks of a client's settings.json with which Claude Code sends requests in the form of Bedrock or Vertex AI."""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from claude_proxy.check.client_file import ClientFile
from claude_proxy.check.findings import Finding, error

OFF = ("", "0", "false", "no", "off")
BEARER = "AWS_BEARER_TOKEN_BEDROCK"


class _Mode(NamedTuple):
    """A cloud's variables, and the path at which the proxy serves its clients."""

    base_url: str
    path: str
    skips_auth: str


MODES = {
    "CLAUDE_CODE_USE_BEDROCK": _Mode("ANTHROPIC_BEDROCK_BASE_URL", "/bedrock", "CLAUDE_CODE_SKIP_BEDROCK_AUTH"),
    "CLAUDE_CODE_USE_VERTEX": _Mode("ANTHROPIC_VERTEX_BASE_URL", "/vertex_ai/v1", "CLAUDE_CODE_SKIP_VERTEX_AUTH"),
}
# With one of these Claude Code sends its requests to a cloud.
CLOUDS = (*MODES, "CLAUDE_CODE_USE_FOUNDRY")
KNOWN = frozenset({*CLOUDS, BEARER, *(name for mode in MODES.values() for name in (mode.base_url, mode.skips_auth))})


def is_client_of_cloud(found: ClientFile) -> bool:
    """Whether Claude Code sends its requests in the form of a cloud, to an address that the file names."""
    return any(_is_on(found, name) and found.values.get(mode.base_url) for name, mode in MODES.items())


def client_clouds(found: ClientFile) -> Iterator[Finding]:
    """A cloud's form, which the proxy serves at a path of its own, with its own token."""
    for name in CLOUDS:
        if not _is_on(found, name):
            continue
        mode = MODES.get(name)
        address = found.values.get(mode.base_url, "") if mode else ""
        if mode is None or not address:
            remedy = f"remove it, or add {mode.base_url}: http://your-server:4000{mode.path}" if mode else "remove it"
            yield error(found.place(name), "sends the requests to a cloud and not to the proxy", remedy)
            continue
        try:
            parts = urlsplit(address.strip())
        except ValueError:
            parts = urlsplit("")
        if parts.path.rstrip("/").removeprefix("/anthropic") != mode.path:
            remedy = f"write {parts.scheme or 'http'}://{parts.netloc or 'your-server:4000'}{mode.path}"
            yield error(found.place(mode.base_url), f"should end with {mode.path}", remedy)
        has_bearer = mode.path == "/bedrock" and found.values.get(BEARER)
        if not _is_on(found, mode.skips_auth) and not has_bearer:
            problem = f"needs {mode.skips_auth} beside it: without it, Claude Code looks for a credential of the cloud"
            yield error(found.place(name), problem, f'add "{mode.skips_auth}": "1"')


def _is_on(found: ClientFile, name: str) -> bool:
    return found.values.get(name, "").lower() not in OFF
