"""Prices in other currencies."""

from __future__ import annotations

import urllib.request

from shop import neighbours


def in_euros(dollars: float) -> float:
    """Return a price in euros, by the rate of the moment."""
    with urllib.request.urlopen(neighbours.addresses["rates"]) as answer:
        return round(dollars * float(answer.read()), 2)
