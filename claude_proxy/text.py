"""Makes text from clients and upstreams safe to show on one line."""


def printable(text: str) -> str:
    """Escape the characters that a terminal would interpret; a client or an upstream may have chosen the text."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


MAX_NAME = 100


def clean(text: str, longest: int = MAX_NAME) -> str:
    """Return a text on one line: non-printable characters are escaped, text beyond ``longest`` characters is cut."""
    shown = printable(text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


# Characters that start a formula in a spreadsheet.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def unformulated(text: str) -> str:
    """Return a text of a CSV file, quoted if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text
