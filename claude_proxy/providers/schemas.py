"""Schemas of tools without references, for providers whose request LiteLLM makes by expanding them. Plain values, no I/O.

LiteLLM 1.106.2 replaces every ``$ref`` by a copy of what it refers to, without a bound: a schema of 5 kB can become 2 GB.

  1. a reference inside the schema (a JSON pointer or an ``$anchor``) becomes a copy of its target, and what stands beside the
     ``$ref`` goes on top of it;
  2. a reference to a schema that it is itself a part of becomes ``{"type": "object"}``;
  3. a reference to anything else, another document included, becomes what stands beside it; nothing is fetched;
  4. the definitions are left out; a property may be called ``definitions`` or ``$defs``;
  5. a schema that becomes too large or too deep raises ``TooLarge``.
"""

from typing import Any
from urllib.parse import unquote

from claude_proxy.providers.bounds import TooLarge

# Of all schemas of a request together. LiteLLM's translation for Gemini takes 7 µs for each value.
MAX_VALUES = 100_000
MAX_CHARACTERS = 4_000_000
# Lists, objects and references inside each other. LiteLLM answers 500 to 100 levels.
MAX_DEPTH = 80

DEFINITIONS = ("$defs", "definitions")
# Keywords whose value is an object of names that the author chose, and no schema.
NAMED = ("properties", "patternProperties", "dependentSchemas")
ANCHORS = ("$anchor", "$dynamicAnchor")


class Budget:
    """How much the schemas of one request may still grow."""

    def __init__(self) -> None:
        self._values = MAX_VALUES
        self._characters = MAX_CHARACTERS

    def spend(self, characters: int) -> None:
        """Take one value with so many characters from what is left; raise ``TooLarge`` when that is not enough."""
        self._values -= 1
        self._characters -= characters
        if self._values < 0 or self._characters < 0:
            raise TooLarge(
                f"input_schema: too large with its references expanded; the schemas of all tools may have {MAX_VALUES} values "
                f"and {MAX_CHARACTERS} characters"
            )


def expanded(schema: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """Return a schema with every reference replaced; raise ``TooLarge`` for one that becomes too large or too deep."""
    made = _Expansion(schema, budget).of(schema, frozenset(), 0)
    return made if isinstance(made, dict) else {}


class _Expansion:
    """The expansion of one schema. References are told by the object that they refer to, so every spelling is the same."""

    def __init__(self, root: dict[str, Any], budget: Budget) -> None:
        self._root = root
        self._budget = budget
        self._anchors: dict[str, Any] | None = None

    def of(self, value: Any, within: frozenset[int], depth: int, *, named: bool = False) -> Any:
        """Return a copy of a value; ``within`` holds the ids of the targets that it is a copy of a part of."""
        if depth > MAX_DEPTH:
            raise TooLarge(f"input_schema: more than {MAX_DEPTH} levels inside each other with its references expanded")
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
        """Return what a reference refers to; None when that is not in this schema."""
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
