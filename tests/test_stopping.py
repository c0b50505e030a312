"""Stopping calls: cancel, timeouts, grace; and the signals that reach a whole program."""

import concurrent.futures
import os
import signal
import textwrap
import threading
from concurrent.futures.process import BrokenProcessPool

import pytest

import calls
import offloop
from gates import Watched, descendants, eventually, start_program


def test_cancel_of_a_running_call_is_true_at_once_and_stops_it(pool, gate):
    future = pool.submit(calls.loop_for_ever, gate.paths)
    gate.wait_started()
    told = threading.Event()
    future.add_done_callback(lambda _: told.set())
    assert future.cancel() is True
    assert future.cancelled()
    assert future.done()
    assert told.wait(20)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(20)
    eventually(lambda: pool.statistics().running == 0, 5)
    assert future.cancel() is True


def test_cancelled_future_is_seen_by_wait_and_as_completed(pool, gate):
    future = pool.submit(calls.sleep_for_ever, gate.paths)
    gate.wait_started()
    future.cancel()
    done, _ = concurrent.futures.wait([future], timeout=20)
    assert done == {future}
    assert list(concurrent.futures.as_completed([future], timeout=20)) == [future]


def test_cancel_of_a_finished_call_is_false(pool):
    future = pool.submit(calls.echo, 1)
    assert future.result(20) == 1
    assert future.cancel() is False
    assert future.result() == 1


@pytest.mark.parametrize(
    "call", [calls.loop_for_ever, calls.sleep_for_ever, calls.wait_on_a_lock_for_ever]
)
def test_interrupted_worker_lives_on(gate, call):
    with offloop.ProcessPool(1, grace=30) as pool:
        future = pool.submit(call, gate.paths)
        worker = gate.wait_started()
        future.cancel()
        assert pool.submit(os.getpid).result(20) == worker


def test_an_interrupted_worker_imports_nothing_of_the_program():
    # A busy machine would take longer for that than the grace period.
    listed = "sorted(set(__import__('sys').modules) - {'__main__'})"
    with offloop.ProcessPool(1, grace=30) as pool:
        pool.submit(eval, "__import__('time').sleep(0)").result(20)
        before = pool.submit(eval, listed).result(20)
        future = pool.options(run_timeout=0.05).submit(eval, "[0 for _ in iter(int, 1)]")
        with pytest.raises(offloop.DeadlineExceeded):
            future.result(20)
        after = pool.submit(eval, listed).result(20)
    assert "offloop" not in before
    assert after == before


def test_interrupt_leaves_no_module_half_done(gate, tmp_path):
    """It comes in the middle of an import, and the call is stopped when that is over."""
    source = f"""
        import calls
        gate = calls.Gate({gate.paths.started!r}, {gate.paths.released!r})
        gate.report()
        gate.wait()
        LAST = True
    """
    (tmp_path / "slowly_imported.py").write_text(textwrap.dedent(source))
    with offloop.ProcessPool(1, grace=20) as pool:
        future = pool.submit(calls.import_module, str(tmp_path), "slowly_imported")
        worker = gate.wait_started()
        future.cancel()
        gate.release()
        assert pool.submit(calls.whole_module, "slowly_imported").result(20) == (worker, True)


def test_worker_that_holds_the_gil_in_c_is_killed_after_the_grace(gate):
    with offloop.ProcessPool(1, grace=0.2) as pool:
        future = pool.submit(calls.hold_the_gil, gate.paths)
        worker = Watched(gate.wait_started())
        future.cancel()
        worker.wait_exit(3)
        worker.close()
        assert pool.submit(calls.echo, 1).result(20) == 1


def test_interruption_reaches_no_later_call(pool):
    for number in range(300):
        pool.submit(spin, 200).cancel()
        assert pool.submit(calls.echo, number).result(20) == number


def spin(count):
    """Burn a little time."""
    return sum(range(count))


