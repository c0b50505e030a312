"""What asyncio and the standard futures cost for each call through ``run_in_executor``.

An executor that does nothing: its futures are resolved on the loop's own thread, without any other
thread or process. No executor can be faster under the standard loop. Beside it stands what copying
100 KB costs, from arrays that are in no cache into memory that is in use. Run it with
``python -m bench.pools.executor_floor``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from typing import Any

CALLS = 20_000
ARRAYS = 5_000
LENGTH = 12_500  # 100 KB of float64
ROUNDS = 5


class NullExecutor(concurrent.futures.Executor):
    """Takes calls and runs none."""

    def __init__(self) -> None:
        self.futures: list[concurrent.futures.Future[Any]] = []

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """Return a future that ``resolve`` resolves."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.futures.append(future)
        return future

    def resolve(self) -> None:
        """Resolve what was taken so far."""
        for future in self.futures:
            future.set_result(None)
        self.futures.clear()


async def calls() -> list[float]:
    """Return microseconds for each call, of several rounds."""
    loop = asyncio.get_running_loop()
    executor = NullExecutor()
    costs = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        waiting = [loop.run_in_executor(executor, abs, number) for number in range(CALLS)]
        executor.resolve()
        await asyncio.gather(*waiting)
        costs.append((time.perf_counter() - begun) / CALLS * 1e6)
    return costs


def copies() -> list[float]:
    """Return microseconds for each copy of 100 KB, of several rounds."""
    import numpy

    source, target = numpy.ones((ARRAYS, LENGTH)), numpy.ones((ARRAYS, LENGTH))
    costs = []
    for number in range(ROUNDS):
        source[:, 0] = number
        begun = time.perf_counter()
        numpy.copyto(target, source)
        costs.append((time.perf_counter() - begun) / ARRAYS * 1e6)
    return costs


if __name__ == "__main__":
    print(f"run_in_executor, nothing run: {sorted(asyncio.run(calls()))[ROUNDS // 2]:.1f} us/call")
    print(f"copy of 100 KB: {sorted(copies())[ROUNDS // 2]:.1f} us")
