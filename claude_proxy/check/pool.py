"""Checks of the pool's files. Errors that keep the proxy from starting are reported by the settings."""

import time
from collections.abc import Collection, Iterator
from pathlib import Path

from claude_proxy.check import names
from claude_proxy.check.dotenv_text import QUOTES
from claude_proxy.check.facts import Facts
from claude_proxy.check.files import private
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.check.placing import placed
from claude_proxy.check.tokens import EXAMPLE_CREDENTIAL, SHORTEST_CREDENTIAL
from claude_proxy.config import pool_groups
from claude_proxy.config.credentials_file import FILE_VARIABLE, PREFIXES, files_of, nearest_file
from claude_proxy.config.settings import POOL_SOURCES
from claude_proxy.config.users import folded
from claude_proxy.credentials.expiry import EXPIRED


def files(facts: Facts) -> Iterator[Finding]:
    """A named file that does not exist, one that other users can read, and one that is not read because of another."""
    there = [path for path in files_of(facts.environ) if path.exists()]
    if facts.environ.get(FILE_VARIABLE) and not there:
        near = nearest_file(Path(facts.environ[FILE_VARIABLE].strip()))
        remedy = f"did you mean {near}, which is in the same folder?" if near else "`claude-proxy pool add LABEL` makes it"
        yield warning(facts.dotenv.place(FILE_VARIABLE), "names a file that does not exist", remedy)
    for hidden in there[1:]:
        yield warning(str(hidden), f"is not read, because {there[0]} is read", "keep one of them")
    for path in there[:1]:
        pool = facts.settings.credentials if facts.settings else ()
        # Of a secret in a file of its own, the source is that file.
        named = [Path(one.source).expanduser() for one in pool if one.source not in POOL_SOURCES and not one.renewed]
        secrets = dict.fromkeys((path.resolve().parent / one).resolve() for one in named)
        yield from private([path, *(one for one in secrets if one != path.resolve())])


def credentials(facts: Facts) -> Iterator[Finding]:
    """Credentials with which no request can be sent."""
    if facts.settings is None:
        return
    for problem in facts.settings.pool_problems:
        yield placed(problem, facts)
    for one in facts.settings.credentials:
        place, value = f"credential {one.label}", one.secret.reveal()
        if value and one.expires is not None and one.expires <= time.time():
            yield error(place, EXPIRED)
        if one.source in POOL_SOURCES or one.renewed:
            continue  # the variables have a check of their own, and Claude Code keeps a login valid
        if EXAMPLE_CREDENTIAL.fullmatch(value):
            yield error(place, "is the value of an example", "write a real one")
        elif any(quote in value for quote in QUOTES):
            yield error(place, "has quotes in it, which are sent as a part of the credential", "remove them")
        elif value.startswith(tuple(PREFIXES)) and len(value) < SHORTEST_CREDENTIAL:
            yield warning(place, f"has {len(value)} characters, and a credential of Anthropic has 108", "copy it whole")


def terms(facts: Facts) -> Iterator[Finding]:
    """Owners who are not users, and a pool in which every credential is paused."""
    pool = facts.settings.credentials if facts.settings else ()
    there = {folded(name) for name in facts.users.names}
    for one in pool:
        if one.terms.reserve and not one.terms.owner:
            problem = "has reserve and no owner, so nobody can use that part"
            yield warning(f"credential {one.label}", problem, "add owner: USER, or remove reserve")
        if one.terms.owner and facts.users.complete and folded(one.terms.owner) not in there:
            meant = names.meant(one.terms.owner, facts.users.names)
            remedy = f"did you mean {meant}?" if meant else "`claude-proxy user list` shows all users"
            yield warning(f"credential {one.label}", f"has the owner {one.terms.owner}, who is not a user", remedy)
    if pool and all(one.terms.paused for one in pool):
        yield warning("", "every Claude credential is paused", "`claude-proxy pool resume LABEL`")


def groups(facts: Facts) -> Iterator[Finding]:
    """A user or model limited to a group without credentials cannot use Claude."""
    if facts.settings is None:
        return
    there = {group for one in facts.settings.credentials for group in one.terms.groups}
    labels = {one.label for one in facts.settings.credentials}
    for place, group in pool_groups.unknown(facts.config, there, labels):
        if place[1] == pool_groups.GROUPS:
            yield _unknown_credential(facts.at(*place), group, there | labels)
            continue
        meant = names.meant(group, there | pool_groups.declared(facts.config))
        remedy = f"did you mean {meant}?" if meant else "`claude-proxy pool set LABEL groups=NAME` puts a credential into it"
        yield error(facts.at(*place), f"no credential is in the group {group}, so Claude cannot be used here", remedy)


def _unknown_credential(place: str, name: str, there: Collection[str]) -> Finding:
    """Return the finding about a declared group whose credentials do not exist."""
    meant = names.meant(name, there)
    remedy = f"did you mean {meant}?" if meant else "`claude-proxy pool list` shows all credentials and their groups"
    return error(place, f"no credential has the label or the group {name}, so the group cannot use it", remedy)
