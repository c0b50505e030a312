"""How a pool is measured: in a process that writes its samples to a file.

Its workers share its output, so a file is the only place that is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.harness.benchmark import Benchmark
from bench.harness.building import Programs
from bench.harness.rows import Role, Row
from bench.harness.turns import Turn
from bench.pools.contenders import CONTENDERS, PPE
from bench.pools.rows import ROWS

_HERE = Path(__file__).resolve().parent


def _build(rows: Sequence[Row], programs: Programs) -> None:
    for name in dict.fromkeys(row.program[0] for row in rows if row.program):
        programs.cargo(name, _HERE / "floor", "offloop-bench-floor")


def _ask(turn: Turn, programs: Programs) -> None:
    if turn.contender.role is Role.FLOOR:
        name, *words = turn.row.program
        turn.answered(turn.start([str(programs.built[name]), *words]).answer())
    else:
        turn.sample()


BENCHMARK = Benchmark(
    name="pools",
    title="offloop beside its peers",
    conditions="every peer has 2 workers and the same 2 cores",
    rows=ROWS,
    contenders=CONTENDERS,
    option="--peers",
    quick_minutes=4,
    output=_HERE.parent / "out",
    standard=PPE,
    about_standard="`PPE` is the best start method of `ProcessPoolExecutor`, `best peer` the best "
    "of all but offloop.",
    base_title="the best ProcessPoolExecutor (starts: its forkserver form)",
    alternates=False,
    build=_build,
    ask=_ask,
)
