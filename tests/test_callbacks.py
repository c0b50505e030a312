"""Callbacks may block, wait, close pools and raise: no other future waits for them."""

import asyncio
import concurrent.futures
import gc
import os
import signal
import threading
from pathlib import Path

import pytest

import calls
import offloop
from gates import eventually, run_program, start_program

pytestmark = pytest.mark.quick

BOUND_S = 20
THREADS_MAX = 16


def reporting(act):
    """Make a callback, and a standard future for what ``act`` returns or raises in it."""
    reported = concurrent.futures.Future()

    def callback(future):
        try:
            reported.set_result(act(future))
        except BaseException as error:
            reported.set_exception(error)

    return callback, reported


def thread_name():
    """Say what the system calls this thread."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip()


@pytest.fixture(params=["plain thread", "asyncio", "offloop"])
def submitting(request):
    """Run a function as a plain thread, or as a coroutine that waits for what it returns."""
    if request.param == "plain thread":
        return lambda act: act().result(BOUND_S)
    run = asyncio.run if request.param == "asyncio" else offloop.run

    async def main(act):
        return await asyncio.wait_for(asyncio.wrap_future(act()), BOUND_S)

    return lambda act: run(main(act))


@pytest.fixture
def blocked():
    """Make callbacks that wait until the test releases them, and say how many have begun."""
    release, begun, overdue = threading.Event(), [], []

    def block(future):
        begun.append(future)
        if not release.wait(BOUND_S):
            overdue.append(future)

    block.begun, block.release = begun, release
    yield block
    release.set()
    assert overdue == []


def test_callback_closes_its_own_pool(submitting, gate):
    pool = offloop.ProcessPool(1)
    callback, reported = reporting(lambda _: pool.shutdown())

    def act():
        pool.submit(calls.hold, gate.paths).add_done_callback(callback)
        gate.release()
        return reported

    assert submitting(act) is None
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -1)


def test_callbacks_that_all_close_their_pool_do_not_wait_for_each_other(submitting, gate):
    pool = offloop.ProcessPool(2)
    reports = []

    def act():
        futures = [pool.submit(calls.hold, gate.paths, n) for n in range(20)]
        for future in futures:
            callback, reported = reporting(lambda _: pool.shutdown())
            future.add_done_callback(callback)
            reports.append(reported)
        gate.release(20)
        return futures[-1]

    assert submitting(act) == 19
    assert [report.result(BOUND_S) for report in reports] == [None] * 20
    pool.shutdown()


def test_every_result_is_there_when_a_callback_has_closed_its_pool(gate):
    pool = offloop.ProcessPool(2)
    futures = [pool.submit(calls.hold, gate.paths, n) for n in range(10)]

    def close(_):
        pool.shutdown()
        return [future.done() for future in futures]

    callback, reported = reporting(close)
    futures[0].add_done_callback(callback)
    gate.release(10)
    assert all(reported.result(BOUND_S))


def test_callback_waits_for_another_call_of_the_same_worker(submitting, gate):
    pool = offloop.ProcessPool(1)
    callback, reported = reporting(lambda _: pool.submit(abs, -7).result(BOUND_S))

    def act():
        pool.submit(calls.hold, gate.paths).add_done_callback(callback)
        gate.release()
        return reported

    assert submitting(act) == 7
    pool.shutdown()


def test_callback_waits_for_a_call_that_was_completed_with_its_own(submitting, gate):
    """Both outcomes are fetched together, and the second one must not be held back."""
    pool = offloop.ProcessPool(1)

    def act():
        pool.submit(calls.hold, gate.paths)
        first, second = pool.submit(abs, -1), pool.submit(abs, -2)
        callback, reported = reporting(lambda _: second.result(BOUND_S))
        first.add_done_callback(callback)
        gate.release()
        return reported

    assert submitting(act) == 2
    pool.shutdown()


def test_callback_waits_for_another_pool_and_its_end(submitting, gate):
    pool = offloop.ProcessPool(1)

    def use_another(_):
        with offloop.ProcessPool(1) as other:
            waits, _ = concurrent.futures.wait([other.submit(abs, -3)], BOUND_S)
            return waits.pop().result()

    callback, reported = reporting(use_another)

    def act():
        pool.submit(calls.hold, gate.paths).add_done_callback(callback)
        gate.release()
        return reported

    assert submitting(act) == 3
    pool.shutdown()


def test_blocked_callbacks_hold_no_result_back(blocked):
    with offloop.ProcessPool(1) as pool:
        for _ in range(THREADS_MAX - 1):
            pool.submit(abs, -1).add_done_callback(blocked)
        assert pool.submit(abs, -2).result(BOUND_S) == 2
        assert not blocked.release.is_set()
        blocked.release.set()


def test_beyond_the_limit_results_wait_for_a_callback_and_not_for_ever(blocked):
    with offloop.ProcessPool(2) as pool:
        futures = [pool.submit(abs, -n) for n in range(3 * THREADS_MAX)]
        for future in futures:
            future.add_done_callback(blocked)
        eventually(lambda: len(blocked.begun) >= THREADS_MAX)
        blocked.release.set()
        assert [future.result(BOUND_S) for future in futures] == list(range(3 * THREADS_MAX))
    assert len(blocked.begun) == 3 * THREADS_MAX


@pytest.mark.parametrize("how", ["result", "exception", "shutdown"])
def test_callbacks_that_wait_need_no_thread_each(gate, how):
    """Each waits for a call whose outcome lies behind the outcomes of all other calls."""
    count = 3 * THREADS_MAX
    pool = offloop.ProcessPool(1)
    reports = []

    def wait(future):
        other = offloop.ProcessPool(1) if how == "shutdown" else pool
        call = other.submit(abs, -7)
        if how == "shutdown":
            other.shutdown()
            return call.result(0)
        call.exception(BOUND_S) if how == "exception" else call.result(BOUND_S)
        return call.result(0)

    pool.submit(calls.hold, gate.paths)
    for n in range(count):
        callback, reported = reporting(wait)
        reports.append(reported)
        pool.submit(abs, -n).add_done_callback(callback)
    gate.release()
    assert [report.result(BOUND_S) for report in reports] == [7] * count
    pool.shutdown()


def test_wait_beyond_the_limit_ends_with_its_timeout(blocked):
    with offloop.ProcessPool(1) as pool:
        for _ in range(THREADS_MAX - 1):
            pool.submit(abs, -1).add_done_callback(blocked)
        eventually(lambda: len(blocked.begun) == THREADS_MAX - 1)
        never = offloop.Future()
        callback, reported = reporting(lambda _: never.result(0.05))
        pool.submit(abs, -2).add_done_callback(callback)
        with pytest.raises(TimeoutError):
            reported.result(BOUND_S)
        blocked.release.set()


def test_loop_goes_on_while_its_callback_blocks(run, blocked):
    async def main():
        with offloop.ProcessPool(1) as pool:
            future = pool.submit(abs, -1)
            future.add_done_callback(blocked)
            assert await asyncio.wrap_future(future) == 1
            assert await pool.run(abs, -2) == 2
            assert await offloop.to_process(abs, -3) == 3
            assert await asyncio.get_running_loop().run_in_executor(pool, abs, -4) == 4
            assert not blocked.release.is_set()
            blocked.release.set()

    run(main())
    assert len(blocked.begun) == 1


def test_callbacks_run_on_the_resolver(submitting, gate):
    with offloop.ProcessPool(1) as pool:
        callback, reported = reporting(lambda _: thread_name())

        def act():
            pool.submit(calls.hold, gate.paths).add_done_callback(callback)
            gate.release()
            return reported

        # The system keeps fifteen characters of a thread's name.
        assert submitting(act) == "offloop-resolve"


def test_callback_of_a_done_future_runs_at_once(pool):
    future = pool.submit(abs, -1)
    future.result(BOUND_S)
    callback, reported = reporting(lambda _: threading.get_ident())
    future.add_done_callback(callback)
    assert reported.result(0) == threading.get_ident()


def test_callback_of_a_cancelled_call_closes_its_pool(gate):
    """The call is told to stop before the waiters, which may wait for its end."""
    pool = offloop.ProcessPool(1)
    future = pool.submit(calls.loop_for_ever, gate.paths)
    gate.wait_started()
    callback, reported = reporting(lambda _: pool.shutdown())
    future.add_done_callback(callback)
    thread = threading.Thread(target=future.cancel, daemon=True)
    thread.start()
    assert reported.result(BOUND_S) is None
    thread.join(BOUND_S)
    assert not thread.is_alive()


class ClosesAtItsEnd:
    """An object whose finalizer closes a pool, and that only the garbage collector finds."""

    def __init__(self, pool, closed):
        self.pool, self.closed = pool, closed
        self.itself = self

    def __del__(self):
        self.pool.shutdown()
        self.closed.set()


def test_finalizer_closes_a_pool_on_the_resolver(submitting, gate):
    pool, closed = offloop.ProcessPool(1), threading.Event()

    def collect(_):
        gc.collect()
        assert closed.is_set()

    callback, reported = reporting(collect)

    def act():
        ClosesAtItsEnd(pool, closed)
        pool.submit(calls.hold, gate.paths).add_done_callback(callback)
        gate.release()
        return reported

    assert submitting(act) is None


to_close = []


def close_one():
    """Close a pool of this process, in the middle of unpickling; a worker has none."""
    if to_close:
        to_close.pop().shutdown()
    return "closed"


class ClosesWhenUnpickled:
    """To unpickle it closes a pool."""

    def __reduce__(self):
        return close_one, ()


@pytest.mark.parametrize("count", [1, 8])
def test_unpickling_a_result_closes_the_pool_that_it_comes_from(submitting, count):
    pool = offloop.ProcessPool(2)
    to_close.extend([pool] * count)

    def act():
        futures = [pool.submit(ClosesWhenUnpickled) for _ in range(count)]
        return futures[-1]

    assert submitting(act) == "closed"
    to_close.clear()
    pool.shutdown()


class Fatal(BaseException):
    """What no callback should raise."""


def test_callback_that_raises_keeps_no_other_from_running(gate, monkeypatch, caplog):
    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", lambda error: unraisable.append(error.exc_type))
    ran = []

    def fail(error):
        ran.append(error)
        raise error

    with offloop.ProcessPool(1) as pool:
        future = pool.submit(calls.hold, gate.paths)
        for error in (ValueError, Fatal, SystemExit):
            future.add_done_callback(lambda _, error=error: fail(error))
        callback, reported = reporting(lambda _: "last")
        future.add_done_callback(callback)
        gate.release()
        assert reported.result(BOUND_S) == "last"
        assert pool.submit(abs, -1).result(BOUND_S) == 1
    assert ran == [ValueError, Fatal, SystemExit]
    assert unraisable == [Fatal]
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]


@pytest.mark.parametrize("executor", [concurrent.futures.ProcessPoolExecutor, offloop.ProcessPool])
def test_callbacks_run_in_order_and_see_the_result(executor, gate):
    order = []
    with executor(1) as pool:
        held = pool.submit(calls.hold, gate.paths, 0)
        futures = [held, *(pool.submit(abs, n) for n in range(1, 5))]
        for future in futures:
            for step in range(3):
                future.add_done_callback(lambda f, step=step: order.append((f.result(0), step)))
        gate.release()
    assert order == [(n, step) for n in range(5) for step in range(3)]


def test_shutdown_waits_for_callbacks(gate):
    """As that of the standard pool does."""
    ran, begun, go_on = [], threading.Event(), threading.Event()

    def callback(_):
        begun.set()
        ran.append(go_on.wait(BOUND_S))

    pool = offloop.ProcessPool(1)
    pool.submit(calls.hold, gate.paths).add_done_callback(callback)
    gate.release()
    assert begun.wait(BOUND_S)
    closing = threading.Thread(target=pool.shutdown)
    closing.start()
    go_on.set()
    closing.join(BOUND_S)
    assert ran == [True]


def test_signal_handler_closes_a_pool_that_its_thread_waits_to_submit_to(held, gate):
    pool = held(max_queue=1)
    queued = pool.submit(abs, -1)

    def close(*_):
        gate.release()
        pool.shutdown()

    previous = signal.signal(signal.SIGALRM, close)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(abs, -2)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert queued.result(0) == 1


# Python 3.15 warns of it, 3.12 to 3.14 in some releases.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_that_is_forked_in_a_callback_has_pools_of_its_own(gate):
    def fork(_):
        child = os.fork()
        if child == 0:
            # Nothing of the test's process may run in it, whatever happens.
            try:
                with offloop.ProcessPool(1) as pool:
                    os._exit(pool.submit(abs, -7).result(BOUND_S))
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with offloop.ProcessPool(1) as pool:
        callback, reported = reporting(fork)
        pool.submit(calls.hold, gate.paths).add_done_callback(callback)
        gate.release()
        assert reported.result(BOUND_S) == 7
        assert pool.submit(abs, -1).result(BOUND_S) == 1


def test_interrupt_ends_a_wait_for_a_callback(tmp_path):
    program = start_program(
        tmp_path,
        """
        import os, signal, threading
        import offloop

        release = threading.Event()

        def block(future):
            os.kill(os.getpid(), signal.SIGINT)
            release.wait(30)

        pool = offloop.ProcessPool(1)
        try:
            pool.submit(abs, -1).add_done_callback(block)
            pool.shutdown()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        release.set()
        """,
    )
    with program:
        output, errors = program.communicate(timeout=BOUND_S)
    assert (output, errors, program.returncode) == ("interrupted\n", "", 0)


def test_exit_waits_for_callbacks(tmp_path):
    done = run_program(
        tmp_path,
        """
        import time
        import offloop

        def slow(future):
            time.sleep(0.3)
            print("called back", future.result(), flush=True)

        offloop.ProcessPool(1).submit(abs, -1).add_done_callback(slow)
        """,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("called back 1\n", "", 0)


def test_exit_leaves_callbacks_behind_that_do_not_return(tmp_path):
    """Whatever they do while the interpreter ends."""
    source = """
        import sys, threading, time
        import offloop

        begun = threading.Event()

        def block(future):
            begun.set()
            exec(sys.argv[1])

        pool = offloop.ProcessPool(1)
        blocked = pool.submit(abs, -1)
        blocked.add_done_callback(block)
        assert begun.wait(20)
        assert pool.submit(abs, -2).result(20) == 2
        sys.exit(5)
        """
    ways = [
        "threading.Event().wait()",
        "while True: pass",
        "while True: time.sleep(0.0001)",
        "never = offloop.Future(); never.result()",
    ]
    programs = []
    for number, way in enumerate(ways):
        directory = tmp_path / str(number)
        directory.mkdir()
        programs.append(start_program(directory, source, way))
    for program, way in zip(programs, ways, strict=True):
        with program:
            output, errors = program.communicate(timeout=40)
        assert (output, program.returncode) == ("", 5), (way, errors)
        assert errors.count("\n") == 1, (way, errors)
        assert "callbacks of futures do not return" in errors
