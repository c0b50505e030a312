"""What is lost on one loop.

Invariants: those of `lost.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Any

from _offloop_worker._offloop import TaskEnds, are_held, watch_clock
from offloop._loop.event_loop import EventLoop
from offloop._watch import tasks
from offloop._watch.deadlock import Standing, circle_in_words, circles
from offloop._watch.facts import facts_of_task
from offloop._watch.losses import LossKind, LossMoment, describe_exception, raised_at

__all__ = ["LoopLosses"]

NEVER_RETRIEVED = "exception was never retrieved"
DESTROYED = "Task was destroyed but it is pending!"
"""How asyncio begins or ends what it tells an exception handler."""

ENDS_RUN = (SystemExit, KeyboardInterrupt)
"""A task that raises these ends the run of its loop with them, so they are not lost."""

GONE_MAX = 1_000
"""Tasks that were told of and are being collected: asyncio may be about to tell of them, too."""

IDLE_TASKS_MAX = 2_000
"""More tasks are not looked through of our own accord: it takes some 15 us for each."""

BUSY_TASKS_MAX = 500
"""The same for circles alone, on a loop that soon goes on: 4 us for each."""

Reference = weakref.ref[Any]
Tell = Callable[..., None]


class _Told:
    """Which tasks were told of, without keeping them.

    Of those that are gone it knows until the loop goes on: asyncio reports what a collection frees
    while that is under way, and a number may be that of another task later.
    """

    def __init__(self) -> None:
        self._alive: dict[tuple[LossKind, int], tuple[Reference, str]] = {}
        self._gone: dict[tuple[LossKind, int], str] = {}
        """In the order in which they went."""

    def forget_gone(self) -> None:
        """The loop goes on: no collection is under way."""
        self._gone.clear()

    def knows(self, kind: LossKind, future: Any) -> bool:
        """Whether a future was noted that is being collected now."""
        # In a circle that is collected, references are cleared before asyncio reports.
        return self._is_noted(kind, future) or (
            self._gone.pop((kind, id(future)), None) == _name(future)
        )

    def _is_noted(self, kind: LossKind, future: Any) -> bool:
        known = self._alive.get((kind, id(future)))
        return known is not None and known[0]() is future

    def add(self, kind: LossKind, future: Any) -> bool:
        """Note a future; false if it was noted before."""
        if self._is_noted(kind, future):
            return False
        key, name = (kind, id(future)), _name(future)

        def gone(_reference: Reference) -> None:
            if self._alive.pop(key, None) is not None:
                self._gone[key] = name
                while len(self._gone) > GONE_MAX:
                    del self._gone[next(iter(self._gone))]

        self._alive[key] = weakref.ref(future, gone), name
        return True


def _name(future: Any) -> str:
    return tasks.name_of(future) if tasks.is_task(future) else ""


def _ends_of(losses: LoopLosses) -> TaskEnds:
    """Tells of tasks that are over as long as the loop has these: a loop is to leave no circle."""
    reference = weakref.ref(losses)

    def ended(task: Any) -> None:
        losses = reference()
        if losses is not None:
            losses.ended(task)

    def failed(tasks: list[Reference]) -> None:
        losses = reference()
        if losses is not None:
            losses.failed(tasks)

    return TaskEnds(failed, ended)


class LoopLosses:
    """Finds what is lost on a loop; ``tell`` is called for each loss."""

    def __init__(self, loop: Any, tell: Tell, grace_seconds: float) -> None:
        self._loop = weakref.ref(loop)
        self._tell: Tell | None = tell
        self._grace_seconds = grace_seconds
        self._told = _Told()
        self._standing = Standing()
        self.ends = _ends_of(self)
        """Sees the ends of the tasks of a loop that is not ours."""
        self._failed: list[Reference] = []
        """Tasks that have failed in this round of the loop."""
        self._waiting: deque[tuple[float, Reference]] = deque()
        """Tasks that have failed and have a grace until then, on the watch's clock.

        A timer of the loop's would be one that the program sees: its clock may be another one.
        """

    def stop(self) -> None:
        """Find nothing any more."""
        self._tell = None
        self.ends.stop()
        self._failed.clear()
        self._waiting.clear()

    def tell(self, kind: LossKind, moment: LossMoment, future: Any, **about: Any) -> None:
        """Tell of a future or a task, unless that was done before."""
        if self._tell is not None and self._told.add(kind, future):
            self._tell(kind, moment, future=future, **about)

    # Tasks that fail.

    def made(self, task: Any) -> None:
        """A task of a loop that is not ours was made just now: remember where."""
        if not self.ends.made(task):
            self.ends.made(task, tasks.coroutine_of(task))

    def ended(self, task: Any) -> None:
        """A task has ended, mostly with an exception."""
        self._told.forget_gone()
        loop = self._loop()
        if self._tell is None or loop is None or not tasks.is_unseen(task):
            return
        if not self._failed:
            # What awaits the task has been scheduled by now.
            loop.call_soon(self._look, context=Context())
        self._failed.append(weakref.ref(task))

    def _look(self) -> None:
        failed, self._failed = self._failed, []
        self.failed(failed)

    def failed(self, failed: list[Reference]) -> None:
        """What awaits these tasks has asked for their exceptions by now."""
        self._told.forget_gone()
        failed = [reference for reference in failed if _is_unseen(reference)]
        loop = self._loop()
        if self._tell is None or loop is None or not failed:
            return
        until = watch_clock() + self._grace_seconds
        held = are_held(failed, [loop])
        for reference, is_held in zip(failed, held, strict=True):
            if not is_held:
                self._tell_exception(reference, LossMoment.ENDED)
                continue
            self._waiting.append((until, reference))
        self._end_graces()

    def _end_graces(self) -> float | None:
        """Tell of those whose grace is over. Returns in how many seconds the next one is."""
        now = watch_clock()
        while self._waiting:
            until, reference = self._waiting[0]
            if until > now and _is_unseen(reference):
                return until - now
            self._waiting.popleft()
            self._tell_exception(reference, LossMoment.GRACE)
        return None

    def _tell_exception(self, reference: Reference, moment: LossMoment) -> None:
        future = reference()
        if future is not None and tasks.is_unseen(future):
            exception = tasks.exception_of(future)
            if isinstance(exception, ENDS_RUN):
                return
            what, where = describe_exception(exception), raised_at(exception)
            self.tell(LossKind.EXCEPTION, moment, future, what=what, where=where)

    # What asyncio reports.

    def reported(self, context: Any) -> None:
        """The loop's exception handler is about to be called."""
        if type(context) is not dict:
            return
        message = context.get("message")
        if type(message) is not str:
            return
        future, task = context.get("future"), context.get("task")
        if message.endswith(NEVER_RETRIEVED) and tasks.is_future(future):
            exception = context.get("exception")
            if isinstance(exception, ENDS_RUN):
                return
            what, where = describe_exception(exception), raised_at(exception)
            self._tell_dying(LossKind.EXCEPTION, future, what=what, where=where)
        elif message == DESTROYED and tasks.is_task(task):
            self._tell_dying(LossKind.DANGLING, task, where=tasks.waits_at(task))

    def _tell_dying(self, kind: LossKind, future: Any, **about: Any) -> None:
        """Tell of what is being collected, unless that was done before."""
        if self._tell is not None and not self._told.knows(kind, future):
            self._tell(kind, LossMoment.COLLECTED, future=future, **about)

    # Tasks that wait.

    def idle(self, loop: Any, for_ever: bool) -> float | None:
        """The loop has nothing to do, for ever or for now: look, unless that would take long.

        Returns in how many seconds a circle that stands or a failed task is due, if there is one.
        """
        due = [self._end_graces()]
        pending = tasks.all_tasks(loop)
        if for_ever and len(pending) <= IDLE_TASKS_MAX:
            due.append(self.look(loop))
        elif len(pending) <= BUSY_TASKS_MAX and self._tell is not None:
            due.append(self._tell_deadlocks(loop, pending)[1])
        return min((seconds for seconds in due if seconds is not None), default=None)

    def look(self, loop: Any) -> float | None:
        """Look for tasks that can never go on. Returns in how many seconds a circle is due."""
        if self._tell is None:
            return None
        stuck, due = self._tell_deadlocks(loop, tasks.all_tasks(loop))
        # No variable of ours refers to a task while it is asked what does.
        references = [weakref.ref(task) for task in tasks.all_tasks(loop) if id(task) not in stuck]
        for reference, is_held in zip(references, are_held(references, [loop]), strict=True):
            if not is_held:
                self._tell_dangling(reference)
        return due

    def _tell_deadlocks(
        self, loop: Any, pending: set[asyncio.Task[Any]]
    ) -> tuple[set[int], float | None]:
        """Tell of deadlocks; return the numbers of their tasks, and when the next one is due."""
        stuck: set[int] = set()
        next_due = None
        found = self._standing.see(circles(pending), lambda: _timers_end_in(loop))
        for circle, due, is_certain in found:
            stuck.update(map(id, circle))
            if due > 0:
                next_due = due if next_due is None else min(due, next_due)
                continue
            is_new = [self._told.add(LossKind.DEADLOCK, task) for task in circle]
            if any(is_new) and self._tell is not None:
                moment = LossMoment.IDLE if is_certain else LossMoment.GRACE
                self._tell(LossKind.DEADLOCK, moment, circle=circle_in_words(circle))
        return stuck, next_due

    def _tell_dangling(self, reference: Reference) -> None:
        task = reference()
        if task is not None and not tasks.is_done(task):
            self.tell(LossKind.DANGLING, LossMoment.IDLE, task, where=tasks.waits_at(task))

    def loop_closes(self, loop: asyncio.AbstractEventLoop) -> AbstractContextManager[None]:
        """The loop is closed inside of this."""
        return self.closing(loop, LossMoment.CLOSED)

    @contextlib.contextmanager
    def closing(self, loop: asyncio.AbstractEventLoop, moment: LossMoment) -> Iterator[None]:
        """Tell of what is pending before this, and of what has failed, when it is over."""
        pending = [
            (facts_of_task(task), tasks.waits_at(task))
            for task in sorted(tasks.pending_tasks(loop), key=tasks.order_of)
            if self._told.add(LossKind.DANGLING, task)
        ]
        yield
        tell = self._tell
        if tell is not None:
            for task, where in pending:
                tell(LossKind.FORGOTTEN, moment, task=task, where=where)
            waiting = [reference for _, reference in self._waiting]
            for reference in [*self.ends.take_failed(), *self._failed, *waiting]:
                self._tell_exception(reference, moment)
            self._failed.clear()
            self._waiting.clear()


def _timers_end_in(loop: Any) -> float:
    """In how many seconds the last timer of a loop fires; infinite if the loop does not say."""
    if isinstance(loop, EventLoop):
        latest = loop._latest_timer()
    else:
        timers = getattr(loop, "_scheduled", None)
        if type(timers) is not list or any(
            type(each) is not asyncio.TimerHandle for each in timers
        ):
            return math.inf
        latest = max((each.when() for each in timers if not each.cancelled()), default=None)
    return 0.0 if latest is None else max(0.0, latest - loop.time())


def _is_unseen(reference: Reference) -> bool:
    future = reference()
    return future is not None and tasks.is_unseen(future)
