"""Sends requests as the client of a settings.json would, and reports in words what keeps it from using the proxy.

They cost nothing: the list of models, and a count of tokens for each model that the file names. The token is sent to the
address in the file and to no other; where the transport is wrong, the port is probed without it.
"""

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from claude_proxy.check.client import API_KEY, AUTH_TOKEN, BASE_URL, HEADERS, misspelt_token_header, unreported
from claude_proxy.check.client_file import ClientFile
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.check.models import CLAUDE_CODE_NAMES, MODEL_VARIABLES, OTHER_ALIASES, nearest
from claude_proxy.providers.endpoints import Origin
from claude_proxy.providers.model_names import PREFIX

TIMEOUT = httpx.Timeout(20.0, connect=4.0)
MODELS, COUNT, MESSAGES = "/v1/models", "/v1/messages/count_tokens", "/v1/messages"
VERSION = ("anthropic-version", "2023-06-01")
OWNER = "claude-proxy"
# Words of the proxy's own 401, by which it is known from other servers.
OWN_WORDS = "ANTHROPIC_AUTH_TOKEN in Claude Code"
# Words of the proxy for a model that the user may not use.
FORBIDDEN = "may not use"
# What servers respond over plain HTTP on a port for TLS.
TLS_WORDS = ("HTTPS server", "HTTPS port", "SSL-enabled")
LONGEST_WORDS = 300


@dataclass(frozen=True)
class Connection:
    """How a client connects: the base address and its headers, among them the token."""

    file: ClientFile
    base: str
    origin: Origin
    headers: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def place(self) -> str:
        """Where the address is written."""
        return self.file.place(BASE_URL)

    @property
    def token_place(self) -> str:
        """Where the token is written."""
        names = (AUTH_TOKEN, API_KEY, HEADERS)
        return self.file.place(next((name for name in names if self.file.values.get(name)), AUTH_TOKEN))

    @property
    def root(self) -> str:
        """The address without its path."""
        parts = urlsplit(self.base)
        return f"{parts.scheme}://{parts.netloc}"

    def clean(self, text: str) -> str:
        """Return a server's words in one line, without any value of the headers."""
        for _, value in self.headers:
            for part in (value, value.removeprefix("Bearer ")):
                text = text.replace(part, "...") if len(part) > 5 else text
        return " ".join(text.split())[:LONGEST_WORDS]


def connection(found: ClientFile) -> Connection | None:
    """Return how the client connects; None where the address is missing or cannot be used."""
    base = found.values.get(BASE_URL, "").strip().rstrip("/")
    origin = Origin.of(base) if base else None
    if origin is None:
        return None
    headers = [VERSION]
    if token := found.values.get(AUTH_TOKEN):
        headers.append(("authorization", f"Bearer {token}"))
    if key := found.values.get(API_KEY):
        headers.append(("x-api-key", key))
    for line in found.values.get(HEADERS, "").splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip():
            headers.append((name.strip().lower(), value.strip()))
    sent = tuple(pair for pair in headers if all(part.isascii() and part.isprintable() for part in pair))
    return Connection(found, base, origin, sent)


def client_requests(facts: Facts) -> Iterator[Finding]:
    """The address responds, is claude-proxy, accepts the token, and serves the models that the file names."""
    to = connection(facts.client) if facts.client else None
    if to is None:
        return
    with open_client(to) as http:
        try:
            response = http.get(f"{to.base}{MODELS}")
        except httpx.HTTPError as problem:
            yield _unreachable(to, problem, facts)
            return
        found = [*_responded(http, to, response, facts)]
        yield from found
        if response.status_code == 200 and not found:
            ids = _ids(response)
            yield info(to.place, f"claude-proxy responds there and lists {len(ids)} models for this token")
            yield from _models(http, to, ids)


def unreported_requests(facts: Facts) -> Iterator[Finding]:
    """The same, without the errors that are found without a request: each error is reported once."""
    yield from unreported(facts, client_requests(facts))


