"""What the report says of one event loop of ours: its load, its traffic, its lag."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich.text import Text

from offloop import LagHistogram, LoopStatistics

COLUMNS_PER_DECADE = 3
DECADES = 7
"""From a microsecond to ten seconds; what is beyond is in the first and the last column."""
BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = ".:-=+*%#"

LAG_FAIR_SECONDS = 0.020
"""Above this, another request waits for a time that adds up."""
LAG_BAD_SECONDS = 0.100
"""Above this, a person notices."""


def lag_style(seconds: float) -> str:
    """The colour of a lag."""
    if seconds >= LAG_BAD_SECONDS:
        return "bold red"
    return "yellow" if seconds >= LAG_FAIR_SECONDS else "green"


def size(count: int) -> str:
    """A number of bytes with three digits and its unit."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def load_line(statistics: LoopStatistics) -> Text:
    """How busy the loop was, and with how much."""
    line = Text().append(_percent(statistics.utilisation), "bold").append(" busy")
    running = statistics.running_seconds
    if running > 20:
        line.append(f" ({_percent(statistics.utilisation_10s)} in its last 10 s)")
    rate = statistics.callbacks / running if running else 0.0
    return line.append(f", {rate:,.0f} callbacks/s, deepest queue {statistics.ready_max:,}")


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def traffic_line(statistics: LoopStatistics) -> Text | None:
    """What went over its connections, if there were any."""
    made = statistics.connections_made
    if not made:
        return None
    received, sent = size(statistics.bytes_received), size(statistics.bytes_sent)
    connections = f"{made:,} connection{'s' if made > 1 else ''}"
    return Text(f"{connections}, {received} received, {sent} sent")


def lag_line(lag: LagHistogram, duration: Callable[[float], str]) -> Text:
    """The quantiles of its lag."""
    line = Text("between polls")
    for label, value in (("   p50 ", lag.p50), ("   p99 ", lag.p99), ("   max ", lag.max)):
        line.append(label).append(duration(value), lag_style(value))
    return line


def lag_bar(lag: LagHistogram, is_ascii: bool) -> Text:
    """The histogram in one line: a column for each third of a decade, higher by the logarithm."""
    heights = [0] * (COLUMNS_PER_DECADE * DECADES)
    for edge, count in lag.buckets:
        heights[_column(edge)] += count
    bars = ASCII_BARS if is_ascii else BARS
    line = Text("1 us ", style="dim", no_wrap=True)
    for column, height in enumerate(heights):
        if height:
            level = math.log1p(height) / math.log1p(max(heights)) * len(bars)
            middle = 1e-6 * 10 ** ((column + 0.5) / COLUMNS_PER_DECADE)
            line.append(bars[math.ceil(level) - 1], f"not dim {lag_style(middle)}")
        else:
            line.append(" " if is_ascii else "·")
    return line.append(" 10 s")


def _column(edge_seconds: float) -> int:
    if edge_seconds == math.inf:
        return COLUMNS_PER_DECADE * DECADES - 1
    # A bucket ends before its edge.
    column = math.ceil(math.log10(edge_seconds * 1e6) * COLUMNS_PER_DECADE - 1e-9) - 1
    return min(max(column, 0), COLUMNS_PER_DECADE * DECADES - 1)
