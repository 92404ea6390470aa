"""Text that may be shown on one line."""


def printable(text: str) -> str:
    """Return a text without what a terminal would obey; a client or an upstream may have chosen it."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


MAX_NAME = 100


def clean(text: str, longest: int = MAX_NAME) -> str:
    """Return a text on one line: what cannot be printed is escaped, and what is too long is cut."""
    shown = printable(text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
