"""No process of ours outlives its program, however the program ends."""

import os
import signal

import pytest

from gates import OpenGate, Watched, descendants, run_program, start_program

IN_MID_TASK = """
    import sys
    import calls
    import offloop

    gate = calls.Gate(sys.argv[1], sys.argv[2])
    pool = offloop.ProcessPool(2)
    futures = [pool.submit(getattr(calls, sys.argv[3]), gate) for _ in range(2)]
    futures[0].result()
"""


@pytest.mark.parametrize(
    "call", ["loop_for_ever", "sleep_for_ever", "wait_on_a_lock_for_ever", "refuse_to_stop"]
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_no_worker_lives_200_ms_after_the_parent_is_killed(tmp_path, gate, call, number):
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, IN_MID_TASK, *paths, call) as program:
        workers = [Watched(gate.wait_started()) for _ in range(2)]
        family = [Watched(pid) for pid in descendants(program.pid)]
        os.kill(program.pid, number)
        program.wait(20)
        for worker in workers:
            worker.wait_exit(0.2)
        for process in family:
            process.wait_exit(2)
        program.communicate(timeout=20)
    close_all(workers, family)


def test_idle_workers_end_with_the_parent(tmp_path, gate):
    source = """
        import sys
        import calls
        import offloop

        gate = calls.Gate(sys.argv[1], sys.argv[2])
        pool = offloop.ProcessPool(2)
        pool.submit(calls.echo, 1).result()
        gate.report()
        gate.wait()
    """
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, source, *paths) as program:
        gate.wait_started()
        family = [Watched(pid) for pid in descendants(program.pid)]
        assert len(family) >= 2
        os.kill(program.pid, signal.SIGKILL)
        for process in family:
            process.wait_exit(2)
        program.communicate(timeout=20)
    close_all(family)


def test_stopped_worker_ends_with_the_parent_once_it_goes_on(tmp_path, gate):
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, IN_MID_TASK, *paths, "loop_for_ever") as program:
        workers = [Watched(gate.wait_started()) for _ in range(2)]
        os.kill(workers[0].pid, signal.SIGSTOP)
        os.kill(program.pid, signal.SIGKILL)
        workers[1].wait_exit(2)
        if not workers[0].has_ended():
            os.kill(workers[0].pid, signal.SIGCONT)
        workers[0].wait_exit(2)
        program.communicate(timeout=20)
    close_all(workers)


def test_workers_end_though_the_zygote_was_killed_first(tmp_path, gate):
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, IN_MID_TASK, *paths, "loop_for_ever") as program:
        workers = [Watched(gate.wait_started()) for _ in range(2)]
        family = [Watched(pid) for pid in descendants(program.pid)]
        for process in family:
            if process.pid not in [worker.pid for worker in workers]:
                os.kill(process.pid, signal.SIGKILL)
        os.kill(program.pid, signal.SIGKILL)
        for worker in workers:
            worker.wait_exit(2)
        program.communicate(timeout=20)
    close_all(workers, family)


def test_forked_copy_of_the_parent_does_not_keep_workers_alive(tmp_path, gate):
    source = """
        import os, sys, warnings
        import calls
        import offloop
        warnings.simplefilter("ignore", DeprecationWarning)

        gate = calls.Gate(sys.argv[1], sys.argv[2])
        pool = offloop.ProcessPool(1)
        future = pool.submit(calls.loop_for_ever, gate)
        if os.fork() == 0:
            gate.report("copy")
            gate.wait()
            os._exit(0)
        future.result()
    """
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, source, *paths) as program:
        reports = dict(reversed(gate.wait_report()) for _ in range(2))
        copy, worker = Watched(int(reports["copy"])), Watched(int(reports[""]))
        os.kill(program.pid, signal.SIGKILL)
        worker.wait_exit(2)
        assert not copy.has_ended()
        gate.release()
        copy.wait_exit()
        program.communicate(timeout=20)
    close_all([copy, worker])


def test_thread_that_made_the_pool_may_end(tmp_path, gate):
    source = """
        import sys, threading
        import calls
        import offloop

        gate = calls.Gate(sys.argv[1], sys.argv[2])
        pools = []

        def make():
            pool = offloop.ProcessPool(1)
            pool.submit(calls.echo, 1).result()
            pools.append(pool)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        pool = pools[0]
        print(pool.submit(calls.hold, gate, "held").result())
    """
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, source, *paths) as program:
        worker = Watched(gate.wait_started())
        assert not worker.has_ended(0.2)
        gate.release()
        output, errors = program.communicate(timeout=30)
    assert (output, errors) == ("held\n", "")
    close_all([worker])


@pytest.mark.parametrize("leave", ["sys.exit(3)", "os._exit(3)"])
def test_program_that_leaves_in_mid_task_leaves_no_process(tmp_path, gate, leave):
    source = f"""
        import os, sys
        import calls
        import offloop

        gate = calls.Gate(sys.argv[1], sys.argv[2])
        leave = calls.Gate(sys.argv[3], sys.argv[4])
        pool = offloop.ProcessPool(1)
        future = pool.submit(calls.hold, gate)
        leave.wait()
        {leave}
    """
    (tmp_path / "leave").mkdir()
    leave_gate = OpenGate(tmp_path / "leave")
    paths = [gate.paths.started, gate.paths.released]
    paths += [leave_gate.paths.started, leave_gate.paths.released]
    with start_program(tmp_path, source, *paths) as program:
        worker = Watched(gate.wait_started())
        family = [Watched(pid) for pid in descendants(program.pid)]
        leave_gate.release()
        if leave == "sys.exit(3)":
            gate.release()
        program.communicate(timeout=30)
    assert program.returncode == 3
    for process in [worker, *family]:
        process.wait_exit(2)
    close_all([worker], family)
    leave_gate.close()


