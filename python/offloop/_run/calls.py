"""Counts what the executors run: by function, and by lane.

Threads are timed around the call itself.  Processes are counted where a call is submitted and
timed to its result, unless the extension keeps statistics by function, which then take precedence
because they hold the pure run time.

Threads:    tables are changed under the interpreter's own lock, one dictionary entry at a time.
Invariants: 1. No table holds more than `FUNCTIONS_MAX` names, however many lambdas a program makes.
"""

from __future__ import annotations

import contextvars
import functools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

FUNCTIONS_MAX = 1000
"""Far more than a report shows, and about 200 KB."""

OTHERS = "(other functions)"
PROCESSES = "processes"
THREADS = "threads"


@dataclass
class FunctionUse:
    """What one function did in one kind of lane."""

    name: str
    lane: str
    calls: int = 0
    run_seconds: float = 0.0
    longest_seconds: float = 0.0
    crashes: int = 0
    last_crash: str = ""


class CallTable:
    """Use of the lanes, by function."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str], FunctionUse] = {}

    def uses(self, lane: str | None = None) -> list[FunctionUse]:
        """What was seen, the busiest first."""
        chosen = [use for use in self._uses.values() if lane in (None, use.lane)]
        return sorted(chosen, key=lambda use: -use.run_seconds)

    def use_of(self, name: str, lane: str) -> FunctionUse:
        """The entry of ``name``, made when it is missing."""
        use = self._uses.get((name, lane))
        if use is None:
            if len(self._uses) >= FUNCTIONS_MAX:
                name = OTHERS
            use = self._uses.setdefault((name, lane), FunctionUse(name, lane))
        return use

    def record(self, name: str, lane: str, seconds: float) -> None:
        """Count one finished call."""
        use = self.use_of(name, lane)
        use.calls += 1
        use.run_seconds += seconds
        use.longest_seconds = max(use.longest_seconds, seconds)

    def record_crash(self, name: str, error: BaseException) -> None:
        """Count one call that took its worker with it."""
        use = self.use_of(name, PROCESSES)
        use.crashes += 1
        use.last_crash = describe_crash(error)


def describe_crash(error: BaseException) -> str:
    """The signal or the exit status of a lost worker, in a word or two."""
    signal = getattr(error, "signal", None)
    if signal is not None:
        return f"signal {getattr(signal, 'name', signal)}"
    exit_code = getattr(error, "exit_code", None)
    return f"exit status {exit_code}" if exit_code is not None else type(error).__name__


def function_name(fn: Callable[..., Any]) -> str:
    """The name under which a reader would look for ``fn``, behind partials and contexts."""
    while isinstance(fn, functools.partial):
        is_context_run = isinstance(getattr(fn.func, "__self__", None), contextvars.Context)
        fn = fn.args[0] if is_context_run and fn.args else fn.func
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    module = getattr(fn, "__module__", None)
    return f"{module}.{name}" if module and module != "__main__" else name


def watch_threads(table: CallTable) -> None:
    """Time every call that a ``ThreadPoolExecutor`` runs, subclasses included."""
    submit = ThreadPoolExecutor.submit

    @functools.wraps(submit)
    def counted(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        return submit(self, _timed(table, fn), *args, **kwargs)

    ThreadPoolExecutor.submit = counted  # type: ignore[method-assign]


def _timed(table: CallTable, fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        begin = time.monotonic()
        try:
            return fn(*args, **kwargs)
        finally:
            table.record(function_name(fn), THREADS, time.monotonic() - begin)

    return call


def watch_futures(table: CallTable, fn: Callable[..., Any], future: Future[Any]) -> None:
    """Count the call of ``fn`` in a process when ``future`` is done."""
    begin = time.monotonic()

    def finished(done: Future[Any]) -> None:
        if done.cancelled():
            return
        name = function_name(fn)
        table.record(name, PROCESSES, time.monotonic() - begin)
        error = done.exception()
        if isinstance(error, BrokenProcessPool):
            table.record_crash(name, error)

    future.add_done_callback(finished)


def merge_native(table: CallTable, rows: Iterable[tuple[str, int, float, float]]) -> None:
    """Let the extension's statistics by function replace the times measured at submission."""
    for name, calls, run_seconds, longest_seconds in rows:
        use = table.use_of(name, PROCESSES)
        use.calls, use.run_seconds, use.longest_seconds = calls, run_seconds, longest_seconds
