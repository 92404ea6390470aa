"""Rows of Claude Code's ``/model``: which Claude model Claude Code treats another model as, by its window."""

from dataclasses import dataclass

USUAL_CONTEXT, LONG_CONTEXT = 200_000, 1_000_000
# With `behavesAs` in a row of modelPicker, Claude Code treats a model as a Claude model that it knows: the same window and the
# same effort levels. The largest window first. A row has no field for the window itself.
KNOWN_MODELS = {LONG_CONTEXT: "claude-opus-4-8", USUAL_CONTEXT: "claude-sonnet-4-6"}
# For a model without `behavesAs`, Claude Code 2.1.332 prints `[claude-code:unrecognized_model]`. So the block's own model
# behaves as a model with a larger window, and this variable keeps conversations within its own. Claude Code raises a smaller
# value to LEAST_COMPACT, so a model with a smaller window has no `behavesAs`.
COMPACT_VARIABLE, LEAST_COMPACT = "CLAUDE_CODE_AUTO_COMPACT_WINDOW", 100_000


@dataclass(frozen=True)
class Row:
    """A model in Claude Code's ``/model``, with the window that it has."""

    model: str
    context: int
    # The Claude model that Claude Code treats it as. Without one, the window is that of CLAUDE_CODE_MAX_CONTEXT_TOKENS.
    behaves_as: str | None

    def fields(self) -> dict[str, str]:
        """Return the row as settings.json has it."""
        shown = {"model": self.model, "label": self.model, "description": described(self.context)}
        return shown | ({"behavesAs": self.behaves_as} if self.behaves_as else {})


def described(context: int) -> str:
    """Return what Claude Code shows beside a model's name."""
    return f"Through claude-proxy, {context:,} tokens"


def smaller_known(size: int) -> str | None:
    """Return the Claude model with the largest window that is at most ``size``; None if there is none."""
    return next((known for window, known in KNOWN_MODELS.items() if window <= size), None)


def larger_known(size: int) -> str | None:
    """Return the Claude model with the smallest window that is at least ``size``, or the largest one.

    None below ``LEAST_COMPACT``, because no setting keeps a conversation within such a window.
    """
    windows = [window for window in KNOWN_MODELS if window >= size] or [LONG_CONTEXT]
    return KNOWN_MODELS[min(windows)] if size >= LEAST_COMPACT else None


def needs_compact_variable(size: int) -> bool:
    """Return whether ``larger_known`` has a larger window than ``size``."""
    return LEAST_COMPACT <= size < LONG_CONTEXT and size not in KNOWN_MODELS
