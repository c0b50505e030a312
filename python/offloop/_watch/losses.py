"""What was lost: errors, tasks and coroutines that the program will never hear of again.

Records hold texts and numbers only, so that none keeps alive what it tells of.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from offloop._watch import tasks
from offloop._watch.facts import Place, TaskFacts
from offloop._watch.reading import qualified_name_of, text_of

__all__ = ["LossKind", "Loss", "LossMoment", "Waiting", "describe_exception", "raised_at"]

TRACEBACK_MAX = 1_000
"""Entries of a traceback that are gone through."""


class LossKind(enum.StrEnum):
    """What was lost."""

    EXCEPTION = "exception"
    """A task or a future has an exception that no code has asked for."""
    FORGOTTEN = "forgotten"
    """A task was pending when its loop was closed, or when the program ended."""
    DANGLING = "dangling"
    """A pending task that nothing refers to: it is never woken, and may be collected any time."""
    UNAWAITED = "unawaited"
    """A coroutine that was never awaited."""
    DEADLOCK = "deadlock"
    """Tasks that await each other in a circle."""


class LossMoment(enum.StrEnum):
    """When that was known."""

    ENDED = "ended"
    """When the task ended: nothing could ask for its exception any more."""
    GRACE = "grace"
    """Nothing has asked the task for its exception for a while, but something refers to it and may
    yet ask; or tasks have awaited each other for a minute, and a timer may yet cancel one."""
    COLLECTED = "collected"
    """When the object was collected."""
    IDLE = "idle"
    """When the loop had nothing else to do, or was asked to look."""
    CLOSED = "closed"
    """When the loop was closed."""
    EXIT = "exit"
    """When the program ended."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task of a circle, and the line where it awaits the next one."""

    name: str
    coroutine: str
    where: Place | None


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that was lost."""

    number: int
    """From 1, in the order in which they were found."""
    kind: LossKind
    moment: LossMoment
    task: TaskFacts | None = None
    where: Place | None = None
    """Where the exception was raised, the task waits, or the coroutine died."""
    made: Place | None = None
    """Where the future or the coroutine was made, if that is known."""
    what: str = ""
    """The exception, or the name of the coroutine, in words."""
    circle: tuple[Waiting, ...] = ()
    """The tasks of a deadlock: each awaits the next, and the last one the first."""

    @property
    def is_certain(self) -> bool:
        """Whether no later act of the program's can mend it."""
        return self.moment is not LossMoment.GRACE


def describe_exception(exception: BaseException | None) -> str:
    """An exception in words: its class, and its text if that is a plain one."""
    if exception is None:
        return ""
    name = qualified_name_of(type(exception))
    arguments = _arguments(exception)
    if type(arguments) is tuple and len(arguments) == 1:
        (argument,) = arguments
        text = str(argument) if type(argument) is int else text_of(argument)
        return f"{name}: {text}" if text else name
    return name


_arguments: Any = vars(BaseException)["args"].__get__
_traceback: Any = vars(BaseException)["__traceback__"].__get__


def raised_at(exception: BaseException | None) -> Place | None:
    """The innermost line of the program's that an exception has passed."""
    traceback = None if exception is None else _traceback(exception)
    found = None
    for _ in range(TRACEBACK_MAX):
        if traceback is None:
            break
        code = traceback.tb_frame.f_code
        if found is None or not code.co_filename.startswith(tasks.ASYNCIO_FOLDER):
            found = Place(code.co_filename, traceback.tb_lineno or 0, text_of(code.co_qualname))
        traceback = traceback.tb_next
    return found
