"""How rows run inside a measuring process: on the contender's loop, and with a line of JSON."""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

from bench.harness.rows import Case

#: What runs so many times, as one pass.
Repetition = Callable[[int], Coroutine[Any, Any, None]]

#: Passes of one process.
_PASSES = 5


def say(**numbers: float | str) -> None:
    """Print what the parent is waiting for."""
    print(json.dumps(numbers), flush=True)


def run_on(case: Case, main: Coroutine[Any, Any, None]) -> None:
    """Run to the end on the contender's loop."""
    with asyncio.Runner(loop_factory=case.contender.make) as runner:
        runner.run(main)


async def serve_forever(*_kept: object) -> None:
    """Wait for the end, which comes from outside as a signal, and keep what serves until then."""
    await asyncio.get_running_loop().create_future()


async def nanoseconds_each(count: int, repetition: Repetition) -> list[float]:
    """Return the time of one of ``count`` in each pass, the shortest first, after a warm-up."""
    await repetition(max(1, count // 10))
    times = []
    for _ in range(_PASSES):
        gc.collect()
        began = time.perf_counter_ns()
        await repetition(count)
        times.append((time.perf_counter_ns() - began) / count)
    return sorted(times)


def measuring(repetition: Repetition, full: int, quick: int) -> Callable[[Case], None]:
    """Make a row's ``run`` of something that is repeated, and timed per repetition."""

    async def measure(count: int) -> None:
        say(ns=statistics.median(await nanoseconds_each(count, repetition)))

    def run(case: Case) -> None:
        run_on(case, measure(case.pick(full, quick)))

    return run
