"""What a test leaves behind: tasks, executors and threads that it has begun.

A task that is pending at the end of the call may be one that a fixture ends: a server, a client. So
it is judged once the test is over with its teardown, or where a runner cancels what is pending at
its end. What a fixture has begun is the fixture's: only what began in the call counts. The tasks of
test frameworks themselves do not. On a loop that outlives the test, a task that a library has made
is judged when that loop ends.

What is asked of the standard library is taken as it is when this is imported: a test may replace
it.

Threads:    one for all but `_made` and `_cancels`, which are called by any.
"""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
import threading
import types
import weakref
from asyncio import runners
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import thread as executor_threads
from typing import Any

from _offloop_worker._offloop import watch_clock
from offloop import _default
from offloop._gate.findings import Finding, of_executor, of_task, of_thread, shown
from offloop._process_pool import ProcessPool
from offloop._watch import tasks
from offloop._watch.facts import facts_of_task
from offloop._watch.hooks import Front, stand_in_front
from offloop._watch.losses import Loss, LossKind, Waiting
from offloop._watch.reading import text_of
from offloop._watch.switch import Watch
from offloop._watch.tasks import Place

__all__ = ["Leaks"]

Key = tuple[str, str]
"""The name of a task, and that of its coroutine."""

END_SECONDS = 0.5
"""A thread that was told to end may take so long."""

_OF_FRAMEWORKS = {
    "TestRunner._run_tests_and_fixtures",
    "_forcibly_shutdown_process_pool_on_exit",
    "_shutdown_process_pool_on_exit",
    "BaseSelectorEventLoop._accept_connection2",
}
"""Coroutines that end with their loop: in which a framework runs all tests of it, that keep its
workers, or take a connection."""

_LIBRARIES = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)

_threads_now = threading.enumerate
_join_thread = threading.Thread.join
_is_alive = threading.Thread.is_alive

_PASSED = ("asyncio", "concurrent", "offloop._watch", "offloop._gate")
"""Modules between a program and an executor that it makes."""


