"""asyncio that cannot be frozen: work that thinks or waits leaves the loop, and stays killable.

>>> import asyncio, math, offloop
>>> async def main():
...     return await offloop.to_process(math.factorial, 5)
>>> asyncio.run(main())
120

``to_process`` and ``ProcessPool`` run calls in worker processes that survive anything;
``to_thread`` and ``ThreadPool`` run what waits. Both work under any event loop, and
``offloop.EventLoop`` is a faster one, for any asyncio program: ``offloop.run``, ``new_event_loop``,
``install``.
"""

from _offloop_worker.exceptions import (
    GlobalNotSent,
    MemoryLimitExceeded,
    OffloopError,
    QueueFull,
    TaskInterrupted,
)
from offloop._default import run, to_process, to_thread
from offloop._files import AsyncFile, open, read_file, write_file
from offloop._future import Future
from offloop._loop import (
    EventLoop,
    EventLoopPolicy,
    LagHistogram,
    LoopStatistics,
    install,
    new_event_loop,
)
from offloop._process_pool import PoolView, ProcessPool
from offloop._statistics import PoolStatistics
from offloop._streams import Stream
from offloop._thread_pool import ThreadPool
from offloop._views import page, views
from offloop._watch import (
    Blocked,
    Culprit,
    Loss,
    LossKind,
    LossMoment,
    NativeEntry,
    Place,
    StackEntry,
    Stall,
    StallCause,
    StalledTask,
    TaskFacts,
    Waiting,
    WatchStatistics,
    watch,
)
from offloop.exceptions import (
    BypassedWarning,
    DeadlineExceeded,
    DecodeError,
    TaskDropped,
    WorkerCrashed,
)

__all__ = [
    "run",
    "to_process",
    "to_thread",
    "EventLoop",
    "new_event_loop",
    "EventLoopPolicy",
    "install",
    "open",
    "read_file",
    "write_file",
    "AsyncFile",
    "watch",
    "views",
    "page",
    "Stall",
    "StallCause",
    "StackEntry",
    "StalledTask",
    "WatchStatistics",
    "Loss",
    "LossKind",
    "LossMoment",
    "NativeEntry",
    "Place",
    "TaskFacts",
    "Waiting",
    "Culprit",
    "Blocked",
    "LoopStatistics",
    "LagHistogram",
    "ProcessPool",
    "PoolView",
    "Stream",
    "ThreadPool",
    "Future",
    "PoolStatistics",
    "OffloopError",
    "WorkerCrashed",
    "DecodeError",
    "GlobalNotSent",
    "DeadlineExceeded",
    "MemoryLimitExceeded",
    "QueueFull",
    "TaskDropped",
    "BypassedWarning",
    "TaskInterrupted",
]

__version__ = "0.1.0"
