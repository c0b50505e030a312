"""What a pool does while nobody asks anything of it: nothing, if it is a good one."""

from __future__ import annotations

import asyncio

from bench import work
from bench.measure import CpuMeter, own_tree, voluntary_switches
from bench.reach import limit
from bench.results import Case, Metric, Reach, Scenario

WAKEUPS = Metric("wakeups", "wake-ups of all threads", "1/s")
CPU = Metric("cpu_us", "CPU of all processes", "us/s")


async def run(case: Case) -> None:
    """Use the pool once, let it settle, and count for some seconds who goes back to sleep."""
    await case.peer.open(2)
    for number in range(10):
        assert await case.peer.begin(work.echo, number) == number
    await asyncio.sleep(1.5)
    seconds = case.pick(5, 2)
    for _ in range(case.pick(2, 1)):
        tree = own_tree()
        before = voluntary_switches(tree)
        cpu = CpuMeter()
        cpu.start()
        await asyncio.sleep(seconds)
        case.add(CPU.key, cpu.stop() / seconds / 1000)
        # The sleep of this coroutine is the one switch that is not the pool's.
        switches = voluntary_switches(tree) - before - 1
        case.add(WAKEUPS.key, max(0, switches) / seconds)


def reach() -> tuple[Reach, ...]:
    """Give the number to reach."""
    return (limit("wake-ups of idle parent and workers", WAKEUPS, 0),)


SCENARIO = Scenario(
    name="idle",
    title="Idle parent and workers",
    about="Voluntary context switches of all threads of all processes over 5 seconds (2 in the "
    "quick form), on the standard loop; the timer that ends them is taken off. The CPU column "
    "contains it.",
    metrics=(WAKEUPS, CPU),
    run=run,
    reach=reach,
    quick_peers=("multiprocessing",),
)
