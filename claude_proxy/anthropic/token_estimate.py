"""An honest guess at a request's input tokens, for providers that cannot be asked. Plain values, no I/O."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

# What an image costs at Anthropic at the size that Claude Code sends (1.15 megapixels, by its documentation on vision).
IMAGE_TOKENS = 1600
# Around each message, tool and system block stand a few tokens that the text does not show.
FRAME_TOKENS = 4
# About so many characters make a token, where nobody counts.
CHARACTERS_PER_TOKEN = 4


def input_tokens(body: Mapping[str, Any], count: Callable[[str], int]) -> int:
    """Return about how many tokens ``system``, ``tools`` and ``messages`` are; ``count`` tells it for a text."""
    system, messages = texts_of(body.get("system")), texts_of(body.get("messages"))
    tools = body.get("tools")
    described = [json.dumps(tool, ensure_ascii=False) for tool in tools] if isinstance(tools, list) else []
    texts = [*system[0], *messages[0], *described]
    return max(1, tokens_of(texts, count) + IMAGE_TOKENS * (system[1] + messages[1]))


def tokens_of(texts: list[str], count: Callable[[str], int]) -> int:
    """Return about how many tokens these texts are in a request."""
    return count("\n".join(texts)) + FRAME_TOKENS * len(texts)


def texts_of(whole: Any, left_out: Collection[str] = ()) -> tuple[list[str], int]:
    """Return a content's texts, and how many pictures and files it has; base64 is not text. ``left_out`` are types of blocks.

    Without recursion: how deep a content is nested is up to the client.
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
