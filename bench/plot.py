"""The numbers as one picture: how many times better than the standard pool, and what it cannot do.

Above, each line is a number to reach, on an axis of ratios: 1 is the best ``ProcessPoolExecutor``
(its forkserver form where workers are started), right of it is better. offloop is green, its goal
a black mark, every peer a sign of its own. Below stand the outcomes that no ratio tells, such as a
call that nothing can stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.reach import Goal, Verdict, format_number
from bench.report import SHORT_NAMES, measured_peers
from bench.results import Run, ScenarioResults
from bench.scenarios import SCENARIOS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Scenarios whose outcomes are counts, limits or words, and stand in the lower part.
OUTCOMES = ("replacement", "memory", "stop", "crash", "orphans", "idle")

_OURS = "#0b7a4b"
_MISSED = "#c0392b"
_STANDARD = "#57606a"
_GOOD, _BAD, _NEUTRAL = "#d7f0e2", "#f9dcd8", "#eef0f2"
_SIGNS = {
    "ppe-forkserver": ("s", "#57606a"),
    "ppe-spawn": ("D", "#8b949e"),
    "ppe-fork": ("P", "#8b949e"),
    "multiprocessing": ("^", "#9a6700"),
    "loky": ("v", "#8250df"),
    "pebble": ("<", "#0969da"),
    "billiard": (">", "#bf3989"),
    "mpire": ("X", "#1b7c83"),
    "anyio": ("*", "#bc4c00"),
}
_ROW_INCHES = 0.36


@dataclass(frozen=True)
class _Line:
    """One line of the picture."""

    goal: Goal
    verdict: Verdict
    results: ScenarioResults


def draw(run: Run, path: Path) -> None:
    """Draw what has numbers; do nothing where nothing has."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [
        (name, _Line(goal, goal.judge(results), results))
        for name, results in run.scenarios.items()
        for goal in SCENARIOS[name].goals
    ]
    ratios = [line for name, line in lines if name not in OUTCOMES and line.verdict.to_standard]
    outcomes = [line for name, line in lines if name in OUTCOMES]
    parts = [part for part in (ratios, outcomes) if part]
    if not parts:
        return
    heights = [len(part) * _ROW_INCHES + 0.9 for part in parts]
    figure, grid = pyplot.subplots(
        len(parts),
        1,
        figsize=(15, sum(heights) + 1.5),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    names = measured_peers(run)
    for axes, part in zip(grid.flat, parts, strict=True):
        draw_part = _draw_ratios if part is ratios else _draw_outcomes
        draw_part(axes, part, names)
    figure.suptitle(_title(run), fontsize=11, x=0.01, ha="left", linespacing=1.5)
    figure.savefig(path, dpi=120, facecolor="white")
    pyplot.close(figure)


def _title(run: Run) -> str:
    form = "quick form" if run.quick else "full form"
    whole = "" if run.measured == run.planned else f", {run.measured} of {run.planned} cases"
    return f"offloop beside its peers: {run.machine}\n{run.date}, {form}, medians{whole}"


def _draw_ratios(axes: Axes, lines: list[_Line], names: list[str]) -> None:
    """Draw how many times better than the standard pool everybody is."""
    for row, line in enumerate(lines):
        axes.axhspan(row - 0.5, row + 0.5, color="#f6f8fa" if row % 2 else "white", zorder=0)
        _draw_line(axes, row, line, names)
    axes.axvline(1, color=_STANDARD, linewidth=1, zorder=1)
    axes.set_xscale("log")
    left, right = axes.get_xlim()
    axes.set_xlim(left / 1.3, right * 1.3)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), [_label(line) for line in lines], fontsize=9)
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g} x")
    axes.set_xlabel(
        "times better than the best ProcessPoolExecutor (starts: its forkserver form); logarithmic",
        fontsize=9,
    )
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#d0d7de", linewidth=0.6, zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _legend(axes, names)
    for row, line in enumerate(lines):
        reached = line.verdict.reached
        mark = {True: "reached", False: "not reached", None: ""}[reached]
        unit = line.verdict.unit
        axes.text(
            1.01,
            row,
            f"{line.verdict.show(line.verdict.entrance)} {unit}   {mark}",
            transform=axes.get_yaxis_transform(),
            color=_MISSED if reached is False else _OURS,
            fontsize=9,
            fontweight="bold",
            va="center",
        )


