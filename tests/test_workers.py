"""How workers start, what they see, how long they stay, and which pools share them."""

import multiprocessing
import os
import sys

import pytest

import calls
import offloop

pytestmark = pytest.mark.quick


def test_idle_worker_is_used_again():
    with offloop.ProcessPool(2) as pool:
        assert len({pool.submit(os.getpid).result(20) for _ in range(10)}) == 1


def test_initializer_must_be_callable():
    with pytest.raises(TypeError, match="initializer must be a callable"):
        offloop.ProcessPool(1, initializer=1)


def test_max_tasks_per_child_is_checked_in_the_standard_words():
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        offloop.ProcessPool(1, max_tasks_per_child=1.5)
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        offloop.ProcessPool(1, max_tasks_per_child=0)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
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
        pids = list(pool.map(identify, range(50)))
    assert max(pids.count(pid) for pid in set(pids)) <= 5


def identify(_):
    """Return the worker's process id, whatever the argument."""
    return os.getpid()


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


def test_pools_made_per_request_start_no_workers_of_their_own(monkeypatch):
    monkeypatch.setenv("OFFLOOP_TEST_VALUE", "a start-up that no other test has")
    workers = set()
    for _ in range(50):
        with offloop.ProcessPool(2) as pool:
            workers.update(pool.map(identify, range(2)))
    assert len(workers) <= 2
