"""A TaskGroup over processes: one task fails, and the other tasks really stop.

    python examples/taskgroup_cancel.py

With the standard pool, the group would end and its processes would compute on.  Here each worker
writes its progress to a file of its own, and the files stop growing when the group has ended.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

import offloop

LONG_SECONDS = 60.0


def simulate(progress: Path) -> int:
    """Compute for a minute, and write down every step."""
    end = time.monotonic() + LONG_SECONDS
    steps = 0
    with progress.open("w") as file:
        while time.monotonic() < end:
            steps += 1
            print(steps, os.getpid(), file=file, flush=True)
    return steps


def fail_when_started(others: list[Path]) -> None:
    """Fail as soon as every other task is under way."""
    while not all(path.exists() and path.stat().st_size for path in others):
        time.sleep(0.001)
    raise ValueError("this experiment cannot work")


async def main() -> None:
    """Run two long simulations beside one that fails."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"progress-{number}" for number in range(2)]
        async with offloop.ProcessPool(3) as pool:
            begin = time.monotonic()
            try:
                async with asyncio.TaskGroup() as group:
                    for file in files:
                        group.create_task(pool.run(simulate, file))
                    group.create_task(pool.run(fail_when_started, files))
            except* ValueError as failures:
                print(f"failed: {failures.exceptions[0]}")
            print(f"the group ended after {time.monotonic() - begin:.2f} s")
            before = [file.stat().st_size for file in files]
            # A call through the pool takes its turn after whatever might still run.
            await pool.run(time.sleep, 0.05)
            after = [file.stat().st_size for file in files]
        print("the other tasks stopped" if before == after else "the other tasks still run")


if __name__ == "__main__":
    asyncio.run(main())
