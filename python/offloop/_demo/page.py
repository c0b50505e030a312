"""Writes the timeline as one HTML page that needs nothing else: styles inside, drawings in SVG."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

from offloop._demo import palette
from offloop._demo.layout import CODE, Panel, Row
from offloop._demo.record import Way

LABEL_WIDTH = 110
TRACK_WIDTH = 1000
ROW_STEP = 22
ROW_HEIGHT = 17
HEART_HEIGHT = 26


def write_page(panels: Sequence[Panel], machine: str, path: Path) -> None:
    """Fill the template with ``panels`` and write it to ``path``."""
    template = Template(resources.files(__package__).joinpath("page.html").read_text("utf-8"))
    best = max(panel.record.requests_per_second for panel in panels)
    page = template.substitute(
        headline=html.escape(palette.HEADLINE),
        machine=html.escape(machine),
        colours="".join(f"--{kind}:{colour};" for kind, colour in palette.BARS.items()),
        legend="".join(
            f'<li><i style="background:var(--{kind})"></i>{html.escape(words)}</li>'
            for kind, words in palette.LEGEND.items()
        ),
        panels="\n".join(_panel(panel, best) for panel in panels),
    )
    path.write_text(page, encoding="utf-8")


def _panel(panel: Panel, best: float) -> str:
    record = panel.record
    quality = "stuck" if record.stuck_share > 0 else "beating"
    figures = (
        ("worst gap of the heartbeat", palette.time_text(record.worst_gap_seconds), quality),
        ("time stuck", f"{record.stuck_share:.0%}", quality),
        ("slowest health check", palette.time_text(record.slowest_health_seconds), quality),
        ("served", palette.rate_text(record.requests_per_second), ""),
    )
    facts = "".join(
        f'<div><dt>{label}</dt><dd class="{style}">{value}</dd></div>'
        for label, value, style in figures
    )
    width = record.requests_per_second / best * 100
    chosen = ' class="chosen"' if panel.way is Way.OFFLOOP else ""
    return (
        f"<section{chosen}><header><h2>{html.escape(panel.title)}</h2><dl>{facts}</dl></header>"
        f"<pre>{html.escape(CODE[panel.way])}</pre>"
        f'<div class="rate"><b style="width:{width:.1f}%"></b></div>{_drawing(panel)}</section>'
    )


def _drawing(panel: Panel) -> str:
    seconds = panel.record.seconds
    parts = [_row(panel.heart, 0, HEART_HEIGHT, seconds)]
    y = HEART_HEIGHT + ROW_STEP - ROW_HEIGHT
    for row in panel.rows:
        parts.append(_row(row, y, ROW_HEIGHT, seconds))
        y += ROW_STEP
    for second in range(int(seconds) + 1):
        x = LABEL_WIDTH + second / seconds * TRACK_WIDTH
        parts.append(f'<text x="{x:.1f}" y="{y + 14}" text-anchor="middle">{second} s</text>')
    box = f"0 0 {LABEL_WIDTH + TRACK_WIDTH + 14} {y + 20}"
    return f'<svg viewBox="{box}" role="img">{"".join(parts)}</svg>'


def _row(row: Row, y: int, height: int, seconds: float) -> str:
    label = f'<text x="{LABEL_WIDTH - 10}" y="{y + height / 2 + 4:.0f}" text-anchor="end">'
    parts = [
        f"{label}{html.escape(row.label)}</text>",
        f'<rect class="track" x="{LABEL_WIDTH}" y="{y}" width="{TRACK_WIDTH}" height="{height}"/>',
    ]
    for bar in row.bars:
        x = LABEL_WIDTH + bar.begin / seconds * TRACK_WIDTH
        width = max((bar.end - bar.begin) / seconds * TRACK_WIDTH - 0.4, 0.6)
        parts.append(
            f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{height}" '
            f'fill="var(--{bar.kind})"><title>{html.escape(bar.label)}</title></rect>'
        )
    return "".join(parts)
