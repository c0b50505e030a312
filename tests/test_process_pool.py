"""`offloop.ProcessPool` as a `concurrent.futures.Executor`: submission, map, futures, counts."""

import concurrent.futures
import os
import threading

import pytest

import calls
import offloop
from gates import eventually

pytestmark = pytest.mark.quick


def test_submit_returns_a_standard_future_with_the_value(pool):
    future = pool.submit(pow, 2, 8)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(timeout=20) == 256
    assert future.done()
    assert not future.cancelled()
    assert future.exception() is None


def test_pool_is_an_executor(pool):
    assert isinstance(pool, concurrent.futures.Executor)


def test_keyword_arguments_never_collide_with_ours(pool):
    future = pool.submit(calls.capture, 1, self=2, fn=3, timeout=4, retries=5, args=6)
    assert future.result(20) == ((1,), {"self": 2, "fn": 3, "timeout": 4, "retries": 5, "args": 6})


def test_submit_without_a_function_is_a_type_error(pool):
    with pytest.raises(TypeError):
        pool.submit()
    with pytest.raises(TypeError):
        pool.submit(fn=calls.capture)


def test_calls_run_in_other_processes(pool):
    assert pool.submit(os.getpid).result(20) != os.getpid()


def test_two_workers_run_two_calls_at_once(pool, gate):
    futures = [pool.submit(calls.hold, gate.paths, number) for number in range(2)]
    assert gate.wait_started() != gate.wait_started()
    gate.release(2)
    assert [future.result(20) for future in futures] == [0, 1]


def test_no_more_calls_run_than_there_are_workers(gate):
    with offloop.ProcessPool(1) as pool:
        first = pool.submit(calls.hold, gate.paths)
        second = pool.submit(calls.hold, gate.paths)
        gate.wait_started()
        assert not gate.has_report()
        gate.release()
        first.result(20)
        gate.wait_started()
        gate.release()
        second.result(20)


def test_running_future_says_so(pool, gate):
    future = pool.submit(calls.hold, gate.paths)
    gate.wait_started()
    assert not future.done()
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    gate.release()
    assert future.result(20) is None


def test_map_keeps_the_order_whatever_the_chunk(pool):
    expected = list(map(pow, range(40), range(40)))
    for chunk in (1, 6, 40, 50):
        assert list(pool.map(pow, range(40), range(40), chunksize=chunk)) == expected


def test_map_of_nothing_is_empty(pool):
    assert list(pool.map(pow, [], [])) == []


def test_map_refuses_a_chunk_below_one(pool):
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        list(pool.map(pow, range(4), range(4), chunksize=-1))


def test_map_raises_where_the_call_failed(pool):
    results = pool.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_times_out(pool, gate):
    with pytest.raises(TimeoutError):
        list(pool.map(calls.hold, [gate.paths], timeout=0.05))
    gate.release()


def test_map_with_a_buffer_pulls_no_more_than_it(pool):
    pulled = []

    def numbers():
        for number in range(100):
            pulled.append(number)
            yield number

    results = pool.map(calls.echo, numbers(), buffersize=4)
    assert next(results) == 0
    assert len(pulled) <= 6
    assert list(results) == list(range(1, 100))


def test_callbacks_run_once_each(pool):
    seen = []
    finished = threading.Event()
    future = pool.submit(calls.echo, "value")
    future.add_done_callback(lambda done: seen.append(done.result()))
    future.add_done_callback(lambda _: finished.set())
    assert finished.wait(20)
    assert seen == ["value"]


def test_callback_runs_though_no_thread_waits_for_the_result(pool):
    finished = threading.Event()
    pool.submit(calls.echo, 1).add_done_callback(lambda _: finished.set())
    assert finished.wait(20)


def test_polled_future_finishes(pool):
    future = pool.submit(calls.echo, 1)
    eventually(future.done)


def test_as_completed_and_wait_see_every_future(pool):
    futures = [pool.submit(calls.echo, number) for number in range(50)]
    seen = {future.result() for future in concurrent.futures.as_completed(futures, timeout=20)}
    assert seen == set(range(50))
    more = [pool.submit(calls.echo, number) for number in range(50)]
    done, waiting = concurrent.futures.wait(more, timeout=20)
    assert len(done) == 50
    assert not waiting


def test_many_threads_submit_at_once(pool):
    def submit_many(start: int) -> list[int]:
        futures = [pool.submit(calls.echo, start + step) for step in range(200)]
        return [future.result(30) for future in futures]

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        results = list(threads.map(submit_many, range(0, 8000, 1000)))
    assert results == [list(range(start, start + 200)) for start in range(0, 8000, 1000)]


@pytest.mark.parametrize("count", [0, -1])
def test_max_workers_below_one_is_refused_in_the_standard_words(count):
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        offloop.ProcessPool(count)


@pytest.mark.parametrize("policy", ["", "block", "Wait"])
def test_queue_policy_is_checked(policy):
    with pytest.raises(ValueError):
        offloop.ProcessPool(1, queue_policy=policy)


def test_statistics_count_what_happened(pool, gate):
    pool.submit(calls.echo, 1).result(20)
    with pytest.raises(offloop.WorkerCrashed):
        pool.submit(calls.exit_at_once).result(20)
    held = [pool.submit(calls.hold, gate.paths) for _ in range(3)]
    gate.wait_started()
    gate.wait_started()
    eventually(lambda: pool.statistics().running == 2)
    statistics = pool.statistics()
    assert statistics.submitted == 5
    assert statistics.queued == 1
    assert statistics.crashed == 1
    assert statistics.workers == 2
    gate.release(3)
    for future in held:
        future.result(20)
    eventually(lambda: pool.statistics().completed >= 4)
    with pytest.raises((AttributeError, TypeError)):
        statistics.submitted = 0