def open_client(to: Connection) -> httpx.Client:
    """Return an HTTP client with the client's headers. It follows no redirect and uses no proxy of the environment."""
    verify: ssl.SSLContext | bool = True
    if to.origin.scheme == "https":
        verify = httpx.create_ssl_context()
        if more := to.file.values.get("NODE_EXTRA_CA_CERTS"):
            with contextlib.suppress(OSError):
                verify.load_verify_locations(more)
    return httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False, headers=list(to.headers), verify=verify)


def _responded(http: httpx.Client, to: Connection, response: httpx.Response, facts: Facts) -> Iterator[Finding]:
    """Return what is wrong with the response to the list of models; nothing where it is claude-proxy's list."""
    status, words = response.status_code, to.clean(_words(response))
    if status == 400 and any(one in response.text for one in TLS_WORDS):
        yield _needs_https(to)
    elif response.is_redirect:
        target = response.headers.get("location", "")
        origin = Origin.of(target)
        where = f"{origin.scheme}://{origin.host}:{origin.port}" if origin else "another path"
        yield error(
            to.place, f"redirects to {where}, and the token does not follow a redirect", "write the address that it leads to"
        )
    elif status in (401, 403):
        yield _rejected(to, response, facts)
    elif status == 200 and is_own(response):
        return
    elif status == 200:
        yield error(to.place, "leads to a server that is not claude-proxy", "write the address of the proxy")
    elif status in (404, 405) and urlsplit(to.base).path and (other := _other_root(http, to)):
        path = urlsplit(to.base).path
        yield error(to.place, f"has the path {path}, which the proxy does not serve (HTTP {status})", f"write {other}")
    elif status == 503 and OWNER in words:
        yield error(to.place, f"claude-proxy is not ready (HTTP 503: {words})", "wait until it has started; look at its log")
    elif 400 <= status < 500 and words and _is_anthropic_error(response):
        yield error(to.place, f"the server responds to {MODELS} with HTTP {status}: {words}")
    else:
        problem = f"leads to a server that responds to {MODELS} with HTTP {status} and is not claude-proxy"
        yield error(to.place, problem, "write the address of the proxy")


def _rejected(to: Connection, response: httpx.Response, facts: Facts) -> Finding:
    own = OWN_WORDS in response.text
    server = "the proxy" if own else "a server that is not claude-proxy"
    sent = any(name in ("authorization", "x-api-key", "x-litellm-api-key") for name, _ in to.headers)
    if to.file.has_helper and not sent:
        return info(to.place, f"{server} responds; the token of apiKeyHelper is not checked, because check does not run it")
    if not sent and (name := misspelt_token_header(to.file.values.get(HEADERS, ""))):
        return error(to.token_place, f"{server} does not read the token in {name} (HTTP 401)", "write x-litellm-api-key")
    if not sent:
        return error(to.token_place, f"is not set, and {server} needs a token (HTTP 401)", "`claude-proxy settings` prints it")
    remedy = "`claude-proxy settings` prints the token, `claude-proxy user add NAME` makes one"
    if own and facts.settings and facts.settings.static_token and _is_here(to, facts):
        remedy = f"it is neither PROXY_STATIC_TOKEN of this folder nor a user's token; {remedy}"
    return error(to.token_place, f"{server} rejects the token (HTTP {response.status_code})", remedy)


def _other_root(http: httpx.Client, to: Connection) -> str:
    """Return the address without its path where claude-proxy responds there; else nothing."""
    with contextlib.suppress(httpx.HTTPError):
        found = http.get(f"{to.root}{MODELS}")
        if is_own(found) or OWN_WORDS in found.text:
            return to.root
    return ""


