"""NumPy arrays as arguments and as results, from 80 KB to 400 MB."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import work
from bench.measure import CpuMeter
from bench.reach import BEST_PEER, limit, ratio
from bench.results import Case, Metric, Reach, Scenario

if TYPE_CHECKING:
    from bench.work import Array

#: Bytes, and how many calls are timed in the full and the quick form; none: left out.
SIZES = {
    "80 KB": (80_000, 300, 100),
    "8 MB": (8_000_000, 30, 10),
    "80 MB": (80_000_000, 10, 4),
    "400 MB": (400_000_000, 4, 0),
}


def _metrics(prefix: str, title: str) -> dict[str, Metric]:
    return {
        size: Metric(f"{prefix}_{size}", f"{size} as {title}", "GB/s", higher_is_better=True)
        for size in SIZES
    }


ARGUMENT = _metrics("argument", "argument")
RESULT = _metrics("result", "result")
CPU = Metric("cpu_80mb_ms", "CPU of all processes, 80 MB as argument", "ms/call")


async def run(case: Case) -> None:
    """Measure every size in both directions, one call at a time, warm."""
    import numpy

    await case.peer.open(2)
    for size, (array_bytes, full, quick) in SIZES.items():
        if case.pick(full, quick) == 0:
            continue
        array = numpy.arange(array_bytes // 8, dtype=numpy.float64)
        calls = case.pick(full, quick)
        await _send_many(case, array, size, calls)
        # Each worker makes its array on its first call.
        for number in range(4):
            await _receive(case, array, number)
        for number in range(calls):
            seconds = await _receive(case, array, 100 + number)
            case.add(RESULT[size].key, array_bytes / seconds / 1e9)


async def _send_many(case: Case, array: Array, size: str, calls: int) -> None:
    for number in range(2):
        await _send(case, array, number)
    cpu = CpuMeter()
    cpu.start()
    for number in range(calls):
        seconds = await _send(case, array, 100 + number)
        case.add(ARGUMENT[size].key, array.nbytes / seconds / 1e9)
    if size == "80 MB":
        case.add(CPU.key, cpu.stop() / calls / 1e6)


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


def reach() -> tuple[Reach, ...]:
    """Give the numbers to reach."""
    small = "80 KB"
    lines = [
        ratio("NumPy, 80 KB as argument", ARGUMENT[small], 3, BEST_PEER),
        ratio("NumPy, 80 KB as result", RESULT[small], 3, BEST_PEER),
    ]
    for size in ("8 MB", "80 MB", "400 MB"):
        for direction in (ARGUMENT, RESULT):
            metric = direction[size]
            lines.append(limit(f"NumPy, {metric.title}", metric, 5))
            lines.append(ratio(f"NumPy, {metric.title}", metric, 3, BEST_PEER))
    return tuple(lines)


SCENARIO = Scenario(
    name="arrays",
    title="NumPy float64 arrays as argument and as result, warm",
    about="One call at a time. Elements are rewritten before every call and read back on the other "
    "side, which also reads one element of every page, and writes to the array: the time counts "
    "until then, so that a pool that only maps the bytes pays for their use.",
    metrics=(*ARGUMENT.values(), *RESULT.values(), CPU),
    run=run,
    reach=reach,
    bound_s=240,
    quick_peers=("multiprocessing",),
)
