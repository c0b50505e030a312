"""`async for item in pool.stream(...)`: items from a worker while its call goes on."""

import asyncio
import functools
import itertools
import os
import signal

import pytest
from stream_tools import WINDOW, counts, started, take

import calls
import offloop
import streamed
from gates import eventually
from streamed import counted

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("items", [0, 1, 5, 3000])
@pytest.mark.parametrize("function", [streamed.numbers, streamed.numbers_later, range])
def test_items_come_in_order_none_lost_and_none_twice(run, pool, function, items):
    async def main():
        assert [item async for item in pool.stream(function, items)] == list(range(items))

    run(main())


def test_whatever_can_be_iterated_is_a_stream(run, pool, closed):
    async def main():
        async def all_of(function, *arguments, **keywords):
            return [item async for item in pool.stream(function, *arguments, **keywords)]

        assert await all_of(streamed.countdown, 3, str(closed)) == [2, 1, 0]
        assert await all_of(streamed.listed, 1, None, "x") == [1, None, "x"]
        assert await all_of(streamed.letters) == ["a", "b", "c"]
        assert await all_of(functools.partial(streamed.numbers, end=2)) == [0, 1]
        assert await all_of(functools.partial(streamed.numbers_later, 2)) == [0, 1]
        assert await all_of(lambda: (n * n for n in range(3))) == [0, 1, 4]
        assert await all_of("a,b".split, sep=",") == ["a", "b"]

    run(main())


