"""Estimates a request's input tokens, for providers without a token-count endpoint. Plain values, no I/O."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

# The cost of an image at Anthropic, at the size that Claude Code sends (1.15 megapixels; source: its documentation on vision).
IMAGE_TOKENS = 1600
# Each message, tool and system block costs a few tokens beyond its text.
FRAME_TOKENS = 4
# The average for a model without a tokenizer here.
CHARACTERS_PER_TOKEN = 4


def input_tokens(body: Mapping[str, Any], count: Callable[[str], int]) -> int:
    """Return the estimated tokens of ``system``, ``tools`` and ``messages``; ``count`` counts the tokens of a text."""
    system, messages = texts_of(body.get("system")), texts_of(body.get("messages"))
    tools = body.get("tools")
    described = [json.dumps(tool, ensure_ascii=False) for tool in tools] if isinstance(tools, list) else []
    texts = [*system[0], *messages[0], *described]
    return max(1, tokens_of(texts, count) + IMAGE_TOKENS * (system[1] + messages[1]))


def tokens_of(texts: list[str], count: Callable[[str], int]) -> int:
    """Return the estimated tokens of these texts in a request."""
    return count("\n".join(texts)) + FRAME_TOKENS * len(texts)


def texts_of(whole: Any, left_out: Collection[str] = ()) -> tuple[list[str], int]:
    """Return a content's texts, and its number of images and documents (base64 is no text), without the types ``left_out``.

    Without recursion, because the client decides how deep its content is nested.
    """
    texts: list[str] = []
    images = 0
    waiting = [whole]
    while waiting:
        content = waiting.pop()
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            waiting += reversed(content)
        elif isinstance(content, dict):
            kind = content.get("type")
            if kind in ("image", "document"):
                images += 1
                continue
            if left_out and kind in left_out:
                continue
            if "input" in content:
                texts.append(json.dumps(content["input"], ensure_ascii=False))
            waiting += [content[name] for name in ("content", "text", "thinking") if name in content]
    return texts, images
