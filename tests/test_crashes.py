"""One crash fails one call: what the error says, what goes on, and retries where asked for."""

import atexit
import os
import signal
from concurrent.futures.process import BrokenProcessPool

import numpy
import pytest

import calls
import offloop
from gates import Watched, eventually, run_program


def test_exit_code_is_named(pool):
    error = pool.submit(calls.exit_at_once, 7).exception(20)
    assert type(error) is offloop.WorkerCrashed
    assert error.exit_code == 7
    assert error.signal is None
    assert error.may_have_started is True
    assert "7" in str(error)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_signal_is_named(pool, number):
    error = pool.submit(calls.kill_oneself, number).exception(20)
    assert error.signal == number
    assert error.exit_code is None
    assert number.name in str(error)
    assert error.pid > 0
    assert error.pid != os.getpid()


def test_segfault_and_abort_are_named(pool):
    assert pool.submit(calls.segfault).exception(20).signal == signal.SIGSEGV
    assert pool.submit(os.abort).exception(20).signal == signal.SIGABRT


def test_last_lines_of_standard_error_are_in_the_report(pool):
    error = pool.submit(calls.write_to_stderr_and_die, "the last words").exception(20)
    tail = error.stderr_tail
    tail = tail if isinstance(tail, str) else "\n".join(tail)
    assert "the last words" in tail
    assert "raw the last words" in tail


def test_standard_error_and_output_still_reach_their_streams(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os, sys
        import calls
        import offloop

        def speak():
            print("said on stdout", flush=True)
            print("said on stderr", file=sys.stderr, flush=True)

        with offloop.ProcessPool(1) as pool:
            pool.submit(speak).result()
            error = pool.submit(calls.write_to_stderr_and_die, "last words").exception()
            assert isinstance(error, offloop.WorkerCrashed), error
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "said on stdout\n"
    assert "said on stderr\n" in done.stderr
    assert "last words\n" in done.stderr
    assert "raw last words\n" in done.stderr


def test_peak_memory_of_a_crashed_worker_is_reported(pool):
    error = pool.submit(grow_and_exit, 64 << 20).exception(20)
    assert error.peak_memory_bytes > 64 << 20


def grow_and_exit(size):
    """Touch that many bytes, and leave."""
    array = numpy.ones(size, dtype=numpy.uint8)
    os._exit(int(array[0]))


def test_pool_goes_on_after_many_crashes(pool):
    for _ in range(20):
        assert isinstance(pool.submit(calls.exit_at_once).exception(20), offloop.WorkerCrashed)
    assert pool.submit(calls.echo, "alive").result(20) == "alive"
    assert pool.statistics().crashed == 20


def test_only_the_started_call_of_a_killed_worker_fails(gate):
    with offloop.ProcessPool(2) as pool:
        held = [pool.submit(calls.hold, gate.paths, number) for number in range(2)]
        victim = gate.wait_started()
        gate.wait_started()
        others = [pool.submit(calls.echo, number) for number in range(8)]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: any(future.done() for future in held))
        gate.release(2)
        errors = [future.exception(20) for future in held]
        assert sorted(type(error).__name__ for error in errors) == ["NoneType", "WorkerCrashed"]
        assert [future.result(20) for future in others] == list(range(8))


def test_prefetched_calls_of_a_dead_worker_run_elsewhere_once(tmp_path):
    log = tmp_path / "log"
    with offloop.ProcessPool(1) as pool:
        list(pool.map(calls.echo, range(200)))
        crash = pool.submit(calls.exit_at_once)
        pids = [pool.submit(calls.count_start, str(log)) for _ in range(100)]
        assert isinstance(crash.exception(20), offloop.WorkerCrashed)
        assert all(isinstance(future.result(20), int) for future in pids)
    assert calls.starts_in(log) == 100


def test_idle_worker_that_dies_is_noticed_and_replaced():
    with offloop.ProcessPool(1) as pool:
        worker = Watched(pool.submit(os.getpid).result(20))
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait_exit()
        assert pool.submit(os.getpid).result(20) != worker.pid
        worker.close()


def test_retry_runs_a_crashed_call_again_with_the_original_bytes(pool, tmp_path):
    view = pool.options(retries=1)
    array = numpy.arange(100_000)
    result = view.submit(crash_once_after_writing, str(tmp_path / "marker"), array).result(20)
    assert numpy.array_equal(result, numpy.arange(100_000))


def crash_once_after_writing(marker, array):
    """On the first attempt spoil the argument and die; on the second return it."""
    if not os.path.exists(marker):
        array[...] = -1
    return calls.crash_once(marker, array)


def test_without_retries_a_crashed_call_starts_once(pool, tmp_path):
    log = tmp_path / "log"
    assert isinstance(pool.submit(start_and_die, str(log)).exception(20), offloop.WorkerCrashed)
    pool.submit(calls.echo, 1).result(20)
    assert calls.starts_in(log) == 1


def test_retries_are_counted(pool, tmp_path):
    log = tmp_path / "log"
    error = pool.options(retries=2).submit(start_and_die, str(log)).exception(20)
    assert isinstance(error, offloop.WorkerCrashed)
    assert calls.starts_in(log) == 3


def start_and_die(log):
    """Count the start, then kill the worker."""
    calls.count_start(log)
    calls.kill_oneself()


def test_exceptions_are_not_retried(tmp_path):
    log = tmp_path / "log"
    with offloop.ProcessPool(1, retries=5) as pool:
        with pytest.raises(ValueError):
            pool.submit(start_and_fail, str(log)).result(20)
    assert calls.starts_in(log) == 1


def start_and_fail(log):
    """Count the start, then raise."""
    calls.count_start(log)
    raise ValueError("raised, not crashed")


def test_failing_initializer_breaks_its_own_pool_only(pool):
    broken = offloop.ProcessPool(1, initializer=calls.fail_to_initialise)
    with pytest.raises(BrokenProcessPool):
        broken.submit(calls.echo, 1).result(20)
    with pytest.raises(BrokenProcessPool):
        broken.submit(calls.echo, 2)
    broken.shutdown()
    assert pool.submit(calls.echo, 3).result(20) == 3


def test_exit_handlers_of_a_failed_initializer_have_run_when_its_pool_is_broken(gate):
    broken = offloop.ProcessPool(1, initializer=fail_and_hold, initargs=(gate.paths,))
    future = broken.submit(calls.echo, 1)
    gate.wait_started()
    with pytest.raises(TimeoutError):
        future.result(0.2)
    gate.release()
    assert isinstance(future.exception(20), BrokenProcessPool)
    broken.shutdown()


def fail_and_hold(gate):
    """Raise, with an exit handler that waits to be released."""
    atexit.register(calls.hold, gate)
    raise ValueError("this initializer always fails")


def test_initializer_that_kills_its_worker_breaks_the_pool_within_a_bound():
    broken = offloop.ProcessPool(1, initializer=calls.exit_at_once)
    with pytest.raises(BrokenProcessPool):
        broken.submit(calls.echo, 1).result(40)
    broken.shutdown()


def test_crashes_are_counted_apart_from_completions(pool):
    pool.submit(calls.echo, 1).result(20)
    pool.submit(calls.exit_at_once).exception(20)
    eventually(lambda: pool.statistics().crashed == 1)
    assert pool.statistics().completed == 1
