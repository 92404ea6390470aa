"""An honest guess at a request's input tokens, for providers that cannot be asked. Plain values, no I/O."""

import json
from collections.abc import Callable, Mapping
from typing import Any

# What an image costs at Anthropic at the size that Claude Code sends (1.15 megapixels, by its documentation on vision).
IMAGE_TOKENS = 1600
# Around each message, tool and system block stand a few tokens that the text does not show.
FRAME_TOKENS = 4


def input_tokens(body: Mapping[str, Any], count: Callable[[str], int]) -> int:
    """Return about how many tokens ``system``, ``tools`` and ``messages`` are; ``count`` tells it for a text."""
    texts: list[str] = []
    images = _collect(body.get("system"), texts) + _collect(body.get("messages"), texts)
    tools = body.get("tools")
    texts += [json.dumps(tool, ensure_ascii=False) for tool in tools] if isinstance(tools, list) else []
    return max(1, count("\n".join(texts)) + FRAME_TOKENS * len(texts) + IMAGE_TOKENS * images)


def _collect(whole: Any, texts: list[str]) -> int:
    """Add a content's texts to the list and return how many images it has; base64 is not text.

    Without recursion: how deep a content is nested is up to the client.
    """
    images = 0
    waiting = [whole]
    while waiting:
        content = waiting.pop()
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            waiting += reversed(content)
        elif isinstance(content, dict):
            if content.get("type") in ("image", "document"):
                images += 1
                continue
            if "input" in content:
                texts.append(json.dumps(content["input"], ensure_ascii=False))
            waiting += [content[name] for name in ("content", "text", "thinking") if name in content]
    return images
