"""Tasks as they are: names, coroutines, where they wait, which tasks wait for them.

Source:     asyncio/tasks.py, asyncio/taskgroups.py and _asyncio; asyncio/graph.py from 3.14 on.
Invariants: those of `reading.py`.
"""

from __future__ import annotations

import _asyncio
import asyncio
import functools
import gc
import itertools
import os
import sys
import traceback
import types
import weakref
from asyncio import tasks
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from _offloop_worker._offloop import current_frames, maker_of
from offloop._watch.reading import attribute, defines, is_a, qualified_name_of, text_of

__all__ = [
    "Place",
    "all_tasks",
    "awaiting_tasks",
    "callbacks_of",
    "context_of",
    "coroutine_name",
    "coroutine_of",
    "coroutines_of",
    "count_all",
    "frames_of",
    "inner_code",
    "is_future",
    "is_task",
    "loop_of",
    "made_at",
    "name_of",
    "order_of",
    "pending_tasks",
    "exception_of",
    "is_done",
    "is_unseen",
    "some_of_all",
    "task_of",
    "thread_frames",
    "variable_of",
    "waiter_of",
    "waits_at",
]

CHAIN_MAX = 10_000
"""Coroutines within each other that are looked at: more than may be by the interpreter's own limit
of recursion, unless the program raises that."""

DEPTH_MAX = 100
"""Callbacks between two tasks that are looked at."""

FRAMES_MAX = 1_000
"""Functions of a thread that are looked at."""

AWAITING_MAX = 16
"""Tasks that are told of, at most, for each task."""

ASYNCIO_FOLDER = os.path.dirname(asyncio.__file__) + os.sep

all_tasks = asyncio.all_tasks
"""As it was when this was imported: a test may replace it."""
_FUTURE = _asyncio.Future
_TASK = _asyncio.Task
_PYTHON_TASK: Any = tasks._PyTask  # type: ignore[attr-defined]

_SETS: Any = None
"""What has all tasks of a process; before 3.12 it is another set, from 3.14 on there is none."""
if (3, 12) <= sys.version_info < (3, 14):
    _SETS = tasks._scheduled_tasks, tasks._eager_tasks  # type: ignore[attr-defined]

HAS_AWAITED_BY = hasattr(_TASK, "_asyncio_awaited_by")
"""Whether tasks remember what waits for them: from 3.14 on."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a source file."""

    filename: str
    line: int
    function: str | None = None

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}"


@functools.cache
def _getter(of_task: bool, name: str) -> Callable[[Any], Any]:
    """What reads an attribute of a task or a future, whatever its own class has under the name."""
    kinds = (_TASK, _FUTURE) if of_task else (_FUTURE,)
    getter: Callable[[Any], Any] = next(
        vars(kind)[name].__get__ for kind in kinds if name in vars(kind)
    )
    return getter


def _read(future: Any, name: str) -> Any:
    """What a future or a task of the standard library has under a name; ``None`` of any other."""
    kind = type(future)
    if kind is _TASK or kind is _FUTURE:
        return getattr(future, name)
    if is_a(future, _FUTURE):
        return _getter(is_a(future, _TASK), name)(future)
    return getattr(future, name) if type(future) is _PYTHON_TASK else None


def is_task(value: object) -> bool:
    """Whether this is a task."""
    kind = type(value)
    return kind is _TASK or kind is _PYTHON_TASK or is_a(value, _TASK)


def is_future(value: object) -> bool:
    """Whether this is a future or a task."""
    return is_a(value, _FUTURE) or type(value) is _PYTHON_TASK


def name_of(task: Any) -> str:
    """The name of a task."""
    name = _TASK.get_name(task) if is_a(task, _TASK) else _read(task, "_name")
    return text_of(name) or "?"


def order_of(task: Any) -> tuple[int, str]:
    """Sorts tasks by their names; those that asyncio has named, by their numbers."""
    name = name_of(task)
    return len(name), name


def pending_tasks(loop: asyncio.AbstractEventLoop) -> set[Any]:
    """The tasks of a loop that are not done."""
    # The sets are copied and looked through otherwise, and most loops that end have no task.
    return all_tasks(loop) if _SETS is None or any(map(len, _SETS)) else set()


def count_all() -> int | None:
    """How many tasks the process has, of all loops, also those that are done and kept.

    ``None`` where they would have to be listed for that.
    """
    return None if _SETS is None else sum(map(len, _SETS))


def some_of_all(limit: int) -> list[weakref.ref[Any]]:
    """So many tasks of the process at most, of all loops, also those that are done.

    Nothing is made for each of the rest: a hundred thousand objects that are made at once have the
    garbage collector look at all of the program's.
    """
    assert _SETS is not None
    scheduled, eager = _SETS
    found = list(itertools.islice(scheduled.data, limit))
    found += map(weakref.ref, list(itertools.islice(eager, limit - len(found))))
    return found


