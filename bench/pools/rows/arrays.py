"""NumPy arrays as arguments and as results, from 80 KB to 400 MB."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from bench import work
from bench.harness.accounts import CpuMeter
from bench.harness.goals import BEST_PEER, Goal, Limit, Ratio
from bench.harness.rows import Metric
from bench.pools.rows.base import LIKE_FORKSERVER, Case, row

if TYPE_CHECKING:
    from bench.work import Array

#: Bytes, and how many calls are timed in the full and the quick form; none: left out.
SIZES = {
    "80 KB": (80_000, 300, 100),
    "8 MB": (8_000_000, 20, 10),
    "80 MB": (80_000_000, 5, 4),
    "400 MB": (400_000_000, 3, 0),
}


def _metrics(prefix: str, title: str) -> dict[str, Metric]:
    return {
        size: Metric(f"{prefix}_{size}", f"{size} as {title}", "GB/s", higher_is_better=True)
        for size in SIZES
    }


ARGUMENT = _metrics("argument", "argument")
RESULT = _metrics("result", "result")
#: The CPU of all processes per call; it includes rewriting and summing up the array.
CPU = {
    size: (
        Metric(f"argument_cpu_{size}", f"CPU, {size} as argument", "us/call"),
        Metric(f"result_cpu_{size}", f"CPU, {size} as result", "us/call"),
    )
    for size in ("80 KB", "80 MB")
}


async def run(case: Case) -> None:
    """Measure every size in both directions, one call at a time, warm."""
    import numpy

    await case.peer.open(2)
    for size, (array_bytes, full, quick) in SIZES.items():
        if case.pick(full, quick) == 0:
            continue
        array = numpy.arange(array_bytes // 8, dtype=numpy.float64)
        calls = case.pick(full, quick)
        argument_cpu, result_cpu = CPU.get(size, (None, None))
        await _repeat(case, _send, array, calls, ARGUMENT[size], argument_cpu)
        await _repeat(case, _receive, array, calls, RESULT[size], result_cpu)


async def _repeat(
    case: Case,
    travel: Callable[[Case, Array, int], Awaitable[float]],
    array: Array,
    calls: int,
    metric: Metric,
    cpu_metric: Metric | None,
) -> None:
    """Warm up, and record the speed of each call and the CPU of all."""
    # Each worker makes its own array on the first call for it.
    for number in range(3):
        await travel(case, array, number)
    cpu = CpuMeter()
    cpu.start()
    times = [await travel(case, array, 100 + number) for number in range(calls)]
    cpu_us = cpu.stop() / calls / 1000
    for seconds in times:
        case.add(metric.key, array.nbytes / seconds / 1e9)
    if cpu_metric is not None:
        case.add(cpu_metric.key, cpu_us)


async def _send(case: Case, array: Array, seed: int) -> float:
    """Send the array, and return the seconds until the sum of its pages came back."""
    expected = work.stamp(array, seed)
    before = time.perf_counter()
    answer = await case.peer.begin(work.read_sum, array, seed)
    seconds = time.perf_counter() - before
    assert answer == expected, f"the worker read {answer}, {expected} was sent"
    return seconds


async def _receive(case: Case, model: Array, seed: int) -> float:
    """Ask for an array like the model, and return the seconds until its pages were read."""
    expected = work.stamp(model, seed)
    before = time.perf_counter()
    array = await case.peer.begin(work.make_array, model.size, seed)
    found = work.read_sum(array, seed)
    seconds = time.perf_counter() - before
    assert array.size == model.size, f"{array.size} elements came, {model.size} were asked for"
    assert found == expected, f"the result holds {found}, {expected} was written"
    return seconds


def _goals() -> tuple[Goal, ...]:
    threefold = Ratio(3, BEST_PEER)
    goals = []
    for size in SIZES:
        bounds = (threefold,) if size == "80 KB" else (Limit(5), threefold)
        for direction in (ARGUMENT, RESULT):
            metric = direction[size]
            goals.append(Goal(f"NumPy, {metric.title}", metric, bounds))
    return tuple(goals)


ROW = row(
    name="arrays",
    title="NumPy float64 arrays as argument and as result, warm",
    about="One call at a time. Elements are rewritten before every call and read back on the other "
    "side, which also reads one element of every page, and writes to the array: the time counts "
    "until then, so that a pool that only maps the bytes pays for their use.",
    metrics=(*ARGUMENT.values(), *RESULT.values(), *CPU["80 KB"], *CPU["80 MB"]),
    run=run,
    without=LIKE_FORKSERVER,
    goals=_goals(),
    bound_s=240,
    quick_peers=("multiprocessing",),
    packages=("numpy",),
)
