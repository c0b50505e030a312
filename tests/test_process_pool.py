"""`offloop.ProcessPool` as a `concurrent.futures.Executor`: all that the standard pool does."""

import concurrent.futures
import functools
import multiprocessing
import os
import sys
import threading
import time
from dataclasses import dataclass

import numpy
import pytest

import calls
import offloop
from gates import Watched, eventually, run_program

pytestmark = pytest.mark.quick


@dataclass
class Point:
    """A dataclass of the test module."""

    x: int
    y: float


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


def test_callback_runs_though_nobody_waits_for_the_result(pool):
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


def test_idle_worker_is_used_again():
    with offloop.ProcessPool(2) as pool:
        assert len({pool.submit(os.getpid).result(20) for _ in range(10)}) == 1


@pytest.mark.parametrize("count", [0, -1])
def test_max_workers_below_one_is_refused_in_the_standard_words(count):
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        offloop.ProcessPool(count)


def test_initializer_must_be_callable():
    with pytest.raises(TypeError, match="initializer must be a callable"):
        offloop.ProcessPool(1, initializer=1)


def test_max_tasks_per_child_is_checked_in_the_standard_words():
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        offloop.ProcessPool(1, max_tasks_per_child=1.5)
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        offloop.ProcessPool(1, max_tasks_per_child=0)


@pytest.mark.parametrize("policy", ["", "block", "Wait"])
def test_queue_policy_is_checked(policy):
    with pytest.raises(ValueError):
        offloop.ProcessPool(1, queue_policy=policy)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_contexts_of_multiprocessing_are_accepted(method):
    with offloop.ProcessPool(1, multiprocessing.get_context(method)) as pool:
        assert pool.submit(pow, 2, 3).result(20) == 8


def test_initializer_runs_before_the_first_call():
    with offloop.ProcessPool(2, initializer=calls.initialise, initargs=("ready",)) as pool:
        assert {pool.submit(calls.read_state).result(20) for _ in range(4)} == {"ready"}


def test_queue_and_lock_travel_as_initializer_arguments():
    context = multiprocessing.get_context("spawn")
    queue, lock = context.Queue(), context.Lock()
    with offloop.ProcessPool(
        1, context, initializer=put_under_lock, initargs=(queue, lock)
    ) as pool:
        worker = pool.submit(os.getpid).result(20)
        assert queue.get(timeout=20) == worker
    queue.close()
    queue.join_thread()


def put_under_lock(queue, lock):
    """Put the worker's process id into the queue, holding the lock."""
    with lock:
        queue.put(os.getpid())


@pytest.mark.parametrize("count", [1, 3])
def test_worker_is_replaced_after_its_tasks(count):
    with offloop.ProcessPool(1, max_tasks_per_child=count) as pool:
        pids = [pool.submit(os.getpid).result(20) for _ in range(3 * count)]
    assert len(set(pids)) == 3
    assert all(len(set(pids[start : start + count])) == 1 for start in range(0, len(pids), count))


def test_worker_limit_holds_for_a_burst():
    with offloop.ProcessPool(2, max_tasks_per_child=5) as pool:
        pids = list(pool.map(calls_identify, range(50)))
    assert max(pids.count(pid) for pid in set(pids)) <= 5


def calls_identify(_):
    """Return the worker's process id, whatever the argument."""
    return os.getpid()


