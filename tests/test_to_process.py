"""`await offloop.to_process(...)` and pools under asyncio and uvloop."""

import asyncio
import concurrent.futures
import inspect
import os
import threading
import time

import pytest

import calls
import offloop
from gates import Watched

pytestmark = pytest.mark.quick


async def started(gate) -> int:
    """Wait for a report without holding the loop."""
    return await asyncio.to_thread(gate.wait_started)


def test_value_and_error_arrive(run):
    async def main():
        assert await offloop.to_process(pow, 2, 8) == 256
        with pytest.raises(ValueError, match="far"):
            await offloop.to_process(calls.fail, ValueError("far"))

    run(main())


def test_gathered_calls_arrive_in_order(run):
    async def main():
        values = await asyncio.gather(*(offloop.to_process(calls.echo, n) for n in range(2000)))
        assert values == list(range(2000))

    run(main())


def test_run_in_executor_takes_the_pool(run, pool):
    async def main():
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(pool, calls.echo, number) for number in range(500)]
        assert await asyncio.gather(*futures) == list(range(500))

    run(main())


def test_pool_run_and_wrapped_futures(run, pool):
    async def main():
        assert await pool.run(calls.capture, 1, timeout=2) == ((1,), {"timeout": 2})
        assert await asyncio.wrap_future(pool.submit(calls.echo, 3)) == 3

    run(main())


def test_as_completed_yields_each_once(run):
    async def main():
        waiting = [offloop.to_process(calls.echo, number) for number in range(100)]
        seen = [await future for future in asyncio.as_completed(waiting)]
        assert sorted(seen) == list(range(100))

    run(main())


def test_async_with_closes_without_holding_the_loop(run, gate):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1
                if ticks == 20:
                    gate.release()

        async with offloop.ProcessPool(1) as pool:
            future = pool.submit(calls.hold, gate.paths, "held")
            ticker = asyncio.create_task(tick())
        assert ticks >= 20
        assert future.result(0) == "held"
        ticker.cancel()

    run(main())


def test_cancelling_stops_a_busy_loop_and_frees_the_worker(run, gate):
    async def main():
        async with offloop.ProcessPool(1) as pool:
            task = asyncio.create_task(pool.run(calls.loop_for_ever, gate.paths))
            await started(gate)
            begun = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - begun < 0.45
            assert await pool.run(calls.echo, 1) == 1

    run(main())


def test_cancelling_raises_only_after_the_call_has_ended(run, gate):
    async def main():
        async with offloop.ProcessPool(1) as pool:
            task = asyncio.create_task(pool.run(calls.clean_up_when_interrupted, gate.paths))
            await started(gate)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert gate.has_report()
            reports = [gate.wait_report()[1] for _ in range(2)]
            assert reports == ["TaskInterrupted", "finally"]

    run(main())


def test_cancelling_a_call_that_swallows_everything_kills_after_the_grace(run, gate):
    async def main():
        async with offloop.ProcessPool(1, grace=0.1) as pool:
            task = asyncio.create_task(pool.run(calls.refuse_to_stop, gate.paths))
            worker = Watched(await started(gate))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            worker.wait_exit(1)
            worker.close()
            assert await pool.run(calls.echo, 1) == 1

    run(main())


def test_wait_for_stops_the_call(run, gate):
    async def main():
        async with offloop.ProcessPool(1) as pool:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.run(calls.sleep_for_ever, gate.paths), 0.3)
            assert await asyncio.wait_for(pool.run(calls.echo, 1), 5) == 1

    run(main())


def test_failing_task_of_a_group_stops_the_others(run, gate):
    async def fail_later():
        await started(gate)
        raise LookupError("the group ends")

    async def main():
        async with offloop.ProcessPool(1) as pool:
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(pool.run(calls.loop_for_ever, gate.paths))
                    group.create_task(fail_later())
            assert caught.group_contains(LookupError)
            assert await asyncio.wait_for(pool.run(calls.echo, 1), 5) == 1

    run(main())


def test_cancelled_queued_call_never_starts(run, gate, tmp_path):
    log = tmp_path / "log"

    async def main():
        async with offloop.ProcessPool(1) as pool:
            holder = asyncio.create_task(pool.run(calls.hold, gate.paths))
            await started(gate)
            queued = asyncio.create_task(pool.run(calls.count_start, str(log)))
            await asyncio.sleep(0)
            queued.cancel()
            with pytest.raises(asyncio.CancelledError):
                await queued
            gate.release()
            await holder
            await pool.run(calls.echo, 1)

    run(main())
    assert not log.exists()


