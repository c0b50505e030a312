"""The functions that need no pool: the default lanes of this process."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import functools
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from _offloop_worker import _offloop
from offloop import _observing
from offloop._loop import new_event_loop
from offloop._process_pool import ProcessPool

__all__ = ["run", "to_process", "to_thread"]

P = ParamSpec("P")
T = TypeVar("T")

_pools: dict[int, ProcessPool] = {}


def _pool() -> ProcessPool:
    pool = _pools.get(os.getpid())
    if pool is None:
        _pools.clear()
        pool = _pools[os.getpid()] = ProcessPool()
    return pool


def pools() -> list[ProcessPool]:
    """The pool that this process shares, if there is one by now."""
    return list(_pools.values())


async def to_process(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``fn(*args, **kwargs)`` in a worker process and return its result.

    >>> asyncio.run(to_process(sum, range(10)))
    45

    For what thinks: work that would keep the loop busy. Cancelling the awaiting task stops the
    call and raises only once it has stopped. Raises what the call raises, or ``WorkerCrashed``,
    or ``DecodeError`` when a result cannot be rebuilt here.
    The workers are those of a ``ProcessPool()`` that this process shares.
    """
    return await _pool().run(fn, *args, **kwargs)


async def to_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``fn(*args, **kwargs)`` in a thread, in a copy of the current context.

    >>> asyncio.run(to_thread(max, 3, 5))
    5

    For what waits without awaiting: blocking calls. A thread cannot be killed: when the awaiting
    task is cancelled, the call goes on to its end and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    call = functools.partial(context.run, fn, *args, **kwargs)
    observed = _observing.begin("threads", fn) if _observing.observers else None
    if observed is not None:
        observed.enter(context)
    try:
        return await loop.run_in_executor(None, call)
    finally:
        if observed is not None:
            observed.end(sys.exception())


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = new_event_loop,
) -> T:
    """Run a coroutine on a new event loop of ours and close it, as ``asyncio.run`` does.

    >>> run(to_process(len, "four"))
    4

    ``loop_factory`` makes another loop; ``None`` leaves the choice to asyncio's policy.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("offloop.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


atexit.register(_offloop.stop)
