"""Recommendations: what is written like what was bought."""

from __future__ import annotations

_NAMES = [
    f"{first}{second}{number}"
    for first in ("tea", "pot")
    for second in ("cup", "tin")
    for number in range(8_000)
]


def nearest(name: str) -> str:
    """Return the name that takes the fewest changes."""
    return min(_NAMES, key=lambda other: _changes(name, other))


def _changes(one: str, other: str) -> int:
    """Return how many letters have to be put in, taken out or exchanged."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, start=1):
        last, row[0] = row[0], number
        for column, wanted in enumerate(other, start=1):
            changed = last + (letter != wanted)
            last = row[column]
            row[column] = min(changed, last + 1, row[column - 1] + 1)
    return row[-1]
