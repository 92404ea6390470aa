"""Checks of .env and config.yaml as files: errors of the start, their names, unknown and repeated keys. No network."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from claude_proxy.check import names
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.check.placing import placed
from claude_proxy.check.yaml_text import remedy_of_misplaced
from claude_proxy.config.models import CALLBACK, OF_ENTRY, misnamed_list, variables
from claude_proxy.config.settings import OWN_USERS_FILE, SECRET_NAMES
from claude_proxy.config.static_token import OWN_FILE as OWN_TOKEN_FILE
from claude_proxy.config.users import FILE_VARIABLE, HASH_PREFIX, UnsafeFile, parse_lines, read_file
from claude_proxy.providers.endpoints import BLOCK

READABLE = stat.S_IRGRP | stat.S_IROTH
ROOT = Path(__file__).resolve().parents[2]
# Sections of config.yaml whose keys are checked one by one.
SECTIONS = ("router_settings", "litellm_settings", "general_settings", "claude_proxy")
# Names under which an editor or a file manager saves the two files, and which nothing reads.
OTHER_NAMES = {
    "config.yml": "config.yaml", "config.yaml.txt": "config.yaml", "config.yaml.yaml": "config.yaml",
    "Config.yaml": "config.yaml", ".env.txt": ".env", "env.txt": ".env", ".env.env": ".env",
    "credentials.yml": "credentials.yaml", "credentials.yaml.txt": "credentials.yaml",
}  # fmt: skip
# Keys of litellm_params that users write at the top of the file where the indentation is lost.
OF_PARAMS = ("model", "api_base", "api_key", "api_version")
OF_INFO = ("access_groups", "chat_server", "max_input_tokens", "max_output_tokens", "mode")
# What users write for a parameter of LiteLLM, which is not like enough to be taken for a misspelling.
OTHER_PARAMS = {
    "url": "api_base", "endpoint": "api_base", "host": "api_base", "server": "api_base", "api_url": "api_base",
    "address": "api_base", "key": "api_key", "token": "api_key", "api_token": "api_key", "auth_token": "api_key",
}  # fmt: skip
# Sections whose settings have another home in this project.
OTHER_HOMES = {
    "num_workers": "NUM_WORKERS in .env",
    "port": "PORT in .env",
    "host": "HOST in .env",
    "database_url": "DATABASE_URL in .env",
}
# LiteLLM knows it there, and this proxy would not know of the database.
MOVED = frozenset({("general_settings", "database_url")})


def mistakes(facts: Facts) -> Iterator[Finding]:
    """The errors that keep the proxy from starting, each with its line."""
    for mistake in facts.mistakes:
        yield placed(mistake, facts)
    for note in facts.notes:
        yield warning("", note)


def file_names(facts: Facts) -> Iterator[Finding]:
    """Files beside config.yaml and .env that were meant to be one of them: nothing reads them."""
    folder = facts.config_path.parent if facts.config_path.name == "config.yaml" else facts.dotenv.path.parent
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError:
        return
    for other, right in OTHER_NAMES.items():
        meant = folder / right
        if other in there and not (meant.exists() and meant.samefile(folder / other)):  # a disk may ignore case
            say = warning if meant.exists() else error
            yield say(other, "is not read", f"its name should be {right}")


def other_files(facts: Facts) -> Iterator[Finding]:
    """Files and servers that config.yaml needs: without them LiteLLM does not start."""
    folder = facts.config_path.parent
    included = facts.config.get("include")
    for place, name in enumerate(included if isinstance(included, list) else ()):
        if not (folder / str(name)).exists():
            yield error(
                facts.at("include", place), f"include names {name}, which does not exist", "remove the entry, or add it"
            )
    for place, callback in enumerate(facts.listed("litellm_settings", "callbacks")):
        if not isinstance(callback, str):
            continue  # it may hold a secret
        module = str(callback).rpartition(".")[0].replace(".", "/")
        is_there = not module or str(callback) == CALLBACK or any((root / f"{module}.py").exists() for root in (folder, ROOT))
        if not is_there:
            problem = f"callbacks names {callback}, and there is no {module}.py beside config.yaml, so LiteLLM does not start"
            yield error(facts.at("litellm_settings", "callbacks", place), problem, "remove it, or add the file")
    settings, params = facts.section("litellm_settings"), facts.section("litellm_settings").get("cache_params") or {}
    of_redis = isinstance(params, dict) and str(params.get("type", "redis")).startswith("redis")
    named = isinstance(params, dict) and any(params.get(name) for name in ("host", "url", "redis_startup_nodes"))
    if settings.get("cache") is True and of_redis and not named and not facts.environ.get("REDIS_HOST"):
        problem = "cache needs a Redis of LiteLLM's own, and REDIS_HOST is not set, so LiteLLM does not start"
        yield error(
            facts.at("litellm_settings", "cache"), problem, "set REDIS_HOST in .env, or write cache_params: {type: local}"
        )


def repeated_keys(facts: Facts) -> Iterator[Finding]:
    """YAML keeps the last of two equal keys silently. Keys below a repeated one are not reported again."""
    doubled = {path for path, _ in facts.lines.twice}
    for path, line in facts.lines.twice:
        if any(path[:end] in doubled for end in range(1, len(path))):
            continue
        first = facts.lines.found[path]
        problem = f"{path[-1]} is there twice (first in line {first}), and only the last one is read"
        yield error(f"{facts.config_path.name} line {line}", problem, _kept(facts, path))


def _kept(facts: Facts, path: tuple[str | int, ...]) -> str:
    """Return what to do about a repeated key: a whole section is not to be lost."""
    if len(path) > 1:
        return "keep one"
    return f"keep one, with the {'entries' if isinstance(facts.config.get(str(path[0])), list) else 'keys'} of both below it"


def unknown_keys(facts: Facts) -> Iterator[Finding]:
    """A key that nothing reads: a misspelling is an error, because what it should set is not set."""
    if "include" in facts.config:
        yield warning(facts.at("include"), "the files that it names are not checked, and their changes need a restart")
    yield from _unknown(facts, "top", (), facts.config)
    for section in SECTIONS:
        yield from _unknown(facts, section, (section,), facts.section(section))
    # Of two lists the lines would be those of the one that is not read.
    for place, entry in facts.models if facts.has_models else ():
        yield from _unknown(facts, "model_list", ("model_list", place), entry)
        yield from _unknown(facts, "litellm_params", ("model_list", place, "litellm_params"), entry["litellm_params"])


def _unknown(facts: Facts, section: str, path: tuple[str | int, ...], keys: Iterable[object]) -> Iterator[Finding]:
    for key in keys:
        name = str(key)
        is_reported = section == "top" and (name in names.OURS[BLOCK] or name == misnamed_list(facts.config))
        is_right = names.is_known(section, name) and (section, name) not in MOVED
        if is_right or is_reported:
            continue  # the latter keeps the proxy from starting
        at = facts.at(*path, name)
        if name in OF_ENTRY and section in ("top", *SECTIONS):
            # One of the three stands for the entry.
            if name == next(key for key in keys if key in OF_ENTRY):
                yield _misplaced(facts, at, section, name)
            continue
        if home := _home(section, name):
            where = "at the top of the file" if section == "top" else f"in {section}"
            yield error(at, f"{name} is not known {where}", home)
            continue
        inside = "" if section == "top" else f" in {section}"
        other = OTHER_PARAMS.get(name.lower()) if section == "litellm_params" else None
        meant = other if other and other not in keys else names.meant(name, names.known(section))
        if section == "litellm_params" and name == "provider":
            yield error(at, f"{name} is not known{inside}", "write the provider in front of the model: PROVIDER/MODEL")
        elif meant:
            yield error(at, f"{name} is not known{inside}", f"did you mean {meant}?")
        elif section == "litellm_params":
            yield info(at, f"{name} is not known to LiteLLM, which sends it to the provider unchanged")
        else:
            yield warning(at, f"{name} is not known{inside}, and nothing reads it", "remove it, or look for its right name")


def _misplaced(facts: Facts, at: str, section: str, name: str) -> Finding:
    """Return the error of a model that is below another section and has lost its dash."""
    where = "at the top of the file" if section == "top" else f"below {section}"
    remedy = f"write `- model_name: ...`, and {remedy_of_misplaced(facts.config_text)}"
    return error(at, f"{name} is {where}, and belongs to an entry of model_list", remedy)


def _home(section: str, name: str) -> str:
    """Return where a key belongs that is known somewhere else; empty for one that is not."""
    if section == "top" and name in OF_PARAMS:
        return "indent it below litellm_params"
    if section == "model_list" and (home := _home_in_entry(name)):
        return home
    if name in OTHER_HOMES and section in ("top", "general_settings", "router_settings", "litellm_settings"):
        return f"write {OTHER_HOMES[name]}"
    if section == "litellm_params" and name in OF_ENTRY:
        return "it belongs beside litellm_params, indented as far as that"
    elsewhere = next((one for one in SECTIONS if one != section and names.is_known(one, name)), None)
    if elsewhere and (section == "top" or (section in SECTIONS and not names.meant(name, names.known(section)))):
        return f"it belongs under {elsewhere}"
    return ""


def _home_in_entry(name: str) -> str:
    """Return where a key belongs that is beside litellm_params; empty for one that is not known below it."""
    if name in OF_INFO:
        return "it belongs under model_info, which is beside litellm_params"
    if name in OF_PARAMS or (name != "model_info" and names.is_known("litellm_params", name)):
        return "it belongs under litellm_params, indented further than that"
    return ""


def permissions(facts: Facts) -> Iterator[Finding]:
    """A user who can read .env, the users file or a file of a secret has every secret in it."""
    if facts.dotenv.mode & READABLE:
        readers = "every user of this machine" if facts.dotenv.mode & stat.S_IROTH else "its group"
        yield warning(".env", f"can be read by {readers}", "`chmod 600 .env`")
    users = facts.environ.get(FILE_VARIABLE, "").strip() or facts.environ.get(OWN_USERS_FILE, "")
    secrets = {*SECRET_NAMES, *variables(dict(facts.config))}
    named = [facts.environ.get(f"{name}_FILE", "").strip() for name in sorted(secrets) if f"{name}_FILE" != FILE_VARIABLE]
    paths = [users if holds_tokens(users) else "", facts.environ.get(OWN_TOKEN_FILE, ""), *named]
    yield from private(Path(path) for path in dict.fromkeys(paths) if path)


def private(paths: Iterable[Path]) -> Iterator[Finding]:
    """Yield a warning for each file of the proxy's own user that others can read.

    A file of another user is mounted, as in a container, and its mode may be what lets the proxy read it.
    """
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & READABLE:
            yield warning(str(path), "can be read by other users of this machine", f"`chmod 600 {path}`")


def holds_tokens(path: str) -> bool:
    """Whether a users file has a token itself, and not only hashes."""
    try:
        found = read_file(Path(path)) if path else None
    except (OSError, UnsafeFile):
        return False
    return found is not None and any(HASH_PREFIX not in text for _, text in parse_lines(found[0]))
