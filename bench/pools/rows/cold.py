"""The first result of a cold pool, in a process that had no pool before."""

from __future__ import annotations

import os
import time

from bench import work
from bench.harness.accounts import CpuMeter
from bench.harness.goals import ratio
from bench.harness.rows import Metric
from bench.pools.contenders import PPE_FORKSERVER
from bench.pools.rows.base import Case, row

FIRST = Metric("first_ms", "first result", "ms")
CPU = Metric("cpu_ms", "CPU of all processes until then", "ms")


async def run(case: Case) -> None:
    """Make the pool and await one call. The package itself was imported before."""
    cpu = CpuMeter()
    cpu.start()
    argument = os.getpid()
    before = time.perf_counter()
    await case.peer.open(2)
    answer = await case.peer.begin(work.echo, argument)
    case.add(FIRST.key, (time.perf_counter() - before) * 1000)
    case.add(CPU.key, cpu.stop() / 1e6)
    assert answer == argument, "a wrong answer"


GOALS = (ratio("first result of a cold pool", FIRST, 0.5, PPE_FORKSERVER, standard=PPE_FORKSERVER),)

ROW = row(
    name="cold",
    title="First result of a cold pool",
    about="From making the pool to the first answer; every sample has a fresh parent process. "
    "Plain fork starts fastest, and copies whatever threads and locks the parent has.",
    metrics=(FIRST, CPU),
    run=run,
    goals=GOALS,
    bound_s=30,
    rounds=(5, 3),
    quick_peers=("loky",),
    entrances=("offloop", "offloop-adopted"),
)