def _unreachable(to: Connection, problem: httpx.HTTPError, facts: Facts) -> Finding:
    """Return why there is no response, in words; the port is probed for the other transport."""
    host, port = to.origin.host, to.origin.port
    causes = [*_causes(problem)]
    is_refused = any(isinstance(one, ConnectionRefusedError) for one in causes)
    untrusted = next((one for one in causes if isinstance(one, ssl.SSLCertVerificationError)), None)
    words, remedy = f"{host} port {port} does not respond as an HTTP server ({type(problem).__name__})", _where(to, facts)
    if untrusted:
        words = f"the certificate of {host} is not trusted ({untrusted.verify_message})"
        remedy = "set NODE_EXTRA_CA_CERTS to the file of your authority, or write the name that the certificate has"
    elif any(isinstance(one, socket.gaierror) for one in causes):
        words, remedy = f"host not found: {host}", "look at the spelling of the name, and at DNS or VPN"
    elif is_refused:
        words = f"connection refused: nothing listens on {host} port {port}"
    elif isinstance(problem, httpx.ConnectTimeout):
        words, remedy = f"no connection to {host} port {port} in {TIMEOUT.connect:.0f} s", "look at the address and firewalls"
    elif to.origin.scheme == "https" and speaks_http(to.origin):
        words = f"starts with https://, and the server at {host}:{port} speaks HTTP without TLS"
        remedy = f"write {_with(to, 'http')}"
    elif to.origin.scheme == "http" and speaks_tls(to.origin):
        return _needs_https(to)
    elif isinstance(problem, httpx.TimeoutException):
        words, remedy = f"{host} port {port} does not respond in time", "look at the log of the proxy"
    return error(to.place, words, remedy)


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


def _needs_https(to: Connection) -> Finding:
    problem = f"starts with http://, and the server at {to.origin.host}:{to.origin.port} speaks TLS"
    return error(to.place, problem, f"write {_with(to, 'https')}")


def _with(to: Connection, scheme: str) -> str:
    return f"{scheme}://{urlsplit(to.base).netloc}{urlsplit(to.base).path}"


def _where(to: Connection, facts: Facts) -> str:
    """Return what to write where nothing listens: the port of this folder's proxy, and whether that listens."""
    settings = facts.settings
    if settings is None:
        return "start the proxy, or write its port"
    ports = {"PORT": settings.port}
    for name in ("SCALE_PORT", "HTTPS_PORT"):
        with contextlib.suppress(ValueError):
            ports[name] = int(facts.environ.get(name, "") or 0)
    for name, port in ports.items():
        if port and port != to.origin.port and _listens("127.0.0.1", port):
            return (
                f"the proxy of this folder listens on port {port} ({name}); write {to.origin.scheme}://{to.origin.host}:{port}"
            )
    if settings.port == to.origin.port:
        return "start the proxy: `make run` or `docker compose up -d`"
    return f"the proxy of this folder is set to port {settings.port} and does not run; start it and write that port"


def _is_here(to: Connection, facts: Facts) -> bool:
    return to.origin.host in ("127.0.0.1", "localhost", "::1") and bool(
        facts.settings and facts.settings.port == to.origin.port
    )


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1.0).close()
    except OSError:
        return False
    return True