def test_cancelled_queued_call_never_starts(held, gate, tmp_path):
    pool, log = held(), tmp_path / "log"
    queued = [pool.submit(calls.count_start, str(log)) for _ in range(10)]
    assert all(future.cancel() for future in queued)
    assert all(future.cancelled() for future in queued)
    gate.release()
    pool.submit(calls.echo, 1).result(20)
    assert calls.starts_in(log) == 0


def test_code_in_finally_runs_before_the_interrupted_call_ends(gate):
    with offloop.ProcessPool(1) as pool:
        future = pool.submit(calls.clean_up_when_interrupted, gate.paths)
        gate.wait_started()
        future.cancel()
        assert gate.wait_report()[1] == "TaskInterrupted"
        assert gate.wait_report()[1] == "finally"


def test_timeout_counts_from_submission_and_covers_the_queue(held, gate, tmp_path):
    pool, log = held(), tmp_path / "log"
    late = pool.options(timeout=0.05).submit(calls.count_start, str(log))
    with pytest.raises(offloop.DeadlineExceeded):
        late.result(20)
    gate.release()
    pool.submit(calls.echo, 1).result(20)
    assert calls.starts_in(log) == 0


def test_timeout_stops_a_running_call_and_keeps_its_worker(gate):
    with offloop.ProcessPool(1) as pool:
        # The worker has started before the time begins to count.
        pool.submit(calls.echo, 1).result(20)
        future = pool.options(timeout=0.5).submit(calls.loop_for_ever, gate.paths)
        worker = gate.wait_started()
        error = future.exception(20)
        assert type(error) is offloop.DeadlineExceeded
        assert isinstance(error, TimeoutError)
        assert pool.submit(os.getpid).result(20) == worker


def test_run_timeout_counts_from_the_start(held, gate):
    patient = held().options(run_timeout=0.2).submit(calls.echo, "in time")
    with pytest.raises(TimeoutError):
        patient.result(0.4)
    gate.release()
    assert patient.result(20) == "in time"


def test_run_timeout_stops_a_running_call(gate):
    with offloop.ProcessPool(1, run_timeout=0.1) as pool:
        future = pool.submit(calls.sleep_for_ever, gate.paths)
        with pytest.raises(offloop.DeadlineExceeded):
            future.result(20)
        assert pool.submit(calls.echo, 1).result(20) == 1


def test_timeout_of_the_pool_is_overridden_by_a_view(gate):
    with offloop.ProcessPool(1, timeout=0.05) as pool:
        future = pool.options(timeout=30).submit(calls.hold, gate.paths, "kept")
        gate.wait_started()
        with pytest.raises(TimeoutError):
            future.result(0.2)
        gate.release()
        assert future.result(20) == "kept"


def test_view_is_an_executor_with_map(pool):
    view = pool.options(timeout=20)
    assert isinstance(view, concurrent.futures.Executor)
    assert list(view.map(calls.echo, range(5))) == list(range(5))


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_workers_are_ended_with_their_calls_and_the_rest_is_cancelled(pool, gate, end):
    other = offloop.ProcessPool(1)
    bystander = other.submit(calls.hold, gate.paths, "unharmed")
    gate.wait_started()
    running = [pool.options(retries=3).submit(calls.sleep_for_ever, gate.paths) for _ in range(2)]
    gate.wait_started()
    gate.wait_started()
    queued = [pool.submit(calls.echo, value) for value in range(5)]
    getattr(pool, end)()
    assert all(isinstance(future.exception(20), BrokenProcessPool) for future in running)
    concurrent.futures.wait(queued, timeout=20)
    assert all(future.cancelled() for future in queued)
    with pytest.raises(RuntimeError):
        pool.submit(calls.echo, 1)
    gate.release()
    assert bystander.result(20) == "unharmed"
    other.shutdown()


