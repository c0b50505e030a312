"""The loop's numbers as one picture: how many times better than the standard loop everybody is.

Each line is a number. 1 is the standard loop (for files, a thread for each), right of it is better.
offloop is green, its goal a black mark, the floor in C a black diamond, every peer a sign.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from bench.loop.contenders import FLOOR, GATHERING
from bench.loop.report import Line, contenders, lines
from bench.results import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What stands at 1; the first that was measured in a row.
_BASES = ("asyncio", "to_thread")
_OURS = "#0b7a4b"
_MISSED = "#c0392b"
_BASE = "#57606a"
_SIGNS = {
    FLOOR: ("D", "black"),
    GATHERING: ("o", "#7fbf9f"),
    "asyncio": ("s", "#57606a"),
    "uvloop": ("^", "#0969da"),
    "rloop": ("v", "#8250df"),
    "zuvloop": ("<", "#bf3989"),
    "rsloop": (">", "#9a6700"),
    "aiofastnet": ("P", "#1b7c83"),
    "aiofastnet-asyncio": ("X", "#1b7c83"),
    "blocking": ("D", "#8b949e"),
    "to_thread": ("s", "#8b949e"),
    "anyio": ("*", "#bc4c00"),
    "aiofiles": ("p", "#bc4c00"),
}
_ROW_INCHES = 0.3


def draw(run: Run, path: Path) -> bool:
    """Draw what has numbers to compare with; return False without them, or without matplotlib."""
    compared = [line for line in lines(run) if _base(line) is not None]
    if not compared or importlib.util.find_spec("matplotlib") is None:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    height = len(compared) * _ROW_INCHES + 2
    figure, axes = pyplot.subplots(figsize=(14, height), layout="constrained")
    names = contenders(run)
    for row, line in enumerate(compared):
        axes.axhspan(row - 0.5, row + 0.5, color="#f6f8fa" if row % 2 else "white", zorder=0)
        _draw_line(axes, row, line, names)
    _draw_frame(axes, compared)
    _draw_legend(axes, names)
    form = "quick form" if run.quick else "full form"
    title = f"offloop's event loop beside its peers: {run.machine}\n{run.date}, {form}, medians"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", linespacing=1.5)
    figure.savefig(path, dpi=110, facecolor="white")
    pyplot.close(figure)
    return True


def _base(line: Line) -> float | None:
    values = [line.results.value(name, line.goal.metric.key) for name in _BASES]
    return next((value for value in values if value), None)


def _score(value: float | None, line: Line) -> float | None:
    """Return how many times better than the standard a number is."""
    base = _base(line)
    if not value or base is None:
        return None
    return value / base if line.verdict.higher_is_better else base / value


def _draw_line(axes: Axes, row: int, line: Line, names: list[str]) -> None:
    key = line.goal.metric.key
    for name in names:
        score = _score(line.results.value(name, key), line)
        if score is not None:
            sign, colour = _SIGNS[name]
            axes.scatter(score, row, marker=sign, color=colour, s=30, alpha=0.8, zorder=3)
    ours = _score(line.verdict.ours, line)
    if ours is not None:
        axes.plot([1, ours], [row, row], color=_OURS, linewidth=3, alpha=0.35, zorder=2)
        axes.scatter(ours, row, color=_OURS, s=90, edgecolor="white", linewidth=1, zorder=5)
    edge = _score(line.verdict.edge, line)
    if edge is not None:
        axes.plot([edge, edge], [row - 0.36, row + 0.36], color="black", linewidth=2.2, zorder=4)
    reached = line.verdict.reached
    text = line.verdict.show(line.goal.peer) or "-"
    if line.verdict.ours is not None:
        text += f" {line.verdict.unit}"
    mark = {True: "reached", False: "not reached", None: ""}[reached]
    axes.text(
        1.01,
        row,
        f"{text}   {mark}",
        transform=axes.get_yaxis_transform(),
        color=_MISSED if reached is False else _OURS,
        fontsize=8,
        va="center",
    )


def _draw_frame(axes: Axes, compared: list[Line]) -> None:
    axes.axvline(1, color=_BASE, linewidth=1, zorder=1)
    axes.set_xscale("log")
    axes.set_ylim(len(compared) - 0.5, -0.5)
    labels = [f"{line.verdict.what}  ({line.verdict.target or 'no goal'})" for line in compared]
    axes.set_yticks(range(len(compared)), labels, fontsize=8)
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g} x")
    axes.set_xlabel("times better than the standard loop; files: than to_thread; logarithmic")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#d0d7de", linewidth=0.6, zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_legend(axes: Axes, names: list[str]) -> None:
    from matplotlib.lines import Line2D

    signs = [("offloop", "o", _OURS, 9.0), ("goal", "|", "black", 12.0)]
    signs += [(name, *_SIGNS[name], 6.0) for name in names]
    handles = [
        Line2D([], [], linestyle="", marker=sign, color=colour, markersize=size, label=label)
        for label, sign, colour, size in signs
    ]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        handletextpad=0.2,
        columnspacing=1.0,
    )
