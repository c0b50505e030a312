"""The command of a benchmark: measures what the command line asks for, and writes it down.

Each turn has fresh processes inside a time bound, and a number stands for its samples.
The files are written whenever numbers are complete, so that a run that is interrupted keeps them.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import math
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.harness import machine, plot, report
from bench.harness.benchmark import Benchmark
from bench.harness.building import Programs
from bench.harness.goals import judged
from bench.harness.results import CaseResult, RowResults, Run
from bench.harness.rows import Role, Row
from bench.harness.turns import Failure, Turn

#: Columns of what goes into a pipe or a file; a terminal has its own.
_WIDTH = 160
#: A load average beyond this means that something else was running when the run began.
_QUIET_LOAD = 0.5

Plan = list[tuple[Row, list[str]]]


def main(benchmark: Benchmark) -> int:
    """Measure what the command line asks for, and write it down."""
    arguments = _parse(benchmark)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    if not machine.take_two_cores():
        console.print(f"the benchmark needs two cores: {benchmark.conditions}")
        return 1
    arguments.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    plan, absent = _plan(benchmark, arguments)
    run = _describe(benchmark, arguments, plan, absent)
    console.print(f"[bold]offloop bench, {benchmark.name}[/] on {run.machine}")
    if run.load > _QUIET_LOAD:
        console.print(f"[yellow]the machine is not quiet: its load average is {run.load:.1f}[/]")
    programs = Programs(arguments.output)
    benchmark.build([row for row, _ in plan], programs)
    absences = [f"{name} is not measured: {reason}" for name, reason in absent.items()]
    for problem in (*programs.problems, *absences):
        console.print(f"[yellow]{escape(problem)}[/]")
    session = _Session(benchmark, arguments, programs, run, console)
    status = 0
    try:
        session.measure(plan)
    except KeyboardInterrupt:
        console.print(f"[yellow]interrupted after {run.measured} of {run.planned} cases[/]")
        status = 130
    if run.measured:
        session.conclude()
    return status


def _parse(benchmark: Benchmark) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"bench.{benchmark.name}", description=benchmark.title)
    rows, contenders = benchmark.rows, benchmark.contenders
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"fewer and shorter turns, in about {benchmark.quick_minutes} minutes",
    )
    parser.add_argument(
        "--only",
        type=_names(rows),
        default=list(rows),
        metavar="A,B*",
        help=f"only these rows, by name or pattern: {', '.join(rows)}",
    )
    parser.add_argument(
        benchmark.option,
        dest="contenders",
        type=_names(contenders),
        default=None,
        metavar="A,B*",
        help=f"only these contenders, by name or pattern: {', '.join(contenders)}",
    )
    parser.add_argument(
        "--rounds", type=_positive, default=None, help="how many turns each contender has"
    )
    if benchmark.lasting is not None:
        parser.add_argument("--minutes", type=_minutes, default=0.0, help=benchmark.lasting)
    parser.add_argument(
        "--output", type=Path, default=benchmark.output, help="where the results go"
    )
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="a second copy of results.json"
    )
    return parser.parse_args()


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a reader of comma-separated names and patterns that knows which names there are."""
    names = list(known)

    def read(text: str) -> list[str]:
        wanted = text.split(",")
        if unknown := [pattern for pattern in wanted if not fnmatch.filter(names, pattern)]:
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(unknown)}; there are {', '.join(names)}"
            )
        return [name for name in names if any(fnmatch.fnmatch(name, each) for each in wanted)]

    return read


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one")
    return number


