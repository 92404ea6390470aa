"""Checks of managed settings: keys and words that Claude Code does not know, secrets, and names that nobody has."""

from collections.abc import Iterator
from typing import Any

from claude_proxy.access.routes import STATIC_NAME
from claude_proxy.check import names
from claude_proxy.check.client import KNOWN, OTHER_NAMES
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.config import client_settings, managed_settings
from claude_proxy.config.client_settings import ENV
from claude_proxy.config.managed_settings import GROUPS, KEY, USERS
from claude_proxy.config.users import folded
from claude_proxy.credentials.redaction import MIN_LENGTH, secrets_of
from claude_proxy.providers.endpoints import BLOCK

# How alike two names of variables have to be, and two names of users or groups, which are often short.
ALIKE, ALIKE_NAMES = 0.85, 0.7


def unknown_settings(facts: Facts) -> Iterator[Finding]:
    """A key that Claude Code does not know has no effect, unless a newer release knows it."""
    for path, entry in managed_settings.written(facts.config):
        for below, there in client_settings.unknown(entry):
            meant = names.meant(below[-1], there)
            remedy = f"did you mean {meant}?" if meant else "remove it, or look for its right name in the settings reference"
            yield warning(facts.at(*path, *below), f"{': '.join(below)} is not a setting of Claude Code 2.1.332", remedy)
        for name, choices in client_settings.unknown_words(entry):
            problem = f"{name} is none of the words that Claude Code 2.1.332 knows"
            yield warning(facts.at(*path, name), problem, f"write one of {', '.join(choices)}")
        yield from _variables(facts, path, entry.get(ENV))


def _variables(facts: Facts, path: tuple[str, ...], variables: object) -> Iterator[Finding]:
    for name in variables if isinstance(variables, dict) else ():
        meant = OTHER_NAMES.get(name) or (None if name in KNOWN else names.meant(str(name), KNOWN, ALIKE))
        if meant:
            yield warning(facts.at(*path, ENV, name), f"{name} is not a variable of Claude Code", f"did you mean {meant}?")


def own_secrets(facts: Facts) -> Iterator[Finding]:
    """A secret in managed settings goes to the machine of every user who gets them."""
    secrets = {secret.reveal() for secret in secrets_of(facts.environ)}
    if facts.settings:
        own = (facts.settings.static_token, facts.settings.master_key, *(one.secret for one in facts.settings.credentials))
        secrets |= {secret.reveal() for secret in own if secret}
    secrets = {secret for secret in secrets if len(secret) >= MIN_LENGTH}
    for path, entry in managed_settings.written(facts.config):
        for place, text in _texts(entry, path):
            if any(secret in text for secret in secrets):
                problem = "holds a secret of the proxy, and managed settings go to the users' machines"
                yield error(facts.at(*place), problem, "remove it")


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, str(key)))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _texts(inner, (*path, place))


def unknown_names(facts: Facts) -> Iterator[Finding]:
    """A name that is almost that of a user or group. Any other name may come with a sign-in, so it is not reported."""
    block = facts.section(BLOCK)
    users = block.get(USERS)
    of_users = [entry.get(GROUPS) for entry in users.values() if isinstance(entry, dict)] if isinstance(users, dict) else []
    groups = {str(group) for named in of_users if isinstance(named, list) for group in named}
    groups |= set(map(str, block[GROUPS])) if isinstance(block.get(GROUPS), dict) else set()
    known = {USERS: {*facts.users.names, STATIC_NAME}, GROUPS: groups}
    for path, _ in managed_settings.written(facts.config):
        part, name = path[2], path[-1]
        there = known.get(part, set())
        if not there or folded(name) in map(folded, there) or (part == USERS and not facts.users.complete):
            continue
        if meant := names.meant(name, there, ALIKE_NAMES):
            kind = part.removesuffix("s")
            problem = f"no {kind} is called {name}, so these settings have no effect, unless a sign-in names it"
            yield warning(facts.at(BLOCK, KEY, part, name), problem, f"did you mean {meant}?")
