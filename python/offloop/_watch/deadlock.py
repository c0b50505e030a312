"""Tasks that await each other in a circle.

A task is stuck if all that could wake it are tasks that are stuck as well. What a task waits for is
followed where asyncio says so: a task, ``gather``, ``shield``, ``wait``, the end of a task group.
Any other future may be set by any code, and a task that waits for one is not stuck. So is one that
waits for such a task and for more, since its failure would wake it. What remains is a deadlock for
certain, unless a task is cancelled from outside. A task inside ``asyncio.timeout`` will be.

Source:     asyncio/tasks.py, asyncio/taskgroups.py.
Invariants: those of `reading.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import types
from asyncio import tasks as asyncio_tasks
from collections.abc import Iterable, Iterator
from typing import Any

from offloop._watch import tasks
from offloop._watch.losses import Waiting
from offloop._watch.reading import attribute, local_variables, module_of, qualified_name_of

__all__ = ["circle_in_words", "circles"]

NESTED_MAX = 20
"""Futures of asyncio between a task and the tasks that it waits for."""

_TIME_LIMITS = {
    ("anyio._backends._asyncio", "CancelScope"),
    ("async_timeout", "Timeout"),
}
_MANAGERS = (contextlib._GeneratorContextManager, contextlib._AsyncGeneratorContextManager)
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


def _has_time_limit(task: Any) -> bool:
    """Whether a task is inside a block that ends after a while."""
    return any(
        _is_time_limit(block)
        for coroutine in tasks.coroutines_of(tasks.coroutine_of(task))
        for block in _blocks(coroutine)
    )


def _blocks(coroutine: Any, depth: int = 0) -> Iterator[Any]:
    """What a function works with; blocks that it is inside of are among that."""
    for value in gc.get_referents(coroutine):
        # Before Python 3.14 it has only the method with which the block is left.
        block = value.__self__ if type(value) is types.MethodType else value
        yield block
        if type(block) in _MANAGERS and depth < NESTED_MAX:
            generator = attribute(block, "gen")
            if type(generator) in (types.GeneratorType, types.AsyncGeneratorType):
                yield from _blocks(generator, depth + 1)


def _is_time_limit(value: object) -> bool:
    """Whether this is the block of asyncio's, or of a library, that is left after a while."""
    if type(value) is asyncio.Timeout:
        return attribute(value, "_when") is not None
    where = module_of(type(value)), qualified_name_of(type(value))
    return where in _TIME_LIMITS and attribute(value, "_deadline") not in (None, math.inf)


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
    """Circles of tasks that can never go on: each awaits the next, and the last one the first."""
    by_id: dict[int, Any] = {}
    awaited: dict[int, list[int]] = {}
    for task in pending:
        behind = _awaited(task)
        if behind is not None:
            by_id[id(task)] = task
            awaited[id(task)] = [id(each) for each in behind]
    _leave_stuck(awaited)
    # Few are left that have to be looked through for this.
    limited = [each for each in awaited if _has_time_limit(by_id[each])]
    for each in limited:
        del awaited[each]
    if limited:
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


def circle_in_words(circle: list[Any]) -> tuple[Waiting, ...]:
    """The tasks of a circle with their lines; it begins with the first by name."""
    first = min(range(len(circle)), key=lambda place: tasks.order_of(circle[place]))
    return tuple(
        Waiting(tasks.name_of(task), tasks.coroutine_name(task), tasks.waits_at(task))
        for task in circle[first:] + circle[:first]
    )
