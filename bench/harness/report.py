"""The numbers as tables: Markdown and JSON in files, the verdicts on the screen.

In the table of the numbers to reach, the ratios are our number divided by theirs, and in the table
of all contenders the number in brackets is ours divided by the one before it. In the table of a
row it is theirs divided by the standard's.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.harness.benchmark import Benchmark
from bench.harness.goals import Against, Line, Verdict, format_number, judged, show
from bench.harness.results import RowResults, Run
from bench.harness.rows import Metric, Role

#: Columns of a terminal in which the table of all contenders needs no second lines.
_WIDE = 150

_MARKS = {True: "reached", False: "**not reached**", None: "not measured"}
_SCREEN_MARKS = {
    True: "[bold green]reached[/]",
    False: "[bold red]missed[/]",
    None: "[yellow]-[/]",
}


def write(benchmark: Benchmark, run: Run, output: Path) -> None:
    """Write ``results.md`` and ``results.json``."""
    lines = judged(run, benchmark.standard)
    (output / "results.md").write_text(_markdown(benchmark, run, lines), encoding="utf-8")
    data = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    data["rows"] = {
        name: {contender: dataclasses.asdict(case) for contender, case in results.cases.items()}
        for name, results in run.rows.items()
    }
    data["verdicts"] = [dataclasses.asdict(line.verdict) for line in lines]
    (output / "results.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def columns(benchmark: Benchmark, run: Run) -> list[str]:
    """Return the contenders of rows with numbers to reach, ours left out, the floor first."""
    measured = {
        name for results in run.rows.values() if results.row.goals for name in results.others()
    }
    names = [name for name in benchmark.contenders if name in measured]
    return sorted(names, key=lambda name: benchmark.contenders[name].role is not Role.FLOOR)


def case_line(results: RowResults, name: str) -> str:
    """Return one line for the screen about a contender that has just been measured in a row."""
    case = results.cases[name]
    parts = [
        f"{metric.title} {_with_unit(results, name, metric)}"
        for metric in results.row.metrics
        if results.word(name, metric) != case.status and metric.key in case.cells
    ]
    ending = "" if case.status == "ok" else f" [red]{escape(f'{case.status}: {case.error}')}[/]"
    numbers = escape("; ".join(parts))
    return f"[bold]{results.row.name}[/] {name}, {case.seconds:.1f} s: {numbers}{ending}"


def show_tables(benchmark: Benchmark, run: Run, lines: list[Line], console: Console) -> None:
    """Print which numbers were reached, and then those of each contender."""
    console.print(_goals_table(benchmark, lines))
    console.print(_contenders_table(benchmark, columns(benchmark, run), lines, console))
    wanted = [line.verdict for line in lines if line.verdict.target]
    reached = sum(verdict.reached is True for verdict in wanted)
    console.print(f"[bold]{reached} of {len(wanted)}[/] numbers reached.")


def _goals_table(benchmark: Benchmark, lines: list[Line]) -> Table:
    table = _table("Numbers to reach")
    heads = _goal_heads(benchmark)
    table.add_column(heads[1])
    table.add_column(heads[2], justify="right", style="bold green", no_wrap=True)
    for head in heads[3:]:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line in lines:
        cells = [escape(cell.replace("`", "")) for cell in _goal_cells(line)]
        cells[1] = cells[1].replace(", ", "\n").replace(" (", "\n(")
        mark = _SCREEN_MARKS[line.verdict.reached] if line.verdict.target else ""
        table.add_row(*cells, mark, end_section=_is_last(line))
    return table


def _contenders_table(
    benchmark: Benchmark, names: list[str], lines: list[Line], console: Console
) -> Table:
    table = _table("The same for each contender (in brackets: offloop divided by it)")
    table.columns[0].no_wrap = console.width >= _WIDE
    table.add_column("offloop", justify="right", style="bold green")
    for name in names:
        table.add_column(head(benchmark, name).replace(" ", "\n"), justify="right", min_width=6)
    for line in lines:
        cells = [escape(cell.replace("`", "")) for cell in _contender_cells(line, names)]
        table.add_row(*cells, end_section=_is_last(line))
    return table


def _table(title: str) -> Table:
    """Begin a table; in a narrow terminal its words wrap, and its numbers do not."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("what", min_width=24)
    return table


def _is_last(line: Line) -> bool:
    return line.goal is line.results.row.goals[-1]


def head(benchmark: Benchmark, name: str) -> str:
    """Return the head of a contender's column."""
    return benchmark.contenders[name].head or name


def _goal_heads(benchmark: Benchmark) -> list[str]:
    standard = benchmark.standard.title
    return ["what", "goal", "offloop", standard, f"x {standard}", "best peer", "x best"]


