"""Bounded queues, in count and in bytes: wait, refuse, drop the oldest."""

import concurrent.futures
import threading

import pytest

import calls
import offloop


def test_refusal_comes_at_once_and_names_the_limit(held, gate):
    pool = held(max_queue=3, queue_policy="refuse")
    queued = [pool.submit(calls.echo, number) for number in range(3)]
    with pytest.raises(offloop.QueueFull, match="3"):
        pool.submit(calls.echo, 3)
    gate.release()
    assert [future.result(20) for future in queued] == [0, 1, 2]
    assert pool.submit(calls.hold, gate.paths).cancel()


def test_refused_task_leaves_no_trace(held):
    pool = held(max_queue=1, queue_policy="refuse")
    pool.submit(calls.echo, 1)
    before = pool.statistics()
    for _ in range(10):
        with pytest.raises(offloop.QueueFull):
            pool.submit(calls.echo, 2)
    assert pool.statistics().queued == before.queued
    assert pool.statistics().submitted == before.submitted


def test_waiting_submit_goes_on_when_there_is_room(held, gate):
    pool = held(max_queue=1, queue_policy="wait")
    first = pool.submit(calls.echo, "first")
    entered = threading.Event()

    def submit_second():
        entered.set()
        return pool.submit(calls.echo, "second").result(20)

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        second = threads.submit(submit_second)
        assert entered.wait(20)
        with pytest.raises(TimeoutError):
            second.result(0.1)
        assert pool.statistics().queued == 1
        gate.release()
        assert first.result(20) == "first"
        assert second.result(20) == "second"


def test_shutdown_refuses_a_submit_that_waits(held, gate):
    pool = held(max_queue=1, queue_policy="wait")
    pool.submit(calls.echo, 1)
    entered = threading.Event()

    def submit_second():
        entered.set()
        return pool.submit(calls.echo, 2)

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        second = threads.submit(submit_second)
        try:
            assert entered.wait(20)
            with pytest.raises(TimeoutError):
                second.result(0.1)
            pool.shutdown(wait=False)
            with pytest.raises(RuntimeError):
                second.result(5)
        finally:
            gate.release()


def test_oldest_is_dropped_and_told(held, gate):
    pool = held(max_queue=2, queue_policy="drop_oldest")
    futures = [pool.submit(calls.echo, number) for number in range(5)]
    dropped = [future.exception(20) for future in futures[:3]]
    assert all(isinstance(error, offloop.QueueFull) for error in dropped)
    gate.release()
    assert [future.result(20) for future in futures[3:]] == [3, 4]


def test_running_call_is_never_dropped(held, gate):
    pool = held(max_queue=1, queue_policy="drop_oldest")
    futures = [pool.submit(calls.echo, number) for number in range(50)]
    gate.release()
    assert futures[-1].result(20) == 49
    assert pool.statistics().completed >= 1


def test_bytes_are_bounded_too(held, gate):
    pool = held(max_queue_bytes=1 << 20, queue_policy="refuse")
    payload = bytes(400 << 10)
    queued = [pool.submit(len, payload) for _ in range(2)]
    with pytest.raises(offloop.QueueFull):
        pool.submit(len, payload)
    assert pool.submit(calls.echo, "small").cancel()
    gate.release()
    assert [future.result(20) for future in queued] == [400 << 10] * 2


def test_task_above_the_byte_limit_is_refused_at_once_whatever_the_policy(held):
    pool = held(max_queue_bytes=1 << 20, queue_policy="wait")
    with pytest.raises(offloop.QueueFull):
        pool.submit(len, bytes(2 << 20))


def test_cancelled_task_gives_its_place_back(held):
    pool = held(max_queue=1, queue_policy="refuse")
    assert pool.submit(calls.echo, 1).cancel()
    assert pool.submit(calls.echo, 2).cancel()


def test_unbounded_queue_takes_a_burst(pool):
    futures = [pool.submit(calls.echo, number) for number in range(20_000)]
    assert [future.result(40) for future in futures] == list(range(20_000))


@pytest.mark.parametrize("option", ["max_queue", "max_queue_bytes"])
@pytest.mark.parametrize("value", [0, -1])
def test_senseless_limits_are_refused(option, value):
    with pytest.raises(ValueError):
        offloop.ProcessPool(1, **{option: value})
