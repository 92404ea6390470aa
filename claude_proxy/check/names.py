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
    "claude_proxy": {
        "users",
        "groups",
        "models",
        "fetch_hosts",
        "web_search",
        "alerts",
        "openai_routes",
        "project_tag",
        "managed_settings",
        "rules",
        "sign_in",
        "telemetry",
        "budget",
        "default_budget",
        "budget_without_store",
        "unpriced_models",
        "prices",
    },
}
# How alike two names have to be to count one as a misspelling of the other.
ALIKE = 0.8
# The same for the names of models, which are few and often short.
ALIKE_MODELS = 0.6
# The usual names of providers' keys, for misspellings of those that config.yaml does not name.
OF_PROVIDERS = frozenset(
    f"{name}_API_KEY"
    for name in (
        "AZURE", "BRAVE", "CEREBRAS", "COHERE", "DASHSCOPE", "DEEPINFRA", "DEEPSEEK", "FIREWORKS_AI", "GEMINI", "GOOGLE",
        "GROQ", "KIMI", "MINIMAX", "MISTRAL", "MOONSHOT", "NEBIUS", "NOVITA", "NVIDIA_NIM", "OPENAI", "OPENROUTER",
        "PERPLEXITYAI", "SAMBANOVA", "TAVILY", "TOGETHERAI", "XAI", "ZAI",
    )
)  # fmt: skip
# Words of a variable's name that say the same, and other names of a provider.
SAME_WORDS = {
    "TOKEN": "KEY", "SECRET": "KEY", "KEYS": "KEY", "APIKEY": "KEY", "URL": "BASE", "ENDPOINT": "BASE",
    "GOOGLE": "GEMINI", "GROK": "XAI", "GLM": "ZAI", "ZHIPU": "ZAI", "ZHIPUAI": "ZAI", "HF": "HUGGINGFACE", "QWEN": "DASHSCOPE",
    "NVIDIANIM": "NVIDIA", "PERPLEXITYAI": "PERPLEXITY", "TOGETHERAI": "TOGETHER", "FIREWORKSAI": "FIREWORKS",
}  # fmt: skip
SHORTEST_WORD = 4


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


def meant_variable(name: str, candidates: Iterable[str]) -> str | None:
    """Return the variable that a name is a misspelling of, or another name for; None when it is like none."""
    others = sorted(set(candidates) - {name})
    for same in (_letters, _words):
        if alike := [candidate for candidate in others if same(name) == same(candidate)]:
            return meant(name, alike, 0.0)
    # The names of two providers are two names: COHERE_API_KEY and CEREBRAS_API_KEY. So are those of two keys of one.
    found = meant(name, (one for one in others if not {name, one} <= OF_PROVIDERS and _stem(name) != _stem(one)))
    return found if found and _is_misspelling(name, found) else None


def _letters(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())


def _stem(name: str) -> str:
    """Return a name without the number at its end."""
    return re.sub(r"_?[0-9]+$", "", name.upper())


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a variable's name, in which API says nothing: OPENAI_KEY and OPENAI_API_KEY are one."""
    parts = [part for part in re.split(r"[^A-Z0-9]+", name.upper()) if part and part != "API"]
    return tuple(sorted(SAME_WORDS.get(part, part) for part in _joined(parts)))


def _joined(parts: list[str]) -> list[str]:
    """Return words in which a provider's name of two words is one: NVIDIA_NIM, TOGETHER_AI."""
    text = "_".join(parts)
    for word in ("NVIDIA_NIM", "PERPLEXITY_AI", "TOGETHER_AI", "FIREWORKS_AI", "OPEN_AI", "OPEN_ROUTER", "Z_AI", "X_AI"):
        text = re.sub(rf"\b{word}(?=_|$)", word.replace("_", ""), text)
    return text.split("_")


def _is_misspelling(name: str, meant: str) -> bool:
    """Whether two names differ by less than a word: OPENAI_API_KEY and ZAI_API_KEY are two names."""
    parts, others = name.upper().split("_"), meant.upper().split("_")
    if len(parts) != len(others):
        return True
    return all(one[:1] == other[:1] or _is_slip(one, other) for one, other in zip(parts, others, strict=True))


def _is_slip(word: str, meant: str) -> bool:
    """Whether a longer word lacks or doubles a letter, or has two of them swapped: ROXY for PROXY, LCAUDE for CLAUDE."""
    if min(len(word), len(meant)) < SHORTEST_WORD:
        return False
    short, long = sorted((word, meant), key=len)
    if len(long) == len(short) + 1:
        return any(long[:at] + long[at + 1 :] == short for at in range(len(long)))
    return sorted(word) == sorted(meant) and sum(one != other for one, other in zip(word, meant, strict=True)) == 2


@functools.cache
def _table() -> dict[str, list[str]]:
    text = TABLE.read_text(encoding="utf-8")
    return {head: body.split() for head, body in re.findall(r"^\[(\w+)\]\n((?:(?!\[).+\n)*)", text, re.MULTILINE)}