def _goal_cells(line: Line) -> list[str]:
    """Return the cells of one line, the mark left out."""
    verdict = line.verdict
    return [
        verdict.what,
        verdict.target,
        _with_unit(line.results, verdict.entrance, line.goal.metric),
        "-" if verdict.standard is None else format_number(verdict.standard[1]),
        "" if verdict.to_standard is None else format_number(verdict.to_standard),
        "-" if verdict.best is None else f"{format_number(verdict.best[1])} {verdict.best[0]}",
        "" if verdict.to_best is None else format_number(verdict.to_best),
    ]


def _contender_cells(line: Line, names: list[str]) -> list[str]:
    verdict = line.verdict
    cells = [f"{verdict.what} ({verdict.unit})".removesuffix(" ()")]
    for name in (verdict.entrance, *names):
        ratio = verdict.ratios.get(name)
        word = line.show(name).split(":")[0]
        cells.append(word if ratio is None else f"{word} ({format_number(ratio)})")
    return cells


def _with_unit(results: RowResults, name: str, metric: Metric) -> str:
    """Write a number with its unit; "1 of 10" would read as another number."""
    counted = results.value(name, metric) is not None
    unit = metric.unit if counted and not metric.unit.startswith(("of ", "x the")) else ""
    return f"{show(results, name, metric)} {unit}".strip()


def _mark(verdict: Verdict) -> str:
    return _MARKS[verdict.reached] if verdict.target else ""


def _markdown(benchmark: Benchmark, run: Run, lines: list[Line]) -> str:
    names = columns(benchmark, run)
    text = [
        f"# {benchmark.title}",
        "",
        *_circumstances(benchmark, run),
        "",
        "![The same numbers as a picture](results.png)",
        "",
        "## Numbers to reach",
        "",
        f"{benchmark.about_standard} The ratios are the number of offloop divided by theirs. Lines "
        "without a goal are there for comparison.",
        "",
        f"| {' | '.join(_goal_heads(benchmark))} | |",
        "|---|---|--:|--:|--:|--:|--:|---|",
        *(f"| {' | '.join(_goal_cells(line))} | {_mark(line.verdict)} |" for line in lines),
        "",
        "## The same for each contender",
        "",
        "In brackets: the number of offloop divided by this one.",
        "",
        f"| what | offloop | {' | '.join(head(benchmark, name) for name in names)} |",
        "|---|--:|" + "--:|" * len(names),
        *(f"| {' | '.join(_contender_cells(line, names))} |" for line in lines),
    ]
    for results in run.rows.values():
        text += _row_table(benchmark.standard, results)
    return "\n".join(text) + "\n"


def _circumstances(benchmark: Benchmark, run: Run) -> list[str]:
    form = "quick form" if run.quick else "full form"
    versions = ", ".join(f"{name} {version}" for name, version in run.packages.items())
    text = [
        f"Measured on {run.date} on {run.machine}, whose load average was {run.load:.1f} before.",
        f"`{run.command}`: {form}, {run.measured} cases in {run.seconds:.0f} s. Medians; "
        f"{benchmark.conditions}. {versions}. How to read this: `bench/README.md`.",
    ]
    text += [f"{name} was not measured: {reason}." for name, reason in run.absent.items()]
    if run.measured < run.planned:
        text.append(f"**Incomplete: {run.measured} of {run.planned} cases.**")
    return text


def _row_table(standard: Against, results: RowResults) -> list[str]:
    """Return all numbers of a row, each with its ratio to the standard's."""
    row = results.row
    titles = [f"{metric.title} ({metric.unit})".removesuffix(" ()") for metric in row.metrics]
    brackets = f"In brackets: the ratio to {standard.title}."
    lines = [
        "",
        f"## {row.title}",
        "",
        f"`{row.name}`. {row.about}",
        *([brackets] if set(standard.names) & set(results.cases) else []),
        "",
        f"| | {' | '.join(titles)} |",
        "|---" * (len(titles) + 1) + "|",
    ]
    for name in results.cases:
        cells = [_with_ratio(results, name, metric, standard) for metric in row.metrics]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [f"| {name} | {reason} |" for name, reason in row.without.items()]
    troubles = [
        f"- {name} {case.status}: `{case.error}`"
        for name, case in results.cases.items()
        if case.status != "ok"
    ]
    return [*lines, "", *troubles] if troubles else lines


def _with_ratio(results: RowResults, name: str, metric: Metric, standard: Against) -> str:
    text, value = show(results, name, metric), results.value(name, metric)
    best = standard.best(results, metric)
    if value is None or best is None or best[1] == 0:
        return text
    return f"{text} ({format_number(value / best[1])})"
