"""How a tool is measured: on a loop that stalls, starves, serves or sleeps in its own process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.harness.benchmark import Benchmark
from bench.harness.building import Programs
from bench.harness.goals import Against
from bench.harness.rows import Row
from bench.harness.turns import Turn
from bench.loop import asking
from bench.watch.contenders import CONTENDERS, NOTHING
from bench.watch.rows import ROWS
from bench.watch.rows.base import WatchRow

_HERE = Path(__file__).resolve().parent


def _needs_client(row: Row) -> bool:
    return isinstance(row, WatchRow) and row.needs_client


def _build(rows: Sequence[Row], programs: Programs) -> None:
    if any(map(_needs_client, rows)):
        asking.build_client(programs, tls=False)


def _absence(row: Row, programs: Programs) -> str | None:
    return asking.absence(programs, tls=False) if _needs_client(row) else None


def _ask(turn: Turn, programs: Programs) -> None:
    assert isinstance(turn.row, WatchRow)
    turn.row.ask(turn, programs)


BENCHMARK = Benchmark(
    name="watch",
    title="offloop's watch beside other tools that find stalls",
    conditions="each stall in a process of its own",
    rows=ROWS,
    contenders=CONTENDERS,
    option="--tools",
    lasting="how long the healthy service runs, for each tool",
    quick_minutes=6,
    output=_HERE.parent / "out" / "watch",
    standard=Against(NOTHING, (NOTHING,)),
    about_standard=f"`{NOTHING}` is a program that no tool watches.",
    base_title="a program that no tool watches",
    alternates=True,
    build=_build,
    absence=_absence,
    ask=_ask,
)
