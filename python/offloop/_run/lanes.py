"""Keeps account of the program's process pools, those already closed included."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import offloop
from offloop._run.calls import CallTable, watch_futures


@dataclass
class ProcessLaneTotals:
    """Sums over all process pools of a program."""

    pools: int = 0
    workers_most: int = 0
    submitted: int = 0
    completed: int = 0
    crashed: int = 0
    cancelled: int = 0
    expired: int = 0
    restarts: int = 0

    def add(self, pool: offloop.ProcessPool) -> None:
        """Add what ``pool`` did until now."""
        statistics = pool.statistics()
        self.workers_most = max(self.workers_most, statistics.workers)
        for name in ("submitted", "completed", "crashed", "cancelled", "expired", "restarts"):
            setattr(self, name, getattr(self, name) + getattr(statistics, name))


class ProcessLanes:
    """Follows every ``offloop.ProcessPool`` from its making to its shutdown."""

    def __init__(self, table: CallTable) -> None:
        self._table = table
        self._closed = ProcessLaneTotals()
        self._pools_made = 0
        self._open: weakref.WeakSet[offloop.ProcessPool] = weakref.WeakSet()

    def install(self) -> None:
        """Follow pools from now on."""
        pool = offloop.ProcessPool
        pool.__init__ = self._following_init(pool.__init__)  # type: ignore[method-assign]
        pool.submit = self._counting_submit(pool.submit)  # type: ignore[method-assign]
        pool.shutdown = self._following_shutdown(pool.shutdown)  # type: ignore[method-assign]

    def totals(self) -> ProcessLaneTotals:
        """Sums over closed and open pools."""
        totals = ProcessLaneTotals(**vars(self._closed))
        for pool in list(self._open):
            totals.add(pool)
        totals.pools = self._pools_made
        return totals

    def _following_init(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def init(pool: offloop.ProcessPool, *args: Any, **kwargs: Any) -> None:
            original(pool, *args, **kwargs)
            self._pools_made += 1
            self._open.add(pool)

        return init

    def _counting_submit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def submit(
            pool: offloop.ProcessPool, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> Future[Any]:
            future: Future[Any] = original(pool, fn, *args, **kwargs)
            watch_futures(self._table, fn, future)
            return future

        return submit

    def _following_shutdown(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def shutdown(pool: offloop.ProcessPool, *args: Any, **kwargs: Any) -> None:
            original(pool, *args, **kwargs)
            if pool in self._open:
                self._open.discard(pool)
                self._closed.add(pool)

        return shutdown
