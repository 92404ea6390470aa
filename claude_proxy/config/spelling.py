"""What a name that nothing reads was meant to be."""

import difflib
from collections.abc import Collection

# How alike two names are, from 0 to 1, if one is a misspelling of the other; and how much of a wrong name is shown.
ALIKE = 0.6
MAX_SHOWN = 100


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that is most like a wrong one, whatever its case; None if none is like it."""
    return next(iter(difflib.get_close_matches(name.lower(), known, 1, ALIKE)), None)


def unknown(name: object, known: Collection[str], otherwise: str = "") -> str:
    """Return the words for a key that is not known: the one that was meant, or ``otherwise``, or all that are known."""
    text = str(name)
    near = nearest(text, known)
    return f"{text[:MAX_SHOWN]} is not known; " + (
        f"did you mean {near}?" if near else otherwise or f"the keys are {', '.join(known)}"
    )
