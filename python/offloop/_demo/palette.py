"""The colours and the words of the timelines, the same in PNG and HTML."""

from __future__ import annotations

BACKGROUND = "#ffffff"
INK = "#1d2430"
FAINT = "#6b7482"
GRID = "#e4e8ee"
TRACK = "#f3f5f8"

BARS = {
    "beating": "#2fa36b",
    "late": "#e8a33d",
    "stuck": "#d8334a",
    "thumbnail": "#3f7fd6",
    "parse": "#8a63c9",
    "search": "#29a3b0",
}
LEGEND = {
    "beating": "the loop beats",
    "late": "late by 20 to 50 ms",
    "stuck": "stuck for more than 50 ms",
    "thumbnail": "thumbnails (Pillow)",
    "parse": "parsing (ast)",
    "search": "picture search (NumPy)",
}
HEADLINE = "One web service, four ways"


def rate_text(per_second: float) -> str:
    """Requests in each second."""
    return f"{per_second:.1f} requests/s"


def time_text(seconds: float) -> str:
    """A time in the unit that suits it."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"
