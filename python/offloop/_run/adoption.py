"""Adoption: the program's ``ProcessPoolExecutor`` becomes a face of ``offloop.ProcessPool``.

The adopted class is a subclass of the standard one, so that ``isinstance`` and ``issubclass`` hold
in both directions, for code that was imported before as well, and so that a program may subclass
it.  It passes every call on to a pool of ours.  A program that asks for the fork start method by
name relies on inheritance of its memory; there the standard implementation does the work.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import multiprocessing.context
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import offloop
from offloop._run.callsite import CallSite, calling_line
from offloop._waiting import waiting

StandardPool = concurrent.futures.process.ProcessPoolExecutor
"""The class itself, under a name that adoption does not replace."""

_READ_BY_OTHERS = frozenset(
    (
        "_broken",
        "_initargs",
        "_max_workers",
        "_mp_context",
        "_pending_work_items",
        "_processes",
        "_shutdown_thread",
    )
)
"""Private attributes of the standard pool that programs and libraries look at."""

KEPT_SITES_MAX = 100
"""Lines named at most; a program has one or two."""


@dataclass(frozen=True)
class KeptPool:
    """A line where the program keeps the standard pool, and why."""

    where: CallSite
    reason: str


class Adoption:
    """What was adopted and what was left standard, for the report."""

    def __init__(self) -> None:
        self.adopted_count = 0
        self.kept: dict[KeptPool, int] = {}
        self.fork_is_chosen = False

    def keep(self, reason: str) -> None:
        """Note that the calling line keeps the standard pool."""
        site = KeptPool(calling_line(), reason)
        if site in self.kept or len(self.kept) < KEPT_SITES_MAX:
            self.kept[site] = self.kept.get(site, 0) + 1

    def install(self) -> None:
        """Replace the standard class under both of its public names."""
        adopted = make_adopted_class(self)
        concurrent.futures.process.ProcessPoolExecutor = adopted  # type: ignore[misc]
        concurrent.futures.ProcessPoolExecutor = adopted  # type: ignore[misc]
        self._watch_start_method()

    def _watch_start_method(self) -> None:
        original = multiprocessing.set_start_method

        def set_start_method(method: str | None, force: bool = False) -> None:
            original(method, force)
            self.fork_is_chosen = method == "fork"

        multiprocessing.set_start_method = set_start_method

    def reason_to_keep(self, mp_context: Any) -> str | None:
        """Why a pool with this context stays standard, or None."""
        if mp_context is None:
            chosen = self.fork_is_chosen
            return "multiprocessing.set_start_method('fork')" if chosen else None
        is_fork = mp_context.get_start_method(allow_none=True) == "fork"
        if isinstance(mp_context, multiprocessing.context.DefaultContext):
            is_fork = self.fork_is_chosen
        return "an explicit fork context" if is_fork else None


def _read_from_pool(self: Any, name: str) -> Any:
    """What the standard constructor would have set, which is not called for an adopted pool."""
    if name in _READ_BY_OTHERS and self._offloop_pool is not None:
        return getattr(self._offloop_pool, name)
    text = f"{type(self).__name__!r} object has no attribute {name!r}"
    raise AttributeError(text, name=name, obj=self)


def make_adopted_class(adoption: Adoption) -> type[StandardPool]:
    """Build the class that stands in for the standard one."""

    class ProcessPoolExecutor(StandardPool):
        __doc__ = StandardPool.__doc__
        _offloop_pool: offloop.ProcessPool | None = None
        __getattr__ = _read_from_pool

        def __init__(
            self,
            max_workers: int | None = None,
            mp_context: Any = None,
            initializer: Callable[..., Any] | None = None,
            initargs: tuple[Any, ...] = (),
            *,
            max_tasks_per_child: int | None = None,
        ) -> None:
            more: dict[str, Any] = {"max_tasks_per_child": max_tasks_per_child}
            reason = adoption.reason_to_keep(mp_context)
            if reason is not None:
                adoption.keep(reason)
                super().__init__(max_workers, mp_context, initializer, initargs, **more)
                return
            try:
                self._offloop_pool = offloop.ProcessPool(
                    max_workers, mp_context, initializer, initargs, **more
                )
            except RuntimeError:
                # Locks and queues of the default context, which is fork, are only inherited.
                if initializer is None or mp_context is not None:
                    raise
                adoption.keep("initializer arguments that only a fork inherits")
                super().__init__(max_workers, mp_context, initializer, initargs, **more)
            else:
                adoption.adopted_count += 1

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if self._offloop_pool is None:
                return super().submit(fn, *args, **kwargs)
            return self._offloop_pool.submit(fn, *args, **kwargs)

        def map(
            self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any
        ) -> Iterator[Any]:
            if self._offloop_pool is None or type(self).submit is not ProcessPoolExecutor.submit:
                return super().map(fn, *iterables, **options)
            return self._offloop_pool.map(fn, *iterables, **options)

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            with waiting(self, by_with_block=False):
                if self._offloop_pool is None:
                    super().shutdown(wait, cancel_futures=cancel_futures)
                else:
                    self._offloop_pool.shutdown(wait, cancel_futures=cancel_futures)

        def _force_shutdown(self, operation: str) -> None:
            # What terminate_workers and kill_workers, which came with Python 3.14, both call.
            if self._offloop_pool is None:
                super()._force_shutdown(operation)  # type: ignore[misc]
            elif operation == "kill":
                self._offloop_pool.kill_workers()
            else:
                self._offloop_pool.terminate_workers()

    ProcessPoolExecutor.__module__ = "concurrent.futures.process"
    ProcessPoolExecutor.__qualname__ = "ProcessPoolExecutor"
    _look_standard(ProcessPoolExecutor)
    return ProcessPoolExecutor


def _look_standard(adopted: Any) -> None:
    """Give the methods the names and the documentation of those that they stand for."""
    adopted.__exit__ = _leave
    for method in ("submit", "map", "shutdown"):
        replaced = getattr(adopted, method)
        replaced.__doc__ = getattr(StandardPool, method).__doc__
        replaced.__qualname__ = f"ProcessPoolExecutor.{method}"


def _leave(
    self: Any,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    """Leave the block of an adopted pool; by Ctrl-C, as ours is left."""
    interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
    with waiting(self, by_with_block=True):
        if self._offloop_pool is not None and interrupted:
            self._offloop_pool.__exit__(kind, error, traceback)
        else:
            StandardPool.__exit__(self, kind, error, traceback)
