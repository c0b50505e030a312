"""The numbers as one picture: a panel per metric that matters, a bar per peer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.reach import format_number
from bench.results import OFFLOOP_NAMES, Metric, Run, ScenarioResults
from bench.scenarios import SCENARIOS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Scenario and metric of each panel, in reading order.
PANELS = (
    ("single-flight", "p50_us"),
    ("single-flight", "cpu_us"),
    ("gathered", "rate"),
    ("speedup", "short"),
    ("speedup", "long"),
    ("cold", "first_ms"),
    ("replacement", "replacement_ms"),
    ("per-request", "request_ms"),
    ("arrays", "argument_80 KB"),
    ("arrays", "argument_80 MB"),
    ("arrays", "result_80 MB"),
    ("memory", "worker_mb"),
    ("burst", "submit_us"),
    ("burst", "gap_ms"),
    ("stop", "python_cancel_ms"),
    ("stop", "c_cancel_ms"),
    ("crash", "spoiled"),
    ("orphans", "workers"),
    ("idle", "wakeups"),
)

_OURS = "#1b7f5c"
_THEIRS = "#9aa3ad"
_COLUMNS = 3


def draw(run: Run, path: Path) -> None:
    """Draw every panel that has numbers; do nothing where there is none."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [
        (SCENARIOS[name].title, SCENARIOS[name].metric(key), run.scenarios[name])
        for name, key in PANELS
        if name in run.scenarios
    ]
    if not panels:
        return
    rows = -(-len(panels) // _COLUMNS)
    figure, grid = pyplot.subplots(
        rows, _COLUMNS, figsize=(18, 3.4 * rows), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, metric, results) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, title, metric, results)
    figure.suptitle(f"offloop beside its peers, on {run.machine}", fontsize=11)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_panel(axes: Axes, title: str, metric: Metric, results: ScenarioResults) -> None:
    """Draw the bars of one metric; a peer without a number shows its word instead."""
    names = list(reversed(results.cases))
    values = [results.value(name, metric.key) for name in names]
    positive = [value for value in values if value]
    colours = [_OURS if name in OFFLOOP_NAMES else _THEIRS for name in names]
    axes.barh(names, [value or 0.0 for value in values], color=colours)
    if positive and max(positive) > 20 * min(positive):
        axes.set_xscale("log")
        axes.set_xlim(left=min(positive) / 3, right=max(positive) * 5)
    elif positive:
        axes.set_xlim(left=0, right=max(positive) * 1.25)
    left = axes.get_xlim()[0]
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        cell = results.cases[name].cells.get(metric.key)
        word = cell.note if cell and cell.note else "-"
        text = f" {format_number(value)}" if value is not None else f" {word}"
        axes.text(value or left, row, text, va="center", fontsize=8)
    better = "more is better" if metric.higher_is_better else "less is better"
    unit = f", {metric.unit}" if metric.unit else ""
    axes.set_title(f"{title}\n{metric.title}{unit} ({better})", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
