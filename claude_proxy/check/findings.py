"""What a check finds. No secret is ever in it: labels, names and places only."""

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Level(Enum):
    """How much it matters: an ERROR makes the command fail, a WARNING works but not as somebody may think."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One thing that was found: where, what is wrong, and what to do about it."""

    level: Level
    place: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        said = f"{self.place}: {self.problem}" if self.place else self.problem
        return f"{said}; {self.remedy}" if self.remedy else said

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"level": self.level.value}


def error(place: str, problem: str, remedy: str = "") -> Finding:
    """Something does not work, or not safely."""
    return Finding(Level.ERROR, place, problem, remedy)


def warning(place: str, problem: str, remedy: str = "") -> Finding:
    """Something works, and perhaps not as it is meant."""
    return Finding(Level.WARNING, place, problem, remedy)


def info(place: str, problem: str, remedy: str = "") -> Finding:
    """Something is as it is, and good to know."""
    return Finding(Level.INFO, place, problem, remedy)
