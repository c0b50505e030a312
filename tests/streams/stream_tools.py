"""What the tests of streams have in common."""

import asyncio

from gates import eventually
from streamed import counted

WINDOW = 256
"""The most items that a worker runs ahead; docs/format/segment.md."""


async def started(gate) -> int:
    """Wait for a report without holding the loop."""
    return await asyncio.to_thread(gate.wait_started)


async def counts(path, number) -> None:
    """Wait without holding the loop until something has been counted so often."""
    await asyncio.to_thread(eventually, lambda: counted(path) >= number)


async def take(stream, number) -> list:
    """The next items of a stream."""
    return [await anext(stream) for _ in range(number)]
