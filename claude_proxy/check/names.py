"""The names that LiteLLM and this project know in config.yaml, and the known name that is most like a wrong one.

LiteLLM's are a table, because importing LiteLLM takes seconds; ``tests/test_contract.py`` compares it with LiteLLM, and
``tests/litellm_names.py`` writes it.
"""

import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path

TABLE = Path(__file__).with_name("litellm_names.txt")
# Prices: an open family of names.
PRICE = re.compile(r"_cost(_|$)|_uplift_multiplier")
# Keys that this project or a provider reads, and that LiteLLM passes on without knowing them.
OURS = {
    "top": {"claude_proxy"},
    "litellm_params": {"extra_body", "extra_headers", "top_k", "min_p", "repetition_penalty", "think", "num_ctx", "keep_alive"},
    "model_list": {"model_name", "litellm_params", "model_info"},
    "claude_proxy": {"users", "models", "fetch_hosts", "sign_in", "web_search"},
}
# How alike two names have to be to count one as a misspelling of the other.
ALIKE = 0.8
# The same for the names of models, which are few and often short.
ALIKE_MODELS = 0.6


@functools.cache
def known(section: str) -> frozenset[str]:
    """Return the names of a section: those of LiteLLM and of this project."""
    return frozenset(_table().get(section, ())) | OURS.get(section, set())


def is_known(section: str, name: str) -> bool:
    """Whether LiteLLM or this project reads the name there."""
    return name in known(section) or (section == "litellm_params" and PRICE.search(name) is not None)


def meant(name: str, candidates: Iterable[str], alike: float = ALIKE) -> str | None:
    """Return the known name that is most like a wrong one, whatever their case; None when none is like it."""
    lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), list(lower), 1, alike)
    return lower[found[0]] if found else None


@functools.cache
def _table() -> dict[str, list[str]]:
    text = TABLE.read_text(encoding="utf-8")
    return {head: body.split() for head, body in re.findall(r"^\[(\w+)\]\n((?:(?!\[).+\n)*)", text, re.MULTILINE)}
