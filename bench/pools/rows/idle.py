"""What a pool does while it has no calls: nothing, if it is a good one."""

from __future__ import annotations

import asyncio

from bench import work
from bench.harness.accounts import CpuMeter, own_tree, voluntary_switches
from bench.harness.goals import exactly
from bench.harness.rows import Metric
from bench.pools.rows.base import Case, row

PARENT = Metric("parent", "wake-ups of the parent", "1/s")
WORKERS = Metric("workers", "wake-ups of workers and helpers", "1/s")
CPU = Metric("cpu_us", "CPU of all processes", "us/s")


async def run(case: Case) -> None:
    """Use the pool once, let it settle, and count for some seconds how often processes sleep."""
    await case.peer.open(2)
    for number in range(10):
        assert await case.peer.begin(work.echo, number) == number
    await asyncio.sleep(1.5)
    seconds = case.pick(2, 1)
    for _ in range(case.pick(3, 2)):
        tree = own_tree()
        parent, others = tree[:1], tree[1:]
        before = voluntary_switches(parent), voluntary_switches(others)
        cpu = CpuMeter()
        cpu.start()
        await asyncio.sleep(seconds)
        case.add(CPU.key, cpu.stop() / seconds / 1000)
        # The sleep of this coroutine is the one switch that is not the pool's.
        switches = voluntary_switches(parent) - before[0] - 1
        case.add(PARENT.key, max(0, switches) / seconds)
        case.add(WORKERS.key, (voluntary_switches(others) - before[1]) / seconds)


GOALS = (
    exactly("wake-ups of an idle parent", PARENT, 0),
    exactly("wake-ups of idle workers and helpers", WORKERS, 0),
)

ROW = row(
    name="idle",
    title="Idle parent and workers",
    about="Voluntary context switches of all threads over three times 2 seconds (twice 1 in the "
    "quick form): in the parent, and in workers, fork servers, zygotes and trackers together. The "
    "parent runs the standard loop; its one timer that ends the time is taken off the switches, "
    "but not off the CPU.",
    metrics=(PARENT, WORKERS, CPU),
    run=run,
    goals=GOALS,
    quick_peers=("multiprocessing",),
    is_outcome=True,
)
