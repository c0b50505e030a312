"""Catches the classic self-inflicted freeze: waiting for an executor on the event loop's thread.

Leaving ``with ThreadPoolExecutor()`` inside a coroutine, or calling ``shutdown()`` there, waits for
every call that still runs, and the loop waits along.  Both are timed when a loop runs in the same
thread, and remembered by the line of the program that did it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from offloop._run.callsite import CallSite, calling_line
from offloop._waiting import listen

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


class _Wait:
    """One wait. Not a generator: its stack entry would stand between the wait and its line."""

    def __init__(self, watch: FreezeWatch, executor: Executor, by_with_block: bool) -> None:
        self._watch, self._executor, self._by_with_block = watch, executor, by_with_block
        self._begin = 0.0

    def __enter__(self) -> None:
        self._begin = self._watch.begin()

    def __exit__(self, *_error: object) -> None:
        self._watch.end(self._begin, self._executor, self._by_with_block)


class FreezeWatch:
    """Times the waits for executors that happen on the thread of a running loop."""

    def __init__(self) -> None:
        self._freezes: dict[tuple[CallSite, str], Freeze] = {}
        self._threads_inside: set[int] = set()

    def freezes(self) -> list[Freeze]:
        """What was seen, the longest in sum first."""
        return sorted(self._freezes.values(), key=lambda freeze: -freeze.total_seconds)

    def install(self, executors: Iterable[type[Executor]]) -> None:
        """Time ``__exit__`` and ``shutdown`` of these classes, and the waits of our own pools."""
        listen(self.waiting)
        for executor in executors:
            for method in ("__exit__", "shutdown"):
                original = executor.__dict__.get(method)
                if original is not None:
                    setattr(executor, method, self._timed(original, method == "__exit__"))

    def _timed(self, original: Callable[..., Any], by_with_block: bool) -> Callable[..., Any]:
        @functools.wraps(original)
        def timed(executor: Executor, *args: Any, **kwargs: Any) -> Any:
            with self.waiting(executor, by_with_block):
                return original(executor, *args, **kwargs)

        return timed

    def waiting(self, executor: Executor, by_with_block: bool) -> AbstractContextManager[object]:
        """To be entered for as long as this thread waits for ``executor``."""
        thread = threading.get_ident()
        if asyncio._get_running_loop() is None or thread in self._threads_inside:
            return contextlib.nullcontext()
        return _Wait(self, executor, by_with_block)

    def begin(self) -> float:
        """The thread waits from now on; what it enters meanwhile is a part of this."""
        self._threads_inside.add(threading.get_ident())
        return time.monotonic()

    def end(self, begin: float, executor: Executor, by_with_block: bool) -> None:
        """The thread goes on."""
        self._threads_inside.discard(threading.get_ident())
        self._record(executor, time.monotonic() - begin, by_with_block)

    def _record(self, executor: Executor, seconds: float, by_with_block: bool) -> None:
        if seconds < FREEZE_SECONDS_MIN:
            return
        where = calling_line()
        kind = type(executor).__name__
        freeze = self._freezes.setdefault((where, kind), Freeze(where, kind, by_with_block))
        freeze.add(seconds)
