"""Steps of a loop that tests take: some rounds, until something is so, or what is ready now."""

import asyncio
import gc
from collections.abc import Callable


async def rounds(count: int = 3) -> None:
    """Let the loop go round so often."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go round until something is so."""
    while not condition():
        await asyncio.sleep(0)


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """Run what is ready at this moment, once."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def forget(held: list) -> None:
    """Let go of what the list holds, for good."""
    held.clear()
    gc.collect()