@pytest.mark.parametrize(("end", "grace"), [("terminate_workers", 0.1), ("kill_workers", 3600.0)])
def test_worker_that_will_not_stop_is_killed(gate, end, grace):
    pool = offloop.ProcessPool(1, grace=grace)
    future = pool.submit(calls.hold_the_gil, gate.paths)
    worker = Watched(gate.wait_started())
    getattr(pool, end)()
    worker.wait_exit()
    worker.close()
    assert isinstance(future.exception(20), BrokenProcessPool)


def test_ending_the_workers_of_an_idle_or_closed_pool_is_harmless(pool):
    with offloop.ProcessPool(1) as idle:
        idle.kill_workers()
        idle.terminate_workers()
    pool.submit(calls.echo, 1).result(20)
    pool.shutdown()
    pool.kill_workers()


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_senseless_timeouts_are_refused(pool, seconds):
    with pytest.raises(ValueError):
        pool.options(timeout=seconds).submit(calls.echo, 1)
    with pytest.raises(ValueError):
        offloop.ProcessPool(1, run_timeout=seconds)


def test_timeout_does_not_touch_calls_that_end_in_time(pool):
    view = pool.options(timeout=30, run_timeout=30)
    assert list(view.map(calls.echo, range(200))) == list(range(200))


def test_stopped_worker_is_replaced_when_its_call_is_cancelled(gate):
    with offloop.ProcessPool(1, grace=0.1) as pool:
        future = pool.submit(calls.loop_for_ever, gate.paths)
        worker = Watched(gate.wait_started())
        os.kill(worker.pid, signal.SIGSTOP)
        assert not worker.has_ended(0.3)
        assert not future.done()
        future.cancel()
        worker.wait_exit(3)
        worker.close()
        assert pool.submit(calls.echo, 1).result(20) == 1


def test_stopped_worker_is_ended_by_the_timeout(gate):
    with offloop.ProcessPool(1, grace=0.1) as pool:
        future = pool.options(run_timeout=0.3).submit(calls.loop_for_ever, gate.paths)
        worker = Watched(gate.wait_started())
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(offloop.DeadlineExceeded):
            future.result(20)
        worker.wait_exit(3)
        worker.close()


def test_keyboard_interrupt_is_handled_once_by_the_parent(tmp_path, gate):
    source = """
        import sys
        import calls
        import offloop

        gate = calls.Gate(sys.argv[1], sys.argv[2])
        pool = offloop.ProcessPool(2)
        futures = [pool.submit(calls.sleep_for_ever, gate) for _ in range(2)]
        try:
            futures[0].result()
        except KeyboardInterrupt:
            for future in futures:
                future.cancel()
            print("interrupted once", flush=True)
    """
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, source, *paths, start_new_session=True) as program:
        workers = [Watched(gate.wait_started()), Watched(gate.wait_started())]
        os.killpg(program.pid, signal.SIGINT)
        output, errors = program.communicate(timeout=30)
    assert program.returncode == 0
    assert output == "interrupted once\n"
    assert errors == ""
    for worker in workers:
        worker.wait_exit(5)
        worker.close()


def test_unhandled_keyboard_interrupt_leaves_no_process(tmp_path, gate):
    source = """
        import sys
        import calls
        import offloop

        gate = calls.Gate(sys.argv[1], sys.argv[2])
        with offloop.ProcessPool(1, grace=0.1) as pool:
            future = pool.submit(calls.hold, gate)
            try:
                future.result()
            finally:
                future.cancel()
    """
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, source, *paths, start_new_session=True) as program:
        worker = Watched(gate.wait_started())
        children = [Watched(pid) for pid in descendants(program.pid)]
        os.killpg(program.pid, signal.SIGINT)
        _, errors = program.communicate(timeout=30)
    assert program.returncode == -signal.SIGINT
    assert errors.count("Traceback") <= 2
    assert errors.rstrip().endswith("KeyboardInterrupt")
    for process in [worker, *children]:
        process.wait_exit(5)
        process.close()