def loop_of(task: Any) -> Any:
    """The loop of a task."""
    return _read(task, "_loop")


def coroutine_of(task: Any) -> Any:
    """What a task runs."""
    return _read(task, "_coro")


def waiter_of(task: Any) -> Any:
    """The future that a task waits for."""
    return _read(task, "_fut_waiter")


def callbacks_of(future: Any) -> list[Any]:
    """What a future calls when it is done."""
    callbacks = _read(future, "_callbacks")
    if type(callbacks) is not list:
        return []
    return [entry[0] for entry in callbacks if type(entry) is tuple and entry]


def context_of(task: Any) -> Context | None:
    """The context in which a task runs; before 3.12 none can be asked for it."""
    ask = vars(_TASK).get("get_context")
    return ask(task) if ask is not None and is_a(task, _TASK) else None


def is_unseen(future: Any) -> bool:
    """Whether a future has an exception that no code has asked for."""
    return _read(future, "_log_traceback") is True


def is_done(future: Any) -> bool:
    """Whether a future has a result, an exception, or was cancelled."""
    return _read(future, "_state") not in (None, "PENDING")


def exception_of(future: Any) -> BaseException | None:
    """The exception of a future, which stays as unseen as it was."""
    exception = _read(future, "_exception")
    return exception if is_a(exception, BaseException) else None


def coroutine_name(task: Any) -> str:
    """The qualified name of what a task runs."""
    coroutine = coroutine_of(task)
    if type(coroutine) in (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType):
        return text_of(coroutine.__qualname__) or "?"
    return qualified_name_of(type(coroutine))


def made_at(future: Any) -> Place | None:
    """Where a future or a task was made, if the debug mode or a watch was on then."""
    stack = _read(future, "_source_traceback")
    if not is_a(stack, list):
        return _noted_maker(future)
    entries = [entry for entry in list.copy(stack) if is_a(entry, traceback.FrameSummary)]
    own = [entry for entry in entries if not _is_asyncio(attribute(entry, "filename"))]
    for entry in reversed(own or entries):
        filename, line = attribute(entry, "filename"), attribute(entry, "lineno")
        if type(filename) is str and type(line) is int:
            return Place(filename, line, text_of(attribute(entry, "name")))
    return None


def _noted_maker(task: Any) -> Place | None:
    """The line that a watch has noted as a task was made."""
    noted = maker_of(task, coroutine_of(task)) if is_task(task) else None
    if noted is None:
        return None
    code, unit = noted
    positions = next(itertools.islice(code.co_positions(), unit, None), (None,))
    line = positions[0] or code.co_firstlineno
    return Place(code.co_filename, line, text_of(code.co_qualname))


def _is_asyncio(filename: object) -> bool:
    return type(filename) is str and filename.startswith(ASYNCIO_FOLDER)


# Coroutines within coroutines.


def _wrapper_types() -> tuple[type, ...]:
    async def coroutine() -> None: ...

    async def generator() -> Any:
        yield

    made = coroutine()
    values = generator()
    sending, throwing = values.asend(None), values.athrow(GeneratorExit)
    kinds = (type(made.__await__()), type(sending), type(throwing))
    made.close()
    sending.close()
    throwing.close()
    return kinds


_WRAPPERS = _wrapper_types()
"""What stands between a coroutine and what it awaits, and says nothing of it."""
_AWAITED: tuple[type, ...] = (types.CoroutineType, types.AsyncGeneratorType, types.GeneratorType)


def coroutines_of(coroutine: Any) -> Iterator[Any]:
    """A coroutine, what it awaits, and so on: coroutines and generators, the outermost first."""
    for _ in range(CHAIN_MAX):
        if type(coroutine) in _WRAPPERS:
            referents = gc.get_referents(coroutine)
            coroutine = next((each for each in referents if type(each) in _AWAITED), None)
        if type(coroutine) not in _AWAITED:
            return
        yield coroutine
        if type(coroutine) is types.CoroutineType:
            coroutine = coroutine.cr_await
        elif type(coroutine) is types.GeneratorType:
            coroutine = coroutine.gi_yieldfrom
        else:
            coroutine = coroutine.ag_await


def frames_of(coroutine: Any) -> Iterator[types.FrameType]:
    """The functions in which a coroutine waits, the outermost first."""
    for each in coroutines_of(coroutine):
        if type(each) is types.CoroutineType:
            frame = each.cr_frame
        elif type(each) is types.GeneratorType:
            frame = each.gi_frame
        else:
            frame = each.ag_frame
        if frame is not None:
            yield frame


def waits_at(task: Any) -> Place | None:
    """The innermost line of the program's in which a task waits."""
    found = None
    for frame in frames_of(coroutine_of(task)):
        code = frame.f_code
        if found is None or not _is_asyncio(code.co_filename):
            found = Place(code.co_filename, frame.f_lineno or 0, text_of(code.co_qualname))
    return found