def _draw_line(axes: Axes, row: int, line: _Line, names: list[str]) -> None:
    verdict = line.verdict
    for name in names:
        score = _score(verdict.peers.get(name), verdict)
        if score is not None:
            sign, colour = _SIGNS[name]
            axes.scatter(score, row, marker=sign, color=colour, s=34, alpha=0.8, zorder=3)
    ours = _score(verdict.ours, verdict)
    if ours is not None:
        axes.plot([1, ours], [row, row], color=_OURS, linewidth=3, alpha=0.35, zorder=2)
        axes.scatter(ours, row, color=_OURS, s=110, edgecolor="white", linewidth=1, zorder=5)
    edge = _score(verdict.edge, verdict)
    if edge is not None:
        axes.plot([edge, edge], [row - 0.36, row + 0.36], color="black", linewidth=2.2, zorder=4)


def _score(value: float | None, verdict: Verdict) -> float | None:
    """Return how many times better than the standard pool a number is."""
    if not value or verdict.standard is None or verdict.standard[1] == 0:
        return None
    ratio = value / verdict.standard[1]
    return ratio if verdict.higher_is_better else 1 / ratio


def _label(line: _Line) -> str:
    return line.verdict.what.replace("`", "")


def _legend(axes: Axes, names: list[str]) -> None:
    from matplotlib.lines import Line2D

    signs = [("offloop", "o", _OURS, 10.0), ("goal", "|", "black", 12.0)]
    signs += [(SHORT_NAMES.get(name, name), *_SIGNS[name], 6.0) for name in names]
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=sign,
            color=colour,
            markersize=size,
            markeredgewidth=2.2 if sign == "|" else 1.0,
            label=label,
        )
        for label, sign, colour, size in signs
    ]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handletextpad=0.2,
        columnspacing=1.2,
    )


def _draw_outcomes(axes: Axes, lines: list[_Line], names: list[str]) -> None:
    """Draw a table of outcomes: green where the goal is met, red where it is not."""
    columns = ["offloop", *names]
    for row, line in enumerate(lines):
        for column, name in enumerate(columns):
            peer = line.goal.peer if name == "offloop" else name
            _draw_cell(axes, row, column, line, peer)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(
        range(len(lines)),
        [f"{_label(line)}  ({_target(line)})" for line in lines],
        fontsize=9,
    )
    heads = [SHORT_NAMES.get(name, name).replace(" ", "\n") for name in columns]
    axes.set_xticks(range(len(columns)), heads, fontsize=9)
    axes.xaxis.tick_top()
    for label in axes.get_xticklabels()[:1]:
        label.set_fontweight("bold")
        label.set_color(_OURS)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_cell(axes: Axes, row: int, column: int, line: _Line, peer: str) -> None:
    value = line.results.value(peer, line.goal.metric.key)
    word = line.verdict.show(peer).split(":")[0]
    if not line.goal.bounds or (value is None and not word):
        colour = _NEUTRAL
    elif value is not None and line.goal.reached_by(value, line.results):
        colour = _GOOD
    else:
        colour = _BAD
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((column - 0.48, row - 0.44), 0.96, 0.88, color=colour, linewidth=0, zorder=1)
    )
    text = format_number(value) if value is not None else word.replace(" after ", "\nafter ")
    ours = column == 0
    axes.text(
        column,
        row,
        text or "-",
        ha="center",
        va="center",
        fontsize=9 if len(text) < 12 else 7,
        fontweight="bold" if ours else "normal",
        color=_OURS if ours and colour == _GOOD else "black",
        zorder=2,
    )


def _target(line: _Line) -> str:
    return line.verdict.target or f"no goal, {line.verdict.unit}"
