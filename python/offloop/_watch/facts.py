"""What is known of a callback that a loop is in the middle of: task, request, chosen variables.

A watch in another thread has found that the callback takes long, and asks here under the GIL. No
code of the program's is run, nothing is changed, and nothing is kept (`reading.py`).

Where a task has several that wait for it, and these have more, the nearest come first.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import types
import uuid
from asyncio import tasks as asyncio_tasks
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any

from offloop._loop.event_loop import EventLoop
from offloop._watch import tasks
from offloop._watch.reading import (
    attribute,
    is_a,
    local_variables,
    native,
    qualified_name_of,
    text_of,
)
from offloop._watch.request import noted_request, request_of
from offloop._watch.tasks import Place

__all__ = ["Facts", "Place", "TaskFacts", "facts_of", "facts_of_task"]

CHAIN_MAX = 16
"""Tasks of an await chain that are told of."""

INTEGER_BITS_MAX = 128
"""Larger integers are no ids, and take long to write out."""

OWN_MODULES = ("offloop", "_offloop_worker._offloop")

NESTED_MAX = 8
"""Callables within each other: partials, handles."""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What is known of a task."""

    name: str
    coroutine: str
    made: Place | None
    awaited_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a callback."""

    task: TaskFacts | None
    callback: str | None
    request: str | None
    variables: tuple[tuple[str, str], ...]
    context: Context | None = field(default=None, compare=False, repr=False)


def facts_of(
    called: object,
    context: Context | None,
    thread_ident: int,
    variables: tuple[ContextVar[Any], ...] = (),
) -> Facts:
    """What is known of ``called``, which the loop of a thread has called; ``None`` if of nothing.

    ``variables`` are read from ``context``, or from the task's own.
    """
    frames = tasks.thread_frames(thread_ident)
    task = tasks.task_of(_unwrapped(called))
    if called is None:
        task = _running_task(frames)
    if task is None:
        request = request_of(reversed(frames)) if called is None else None
        request = noted_request(context, request)
        name = None if called is None else _name_of(called)
        return Facts(None, name, request, _shown(context, variables), context)
    chain = _chain(task)
    request = request_of(_frames_of_task(task, frames))
    for each in chain:
        request = request or request_of(tasks.frames_of(tasks.coroutine_of(each)))
    context = context or tasks.context_of(task)
    request = noted_request(context, request)
    about = TaskFacts(
        tasks.name_of(task),
        tasks.coroutine_name(task),
        tasks.made_at(task),
        tuple(map(_waiting, chain)),
    )
    return Facts(about, None, request, _shown(context, variables), context)


def facts_of_task(task: Any) -> TaskFacts:
    """What is known of a task, whether it runs or not."""
    waiting = tuple(map(_waiting, _chain(task)))
    return TaskFacts(tasks.name_of(task), tasks.coroutine_name(task), tasks.made_at(task), waiting)


def _chain(task: Any) -> list[Any]:
    """The tasks that wait for a task, and those that wait for these."""
    chain, seen = [task], {id(task)}
    for each in chain:
        for waiting in tasks.awaiting_tasks(each):
            if id(waiting) not in seen and len(chain) <= CHAIN_MAX:
                seen.add(id(waiting))
                chain.append(waiting)
    return chain[1:]


def _waiting(task: Any) -> str:
    """A task that waits, with its line."""
    place = tasks.waits_at(task)
    where = "" if place is None else f" at {place}"
    return f"{tasks.name_of(task)} ({tasks.coroutine_name(task)}){where}"


def _frames_of_task(task: Any, frames: list[types.FrameType]) -> list[types.FrameType]:
    """The stack of a task, the outermost function first: of its thread while it runs there."""
    own = list(tasks.frames_of(tasks.coroutine_of(task)))
    if own:
        for place, frame in enumerate(frames):
            if frame is own[0]:
                return frames[place::-1]
    return own


def _running_task(frames: list[types.FrameType]) -> Any:
    """The task whose step the stack of a thread is in."""
    running: Any = getattr(asyncio_tasks, "_current_tasks", None)
    if type(running) is dict and sys.version_info < (3, 14):
        candidates = list(running.values())
    else:
        candidates = [asyncio.current_task(loop) for loop in _loops(frames)]
    for task in candidates:
        coroutine = tasks.coroutine_of(task)
        if type(coroutine) is types.CoroutineType and any(
            frame is coroutine.cr_frame for frame in frames
        ):
            return task
    return None


_RUN_FOREVER = (
    asyncio.BaseEventLoop.run_forever.__code__,
    EventLoop.run_forever.__code__,
)


def _loops(frames: list[types.FrameType]) -> list[Any]:
    """The loops that a stack runs."""
    running = [frame for frame in frames if any(frame.f_code is code for code in _RUN_FOREVER)]
    return [loop for frame in running for loop in local_variables(frame, "self")]


# Names of what is called.


def _unwrapped(called: object) -> object:
    """What a handle calls."""
    if is_a(called, asyncio.Handle):
        return attribute(called, "_callback")
    return native(called, "_callback", OWN_MODULES) or called


def _name_of(called: object, depth: int = 0) -> str | None:
    """The name of what is called, as a program has it."""
    if depth > NESTED_MAX or called is None:
        return None
    if type(called) is types.FunctionType:
        return text_of(called.__qualname__)
    if type(called) is types.MethodType:
        return _name_of_method(called.__self__, called.__func__, depth)
    if type(called) is types.BuiltinFunctionType:
        owner = called.__self__
        if owner is None or type(owner) is types.ModuleType:
            return text_of(called.__name__)
        return f"{_class_name(owner)}.{called.__name__}"
    if type(called) is functools.partial:
        return _name_of(called.func, depth + 1)
    inner = _unwrapped(called)
    return _class_name(called) if inner is called else _name_of(inner, depth + 1)


def _class_name(value: Any) -> str:
    """The name of a class, or of a value's."""
    return qualified_name_of(value if is_a(value, type) else type(value))


def _name_of_method(owner: object, function: object, depth: int) -> str | None:
    if type(function) is types.FunctionType:
        return text_of(function.__qualname__)
    return _name_of(function, depth + 1) or _class_name(owner)


# Context variables.

_UNSET = object()


def _shown(
    context: Context | None, variables: tuple[ContextVar[Any], ...]
) -> tuple[tuple[str, str], ...]:
    if type(context) is not Context:
        return ()
    chosen = [variable for variable in variables if type(variable) is ContextVar]
    values = [(variable.name, context.get(variable, _UNSET)) for variable in chosen]
    return tuple((name, _in_words(value)) for name, value in values if value is not _UNSET)


def _in_words(value: object) -> str:
    """A value in words, if that runs no code but the interpreter's."""
    if type(value) is str:
        return text_of(value) or ""
    if value is None or type(value) is bool or type(value) is float:
        return repr(value)
    if type(value) is int:
        small = value.bit_length() <= INTEGER_BITS_MAX
        return str(value) if small else f"an integer of {value.bit_length()} bits"
    if type(value) is bytes or type(value) is bytearray:
        return f"{len(value)} bytes"
    if type(value) is uuid.UUID:
        number = attribute(value, "int")
        is_whole = type(number) is int and 0 <= number < 1 << 128
        return str(uuid.UUID(int=number)) if is_whole else "UUID"
    return _class_name(value)
