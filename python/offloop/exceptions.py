"""What can go wrong with a call, each as a type of its own.

All of them pickle, so they may themselves cross a process border. ``QueueFull`` and
``TaskInterrupted`` are raised inside workers too and live with the worker's code.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from _offloop_worker.exceptions import (
    GlobalNotSent,
    MemoryLimitExceeded,
    OffloopError,
    QueueFull,
    TaskInterrupted,
)

__all__ = [
    "OffloopError",
    "BypassedWarning",
    "WorkerCrashed",
    "DecodeError",
    "DeadlineExceeded",
    "GlobalNotSent",
    "MemoryLimitExceeded",
    "QueueFull",
    "TaskDropped",
    "TaskInterrupted",
]


class BypassedWarning(RuntimeWarning):
    """The program has replaced something in asyncio that our event loop does not call.

    Told once in a process; silence it with ``warnings.filterwarnings``.
    """


class WorkerCrashed(OffloopError, BrokenProcessPool):
    """The worker process ended while it ran this call. Only this call fails; the pool goes on.

    >>> import os, offloop
    >>> with offloop.ProcessPool(1) as pool:
    ...     error = pool.submit(os._exit, 3).exception()
    >>> type(error).__name__, error.exit_code, error.may_have_started
    ('WorkerCrashed', 3, True)

    Attributes:
        signal: the signal that ended the process, or None.
        exit_code: the code that it returned, or None.
        pid: its process id, or None when it is not known.
        peak_memory_bytes: the most memory that it held at once, or None when it is not known.
        stderr_tail: the end of what it wrote to its standard error (which is passed on as well).
        may_have_started: whether the call may have begun, and so have had effects.
    """

    def __init__(
        self,
        message: str,
        *,
        signal: int | None = None,
        exit_code: int | None = None,
        pid: int | None = None,
        peak_memory_bytes: int | None = None,
        stderr_tail: str = "",
        may_have_started: bool = True,
    ) -> None:
        super().__init__(message)
        self.signal = signal
        self.exit_code = exit_code
        self.pid = pid
        self.peak_memory_bytes = peak_memory_bytes
        self.stderr_tail = stderr_tail
        self.may_have_started = may_have_started


class DecodeError(OffloopError, BrokenProcessPool):
    """A call could not be decoded in the worker, or what came of it not in the program.

    The text names the module or the name that was not found, and says what to do. The cause is the
    exception that the decoding raised; for an exception that cannot be rebuilt in the program it is
    the remote traceback. Nothing is broken but this call.
    """


class DeadlineExceeded(OffloopError, TimeoutError):
    """The call did not end in time: its ``timeout`` or its ``run_timeout`` passed.

    >>> import time, offloop
    >>> with offloop.ProcessPool(1, run_timeout=0.05) as pool:
    ...     type(pool.submit(time.sleep, 3600).exception()).__name__
    'DeadlineExceeded'

    The call runs no more when this is raised: it was interrupted, or its worker killed.
    """


class TaskDropped(QueueFull):
    """The call was the oldest in a full queue with ``queue_policy="drop_oldest"``; it never ran."""


for _class in (WorkerCrashed, DecodeError, DeadlineExceeded, TaskDropped):
    _class.__module__ = "offloop"
