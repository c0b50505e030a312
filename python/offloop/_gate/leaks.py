"""What a test leaves behind: tasks, executors and threads that it has begun.

A task is looked for at the end of the call, on each loop that stands still then, and where a runner
cancels what is pending at its end. What a fixture has begun is the fixture's: only what began in
the call counts. The tasks of test frameworks themselves do not.

Threads:    one for all but `_made` and `_cancels`, which are called by any.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import types
import weakref
from asyncio import runners
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import thread as executor_threads
from typing import Any

from offloop._gate.findings import Finding, of_executor, of_task, of_thread, shown
from offloop._watch import tasks
from offloop._watch.facts import facts_of_task
from offloop._watch.hooks import Front, stand_in_front
from offloop._watch.losses import Loss, LossKind, Waiting
from offloop._watch.reading import text_of
from offloop._watch.switch import Watch
from offloop._watch.tasks import Place

__all__ = ["Leaks"]

END_SECONDS = 0.5
"""A thread that was told to end may take so long."""

_OF_FRAMEWORKS = {"TestRunner._run_tests_and_fixtures"}
"""Coroutines in which a framework runs all tests of a loop."""

_PASSED = ("asyncio", "concurrent", "offloop._watch", "offloop._gate")
"""Modules between a program and an executor that it makes."""


class Leaks:
    """Looks at what is there before a call, and after it."""

    def __init__(self, watch: Watch) -> None:
        self._losses = watch._losses
        self._fronts: list[Front] = []
        self._pending: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._threads: set[threading.Thread] = set()
        self._executors: list[tuple[weakref.ref[Any], Place | None]] = []
        self._has_begun = False
        """Whether a call has begun, and its test is not over."""
        self._seen: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        """Tasks that were told of."""
        self._told: deque[tuple[str, str]] = deque(maxlen=1_000)
        """Names and coroutines of tasks that were told of, for what comes without its task."""
        self._circles: set[tuple[str, str]] = set()
        """The same, of tasks of this test that are told of as a circle."""
        self.cancelled: list[Finding] = []

    def install(self) -> None:
        """Hear of executors that are made, and of tasks that a runner cancels."""
        if not self._fronts:
            cancel = runners._cancel_all_tasks  # type: ignore[attr-defined]

            def cancel_all_tasks(loop: asyncio.AbstractEventLoop) -> None:
                self._cancels(loop)
                cancel(loop)

            self._fronts = [
                Front(runners, "_cancel_all_tasks", cancel_all_tasks),
                stand_in_front(ThreadPoolExecutor, "__init__", self._made),
                stand_in_front(ProcessPoolExecutor, "__init__", self._made),
            ]

    def remove(self) -> None:
        """Go away."""
        fronts, self._fronts = self._fronts, []
        for front in reversed(fronts):
            front.step_aside()

    def knows(self, loss: Loss) -> bool:
        """Whether a task was told of already."""
        task = loss.task
        is_of_task = loss.kind in (LossKind.FORGOTTEN, LossKind.DANGLING)
        return is_of_task and task is not None and (task.name, task.coroutine) in self._told

    # Phases.

    def begin(self) -> None:
        """A call begins."""
        for loop in self._loops():
            self._pending.update(tasks.pending_tasks(loop))
        if threading.active_count() != len(self._threads):
            self._threads = set(threading.enumerate())
        self._executors.clear()
        self._circles.clear()
        self._has_begun = True

    def look(self) -> bool:
        """Whether a call that is over has left tasks. Has circles of these told."""
        has_left = False
        for loop in self._loops():
            if any(task not in self._pending for task in tasks.pending_tasks(loop)):
                has_left = True
                self._losses.look(loop)
        if self._pending and not has_left:
            self._pending.clear()
        return has_left

    def tell_of(self, circles: Iterable[tuple[Waiting, ...]]) -> None:
        """The tasks of these are told of already."""
        self._circles = {(each.name, each.coroutine) for circle in circles for each in circle}
        self._told += self._circles

    def end_call(self) -> list[Finding]:
        """A call is over that has left tasks."""
        found: list[Finding] = []
        for loop in self._loops():
            found += self._left(loop, "at the end of the test")
        self._pending.clear()
        return found

    def end_test(self) -> list[Finding]:
        """A test is over, with its teardown."""
        found: list[Finding] = []
        if not self._has_begun:
            return found
        self._has_begun = False
        executors, self._executors = self._executors, []
        for reference, made in executors:
            executor = reference()
            workers = [] if executor is None else _workers(executor)
            if executor is not None and workers and not self._is_of_loop(executor):
                found.append(of_executor(type(executor).__name__, len(workers), made))
        if threading.active_count() <= len(self._threads):
            return found
        until = time.monotonic() + END_SECONDS
        for thread in threading.enumerate():
            if thread.daemon or thread in self._threads or thread in _OF_EXECUTORS:
                continue
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                found.append(of_thread(thread, _place_of(thread)))
        # Those that were told of are known from now on.
        self._threads = set(threading.enumerate())
        return found

    def take_cancelled(self) -> list[Finding]:
        """Tasks that runners have cancelled at their end."""
        cancelled, self.cancelled = self.cancelled, []
        return cancelled

    # Tasks.

    def _loops(self) -> list[asyncio.AbstractEventLoop]:
        return [loop for loop in self._losses.open_loops() if not loop.is_running()]

    def _left(self, loop: asyncio.AbstractEventLoop, moment: str) -> Iterator[Finding]:
        pending = [task for task in tasks.pending_tasks(loop) if task not in self._pending]
        for task in sorted(pending, key=tasks.order_of):
            facts = facts_of_task(task)
            key = facts.name, facts.coroutine
            if facts.coroutine in _OF_FRAMEWORKS or task in self._seen or key in self._circles:
                continue
            self._seen.add(task)
            self._told.append(key)
            waits = tasks.waits_at(task)
            is_own = waits is not None and not waits.filename.startswith(tasks.ASYNCIO_FOLDER)
            lines = [] if facts.made is None else [f"made     {shown(facts.made)}"]
            lines += [] if waits is None else [f"waits    {shown(waits)} in {waits.function}"]
            place = waits if is_own else facts.made or waits
            yield of_task(f"{facts.name} ({facts.coroutine})", moment, lines, place)

    def _cancels(self, loop: asyncio.AbstractEventLoop) -> None:
        """A runner ends, and cancels what is pending."""
        self.cancelled += self._left(loop, "when its loop ended, and was cancelled")

    # Executors.

    def _made(self, make: Callable[..., None], executor: Any, *args: Any, **kwargs: Any) -> None:
        make(*args, **kwargs)
        if not self._has_begun:
            return
        self._executors.append((weakref.ref(executor), _maker()))

    def _is_of_loop(self, executor: Any) -> bool:
        return any(getattr(loop, "_default_executor", None) is executor for loop in self._loops())


def _workers(executor: Any) -> list[Any]:
    """The threads or processes of an executor that was not shut down."""
    if isinstance(executor, ProcessPoolExecutor):
        is_over = executor._shutdown_thread
        return [] if is_over else list((executor._processes or {}).values())
    return [] if executor._shutdown else list(executor._threads)


def _maker() -> Place | None:
    """The line of the program's that makes an executor."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not any(module == each or module.startswith(f"{each}.") for each in _PASSED):
            code = frame.f_code
            return Place(code.co_filename, frame.f_lineno, text_of(code.co_qualname))
        frame = frame.f_back
    return None


def _place_of(thread: threading.Thread) -> Place | None:
    """The innermost line of a thread that is not the standard library's, or else its innermost."""
    frames = tasks.thread_frames(thread.ident or 0)
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(_STANDARD)]
    frame = next(iter(own or frames), None)
    if frame is None:
        return None
    code = frame.f_code
    return Place(code.co_filename, frame.f_lineno or 0, text_of(code.co_qualname))


_OF_EXECUTORS: Container[threading.Thread] = executor_threads._threads_queues
"""Threads of executors, which may have been made before the call: not a test's own."""
_STANDARD = (threading.__file__, tasks.ASYNCIO_FOLDER)
