"""Futures are resolved although the loop that submitted them does not come to do it."""

import asyncio
import concurrent.futures
import os

import pytest

import calls
import offloop
from gates import Watched

pytestmark = pytest.mark.quick

BOUND_S = 20


def waited(future):
    """Wait for a future as a program that has never heard of loops."""
    return future.exception(BOUND_S)


def polled(future):
    """Wait for several futures at once."""
    done, _ = concurrent.futures.wait([future], timeout=BOUND_S)
    return done.pop().exception(0)


@pytest.mark.parametrize("wait", [waited, polled])
@pytest.mark.parametrize(
    ("call", "error"),
    [((os._exit, 3), offloop.WorkerCrashed), ((calls.fail, ValueError("here")), ValueError)],
    ids=["crash", "exception"],
)
def test_loop_that_waits_for_its_own_call_gets_its_error(run, pool, wait, call, error):
    async def main():
        assert isinstance(wait(pool.submit(*call)), error)

    run(main())


@pytest.mark.parametrize("wait", [waited, polled])
def test_loop_that_waits_for_its_own_call_gets_its_deadline(run, pool, gate, wait):
    async def main():
        future = pool.options(run_timeout=0.1).submit(calls.loop_for_ever, gate.paths)
        assert isinstance(wait(future), offloop.DeadlineExceeded)

    run(main())


def test_loop_that_waits_for_a_cancelled_call_sees_it_cancelled(run, pool, gate):
    async def main():
        future = pool.submit(calls.hold, gate.paths)
        worker = Watched(gate.wait_started())
        assert future.cancel()
        done, _ = concurrent.futures.wait([future], timeout=BOUND_S)
        assert done == {future}
        assert future.cancelled()
        worker.close()

    run(main())


def test_hung_initializer_breaks_the_pool_within_its_limit(gate):
    with offloop.ProcessPool(
        1, initializer=calls.sleep_for_ever, initargs=(gate.paths,), start_timeout=0.1
    ) as pool:
        error = pool.submit(abs, -1).exception(BOUND_S)
    assert isinstance(error, concurrent.futures.process.BrokenProcessPool)
    assert "ready within" in str(error)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_start_timeout_must_be_a_length_of_time(seconds):
    with pytest.raises(ValueError, match=str(seconds)):
        offloop.ProcessPool(1, start_timeout=seconds)


def test_calls_of_a_stuck_loop_go_on_without_it(run, pool, gate):
    """The supervisor feeds workers whose loop does not come: all ten have run when it returns."""

    async def main():
        futures = [asyncio.get_running_loop().run_in_executor(pool, abs, -n) for n in range(10)]
        held = pool.submit(calls.hold, gate.paths, 1)
        gate.wait_started()
        gate.release()
        assert held.result(BOUND_S) == 1
        assert await asyncio.gather(*futures) == list(range(10))

    run(main())
