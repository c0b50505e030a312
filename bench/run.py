"""Measure offloop beside its peers and the bare floor, in one run: the benchmark's one command.

Every scenario is put to every peer in fresh processes inside a time bound. The numbers go to the
screen, and to ``results.md``, ``results.json`` and ``results.png`` in the output directory; they
are written after every case, so that a run that is interrupted keeps what it has.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

if not __package__:
    # Started as a script: let the package be found, and its modules not shadow others.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import floor, machine, plot, report
from bench.cases import CaseRunner
from bench.peers import PEERS
from bench.results import OFFLOOP_NAMES, Run, Scenario, ScenarioResults
from bench.scenarios import SCENARIOS

HERE = Path(__file__).resolve().parent

#: Columns of what goes into a pipe or a file; a terminal has its own.
_WIDTH = 160
#: A load average beyond this means that something else was running when the run began.
_QUIET_LOAD = 0.5


def main() -> int:
    """Measure what the command line asks for, and write it down."""
    arguments = _parse()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    if not machine.take_two_cores():
        console.print("the benchmark needs two cores: everybody has two workers")
        return 1
    arguments.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    run = _describe(arguments)
    console.print(f"[bold]offloop bench[/] on {run.machine}")
    if run.load > _QUIET_LOAD:
        console.print(f"[yellow]the machine is not quiet: its load average is {run.load:.1f}[/]")
    plan = [
        (scenario, peer)
        for scenario in _scenarios(arguments.only)
        for peer in _peers(scenario, arguments.peers, quick=arguments.quick)
    ]
    run.planned = len(plan)
    status = 0
    try:
        if not arguments.only and not arguments.peers:
            _measure_floor(run, arguments.output, console)
        _measure(plan, CaseRunner(arguments.output, arguments.quick), run, console, started)
    except KeyboardInterrupt:
        console.print(f"[yellow]interrupted after {run.measured} of {run.planned} cases[/]")
        status = 130
    run.seconds = time.monotonic() - started
    if not run.measured:
        return status
    report.write(run, arguments.output)
    plot.draw(run, arguments.output / "results.png")
    report.show_verdicts(run, console)
    console.print(f"{run.seconds:.0f} s; written to {arguments.output}/results.md, .json, .png")
    return status


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer samples and peers, in about 4 minutes"
    )
    parser.add_argument(
        "--only", type=_names(SCENARIOS), default=[], metavar="A,B", help="only these scenarios"
    )
    parser.add_argument(
        "--peers", type=_names(PEERS), default=[], metavar="A,B", help="only these peers"
    )
    parser.add_argument(
        "--output", type=Path, default=HERE / "out", help="where the results go (bench/out)"
    )
    return parser.parse_args()


def _names(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    """Return a reader of comma-separated names that knows which there are."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return names

    return read


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C: with what was measured so far."""
    raise KeyboardInterrupt


def _describe(arguments: argparse.Namespace) -> Run:
    return Run(
        machine=str(machine.Machine.read()),
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        load=os.getloadavg()[0],
        quick=arguments.quick,
        packages=machine.packages(),
    )


def _scenarios(only: list[str]) -> list[Scenario]:
    return [scenario for name, scenario in SCENARIOS.items() if not only or name in only]


def _peers(scenario: Scenario, only: list[str], *, quick: bool) -> list[str]:
    """Return whom this scenario is put to."""
    others = [peer for peer in PEERS if peer not in OFFLOOP_NAMES and peer not in scenario.without]
    if only:
        return [peer for peer in only if peer in (*scenario.entrances, *others)]
    if quick:
        return [*scenario.entrances, "ppe-forkserver", *scenario.quick_peers]
    return [*scenario.entrances, *others]


def _measure_floor(run: Run, output: Path, console: Console) -> None:
    console.print("the floor: two processes without Python")
    run.floor = floor.measure(HERE / "floor", output)
    if not run.floor:
        console.print("[yellow]the floor is not measured: cargo is absent or failed[/]")


def _measure(
    plan: list[tuple[Scenario, str]],
    runner: CaseRunner,
    run: Run,
    console: Console,
    started: float,
) -> None:
    """Run every case, one after the other, show how far we are, and write what there is."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # Redrawn only between cases: a display that moves would be measured too.
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        task = progress.add_task("", total=len(plan))
        for scenario, peer in plan:
            progress.update(task, description=f"{scenario.name}: {peer}", refresh=True)
            result = runner.run(scenario, peer)
            run.scenarios.setdefault(scenario.name, ScenarioResults()).cases[peer] = result
            run.seconds = time.monotonic() - started
            report.write(run, runner.output)
            progress.console.print(report.case_line(scenario, peer, result))
            progress.advance(task)
        progress.refresh()


if __name__ == "__main__":
    raise SystemExit(main())
