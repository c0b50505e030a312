"""Everything that goes wrong ends in one typed error, on the one future concerned, within a bound.

Each test ends by using the pool again: the pool goes on.
"""

import os
import pickle
import resource
import signal
from concurrent.futures.process import BrokenProcessPool

import numpy
import pytest

import calls
import offloop
from gates import Watched, descendants, eventually, open_descriptors, run_program


@pytest.fixture
def survivor():
    """A pool of two workers that must still answer when the test is over."""
    with offloop.ProcessPool(2) as pool:
        neighbour = pool.submit(calls.echo, "neighbour")
        yield pool
        assert neighbour.result(20) == "neighbour"
        assert [pool.submit(calls.echo, number).result(20) for number in range(4)] == [0, 1, 2, 3]


def test_argument_that_cannot_be_encoded(survivor):
    with pytest.raises(TypeError, match="does not travel"):
        survivor.submit(calls.echo, calls.FailsToPickle()).result(20)


def test_argument_that_cannot_be_decoded(survivor):
    error = survivor.submit(calls.echo, calls.FailsToUnpickle()).exception(20)
    assert isinstance(error, BrokenProcessPool)
    assert "cannot be rebuilt" in str(error) + str(error.__cause__)


def test_generator_that_cannot_be_encoded(survivor):
    generator = (number for number in range(3))
    with pytest.raises((TypeError, pickle.PicklingError)):
        survivor.submit(next, generator).result(20)


def test_result_that_cannot_be_encoded(survivor):
    with pytest.raises(TypeError, match="does not travel"):
        survivor.submit(calls.make, calls.FailsToPickle).result(20)


def test_result_that_cannot_be_decoded(survivor):
    error = survivor.submit(calls.make, calls.FailsToUnpickle).exception(20)
    assert isinstance(error, BrokenProcessPool)
    assert "cannot be rebuilt" in str(error) + str(error.__cause__)


def test_error_that_cannot_be_encoded(survivor):
    error = survivor.submit(calls.fail_with, calls.ErrorThatFailsToPickle).exception(20)
    assert isinstance(error, Exception)


def test_error_that_cannot_be_decoded(survivor):
    error = survivor.submit(calls.fail_with, calls.ErrorThatFailsToUnpickle).exception(20)
    assert isinstance(error, Exception)


def test_recursion_without_end(survivor):
    with pytest.raises(RecursionError):
        survivor.submit(recurse).result(20)


def recurse():
    """Never return."""
    return recurse()


def test_argument_nested_too_deeply_to_encode(survivor):
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    assert isinstance(survivor.submit(calls.echo, nested).exception(20), Exception)
    while nested:
        nested = nested[0]


def test_worker_that_writes_to_its_descriptors(survivor, capfd):
    assert survivor.submit(write_everywhere).result(20) == "written"


def write_everywhere():
    """Write to standard output and error below Python."""
    for _ in range(1000):
        os.write(1, b"noise on one\n")
        os.write(2, b"noise on two\n")
    return "written"


def test_worker_that_writes_to_every_inherited_descriptor(tmp_path):
    # One of them is the memory of all arguments: a program of its own is spoiled.
    done = run_program(
        tmp_path,
        r"""
        import os
        import offloop

        def spoil_descriptors():
            for descriptor in range(3, 64):
                try:
                    os.set_blocking(descriptor, False)
                    os.write(descriptor, b"\xff" * 64)
                except OSError:
                    continue

        with offloop.ProcessPool(2) as pool:
            neighbour = pool.submit(abs, -1)
            error = pool.submit(spoil_descriptors).exception(20)
            print(error is None or isinstance(error, offloop.WorkerCrashed))
            print(neighbour.result(20), [pool.submit(abs, -n).result(20) for n in range(4)])
        """,
    )
    assert (done.returncode, done.stdout) == (0, "True\n1 [0, 1, 2, 3]\n"), done.stderr


def test_worker_that_closes_its_descriptors(survivor):
    future = survivor.submit(os.closerange, 0, 256)
    error = future.exception(20)
    assert error is None or isinstance(error, offloop.WorkerCrashed)


def test_worker_that_forks(survivor):
    assert survivor.submit(fork_and_wait).result(20) == 3


def fork_and_wait():
    """Fork, let the child leave, and return its exit code."""
    child = os.fork()
    if child == 0:
        os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_forked_child_that_returns_into_the_worker_answers_no_call(survivor):
    pids = survivor.submit(fork_and_return).result(20)
    assert pids == "parent"
    assert survivor.submit(calls.echo, 1).result(20) == 1


def fork_and_return():
    """Fork, and return in both processes."""
    return "child" if os.fork() == 0 else "parent"


def test_child_left_behind_by_a_dead_worker_holds_nothing_up(survivor, gate):
    error = survivor.submit(leave_a_child_and_die, gate.paths).exception(20)
    assert isinstance(error, offloop.WorkerCrashed)
    child = int(gate.wait_report()[0])
    gate.release()
    process = Watched(child)
    process.wait_exit()
    process.close()


