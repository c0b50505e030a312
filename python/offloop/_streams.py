"""Items from a worker: what `ProcessPool.stream` returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from _offloop_worker._offloop import Arrivals, Lane
from _offloop_worker.exceptions import QueueFull
from offloop import _observing
from offloop._observing import Observed

__all__ = ["Stream", "stopped"]

T = TypeVar("T")

# The function, its arguments and keywords, timeout, run_timeout, retries.
_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], float | None, float | None, int]


class Stream(AsyncIterator[T]):
    """The items of one call, as ``ProcessPool.stream`` returns it; an asynchronous iterator.

    >>> import contextlib, itertools
    >>> async def main():
    ...     async with ProcessPool(1) as pool:
    ...         async with contextlib.aclosing(pool.stream(itertools.count)) as numbers:
    ...             async for number in numbers:
    ...                 if number == 3:
    ...                     return number
    >>> from offloop import ProcessPool
    >>> asyncio.run(main())
    3

    One task iterates over it at a time, all on one event loop. It ends like a generator: after an
    error, ``aclose()`` or a cancelled wait it has no more items.
    """

    def __init__(self, lane: Lane, waits: bool, call: _Call) -> None:
        self._lane = lane
        self._waits = waits
        self._call: _Call | None = call
        self._arrivals: Arrivals | None = None
        self._observed: Observed | None = None

    async def __anext__(self) -> T:
        arrivals = self._arrivals
        if arrivals is None:
            arrivals = await self._begin()
        while (arrival := arrivals.arrival()) is not None:
            try:
                await arrival
            except asyncio.CancelledError:
                await self.aclose()
                raise
        if self._observed is None:
            return arrivals.take()  # type: ignore[no-any-return]
        try:
            return arrivals.take()  # type: ignore[no-any-return]
        except BaseException as error:
            self._end(None if isinstance(error, StopAsyncIteration) else error)
            raise

    async def aclose(self) -> None:
        """Stop the call, and return once it has really stopped; without effect when it is over.

        Items that were not taken are dropped.
        """
        self._call = None
        if self._arrivals is not None:
            await stopped(self._arrivals.stop())
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        observed, self._observed = self._observed, None
        if observed is not None:
            observed.end(error)

    async def _begin(self) -> Arrivals:
        """Submit the call; with a full queue, wait for room as the pool's policy says."""
        call, self._call = self._call, None
        if call is not None and _observing.observers:
            self._observed = _observing.begin("processes", call[0])
        carried = None if self._observed is None else self._observed.carried
        try:
            return await self._submit(call, carried)
        except BaseException as error:
            self._end(None if isinstance(error, StopAsyncIteration) else error)
            raise

    async def _submit(self, call: _Call | None, carried: dict[str, str] | None) -> Arrivals:
        while call is not None and self._arrivals is None:
            try:
                self._arrivals = self._lane.stream(*call, carried)
            except QueueFull:
                if not self._waits or self._lane.has_room():
                    raise
                # Closed meanwhile: nothing is submitted.
                self._call = call
                try:
                    await self._lane.room()
                finally:
                    call, self._call = self._call, None
        if self._arrivals is None:
            raise StopAsyncIteration
        return self._arrivals


async def stopped(stopping: asyncio.Future[Any] | None) -> None:
    """Wait until a call has stopped; a second cancellation does not cut that short."""
    while stopping is not None and not stopping.done():
        try:
            await asyncio.wait([stopping])
        except asyncio.CancelledError:
            continue
    if stopping is not None and not stopping.cancelled():
        stopping.exception()
