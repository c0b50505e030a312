"""The classic mistake: a pool made, used once and closed for every request."""

from __future__ import annotations

import time

from bench import work
from bench.harness.accounts import CpuMeter
from bench.harness.goals import limit
from bench.harness.rows import Metric
from bench.pools.rows.base import Case, row

REQUEST = Metric("request_ms", "pool made, used once, closed", "ms")
CPU = Metric("cpu_ms", "CPU of all processes", "ms/request")


async def run(case: Case) -> None:
    """Make a pool of 2, await one call, close the pool; again and again."""
    requests = case.pick(15, 10)
    await _request(case, 0)
    cpu = CpuMeter()
    cpu.start()
    for number in range(1, requests + 1):
        before = time.perf_counter()
        await _request(case, number)
        case.add(REQUEST.key, (time.perf_counter() - before) * 1000)
    case.add(CPU.key, cpu.stop() / requests / 1e6)


async def _request(case: Case, number: int) -> None:
    await case.peer.open(2)
    assert await case.peer.begin(work.echo, number) == number
    await case.peer.close()


GOALS = (
    limit("a pool per request, adopted", REQUEST, 2, entrance="offloop-adopted"),
    limit("a pool per request, `async with`", REQUEST, 2, entrance="offloop-pool"),
)

ROW = row(
    name="per-request",
    title="A pool made, used once and closed per request",
    about="The first request, which pays for the start of everything, is left out. `adopted` is "
    "the standard pool's own code under `offloop run`.",
    metrics=(REQUEST, CPU),
    run=run,
    goals=GOALS,
    bound_s=90,
    quick_peers=("multiprocessing",),
    without={"anyio": "has no pools to make and close"},
    entrances=("offloop-pool", "offloop-adopted"),
)