class Leaks:
    """Looks at what is there before a call, and after it."""

    def __init__(self, watch: Watch) -> None:
        self._losses = watch._losses
        self._fronts: list[Front] = []
        self._pending: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._left_by_call: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        """Tasks that are judged when the test is over."""
        self._threads: set[threading.Thread] = set()
        self._executors: list[tuple[weakref.ref[Any], Place | None]] = []
        self._has_begun = False
        """Whether a call has begun, and its test is not over."""
        self._seen: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        """Tasks that were told of."""
        self._told: deque[tuple[weakref.ref[Any], Key]] = deque(maxlen=1_000)
        """Tasks that were told of, for what comes without its task."""
        self._circles: set[Key] = set()
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
                stand_in_front(ProcessPool, "__init__", self._made),
            ]

    def remove(self) -> None:
        """Go away."""
        fronts, self._fronts = self._fronts, []
        for front in reversed(fronts):
            front.step_aside()

    def knows(self, loss: Loss) -> bool:
        """Whether a task was told of already."""
        facts = loss.task
        if facts is None or loss.kind not in (LossKind.FORGOTTEN, LossKind.DANGLING):
            return False
        key = facts.name, facts.coroutine
        if key in self._circles:
            return True
        # Another test may have had a task of the same name, which is over.
        told = [reference() for reference, known in self._told if known == key]
        is_collected = loss.kind is LossKind.DANGLING
        return any(is_collected if task is None else not tasks.is_done(task) for task in told)

    # Phases.

    def begin(self) -> None:
        """A call begins."""
        for loop in self._loops():
            self._pending.update(tasks.pending_tasks(loop))
        self._threads = set(_threads_now())
        self._executors.clear()
        self._circles.clear()
        self._has_begun = True

    def end_call(self) -> bool:
        """A call is over: whether it has left tasks. Has circles of these told."""
        for loop in self._loops():
            left = [task for task in tasks.pending_tasks(loop) if task not in self._pending]
            self._left_by_call.update(left)
            if left:
                self._losses.look(loop)
        self._pending.clear()
        return bool(self._left_by_call)

    def tell_of(self, circles: Iterable[tuple[Waiting, ...]]) -> None:
        """The tasks of these are told of already."""
        self._circles = {(each.name, each.coroutine) for circle in circles for each in circle}

    def end_test(self) -> list[Finding]:
        """A test is over, with its teardown."""
        found: list[Finding] = []
        if not self._has_begun:
            return found
        self._has_begun = False
        if self._left_by_call:
            left = set(self._left_by_call)
            self._left_by_call.clear()
            for loop in self._loops():
                pending = [task for task in tasks.pending_tasks(loop) if task in left]
                found += self._left(filter(_is_made_by_program, pending), "at the end of the test")
        executors, self._executors = self._executors, []
        for reference, made in executors:
            executor = reference()
            workers = [] if executor is None else _workers(executor)
            if workers and not (_is_of_process(executor) or self._is_of_loop(executor)):
                found.append(of_executor(type(executor).__name__, len(workers), made))
        return found + self._threads_left()

    def _threads_left(self) -> list[Finding]:
        found: list[Finding] = []
        until = watch_clock() + END_SECONDS
        for thread in _threads_now():
            if thread in self._threads or thread.daemon or _is_of_executor(thread):
                continue
            # A class of the program's may end the thread as it is joined.
            _join_thread(thread, max(0.0, until - watch_clock()))
            if _is_alive(thread):
                found.append(of_thread(thread, _place_of(thread)))
        return found

    def take_cancelled(self) -> list[Finding]:
        """Tasks that runners have cancelled at their end."""
        cancelled, self.cancelled = self.cancelled, []
        return cancelled

    # Tasks.

    def _loops(self) -> list[asyncio.AbstractEventLoop]:
        return [loop for loop in self._losses.open_loops() if not loop.is_running()]

    def _left(self, pending: Iterable[Any], moment: str) -> Iterator[Finding]:
        for task in sorted(pending, key=tasks.order_of):
            facts = facts_of_task(task)
            key = facts.name, facts.coroutine
            if facts.coroutine in _OF_FRAMEWORKS or task in self._seen or key in self._circles:
                continue
            self._seen.add(task)
            self._told.append((weakref.ref(task), key))
            waits = tasks.waits_at(task)
            is_own = waits is not None and not waits.filename.startswith(tasks.ASYNCIO_FOLDER)
            lines = [] if facts.made is None else [f"made     {shown(facts.made)}"]
            lines += [] if waits is None else [f"waits    {shown(waits)} in {waits.function}"]
            place = waits if is_own else facts.made or waits
            yield of_task(f"{facts.name} ({facts.coroutine})", moment, lines, place)

    def _cancels(self, loop: asyncio.AbstractEventLoop) -> None:
        """A runner ends, and cancels what is pending."""
        if isinstance(sys.exception(), BaseException) and not isinstance(
            sys.exception(), Exception
        ):
            # The run was broken off, so its own task is pending, too.
            return
        pending = [task for task in tasks.pending_tasks(loop) if task not in self._pending]
        self.cancelled += self._left(pending, "when its loop ended, and was cancelled")

    # Executors.

    def _made(self, make: Callable[..., None], executor: Any, *args: Any, **kwargs: Any) -> None:
        make(*args, **kwargs)
        if not self._has_begun or _is_of_native_loop() or _is_importing():
            return
        self._executors.append((weakref.ref(executor), _maker()))

    def _is_of_loop(self, executor: Any) -> bool:
        loops = self._losses.open_loops()
        return any(getattr(loop, "_default_executor", None) is executor for loop in loops)


def _is_of_process(executor: Any) -> bool:
    """Whether an executor is the one that `offloop.to_process` shares, made by its first call."""
    return any(executor is pool for pool in _default.pools())


def _is_made_by_program(task: Any) -> bool:
    """Whether a line of the program's has made a task.

    Where that is not known, as of a task that is made without its loop, the one in which it waits
    tells.
    """
    place = tasks.made_at(task) or tasks.waits_at(task)
    return place is None or not place.filename.startswith(_LIBRARIES)


def _is_of_native_loop() -> bool:
    """Whether a loop without Python code makes its default executor: its attributes are hidden."""
    loop = asyncio._get_running_loop()
    if loop is None or isinstance(loop, asyncio.BaseEventLoop):
        return False
    frame: types.FrameType | None = sys._getframe(3)
    return frame is not None and "run_in_executor" in frame.f_code.co_names


def _is_importing() -> bool:
    """Whether a module is being imported: what that makes is the module's, and stays."""
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            caller = frame.f_back
            return caller is not None and "importlib" in caller.f_code.co_filename
        frame = frame.f_back
    return False


def _is_of_executor(thread: threading.Thread) -> bool:
    """Whether a thread is an executor's, which may have been made before the call."""
    processes: Any = sys.modules.get("concurrent.futures.process")
    managers = () if processes is None else processes._threads_wakeups
    return thread in executor_threads._threads_queues or thread in managers


def _workers(executor: Any) -> list[Any]:
    """The threads or processes of an executor that was not shut down."""
    if isinstance(executor, ProcessPool):
        return [] if executor._shutdown_thread else list(executor._processes or {})
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


_STANDARD = (threading.__file__, tasks.ASYNCIO_FOLDER)
