"""The line of each key and entry in a YAML file, and the keys that are there twice."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Lines:
    """Lines, from 1, by the path of keys and places to a value; ``twice`` holds the path and line of each repeated key."""

    found: dict[Path, int] = field(default_factory=dict)
    twice: tuple[tuple[Path, int], ...] = ()

    def at(self, *path: str | int) -> str:
        """Return ``line 7`` for the longest known start of a path; empty where nothing is known."""
        for end in range(len(path), 0, -1):
            if line := self.found.get(path[:end]):
                return f"line {line}"
        return ""


@functools.lru_cache(maxsize=2)
def lines_of(text: str) -> Lines:
    """Read the lines of a YAML text; empty for a text that is not YAML."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return Lines()
    found: dict[Path, int] = {}
    twice: list[tuple[Path, int]] = []
    for path, line in _walk(root, ()):
        if path in found:
            twice.append((path, line))
        found.setdefault(path, line)
    return Lines(found, tuple(twice))


def _walk(node: yaml.Node | None, path: Path) -> Iterator[tuple[Path, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                below = (*path, str(key.value))
                yield below, key.start_mark.line + 1
                yield from _walk(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            yield (*path, place), value.start_mark.line + 1
            yield from _walk(value, (*path, place))
