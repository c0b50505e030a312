"""An asynchronous iterator as a plain one, for a worker that sends its items.

It is driven by an event loop of its own, in one task. The loop runs until an item is there, stands
still while the item is sent, and then goes on. No other module of this package imports asyncio, and
a worker imports this one when it first gets such a stream.
"""

from __future__ import annotations

import asyncio
import signal
import socket

from _offloop_worker._offloop import set_stopper

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Generator
    from types import CoroutineType
    from typing import Any

__all__ = ["items_of"]


def items_of(source: AsyncIterable[object]) -> Generator[object]:
    """Iterate over what ``source`` yields."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        with _WokenBySignals(loop):
            yield from _driven(loop, source)


class _WokenBySignals:
    """Wakes the loop for every signal: one that comes just before it waits would be slept over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._loop.add_reader(self._read, self._read.recv, 4096)
        self._before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    def __exit__(self, *_raised: object) -> None:
        signal.set_wakeup_fd(self._before)
        self._loop.remove_reader(self._read)
        self._read.close()
        self._write.close()


def _driven(loop: asyncio.AbstractEventLoop, source: AsyncIterable[object]) -> Generator[object]:
    # An item, and the future that lets the task go on behind it.
    handed: list[tuple[object, asyncio.Future[None]]] = []
    ends = False

    async def drive() -> None:
        iterator = aiter(source)
        try:
            async for item in iterator:
                if ends:
                    break
                turn = loop.create_future()
                handed.append((item, turn))
                del item
                loop.stop()
                await turn
        finally:
            closing = getattr(iterator, "aclose", None)
            if closing is not None:
                await closing()

    driving: CoroutineType[Any, Any, None] = drive()  # type: ignore[assignment]
    task = loop.create_task(driving)
    task.add_done_callback(lambda _: loop.stop())

    def stop() -> bool:
        # While its own code runs, which may not come back to the loop for long, the interrupt is
        # raised in that. What the loop does between two steps of a task must not raise.
        if not driving.cr_running:
            loop.call_soon_threadsafe(task.cancel)
        return not driving.cr_running

    set_stopper(stop)
    try:
        while handed or not task.done():
            if not handed:
                loop.run_forever()
                continue
            item, turn = handed.pop()
            yield item
            del item
            # It was cancelled if the task was told to stop behind this item.
            if not turn.done():
                turn.set_result(None)
    finally:
        ends = True
        closes = not task.done()
        try:
            if closes:
                task.cancel()
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            if not closes:
                raise
        finally:
            set_stopper(None)
