"""The result of a check: a level, a place, a problem and a remedy. It holds no secret: labels, names and places only."""

import re
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, NamedTuple

_PLACE = re.compile(r"(?P<file>\S(?:.*\S)?) line (?P<line>\d+)(?=$|[:,])")
_FILE = re.compile(r"(?P<file>\S*\.(?:ya?ml|json|env|txt)|\.env|/\S+?)(?=$|[:,])")


class Level(Enum):
    """How serious a finding is: an ERROR makes the command fail, a WARNING works, but perhaps not as intended."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Spot(NamedTuple):
    """The file and line of a finding; None where it has none."""

    file: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Finding:
    """One problem: its place, what is wrong and why, and what to do about it."""

    level: Level
    place: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.problem}" if self.place else self.problem
        return f"{text}; {self.remedy}" if self.remedy else text

    @property
    def spot(self) -> Spot:
        """Return the file and line that ``place`` starts with."""
        if found := _PLACE.match(self.place):
            return Spot(found["file"], int(found["line"]))
        found = _FILE.match(self.place)
        return Spot(found["file"]) if found else Spot()

    def as_json(self) -> dict[str, Any]:
        """Return the finding for a program; ``message`` is the line that a user sees, without its remedy."""
        message = f"{self.place}: {self.problem}" if self.place else self.problem
        return asdict(self) | {"level": self.level.value, **self.spot._asdict(), "message": message}


def error(place: str, problem: str, remedy: str = "") -> Finding:
    """Return a finding about something that fails or is not safe."""
    return Finding(Level.ERROR, place, problem, remedy)


def warning(place: str, problem: str, remedy: str = "") -> Finding:
    """Return a finding about something that works, but perhaps not as intended."""
    return Finding(Level.WARNING, place, problem, remedy)


def info(place: str, problem: str, remedy: str = "") -> Finding:
    """Return a finding about something that is correct and useful to know."""
    return Finding(Level.INFO, place, problem, remedy)
