"""Measure offloop beside its peers and the bare floor, in one run: the benchmark's one command.

Every scenario is put to every peer in fresh processes inside a time bound. The numbers go to the
screen, and to ``results.md``, ``results.json`` and ``results.png`` in the output directory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

if not __package__:
    # Started as a script: let the package be found, and its modules not shadow others.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import floor, plot, report
from bench.cases import CaseRunner
from bench.machine import Machine
from bench.peers import PEERS
from bench.results import OFFLOOP_NAMES, Run, Scenario, ScenarioResults
from bench.scenarios import SCENARIOS

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Measure what the command line asks for, and write it down."""
    arguments = _parse()
    console = Console()
    arguments.output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    machine = Machine.read()
    console.print(f"[bold]offloop bench[/] on {machine}")
    run = Run(machine=str(machine), quick=arguments.quick)
    if not arguments.only and not arguments.peers:
        run.floor = floor.measure(HERE / "floor", arguments.output)
        if not run.floor:
            console.print("[yellow]the floor is not measured: cargo is absent or failed[/]")
    plan = [
        (scenario, peer)
        for scenario in _scenarios(arguments.only)
        for peer in _peers(scenario, arguments.peers, quick=arguments.quick)
    ]
    _measure(plan, CaseRunner(arguments.output, arguments.quick), run, console)
    run.seconds = time.monotonic() - started
    report.write(run, arguments.output)
    plot.draw(run, arguments.output / "results.png")
    report.show_verdicts(run, console)
    console.print(f"{run.seconds:.0f} s; written to {arguments.output}/results.md, .json, .png")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer samples and peers, under 3 minutes"
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


def _scenarios(only: list[str]) -> list[Scenario]:
    return [scenario for name, scenario in SCENARIOS.items() if not only or name in only]


def _peers(scenario: Scenario, only: list[str], *, quick: bool) -> list[str]:
    """Return whom this scenario is put to."""
    if only:
        return [peer for peer in only if peer not in scenario.without]
    if quick:
        return [*scenario.entrances, "ppe-forkserver", *scenario.quick_peers]
    others = [peer for peer in PEERS if peer not in OFFLOOP_NAMES]
    return [*scenario.entrances, *(peer for peer in others if peer not in scenario.without)]


def _measure(
    plan: list[tuple[Scenario, str]], runner: CaseRunner, run: Run, console: Console
) -> None:
    """Run every case, one after the other, and show how far we are."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(plan))
        for scenario, peer in plan:
            progress.update(task, description=f"{scenario.name}: {peer}")
            result = runner.run(scenario, peer)
            run.scenarios.setdefault(scenario.name, ScenarioResults()).cases[peer] = result
            progress.console.print(report.case_line(scenario, peer, result))
            progress.advance(task)


if __name__ == "__main__":
    raise SystemExit(main())
