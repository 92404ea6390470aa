"""``check --live``: one small request to each model, and one with each Claude credential of the pool.

Models are requested through the running proxy with its own token, as by a client, but without fallbacks: a response of
another model does not show that this one works. Each credential is sent to Claude's host and to no other, in a request that
does not pretend to be Claude Code. Anthropic accepts that for Haiku; where it does not, a count of tokens is requested.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from msgspec import structs

from claude_proxy.check.client import keeps_requests_back, unreported
from claude_proxy.check.client_requests import OWN_WORDS, live_requests
from claude_proxy.check.endpoints import host_of
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, Level, error, info, warning
from claude_proxy.check.models import CLAUDE_CODE_NAMES, REFERENCE, claude_hosts, is_served, provider_of, unready
from claude_proxy.check.steps import Steps, silently
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.expiry import EXPIRED
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.credentials.response_rules import UNPAID, Action, Verdict, judge
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.providers.endpoints import Hosts, Provider, model_family
from claude_proxy.upstream.headers import FALLBACKS, NO_FALLBACKS, PROXY_TOKEN, for_claude

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
HAIKU = CLAUDE_CODE_NAMES["haiku"][0]
VERSION = ("anthropic-version", "2023-06-01")
JSON = ("content-type", "application/json")
# How a provider rejects a key.
KEY_REJECTED = (401, 403)
# Where a server is reached that listens on every address.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - looked up, not bound

Results = list[tuple[str, list[Finding]]]


def no_lift(_: Credential) -> bool:
    """End no cooldown."""
    return False


@dataclass(frozen=True)
class Asked:
    """A response, and how long it took in milliseconds."""

    status: int
    headers: dict[str, str]
    body: bytes
    took: float


def ask_all(
    facts: Facts,
    now: Callable[[], float] = time.time,
    *,
    lift: Callable[[Credential], bool] = no_lift,
    steps: Steps = silently,
) -> Results:
    """Request every model and use every credential, one after the other, so that a limit is not hit by all of them.

    ``lift`` ends the cooldown of a credential in a running proxy, and returns whether it could.
    """
    if facts.settings is None:
        return []
    # No redirect is followed and no HTTP_PROXY is used, so that tokens are sent to the intended address or nowhere.
    of_client: Results = []
    if not keeps_requests_back(facts):
        of_client = [("the models of settings.json respond", unreported(facts, live_requests(facts)))]
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client:
        return [
            *of_client,
            ("every model responds", ask_models(client, facts, facts.settings, steps=steps)),
            (
                "Anthropic accepts every Claude credential",
                ask_credentials(client, facts.settings, claude_hosts(facts), now, lift, steps=steps),
            ),
        ]


def ask_models(client: httpx.Client, facts: Facts, settings: Settings, *, steps: Steps = silently) -> list[Finding]:
    """Request one token of each model that is ready from the running proxy; of Claude's models only Haiku."""
    base = proxy_url(settings)
    token = settings.static_token or settings.master_key
    headers = [JSON, VERSION, (FALLBACKS, NO_FALLBACKS), *([(PROXY_TOKEN, token.reveal())] if token else [])]
    found = []
    for name in steps((f"Sending a request to the model {name} ...", name) for name in asked_models(facts)):
        try:
            asked = _post(client, f"{base}/v1/messages", _question(name), headers)
        except httpx.TimeoutException:
            found.append(error(name, f"{name} did not respond in time"))
        except httpx.HTTPError:
            return [error("proxy", f"connection refused at {base}", "start the proxy, then check again")]
        else:
            if asked.status == 401 and OWN_WORDS in asked.body.decode(errors="replace"):
                problem = f"the proxy at {base} rejects the token of this folder, so it runs with other settings"
                return [error("proxy", problem, "restart it, or give its folder with --project")]
            found.append(_result(facts, name, asked))
    left_out = [name for name in facts.names if "*" not in name and name not in asked_models(facts)]
    lacking = unready(facts)
    for reason, names in (
        ("not requested: the key is not set", [name for name in left_out if name in lacking]),
        ("not requested: of Claude's models only Haiku is", [name for name in left_out if name not in lacking]),
    ):
        if names:
            found.append(info(", ".join(names), reason))
    return found


def asked_models(facts: Facts) -> list[str]:
    """Return the models to request: every model with its key that is not Claude, and Haiku where it is served."""
    hosts, lacking = claude_hosts(facts), unready(facts)
    others = [
        str(entry["model_name"])
        for _, entry in facts.models
        if provider_of(entry["litellm_params"], hosts, facts.environ) is not Provider.CLAUDE
        and "*" not in str(entry["model_name"])
        and entry["model_name"] not in lacking
    ]
    usable = facts.settings is not None and bool(facts.settings.credentials)
    return [*dict.fromkeys(others), *([HAIKU] if usable and is_served(HAIKU, facts.names) else [])]


