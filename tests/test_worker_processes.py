"""`_processes` and the other private names of the standard pool that programs read, of our pools.

The snippets are those that people use: to end stuck workers, to watch their memory, to bound what
they submit.
"""

import concurrent.futures
import multiprocessing.connection
import os
import signal

import psutil
import pytest

import calls
import offloop
from gates import PATIENCE_SECONDS, Watched

pytestmark = pytest.mark.quick


def is_crash(error, number):
    """Whether it says that this signal ended the worker of the call."""
    return isinstance(error, offloop.WorkerCrashed) and error.signal == number


@pytest.mark.parametrize(
    ("how", "number"),
    [
        (lambda process: process.terminate(), signal.SIGTERM),
        (lambda process: process.kill(), signal.SIGKILL),
        (lambda process: os.kill(process.pid, signal.SIGKILL), signal.SIGKILL),
    ],
)
def test_worker_that_is_ended_fails_its_own_call_and_is_replaced(gate, how, number):
    with offloop.ProcessPool(1) as pool:
        stuck = pool.submit(calls.sleep_for_ever, gate.paths)
        waiting = pool.submit(calls.echo, 5)
        pid = gate.wait_started()
        process = pool._processes[pid]
        assert (process.pid, process.is_alive(), process.exitcode) == (pid, True, None)
        for other in pool._processes.values():
            how(other)
        assert is_crash(stuck.exception(PATIENCE_SECONDS), number)
        assert waiting.result(PATIENCE_SECONDS) == 5
        process.join(PATIENCE_SECONDS)
        assert process.is_alive() is False
        # Where the kernel does not tell, it is None.
        assert process.exitcode in (-number, None)
        assert pid not in pool._processes
        # A process that has ended gets no signal, and no other process does in its place.
        process.terminate()
        process.kill()


def test_exit_code_is_known_where_the_kernel_tells_it(gate):
    with offloop.ProcessPool(1) as pool:
        pid = pool.submit(os.getpid).result(PATIENCE_SECONDS)
        process = pool._processes[pid]
        pool.submit(os._exit, 3).exception(PATIENCE_SECONDS)
        process.join(PATIENCE_SECONDS)
        tells = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)
        assert process.exitcode == (3 if tells else process.exitcode)
        assert process.exitcode in (3, None)


def test_join_waits_no_longer_than_it_is_told(gate):
    with offloop.ProcessPool(1) as pool:
        pid = pool.submit(os.getpid).result(PATIENCE_SECONDS)
        process = pool._processes[pid]
        process.join(0)
        process.join(timeout=0.01)
        process.join(-1.0)
        assert process.is_alive()
        assert str(pid) in repr(process)
        os.kill(pid, signal.SIGKILL)
        process.join()
        assert not process.is_alive()


def test_usual_snippets_work(gate):
    with offloop.ProcessPool(2) as pool:
        running = pool.submit(calls.hold, gate.paths, 1)
        pid = gate.wait_started()
        assert pid in list(pool._processes.keys())
        assert len(pool._processes) >= 1
        sizes = [psutil.Process(other).memory_info().rss for other in pool._processes]
        assert all(size > 0 for size in sizes)
        assert pool._processes[pid] is pool._processes[pid]
        sentinels = [process.sentinel for process in pool._processes.values()]
        ended = multiprocessing.connection.wait(sentinels, 0)
        pending = len(pool._pending_work_items)
        gate.release()
        assert (ended, pending) == ([], 1)
        assert running.result(PATIENCE_SECONDS) == 1
        assert (pool._max_workers, pool._shutdown_thread, pool._broken) == (2, False, False)


def test_snapshot_taken_before_shutdown_ends_the_workers_after_it(gate):
    pool = offloop.ProcessPool(1)
    stuck = pool.submit(calls.sleep_for_ever, gate.paths)
    watched = Watched(gate.wait_started())
    processes = pool._processes
    pool.shutdown(wait=False)
    # A call still runs, so its worker is still there to be found.
    assert pool._processes.keys() == processes.keys()
    for process in processes.values():
        process.kill()
    watched.wait_exit()
    watched.close()
    assert is_crash(stuck.exception(PATIENCE_SECONDS), signal.SIGKILL)
    pool.shutdown()
    assert pool._shutdown_thread is True
    assert pool._processes == {}


def test_pools_that_start_alike_list_the_same_workers():
    with offloop.ProcessPool(1) as one, offloop.ProcessPool(1) as two:
        pid = one.submit(os.getpid).result(PATIENCE_SECONDS)
        assert pid in two._processes
    with offloop.ProcessPool(1, initializer=calls.initialise, initargs=(1,)) as other:
        assert pid not in other._processes


def test_our_pool_has_each_name_that_the_standard_pool_has_for_them():
    with concurrent.futures.ProcessPoolExecutor(1) as standard, offloop.ProcessPool(1) as pool:
        standard.submit(abs, -1).result(PATIENCE_SECONDS)
        pool.submit(abs, -1).result(PATIENCE_SECONDS)
        (process,) = standard._processes.values()
        names = ["pid", "sentinel", "exitcode", "is_alive", "terminate", "kill", "join"]
        for one in pool._processes.values():
            assert [name for name in names if not hasattr(one, name)] == []
        for name in ("_max_workers", "_broken", "_shutdown_thread"):
            assert getattr(pool, name) == getattr(standard, name), name
        assert type(pool._mp_context) is type(standard._mp_context)
        assert process.is_alive()


def test_adopted_pool_has_them_all(run_source):
    ended = run_source(
        """
        import os
        from concurrent.futures import ProcessPoolExecutor

        def work():
            return os.getpid()

        if __name__ == "__main__":
            with ProcessPoolExecutor(2) as pool:
                pid = pool.submit(work).result()
                print(pool._max_workers, pool._processes[pid].is_alive())
                print(pool._broken, pool._shutdown_thread, len(pool._pending_work_items))
                print(pool._mp_context.get_start_method() in ("fork", "forkserver"), pool._initargs)
                for process in pool._processes.values():
                    process.terminate()
                    process.join()
                print(pool.submit(work).result() != pid)
                print(hasattr(pool, "_call_queue"))
        """
    )
    assert ended.stderr.count("Traceback") == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "2 True",
        "False False 0",
        "True ()",
        "True",
        "False",
    ]


def test_pool_that_stays_standard_keeps_its_own(run_source):
    ended = run_source(
        """
        import multiprocessing, os
        from concurrent.futures import ProcessPoolExecutor

        if __name__ == "__main__":
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                pid = pool.submit(os.getpid).result()
                print(type(pool._processes[pid]).__name__, pool._max_workers)
        """
    )
    assert ended.stdout == "ForkProcess 1\n", ended.stderr
