"""Draws the timeline as a PNG, with Pillow.

Everything is drawn at twice its nominal size, so that the picture stays sharp on dense screens.
Units: nominal pixels until `Canvas` scales them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from offloop._demo import palette
from offloop._demo.layout import Panel, Row

SCALE = 2
WIDTH = 1200
MARGIN = 36
LABEL_WIDTH = 112
ROW_HEIGHT = 17
ROW_GAP = 5
HEART_HEIGHT = 24
PANEL_HEAD = 46
PANEL_GAP = 24
HEAD_HEIGHT = 104
AXIS_HEIGHT = 26


class Canvas:
    """A drawing surface in nominal pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), palette.BACKGROUND)
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self, x: float, y: float, text: str, size: int, fill: str = palette.INK, anchor: str = "ls"
    ) -> None:
        """Write ``text`` with its baseline at ``y``; ``anchor`` is Pillow's."""
        font = ImageFont.load_default(size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), text, fill=fill, font=font, anchor=anchor)

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """Fill a rectangle that is at least one real pixel wide."""
        right = max((x + width) * SCALE - 1, x * SCALE)
        self._draw.rectangle((x * SCALE, y * SCALE, right, (y + height) * SCALE - 1), fill=fill)


def draw_picture(panels: Sequence[Panel], machine: str, path: Path) -> None:
    """Draw ``panels`` below each other and write the PNG to ``path``."""
    height = HEAD_HEIGHT + sum(_panel_height(panel) + PANEL_GAP for panel in panels) + MARGIN
    canvas = Canvas(WIDTH, height)
    _draw_head(canvas, machine)
    top = HEAD_HEIGHT
    for panel in panels:
        _draw_panel(canvas, panel, top)
        top += _panel_height(panel) + PANEL_GAP
    canvas.image.save(path, optimize=True)


def _panel_height(panel: Panel) -> int:
    rows = len(panel.rows) * (ROW_HEIGHT + ROW_GAP)
    return PANEL_HEAD + HEART_HEIGHT + ROW_GAP + rows + AXIS_HEIGHT


def _draw_head(canvas: Canvas, machine: str) -> None:
    canvas.text(MARGIN, 44, palette.HEADLINE, 24)
    canvas.text(WIDTH - MARGIN, 44, machine, 12, palette.FAINT, anchor="rs")
    x = float(MARGIN)
    for kind, words in palette.LEGEND.items():
        canvas.box(x, 66, 12, 12, palette.BARS[kind])
        canvas.text(x + 18, 77, words, 13, palette.FAINT)
        x += 18 + 7.0 * len(words) + 22


def _draw_panel(canvas: Canvas, panel: Panel, top: float) -> None:
    record = panel.record
    canvas.text(MARGIN, top + 26, panel.title, 18)
    gap = f"worst gap {palette.time_text(record.worst_gap_seconds)}"
    is_stuck = record.stuck_share > 0
    rate = palette.rate_text(record.requests_per_second)
    canvas.text(WIDTH - MARGIN, top + 26, rate, 16, anchor="rs")
    colour = palette.BARS["stuck" if is_stuck else "beating"]
    canvas.text(WIDTH - MARGIN - 160, top + 26, gap, 16, colour, anchor="rs")
    y = top + PANEL_HEAD - 8
    _draw_row(canvas, panel.heart, y, HEART_HEIGHT, record.seconds)
    y += HEART_HEIGHT + ROW_GAP
    for row in panel.rows:
        _draw_row(canvas, row, y, ROW_HEIGHT, record.seconds)
        y += ROW_HEIGHT + ROW_GAP
    _draw_axis(canvas, y, record.seconds)


def _draw_row(canvas: Canvas, row: Row, y: float, height: int, seconds: float) -> None:
    left, width = _track()
    canvas.text(left - 10, y + height / 2 + 4, row.label, 12, palette.FAINT, anchor="rs")
    canvas.box(left, y, width, height, palette.TRACK)
    for bar in row.bars:
        x = left + bar.begin / seconds * width
        canvas.box(x, y, (bar.end - bar.begin) / seconds * width - 0.5, height, _fill(bar.kind))


def _draw_axis(canvas: Canvas, y: float, seconds: float) -> None:
    left, width = _track()
    for second in range(int(seconds) + 1):
        x = left + second / seconds * width
        canvas.box(x, y, 0.5, 5, palette.FAINT)
        canvas.text(x, y + 17, f"{second} s", 11, palette.FAINT, anchor="ms")


def _track() -> tuple[int, int]:
    left = MARGIN + LABEL_WIDTH
    return left, WIDTH - MARGIN - left


def _fill(kind: str) -> str:
    return palette.BARS[kind]
