"""Checks of users: the file with their tokens, and whether the users that config.yaml limits exist."""

from collections.abc import Iterator

from claude_proxy.access.routes import ADMIN_NAME, ANYONE, KEY_NAME, STATIC_NAME, is_open
from claude_proxy.check import names
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, warning
from claude_proxy.check.placing import placed
from claude_proxy.config.oidc import Oidc
from claude_proxy.config.users import MalformedUser, check_name, folded
from claude_proxy.providers.endpoints import BLOCK


def users_file(facts: Facts) -> Iterator[Finding]:
    """A line of the file that cannot be read: its user is rejected."""
    for mistake in facts.users.mistakes:
        yield placed(mistake, facts)


def limited_users(facts: Facts) -> Iterator[Finding]:
    """A limit for a user that does not exist has no effect, and the user who was meant may use every model.

    Case makes no difference. With a database, the name may be the alias of a virtual key. Such an alias is not a user here: all
    keys share one name, and each has its own list of models in the database.
    """
    users = facts.section(BLOCK).get("users")
    there = known(facts)
    if not isinstance(users, dict) or there is None:
        return
    keys = "; the models of a virtual key are set in the database" if _has_database(facts) else ""
    for name in users:
        # The name of the master key, and names that are not text, are reported where the block is read.
        if not isinstance(name, str) or folded(name) in (folded(ADMIN_NAME), *map(folded, there)):
            continue
        meant = names.meant(name, there)
        added = f"run `claude-proxy user add {name}`, or remove the entry" if _can_be_added(name) else "remove the entry"
        remedy = f"did you mean {meant}?" if meant else added
        problem = f"no user is called {name}, so this limit has no effect"
        yield warning(facts.at(BLOCK, "users", name), f"{problem}{keys}", remedy)


def known(facts: Facts) -> tuple[str, ...] | None:
    """Return the names of all users; None if others may exist, of an identity provider or of a file that cannot be read."""
    if not facts.users.complete or Oidc.of(facts.config, facts.environ) is not None:
        return None
    is_anyone = facts.settings is not None and is_open(facts.settings)
    return (*facts.users.names, STATIC_NAME, *([KEY_NAME] if _has_database(facts) else []), *([ANYONE] if is_anyone else []))


def _can_be_added(name: str) -> bool:
    try:
        check_name(name)
    except MalformedUser:
        return False
    return True


def _has_database(facts: Facts) -> bool:
    return any(facts.environ.get(name) for name in ("DATABASE_URL", "DATABASE_URL_FILE"))