@pytest.mark.parametrize("function", [streamed.endless, streamed.endless_later])
def test_a_worker_runs_ahead_by_a_window_and_no_further(run, single, made, closed, function):
    async def main():
        stream = single.stream(function, str(made), str(closed))
        assert await anext(stream) == 0
        taken = 1
        for _ in range(20):
            await counts(made, WINDOW)
            taken += len(await take(stream, 100))
            assert counted(made) <= taken + WINDOW
            await counts(made, taken + WINDOW // 2)
        await stream.aclose()
        assert counted(made) <= taken + WINDOW

    run(main())
    assert counted(closed) == 1


def test_a_loop_that_does_not_come_stops_the_worker_at_the_window(run, single, made, closed):
    async def main():
        stream = single.stream(streamed.endless, str(made), str(closed))
        assert await anext(stream) == 0
        # The loop stands still; other threads go on.
        eventually(lambda: counted(made) >= WINDOW)
        single.submit(calls.identify).cancel()
        assert counted(made) <= WINDOW + 1
        assert await take(stream, 1000) == list(range(1, 1001))
        await stream.aclose()

    run(main())


def test_a_consumer_that_takes_its_time_gets_every_item(run, pool):
    async def main():
        expected = itertools.count()
        async for item in pool.stream(streamed.numbers, 1500):
            assert item == next(expected)
            for _ in range(item % 5):
                await asyncio.sleep(0)
        assert next(expected) == 1500

    run(main())


def test_items_that_are_there_cost_no_turn_of_the_loop(run, single):
    async def main():
        turns = 0

        def turn():
            nonlocal turns
            turns += 1
            handle[0] = loop.call_soon(turn)

        loop = asyncio.get_running_loop()
        handle = [loop.call_soon(turn)]
        stream = single.stream(streamed.numbers, 100)
        assert await anext(stream) == 0
        # The worker has gone on to the end, and the loop has fetched what it sent.
        assert await single.run(calls.echo, 1) == 1
        turns = 0
        assert await take(stream, 99) == list(range(1, 100))
        assert turns == 0
        handle[0].cancel()

    run(main())


@pytest.mark.parametrize("items", [0, 3, 700])
def test_what_is_raised_comes_after_the_items_with_its_traceback(run, pool, items):
    async def main():
        seen = 0
        with pytest.raises(ValueError, match="far") as caught:
            async for item in pool.stream(streamed.then_raise, items, ValueError("far")):
                assert item == seen
                seen += 1
        assert seen == items
        assert "then_raise" in str(caught.value.__cause__)

    run(main())


@pytest.mark.parametrize("error", [StopAsyncIteration("x"), StopIteration("x")])
def test_an_error_that_looks_like_the_end_is_none(run, pool, error):
    async def main():
        with pytest.raises(RuntimeError):
            async for _ in pool.stream(streamed.then_raise, 1, error):
                pass

    run(main())


def test_after_its_end_a_stream_has_no_more(run, pool):
    async def main():
        stream = pool.stream(streamed.then_raise, 1, KeyError("once"))
        assert await anext(stream) == 0
        with pytest.raises(KeyError):
            await anext(stream)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        await stream.aclose()

    run(main())


@pytest.mark.parametrize("items", [1, 300])
def test_a_crash_comes_after_the_items_and_is_not_retried(run, pool, made, items):
    async def main():
        seen = 0
        with pytest.raises(offloop.WorkerCrashed) as caught:
            async for item in pool.options(retries=3).stream(streamed.then_die, items, str(made)):
                assert item == seen
                seen += 1
        assert seen == items
        assert caught.value.signal == signal.SIGKILL
        assert await pool.run(calls.echo, 1) == 1

    run(main())
    assert counted(made) == 1


def test_a_crash_before_the_first_item_is_retried(run, pool, made):
    async def main():
        with pytest.raises(offloop.WorkerCrashed):
            await anext(pool.options(retries=2).stream(streamed.then_die, 0, str(made)))

    run(main())
    assert counted(made) == 3


def test_a_worker_that_is_killed_while_it_waits_for_its_consumer(run, single, made, closed):
    async def main():
        stream = single.stream(streamed.endless, str(made), str(closed))
        assert await anext(stream) == 0
        await counts(made, WINDOW)
        (pid,) = single._processes
        os.kill(pid, signal.SIGKILL)
        seen = 1
        with pytest.raises(offloop.WorkerCrashed):
            async for item in stream:
                assert item == seen
                seen += 1
        assert seen >= WINDOW

    run(main())


@pytest.mark.parametrize("size", [16_000, 20_000, 1 << 20, 6 << 20])
def test_large_items_arrive_whole(run, pool, size):
    async def main():
        number = 0
        async for item in pool.stream(streamed.large, 40, size):
            assert item == bytes([number]) * size
            number += 1
        assert number == 40

    run(main())


def test_items_that_are_kept_stay_as_they_were(run, pool):
    async def main():
        kept = [item async for item in pool.stream(streamed.large, 60, 200_000)]
        assert [(item[0], len(item), len(set(item))) for item in kept] == [
            (number, 200_000, 1) for number in range(60)
        ]

    run(main())


def test_an_asynchronous_generator_runs_in_one_task(run, pool):
    async def main():
        assert [same async for same in pool.stream(streamed.in_one_task, 20)] == [True] * 20

    run(main())


def test_an_item_that_cannot_travel_ends_the_stream(run, single, closed):
    async def main():
        stream = single.stream(streamed.unpicklable, str(closed))
        assert await anext(stream) == 1
        with pytest.raises(TypeError, match="pickle"):
            await anext(stream)
        assert counted(closed) == 1

    run(main())


def test_an_item_that_cannot_be_decoded_ends_the_stream(run, single, closed):
    async def main():
        stream = single.stream(streamed.bombs, str(closed))
        assert await anext(stream) == 1
        with pytest.raises(offloop.DecodeError):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await counts(closed, 1)
        assert await single.run(calls.echo, 1) == 1

    run(main())


def test_a_child_that_a_stream_forks_sends_nothing(run, single, closed):
    async def main():
        assert [item async for item in single.stream(streamed.forks, str(closed))] == [1, 2, 3]

    run(main())


def test_two_streams_at_once_and_calls_beside_them(run):
    async def main():
        async with offloop.ProcessPool(3) as pool:

            async def total(end):
                return sum([item async for item in pool.stream(streamed.numbers, end)])

            async def beside():
                return [await pool.run(calls.echo, number) for number in range(200)]

            one, other, echoed = await asyncio.gather(total(5_000), total(3_000), beside())
            assert (one, other) == (sum(range(5_000)), sum(range(3_000)))
            assert echoed == list(range(200))

    run(main())


def test_a_paused_stream_holds_up_no_other(run, pool, made, closed):
    async def main():
        paused = pool.stream(streamed.endless, str(made), str(closed))
        assert await anext(paused) == 0
        for _ in range(20):
            assert [item async for item in pool.stream(streamed.numbers, 300)] == list(range(300))
            assert await pool.run(calls.echo, 1) == 1
        assert await anext(paused) == 1
        await paused.aclose()

    run(main())


def test_a_stream_waits_for_room_as_the_policy_says(run, held, gate):
    pool = held(max_queue=1)

    async def main():
        queued = asyncio.ensure_future(pool.run(calls.echo, 1))
        await asyncio.sleep(0)
        given_up = pool.stream(streamed.numbers, 2)
        waiting = [asyncio.ensure_future(anext(given_up))]
        waiting += [asyncio.ensure_future(anext(pool.stream(streamed.numbers, 1)))]
        await asyncio.sleep(0)
        assert pool.statistics().submitted == 2
        await given_up.aclose()
        gate.release()
        assert await waiting[1] == 0
        with pytest.raises(StopAsyncIteration):
            await waiting[0]
        assert (await queued, pool.statistics().submitted) == (1, 3)

    run(main())


def test_a_full_queue_that_refuses_refuses_streams(run, held, gate):
    pool = held(max_queue=1, queue_policy="refuse")

    async def main():
        queued = asyncio.ensure_future(pool.run(calls.echo, 1))
        await asyncio.sleep(0)
        with pytest.raises(offloop.QueueFull):
            await anext(pool.stream(streamed.numbers, 1))
        gate.release()
        assert await queued == 1

    run(main())


def test_one_task_iterates_at_a_time(run, single, gate, closed):
    async def main():
        stream = single.stream(streamed.then_hang, 0, gate.paths, str(closed))
        first = asyncio.ensure_future(anext(stream))
        await started(gate)
        with pytest.raises(RuntimeError, match="another task waits for the next item"):
            await anext(stream)
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await first

    run(main())


def test_a_stream_stays_on_its_loop(single, made, closed):
    stream = single.stream(streamed.endless, str(made), str(closed))
    with asyncio.Runner() as runner:
        assert runner.run(take(stream, 2)) == [0, 1]
        with asyncio.Runner() as other, pytest.raises(RuntimeError, match="another event loop"):
            while True:
                other.run(take(stream, 1))
        runner.run(stream.aclose())


def test_a_stream_whose_loop_is_closed_leaves_its_worker_to_the_next_loop(
    run, single, made, closed
):
    stream = single.stream(streamed.endless, str(made), str(closed))
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(take(stream, 2)) == [0, 1]
    loop.close()

    async def main():
        assert await single.run(pow, 2, 3) == 8
        await counts(closed, 1)

    run(main())


def test_an_iterator_that_ends_is_closed(run, single, closed):
    async def main():
        stream = single.stream(streamed.Countdown, 3, str(closed))
        assert [item async for item in stream] == [2, 1, 0]
        assert counted(closed) == 1

    run(main())


def test_a_stream_needs_a_running_loop(single):
    step = anext(single.stream(streamed.numbers, 1))
    with pytest.raises(RuntimeError, match="a stream is iterated in a coroutine"):
        step.send(None)


@pytest.mark.parametrize("function", [3, None, "name"])
def test_what_cannot_be_called_is_refused_at_once(single, function):
    with pytest.raises(TypeError, match=f"fn must be callable, not {function!r}"):
        single.stream(function)


async def coroutine_function():
    """Is no stream."""


def test_what_makes_no_items_is_refused_by_name(run, single):
    async def main():
        with pytest.raises(TypeError, match=r"`test_streams\.coroutine_function` is a coroutine"):
            await anext(single.stream(coroutine_function))
        with pytest.raises(TypeError, match="must return an iterator, not 7"):
            await anext(single.stream(streamed.returned, 7))
        with pytest.raises(ZeroDivisionError):
            await anext(single.stream(divmod, 1, 0))

    run(main())


def test_what_is_streamed_once_is_still_no_plain_function(run, single):
    async def main():
        assert [item async for item in single.stream(streamed.numbers_later, 1)] == [0]
        with pytest.raises(TypeError, match="is an asynchronous generator function"):
            await single.run(streamed.numbers_later, 1)

    run(main())
