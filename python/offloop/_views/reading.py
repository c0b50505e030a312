"""What the views ask the interpreter, on a thread of their own that waits for the GIL.

Tasks are read as the watch reads them: no code of the program's runs, nothing is changed or kept.
One reading tells of a limited number of tasks, so that it keeps the GIL for a few milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

from _offloop_worker._offloop import current_frames, loop_number, numbered_loops
from offloop._loop.event_loop import EventLoop
from offloop._watch import tasks
from offloop._watch.reading import is_a, local_variables, module_of

__all__ = ["Reading", "program_name"]

TASKS_MAX = 200
"""Tasks of one reading; as many as `crates/offloop-views/src/document.rs` tells."""

SORTED_MAX = 2_000
"""With more tasks than this, those that are told are not chosen by their names."""

STACK_MAX = 16
"""Functions that a task is in, of which the innermost are told."""

_RUN_FOREVER = (asyncio.BaseEventLoop.run_forever.__code__, EventLoop.run_forever.__code__)


class Reading:
    """What the extension calls."""

    def read(self) -> dict[str, Any]:
        """Loops and tasks as they are now."""
        begin = time.thread_time()
        loops = _loops()
        current = {number: _current_task(loop) for number, (loop, _) in loops.items()}
        found = [(number, task) for number, (loop, _) in loops.items() for task in _tasks_of(loop)]
        total = len(found)
        if total <= SORTED_MAX:
            found.sort(key=lambda entry: (entry[0], tasks.order_of(entry[1])))
        # Those that run come first: they may be why a person looks.
        shown = [entry for entry in found if entry[1] is current[entry[0]]]
        shown += [entry for entry in found if entry[1] is not current[entry[0]]][:TASKS_MAX]
        return {
            "program": program_name(),
            "loops": [_loop(number, loop, ident) for number, (loop, ident) in loops.items()],
            "tasks": [_task(number, task, current[number]) for number, task in shown[:TASKS_MAX]],
            "total": total,
            "cost_seconds": time.thread_time() - begin,
        }

    def cancel(self, id_text: str, name: str) -> str | None:
        """Have a task cancelled by its loop; why not, if so."""
        for loop, _ in _loops().values():
            for task in _tasks_of(loop):
                if _id(task) != id_text:
                    continue
                if tasks.name_of(task) != name:
                    return f"task {id_text} is called {tasks.name_of(task)!r} now, not {name!r}"
                try:
                    loop.call_soon_threadsafe(task.cancel)
                except RuntimeError as error:
                    return str(error)
                return None
        return f"there is no task {id_text} any more"


def program_name() -> str:
    """What a person calls the program."""
    path = sys.argv[0] if sys.argv else ""
    if type(path) is not str:
        return ""
    name = os.path.basename(path)
    return os.path.basename(os.path.dirname(path)) if name == "__main__.py" else name


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
        "thread": threads[0].name if threads else "",
        "native_id": (threads[0].native_id or 0) if threads else 0,
        "is_running": _is_running(loop),
        "statistics": EventLoop.statistics(loop) if is_a(loop, EventLoop) else None,
    }


def _is_running(loop: Any) -> bool:
    if is_a(loop, asyncio.BaseEventLoop):
        return asyncio.BaseEventLoop.is_running(loop)
    # A loop of C, as uvloop's.
    return bool(loop.is_running())


def _current_task(loop: Any) -> Any:
    try:
        return asyncio.current_task(loop)
    except RuntimeError:
        return None


def _tasks_of(loop: Any) -> list[Any]:
    try:
        return [task for task in asyncio.all_tasks(loop) if tasks.is_task(task)]
    except RuntimeError:
        # The list changed each time that it was looked through.
        return []


def _task(number: int, task: Any, current: Any) -> dict[str, Any]:
    frames = list(tasks.frames_of(tasks.coroutine_of(task)))[-STACK_MAX:]
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
            (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname) for frame in frames
        ],
        "made": None if made is None else (made.filename, made.line, made.function),
        "awaited_by": [_id(waiting) for waiting in tasks.awaiting_tasks(task)],
    }
