"""Counts what the executors run: by function, and by lane.

Threads are timed around the call itself.  What processes run is counted by the extension, which is
given a name for what has none of its own: a partial, a bound method, a callable object, a chunk of
``map``.

Threads:    tables are changed under the GIL, one dictionary entry at a time.
Invariants: 1. No table holds more than `FUNCTIONS_MAX` names, however many lambdas a program makes.
"""

from __future__ import annotations

import contextvars
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from _offloop_worker import _offloop
from offloop._state import FunctionStatistics
from offloop._watch.reading import encodable

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
    calls: int = 0
    run_seconds: float = 0.0
    ended: int = 0
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

    def add_processes(self, rows: Iterable[FunctionStatistics]) -> None:
        """Add what ran in processes, once at the end."""
        for row in rows:
            if row.ended:
                # A function of __main__ and a partial of it come as two rows with one name.
                use = self.use_of(row.name.removeprefix("__main__."), PROCESSES)
                use.calls += row.calls
                use.run_seconds += row.run_seconds
                use.ended += row.ended
                use.crashes += row.crashes
                if row.crashes:
                    use.last_crash = describe_end(row.last_exit_code, row.last_signal)


def describe_end(exit_code: int | None, signal_number: int | None) -> str:
    """The signal or the exit status of a lost worker, in a word or two."""
    if signal_number is not None:
        try:
            return f"signal {signal.Signals(signal_number).name}"
        except ValueError:
            return f"signal {signal_number}"
    return "an unknown cause" if exit_code is None else f"exit status {exit_code}"


def function_name(fn: Callable[..., Any]) -> str:
    """The name under which a reader would look for ``fn``.

    That is the function inside a partial, ``Class.method`` of a bound method or a callable object,
    and the mapped function of a chunk, with a note, since one call then stands for many.
    """
    note = ""
    while isinstance(fn, functools.partial):
        first = fn.args[0] if fn.args else None
        if isinstance(getattr(fn.func, "__self__", None), contextvars.Context):
            fn = first or fn.func
        elif getattr(fn.func, "__name__", "") in CHUNK_RUNNERS and callable(first):
            fn, note = first, " (in chunks)"
        else:
            fn = fn.func
    name = getattr(fn, "__qualname__", None) or f"{type(fn).__qualname__}.__call__"
    module = getattr(fn, "__module__", None)
    full_name = f"{module}.{name}" if module and module != "__main__" else name
    return encodable(full_name) + note


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
    submitted, submitter = time.monotonic(), threading.get_native_id()

    def call(*args: Any, **kwargs: Any) -> Any:
        begin = time.monotonic()
        raised = True
        try:
            result = fn(*args, **kwargs)
            raised = False
            return result
        finally:
            end = time.monotonic()
            name = function_name(fn)
            table.record(name, THREADS, end - begin)
            _offloop.note_thread_call(name, submitter, submitted, begin, end, raised)

    return call
