"""What passes to workers by inheritance: what the multiprocessing module knows of its program.

Queues, locks and connections of that module may only be pickled while a process is being started.
The program collects their descriptors while it pickles the initializer's arguments; they travel
with the setup, and the workers take them up by their index. The module's key, its resource tracker
and its parent are the program's too. All that costs nothing until the module is imported.
"""

from __future__ import annotations

import os
import sys

from _offloop_worker.imports import when_imported

# Seen by type checkers alone: these modules are not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "InheritedFd",
    "adopt",
    "become_worker",
    "give_key",
    "give_parent",
    "give_tracker",
    "name_process",
    "run_as_process",
]

_descriptors: list[int] = []


def adopt(descriptors: list[int]) -> None:
    """Remember the descriptors that came with the setup."""
    _descriptors[:] = descriptors


class InheritedFd:
    """A descriptor by its index, as ``multiprocessing.reduction.DupFd`` is expected to make."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """The descriptor's number in this process."""
        return _descriptors[self._index]


def give_key(key: bytes) -> None:
    """Make ``key`` the authentication key of multiprocessing, for its managers and connections."""

    def give(process: types.ModuleType) -> None:
        process.current_process().authkey = key
        name_process()

    when_imported("multiprocessing.process", give)


def give_tracker(descriptor: int) -> None:
    """Let this process register its shared memory and semaphores with the program's tracker.

    A tracker of its own would take them for leaked, and remove them, as soon as a worker ends.
    """

    def give(module: types.ModuleType) -> None:
        module._resource_tracker._fd = descriptor
        _keep_tracker(module, _forks_workers)

    when_imported("multiprocessing.resource_tracker", give)


_forks_workers = True
"""Workers are forked from this process."""


def _keep_tracker(module: types.ModuleType, keep: bool) -> None:
    """Say whether what this thread forks has this process's tracker, as multiprocessing says it.

    The latest versions of Python let go of it at any other fork; earlier ones always keep it.
    """
    intent = getattr(module, "_fork_intent", None)
    if intent is not None:
        intent.preserve_fd = keep


def become_worker() -> None:
    """From now on a fork of this process is the program's own child, and no worker."""
    global _forks_workers
    _forks_workers = False
    module = sys.modules.get("multiprocessing.resource_tracker")
    if module is not None:
        _keep_tracker(module, False)


def give_parent(pid: int, name: str, sentinel: int) -> None:
    """Let ``multiprocessing.parent_process()`` answer with the program.

    ``sentinel`` becomes readable when the program ends.
    """

    def give(process: types.ModuleType) -> None:
        parent = process._ParentProcess(name, pid, sentinel)
        process._parent_process = parent  # type: ignore[attr-defined]

    when_imported("multiprocessing.process", give)


def run_as_process(work: Callable[[], None], pid: int, name: str) -> int:
    """Do ``work`` as a process of multiprocessing would, and return its exit code.

    For programs in which a tool, such as one that measures coverage, has changed how such processes
    run: what it does at a process's start and end is done here, too.
    """
    from multiprocessing import context

    from _offloop_worker._offloop import lifeline

    class Worker(context.Process):
        def run(self) -> None:
            work()

    worker: Any = Worker(name=f"Worker-{os.getpid()}")
    worker._parent_pid, worker._parent_name = pid, name
    return int(worker._bootstrap(parent_sentinel=lifeline()))


def name_process() -> None:
    """Give this worker a name of its own in logs, once multiprocessing has been imported."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().name = f"Worker-{os.getpid()}"
