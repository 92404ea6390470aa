"""Recognises providers' errors for a conversation that is too long, and rewrites them for Claude Code. No I/O.

Claude Code (2.1.332) retries with fewer tokens after "input length and `max_tokens` exceed context limit: A + B > C", and
compacts after "prompt is too long: N tokens > M maximum". After other messages it retries unchanged or ends the session.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

# Longer messages quote the request.
MAX_MESSAGE = 4096
MAX_NUMBER = 10**9
_N = r"(?P<{}>[0-9][0-9,_]{{0,12}})"


@dataclass(frozen=True)
class Overflow:
    """By how much a request is too long, in tokens; None for numbers that the provider did not report."""

    window: int | None = None
    input: int | None = None
    output: int | None = None

    def sentence(self, estimate: Callable[[], int], max_tokens: int | None) -> str:
        """Return Anthropic's message. ``estimate`` counts the input if the provider did not report it."""
        given, window = self.input, self.window
        output = self.output if self.output is not None else max_tokens
        if given is None:
            given = estimate()
            # An estimate must not say that the request fits.
            if window is not None and output is not None and given + output <= window:
                given = window - output + 1
        if window is None:
            window = given - 1
        if given < window and output:
            return (
                f"input length and `max_tokens` exceed context limit: {given} + {output} > {window}, "
                "decrease input length or `max_tokens` and try again"
            )
        return f"prompt is too long: {max(given, window + 1)} tokens > {window} maximum"


def _pattern(*parts: str) -> re.Pattern[str]:
    text = "".join(parts)
    for name in ("window", "input", "output", "total", "over"):
        text = text.replace(f"<{name}>", _N.format(name))
    return re.compile(text, re.IGNORECASE)


# The most informative patterns first, each with the providers that use it. `.{0,200}` bounds the search.
PATTERNS = (
    # Anthropic's own messages, which some providers use.
    _pattern(r"exceed context limit: <input> \+ <output> > <window>"),
    _pattern(r"prompt is too long: <input> tokens > <window>"),
    # vLLM since 0.9.
    _pattern(r"maximum context length is <window> tokens and your request has <input> input tokens(?: \(<output> >)?"),
    # OpenAI, Azure, vLLM, DeepSeek, SGLang: "... you requested 44345 tokens (12345 in the messages, 32000 in the completion)".
    _pattern(
        r"maximum context length is <window> tokens.{0,80}?requested (?:about )?<total> tokens "
        r"\(<input> (?:in|of)[^,]{0,40}, <output> in"
    ),
    # OpenRouter: "(118000 of text input, 4000 of tool input, 32000 in the output)".
    _pattern(
        r"maximum context length is <window> tokens.{0,80}?requested (?:about )?<total> tokens "
        r"\([^)]{0,120}?<output> in the output"
    ),
    _pattern(r"maximum context length is <window> tokens.{0,80}?messages resulted in <input> tokens"),
    _pattern(r"maximum context length (?:is|of) <window>"),
    # Mistral; xAI; Gemini; llama.cpp; GitHub Copilot; Groq and Fireworks; Bedrock.
    _pattern(r"prompt contains <input> tokens.{0,80}?model with <window> maximum context length"),
    _pattern(r"maximum prompt length is <window> but the request contains <input> tokens"),
    _pattern(r"input token count \(?<input>\)? exceeds the maximum number of tokens allowed \(?<window>"),
    _pattern(r"request \(<input> tokens\) exceeds the available context size \(<window> tokens\)"),
    _pattern(r"prompt token count of <input> exceeds the limit of <window>"),
    _pattern(r"prompt is too long: <input>, model maximum context length: <window>"),
    _pattern(r"prompt too long; exceeded (?:max )?context length by <over> tokens"),
    _pattern(r"input length \(?<input>\)? .{0,40}?exceeds? .{0,60}?(?:context|maximum).{0,40}?<window>"),
)
# Messages without a number.
SENTENCES = (
    "exceeds the context window", "exceed the context window", "context_length_exceeded", "exceed_context_size_error",
    "model_max_prompt_tokens_exceeded", "input is too long for requested model", "reduce the length of the messages",
    "is longer than the model's context length", "input tokens exceed the configured limit",
    "exceeds the available context size",
    "exceeds the maximum number of tokens allowed", "maximum context length", "maximum context limit",
    "prompt too long", "too many input tokens",
    "prompt is too long", "exceed context limit", "context window exceeded", "context length exceeded",
)  # fmt: skip
# OpenAI's reasoning models, if max_tokens is used up before the first word: in Anthropic's format a message that was cut off.
NO_ROOM = "could not finish the message because max_tokens or model output limit was reached"


def overflow_in(message: str) -> Overflow | None:
    """Return by how much a request was too long, from an error's message and code; None for another error."""
    text = message[:MAX_MESSAGE]
    for pattern in PATTERNS:
        if found := pattern.search(text):
            numbers = {name: _number(value) for name, value in found.groupdict().items() if value}
            return Overflow(numbers.get("window"), numbers.get("input"), numbers.get("output"))
    lower = text.lower()
    return Overflow() if any(sentence in lower for sentence in SENTENCES) else None


def has_no_room(message: str) -> bool:
    """Whether a model reached its length limit before its first word."""
    return NO_ROOM in message[:MAX_MESSAGE].lower()


def _number(text: str) -> int:
    return min(int(text.replace(",", "").replace("_", "") or 0), MAX_NUMBER)
