"""The standard library: ``ProcessPoolExecutor`` by start method, and ``multiprocessing.Pool``."""

from __future__ import annotations

import multiprocessing

from bench.pools.peers.base import CallbackPeer, ExecutorPeer


class StandardPeer(ExecutorPeer):
    """``loop.run_in_executor(ProcessPoolExecutor())``; no start method means the default."""

    def __init__(self, method: str | None) -> None:
        import concurrent.futures

        super().__init__()
        self._futures = concurrent.futures
        self._method = method

    async def open(self, workers: int) -> None:
        """Make the pool."""
        context = multiprocessing.get_context(self._method) if self._method else None
        # Looked up when used: a program under `offloop run` finds the adopted class here.
        self._pool = self._futures.ProcessPoolExecutor(workers, mp_context=context)


class MultiprocessingPeer(CallbackPeer):
    """``multiprocessing.Pool`` with the platform's default start method."""

    async def open(self, workers: int) -> None:
        """Make the pool."""
        self._pool = multiprocessing.Pool(workers)
