"""Tasks that await each other in a circle.

A task is stuck if all that could wake it are tasks that are stuck as well. What a task waits for is
followed where asyncio says so: a task, ``gather``, ``shield``, ``wait``, the end of a task group.
Any other future may be set by any code, and a task that waits for one is not stuck. So is one that
waits for such a task and for more, since its failure would wake it. What remains goes on only if a
task is cancelled from outside.

What cancels it after a while is a timer. So a circle is told of when the last timer has fired that
was there when it was seen, and it still stands as it did. A timer that is far away is not waited
for: after a grace the circle is told of as uncertain.

Source:     asyncio/tasks.py, asyncio/taskgroups.py.
Invariants: those of `reading.py`.
"""

from __future__ import annotations

import asyncio
import types
import weakref
from asyncio import tasks as asyncio_tasks
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from _offloop_worker._offloop import watch_clock
from offloop._watch import tasks
from offloop._watch.losses import Waiting
from offloop._watch.reading import attribute, local_variables

__all__ = ["Standing", "circle_in_words", "circles"]

NESTED_MAX = 20
"""Futures of asyncio between a task and the tasks that it waits for."""

GRACE_SECONDS = 60.0
"""A circle that has stood for so long is told of, whatever timers there are."""

_GATHERING = asyncio_tasks._GatheringFuture  # type: ignore[attr-defined]
_SHIELD = tasks.inner_code(asyncio_tasks.shield, "_outer_done_callback")
_WAIT = asyncio_tasks._wait.__code__  # type: ignore[attr-defined]
_GROUP_ENDS = tuple(
    vars(asyncio.TaskGroup)[name].__code__
    for name in ("__aexit__", "_aexit")
    if name in vars(asyncio.TaskGroup)
)


def _tasks_behind(future: Any, depth: int = 0) -> list[Any] | None:
    """The tasks whose ends alone can end the wait for a future; ``None`` if other things can."""
    if depth > NESTED_MAX or not tasks.is_future(future) or tasks.is_done(future):
        return None
    if tasks.is_task(future):
        return [future]
    if type(future) is _GATHERING:
        children = attribute(future, "_children")
        return _all_behind(children, depth) if type(children) is list else None
    for callback in tasks.callbacks_of(future):
        if type(callback) is types.FunctionType and callback.__code__ is _SHIELD:
            return _tasks_behind(tasks.variable_of(callback, "inner"), depth + 1)
    return None


def _all_behind(futures: Iterable[Any], depth: int) -> list[Any] | None:
    """The tasks behind those futures that are pending."""
    found = []
    for future in futures:
        if tasks.is_done(future):
            continue
        behind = _tasks_behind(future, depth + 1)
        if behind is None:
            return None
        found += behind
    return found or None


def _awaited(task: Any) -> list[Any] | None:
    """The tasks whose ends alone can wake a task; ``None`` if other things can."""
    future = tasks.waiter_of(task)
    if future is None or tasks.is_done(future):
        return None
    behind = _tasks_behind(future)
    if behind is not None:
        return behind
    frames = list(tasks.frames_of(tasks.coroutine_of(task)))
    if not frames:
        return None
    innermost = frames[-1]
    if innermost.f_code is _WAIT:
        futures, timer = local_variables(innermost, "fs", "timeout_handle")
        is_known = timer is None and type(futures) in (set, frozenset, list, tuple)
        return _all_behind(list(futures), 0) if is_known else None
    if any(innermost.f_code is code for code in _GROUP_ENDS):
        (group,) = local_variables(innermost, "self")
        members = attribute(group, "_tasks")
        return _all_behind(list(members), 0) if type(members) is set else None
    return None


def circles(pending: Iterable[Any]) -> list[list[Any]]:
    """Circles of tasks: each awaits the next, and the last one the first."""
    by_id: dict[int, Any] = {}
    awaited: dict[int, list[int]] = {}
    for task in pending:
        behind = _awaited(task)
        if behind is not None:
            by_id[id(task)] = task
            awaited[id(task)] = [id(each) for each in behind]
    _leave_stuck(awaited)
    found = []
    seen: set[int] = set()
    for start in awaited:
        path: list[int] = []
        each = start
        while each not in seen:
            seen.add(each)
            path.append(each)
            each = awaited[each][0]
        if each in path:
            found.append([by_id[member] for member in path[path.index(each) :]])
    return found


def _leave_stuck(awaited: dict[int, list[int]]) -> None:
    """Take out the tasks that await another one than those that are here, until none does."""
    awaiting: dict[int, list[int]] = {}
    for task, behind in awaited.items():
        for each in behind:
            awaiting.setdefault(each, []).append(task)
    free = [each for each in awaiting if each not in awaited]
    while free:
        freed = awaiting.get(free.pop(), ())
        free += [task for task in freed if awaited.pop(task, None) is not None]


Reference = weakref.ref[Any]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A task of a circle, as it was first seen."""

    task: Reference
    waiter: Reference
    due: float
    """When the circle is to be told of, on the watch's clock."""
    is_certain: bool
    """Whether every timer has fired by then that was there."""

    def stands(self, task: Any) -> bool:
        """Whether the task still waits for the same."""
        return self.task() is task and self.waiter() is tasks.waiter_of(task)


class Standing:
    """The circles that were seen, for as long as they stand."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}

    def see(
        self, circles: list[list[Any]], timers_end_in: Callable[[], float]
    ) -> list[tuple[list[Any], float, bool]]:
        """Each circle, in how many seconds it is to be told of, and whether it is certain then.

        ``timers_end_in`` says in how many seconds the last timer fires.
        """
        now = watch_clock()
        before, self._seen = self._seen, {}
        found = []
        for circle in circles:
            for task in circle:
                seen = before.get(id(task))
                if seen is None or not seen.stands(task):
                    seen = self._first_seen(task, now, timers_end_in())
                self._seen[id(task)] = seen
            members = [self._seen[id(task)] for task in circle]
            due = max(member.due for member in members)
            certain = all(member.is_certain for member in members)
            found.append((circle, max(0.0, due - now), certain))
        return found

    @staticmethod
    def _first_seen(task: Any, now: float, seconds: float) -> _Seen:
        waiter = weakref.ref(tasks.waiter_of(task))
        due = now + min(seconds, GRACE_SECONDS)
        return _Seen(weakref.ref(task), waiter, due, is_certain=seconds <= GRACE_SECONDS)


def circle_in_words(circle: list[Any]) -> tuple[Waiting, ...]:
    """The tasks of a circle with their lines; it begins with the first by name."""
    first = min(range(len(circle)), key=lambda place: tasks.order_of(circle[place]))
    return tuple(
        Waiting(tasks.name_of(task), tasks.coroutine_name(task), tasks.waits_at(task))
        for task in circle[first:] + circle[:first]
    )
