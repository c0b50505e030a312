"""The end of a pool: shutdown, and the end of the program, lose nothing and leave nothing."""

import asyncio
import concurrent.futures
import os
import threading

import pytest

import calls
import offloop
from gates import Watched, eventually, run_program

pytestmark = pytest.mark.quick


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


@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, offloop.new_event_loop])
def test_shutdown_waits_for_a_call_of_a_loop_that_is_closed(gate, new_event_loop):
    waiting = []

    async def main():
        waiting.append(asyncio.ensure_future(pool.run(calls.hold, gate.paths)))
        await asyncio.to_thread(gate.wait_started)

    with offloop.ProcessPool(1) as pool:
        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        # Only its owner could fetch it, and no loop will.
        gate.release()
    assert pool.statistics().completed == 1
    waiting.pop()._log_destroy_pending = False


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


def test_shutdown_that_cancels_tells_the_waiters(gate):
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


@pytest.fixture
def initializing(gate):
    """Make a pool with two workers in their initializers, and say which processes they are."""

    def make():
        pool = offloop.ProcessPool(2, initializer=calls.hold, initargs=(gate.paths,))
        futures = [pool.submit(abs, -n) for n in range(2)]
        return pool, futures, [Watched(gate.wait_started()) for _ in range(2)]

    return make


def test_no_initializer_runs_after_shutdown(initializing, gate):
    pool, futures, workers = initializing()
    gate.release()
    assert [future.result(20) for future in futures] == [0, 1]
    pool.shutdown()
    assert sorted(worker.has_ended() for worker in workers) == [False, True]
    # Those of the next pool start as if nothing had happened.
    gate.release(2)
    with offloop.ProcessPool(2, initializer=calls.hold, initargs=(gate.paths,)) as other:
        assert list(other.map(abs, range(-4, 0))) == [4, 3, 2, 1]


def test_no_initializer_runs_after_every_call_was_cancelled(initializing):
    pool, futures, workers = initializing()
    assert all(future.cancel() for future in futures)
    pool.shutdown()
    assert all(worker.has_ended() for worker in workers)


def test_initializer_goes_on_for_another_pool(initializing, gate):
    pool, futures, workers = initializing()
    with offloop.ProcessPool(2, initializer=calls.hold, initargs=(gate.paths,)) as other:
        assert all(future.cancel() for future in futures)
        pool.shutdown()
        assert not any(worker.has_ended() for worker in workers)
        gate.release(2)
        assert other.submit(os.getpid).result(20) in [worker.pid for worker in workers]


def test_shutdown_does_not_wait_for_imports_before_an_initializer(gate, tmp_path, monkeypatch):
    (tmp_path / "imported_slowly.py").write_text(
        f"import calls\ncalls.hold(calls.Gate({gate.paths.started!r}, {gate.paths.released!r}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    pool = offloop.ProcessPool(1, preload=["imported_slowly"], initializer=abs, initargs=(1,))
    future = pool.submit(abs, -1)
    zygote = Watched(gate.wait_started())
    assert future.cancel()
    pool.shutdown()
    assert zygote.has_ended()


def test_initializer_whose_queue_is_gone_says_nothing(tmp_path):
    source = """
        import multiprocessing
        import offloop

        def put(queue):
            queue.put(1)

        def main():
            queue = multiprocessing.get_context("spawn").Queue()
            pool = offloop.ProcessPool(4, initializer=put, initargs=(queue,))
            futures = [pool.submit(abs, -n) for n in range(4)]
            futures[0].result()
            pool.shutdown()

        main()
        """
    for _ in range(3):
        done = run_program(tmp_path, source)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_dropped_pool_finishes_its_calls():
    pool = offloop.ProcessPool(2)
    results = pool.map(abs, range(-5, 5))
    del pool
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


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