def _minutes(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("more than none")
    return number


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C: with what was measured so far."""
    raise KeyboardInterrupt


def _plan(benchmark: Benchmark, arguments: argparse.Namespace) -> tuple[Plan, dict[str, str]]:
    """Return each row with its contenders, and why wanted contenders are absent."""
    wanted = {}
    for row in (benchmark.rows[name] for name in arguments.only):
        names = row.names(quick=arguments.quick and arguments.contenders is None)
        chosen = names if arguments.contenders is None else arguments.contenders
        wanted[row.name] = [name for name in names if name in chosen]
    asked = dict.fromkeys(name for names in wanted.values() for name in names)
    reasons = {name: benchmark.contenders[name].absence() for name in asked}
    absent = {name: reason for name, reason in reasons.items() if reason}
    present = {row: [name for name in names if name not in absent] for row, names in wanted.items()}
    return [(benchmark.rows[row], names) for row, names in present.items() if names], absent


def _describe(
    benchmark: Benchmark, arguments: argparse.Namespace, plan: Plan, absent: dict[str, str]
) -> Run:
    asked = [benchmark.contenders[name] for _, names in plan for name in names]
    packages = [contender.package for contender in asked if contender.package]
    packages += [package for row, _ in plan for package in row.packages]
    return Run(
        machine=str(machine.Machine.read()),
        command=shlex.join(["python", "-m", f"bench.{benchmark.name}", *sys.argv[1:]]),
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        load=os.getloadavg()[0],
        quick=arguments.quick,
        planned=sum(len(names) for _, names in plan),
        packages=machine.packages(dict.fromkeys(packages)),
        absent=absent,
    )


class _Session:
    """One run of the command."""

    def __init__(
        self,
        benchmark: Benchmark,
        arguments: argparse.Namespace,
        programs: Programs,
        run: Run,
        console: Console,
    ) -> None:
        self._benchmark = benchmark
        self._arguments = arguments
        self._output: Path = arguments.output
        self._programs = programs
        self._run = run
        self._console = console
        self._began = time.monotonic()

    def measure(self, plan: Plan) -> None:
        """Take all turns, show how far we are, and write what there is."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        counts = [(len(names), self._rounds(row)) for row, names in plan]
        # Redrawn only between turns: a display that moves would be measured too.
        with Progress(*columns, console=self._console, auto_refresh=False) as progress:
            task = progress.add_task("", total=sum(names * rounds for names, rounds in counts))
            for row, names in plan:
                results = RowResults(row, self._benchmark.contenders)
                self._run.rows[row.name] = results
                for batch in batches(names, self._rounds(row), self._benchmark.alternates):
                    for name in batch:
                        text = f"{row.name}: {name}"
                        progress.update(task, description=text, refresh=True)
                        self._take_turn(results, name)
                        progress.advance(task)
                    self._write()
                    for name in dict.fromkeys(batch):
                        progress.console.print(report.case_line(results, name))
            progress.refresh()

    def conclude(self) -> None:
        """Write the files a last time, draw, and show the tables."""
        self._write()
        if self._arguments.json is not None:
            shutil.copyfile(self._output / "results.json", self._arguments.json)
        lines = judged(self._run, self._benchmark.standard)
        picture = plot.draw(self._benchmark, self._run, lines, self._output / "results.png")
        report.show_tables(self._benchmark, self._run, lines, self._console)
        written = "results.md, .json, .png" if picture else "results.md, .json"
        self._console.print(f"{self._run.seconds:.0f} s; written to {self._output}/{written}")

    def _rounds(self, row: Row) -> int:
        rounds: int = self._arguments.rounds or row.rounds[self._arguments.quick]
        return rounds

    def _write(self) -> None:
        self._run.seconds = time.monotonic() - self._began
        report.write(self._benchmark, self._run, self._output)

    def _take_turn(self, results: RowResults, name: str) -> None:
        """Measure once more, unless it failed before."""
        row, case = results.row, results.cases.get(name, CaseResult())
        if case.status != "ok":
            return
        began = time.monotonic()
        turn = Turn(
            self._benchmark.name,
            row,
            self._benchmark.contenders[name],
            self._output,
            quick=self._arguments.quick,
            minutes=getattr(self._arguments, "minutes", 0.0),
        )
        with turn:
            try:
                self._ask(turn)
            except Failure as failure:
                error = failure.error or turn.last_words()
                lacking = "ModuleNotFoundError" in error or "ImportError" in error
                missing = [metric.key for metric in row.metrics if metric.key not in turn.cells]
                case.fail("not installed" if lacking else failure.word, error, missing)
        case.add(turn.cells)
        case.seconds += time.monotonic() - began
        results.cases[name] = case

    def _ask(self, turn: Turn) -> None:
        reason = self._benchmark.absence(turn.row, self._programs)
        if reason is not None:
            raise Failure("not measured", reason)
        if turn.contender.role is Role.FLOOR and turn.row.program[0] not in self._programs.built:
            raise Failure("not built", "see the beginning of the run")
        self._benchmark.ask(turn, self._programs)


def batches(names: list[str], rounds: int, alternates: bool) -> list[list[str]]:
    """Return the turns of a row in their order, parted where numbers are complete.

    Contenders that alternate go forwards, then backwards, so that a machine that slows down does
    so for all. The remaining contenders have one batch each.
    """
    if not alternates:
        return [[name] * rounds for name in names]
    there_and_back = (names, names[::-1])
    return [[name for number in range(rounds) for name in there_and_back[number % 2]]]
