"""A process pool that survives its workers: the public executor over a lane of the runtime."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import itertools
import multiprocessing
import multiprocessing.context
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from _offloop_worker._offloop import Lane, WorkerProcess
from _offloop_worker.exceptions import QueueFull
from offloop import _launch, _observing
from offloop._arguments import BYTES_MAX, COUNT_MAX, check_seconds, count, names, values
from offloop._future import Future
from offloop._statistics import PoolStatistics
from offloop._streams import Stream, stopped
from offloop._waiting import waiting

__all__ = ["ProcessPool", "PoolView"]

P = ParamSpec("P")
T = TypeVar("T")


class _Executor(concurrent.futures.Executor):
    """What a pool and its views share: submission with a set of limits."""

    _lane: Lane
    _timeout: float | None
    _run_timeout: float | None
    _retries: int
    _waits: bool

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)`` on a worker and return its future at once.

        >>> with ProcessPool(2) as pool:
        ...     future = pool.submit(divmod, 7, 2)
        ...     future.result()
        (3, 1)

        Errors of pickling are raised by the future. With a full queue, a plain thread waits, and
        a thread that runs an event loop gets ``QueueFull``, as every thread does under
        ``queue_policy="refuse"``. Raises ``RuntimeError`` after ``shutdown``, ``TypeError`` for a
        coroutine function, and ``BrokenProcessPool`` when the initializer has failed. Thread-safe.
        """
        future: Future[T] = Future()
        future._lane = self._lane
        observed = _observing.begin("processes", fn) if _observing.observers else None
        try:
            submitted = self._lane.submit(
                future,
                fn,
                args,
                kwargs,
                self._timeout,
                self._run_timeout,
                self._retries,
                None if observed is None else observed.carried,
            )
        except BaseException as error:
            if observed is not None:
                observed.end(error)
            raise
        if isinstance(submitted, int):
            future._token = submitted
        else:
            future._resolve(None, submitted)  # type: ignore[arg-type]
        if observed is not None:
            future.add_done_callback(observed.end_with)
        return future

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(*args, **kwargs)`` on a worker and wait for it, the loop staying free.

        >>> async def main():
        ...     async with ProcessPool(2) as pool:
        ...         return await asyncio.gather(pool.run(pow, 2, 3), pool.run(pow, 3, 2))
        >>> asyncio.run(main())
        [8, 9]

        Cancelling the awaiting task stops the call, and raises only once it has really stopped:
        it is interrupted, and its worker killed after the grace period. With a full queue and
        ``queue_policy="wait"``, waits for room first. Raises what the call raises, and what
        ``submit`` and its future do. To be awaited on the thread of a running event loop.
        """
        lane = self._lane
        observed = _observing.begin("processes", fn) if _observing.observers else None
        try:
            while True:
                try:
                    future, token = lane.start(
                        fn,
                        args,
                        kwargs,
                        self._timeout,
                        self._run_timeout,
                        self._retries,
                        None if observed is None else observed.carried,
                    )
                    break
                except QueueFull:
                    if not self._waits or lane.has_room():
                        raise
                    await lane.room()
            try:
                return await future  # type: ignore[no-any-return]
            except asyncio.CancelledError:
                await stopped(lane.stop(token))
                raise
        finally:
            if observed is not None:
                observed.end(sys.exception())

    def stream(
        self,
        fn: Callable[P, Iterable[T] | AsyncIterable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Stream[T]:
        """Run ``fn(*args, **kwargs)`` on a worker, and iterate over its items while it goes on.

        >>> async def main():
        ...     async with ProcessPool(1) as pool:
        ...         return [item async for item in pool.stream(range, 3)]
        >>> asyncio.run(main())
        [0, 1, 2]

        ``fn`` is a generator function, an asynchronous generator function, or returns an iterator.
        It starts when the stream is first iterated, and holds a worker until it ends. The worker
        runs ahead of the loop by at most 256 items or 4 MiB, and then waits. Items come in order;
        after them comes what ``fn`` raised, if it did, or what ended its call, as for ``run``.
        Limits of time count for the whole stream. A call that has delivered an item is not retried.

        A ``break`` stops the worker's side, and ``aclose()`` waits for that: use
        ``contextlib.aclosing``. So does cancelling the task that waits for an item. A generator is
        closed in its worker, which goes on with the next call; if it does not end, it is killed
        after the grace period. Shutting the pool down stops its streams, too. To be iterated on
        the thread of a running event loop.
        """
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {fn!r}")
        limits = (self._timeout, self._run_timeout, self._retries)
        return Stream(self._lane, self._waits, (fn, args, kwargs, *limits))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Apply ``fn`` to the items of the iterables, taken together; results come in order.

        >>> with ProcessPool(2) as pool:
        ...     list(pool.map(pow, [2, 3, 4], [5, 2, 3], chunksize=2))
        [32, 9, 64]

        ``chunksize`` items travel in one call; ``buffersize`` bounds how many calls are ahead of
        the consumer (and makes the iterables lazy). ``timeout`` counts seconds from this call;
        when it has passed, the iterator raises ``TimeoutError``. An error of a call is raised in
        its place, and ends the iterator; calls that are left then are cancelled. A queue that is
        full is met as in ``submit``.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        items = zip(*iterables, strict=False)
        if chunksize == 1:
            calls: Iterator[tuple[Any, ...]] = items
            function: Callable[..., Any] = fn
        else:
            calls = ((chunk,) for chunk in _batched(items, chunksize))
            function = functools.partial(_run_chunk, fn)
        results = _results(self, function, calls, timeout, buffersize)
        return results if chunksize == 1 else itertools.chain.from_iterable(results)


class ProcessPool(_Executor):
    """A pool of worker processes: ``concurrent.futures.ProcessPoolExecutor``, and what it lacks.

    - A call that runs can be cancelled: ``Future.cancel``, or cancelling the awaiting task.
    - A worker that crashes fails only its own call, with ``WorkerCrashed``.
    - ``stream`` iterates over the items of a generator that runs in a worker.
    - ``timeout`` and ``run_timeout`` stop a call; ``retries`` repeat one whose worker crashed.
    - The queue can be bounded. No program needs an ``if __name__ == "__main__"`` guard.

    >>> with ProcessPool(2) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024

    Args:
        max_workers: processes at most; as many as this process may use cores unless set.
        mp_context: accepted for compatibility; workers always start like ``forkserver`` ones.
        initializer, initargs: called in each worker before its first call; a failure breaks the
            pool (``BrokenProcessPool``).
        max_tasks_per_child: calls after which a worker is replaced.
        preload: modules imported once, before the workers are forked.
        timeout: seconds from submission after which a call is stopped (``DeadlineExceeded``).
        run_timeout: seconds from the start of a call after which it is stopped.
        memory_limit: bytes of private memory that a worker may have (``RLIMIT_DATA``); a call that
            needs more gets ``MemoryLimitExceeded``.
        grace: seconds between interrupting a call and killing its worker.
        start_timeout: seconds that a worker may take to become ready, initializer included; then it
            is killed. After five failures in a row the pool is broken, as when its initializer
            raises.
        max_queue, max_queue_bytes: limits of what waits; None for no limit of its own.
        queue_policy: what a full queue does: ``"wait"``, ``"refuse"`` or ``"drop_oldest"``.
        retries: how many more times a call is started when its worker crashes under it.

    Pools that start their workers alike share them, so a pool made for one request costs little.
    All methods are thread-safe; a pool may serve several event loops at once.
    """

    _shutdown_thread = False
    _known_processes: Mapping[int, WorkerProcess] = MappingProxyType({})

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: multiprocessing.context.BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        preload: Iterable[str] = (),
        timeout: float | None = None,
        run_timeout: float | None = None,
        memory_limit: int | None = None,
        grace: float = 0.5,
        max_queue: int | None = None,
        max_queue_bytes: int | None = None,
        queue_policy: Literal["wait", "refuse", "drop_oldest"] = "wait",
        retries: int = 0,
        start_timeout: float = 300.0,
    ) -> None:
        if max_workers is None:
            max_workers = _usable_cores()
        elif (max_workers := count("max_workers", max_workers)) <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if count("max_tasks_per_child", max_tasks_per_child) <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._max_workers = max_workers
        if mp_context is None:
            method = "spawn" if max_tasks_per_child is not None else None
            mp_context = multiprocessing.get_context(method)
        self._mp_context = mp_context
        # Locks and queues among them live as long as their owner, and workers may come later.
        self._initargs = values("initargs", initargs)
        check_seconds("grace", grace)
        check_seconds("start_timeout", start_timeout)
        _check_call_limits(timeout, run_timeout, retries)
        self._timeout, self._run_timeout, self._retries = timeout, run_timeout, retries
        self._waits = queue_policy == "wait"
        self._lane = Lane(
            **_launch.describe(
                initializer,
                self._initargs,
                names("preload", preload),
                _limit("memory_limit", memory_limit, BYTES_MAX),
            ),
            workers_max=max_workers,
            tasks_per_worker_max=max_tasks_per_child,
            queue_tasks_max=_limit("max_queue", max_queue, COUNT_MAX),
            queue_bytes_max=_limit("max_queue_bytes", max_queue_bytes, BYTES_MAX),
            queue_policy=queue_policy,
            grace=grace,
            start_timeout=start_timeout,
        )

    # What users of the standard pool read, although its names are private: tools that end stuck
    # workers, watch their memory, or bound what they submit.

    @property
    def _broken(self) -> str | bool:
        """The reason, once the initializer has failed."""
        return self._lane.broken() or False

    @property
    def _processes(self) -> dict[int, WorkerProcess]:
        """The workers of this moment, by process id; empty once the pool is shut down and drained.

        >>> import os
        >>> with ProcessPool(1) as pool:
        ...     pid = pool.submit(os.getpid).result()
        ...     worker = pool._processes[pid]
        ...     worker.is_alive(), worker.exitcode
        (True, None)

        Pools that start their workers alike share them, so these may serve other pools, too. A
        worker has ``pid``, ``sentinel``, ``exitcode``, ``is_alive()``, ``terminate()``, ``kill()``
        and ``join()``, as a ``multiprocessing.Process`` has. A worker that is ended so fails only
        its own call, with ``WorkerCrashed``; the pool replaces it.
        """
        if self._shutdown_thread and self._lane.is_drained():
            self._known_processes = {}
            return {}
        # Kept from one look to the next, as a sentinel is good only for as long as its process.
        known = self._known_processes
        self._known_processes = {
            pid: known[pid] if pid in known and known[pid].is_alive() else process
            for pid, process in self._lane.processes().items()
        }
        return dict(self._known_processes)

    @property
    def _pending_work_items(self) -> dict[int, None]:
        """As many items as calls wait or run, since programs ask for the number of items."""
        counts = self.statistics()
        return dict.fromkeys(range(counts.queued + counts.prefetched + counts.running))

    def options(
        self,
        *,
        timeout: float | None = None,
        run_timeout: float | None = None,
        retries: int | None = None,
    ) -> PoolView:
        """A view of this pool with other limits for its calls; itself an executor.

        >>> pool = ProcessPool(2)
        >>> pool.options(timeout=2.5, retries=1).submit(abs, -3).result()
        3
        >>> pool.shutdown()

        What is not given, or None, is as in the pool. Limits are seconds, as in the constructor.
        """
        retries = self._retries if retries is None else retries
        _check_call_limits(timeout, run_timeout, retries)
        return PoolView(
            self,
            self._timeout if timeout is None else timeout,
            self._run_timeout if run_timeout is None else run_timeout,
            retries,
        )

    def statistics(self) -> PoolStatistics:
        """Counts of this moment, which go on after ``shutdown``.

        >>> with ProcessPool(2) as pool:
        ...     pool.submit(abs, -3).result()
        ...     pool.statistics().submitted
        3
        1
        """
        counts = self._lane.statistics()
        if counts is None:
            return PoolStatistics()
        return PoolStatistics(
            workers=counts["workers"],
            queued=counts["queued"],
            prefetched=counts["prefetched"],
            running=counts["running"],
            submitted=counts["submitted"],
            completed=counts["completed"],
            cancelled=counts["cancelled"],
            expired=counts["expired"],
            crashed=counts["crashed"],
            retried=counts["retried"],
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; queued ones run, or are cancelled with ``cancel_futures``.

        Calls that run are never stopped by this; streams are, since nothing may come to take what
        is left of them. With ``wait``, returns when all are over and their callbacks have run,
        which would stop an event loop for as long: in a coroutine leave an ``async with`` block
        instead. In a callback it waits for all results, and for no callback.
        Afterwards no initializer runs. May be called again, and from any thread; a later
        ``cancel_futures`` still counts.
        """
        self._close("cancel_queued" if cancel_futures else "drain")
        if wait:
            with waiting(self, by_with_block=False):
                self._lane.wait_drained()

    def terminate_workers(self) -> None:
        """Take no more calls and stop those that run: interrupted first, killed after ``grace``.

        Queued calls are cancelled; those that ran fail with ``BrokenProcessPool``. Returns at once.
        As in Python 3.14, but for the workers: those of other pools with the same start-up go on.
        """
        self._close("terminate")

    def kill_workers(self) -> None:
        """Do as ``terminate_workers``, without any grace."""
        self._close("kill")

    def _close(self, how: str) -> None:
        self._shutdown_thread = True
        self._lane.close(how)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down and wait. Leaving the block by Ctrl-C stops what runs instead."""
        with waiting(self, by_with_block=True):
            if _is_interrupt(kind):
                self._lane.close("stop")
                self._lane.wait_drained()
            else:
                self.shutdown(wait=True)

    async def __aenter__(self) -> ProcessPool:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """As leaving a ``with`` block, but the loop goes on meanwhile."""
        if _is_interrupt(kind):
            self._lane.close("stop")
        else:
            self.shutdown(wait=False)
        if not self._lane.is_drained():
            await asyncio.to_thread(self._lane.wait_drained)


class PoolView(_Executor):
    """A pool seen with other limits, as ``ProcessPool.options`` returns it.

    It shares the pool's queue and workers. Shutting it down does nothing, the pool lives on.
    """

    def __init__(
        self, pool: ProcessPool, timeout: float | None, run_timeout: float | None, retries: int
    ) -> None:
        self._pool = pool
        self._lane = pool._lane
        self._waits = pool._waits
        self._timeout, self._run_timeout, self._retries = timeout, run_timeout, retries

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: only the pool itself can be shut down."""