def test_program_ends_by_itself_with_the_pool_still_open(tmp_path):
    done = run_program(
        tmp_path,
        """
        import offloop

        pool = offloop.ProcessPool(2)
        view = pool.options(timeout=5)
        print(sum(view.map(abs, range(10))))
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "45\n", "")


STARTS_A_PROGRAM = """
    import os, subprocess, sys
    import calls
    import offloop

    gate = calls.Gate(sys.argv[1], sys.argv[2])

    started = []

    def start(group=None):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(["sleep", "1000"], process_group=group, **quiet))
        gate.report(str(started[-1].pid))

    def start_and_crash():
        start()
        gate.wait()
        os.abort()

    def start_and_hang():
        start()
        calls.refuse_to_stop(gate)

    def wait_in_the_shell():
        gate.report()
        os.system("echo $$ > " + sys.argv[3] + "; exec sleep 1000")

    def hang_beside_another_group():
        start(0)
        calls.refuse_to_stop(gate)
"""


def started_program(gate) -> Watched:
    """The program that a call has started and reported."""
    return Watched(int(gate.wait_report()[1]))


def test_program_of_a_call_that_crashes_ends_with_it(tmp_path, gate):
    source = f"""{STARTS_A_PROGRAM}
    with offloop.ProcessPool(1) as pool:
        error = pool.submit(start_and_crash).exception(20)
        print(type(error).__name__, pool.submit(abs, -1).result(20))
    """
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, source, *paths) as program:
        started = started_program(gate)
        assert not started.has_ended()
        gate.release()
        started.wait_exit()
        output, _ = program.communicate(timeout=20)
    assert output == "WorkerCrashed 1\n"
    close_all([started])


def test_program_of_a_call_that_is_killed_ends_with_it(tmp_path, gate):
    source = f"""{STARTS_A_PROGRAM}
    with offloop.ProcessPool(1, grace=0.05) as pool:
        call = pool.submit(start_and_hang)
        gate.wait()
        call.cancel()
        print(pool.submit(abs, -1).result(20))
    """
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, source, *paths) as program:
        started = started_program(gate)
        gate.wait_started()
        assert not started.has_ended()
        gate.release()
        started.wait_exit()
        output, errors = program.communicate(timeout=20)
    assert (output, errors) == ("1\n", "")
    close_all([started])


def test_shell_that_a_call_waits_for_ends_with_it(tmp_path, gate):
    source = f"""{STARTS_A_PROGRAM}
    os.mkfifo(sys.argv[3])
    with offloop.ProcessPool(1, grace=0.05) as pool:
        call = pool.submit(wait_in_the_shell)
        with open(sys.argv[3]) as told:
            end = os.pidfd_open(int(told.read()))
        call.cancel()
        import select
        print(bool(select.select([end], [], [], 20)[0]), pool.submit(abs, -1).result(20))
    """
    told = str(tmp_path / "told")
    done = run_program(tmp_path, source, gate.paths.started, gate.paths.released, told)
    assert (done.returncode, done.stdout) == (0, "True 1\n"), done.stderr


def test_program_that_left_the_group_on_purpose_goes_on(tmp_path, gate):
    source = f"""{STARTS_A_PROGRAM}
    with offloop.ProcessPool(1, grace=0.05) as pool:
        call = pool.submit(hang_beside_another_group)
        gate.wait()
        call.cancel()
        print(pool.submit(abs, -1).result(20))
    """
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, source, *paths) as program:
        started = started_program(gate)
        gate.wait_started()
        gate.release()
        output, errors = program.communicate(timeout=20)
    assert (output, errors) == ("1\n", "")
    assert not started.has_ended()
    os.kill(started.pid, signal.SIGKILL)
    close_all([started])


@pytest.mark.parametrize("end", ["returned", "retired"])
def test_program_that_a_call_left_behind_ends_with_ours_not_before(tmp_path, gate, end):
    source = f"""{STARTS_A_PROGRAM}
    def watched(pid):
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            return None  # It has retired already.

    pool = offloop.ProcessPool(1, max_tasks_per_child=1 if {end!r} == "retired" else None)
    pool.submit(start).result(20)
    worker = watched(pool.submit(os.getpid).result(20))
    pool.submit(abs, -1).result(20)
    if {end!r} == "retired" and worker is not None:
        import select
        select.select([worker], [], [], 20)
    gate.report()
    gate.wait()
    """
    paths = (gate.paths.started, gate.paths.released)
    with start_program(tmp_path, source, *paths) as program:
        started = started_program(gate)
        gate.wait_started()
        assert not started.has_ended(0.1)
        os.kill(program.pid, signal.SIGKILL)
        started.wait_exit(2)
        program.communicate(timeout=20)
    close_all([started])


def test_workers_lead_groups_of_their_own(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os
        import offloop

        def ask():
            return os.getpgrp() == os.getpid()

        with offloop.ProcessPool(2) as pool:
            print(list(pool.map(abs, [-1])), pool.submit(ask).result(20))
        """,
    )
    assert (done.returncode, done.stdout) == (0, "[1] True\n"), done.stderr


def close_all(*groups):
    """Close the pidfds of several groups."""
    for group in groups:
        for process in group:
            process.close()
