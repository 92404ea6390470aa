"""How full the pool's windows are. Plain values, no I/O."""

from collections.abc import Iterable

from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.rate_limits import Snapshot
from claude_proxy.credentials.scope import EVERYTHING


def fullness(snapshots: Iterable[Snapshot], name: str) -> float | None:
    """Return the mean utilization of one window, such as ``7d``, weighted like the accounts; None without an account.

    Accounts that are paused or rejected are left out. An account that no request may use counts as full, one without a report
    as empty. API keys have no windows.
    """
    total = used = 0.0
    for one in snapshots:
        terms = one.credential.terms
        if one.credential.kind is not Kind.OAUTH or terms.paused or one.disabled:
            continue
        total += terms.weight
        known = [window.utilization for (_, window_name), window in one.windows.items() if window_name == name]
        used += terms.weight * (1.0 if EVERYTHING in one.cooldowns else min(1.0, max(known, default=0.0)))
    return used / total if total else None
