"""The standard library: ``ProcessPoolExecutor`` by start method, and ``multiprocessing.Pool``."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable
from typing import Any

from bench.pools.peers.base import CallbackPeer, Peer


class StandardPeer(Peer):
    """``loop.run_in_executor(ProcessPoolExecutor())``; no start method means the default."""

    def __init__(self, method: str | None) -> None:
        import concurrent.futures

        self._futures = concurrent.futures
        self._method = method
        self._pool: Any = None

    async def open(self, workers: int) -> None:
        """Make the pool."""
        context = multiprocessing.get_context(self._method) if self._method else None
        # Looked up when used: a program under `offloop run` finds the adopted class here.
        self._pool = self._futures.ProcessPoolExecutor(workers, mp_context=context)

    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Submit through the loop's executor interface."""
        return asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)

    async def close(self) -> None:
        """Leave the pool as ``with`` does."""
        self._pool.shutdown(wait=True)


class MultiprocessingPeer(CallbackPeer):
    """``multiprocessing.Pool`` with the platform's default start method."""

    async def open(self, workers: int) -> None:
        """Make the pool."""
        self._pool = multiprocessing.Pool(workers)

    async def close(self) -> None:
        """Close and join."""
        self._pool.close()
        self._pool.join()
