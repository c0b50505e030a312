"""What the views ask the interpreter, on a thread of their own that waits for the GIL.

Tasks are read as the watch reads them: no code of the program's runs, nothing is changed or kept.
One reading tells of a limited number of tasks, and is made in slices, between which the GIL is let
go of: the extension asks for one after another. Between two slices no task is kept alive.
"""

from __future__ import annotations

import asyncio
import operator
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

from _offloop_worker._offloop import current_frames, loop_number, numbered_loops
from offloop._loop.event_loop import EventLoop
from offloop._watch import tasks
from offloop._watch.reading import encodable, is_a, local_variables, module_of

__all__ = ["Reading", "program_name"]

TASKS_MAX = 200
"""Tasks of one reading; as many as `crates/offloop-views/src/document.rs` tells."""

LISTED_MAX = 2_000
"""With more tasks than this, only so many are looked at, and none is chosen by its name."""

SLICE_SECONDS = 0.001
"""Time of the processor after which the GIL is let go of."""

STACK_MAX = 16
"""Functions that a task is in, of which the innermost are told."""

_RUN_FOREVER = (asyncio.BaseEventLoop.run_forever.__code__, EventLoop.run_forever.__code__)


Slice = tuple[list[dict[str, Any]], dict[str, Any] | None]
"""Tasks, and all the rest in the last slice."""


class Reading:
    """What the extension calls."""

    def slices(self) -> Iterator[Slice]:
        """Loops and tasks as they are now."""
        begin = time.thread_time()
        pause = _Pause()
        loops = _loops()
        numbers = {id(loop): number for number, (loop, _) in loops.items()}
        rest = {
            "program": program_name(),
            "loops": [_loop(number, loop, ident) for number, (loop, ident) in loops.items()],
        }
        del loops
        found, total = _listed()
        order: list[tuple[Any, weakref.ref[Any]]] = []
        for reference in found:
            task = reference()
            number = _number_of(task, numbers)
            if number is not None:
                # Those that run come first: they may be why a person looks.
                name = tasks.order_of(task) if total is None else ()
                order.append(((task is not _current_task_of(task), number, name), reference))
            del task
            if total is not None and len(order) == TASKS_MAX:
                break
            if pause.is_due():
                yield [], None
        if total is None:
            total = len(order)
        order.sort(key=operator.itemgetter(0))
        told: list[dict[str, Any]] = []
        for (_, number, _), reference in order[:TASKS_MAX]:
            _tell(told, number, reference)
            if pause.is_due():
                yield told, None
                told = []
        yield told, rest | {"total": total, "cost_seconds": time.thread_time() - begin}

    def cancel(self, id_text: str, name: str) -> str | None:
        """Have a task cancelled by its loop; why not, if so."""
        for reference in _every_task():
            task = reference()
            if task is None or _id(task) != id_text or _is_over(task):
                continue
            if tasks.name_of(task) != name:
                return f"task {id_text} is called {tasks.name_of(task)!r} now, not {name!r}"
            try:
                tasks.loop_of(task).call_soon_threadsafe(task.cancel)
            except RuntimeError as error:
                return str(error)
            return None
        return f"there is no task {id_text} any more"


class _Pause:
    """When the GIL is to be let go of."""

    def __init__(self) -> None:
        self._until = time.thread_time() + SLICE_SECONDS

    def is_due(self) -> bool:
        now = time.thread_time()
        if now < self._until:
            return False
        self._until = now + SLICE_SECONDS
        return True


def program_name() -> str:
    """What a person calls the program."""
    path = sys.argv[0] if sys.argv else ""
    if type(path) is not str:
        return ""
    name = os.path.basename(path)
    return encodable(os.path.basename(os.path.dirname(path)) if name == "__main__.py" else name)


def _id(task: Any) -> str:
    return f"{id(task):x}"


def _loops() -> dict[int, tuple[Any, int | None]]:
    """The loops that the watch knows, and those that threads run, with their threads."""
    running: dict[int, int] = {}
    found: dict[int, Any] = dict(numbered_loops())
    for ident in current_frames():
        for frame in tasks.thread_frames(ident):
            if any(frame.f_code is code for code in _RUN_FOREVER):
                for loop in local_variables(frame, "self"):
                    number = loop_number(loop)
                    found[number] = loop
                    running[number] = ident
    return {number: (found[number], running.get(number)) for number in sorted(found)}


def _loop(number: int, loop: Any, ident: int | None) -> dict[str, Any]:
    threads = [thread for thread in threading.enumerate() if thread.ident == ident]
    return {
        "number": number,
        "kind": (module_of(type(loop)) or "").split(".")[0],
        "thread": encodable(threads[0].name) if threads else "",
        "native_id": (threads[0].native_id or 0) if threads else 0,
        "is_running": _is_running(loop),
        "statistics": EventLoop.statistics(loop) if is_a(loop, EventLoop) else None,
    }


def _is_running(loop: Any) -> bool:
    if is_a(loop, asyncio.BaseEventLoop):
        return asyncio.BaseEventLoop.is_running(loop)
    # A loop of C, as uvloop's.
    return bool(loop.is_running())


def _current_task_of(task: Any) -> Any:
    """The task that the loop of this one runs now."""
    try:
        return asyncio.current_task(tasks.loop_of(task))
    except RuntimeError:
        return None


def _listed() -> tuple[list[weakref.ref[Any]], int | None]:
    """Tasks of all loops that are to be looked at, and how many there are, if not all are."""
    total = tasks.count_all()
    if total is None or total <= LISTED_MAX:
        return _every_task(), None
    current = [asyncio.current_task(loop) for loop, _ in _loops().values()]
    running = [weakref.ref(task) for task in current if task is not None]
    known = set(map(id, current))
    others = tasks.some_of_all(LISTED_MAX)
    return running + [each for each in others if id(each()) not in known], total


def _every_task() -> list[weakref.ref[Any]]:
    total = tasks.count_all()
    if total is not None:
        return tasks.some_of_all(total)
    found: list[weakref.ref[Any]] = []
    for loop, _ in _loops().values():
        try:
            found += map(weakref.ref, asyncio.all_tasks(loop))
        except RuntimeError:
            # The list changed each time that it was looked through.
            continue
    return found


def _is_over(task: Any) -> bool:
    return not tasks.is_task(task) or tasks.is_done(task)


def _number_of(task: Any, numbers: dict[int, int]) -> int | None:
    """The number of the loop of a task that is not over."""
    return None if _is_over(task) else numbers.get(id(tasks.loop_of(task)))


def _tell(told: list[dict[str, Any]], number: int, reference: weakref.ref[Any]) -> None:
    task = reference()
    if not _is_over(task):
        told.append(_task(number, task, _current_task_of(task)))


def _task(number: int, task: Any, current: Any) -> dict[str, Any]:
    frames = deque(tasks.frames_of(tasks.coroutine_of(task)), maxlen=STACK_MAX)
    made = tasks.made_at(task)
    waiter = tasks.waiter_of(task)
    if task is current:
        state = "running"
    elif waiter is not None and not tasks.is_done(waiter):
        state = "waiting"
    else:
        state = "ready"
    return {
        "id": _id(task),
        "name": tasks.name_of(task),
        "coroutine": tasks.coroutine_name(task),
        "event_loop": number,
        "state": state,
        "stack": [
            (encodable(code.co_filename), line, encodable(code.co_qualname))
            for code, line in ((frame.f_code, frame.f_lineno) for frame in frames)
        ],
        "made": None if made is None else (encodable(made.filename), made.line, made.function),
        "awaited_by": [_id(waiting) for waiting in tasks.awaiting_tasks(task)],
    }
