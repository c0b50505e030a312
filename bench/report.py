"""The numbers as tables: Markdown and JSON in files, the verdicts on the screen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.reach import format_number
from bench.results import PPE_NAMES, CaseResult, Metric, Run, Scenario, ScenarioResults, Verdict
from bench.scenarios import SCENARIOS

FLOOR_TITLES = {
    "socketpair_us": ("round trip through a socket pair, sleeping", "us"),
    "socketpair_cpu_us": ("CPU of both processes per round trip", "us"),
    "ring_sleep_us": ("round trip through shared-memory rings and futexes, sleeping", "us"),
    "ring_sleep_cpu_us": ("CPU of both processes per round trip", "us"),
    "ring_spin_us": ("the same with a short spin before sleeping", "us"),
    "ring_spin_cpu_us": ("CPU of both processes per round trip", "us"),
    "copy_recycled_gb_s": ("copy of 400 MB into recycled pages", "GB/s"),
    "copy_fresh_gb_s": ("copy of 400 MB into fresh pages", "GB/s"),
}

_MARKS = {True: "reached", False: "**not reached**", None: "not measured"}


def write(run: Run, output: Path) -> None:
    """Write ``results.md`` and ``results.json``."""
    (output / "results.md").write_text(_markdown(run), encoding="utf-8")
    data = dataclasses.asdict(run)
    data["scenarios"] = {
        name: {peer: dataclasses.asdict(case) for peer, case in results.cases.items()}
        for name, results in run.scenarios.items()
    }
    data["verdicts"] = [dataclasses.asdict(verdict) for verdict in verdicts(run)]
    (output / "results.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def verdicts(run: Run) -> list[Verdict]:
    """Judge every number to reach of the scenarios that were run."""
    return [
        reach.judge(results, reach)
        for name, results in run.scenarios.items()
        for reach in SCENARIOS[name].reach()
    ]


def show_verdicts(run: Run, console: Console) -> None:
    """Print which numbers were reached."""
    table = Table(title="Numbers to reach", title_justify="left")
    for column in ("what", "reach", "offloop", "best other", ""):
        table.add_column(column)
    colours = {True: "green", False: "red", None: "yellow"}
    for verdict in verdicts(run):
        mark = f"[{colours[verdict.reached]}]{_MARKS[verdict.reached].strip('*')}[/]"
        cells = (verdict.what, verdict.target, verdict.measured, verdict.compared)
        table.add_row(*(escape(cell.replace("`", "")) for cell in cells), mark)
    console.print(table)


def case_line(scenario: Scenario, peer: str, result: CaseResult) -> str:
    """Return one line for the screen about a case that has just ended."""
    parts = [
        f"{metric.title} {_cell_with_unit(result, metric)}"
        for metric in scenario.metrics
        if metric.key in result.cells
    ]
    ending = "" if result.status == "ok" else f" [red]{result.status}: {escape(result.error)}[/]"
    numbers = escape("; ".join(parts))
    return f"[bold]{scenario.name}[/] {peer}, {result.seconds:.1f} s: {numbers}{ending}"


def _markdown(run: Run) -> str:
    form = "quick form" if run.quick else "full form"
    lines = [
        "# offloop beside its peers",
        "",
        f"Measured on {run.machine}; {form}, {run.seconds:.0f} s. Medians; every peer has "
        "2 workers. How to read this: `bench/README.md`.",
        "",
        "![The same numbers as a picture](results.png)",
        "",
        "## Numbers to reach",
        "",
        "| what | reach | offloop | best other | |",
        "|---|---|---|---|---|",
    ]
    for verdict in verdicts(run):
        cells = (verdict.what, verdict.target, verdict.measured, verdict.compared)
        lines.append(f"| {' | '.join(cells)} | {_MARKS[verdict.reached]} |")
    lines += _floor_table(run)
    for name, results in run.scenarios.items():
        lines += _scenario_table(SCENARIOS[name], results)
    return "\n".join(lines) + "\n"


def _floor_table(run: Run) -> list[str]:
    if not run.floor:
        return ["", "The floor was not measured in this run."]
    lines = ["", "## The floor: two processes without Python", "", "| what | |", "|---|---|"]
    for key, (title, unit) in FLOOR_TITLES.items():
        lines.append(f"| {title} | {format_number(run.floor[key])} {unit} |")
    return lines


def _scenario_table(scenario: Scenario, results: ScenarioResults) -> list[str]:
    """Return all numbers of a scenario, each with its ratio to the best standard pool."""
    titles = [f"{metric.title} ({metric.unit})" for metric in scenario.metrics]
    titles = [title.removesuffix(" ()") for title in titles]
    lines = [
        "",
        f"## {scenario.title}",
        "",
        scenario.about,
        "In brackets: the ratio to the best `ProcessPoolExecutor`.",
        "",
        f"| | {' | '.join(titles)} |",
        "|---" * (len(titles) + 1) + "|",
    ]
    for peer, case in results.cases.items():
        cells = [_with_ratio(case, metric, results) for metric in scenario.metrics]
        lines.append(f"| {peer} | {' | '.join(cells)} |")
    lines += [f"| {peer} | {reason} |" for peer, reason in scenario.without.items()]
    troubles = [
        f"- {peer} {case.status}: `{case.error}`"
        for peer, case in results.cases.items()
        if case.status != "ok"
    ]
    return [*lines, "", *troubles] if troubles else lines


def _with_ratio(case: CaseResult, metric: Metric, results: ScenarioResults) -> str:
    text = _cell(case, metric)
    cell = case.cells.get(metric.key)
    standard = results.best(metric, PPE_NAMES)
    if cell is None or cell.median is None or standard is None or standard[1] == 0:
        return text
    return f"{text} ({cell.median / standard[1]:.2f})"


def _cell_with_unit(case: CaseResult, metric: Metric) -> str:
    has_number = metric.key in case.cells and case.cells[metric.key].median is not None
    return f"{_cell(case, metric)} {metric.unit if has_number else ''}".strip()


def _cell(case: CaseResult, metric: Metric) -> str:
    cell = case.cells.get(metric.key)
    if cell is None:
        return "-"
    return cell.note if cell.note is not None else format_number(cell.median or 0.0)
