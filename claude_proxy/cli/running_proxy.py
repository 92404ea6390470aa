"""The running proxy, asked over HTTP by commands. A response is bounded, and an error is a sentence that holds no secret."""

import json
import time
from typing import Any

import httpx

from claude_proxy.cli.progress import doing
from claude_proxy.config.settings import Settings
from claude_proxy.secret import Secret
from claude_proxy.upstream.headers import PROXY_TOKEN

# For each wait, for the whole response in seconds, and its size in bytes.
WAIT_SECONDS = 15.0
MAX_SECONDS = 60.0
MAX_BYTES = 256 * 2**20
# The statuses whose error explains what is wrong with what was sent, and the maximum length of such a sentence.
SAID = frozenset({400, 404, 409, 503})
MAX_WORDS = 500
# What the system says of a connection that fails, and what that means.
CONNECT_ERRORS = {
    "connection refused": "connection refused",
    "name or service not known": "host not found",
    "no address associated": "host not found",
    "nodename nor servname": "host not found",
    "temporary failure in name resolution": "host not found",
    "ssl": "TLS error",
}


class ProxyUnavailable(Exception):
    """The running proxy gave no usable response; the message is a sentence without a secret.

    ``status`` is that of an HTTP response with an error, None without one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def url_of(settings: Settings) -> str:
    """Return the address of the proxy with these settings on this machine."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def ask(url: str, path: str, token: Secret | None, sent: Any = None) -> bytes:
    """Return the body of a successful response of the running proxy; raise ``ProxyUnavailable`` for any other.

    With something to send as JSON, it is a POST request, whose error is the proxy's own sentence.
    """
    with doing(f"Waiting for the proxy at {_shown(url)} ..."), _client() as client:
        return _exchanged(client, url, path, _headers(token), sent)[0] or b""


class Connection:
    """A kept connection, for a command that asks again and again. An unchanged response is not sent again (``ETag``)."""

    def __init__(self, url: str, token: Secret | None) -> None:
        self._url = url
        self._headers = _headers(token)
        self._client = _client()
        self._latest: dict[str, tuple[str, Any]] = {}  # by path: the ETag and the JSON of the latest response

    def get_json(self, path: str) -> Any:
        """Return the JSON of a response; raise ``ProxyUnavailable`` as ``ask_json`` does."""
        tag, latest = self._latest.get(path, ("", None))
        condition = {"if-none-match": tag} if tag else {}
        body, tag = _exchanged(self._client, self._url, path, self._headers | condition, None)
        if body is None:
            return latest
        found = _json(body, self._url)
        self._latest = {**self._latest, path: (tag, found)} if tag else self._latest
        return found

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _client() -> httpx.Client:
    return httpx.Client(timeout=WAIT_SECONDS, trust_env=False)


def _headers(token: Secret | None) -> dict[str, str]:
    return {"accept": "application/json"} | ({PROXY_TOKEN: token.reveal()} if token else {})


def _exchanged(client: httpx.Client, url: str, path: str, headers: dict[str, str], sent: Any) -> tuple[bytes | None, str]:
    """Return the body of a successful response and its ``ETag``; no body for a 304 to a conditional request."""
    shown, address = _shown(url), f"{url.rstrip('/')}{path}"
    try:
        with client.stream("GET" if sent is None else "POST", address, headers=headers, json=sent) as response:
            status, tag = response.status_code, response.headers.get("etag", "")
            if status == 304 and "if-none-match" in headers:
                return None, headers["if-none-match"]
            if problem := _problem(status, shown, path.partition("?")[0]):
                raise ProxyUnavailable((_sentence(response, shown) if sent is not None else "") or problem, status)
            return _body(response, shown), tag
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise ProxyUnavailable(f"--url: {shown} is not an address such as http://127.0.0.1:4000.") from None
    except (httpx.ConnectError, httpx.TimeoutException) as error:
        raise ProxyUnavailable(
            f"No proxy responds at {shown} ({_reason(error)}). "
            "Start it with `claude-proxy serve`, or name its address with --url."
        ) from None
    except httpx.HTTPError as error:
        raise _not_ours(shown, f"no complete HTTP response ({type(error).__name__})") from None


def ask_json(url: str, path: str, token: Secret | None) -> Any:
    """Return the JSON of a response; raise ``ProxyUnavailable`` as ``ask`` does, and for what is not JSON."""
    return send_json(url, path, token, None)


def send_json(url: str, path: str, token: Secret | None, sent: Any) -> Any:
    """Send JSON and return the JSON of the response, as ``ask_json``."""
    return _json(ask(url, path, token, sent), url)


def _json(body: bytes, url: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise _not_ours(_shown(url), "the response is not JSON") from None


def _sentence(response: httpx.Response, shown: str) -> str:
    """Return the proxy's own words for a request that it refused because of what was sent; empty for any other error."""
    if response.status_code not in SAID:
        return ""
    try:
        message = json.loads(_body(response, shown))["error"]["message"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return "".join(char if char.isprintable() else "?" for char in str(message))[:MAX_WORDS]


def unexpected(url: str) -> ProxyUnavailable:
    """Return the error for a response of another form."""
    return _not_ours(_shown(url), "the response has another form")


def _not_ours(shown: str, problem: str) -> ProxyUnavailable:
    return ProxyUnavailable(f"The program at {shown} is not claude-proxy, or it has another version: {problem}.")


def _body(response: httpx.Response, shown: str) -> bytes:
    """Read a response within the bounds."""
    begun, body = time.monotonic(), bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_BYTES or time.monotonic() - begun > MAX_SECONDS:
            raise _not_ours(shown, "the response does not end")
    return bytes(body)


def _problem(status: int, shown: str, path: str) -> str:
    """Return what a status means; nothing for a success."""
    if status == 401:
        return f"The proxy at {shown} rejects the token of .env (HTTP 401). Use the .env that the proxy was started with."
    if status == 403:
        return (
            f"{path} needs the master key: set LITELLM_MASTER_KEY in .env (openssl rand -hex 32) and restart the proxy. "
            f"The proxy at {shown} does not allow it with this token (HTTP 403)."
        )
    if 300 <= status < 400:
        return f"{shown} redirects to another address (HTTP {status}). Set that address with --url."
    return "" if 200 <= status < 300 else f"The proxy at {shown} responded with HTTP {status}. Its log has the reason."


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"no response within {WAIT_SECONDS:.0f} seconds"
    said = str(error).lower()
    return next((meaning for text, meaning in CONNECT_ERRORS.items() if text in said), type(error).__name__)


def _shown(url: str) -> str:
    """Return an address without the name and password that it may hold, for an error."""
    scheme, separator, rest = url.rstrip("/").rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
