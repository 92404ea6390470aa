"""What the processes of a proxy share: rows under keys, of which the one with the larger stamp wins."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One fact. ``stamp`` is finite, mostly Unix seconds; ``value`` is JSON text, which the store does not look into."""

    key: str
    stamp: float
    value: str
