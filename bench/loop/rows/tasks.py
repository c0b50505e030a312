"""Tasks and what they wait for: the standard library's own code, on each loop."""

from __future__ import annotations

import asyncio

from bench.harness.goals import ratio
from bench.loop.rows.base import LoopRow
from bench.loop.rows.callbacks import NS
from bench.loop.rows.running import Repetition, measuring


async def create_and_await(count: int) -> None:
    """A task that does nothing is created and awaited."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.create_task(_nothing())


async def queue_ping_pong(count: int) -> None:
    """Two tasks pass a number to and fro through two queues; one way there and back counts."""
    there: asyncio.Queue[int] = asyncio.Queue()
    back: asyncio.Queue[int] = asyncio.Queue()

    async def answer() -> None:
        for _ in range(count):
            await back.put(await there.get())

    task = asyncio.create_task(answer())
    for number in range(count):
        await there.put(number)
        if await back.get() != number:
            raise AssertionError("another number came back")
    await task


async def event_wake(count: int) -> None:
    """Two tasks wake each other through events in turn; each wake-up counts."""
    ours, theirs = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        for _ in range(count // 2):
            await theirs.wait()
            theirs.clear()
            ours.set()

    task = asyncio.create_task(answer())
    for _ in range(count // 2):
        theirs.set()
        await ours.wait()
        ours.clear()
    await task


async def _nothing() -> None:
    """Do nothing, as a task."""


def _row(name: str, title: str, repetition: Repetition, count: int) -> LoopRow:
    return LoopRow(
        name=name,
        title=title,
        about=repetition.__doc__ or "",
        metrics=(NS,),
        goals=(ratio(title, NS, 0.95),),
        run=measuring(repetition, count, count // 2),
    )


ROWS = (
    _row("task", "a task created and awaited", create_and_await, 50_000),
    _row("queue", "Queue, ping-pong", queue_ping_pong, 30_000),
    _row("event", "Event, a wake-up", event_wake, 60_000),
)