def speaks_tls(origin: Origin) -> bool:
    """Whether a server completes a TLS handshake, whatever its certificate. Nothing else is sent."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((origin.host, origin.port), 4.0) as raw,
            context.wrap_socket(raw, server_hostname=origin.host),
        ):
            return True
    except (OSError, ValueError):
        return False


def speaks_http(origin: Origin) -> bool:
    """Whether a server responds to a request over plain HTTP. The request holds no token."""
    try:
        response = httpx.head(f"http://{_netloc(origin)}/", timeout=4.0, trust_env=False, follow_redirects=False)
    except httpx.HTTPError:
        return False
    return not (response.status_code == 400 and any(one in response.text for one in TLS_WORDS))


def _netloc(origin: Origin) -> str:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return f"{host}:{origin.port}"


def named_models(values: Mapping[str, str]) -> dict[str, str]:
    """Return the models that the file names, each with the variable that does; aliases as what they stand for."""
    found: dict[str, str] = {}
    for variable in MODEL_VARIABLES:
        name = values.get(variable, "").strip().removesuffix("[1m]")
        if name in CLAUDE_CODE_NAMES:
            model, override = CLAUDE_CODE_NAMES[name]
            name = values.get(override, "").strip().removesuffix("[1m]") or model
        if name and name not in OTHER_ALIASES:
            found.setdefault(name, variable)
    return found


def _models(http: httpx.Client, to: Connection, ids: list[str]) -> Iterator[Finding]:
    named = named_models(to.file.values)
    for model, variable in named.items():
        found = _model(http, to, model, variable, ids)
        yield found or info(to.file.place(variable), f"{model} is served")
    missing = [
        model for model, variable in CLAUDE_CODE_NAMES.values()
        if not to.file.values.get(variable) and model not in named and model not in ids
    ]  # fmt: skip
    if missing and to.file.values.get("ANTHROPIC_MODEL"):
        remedy = "set ANTHROPIC_DEFAULT_HAIKU_MODEL and the others; `claude-proxy settings --model NAME` prints them"
        yield warning(to.file.name, f"Claude Code requests {', '.join(missing)} by itself, which this token cannot use", remedy)


def _model(http: httpx.Client, to: Connection, model: str, variable: str, ids: list[str]) -> Finding | None:
    """Return what keeps a model from being used; a count of its tokens costs nothing."""
    place = to.file.place(variable)
    try:
        response = http.post(f"{to.base}{COUNT}", json=question(model))
    except httpx.HTTPError as problem:
        return warning(place, f"{model} could not be checked ({type(problem).__name__})")
    words = to.clean(_words(response))
    if response.status_code == 404:
        return error(place, f"{model} is not served by this proxy", nearest(model, ids))
    if response.status_code == 403 or FORBIDDEN in words:
        return error(
            place, f"the user of this token may not use {model} ({words})", "name an allowed model, or change config.yaml"
        )
    if response.status_code == 400:
        return error(place, f"{model} cannot be used ({words})")
    if response.status_code >= 400 and model not in ids:
        return warning(place, f"{model} could not be checked (HTTP {response.status_code}: {words})")
    return None


def question(model: str) -> dict[str, Any]:
    """Return a request with the fewest tokens."""
    return {"model": model, "messages": [{"role": "user", "content": "hi"}]}


def live_requests(facts: Facts) -> list[Finding]:
    """Send one small request to each model that the file names. It costs a few tokens."""
    to = connection(facts.client) if facts.client else None
    found: list[Finding] = []
    if to is None:
        return found
    with open_client(to) as http:
        for model, variable in (named_models(to.file.values) or {CLAUDE_CODE_NAMES["haiku"][0]: BASE_URL}).items():
            place = to.file.place(variable)
            try:
                response = http.post(f"{to.base}{MESSAGES}", json=question(model) | {"max_tokens": 1})
            except httpx.HTTPError as problem:
                found.append(error(place, f"no response from {model} ({type(problem).__name__})"))
                continue
            if response.status_code < 400:
                found.append(info(place, f"{model} responds to this token"))
            else:
                words = to.clean(_words(response))
                found.append(error(place, f"{model} does not respond (HTTP {response.status_code}: {words})"))
    return found


def is_own(response: httpx.Response) -> bool:
    """Whether a response is claude-proxy's list of models."""
    return any(entry.get("owned_by") == OWNER for entry in _entries(response)) or (
        response.status_code == 200 and not _entries(response) and '"has_more"' in response.text
    )


def _ids(response: httpx.Response) -> list[str]:
    return [str(entry.get("id")).removeprefix(PREFIX) for entry in _entries(response)]


def _entries(response: httpx.Response) -> list[dict[str, Any]]:
    try:
        loaded = response.json()
    except (ValueError, RecursionError):
        return []
    data = loaded.get("data") if isinstance(loaded, dict) else None
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


def _is_anthropic_error(response: httpx.Response) -> bool:
    """Whether a response is an error in Anthropic's format."""
    with contextlib.suppress(ValueError, RecursionError):
        loaded = json.loads(response.text)
        return isinstance(loaded, dict) and loaded.get("type") == "error" and isinstance(loaded.get("error"), dict)
    return False


def _words(response: httpx.Response) -> str:
    """Return the message of an error, or nothing."""
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        loaded = json.loads(response.text)
        problem = loaded.get("error")
        return str(problem.get("message") if isinstance(problem, dict) else problem or "")
    return ""
