"""Checks of people: the file with their tokens, and whether whom ``config.yaml`` limits is somebody."""

from collections.abc import Iterator

from claude_proxy.access.routes import ADMIN_NAME, ANYONE, KEY_NAME, STATIC_NAME, is_open
from claude_proxy.check import names
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.config.users import folded
from claude_proxy.providers.endpoints import BLOCK


def users_file(facts: Facts) -> Iterator[Finding]:
    """A broken line of the file is nobody's token: whoever it was meant for does not come in."""
    for mistake in facts.people.mistakes:
        yield error("", mistake)


def limited_people(facts: Facts) -> Iterator[Finding]:
    """A limit on a name that nobody has limits nobody, and the person who was meant may use every model.

    Upper and lower case make no difference. With a database the alias of a virtual key may be meant, which is no name here: all
    keys together are one, and each has its own list of models in the database.
    """
    users = facts.section(BLOCK).get("users")
    if not isinstance(users, dict) or not facts.people.complete:
        return
    database = any(facts.environ.get(name) for name in ("DATABASE_URL", "DATABASE_URL_FILE"))
    is_anyone = facts.settings is not None and is_open(facts.settings)
    there = (*facts.people.names, STATIC_NAME, *([KEY_NAME] if database else []), *([ANYONE] if is_anyone else []))
    compared = {folded(name) for name in (*there, ADMIN_NAME)}
    for name in users:
        # Why the master key's name and what is no text are mistakes is told where the block is read.
        if not isinstance(name, str) or folded(name) in compared:
            continue
        meant = names.meant(name, there)
        remedy = f"did you mean {meant}?" if meant else "`claude-proxy user list` shows who there is"
        problem = f"nobody is called {name}, so this limits nobody"
        if database:
            yield warning(facts.at(BLOCK, "users", name), f"{problem}; a virtual key has its models in the database", remedy)
        else:
            yield error(facts.at(BLOCK, "users", name), problem, remedy)
