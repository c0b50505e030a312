"""The loop's numbers as tables: on the screen, in Markdown, and in JSON.

``x C`` and ``x best`` are our number divided by theirs. In the table of all contenders the
number in brackets is ours divided by the one before it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.loop.contenders import CONTENDERS, FLOOR
from bench.loop.rows import ROWS
from bench.loop.rows.base import Row
from bench.reach import Goal, Verdict, format_number
from bench.results import OFFLOOP_NAMES, Run, ScenarioResults

_MARKS = {True: "reached", False: "**not reached**", None: "not measured"}
_SHORT_MARKS = {True: "reached", False: "missed", None: "-"}
_COLOURS = {True: "bold green", False: "bold red", None: "yellow"}


@dataclasses.dataclass(frozen=True)
class Line:
    """One number of a row, with what it was compared with."""

    row: Row
    goal: Goal
    verdict: Verdict
    results: ScenarioResults


def lines(run: Run) -> list[Line]:
    """Judge every number of the rows that were run."""
    return [
        Line(ROWS[name], goal, goal.judge(results), results)
        for name, results in run.scenarios.items()
        for goal in ROWS[name].goals
    ]


def contenders(run: Run) -> list[str]:
    """Return who was measured in this run, ours left out, the floor first."""
    measured = {name for results in run.scenarios.values() for name in results.cases}
    return [name for name in (FLOOR, *CONTENDERS) if name in measured - set(OFFLOOP_NAMES)]


def write(run: Run, output: Path) -> None:
    """Write ``results.md`` and ``results.json``."""
    (output / "results.md").write_text(_markdown(run), encoding="utf-8")
    data = dataclasses.asdict(run)
    del data["floor"]
    data["rows"] = {
        name: {peer: dataclasses.asdict(case) for peer, case in results.cases.items()}
        for name, results in run.scenarios.items()
    }
    del data["scenarios"]
    data["verdicts"] = [
        dataclasses.asdict(line.verdict) | {"row": line.row.name, "ratios": _ratios(run, line)}
        for line in lines(run)
    ]
    (output / "results.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def row_line(row: Row, results: ScenarioResults) -> str:
    """Return the numbers of a row that has just been measured, a line for each that is judged."""
    text = []
    for metric in dict.fromkeys(goal.metric for goal in row.goals):
        numbers = ", ".join(f"{name} {_word(results, name, metric.key)}" for name in results.cases)
        text.append(f"[bold]{row.name}[/] {escape(f'{metric.title} ({metric.unit}): {numbers}')}")
    text += [
        f"  [red]{escape(f'{name} {case.status}: {case.error}')}[/]"
        for name, case in results.cases.items()
        if case.error
    ]
    return "\n".join(text)


def show(run: Run, console: Console) -> None:
    """Print which numbers were reached, and then those of each contender."""
    judged = lines(run)
    table = _table("Numbers to reach")
    for column in ("goal", "offloop", "C", "x C", "best peer", "x best", ""):
        table.add_column(column, justify="left" if column in ("goal", "") else "right")
    for line in judged:
        *cells, _ = _goal_cells(line)
        mark = line.verdict.reached
        shown = f"[{_COLOURS[mark]}]{_SHORT_MARKS[mark]}[/]" if line.verdict.target else ""
        table.add_row(*map(escape, cells), shown)
    console.print(table)
    names = contenders(run)
    table = _table("The same for each contender (in brackets: offloop divided by it)")
    for name in ("offloop", *names):
        table.add_column(name, justify="right", min_width=6)
    for line in judged:
        table.add_row(*map(escape, _contender_cells(line, names)))
    console.print(table)
    wanted = [line for line in judged if line.verdict.target]
    reached = sum(line.verdict.reached is True for line in wanted)
    console.print(f"[bold]{reached} of {len(wanted)}[/] numbers reached.")


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("what", min_width=24)
    return table


def _goal_cells(line: Line) -> list[str]:
    verdict = line.verdict
    unit = f" {verdict.unit}" if verdict.ours is not None else ""
    floor, best = verdict.standard, verdict.best
    return [
        verdict.what,
        verdict.target,
        f"{verdict.show(verdict.entrance) or '-'}{unit}",
        "" if floor is None else format_number(floor[1]),
        "" if verdict.to_standard is None else f"{verdict.to_standard:.2f}",
        "-" if best is None else f"{format_number(best[1])} {best[0]}",
        "" if verdict.to_best is None else f"{verdict.to_best:.2f}",
        _MARKS[verdict.reached] if verdict.target else "",
    ]


def _contender_cells(line: Line, names: list[str]) -> list[str]:
    key = line.goal.metric.key
    ours = line.results.value(line.goal.peer, key)
    cells = [f"{line.verdict.what} ({line.verdict.unit})", line.verdict.show(line.goal.peer) or "-"]
    for name in names:
        value = line.results.value(name, key)
        ratio = f" ({ours / value:.2f})" if ours is not None and value else ""
        cells.append(_word(line.results, name, key) + ratio)
    return cells


def _ratios(run: Run, line: Line) -> dict[str, float]:
    """Return our number divided by that of each other contender."""
    key = line.goal.metric.key
    ours = line.results.value(line.goal.peer, key)
    values = {name: line.results.value(name, key) for name in contenders(run)}
    return {name: ours / value for name, value in values.items() if ours is not None and value}


def _word(results: ScenarioResults, name: str, key: str) -> str:
    value = results.value(name, key)
    return format_number(value) if value is not None else results.word(name, key) or "-"


def _markdown(run: Run) -> str:
    judged = lines(run)
    names = contenders(run)
    text = [
        "# offloop's event loop beside its peers",
        "",
        *_circumstances(run),
        "",
        "![The same numbers as a picture](results.png)",
        "",
        "## Numbers to reach",
        "",
        "`C` is the bare floor; `x C` and `x best` are our number divided by theirs.",
        "",
        "| what | goal | offloop | C | x C | best peer | x best | |",
        "|---|---|--:|--:|--:|--:|--:|---|",
        *(f"| {' | '.join(_goal_cells(line))} |" for line in judged),
        "",
        "## The same for each contender",
        "",
        "In brackets: the number of offloop divided by this one.",
        "",
        f"| what | offloop | {' | '.join(names)} |",
        "|---|--:|" + "--:|" * len(names),
        *(f"| {' | '.join(_contender_cells(line, names))} |" for line in judged),
        "",
        "## What was asked",
        "",
    ]
    for name in run.scenarios:
        row = ROWS[name]
        left_out = "".join(f" {peer} {reason}." for peer, reason in row.without)
        text.append(f"- `{name}`, {row.title}: {row.about}{left_out}")
    troubles = [
        f"- `{name}`, {peer}: {case.status}: `{case.error}`"
        for name, results in run.scenarios.items()
        for peer, case in results.cases.items()
        if case.error
    ]
    return "\n".join([*text, "", *troubles]).rstrip() + "\n"


def _circumstances(run: Run) -> list[str]:
    form = "quick form" if run.quick else "full form"
    versions = ", ".join(f"{name} {version}" for name, version in run.packages.items())
    text = [
        f"Measured on {run.date} on {run.machine}, whose load average was {run.load:.1f} before.",
        f"`{run.command}`: {form}, {run.measured} cases in {run.seconds:.0f} s. Medians; a server "
        f"and its client have a core each. {versions}. How to read this: `bench/README.md`.",
    ]
    if run.measured < run.planned:
        text.append(f"**Incomplete: {run.measured} of {run.planned} cases.**")
    return text
