"""The packages from PyPI, each through its own recommended interface.

They are imported by name when a peer is made: most of them carry no types.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from bench.pools.peers.base import CallbackPeer, ExecutorPeer, Peer


class LokyPeer(ExecutorPeer):
    """``loky.ProcessPoolExecutor`` under ``run_in_executor``."""

    def __init__(self) -> None:
        super().__init__()
        self._loky = importlib.import_module("loky")

    async def open(self, workers: int) -> None:
        """Make the pool."""
        self._pool = self._loky.ProcessPoolExecutor(workers)


class PebblePeer(Peer):
    """``pebble.ProcessPool``, whose futures stop a running call when they are cancelled."""

    deadline_from_start = True

    def __init__(self) -> None:
        self._pebble = importlib.import_module("pebble")
        self._pool: Any = None

    async def open(self, workers: int) -> None:
        """Make the pool."""
        self._pool = self._pebble.ProcessPool(max_workers=workers)

    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Schedule and wrap the future."""
        return asyncio.wrap_future(self._pool.schedule(fn, args=args))

    async def begin_with_deadline(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Any:
        """Use the pool's own timeout."""
        return await asyncio.wrap_future(self._pool.schedule(fn, args=args, timeout=seconds))

    async def close(self) -> None:
        """Close and join."""
        self._pool.close()
        self._pool.join()


class BilliardPeer(CallbackPeer):
    """``billiard.Pool``, the pool of Celery, which can terminate the worker of a job."""

    deadline_from_start = True

    def __init__(self) -> None:
        super().__init__()
        self._billiard = importlib.import_module("billiard")

    async def open(self, workers: int) -> None:
        """Make the pool."""
        self._pool = self._billiard.Pool(workers)

    async def begin_with_deadline(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Any:
        """Use the pool's own hard time limit."""
        return await self._apply(fn, args, {"timeout": seconds})

    def _started(self, handle: Any, future: asyncio.Future[Any]) -> None:
        def stop(done: asyncio.Future[Any]) -> None:
            if done.cancelled():
                for pid in handle.worker_pids():
                    self._pool.terminate_job(pid, signal.SIGTERM)

        future.add_done_callback(stop)


class MpirePeer(CallbackPeer):
    """``mpire.WorkerPool``; its calls can have a timeout, which ends the whole pool."""

    deadline_from_start = True

    def __init__(self) -> None:
        super().__init__()
        self._mpire = importlib.import_module("mpire")

    async def open(self, workers: int) -> None:
        """Make the pool."""
        self._pool = self._mpire.WorkerPool(n_jobs=workers)

    async def begin_with_deadline(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Any:
        """Use the pool's own task timeout."""
        return await self._apply(fn, args, {"task_timeout": seconds})

    async def close(self) -> None:
        """Stop and join."""
        self._pool.stop_and_join()


class AnyioPeer(Peer):
    """``anyio.to_process.run_sync``, whose workers belong to the event loop."""

    def __init__(self) -> None:
        self._anyio = importlib.import_module("anyio")
        importlib.import_module("anyio.to_process")
        self._limiter: Any = None

    async def open(self, workers: int) -> None:
        """Make the limiter that stands for the pool."""
        self._limiter = self._anyio.CapacityLimiter(workers)

    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Await the call, which a cancellation ends with its worker."""
        result: Awaitable[Any] = self._anyio.to_process.run_sync(
            fn, *args, cancellable=True, limiter=self._limiter
        )
        return result

    async def begin_with_deadline(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Any:
        """Cancel by anyio's own scope."""
        with self._anyio.fail_after(seconds):
            return await self.begin(fn, *args)

    async def close(self) -> None:
        """Nothing to do: the workers end with the loop."""
