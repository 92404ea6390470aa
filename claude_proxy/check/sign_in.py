"""Checks of sign-in with ``/login``: whether it is possible, and its keys."""

from collections.abc import Iterator
from pathlib import Path

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.config import models, signing_keys
from claude_proxy.config.sign_in import KEY, SignIn
from claude_proxy.config.sign_in import mistakes as section_mistakes
from claude_proxy.providers.endpoints import BLOCK
from claude_proxy.signin.key_source import MAX_FILE_BYTES
from claude_proxy.signin.keys import UnusableKeys, read


def sign_in(facts: Facts) -> Iterator[Finding]:
    """Sign-in is closed although there are users, or its keys cannot be used."""
    if facts.settings is None or any(section_mistakes(facts.config)):
        return
    config = SignIn.of(facts.config)
    if not config.enabled or not (config.provider or facts.users.names):
        return
    is_redis = bool(facts.settings.redis_url or models.redis_url(facts.config, facts.environ))
    is_stored = is_redis or facts.settings.state_file != "none"
    place = signing_keys.place(facts.environ, facts.settings, redis=is_redis, store=is_stored)
    if place == signing_keys.NO_PLACE:
        return  # the launcher names one
    if place.problem:
        problem, _, remedy = place.problem.partition(": ")
        yield warning(facts.at(BLOCK, KEY), f"sign-in with /login is closed: {problem}", remedy)
    elif place.path is not None:
        yield from _file(place.path)


def _file(path: Path) -> Iterator[Finding]:
    remedy = "`claude-proxy sign-in rotate-keys --discard-old` makes new ones"
    try:
        status = path.stat()
        with path.open("rb") as file:
            read(file.read(MAX_FILE_BYTES))
    except FileNotFoundError:
        return  # the start makes it
    except OSError as problem:
        yield error(
            str(path), f"the signing keys cannot be read ({problem.strerror}), so sign-in with /login is closed", remedy
        )
    except UnusableKeys as problem:
        yield error(str(path), f"the signing keys cannot be used: {problem}; sign-in with /login is closed", remedy)
    else:
        if status.st_mode & 0o077:
            words = f"other users of this machine can use the signing keys (mode {status.st_mode & 0o777:03o})"
            yield error(str(path), words, f"run `chmod 600 {path}`, then `claude-proxy sign-in rotate-keys --discard-old`")
