"""The numbers as tables: Markdown and JSON in files, the verdicts on the screen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.reach import Verdict, format_number
from bench.results import PPE_NAMES, CaseResult, Metric, Run, Scenario, ScenarioResults
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

#: The peers' names as heads of narrow columns.
SHORT_NAMES = {
    "ppe-forkserver": "PPE forkserver",
    "ppe-spawn": "PPE spawn",
    "ppe-fork": "PPE fork",
    "multiprocessing": "mp.Pool",
}

#: Columns of a terminal in which the table of all peers needs no second lines.
_WIDE = 150

_MARKS = {True: "reached", False: "**not reached**", None: "not measured"}
_SHORT_MARKS = {"reached": "reached", "**not reached**": "missed", "not measured": "-", "": ""}
_COLOURS = {True: "bold green", False: "bold red", None: "yellow"}


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
    return [verdict for section in _sections(run) for verdict in section]


def measured_peers(run: Run) -> list[str]:
    """Return the peers of this run, ours left out, in the order of the tables."""
    names: dict[str, None] = {}
    for results in run.scenarios.values():
        names |= dict.fromkeys(results.peers())
    order = [*PPE_NAMES, "multiprocessing"]
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def show_verdicts(run: Run, console: Console) -> None:
    """Print which numbers were reached, and then the number of each peer."""
    _print_goals(run, console)
    _print_peers(run, console)
    _print_floor(run, console)
    judged = [verdict for verdict in verdicts(run) if verdict.target]
    reached = sum(verdict.reached is True for verdict in judged)
    console.print(f"[bold]{reached} of {len(judged)}[/] numbers reached.")


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


def _sections(run: Run) -> list[list[Verdict]]:
    return [
        [goal.judge(results) for goal in SCENARIOS[name].goals]
        for name, results in run.scenarios.items()
    ]


def _print_goals(run: Run, console: Console) -> None:
    table = _table("Numbers to reach")
    table.add_column("goal")
    table.add_column("offloop", justify="right", style="bold green", no_wrap=True)
    for column in ("PPE", "x PPE", "best peer", "x best"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for section in _sections(run):
        for number, verdict in enumerate(section):
            cells = [escape(cell.replace("`", "")) for cell in _goal_cells(verdict)]
            cells[1] = cells[1].replace(", ", "\n").replace(" (", "\n(")
            mark = f"[{_COLOURS[verdict.reached]}]{_SHORT_MARKS[_mark(verdict)]}[/]"
            last = number == len(section) - 1
            table.add_row(*cells, mark, end_section=last)
    console.print(table)


def _print_peers(run: Run, console: Console) -> None:
    names = measured_peers(run)
    table = _table("The same for each peer")
    table.columns[0].no_wrap = console.width >= _WIDE
    table.add_column("offloop", justify="right", style="bold green")
    for name in names:
        head = SHORT_NAMES.get(name, name).replace(" ", "\n")
        table.add_column(head, justify="right", min_width=6, max_width=10)
    for section in _sections(run):
        for number, verdict in enumerate(section):
            cells = [escape(cell.replace("`", "")) for cell in _peer_cells(verdict, names)]
            table.add_row(*cells, end_section=number == len(section) - 1)
    console.print(table)


def _print_floor(run: Run, console: Console) -> None:
    """Print what two processes without Python can do, to compare with."""
    if not run.floor:
        return
    parts = [
        f"{title} {format_number(run.floor[key])} {unit}"
        for key, (title, unit) in FLOOR_TITLES.items()
        if "cpu" not in key
    ]
    console.print(f"[bold]The floor, without Python:[/] {escape('; '.join(parts))}.")


def _table(title: str) -> Table:
    """Begin a table; in a narrow terminal its words wrap, and its numbers do not."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("what", min_width=24)
    return table


def _goal_cells(verdict: Verdict) -> list[str]:
    """Return the cells of one line, the mark left out."""
    counted = verdict.ours is not None and not verdict.unit.startswith(("of ", "x the"))
    unit = f" {verdict.unit}" if counted and verdict.unit else ""
    return [
        verdict.what,
        verdict.target,
        f"{verdict.show(verdict.entrance) or '-'}{unit}",
        "-" if verdict.standard is None else format_number(verdict.standard[1]),
        "" if verdict.to_standard is None else format_number(verdict.to_standard),
        _name_and_number(verdict.best),
        "" if verdict.to_best is None else format_number(verdict.to_best),
    ]


def _peer_cells(verdict: Verdict, names: list[str]) -> list[str]:
    unit = f" ({verdict.unit})" if verdict.unit else ""
    title = f"{verdict.what}{unit}"
    words = [verdict.show(name) or "-" for name in (verdict.entrance, *names)]
    return [title, *(word.split(":")[0] for word in words)]


def _name_and_number(best: tuple[str, float] | None) -> str:
    return "-" if best is None else f"{format_number(best[1])} {_short(best[0])}"


def _short(name: str) -> str:
    """Return a peer's name as one word that fits into a table."""
    return SHORT_NAMES.get(name, name).removeprefix("PPE ")


def _mark(verdict: Verdict) -> str:
    if not verdict.target:
        return ""
    return _MARKS[verdict.reached]


def _markdown(run: Run) -> str:
    lines = [
        "# offloop beside its peers",
        "",
        *_circumstances(run),
        "",
        "![The same numbers as a picture](results.png)",
        "",
        "## Numbers to reach",
        "",
        "`PPE` is the best start method of `ProcessPoolExecutor`, `best peer` the best of all but "
        "offloop. Lines without a goal are there to be seen beside the others.",
        "",
        "| what | goal | offloop | PPE | x PPE | best peer | x best peer | |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    judged = verdicts(run)
    lines += [f"| {' | '.join(_goal_cells(verdict))} | {_mark(verdict)} |" for verdict in judged]
    names = measured_peers(run)
    heads = [SHORT_NAMES.get(name, name) for name in names]
    lines += ["", "## The same for each peer", "", f"| what | offloop | {' | '.join(heads)} |"]
    lines.append("|---|--:|" + "--:|" * len(names))
    lines += [f"| {' | '.join(_peer_cells(verdict, names))} |" for verdict in judged]
    lines += _floor_table(run)
    for name, results in run.scenarios.items():
        lines += _scenario_table(SCENARIOS[name], results)
    return "\n".join(lines) + "\n"


def _circumstances(run: Run) -> list[str]:
    form = "quick form" if run.quick else "full form"
    versions = ", ".join(f"{name} {version}" for name, version in run.packages.items())
    lines = [
        f"Measured on {run.date} on {run.machine}, whose load average was {run.load:.1f} before.",
        f"`{run.command}`: {form}, {run.measured} cases in {run.seconds:.0f} s. Medians; every "
        f"peer has 2 workers and the same 2 cores. {versions}. How to read this: "
        "`bench/README.md`.",
    ]
    if run.measured < run.planned:
        lines.append(f"**Incomplete: {run.measured} of {run.planned} cases.**")
    return lines


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
