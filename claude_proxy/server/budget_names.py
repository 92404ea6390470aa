"""Whether the user or group whose budget is changed exists. Plain values, no I/O beyond the users file."""

from claude_proxy.access.routes import ADMIN_NAME, ANYONE, KEY_NAME, STATIC_NAME
from claude_proxy.config.budgets import ALL
from claude_proxy.config.groups import GROUPS
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.config.spelling import nearest
from claude_proxy.config.users import folded
from claude_proxy.providers.endpoints import in_block

# Names of callers without a token of their own.
OTHERS = (ADMIN_NAME, STATIC_NAME, KEY_NAME, ANYONE)


def unknown_name(scope: str, config: ActiveConfig, settings: Settings) -> str:
    """Return a sentence about a scope that belongs to nobody, with the name that may be meant; empty for any other.

    The name may become known later: a user who is added, or who signs in at the identity provider, which also names groups.
    """
    kind, _, name = scope.partition(":")
    if scope == ALL:
        return ""
    users = settings.users.all_users()
    if kind == "user":
        if settings.users.mistakes or settings.users.unsafe:
            return ""  # the user may be in a line that cannot be read
        known = {folded(one) for one in (*OTHERS, *(user.name for user in users))}
    else:
        declared = in_block(config.loaded, GROUPS) or {}
        known = {*map(folded, declared), *(group for groups in config.groups.users.values() for group in groups)}
    if folded(name) in known:
        return ""
    near = nearest(name, sorted(known - {*OTHERS}))
    meant = f"; did you mean {near}?" if near else "."
    later = f" or the identity provider names this {kind}" if config.oidc else ""
    return f"No {kind} is called {name}{meant} The budget applies once there is one{later}."
