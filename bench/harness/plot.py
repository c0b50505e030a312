"""The numbers as one picture: how many times better than the base, and what no ratio tells.

Above, each line is a number to reach, on an axis of ratios: 1 is the benchmark's base, and right of
it is better. offloop is green, its goal a black mark, every other contender a sign of its own.
Below stand the outcomes that no ratio tells, such as a call that nothing can stop.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.harness.benchmark import Benchmark
from bench.harness.goals import Line
from bench.harness.report import columns, head
from bench.harness.results import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS = "#0b7a4b"
_MISSED = "#c0392b"
_BASE = "#57606a"
_GOOD, _BAD, _NEUTRAL = "#d7f0e2", "#f9dcd8", "#eef0f2"
_ROW_INCHES = 0.33


def draw(benchmark: Benchmark, run: Run, lines: list[Line], path: Path) -> bool:
    """Draw what can be compared; return False where nothing can, or without matplotlib."""
    picture = _Picture(benchmark, run, columns(benchmark, run))
    outcomes = [line for line in lines if line.results.row.is_outcome]
    ratios = [line for line in lines if line not in outcomes and picture.base(line)]
    if not (ratios or outcomes) or importlib.util.find_spec("matplotlib") is None:
        return False
    picture.draw(ratios, outcomes, path)
    return True


@dataclass(frozen=True)
class _Picture:
    """The picture of a run, whose columns and signs are those of its contenders."""

    benchmark: Benchmark
    run: Run
    names: list[str]

    def draw(self, ratios: list[Line], outcomes: list[Line], path: Path) -> None:
        """Draw both parts, one below the other."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        both = ((self._draw_ratios, ratios), (self._draw_outcomes, outcomes))
        parts = [(draw_part, lines) for draw_part, lines in both if lines]
        heights = [len(lines) * _ROW_INCHES + 0.9 for _, lines in parts]
        figure, grid = pyplot.subplots(
            len(parts),
            1,
            figsize=(15, sum(heights) + 1.5),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        for axes, (draw_part, lines) in zip(grid.flat, parts, strict=True):
            draw_part(axes, lines)
        figure.suptitle(self._title(), fontsize=11, x=0.01, ha="left", linespacing=1.5)
        figure.savefig(path, dpi=120, facecolor="white")
        pyplot.close(figure)

    def base(self, line: Line) -> float | None:
        """Return the number that stands at 1."""
        if self.benchmark.base is None:
            best = line.verdict.standard
        else:
            best = self.benchmark.base.best(line.results, line.goal.metric)
        return best[1] if best else None

    def _draw_ratios(self, axes: Axes, lines: list[Line]) -> None:
        """Draw how many times better than the base each contender is."""
        for row, line in enumerate(lines):
            axes.axhspan(row - 0.5, row + 0.5, color="#f6f8fa" if row % 2 else "white", zorder=0)
            self._draw_line(axes, row, line)
        axes.axvline(1, color=_BASE, linewidth=1, zorder=1)
        axes.set_xscale("log")
        left, right = axes.get_xlim()
        axes.set_xlim(left / 1.3, right * 1.3)
        _label_rows(axes, lines)
        axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g} x")
        label = f"times better than {self.benchmark.base_title}; logarithmic"
        axes.set_xlabel(label, fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#d0d7de", linewidth=0.6, zorder=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        self._draw_legend(axes)

    def _draw_outcomes(self, axes: Axes, lines: list[Line]) -> None:
        """Draw a table of outcomes: green where the goal is met, red where it is not."""
        for row, line in enumerate(lines):
            for column, name in enumerate((line.goal.entrance, *self.names)):
                _draw_cell(axes, (column, row), line, name)
        axes.set_xlim(-0.5, len(self.names) + 0.5)
        _label_rows(axes, lines)
        heads = [head(self.benchmark, name).replace(" ", "\n") for name in self.names]
        axes.set_xticks(range(len(heads) + 1), ["offloop", *heads], fontsize=9)
        axes.xaxis.tick_top()
        for label in axes.get_xticklabels()[:1]:
            label.set_fontweight("bold")
            label.set_color(_OURS)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    def _title(self) -> str:
        run = self.run
        form = "quick form" if run.quick else "full form"
        whole = "" if run.measured == run.planned else f", {run.measured} of {run.planned} cases"
        return f"{self.benchmark.title}: {run.machine}\n{run.date}, {form}, medians{whole}"

    def _score(self, value: float | None, line: Line) -> float | None:
        """Return how many times better than the base a number is."""
        base = self.base(line)
        if not value or not base:
            return None
        return value / base if line.verdict.higher_is_better else base / value

    def _draw_line(self, axes: Axes, row: int, line: Line) -> None:
        verdict = line.verdict
        for name in self.names:
            score = self._score(line.value(name), line)
            if score is not None:
                sign, colour = self.benchmark.contenders[name].sign
                axes.scatter(score, row, marker=sign, color=colour, s=34, alpha=0.8, zorder=3)
        ours = self._score(verdict.ours, line)
        if ours is not None:
            axes.plot([1, ours], [row, row], color=_OURS, linewidth=3, alpha=0.35, zorder=2)
            axes.scatter(ours, row, color=_OURS, s=110, edgecolor="white", linewidth=1, zorder=5)
        edge = self._score(verdict.edge, line)
        if edge is not None:
            mark = [row - 0.36, row + 0.36]
            axes.plot([edge, edge], mark, color="black", linewidth=2.2, zorder=4)
        word = {True: "reached", False: "not reached", None: ""}[verdict.reached]
        unit = verdict.unit if verdict.ours is not None else ""
        axes.text(
            1.01,
            row,
            f"{line.show(verdict.entrance)} {unit}   {word}",
            transform=axes.get_yaxis_transform(),
            color=_MISSED if verdict.reached is False else _OURS,
            fontsize=9,
            fontweight="bold",
            va="center",
        )

    def _draw_legend(self, axes: Axes) -> None:
        from matplotlib.lines import Line2D

        signs = [("offloop", "o", _OURS, 10.0), ("goal", "|", "black", 12.0)]
        contenders = [self.benchmark.contenders[name] for name in self.names]
        signs += [(head(self.benchmark, each.name), *each.sign, 6.0) for each in contenders]
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


def _label_rows(axes: Axes, lines: list[Line]) -> None:
    texts = [(line.verdict.what.replace("`", ""), line.verdict.target) for line in lines]
    labels = [f"{what}  ({target or 'no goal'})" for what, target in texts]
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), labels, fontsize=9)


def _draw_cell(axes: Axes, place: tuple[int, int], line: Line, name: str) -> None:
    from matplotlib.patches import Rectangle

    column, row = place
    value = line.value(name)
    text = line.show(name)
    if not line.goal.bounds or text == "-":
        colour = _NEUTRAL
    elif value is not None and line.goal.reached_by(value, line.results):
        colour = _GOOD
    else:
        colour = _BAD
    axes.add_patch(
        Rectangle((column - 0.48, row - 0.44), 0.96, 0.88, color=colour, linewidth=0, zorder=1)
    )
    text = text.split(":")[0].replace(" after ", "\nafter ")
    ours = column == 0
    axes.text(
        column,
        row,
        text,
        ha="center",
        va="center",
        fontsize=9 if len(text) < 12 else 7,
        fontweight="bold" if ours else "normal",
        color=_OURS if ours and colour == _GOOD else "black",
        zorder=2,
    )
