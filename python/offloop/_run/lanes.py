"""Counts what the program's process pools were asked for, and how each call ended.

It stands at the two doors of a pool and of its views, ``submit`` and ``run``, and at the making of
pools.  It keeps no pool alive.
"""

from __future__ import annotations

import functools
import time
from asyncio import CancelledError
from collections.abc import Callable
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import offloop
from offloop._run.calls import PROCESSES, CallTable, Relays, describe_crash, function_name

Function = Callable[..., Any]


@dataclass
class ProcessCounts:
    """Sums over all process pools of a program."""

    pools: int = 0
    submitted: int = 0
    crashed: int = 0
    cancelled: int = 0
    expired: int = 0


class ProcessLanes:
    """Follows every call to an ``offloop.ProcessPool``."""

    def __init__(self, table: CallTable) -> None:
        self._table = table
        self._relays = Relays()
        self.counts = ProcessCounts()

    def install(self) -> None:
        """Follow the calls from now on."""
        pool = offloop.ProcessPool
        pool.__init__ = self._counting_init(pool.__init__)  # type: ignore[method-assign]
        for executor in pool.__mro__:
            if "submit" in executor.__dict__ and "run" in executor.__dict__:
                counting: Any = executor
                counting.submit = self._counting_submit(counting.submit)
                counting.run = self._counting_run(counting.run)

    def _counting_init(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def init(pool: offloop.ProcessPool, *args: Any, **kwargs: Any) -> None:
            original(pool, *args, **kwargs)
            self.counts.pools += 1

        return init

    def _counting_submit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def submit(pool: Any, fn: Function, /, *args: Any, **kwargs: Any) -> Future[Any]:
            begin = time.monotonic()
            future: Future[Any] = original(pool, *self._relays.named(fn), *args, **kwargs)
            self._count_submitted(fn)
            future.add_done_callback(
                lambda done: self._count_ended(
                    fn, begin, FutureCancelledError() if done.cancelled() else done.exception()
                )
            )
            return future

        return submit

    def _counting_run(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def run(pool: Any, fn: Function, /, *args: Any, **kwargs: Any) -> Any:
            begin = time.monotonic()
            self._count_submitted(fn)
            try:
                result = await original(pool, *self._relays.named(fn), *args, **kwargs)
            except BaseException as error:
                self._count_ended(fn, begin, error)
                raise
            self._count_ended(fn, begin, None)
            return result

        return run

    def _count_submitted(self, fn: Function) -> None:
        self.counts.submitted += 1
        self._table.use_of(function_name(fn), PROCESSES).submitted += 1

    def _count_ended(self, fn: Function, begin: float, error: BaseException | None) -> None:
        name = function_name(fn)
        if isinstance(error, (CancelledError, FutureCancelledError)):
            self.counts.cancelled += 1
        elif isinstance(error, offloop.DeadlineExceeded):
            self.counts.expired += 1
        elif isinstance(error, offloop.WorkerCrashed):
            self.counts.crashed += 1
            use = self._table.use_of(name, PROCESSES)
            use.crashes += 1
            use.last_crash = describe_crash(error)
        else:
            self._table.record(name, PROCESSES, time.monotonic() - begin)
