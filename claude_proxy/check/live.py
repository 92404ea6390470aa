"""``check --live``: one small request to each model, and one with each Claude credential of the pool.

Models are asked through the proxy that runs, with its own token: no other way is the one that a client's request takes.
Credentials are asked at Claude's host and nowhere else, so that each of them is asked by itself, and as what this is, a
check: nothing about Claude Code is made up. Anthropic answers that for Haiku; where it does not, counting tokens does.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, Level, error, info, warning
from claude_proxy.check.models import CLAUDE_CODE_NAMES, claude_hosts, is_served, provider_of, unready
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.expiry import EXPIRED
from claude_proxy.credentials.response_rules import Action, judge
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.providers.endpoints import Hosts, Provider, model_family
from claude_proxy.upstream.headers import PROXY_TOKEN, for_claude

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
HAIKU = CLAUDE_CODE_NAMES["haiku"][0]
VERSION = ("anthropic-version", "2023-06-01")
JSON = ("content-type", "application/json")
# Where a server listens that is told to listen everywhere.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - looked up, not bound

Results = list[tuple[str, list[Finding]]]


def no_lift(_: Credential) -> bool:
    """No proxy is told anything."""
    return False


@dataclass(frozen=True)
class Asked:
    """An answer, and how long it took in milliseconds."""

    status: int
    headers: dict[str, str]
    body: bytes
    took: float


def ask_all(facts: Facts, now: Callable[[], float] = time.time, *, lift: Callable[[Credential], bool] = no_lift) -> Results:
    """Ask every model and every credential, one after the other: a limit that is met early is not run into by all.

    ``lift`` lets a running proxy forget what a credential rests for, and returns whether it could.
    """
    if facts.settings is None:
        return []
    # No redirect is followed, and no HTTP_PROXY is asked: what is sent goes where it is meant to, or nowhere.
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client:
        return [
            ("every model answers", ask_models(client, facts, facts.settings)),
            ("every Claude credential is taken", ask_credentials(client, facts.settings, claude_hosts(facts), now, lift)),
        ]


def ask_models(client: httpx.Client, facts: Facts, settings: Settings) -> list[Finding]:
    """Ask the running proxy for a word of each model that is ready; of Claude for Haiku alone."""
    base = proxy_url(settings)
    token = settings.static_token or settings.master_key
    headers = [JSON, VERSION, *([(PROXY_TOKEN, token.reveal())] if token else [])]
    found = []
    for name in asked_models(facts):
        try:
            asked = _post(client, f"{base}/v1/messages", _question(name), headers)
        except httpx.TimeoutException:
            found.append(error(name, "gave no answer in time"))
        except httpx.HTTPError:
            return [error("proxy", f"does not answer at {base}", "start it, then check again")]
        else:
            found.append(_told(name, asked))
    left_out = [name for name in facts.names if "*" not in name and name not in asked_models(facts)]
    lacking = unready(facts)
    for reason, names in (
        ("not asked: the key is not set", [name for name in left_out if name in lacking]),
        ("not asked: of Claude's models Haiku alone is asked", [name for name in left_out if name not in lacking]),
    ):
        if names:
            found.append(info(", ".join(names), reason))
    return found


def asked_models(facts: Facts) -> list[str]:
    """Return the names to ask for: every model with its key that is not Claude, and Haiku where somebody serves it."""
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
) -> list[Finding]:
    """Ask Claude with each credential of the pool; one that is taken rests no longer."""
    found = []
    for credential in settings.credentials:
        if credential.closed(now()):
            paused = credential.terms.paused
            found.append(info(credential.label, "was not asked: it is paused") if paused else error(credential.label, EXPIRED))
            continue
        finding = _credential(client, credential, settings, hosts, now)
        if finding.level is Level.INFO and lift(credential):
            finding = info(finding.place, f"{finding.problem}; a running proxy forgets what it rests for")
        found.append(finding)
    return found


def _credential(
    client: httpx.Client, credential: Credential, settings: Settings, hosts: Hosts, now: Callable[[], float]
) -> Finding:
    url = f"{settings.claude_base}/v1/messages"
    if not hosts.is_claude(url):
        return error(credential.label, "was not asked: the address is not Anthropic's")
    headers = for_claude([JSON, VERSION], credential)
    try:
        asked = _post(client, url, _question(HAIKU), headers)
        verdict = judge(_answer(asked, now(), credential.kind), settings.cooldown_seconds)
        if verdict.action in (Action.CLIENT, Action.API_KEY):
            # About this request and not about the credential; counting is free, and refused for the credential alone.
            asked = _post(client, f"{url}/count_tokens", _counting(HAIKU), headers)
            verdict = judge(_answer(asked, now(), credential.kind), settings.cooldown_seconds)
    except httpx.HTTPError as problem:
        return error(credential.label, f"could not be asked ({type(problem).__name__})")
    if verdict.cooldown_until is not None:
        return warning(credential.label, f"rate-limited until {_moment(verdict.cooldown_until)}: {verdict.reason}")
    if verdict.action is Action.DONE:
        return info(credential.label, f"taken, {asked.took:.0f} ms")
    if verdict.rejected or verdict.refused:
        return error(credential.label, f"refused: {verdict.reason} (HTTP {asked.status})", "replace it")
    return warning(credential.label, f"{verdict.reason or 'was not answered'} (HTTP {asked.status})")


def _told(name: str, asked: Asked) -> Finding:
    if asked.status < 400:
        return info(name, f"answers, {asked.took:.0f} ms")
    answer = _answer(asked, time.time())
    # The proxy has taken every secret out of it.
    said = " ".join(answer.message.split())[:200]
    return error(name, f"does not answer (HTTP {asked.status}{': ' + said if said else ''})")


def _answer(asked: Asked, now: float, kind: Kind = Kind.OAUTH) -> UpstreamResponse:
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
    """Return a time of day, with the day where it is not today's."""
    moment = datetime.fromtimestamp(until, UTC)
    today = datetime.now(UTC).date() == moment.date()
    return f"{moment:%H:%M} UTC" if today else f"{moment:%Y-%m-%d %H:%M} UTC"


def proxy_url(settings: Settings) -> str:
    """Return where the proxy of this machine listens."""
    host = EVERYWHERE.get(settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host)
    return f"http://{host}:{settings.port}"