def test_several_loops_use_one_pool_at_once(run, pool):
    async def main(start):
        waiting = (pool.run(calls.echo, start + step) for step in range(200))
        return await asyncio.gather(*waiting)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda start: run(main(start)), range(0, 4000, 1000)))
    assert results == [list(range(start, start + 200)) for start in range(0, 4000, 1000)]


def test_loops_one_after_another_use_one_pool(run, pool):
    for number in range(20):
        assert run(pool.run(calls.echo, number)) == number


def test_loop_that_ends_with_calls_in_flight_does_no_harm(run, pool, gate):
    async def abandon():
        return pool.submit(calls.hold, gate.paths, "kept")

    future = run(abandon())
    gate.release()
    assert future.result(20) == "kept"
    assert run(pool.run(calls.echo, 2)) == 2


def test_result_called_on_the_loops_own_thread_is_served(run, pool):
    async def main():
        return pool.submit(calls.echo, "direct").result(20)

    assert run(main()) == "direct"


def test_polling_on_the_loops_own_thread_is_served(run, pool):
    async def main():
        future = pool.submit(calls.echo, 1)
        deadline = time.monotonic() + 20
        while not future.done():
            assert time.monotonic() < deadline
        return future.result()

    assert run(main()) == 1


def test_loop_ticks_while_the_workers_compute(run, pool, gate):
    async def main():
        tasks = [asyncio.create_task(pool.run(calls.loop_for_ever, gate.paths)) for _ in range(2)]
        await started(gate)
        await started(gate)
        for _ in range(100):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    run(main())


def test_crash_fails_only_its_own_call(run, pool):
    async def main():
        others = [pool.run(calls.echo, number) for number in range(50)]
        crash = pool.run(calls.segfault)
        *values, crashed = await asyncio.gather(*others, crash, return_exceptions=True)
        assert values == list(range(50))
        assert isinstance(crashed, offloop.WorkerCrashed)
        assert crashed.signal == 11

    run(main())


def test_timeouts_of_a_view_end_in_deadline_exceeded(run, pool, gate):
    async def main():
        with pytest.raises(offloop.DeadlineExceeded):
            await pool.options(timeout=0.2).run(calls.sleep_for_ever, gate.paths)
        with pytest.raises(TimeoutError):
            await pool.options(run_timeout=0.2).run(calls.loop_for_ever, gate.paths)
        assert await pool.run(calls.echo, 1) == 1

    run(main())


def test_full_queue_makes_run_wait_and_submit_refuse(run, gate):
    async def main():
        async with offloop.ProcessPool(1, max_queue=1) as pool:
            holder = asyncio.create_task(pool.run(calls.hold, gate.paths))
            await started(gate)
            queued = pool.submit(calls.echo, 1)
            with pytest.raises(offloop.QueueFull):
                pool.submit(calls.echo, 2)
            waiting = asyncio.create_task(pool.run(calls.echo, 3))
            await asyncio.sleep(0.02)
            assert not waiting.done()
            gate.release()
            await holder
            assert await waiting == 3
            assert await asyncio.wrap_future(queued) == 1

    run(main())


def test_run_cancelled_while_it_waits_for_room_leaves_nothing(run, gate):
    async def main():
        async with offloop.ProcessPool(1, max_queue=1) as pool:
            holder = asyncio.create_task(pool.run(calls.hold, gate.paths))
            await started(gate)
            queued = pool.submit(calls.echo, 1)
            waiting = asyncio.create_task(pool.run(calls.echo, 2))
            await asyncio.sleep(0.02)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            gate.release()
            await holder
            await asyncio.wrap_future(queued)
            assert pool.statistics().submitted == 2

    run(main())


def test_to_thread_runs_in_a_thread_of_this_process(run):
    async def main():
        pid, name = await offloop.to_thread(identify_thread)
        assert pid == os.getpid()
        assert name != threading.current_thread().name
        with pytest.raises(ValueError, match="near"):
            await offloop.to_thread(calls.fail, ValueError("near"))

    run(main())


def identify_thread():
    """Return the process id and the thread's name."""
    return os.getpid(), threading.current_thread().name


def test_thread_pool_can_be_the_default_executor(run):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(offloop.ThreadPool(2))
        assert await asyncio.to_thread(calls.echo, 5) == 5
        await loop.shutdown_default_executor()

    run(main())
    assert issubclass(offloop.ThreadPool, concurrent.futures.ThreadPoolExecutor)


def test_offloop_run_runs_a_coroutine():
    async def main():
        return await offloop.to_process(calls.echo, "ran")

    assert offloop.run(main()) == "ran"


def test_to_process_functions_are_coroutine_functions():
    assert inspect.iscoroutinefunction(offloop.to_process)
    assert inspect.iscoroutinefunction(offloop.to_thread)
