"""A long computation beside two blocking waits: all three start together, the waits end first.

    python examples/blocking_beside_cpu.py              # 10 s of computing, two waits of 6 s
    python examples/blocking_beside_cpu.py --scale 0.1  # the same in a tenth of the time

What thinks goes to a process, what waits goes to threads, and the loop is free for both: it ticks
all the while and tells its longest pause at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable

import offloop

COMPUTE_SECONDS = 10.0
WAIT_SECONDS = 6.0
TICK_SECONDS = 0.01


def compute(seconds: float) -> int:
    """Keep one core busy, in pure Python, and return how far it got."""
    end = time.monotonic() + seconds
    steps = 0
    while time.monotonic() < end:
        steps += 1
    return steps


def wait(seconds: float) -> float:
    """Block the thread, as an old database driver or `requests` does."""
    time.sleep(seconds)
    return seconds


async def timed(name: str, begin: float, work: Awaitable[object]) -> None:
    """Tell when ``work`` ends."""
    await work
    print(f"{name} ended after {time.monotonic() - begin:.2f} s", flush=True)


async def tick() -> float:
    """Tick until cancelled; return the longest pause between two ticks."""
    longest, last = 0.0, time.monotonic()
    try:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        return longest


async def main(scale: float) -> None:
    """Start all three at once and report each as it ends."""
    ticker = asyncio.create_task(tick())
    begin = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for name, work in (
            ("computation", offloop.to_process(compute, COMPUTE_SECONDS * scale)),
            ("first wait", offloop.to_thread(wait, WAIT_SECONDS * scale)),
            ("second wait", offloop.to_thread(wait, WAIT_SECONDS * scale)),
        ):
            group.create_task(timed(name, begin, work))
    ticker.cancel()
    print(f"the loop's longest pause was {await ticker * 1000:.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    asyncio.run(main(parser.parse_args().scale))
