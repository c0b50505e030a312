"""Catches the classic self-inflicted freeze: waiting for an executor on the event loop's thread.

Leaving ``with ThreadPoolExecutor()`` inside a coroutine, or calling ``shutdown()`` there, waits for
every call that still runs, and the loop waits along.  Both are timed when a loop runs in the same
thread, and remembered by the line of the program that did it.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from offloop._run.callsite import CallSite, calling_line

FREEZE_SECONDS_MIN = 0.005
"""Half a tick of the lag meter: shorter waits are not what freezes a service."""


@dataclass
class Freeze:
    """One line of the program that made its own loop wait for an executor."""

    where: CallSite
    executor: str
    by_with_block: bool
    count: int = 0
    total_seconds: float = 0.0
    worst_seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more wait at this line."""
        self.count += 1
        self.total_seconds += seconds
        self.worst_seconds = max(self.worst_seconds, seconds)


class FreezeWatch:
    """Times the waits for executors that happen on the thread of a running loop."""

    def __init__(self) -> None:
        self._freezes: dict[tuple[CallSite, str], Freeze] = {}
        self._threads_inside: set[int] = set()

    def freezes(self) -> list[Freeze]:
        """What was seen, the longest in sum first."""
        return sorted(self._freezes.values(), key=lambda freeze: -freeze.total_seconds)

    def install(self, executors: Iterable[type[Executor]]) -> None:
        """Time ``__exit__`` and ``shutdown`` of these classes, wherever they define them."""
        for executor in executors:
            for method in ("__exit__", "shutdown"):
                original = executor.__dict__.get(method)
                if original is not None:
                    setattr(executor, method, self._timed(original, method == "__exit__"))

    def _timed(self, original: Callable[..., Any], by_with_block: bool) -> Callable[..., Any]:
        @functools.wraps(original)
        def timed(executor: Executor, *args: Any, **kwargs: Any) -> Any:
            thread = threading.get_ident()
            if asyncio._get_running_loop() is None or thread in self._threads_inside:
                return original(executor, *args, **kwargs)
            self._threads_inside.add(thread)
            begin = time.monotonic()
            try:
                return original(executor, *args, **kwargs)
            finally:
                self._threads_inside.discard(thread)
                self._record(executor, time.monotonic() - begin, by_with_block)

        return timed

    def _record(self, executor: Executor, seconds: float, by_with_block: bool) -> None:
        if seconds < FREEZE_SECONDS_MIN:
            return
        where = calling_line()
        kind = type(executor).__name__
        freeze = self._freezes.setdefault((where, kind), Freeze(where, kind, by_with_block))
        freeze.add(seconds)
