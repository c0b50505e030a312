"""Exceptions that are raised on both sides: in the program and inside a worker's call.

They are public under the name ``offloop``; they live here because a worker imports nothing else.
"""

from __future__ import annotations

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["GlobalNotSent", "MemoryLimitExceeded", "OffloopError", "QueueFull", "TaskInterrupted"]


def rebuild(name: str, *arguments: Any) -> BaseException:
    """The exception of this module that has this name."""
    error: BaseException = globals()[name](*arguments)
    return error


class _Light:
    """An exception whose pickle leads to this module.

    By its public name it would lead to ``offloop``. A worker that is interrupted would import all
    of that before it could tell its end, which takes a busy machine longer than the grace period.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        plain = super().__reduce__()
        assert isinstance(plain, tuple)
        _, arguments, *state = plain
        name = type(self).__name__
        if globals().get(name) is not type(self):
            return plain
        return (rebuild, (name, *arguments), *state)


class OffloopError(_Light, Exception):
    """Base of the errors that offloop adds to the standard ones."""

    __module__ = "offloop"


class QueueFull(OffloopError):
    """A queue, or the shared memory for arguments, is at its limit; nothing was queued.

    The message names the size and the limit. With ``queue_policy="wait"`` coroutines and plain
    threads wait instead, and only ``submit`` on an event loop's own thread raises this.
    """

    __module__ = "offloop"


class MemoryLimitExceeded(OffloopError, MemoryError):
    """The call needed more memory than the pool's ``memory_limit`` lets a worker have.

    The ``MemoryError`` that the call raised is in its chain of causes, behind the worker's
    traceback; the worker goes on.
    """

    __module__ = "offloop"


class GlobalNotSent(OffloopError, NameError):
    """A call used a global of the main module that could not be pickled, and so was left out.

    The message names the global, the function that used it, and why it could not be sent.
    """

    __module__ = "offloop"


class TaskInterrupted(_Light, BaseException):
    """Raised inside a worker's call that is to stop: it was cancelled, or ran out of time.

    It derives from ``BaseException`` so that ``except Exception`` in the call lets it pass. A call
    that catches it has the pool's grace period left before its process is killed.
    """

    __module__ = "offloop"
