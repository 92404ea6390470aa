"""Checks of the addresses to which alerts are sent. Nothing is sent."""

from collections.abc import Iterator

from claude_proxy.alerts.delivery import deliver_now
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.check.models import is_private
from claude_proxy.config import alerts as config
from claude_proxy.config.alerts import KEY, TO, URL, Alerts, entries, missing, resolved
from claude_proxy.providers.endpoints import BLOCK, Origin

# The schemes of webhooks that are not encrypted.
UNENCRYPTED = frozenset({"http", "json", "form", "xml"})


def alerts(facts: Facts) -> Iterator[Finding]:
    """The proxy starts with an address that cannot be used; no alert arrives there then."""
    if any(True for _ in config.mistakes(facts.config)):
        return
    places = [facts.at(BLOCK, KEY, TO, place) for place, _ in enumerate(entries(facts.config))]
    ready = []
    for at, entry in zip(places, entries(facts.config), strict=True):
        if unset := missing(entry[URL], facts.environ):
            yield warning(
                at, f"the address lacks {', '.join(unset)}; no alert is sent to it", f"set {', '.join(unset)} in .env"
            )
        else:
            ready.append((at, entry[URL]))
    targets = Alerts.of(facts.config, facts.environ).targets
    reasons = deliver_now([(target.url, None) for target in targets])
    for (at, written), target, reason in zip(ready, targets, reasons, strict=True):
        if reason:
            yield error(at, f"the address cannot be used: {reason}", "docs/alerts.md has an example for each service")
            continue
        if len([*config.secrets([target])]) > 1 and "os.environ/" not in written:
            yield warning(at, "the address has a token in clear text", "put it into .env, and write os.environ/NAME here")
        yield from _encryption(at, resolved(written, facts.environ))


def _encryption(at: str, url: str) -> Iterator[Finding]:
    scheme, _, rest = url.partition("://")
    origin = Origin.of(f"http://{rest.rpartition('@')[2]}")
    if scheme.lower() in UNENCRYPTED and origin is not None and not is_private(origin.host):
        yield warning(at, f"alerts are sent to {origin.host} unencrypted", "write jsons:// or https://")