def leave_a_child_and_die(gate):
    """Leave a forked child that holds all our descriptors, in another group, then die."""
    child = os.fork()
    os.setpgid(child, child)
    if child == 0:
        gate.report()
        gate.wait()
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("code", [0, 1, 255])
def test_exit_without_a_word(survivor, code):
    error = survivor.submit(calls.exit_at_once, code).exception(20)
    assert type(error) is offloop.WorkerCrashed
    assert error.exit_code == code


def test_segfault(survivor):
    assert survivor.submit(calls.segfault).exception(20).signal == signal.SIGSEGV


def test_stopped_worker_is_left_alone_until_it_goes_on(survivor, gate):
    future = survivor.submit(calls.hold, gate.paths, "went on")
    worker = gate.wait_started()
    os.kill(worker, signal.SIGSTOP)
    gate.release()
    assert survivor.submit(calls.echo, 1).result(20) == 1
    with pytest.raises(TimeoutError):
        future.result(0.5)
    os.kill(worker, signal.SIGCONT)
    assert future.result(20) == "went on"


def test_worker_that_eats_memory_under_a_limit(survivor):
    error = survivor.submit(eat_memory_under_a_limit).exception(40)
    assert isinstance(error, MemoryError | offloop.WorkerCrashed)


def eat_memory_under_a_limit():
    """Lower the limit on this process, then take all that is left."""
    used = 512 << 20
    resource.setrlimit(resource.RLIMIT_DATA, (used, used))
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def test_result_that_does_not_fit_under_the_limit(survivor):
    future = survivor.submit(return_more_than_the_limit)
    error = future.exception(40)
    if error is None:
        assert (future.result() == 1).all()
    else:
        assert isinstance(error, MemoryError | offloop.WorkerCrashed | OSError)


def return_more_than_the_limit():
    """Return an array, in a process that may not take any more memory."""
    array = numpy.ones(32 << 20, dtype=numpy.uint8)
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 20, 1 << 20))
    return array


def test_deep_stack_in_c(survivor):
    error = survivor.submit(overflow_the_stack).exception(20)
    assert isinstance(error, RecursionError | MemoryError | offloop.WorkerCrashed)


def overflow_the_stack():
    """Recurse without the interpreter's guard."""
    import sys

    sys.setrecursionlimit(1 << 30)
    value: list = []
    for _ in range(10_000_000):
        value = [value]
    return repr(value)


def test_worker_that_changes_signals_handlers_and_masks(survivor):
    assert survivor.submit(spoil_signals).result(20) is None
    assert list(survivor.map(calls.echo, range(20))) == list(range(20))


def spoil_signals():
    """Ignore and block every signal that may be."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def test_worker_whose_signals_are_spoilt_is_still_stopped(gate):
    with offloop.ProcessPool(1, grace=0.1) as pool:
        pool.submit(spoil_signals).result(20)
        future = pool.submit(calls.loop_for_ever, gate.paths)
        worker = Watched(gate.wait_started())
        future.cancel()
        eventually(lambda: worker.has_ended() or pool.statistics().running == 0, 5)
        worker.close()
        assert pool.submit(calls.echo, 1).result(20) == 1


def test_worker_that_changes_directory_environment_and_streams(survivor):
    assert survivor.submit(spoil_surroundings).result(20) is None


def spoil_surroundings():
    """Change what later calls on this worker see, and close Python's streams."""
    import sys

    os.chdir("/")
    os.environ.clear()
    sys.stdout = sys.stderr = None
    sys.path.clear()


def test_thread_left_running_in_a_worker_holds_nothing_up(survivor):
    assert survivor.submit(leave_a_thread).result(20) is None


def leave_a_thread():
    """Start a thread that waits for ever."""
    import threading

    threading.Thread(target=threading.Event().wait, daemon=False).start()


def processes_between(pool):
    """The processes below us that are no workers of the pool: zygotes, and what they need."""
    workers = {pool.submit(os.getppid).result(20) for _ in range(4)}
    return workers & set(descendants(os.getpid()))


def test_killed_zygote_is_replaced(survivor, gate):
    zygotes = processes_between(survivor)
    held = survivor.submit(calls.hold, gate.paths, "held")
    gate.wait_started()
    for zygote in zygotes:
        os.kill(zygote, signal.SIGKILL)
    gate.release()
    error = held.exception(20)
    assert error is None or isinstance(error, offloop.WorkerCrashed)
    assert survivor.submit(calls.exit_at_once, 9).exception(20).exit_code == 9
    assert survivor.submit(os.getppid).result(20) not in zygotes


