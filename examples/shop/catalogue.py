"""The catalogue: a file of names."""

from __future__ import annotations

from shop import neighbours


def everything() -> list[str]:
    """Return all names."""
    with open(neighbours.addresses["catalogue"], encoding="utf-8") as file:
        return file.read().split()