# What a loop calls, and which task it is for.


class _Catching:
    """What a task needs of a loop; keeps what the task has it call."""

    def __init__(self) -> None:
        self.called: list[Any] = []

    def call_soon(self, callback: Any, *_: Any, context: Any = None) -> None:
        self.called.append(callback)

    def get_debug(self) -> bool:
        return False


def _learn_step() -> type:
    """The class of what a loop calls for the next step of a task."""

    async def nothing() -> None: ...

    coroutine, catching = nothing(), _Catching()
    task: Any = _TASK(coroutine, loop=catching)  # type: ignore[arg-type]
    task._log_destroy_pending = False
    coroutine.close()
    return type(catching.called[0])


STEP = _learn_step()
_step_task = vars(STEP)["__self__"].__get__
_PYTHON_STEPS = tuple(
    step
    for name, step in vars(_PYTHON_TASK).items()
    if name in ("_Task__step", "_Task__wakeup", "_PyTask__step", "_PyTask__wakeup")
)


def task_of(called: Any) -> Any:
    """The task whose step this is, or the end of whose waiting; ``None`` of anything else."""
    if is_task(called):
        return called
    kind = type(called)
    owner = None
    if kind is STEP:
        owner = _step_task(called)
    elif kind is types.BuiltinFunctionType:
        owner = called.__self__ if called.__name__ == "task_wakeup" else None
    elif kind is types.MethodType:
        owner = called.__self__ if any(called.__func__ is step for step in _PYTHON_STEPS) else None
    return owner if is_task(owner) else None


# Which tasks wait for a future.


def inner_code(function: Any, name: str) -> types.CodeType | None:
    """The code of a function that is defined within another."""
    consts = function.__code__.co_consts
    return next((c for c in consts if type(c) is types.CodeType and c.co_name == name), None)


_VARIABLES = {
    id(code): variable
    for code, variable in (
        (inner_code(tasks.gather, "_done_callback"), "outer"),
        (inner_code(tasks._wait, "_on_completion"), "waiter"),  # type: ignore[attr-defined]
        (inner_code(tasks.shield, "_inner_done_callback"), "outer"),
    )
    if code is not None
}
"""Callbacks of asyncio, and the variable in which each has the future that it sets."""

_GROUP_CALLBACK = asyncio.TaskGroup._on_task_done
_RELEASE = getattr(tasks, "_release_waiter", None)


def variable_of(function: types.FunctionType, name: str) -> Any:
    """A variable of the function around this one."""
    try:
        place = function.__code__.co_freevars.index(name)
        return function.__closure__[place].cell_contents  # type: ignore[index]
    except (TypeError, ValueError, IndexError):
        return None


def _set_by(callback: Any) -> Any:
    """The future that a callback of asyncio sets when it is called."""
    kind = type(callback)
    if kind is types.FunctionType:
        variable = _VARIABLES.get(id(callback.__code__))
        return None if variable is None else variable_of(callback, variable)
    if kind is types.MethodType and callback.__func__ is _GROUP_CALLBACK:
        # Nothing waits for the group before its block ends.
        return attribute(callback.__self__, "_on_completed_fut")
    if kind is functools.partial and callback.func is _RELEASE:
        return callback.args[0] if callback.args else None
    return None


def awaiting_tasks(future: Any) -> list[Any]:
    """The tasks that wait for a future, also through ``gather``, ``wait`` or a task group."""
    found: list[Any] = []
    waiting, seen = [future], {id(future)}
    for _ in range(DEPTH_MAX):
        if not waiting or len(found) >= AWAITING_MAX:
            break
        for each in _next_awaiting(waiting.pop()):
            if id(each) not in seen and is_future(each):
                seen.add(id(each))
                (found if is_task(each) else waiting).append(each)
    return found[:AWAITING_MAX]


def _next_awaiting(future: Any) -> list[Any]:
    if HAS_AWAITED_BY and is_a(future, _FUTURE):
        if not all(map(_is_hashed_plainly, gc.get_referents(future))):
            return []
        return list(_read(future, "_asyncio_awaited_by") or ())
    return [task_of(callback) or _set_by(callback) for callback in callbacks_of(future)]


def _is_hashed_plainly(value: object) -> bool:
    """Whether a future can be put into a set without running code of the program's."""
    if not is_a(value, _FUTURE):
        return True
    return not any(defines(type(value), name, _FUTURE) for name in ("__hash__", "__eq__"))


def thread_frames(thread_ident: int) -> list[types.FrameType]:
    """The functions that a thread is in, the innermost first."""
    frame = current_frames().get(thread_ident)
    frames: list[types.FrameType] = []
    while frame is not None and len(frames) < FRAMES_MAX:
        frames.append(frame)
        frame = frame.f_back
    return frames
