"""Counts what the executors run: by function, and by lane.

Threads are timed around the call itself.  In processes the extension keeps the run time of the
functions that workers remember by name.  What has no name of its own (a partial, a bound method, a
callable object, a chunk of ``map``) is called through a function that bears the name under which a
reader would look for it; see `Relays`.

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

from _offloop_worker.codec import is_remembered

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
        known: dict[str, tuple[int, float]] = {}
        for name, calls, seconds in rows:
            if calls:
                # One name may stand for several: a function of __main__ is sent anew, and counted
                # anew, when a global that it uses has changed.
                use = self.use_of(name.removeprefix("__main__."), PROCESSES)
                others = known.get(use.name, (0, 0.0))
                known[use.name] = (others[0] + calls, others[1] + seconds)
        for use in self.uses(PROCESSES):
            use.is_upper_bound = use.name not in known
            if not use.is_upper_bound:
                use.calls, use.run_seconds = known[use.name]


def describe_crash(error: BaseException) -> str:
    """The signal or the exit status of a lost worker, in a word or two."""
    signal = getattr(error, "signal", None)
    if signal is not None:
        return f"signal {getattr(signal, 'name', signal)}"
    exit_code = getattr(error, "exit_code", None)
    return f"exit status {exit_code}" if exit_code is not None else type(error).__name__


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
    return (f"{module}.{name}" if module and module != "__main__" else name) + note


class Relays:
    """Functions that call another one, each under the other's name.

    Workers remember them, and so the extension times what they call.  They travel by value, since
    nothing of that name is the relay itself.
    """

    def __init__(self) -> None:
        self._relays: dict[str, Callable[..., Any]] = {}

    def named(self, fn: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
        """What to call for ``fn``, and its first arguments: itself, or its relay and itself."""
        if is_remembered(fn) or not callable(fn):
            return (fn,)
        name = function_name(fn)
        relay = self._relays.get(name)
        if relay is None:
            if len(self._relays) >= FUNCTIONS_MAX:
                name = OTHERS
            relay = self._relays.setdefault(name, _make_relay(name))
        return (relay, fn)


def _make_relay(name: str) -> Callable[..., Any]:
    def relay(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    # The module's part of the name as well: the extension puts the module before it.
    relay.__module__, relay.__qualname__ = "__main__", name
    return relay


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
