"""offloop's entrances: the awaited call, and the pool as an executor of the standard loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from bench.pools.peers.base import Peer


class OffloopPeer(Peer):
    """``await offloop.to_process(fn)``, which has as many workers as this process may use cores.

    Its pool belongs to the program: there is nothing to make, and nothing to close.
    """

    deadline_from_start = True

    def __init__(self) -> None:
        import offloop

        self._offloop = offloop
        self._to_process = offloop.to_process
        self._limited: Any = None

    async def open(self, workers: int) -> None:
        """Make sure that there are as many workers as every contender has."""
        cores = len(os.sched_getaffinity(0))
        assert workers == cores, f"to_process has {cores} workers here, not {workers}"

    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Await the call."""
        return self._to_process(fn, *args)

    async def begin_with_deadline(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Any:
        """Use the deadline of a pool that shares these workers; it counts from the call's start."""
        if self._limited is None:
            self._limited = self._offloop.ProcessPool()
        return await self._limited.options(run_timeout=seconds).run(fn, *args)

    async def close(self) -> None:
        """Nothing to do: the workers end with the program."""


class OffloopPoolPeer(Peer):
    """``async with offloop.ProcessPool() as pool: await pool.run(fn)``, for pools to be made."""

    deadline_from_start = True

    def __init__(self) -> None:
        import offloop

        self._offloop = offloop
        self._pool: Any = None

    async def open(self, workers: int) -> None:
        """Make the pool."""
        self._pool = self._offloop.ProcessPool(workers)

    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Await the call."""
        result: Awaitable[Any] = self._pool.run(fn, *args)
        return result

    async def begin_with_deadline(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Any:
        """Use the pool's own deadline, which counts from the start of the call."""
        return await self._pool.options(run_timeout=seconds).run(fn, *args)

    async def close(self) -> None:
        """Leave the pool as ``async with`` does."""
        await self._pool.__aexit__(None, None, None)


class OffloopExecutorPeer(OffloopPoolPeer):
    """``loop.run_in_executor(pool, fn)`` with our pool."""

    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Submit through the loop's executor interface."""
        return asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)