def test_submit_after_shutdown_is_refused_in_the_standard_words():
    pool = offloop.ProcessPool(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(pow, 2, 3)
    pool.shutdown()


def test_shutdown_waits_for_what_was_submitted(pool, gate):
    futures = [pool.submit(calls.hold, gate.paths, number) for number in range(4)]
    gate.release(4)
    pool.shutdown(wait=True)
    assert [future.result(0) for future in futures] == [0, 1, 2, 3]


def test_shutdown_without_waiting_loses_nothing(pool, gate):
    futures = [pool.submit(calls.hold, gate.paths, number) for number in range(4)]
    gate.wait_started()
    pool.shutdown(wait=False)
    assert not futures[0].done()
    gate.release(4)
    assert [future.result(20) for future in futures] == [0, 1, 2, 3]


def test_shutdown_cancels_the_queued_and_never_stops_the_running(gate):
    pool = offloop.ProcessPool(1)
    running = pool.submit(calls.hold, gate.paths, "finished")
    gate.wait_started()
    queued = [pool.submit(calls.echo, number) for number in range(20)]
    pool.shutdown(wait=False, cancel_futures=True)
    concurrent.futures.wait(queued, timeout=20)
    assert all(future.cancelled() for future in queued)
    assert not running.done()
    gate.release()
    assert running.result(20) == "finished"
    pool.shutdown()


def test_shutdown_that_cancels_tells_those_who_wait(gate):
    pool = offloop.ProcessPool(1)
    running = pool.submit(calls.hold, gate.paths)
    gate.wait_started()
    queued = pool.submit(calls.echo, 1)
    told = threading.Event()
    queued.add_done_callback(lambda _: told.set())
    pool.shutdown(wait=False, cancel_futures=True)
    assert told.wait(20)
    gate.release()
    running.result(20)
    pool.shutdown()


def test_shutdown_during_submission_ends_in_results_and_one_refusal():
    pool = offloop.ProcessPool(2)
    futures, refusals = [], []

    def submit_until_refused() -> None:
        while True:
            try:
                futures.append(pool.submit(calls.echo, 1))
            except RuntimeError as refusal:
                refusals.append(refusal)
                return

    threads = [threading.Thread(target=submit_until_refused) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(futures) > 50)
    pool.shutdown(wait=True)
    for thread in threads:
        thread.join(20)
    assert len(refusals) == 3
    assert all(future.result(20) == 1 for future in futures)


def test_dropped_pool_finishes_its_calls():
    pool = offloop.ProcessPool(2)
    results = pool.map(abs, range(-5, 5))
    del pool
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


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


def test_lambdas_and_closures_travel(pool):
    factor = 21
    assert pool.submit(lambda value: value * factor, 2).result(20) == 42
    assert list(pool.map(lambda value: value + factor, range(3))) == [21, 22, 23]


def test_partial_method_and_local_class_travel(pool):
    @dataclass
    class Local:
        value: int

        def double(self):
            return Local(2 * self.value)

    assert pool.submit(functools.partial(pow, 2), 5).result(20) == 32
    assert pool.submit(Point(1, 2.0).__eq__, Point(1, 2.0)).result(20) is True
    assert pool.submit(Local(21).double).result(20).value == 42


def test_dataclass_arrives_as_itself(pool):
    point = pool.submit(calls.echo, Point(3, 4.5)).result(20)
    assert type(point) is Point
    assert point == Point(3, 4.5)


@pytest.mark.parametrize("size", [0, 1, 1_000, 10_000, 1_000_000])
def test_arrays_keep_their_contents_and_are_writable_on_both_sides(pool, size):
    array = numpy.arange(size, dtype=numpy.float64)
    back = pool.submit(calls.echo, array).result(20)
    assert numpy.array_equal(array, back)
    assert back.flags.writeable
    back[...] = 1.0
    assert pool.submit(calls.fill_with_sevens, array).result(20) == 7.0 * size
    assert numpy.array_equal(array, numpy.arange(size, dtype=numpy.float64))


def test_arrays_of_every_layout_arrive_equal(pool):
    base = numpy.arange(60_000, dtype=numpy.int32).reshape(200, 300)
    for array in (base.T, base[::2, ::3], numpy.asfortranarray(base), base.astype(object)):
        assert numpy.array_equal(pool.submit(calls.echo, array).result(20), array)


def test_results_that_are_kept_stay_as_they_were(pool):
    results = [
        pool.submit(calls.echo, numpy.full(50_000, number)).result(20) for number in range(40)
    ]
    assert all((result == number).all() for number, result in enumerate(results))


@pytest.mark.parametrize("length", [0, 1, 255, 4096, 65_537, 1 << 20, 50 << 20])
def test_bytes_of_any_length_pass(pool, length):
    value = os.urandom(min(length, 4096)) * max(1, length // 4096)
    assert pool.submit(calls.echo, value).result(30) == value
    assert pool.submit(calls.echo, bytearray(value)).result(30) == value


def test_worker_sees_path_directory_and_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("OFFLOOP_TEST_VALUE", "seen")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only_here.py").write_text('"""A module."""\nVALUE = 5\n')
    with offloop.ProcessPool(1) as pool:
        value, directory, found = pool.submit(look_around).result(20)
    assert value == "seen"
    assert directory == str(tmp_path)
    assert found == 5


def look_around():
    """Return what the worker sees of its surroundings."""
    import only_here

    return os.environ.get("OFFLOOP_TEST_VALUE"), os.getcwd(), only_here.VALUE


def test_preloaded_module_is_there_before_the_first_call():
    with offloop.ProcessPool(1, preload=["calendar"]) as pool:
        assert pool.submit(is_imported, "calendar").result(20)
    with offloop.ProcessPool(1) as pool:
        assert not pool.submit(is_imported, "turtledemo").result(20)


def is_imported(name):
    """Whether the worker has the module, without importing it."""
    return name in sys.modules


def test_worker_imports_nothing_heavy():
    names = ["asyncio", "offloop", "numpy", "click", "rich"]
    with offloop.ProcessPool(1, preload=["colorsys"]) as pool:
        # A lambda goes by value, so the worker need not import this module for it.
        imported = pool.submit(lambda: [name for name in names if name in sys.modules])
        assert imported.result(20) == []


def test_nested_pools_work(pool):
    assert pool.submit(sum_in_own_pool, 10).result(40) == sum(range(10))


def sum_in_own_pool(count):
    """Run a pool inside a worker."""
    with offloop.ProcessPool(2) as inner:
        return sum(inner.map(calls.echo, range(count)))


def test_workers_may_start_processes_of_their_own(pool):
    assert pool.submit(run_child_process).result(30) == 0


def run_child_process():
    """Start a process with multiprocessing, and return its exit code."""
    process = multiprocessing.get_context("spawn").Process(target=calls.echo, args=(1,))
    process.start()
    process.join()
    return process.exitcode


def test_pools_with_the_same_start_up_share_warm_workers():
    with offloop.ProcessPool(1) as first:
        warm = first.submit(os.getpid).result(20)
    with offloop.ProcessPool(1) as second:
        assert second.submit(os.getpid).result(20) == warm


def test_pools_with_another_initializer_do_not_share():
    with offloop.ProcessPool(1) as first:
        plain = first.submit(os.getpid).result(20)
    with offloop.ProcessPool(1, initializer=calls.initialise, initargs=(1,)) as second:
        assert second.submit(os.getpid).result(20) != plain
        assert second.submit(calls.read_state).result(20) == 1


def test_pool_per_request_is_cheap():
    with offloop.ProcessPool(2) as pool:
        pool.submit(pow, 2, 2).result(20)
    started = time.perf_counter()
    for number in range(50):
        with offloop.ProcessPool(2) as pool:
            assert pool.submit(calls.echo, number).result(20) == number
    assert (time.perf_counter() - started) / 50 < 0.05


def test_script_without_main_guard_runs_and_ends(tmp_path):
    done = run_program(
        tmp_path,
        """
        import offloop

        FACTOR = 3

        def multiply(value):
            return FACTOR * value

        pool = offloop.ProcessPool(2)
        print(list(pool.map(multiply, range(4))))
        FACTOR = 5
        print(list(pool.map(multiply, range(4))))
        print(pool.submit(lambda: FACTOR).result())
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[0, 3, 6, 9]", "[0, 5, 10, 15]", "5"]
    assert done.stderr == ""


def test_functions_of_main_call_each_other_and_use_classes_of_main(tmp_path):
    done = run_program(
        tmp_path,
        """
        from dataclasses import dataclass
        import offloop

        @dataclass
        class Point:
            x: int

        def twice(point):
            return Point(2 * point.x)

        def outer(value, depth=2):
            return twice(value) if depth == 0 else outer(value, depth - 1)

        with offloop.ProcessPool(1) as pool:
            back = pool.submit(outer, Point(4)).result()
            print(back, type(back) is Point, isinstance(back, Point), back == Point(8))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Point(x=8) True True True"


def test_interpreter_exit_finishes_what_was_submitted(tmp_path):
    done = run_program(
        tmp_path,
        """
        import time
        import offloop

        def speak():
            time.sleep(0.3)
            print("spoken", flush=True)

        pool = offloop.ProcessPool(1)
        pool.submit(speak)
        """,
    )
    assert done.returncode == 0
    assert done.stdout == "spoken\n"
    assert done.stderr == ""


def test_submission_after_interpreter_shutdown_is_refused(tmp_path):
    done = run_program(
        tmp_path,
        """
        import atexit

        @atexit.register
        def last():
            try:
                pool.submit(id, None)
            except RuntimeError as error:
                print(error)

        import offloop
        pool = offloop.ProcessPool(1)
        pool.submit(id, 42).result()
        """,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("cannot schedule new futures after")


def test_no_worker_outlives_a_clean_exit(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os, sys
        import offloop
        from gates import descendants

        pool = offloop.ProcessPool(2)
        pool.submit(os.getpid).result()
        print(*descendants(os.getpid()))
        """,
    )
    assert done.returncode == 0, done.stderr
    for pid in map(int, done.stdout.split()):
        try:
            process = Watched(pid)
        except ProcessLookupError:
            continue
        process.wait_exit(5)
        process.close()