def test_stopped_zygote_does_not_stop_the_pool(survivor):
    zygotes = processes_between(survivor)
    for zygote in zygotes:
        os.kill(zygote, signal.SIGSTOP)
    try:
        crashed = survivor.submit(calls.kill_oneself)
        assert isinstance(crashed.exception(40), offloop.WorkerCrashed)
        assert survivor.submit(calls.echo, 1).result(40) == 1
    finally:
        for zygote in zygotes:
            if os.path.exists(f"/proc/{zygote}"):
                os.kill(zygote, signal.SIGCONT)


@pytest.mark.timeout(180)
def test_three_gigabytes_pass_or_fail_naming_the_limit(survivor):
    array = numpy.zeros(3 << 30, dtype=numpy.uint8)
    array[-1] = 5
    future = survivor.submit(last_item, array)
    error = future.exception(120)
    if error is None:
        assert future.result() == 5
    else:
        assert isinstance(error, offloop.OffloopError | MemoryError | OSError)
        assert any(character.isdigit() for character in str(error))


def last_item(array):
    """Return the last item."""
    return int(array[-1])


def test_fork_of_the_parent_is_refused_clearly_in_the_child(survivor, tmp_path):
    report = tmp_path / "report"
    survivor.submit(calls.echo, 1).result(20)
    child = fork_quietly()
    if child == 0:
        try:
            survivor.submit(calls.echo, 2).result(10)
            text = "no error"
        except (RuntimeError, offloop.OffloopError) as error:
            text = f"refused: {error}"
        except BaseException as error:
            text = f"wrong: {error!r}"
        report.write_text(text)
        os._exit(0)
    os.waitpid(child, 0)
    assert report.read_text().startswith("refused: ")
    assert "fork" in report.read_text()


def test_forked_child_may_make_a_pool_of_its_own(survivor, tmp_path):
    report = tmp_path / "report"
    child = fork_quietly()
    if child == 0:
        try:
            with offloop.ProcessPool(1) as pool:
                report.write_text(str(pool.submit(pow, 2, 5).result(20)))
        except BaseException as error:
            report.write_text(repr(error))
        os._exit(0)
    os.waitpid(child, 0)
    assert report.read_text() == "32"


def test_forked_child_keeps_no_worker_alive_and_ends_none(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os, warnings
        import offloop
        warnings.simplefilter("ignore", DeprecationWarning)

        pool = offloop.ProcessPool(1)
        worker = pool.submit(os.getpid).result()
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        print(pool.submit(os.getpid).result() == worker)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


def fork_quietly():
    """Fork, without the warning that this process has threads: that is what the test is about."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def test_full_temporary_directory_is_not_needed(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os, tempfile
        import offloop
        import numpy

        tempfile.tempdir = "/nowhere"
        with offloop.ProcessPool(1) as pool:
            print(pool.submit(len, numpy.zeros(1 << 20)).result())
        """,
        env_changes={"TMPDIR": "/nowhere", "HOME": "/nowhere"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{1 << 20}\n"


def test_limit_on_file_sizes_is_named_or_does_not_matter(tmp_path):
    done = run_program(
        tmp_path,
        """
        import resource
        import offloop
        import numpy
        from concurrent.futures.process import BrokenProcessPool

        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        with offloop.ProcessPool(1) as pool:
            for _ in range(2):
                try:
                    print(pool.submit(len, numpy.zeros(1 << 20)).result(20))
                except (BrokenProcessPool, OSError, MemoryError) as error:
                    print(error)
        """,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    named = ("File too large", "shared memory")
    assert all(line == str(1 << 20) or any(map(line.__contains__, named)) for line in lines)


def test_directory_that_may_not_be_written_or_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with offloop.ProcessPool(1, preload=["calendar"]) as pool:
        assert pool.submit(calls.echo, 1).result(20) == 1


def test_too_few_descriptors_are_a_typed_error(tmp_path):
    done = run_program(
        tmp_path,
        """
        import resource
        import offloop

        resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
        try:
            with offloop.ProcessPool(2) as pool:
                print(pool.submit(pow, 2, 3).result(20))
        except (OSError, RuntimeError, offloop.OffloopError) as error:
            print("refused", type(error).__name__)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("refused", "8"))


def test_too_few_processes_break_nothing_but_the_calls_concerned(tmp_path):
    done = run_program(
        tmp_path,
        """
        import offloop

        with offloop.ProcessPool(64) as pool:
            print(sum(pool.map(abs, range(-64, 0))))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{sum(range(65))}\n"


def test_preload_of_a_module_that_does_not_exist_is_told():
    with pytest.raises((BrokenProcessPool, ImportError, offloop.OffloopError)):
        with offloop.ProcessPool(1, preload=["no_such_module_anywhere"]) as pool:
            pool.submit(calls.echo, 1).result(20)


def test_descriptors_are_given_back(survivor):
    survivor.submit(calls.echo, 1).result(20)
    before = open_descriptors()
    for _ in range(20):
        with offloop.ProcessPool(1, initializer=calls.initialise, initargs=(object,)) as pool:
            pool.submit(calls.exit_at_once).exception(20)
    eventually(lambda: open_descriptors() <= before + 12)
