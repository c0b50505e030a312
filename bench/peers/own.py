"""offloop's entrances: the awaited call, and the pool as an executor of the standard loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench.peers.base import Peer


class OffloopPeer(Peer):
    """``await pool.run(fn)``, which is what ``offloop.to_process`` awaits too."""

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


class OffloopExecutorPeer(OffloopPeer):
    """``loop.run_in_executor(pool, fn)`` with our pool."""

    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Submit through the loop's executor interface."""
        return asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)