def _usable_cores() -> int:
    count = getattr(os, "process_cpu_count", None)  # since Python 3.13
    return (count() or 1) if count is not None else len(os.sched_getaffinity(0))


def _limit(name: str, value: int | None, most: int) -> int | None:
    if value is not None and (value := count(name, value, most)) < 1:
        raise ValueError(f"{name} must be None or at least 1, not {value!r}")
    return value


def _check_call_limits(timeout: float | None, run_timeout: float | None, retries: int) -> None:
    for name, limit in (("timeout", timeout), ("run_timeout", run_timeout)):
        if limit is not None:
            check_seconds(name, limit)
    if count("retries", retries) < 0:
        raise ValueError(f"retries must be at least 0, not {retries!r}")


def _is_interrupt(kind: type[BaseException] | None) -> bool:
    return kind is not None and issubclass(kind, KeyboardInterrupt)


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _run_chunk(function: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    return [function(*arguments) for arguments in chunk]


def _result_or_cancel(future: Future[T], left: float | None) -> T:
    try:
        return future.result(left)
    finally:
        # Stops a call whose result came too late. A call that has ended stays as it is.
        future.cancel()
        del future


def _results(
    executor: _Executor,
    function: Callable[..., T],
    calls: Iterator[tuple[Any, ...]],
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[T]:
    end = None if timeout is None else timeout + time.monotonic()
    first = itertools.islice(calls, buffersize)
    futures = deque(executor.submit(function, *arguments) for arguments in first)

    def results() -> Iterator[T]:
        try:
            while futures:
                if buffersize is not None:
                    following = next(calls, None)
                    if following is not None:
                        futures.append(executor.submit(function, *following))
                left = None if end is None else end - time.monotonic()
                # No name holds the value while the consumer has it.
                yield _result_or_cancel(futures.popleft(), left)
        finally:
            for future in futures:
                future.cancel()

    return results()
