"""Measure offloop's event loop beside its peers and a floor in C: the one command.

Each number comes from a fresh process. The contenders of a row take turns, forwards and backwards,
so that a machine that slows down does so for all; a number is the median of its turns.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

if not __package__:
    # Started as a script: let the package be found, and its modules not shadow others.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from rich.console import Console
from rich.markup import escape

from bench import machine
from bench.loop import build, plot, report
from bench.loop.contenders import CONTENDERS, FLOOR, packages
from bench.loop.driver import Driver, Failure
from bench.loop.rows import ROWS
from bench.loop.rows.base import Row, RowResults
from bench.results import CaseResult, Cell, Run

_OUTPUT = Path(__file__).resolve().parents[1] / "out" / "loop"
#: Columns of what goes into a pipe or a file; a terminal has its own.
_WIDTH = 160
#: A load average beyond this means that something else was running when the run began.
_QUIET_LOAD = 0.5
#: What the rows of web servers use besides the contenders.
_FRAMEWORKS = ("uvicorn", "starlette", "httptools", "aiohttp")


def main() -> int:
    """Measure what the command line asks for, and write it down."""
    arguments = _parse()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    if not machine.take_two_cores():
        console.print("the benchmark needs two cores: one for a server and one for its client")
        return 1
    arguments.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    rows = [ROWS[name] for name in arguments.only]
    plan = [(row, _present(row, arguments)) for row in rows]
    run = _describe(arguments, plan)
    console.print(f"[bold]offloop bench, the loop[/] on {run.machine}")
    if run.load > _QUIET_LOAD:
        console.print(f"[yellow]the machine is not quiet: its load average is {run.load:.1f}[/]")
    tools = build.build(rows, arguments.output)
    for problem in (*tools.problems, *_absences(rows, arguments)):
        console.print(f"[yellow]{escape(problem)}[/]")
    status = 0
    began = time.monotonic()
    try:
        _measure(plan, arguments, tools, run, console)
    except KeyboardInterrupt:
        console.print(f"[yellow]interrupted after {run.measured} of {run.planned} cases[/]")
        status = 130
    run.seconds = time.monotonic() - began
    if run.measured:
        _conclude(run, arguments, console)
    return status


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.loop", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter turns, in about 6 minutes"
    )
    parser.add_argument(
        "--only",
        type=_row_names,
        default=list(ROWS),
        metavar="A,B*",
        help=f"only these rows, by name or pattern: {', '.join(ROWS)}",
    )
    parser.add_argument(
        "--loops",
        type=_contender_names,
        default=None,
        metavar="A,B",
        help=f"only these contenders: {', '.join((*CONTENDERS, FLOOR))}",
    )
    parser.add_argument(
        "--rounds", type=_positive, default=None, help="how many turns each contender has"
    )
    parser.add_argument(
        "--output", type=Path, default=_OUTPUT, help="where the results go (bench/out/loop)"
    )
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="a second copy of results.json"
    )
    return parser.parse_args()


def _row_names(text: str) -> list[str]:
    wanted = text.split(",")
    if unknown := [name for name in wanted if not fnmatch.filter(ROWS, name)]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return [name for name in ROWS if any(fnmatch.fnmatch(name, pattern) for pattern in wanted)]


def _contender_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in (*CONTENDERS, FLOOR)]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one")
    return number


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C: with what was measured so far."""
    raise KeyboardInterrupt


def _describe(arguments: argparse.Namespace, plan: list[tuple[Row, list[str]]]) -> Run:
    names = dict.fromkeys(name for _, present in plan for name in present)
    measured = packages(names)
    if any(row.load is not None and row.load.command == "http" for row, _ in plan):
        measured += _FRAMEWORKS
    return Run(
        machine=str(machine.Machine.read()),
        command=shlex.join(["python", "-m", "bench.loop", *sys.argv[1:]]),
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        load=os.getloadavg()[0],
        quick=arguments.quick,
        packages=machine.packages(measured),
        planned=sum(len(present) for _, present in plan),
    )


def _wanted(row: Row, arguments: argparse.Namespace) -> list[str]:
    """Return whom a row is put to, as far as the command line wants them."""
    if arguments.loops is None:
        return row.names(quick=arguments.quick)
    return [name for name in row.names(quick=False) if name in arguments.loops]


def _present(row: Row, arguments: argparse.Namespace) -> list[str]:
    """Return those of them that can be measured here."""
    names = _wanted(row, arguments)
    return [name for name in names if name == FLOOR or CONTENDERS[name].absence() is None]


def _absences(rows: Iterable[Row], arguments: argparse.Namespace) -> list[str]:
    """Say who is not measured, and why."""
    names = dict.fromkeys(name for row in rows for name in _wanted(row, arguments))
    reasons = {name: CONTENDERS[name].absence() for name in names if name != FLOOR}
    return [f"{name} is not measured: {reason}" for name, reason in reasons.items() if reason]


def _measure(
    plan: list[tuple[Row, list[str]]],
    arguments: argparse.Namespace,
    tools: build.Tools,
    run: Run,
    console: Console,
) -> None:
    """Put every row to its contenders in turns, and show the numbers of each row."""
    server, client, *_ = sorted(os.sched_getaffinity(0))
    driver = Driver(arguments.output, tools, arguments.quick, (server, client))
    began = time.monotonic()
    for row, names in plan:
        results = RowResults()
        run.scenarios[row.name] = results
        rounds = arguments.rounds or row.rounds[arguments.quick]
        reason = tools.absence(row)
        for number in range(rounds):
            for name in names if number % 2 == 0 else reversed(names):
                case = results.cases.setdefault(name, CaseResult())
                if reason is None:
                    _take_turn(driver, row, name, case)
                else:
                    _mark(row, case, "not measured", reason)
        run.seconds = time.monotonic() - began
        report.write(run, arguments.output)
        console.print(report.row_line(row, results))


def _take_turn(driver: Driver, row: Row, name: str, case: CaseResult) -> None:
    """Measure once more, unless it failed before."""
    if case.status != "ok":
        return
    if name == FLOOR and row.floor is not None and row.floor[0] not in driver.tools.floors:
        _mark(row, case, "not built", "see the beginning of the run")
        return
    began = time.monotonic()
    try:
        numbers = driver.measure(row, name)
    except Failure as failure:
        _mark(row, case, failure.word, failure.error)
    else:
        for key, value in numbers.items():
            case.cells.setdefault(key, Cell()).samples.append(value)
    case.seconds += time.monotonic() - began


def _mark(row: Row, case: CaseResult, word: str, error: str) -> None:
    """Let a word stand in place of the numbers; the samples until then are kept beside it."""
    case.status, case.error = word, error
    for metric in row.metrics:
        case.cells.setdefault(metric.key, Cell()).note = word


def _conclude(run: Run, arguments: argparse.Namespace, console: Console) -> None:
    report.write(run, arguments.output)
    if arguments.json is not None:
        shutil.copyfile(arguments.output / "results.json", arguments.json)
    picture = plot.draw(run, arguments.output / "results.png")
    report.show(run, console)
    written = "results.md, .json, .png" if picture else "results.md, .json"
    console.print(f"{run.seconds:.0f} s; written to {arguments.output}/{written}")


if __name__ == "__main__":
    raise SystemExit(main())
