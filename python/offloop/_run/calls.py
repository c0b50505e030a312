"""Counts what the executors run: by function, and by lane.

Threads are timed around the call itself.  In processes the extension keeps the run time of
functions; of what it does not know by name (a partial, a bound method) only the time from
submission to result is known, which is an upper bound.

Threads:    tables are changed under the interpreter's own lock, one dictionary entry at a time.
Invariants: 1. No table holds more than `FUNCTIONS_MAX` names, however many lambdas a program makes.
"""

from __future__ import annotations

import contextvars
import functools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

FUNCTIONS_MAX = 1000
"""Far more than a report shows, and about 200 KB."""

OTHERS = "(other functions)"
PROCESSES = "processes"
THREADS = "threads"
CHUNK_RUNNERS = ("_run_chunk", "_process_chunk")
"""What ``map`` with a chunk size calls in a worker, ours and the standard pool's."""


@dataclass
class FunctionUse:
    """What one function did in one kind of lane."""

    name: str
    lane: str
    submitted: int = 0
    calls: int = 0
    run_seconds: float = 0.0
    crashes: int = 0
    last_crash: str = ""
    is_upper_bound: bool = False


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

    def replace_run_times(self, rows: Iterable[tuple[str, int, float]]) -> None:
        """Take over the extension's rows: name, calls, seconds that they ran in processes."""
        known = {
            name.removeprefix("__main__."): (calls, seconds)
            for name, calls, seconds in rows
            if calls
        }
        for use in self.uses(PROCESSES):
            use.is_upper_bound = use.name not in known
        for name, (calls, seconds) in known.items():
            use = self.use_of(name, PROCESSES)
            use.calls, use.run_seconds = calls, seconds


def describe_crash(error: BaseException) -> str:
    """The signal or the exit status of a lost worker, in a word or two."""
    signal = getattr(error, "signal", None)
    if signal is not None:
        return f"signal {getattr(signal, 'name', signal)}"
    exit_code = getattr(error, "exit_code", None)
    return f"exit status {exit_code}" if exit_code is not None else type(error).__name__


def function_name(fn: Callable[..., Any]) -> str:
    """The name under which a reader would look for ``fn``."""
    note = ""
    while isinstance(fn, functools.partial):
        first = fn.args[0] if fn.args else None
        if isinstance(getattr(fn.func, "__self__", None), contextvars.Context):
            fn = first or fn.func
        elif getattr(fn.func, "__name__", "") in CHUNK_RUNNERS and callable(first):
            fn, note = first, " (in chunks)"
        else:
            fn, note = fn.func, note or " (partial)"
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    module = getattr(fn, "__module__", None)
    return (f"{module}.{name}" if module and module != "__main__" else name) + note


def watch_threads(table: CallTable) -> None:
    """Time every call that a ``ThreadPoolExecutor`` runs, subclasses included."""
    submit: Callable[..., Future[Any]] = ThreadPoolExecutor.submit

    @functools.wraps(submit)
    def counted(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        return submit(self, _timed(table, fn), *args, **kwargs)

    ThreadPoolExecutor.submit = counted  # type: ignore[method-assign, assignment]


def _timed(table: CallTable, fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        begin = time.monotonic()
        try:
            return fn(*args, **kwargs)
        finally:
            table.record(function_name(fn), THREADS, time.monotonic() - begin)

    return call
