"""Expands references in tools' schemas, for providers whose request LiteLLM makes. Plain values, no I/O.

LiteLLM 1.106.2 replaces every ``$ref`` with a copy of its target, without a limit: a schema of 5 kB can become 2 GB.

  1. a reference inside the schema (a JSON pointer or an ``$anchor``) becomes a copy of its target, overridden by the keywords
     beside the ``$ref``;
  2. a reference to a schema that contains the reference becomes ``{"type": "object"}``;
  3. any other reference, such as one to another document, becomes the keywords beside it; nothing is fetched;
  4. definitions are removed, but a property may be named ``definitions`` or ``$defs``;
  5. a schema that becomes too large or too deep raises ``TooLarge``.
"""

from typing import Any
from urllib.parse import unquote

from claude_proxy.providers.bounds import TooLarge

# For all schemas of a request together. LiteLLM's translation for Gemini needs 7 µs for each value.
MAX_VALUES = 100_000
MAX_CHARACTERS = 4_000_000
# Nested lists, objects and references. LiteLLM responds 500 to 100 levels.
MAX_DEPTH = 80

DEFINITIONS = ("$defs", "definitions")
# Keywords whose value maps names chosen by the author to schemas.
NAMED = ("properties", "patternProperties", "dependentSchemas")
ANCHORS = ("$anchor", "$dynamicAnchor")


class Budget:
    """How much the schemas of one request may still grow."""

    def __init__(self) -> None:
        self._values = MAX_VALUES
        self._characters = MAX_CHARACTERS

    def spend(self, characters: int) -> None:
        """Use up one value with so many characters; raise ``TooLarge`` if the budget is exceeded."""
        self._values -= 1
        self._characters -= characters
        if self._values < 0 or self._characters < 0:
            raise TooLarge(
                f"input_schema: too large after its references are expanded; the schemas of all tools may have {MAX_VALUES} "
                f"values and {MAX_CHARACTERS} characters"
            )


def expanded(schema: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """Return a schema without references; raise ``TooLarge`` if it becomes too large or too deep."""
    made = _Expansion(schema, budget).of(schema, frozenset(), 0)
    return made if isinstance(made, dict) else {}


class _Expansion:
    """The expansion of one schema. A target is identified by its object, so different spellings of a reference are equal."""

    def __init__(self, root: dict[str, Any], budget: Budget) -> None:
        self._root = root
        self._budget = budget
        self._anchors: dict[str, Any] | None = None

    def of(self, value: Any, within: frozenset[int], depth: int, *, named: bool = False) -> Any:
        """Return a copy of a value; ``within`` has the ids of the targets that are being copied around it."""
        if depth > MAX_DEPTH:
            raise TooLarge(f"input_schema: nested more than {MAX_DEPTH} levels deep after its references are expanded")
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                return self._referenced(value, within, depth)
            self._budget.spend(sum(map(len, value)))
            return {
                name: self.of(inner, within, depth + 1, named=name in NAMED and not named)
                for name, inner in value.items()
                if named or name not in DEFINITIONS
            }
        self._budget.spend(len(value) if isinstance(value, str) else 0)
        return [self.of(inner, within, depth + 1) for inner in value] if isinstance(value, list) else value

    def _referenced(self, value: dict[str, Any], within: frozenset[int], depth: int) -> Any:
        self._budget.spend(len(value["$ref"]))
        beside = {name: inner for name, inner in value.items() if name != "$ref"}
        target = self._target(value["$ref"])
        made: dict[str, Any] = {}
        if target is self._root or id(target) in within:
            made = {"type": "object"}
        elif isinstance(target, dict):
            made = self.of(target, within | {id(target)}, depth + 1)
        return made | self.of(beside, within, depth + 1) if beside else made

    def _target(self, reference: str) -> Any:
        """Return the target of a reference; None if it is not in this schema."""
        fragment = unquote(reference[1:])
        if not reference.startswith("#"):
            return None
        if fragment and not fragment.startswith("/"):
            return self._anchored(fragment)
        found: Any = self._root
        for part in fragment.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and len(name) < 6 and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                return None
        return found

    def _anchored(self, name: str) -> Any:
        if self._anchors is None:
            self._anchors = {}
            waiting: list[Any] = [self._root]
            while waiting:
                value = waiting.pop()
                if isinstance(value, dict):
                    anchors = (value.get(anchor) for anchor in ANCHORS)
                    self._anchors |= {anchor: value for anchor in anchors if isinstance(anchor, str)}
                    waiting += value.values()
                elif isinstance(value, list):
                    waiting += value
        return self._anchors.get(name)