def ask_credentials(
    client: httpx.Client,
    settings: Settings,
    hosts: Hosts,
    now: Callable[[], float],
    lift: Callable[[Credential], bool] = no_lift,
    *,
    steps: Steps = silently,
) -> list[Finding]:
    """Send a request to Claude with each credential of the pool; one that is accepted is no longer in cooldown."""
    found = []
    for credential in steps((f"Sending a request with the credential {one.label} ...", one) for one in settings.credentials):
        if credential.is_disabled(now()):
            paused = credential.terms.paused
            found.append(info(credential.label, "not checked: it is paused") if paused else error(credential.label, EXPIRED))
            continue
        finding = _credential(client, credential, settings, hosts, now)
        if finding.level is Level.INFO and lift(credential):
            finding = info(finding.place, f"{finding.problem}; its cooldown in the running proxy has ended")
        found.append(finding)
    return found


def _credential(
    client: httpx.Client, credential: Credential, settings: Settings, hosts: Hosts, now: Callable[[], float]
) -> Finding:
    url = f"{settings.claude_base}/v1/messages"
    if not hosts.is_claude(url):
        return error(credential.label, "not checked: the address is not Anthropic's")
    headers = for_claude([JSON, VERSION], credential)
    try:
        asked = _post(client, url, _question(HAIKU), headers)
        verdict = _verdict(asked, now(), credential, settings)
        if verdict.action in (Action.CLIENT, Action.API_KEY):
            # About this request and not about the credential. A count is free, and rejected for the credential only.
            asked = _post(client, f"{url}/count_tokens", _counting(HAIKU), headers)
            verdict = _verdict(asked, now(), credential, settings)
    except httpx.HTTPError as problem:
        return error(credential.label, f"no response from Anthropic ({type(problem).__name__})")
    if verdict.cooldown_until is not None:
        return warning(credential.label, f"rate-limited until {_moment(verdict.cooldown_until)}: {verdict.reason}")
    if verdict.action is Action.DONE:
        return info(credential.label, f"accepted, {asked.took:.0f} ms")
    quoted = f': "{verdict.explanation}"' if verdict.explanation else ""
    if verdict.rejected or verdict.unauthorized:
        remedy = "pay or add credit for that account" if verdict.reason in UNPAID else "replace it"
        return error(credential.label, f"rejected by Anthropic: {verdict.reason} (HTTP {asked.status}){quoted}", remedy)
    return warning(credential.label, f"{verdict.reason or 'no usable response'} (HTTP {asked.status}){quoted}")


def _verdict(asked: Asked, now: float, credential: Credential, settings: Settings) -> Verdict:
    """Return what a response says of a credential; Anthropic's message in it has no secret of the pool."""
    redact = Redactor(one.secret for one in settings.credentials).text
    return judge(structs.replace(_response(asked, now, credential.kind), redact=redact), settings.cooldown_seconds)


def _result(facts: Facts, name: str, asked: Asked) -> Finding:
    if asked.status < 400:
        return info(name, f"responds, {asked.took:.0f} ms")
    # The proxy has removed every secret from it.
    words = " ".join(_response(asked, time.time()).message.split())[:200]
    params: dict[str, Any] = next((one["litellm_params"] for _, one in facts.models if one["model_name"] == name), {})
    host, key = host_of(params, facts) or "its provider", str(params.get("api_key", ""))
    said = f"HTTP {asked.status}{': ' + words if words else ''}"
    if asked.status in KEY_REJECTED and REFERENCE.fullmatch(key):
        variable = facts.dotenv.place(key.removeprefix("os.environ/"))
        return error(name, f"{host} rejects the key of {name} ({said})", f"replace the key: {variable}")
    if asked.status in KEY_REJECTED:
        return error(name, f"{host} rejects the request for {name} ({said})", "check its api_key and account")
    return error(name, f"{host} gives no response for {name} ({said})")


def _response(asked: Asked, now: float, kind: Kind = Kind.OAUTH) -> UpstreamResponse:
    return UpstreamResponse(asked.status, asked.headers, asked.body, Scope(model_family(HAIKU)), now, kind)


def _post(client: httpx.Client, url: str, body: dict[str, Any], headers: Sequence[tuple[str, str]]) -> Asked:
    begun = time.perf_counter()
    response = client.post(url, json=body, headers=list(headers))
    took = (time.perf_counter() - begun) * 1000
    return Asked(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content, took
    )


def _question(model: str) -> dict[str, Any]:
    return _counting(model) | {"max_tokens": 1}


def _counting(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}]}


def _moment(until: float) -> str:
    """Return a time of day, with the date where it is not today."""
    moment = datetime.fromtimestamp(until, UTC)
    today = datetime.now(UTC).date() == moment.date()
    return f"{moment:%H:%M} UTC" if today else f"{moment:%Y-%m-%d %H:%M} UTC"


def proxy_url(settings: Settings) -> str:
    """Return the address of the proxy on this machine."""
    host = EVERYWHERE.get(settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host)
    return f"http://{host}:{settings.port}"
