"""What a type checker says about the public names. mypy checks this file; it is never run.

Each function stands for a way to use offloop, with the types that a user may rely on.
"""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import offloop


def multiply(left: int, right: float) -> float:
    """A function with a signature to check calls against."""
    return left * right


def submit_returns_a_future_of_the_result(pool: offloop.ProcessPool) -> None:
    """The future knows the type of the value."""
    future = pool.submit(multiply, 2, 3.0)
    assert_type(future, offloop.Future[float])
    assert_type(future.result(), float)
    standard: concurrent.futures.Future[float] = future
    standard.cancel()
    pool.submit(multiply, "2", 3.0)  # type: ignore[arg-type]


def map_returns_an_iterator_of_results(pool: offloop.ProcessPool) -> None:
    """As in the standard library."""
    for value in pool.map(multiply, [1, 2], [3.0, 4.0]):
        assert_type(value, float)


async def coroutines_keep_the_type(pool: offloop.ProcessPool) -> None:
    """Awaiting gives the value's own type."""
    assert_type(await pool.run(multiply, 2, 3.0), float)
    assert_type(await offloop.to_process(multiply, 2, right=3.0), float)
    assert_type(await offloop.to_thread(multiply, 2, 3.0), float)
    await offloop.to_process(multiply, "2", 3.0)  # type: ignore[arg-type]


def count(end: int) -> Iterator[int]:
    """A generator function."""
    yield from range(end)


async def count_later(end: int) -> AsyncIterator[str]:
    """An asynchronous generator function."""
    yield str(end)


async def streams_keep_the_type_of_their_items(pool: offloop.ProcessPool) -> None:
    """Whatever the function returns, its items are what is iterated over."""
    stream = pool.stream(count, 3)
    assert_type(stream, offloop.Stream[int])
    async for number in stream:
        assert_type(number, int)
    await stream.aclose()
    assert_type(await anext(pool.options(timeout=1.0).stream(count_later, end=3)), str)
    assert_type([item async for item in pool.stream(sorted, "abc")], list[str])
    pool.stream(count, "3")  # type: ignore[arg-type]
    pool.stream(multiply, 2, 3.0)  # type: ignore[arg-type]


async def pools_are_context_managers_of_both_kinds() -> None:
    """`with` and `async with` give the pool itself."""
    with offloop.ProcessPool(2) as pool:
        assert_type(pool, offloop.ProcessPool)
    async with offloop.ProcessPool(2, max_queue=10, queue_policy="refuse") as pool:
        assert_type(pool, offloop.ProcessPool)
        loop = asyncio.get_running_loop()
        assert_type(await loop.run_in_executor(pool, multiply, 2, 3.0), float)


def views_are_executors(pool: offloop.ProcessPool) -> None:
    """A view has the same methods."""
    view = pool.options(timeout=1.0, run_timeout=0.5, retries=1)
    executor: concurrent.futures.Executor = view
    executor.submit(multiply, 2, 3.0)
    assert_type(view.submit(multiply, 2, 3.0), offloop.Future[float])


def errors_tell_what_they_know(error: offloop.WorkerCrashed) -> None:
    """The attributes of a crash."""
    assert_type(error.signal, int | None)
    assert_type(error.exit_code, int | None)
    assert_type(error.pid, int | None)
    assert_type(error.may_have_started, bool)


def statistics_are_numbers(pool: offloop.ProcessPool) -> None:
    """A record of counters."""
    statistics = pool.statistics()
    assert_type(statistics, offloop.PoolStatistics)
    assert_type(statistics.workers, int)
    assert_type(statistics.submitted, int)


def loops_are_asyncios() -> None:
    """Whatever takes an event loop, a policy or a factory takes ours."""
    loop: asyncio.AbstractEventLoop = offloop.EventLoop()
    assert_type(offloop.new_event_loop(), offloop.EventLoop)
    assert_type(loop.run_until_complete(main()), int)
    with asyncio.Runner(loop_factory=offloop.new_event_loop) as runner:
        assert_type(runner.run(main()), int)
    policy: asyncio.AbstractEventLoopPolicy = offloop.EventLoopPolicy()
    asyncio.set_event_loop_policy(policy)
    handle = loop.call_later(1.0, print, "text")
    assert_type(handle, asyncio.TimerHandle)


def loops_tell_what_they_do(loop: offloop.EventLoop) -> None:
    """A record of counters, and two histograms."""
    statistics = loop.statistics()
    assert_type(statistics, offloop.LoopStatistics)
    assert_type(statistics.lag, offloop.LagHistogram)
    assert_type(statistics.lag.p99, float)
    assert_type(statistics.lag.buckets, tuple[tuple[float, int], ...])
    assert_type(statistics.utilisation, float)
    assert_type(statistics.callbacks, int)


async def files_know_what_they_hold() -> None:
    """The mode says whether a file holds text or bytes."""
    async with offloop.open("path") as text:
        assert_type(text, offloop.AsyncFile[str])
        assert_type(await text.read(), str)
        assert_type([line async for line in text], list[str])
        await text.write("text")
        await text.write(b"bytes")  # type: ignore[arg-type]
    binary = await offloop.open("path", "rb")
    assert_type(await binary.readline(), bytes)
    await binary.write(memoryview(b"bytes"))
    await binary.writelines([b"bytes"])
    await binary.write("text")  # type: ignore[arg-type]
    assert_type(await offloop.read_file("path"), bytes)
    assert_type(await offloop.read_file("path", encoding="utf-8"), str)
    await offloop.write_file("path", "text", encoding="utf-8")


async def main() -> int:
    """A coroutine with a result."""
    return 1


assert_type(offloop.run(main()), int)
