"""Checks of the two files as files: what stops a start, keys that nobody reads, lines that are none. No network."""

import stat
from collections.abc import Iterable, Iterator

from claude_proxy.check import names
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.config import models
from claude_proxy.config.settings import VARIABLES
from claude_proxy.providers.endpoints import BLOCK

# Sections of config.yaml whose keys are looked at one by one.
SECTIONS = ("router_settings", "litellm_settings", "general_settings", "claude_proxy")
# Variables of Claude Code's and of LiteLLM's that may stand in a .env, beside this project's and those of config.yaml.
MORE_VARIABLES = ("ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_MODEL", "LITELLM_LOG")


def mistakes(facts: Facts) -> Iterator[Finding]:
    """What stops a start, in the words of the start."""
    for mistake in facts.mistakes:
        yield error("", mistake)
    for note in facts.notes:
        yield warning("", note)


def config_name(facts: Facts) -> Iterator[Finding]:
    """LiteLLM passes over a file whose name does not end in .yaml."""
    other = facts.config_path.with_suffix(".yml")
    if other.exists():
        say = error if not facts.config_path.exists() else warning
        yield say(other.name, "is not read", "its name should be config.yaml")


def repeated_keys(facts: Facts) -> Iterator[Finding]:
    """YAML keeps the last of two equal keys, without a word. What is below them is not told again."""
    doubled = {path for path, _ in facts.lines.twice}
    for path, line in facts.lines.twice:
        if any(path[:end] in doubled for end in range(1, len(path))):
            continue
        first = facts.lines.found[path]
        yield error(
            f"{facts.config_path.name} line {line}", f"{path[-1]} stands there twice (first in line {first})", "keep one"
        )


def unknown_keys(facts: Facts) -> Iterator[Finding]:
    """A key that nobody reads: a misspelling is an error, for what it was meant to say is not in force."""
    if "include" in facts.config:
        yield warning(facts.at("include"), "the files that it names are not checked, nor taken up when they change")
    yield from _unknown(facts, "top", (), facts.config)
    for section in SECTIONS:
        yield from _unknown(facts, section, (section,), facts.section(section))
    # Of two lists the lines would be those of the one that does not count.
    for place, entry in facts.models if facts.has_models else ():
        yield from _unknown(facts, "model_list", ("model_list", place), entry)
        yield from _unknown(facts, "litellm_params", ("model_list", place, "litellm_params"), entry["litellm_params"])


def _unknown(facts: Facts, section: str, path: tuple[str | int, ...], keys: Iterable[object]) -> Iterator[Finding]:
    for key in keys:
        name = str(key)
        if names.is_known(section, name) or (section == "top" and name in names.OURS[BLOCK]):
            continue  # the latter stops a start, which says so
        inside = "" if section == "top" else f" in {section}"
        meant = names.meant(name, names.known(section))
        home = next((one for one in SECTIONS if section == "top" and names.is_known(one, name)), None)
        if home:
            yield error(facts.at(*path, name), f"{name} is not known at the top of the file", f"it belongs under {home}")
        elif meant:
            yield error(facts.at(*path, name), f"{name} is not known{inside}", f"did you mean {meant}?")
        elif section == "litellm_params":
            yield info(facts.at(*path, name), f"{name} is not known to LiteLLM, which sends it to the provider as it is")
        else:
            yield warning(facts.at(*path, name), f"{name} is not known{inside}", "nobody reads it")


def dotenv_lines(facts: Facts) -> Iterator[Finding]:
    """Lines of .env that are no NAME=value, names that stand there twice, and names that are almost a known one."""
    for line in facts.dotenv.unreadable:
        yield error(f".env line {line}", "is not NAME=value", "nothing of it is read")
    for name in facts.dotenv.twice:
        yield warning(facts.dotenv.place(name), "stands there twice, and the last one counts", "keep one")
    known = {*VARIABLES, *models.variables(dict(facts.config)), *MORE_VARIABLES}
    known |= {f"{name}_FILE" for name in known}
    for name in facts.dotenv.values:
        if name not in known and not name.startswith(("ANTHROPIC_DEFAULT_", "CLAUDE_CODE_")):
            meant = names.meant(name, {one for one in known if not facts.dotenv.values.get(one)})
            if meant and _is_misspelling(name, meant):
                yield error(facts.dotenv.place(name), "is not a known variable", f"did you mean {meant}?")


def _is_misspelling(name: str, meant: str) -> bool:
    """Whether two names differ by less than a word: OPENAI_API_KEY and ZAI_API_KEY are two names."""
    parts, others = name.upper().split("_"), meant.split("_")
    return len(parts) != len(others) or all(one[:1] == other[:1] for one, other in zip(parts, others, strict=True))


def permissions(facts: Facts) -> Iterator[Finding]:
    """Whoever can read .env has every secret in it."""
    if facts.dotenv.mode & (stat.S_IRGRP | stat.S_IROTH):
        everybody = "everybody" if facts.dotenv.mode & stat.S_IROTH else "its group"
        yield warning(".env", f"can be read by {everybody} on this machine", "`chmod 600 .env`")
