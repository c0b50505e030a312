"""How a stream is left: by a limit, a break, a cancelled task, a closed pool."""

import asyncio
import contextlib
import gc
from concurrent.futures.process import BrokenProcessPool

import pytest
from stream_tools import WINDOW, counts, started, take

import calls
import offloop
import streamed
from gates import Watched, run_program
from streamed import counted

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("limit", ["timeout", "run_timeout"])
@pytest.mark.parametrize("takes", [True, False])
def test_a_limit_of_time_counts_for_the_whole_stream(run, single, made, tmp_path, limit, takes):
    async def items_within(seconds, closed):
        seen = 0
        options = single.options(**{limit: seconds})
        with pytest.raises(offloop.DeadlineExceeded):
            async for item in options.stream(streamed.endless, str(made), str(closed)):
                assert item == seen
                seen += 1
                if not takes:
                    await counts(closed, 1)
        return seen

    async def main():
        before = await single.run(calls.identify)
        seconds = 0.2
        # On a busy machine the call may not have begun by then.
        while not await items_within(seconds, tmp_path / f"closed-{seconds}"):
            seconds *= 2
        await counts(tmp_path / f"closed-{seconds}", 1)
        assert await single.run(calls.identify) == before

    run(main())


@pytest.mark.parametrize("function", [streamed.endless, streamed.endless_later])
def test_a_break_closes_the_generator_and_its_worker_goes_on(run, single, made, closed, function):
    async def main():
        before = await single.run(calls.identify)
        async for item in single.stream(function, str(made), str(closed)):
            if item == 500:
                break
        # The iterator was collected as the loop ended; nothing waited for that.
        assert await single.run(calls.identify) == before
        assert counted(closed) == 1

    run(main())


def test_an_iterator_by_hand_is_closed_too(run, single, closed):
    async def main():
        async with contextlib.aclosing(
            single.stream(streamed.countdown, 10_000, str(closed))
        ) as stream:
            assert await anext(stream) == 9_999
        assert counted(closed) == 1

    run(main())


def test_aclose_returns_when_the_call_has_stopped(run, single, made, closed):
    async def main():
        stream = single.stream(streamed.endless, str(made), str(closed))
        async with contextlib.aclosing(stream) as items:
            assert await anext(items) == 0
        assert counted(closed) == 1
        counts = single.statistics()
        assert (counts.running, counts.cancelled) == (0, 1)
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    run(main())


def test_aclose_before_the_first_item_runs_nothing(run, single, made, closed):
    async def main():
        stream = single.stream(streamed.endless, str(made), str(closed))
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    run(main())
    assert single.statistics().submitted == 0


HANGING = [streamed.then_hang, streamed.then_wait, streamed.then_compute]


@pytest.mark.parametrize("function", HANGING)
def test_cancelling_the_task_that_waits_for_an_item(run, single, gate, closed, function):
    async def main():
        last = asyncio.Event()

        async def consume():
            async for item in single.stream(function, 3, gate.paths, str(closed)):
                if item == 2:
                    last.set()

        task = asyncio.create_task(consume())
        pid = await started(gate)
        await last.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (counted(closed), await single.run(calls.identify)) == (1, pid)

    run(main())


def test_a_timeout_around_one_item_ends_the_stream(run, single, gate, closed):
    async def main():
        stream = single.stream(streamed.then_hang, 1, gate.paths, str(closed))
        assert await anext(stream) == 0
        await started(gate)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.01)
        assert counted(closed) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    run(main())


def test_a_stream_that_is_collected_stops_its_call(run, single, gate, closed):
    async def main():
        stream = single.stream(streamed.then_hang, 1, gate.paths, str(closed))
        assert await anext(stream) == 0
        await started(gate)
        ring = [stream]
        ring.append(ring)
        del stream, ring
        gc.collect()
        await counts(closed, 1)

    run(main())


def test_closing_wakes_the_task_that_waits(run, single, gate, closed):
    async def main():
        stream = single.stream(streamed.then_hang, 1, gate.paths, str(closed))
        waiting = asyncio.create_task(take(stream, 2))
        await started(gate)
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting
        assert counted(closed) == 1

    run(main())


@pytest.mark.parametrize("function", [streamed.deaf, streamed.goes_on])
def test_what_does_not_stop_is_killed_or_dropped(run, gate, function):
    async def main():
        async with offloop.ProcessPool(1, grace=0.05) as pool:
            stream = pool.stream(function, gate.paths)
            assert await anext(stream) == 0
            (pid,) = pool._processes
            if function is streamed.deaf:
                assert await started(gate) == pid
            worker = Watched(pid)
            await stream.aclose()
            if function is streamed.deaf:
                await asyncio.to_thread(worker.wait_exit)
            else:
                assert await started(gate) == pid
            worker.close()
            assert await pool.run(calls.echo, 1) == 1

    run(main())


@pytest.mark.parametrize("leave", ["async with", "with", "shutdown", "no wait", "terminate"])
def test_shutting_down_stops_streams(run, made, closed, leave):
    async def main():
        pool = offloop.ProcessPool(1)
        stream = pool.stream(streamed.endless, str(made), str(closed))
        assert await anext(stream) == 0
        queued = asyncio.create_task(anext(pool.stream(streamed.numbers, 1)))
        await counts(made, WINDOW)
        if leave == "async with":
            async with pool:
                pass
        elif leave == "with":
            with pool:
                pass
        elif leave == "terminate":
            pool.terminate_workers()
        else:
            pool.shutdown(wait=leave == "shutdown")
        error, text = RuntimeError, "the pool was shut down while this stream was under way"
        if leave == "terminate":
            error, text = BrokenProcessPool, "terminated"
        seen = 1
        with pytest.raises(error, match=text):
            async for item in stream:
                assert item == seen
                seen += 1
        assert seen >= WINDOW
        with pytest.raises(RuntimeError):
            await queued
        with pytest.raises(RuntimeError, match="after shutdown"):
            await anext(pool.stream(streamed.numbers, 1))

    run(main())
    assert counted(closed) == 1


def test_a_program_that_leaves_a_stream_open_ends(tmp_path):
    program = """
        import asyncio
        import itertools
        import offloop

        pool = offloop.ProcessPool(1)
        stream = pool.stream(itertools.count)

        async def main():
            print(await anext(stream))

        asyncio.run(main())
        print("left")
    """
    ended = run_program(tmp_path, program)
    assert (ended.stdout.split(), ended.returncode) == (["0", "left"], 0), ended.stderr
