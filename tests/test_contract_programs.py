"""Programs that use a pool as they are imported, at Ctrl-C, or with few descriptors."""

import concurrent.futures
import os
import signal
import subprocess
import sys

import pytest

import calls
import offloop
from gates import Watched

BOUND_S = 60


def run(source, tmp_path, *arguments, **options):
    """Run a program and return it when it has ended."""
    program = tmp_path / "program.py"
    program.write_text(source, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(program), *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
        cwd=tmp_path,
        **options,
    )


def test_module_that_uses_a_pool_as_it_is_imported_is_refused(tmp_path):
    module = "import offloop\n\ndef half(n):\n    return n / 2\n\n"
    module += "with offloop.ProcessPool(1) as pool:\n    print(pool.submit(half, 4).result(20))\n"
    (tmp_path / "warm_up.py").write_text(module, encoding="utf-8")
    ended = run("import warm_up\n", tmp_path)
    assert ended.returncode == 1
    assert "DecodeError" in ended.stderr
    assert "a module uses a pool as it is imported" in ended.stderr


def test_preloaded_module_that_uses_a_pool_breaks_its_own_pool_only(tmp_path, monkeypatch, pool):
    module = "import offloop\noffloop.ProcessPool(1).submit(abs, -1)\n"
    (tmp_path / "eager_module.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with offloop.ProcessPool(1, preload=["eager_module"]) as other:
        error = other.submit(abs, -1).exception(BOUND_S)
    assert isinstance(error, concurrent.futures.process.BrokenProcessPool)
    assert "as it is imported" in str(error)
    assert pool.submit(abs, -1).result(BOUND_S) == 1


CTRL_C = """
import sys
import offloop

def burn():
    while True:
        pass

with offloop.ProcessPool(2) as pool:
    futures = [pool.submit(burn) for _ in range(6)]
    while pool.statistics().running < 2:
        pass
    print("running", flush=True)
    futures[0].result()
"""


def test_one_interrupt_ends_a_program_whose_calls_never_end(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(CTRL_C, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout.readline() == "running\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=BOUND_S)
    assert process.returncode == -signal.SIGINT
    assert errors.count("KeyboardInterrupt") == 1


def test_crash_says_where_python_stood(pool):
    error = pool.submit(calls.segfault).exception(BOUND_S)
    assert isinstance(error, offloop.WorkerCrashed)
    assert "in segfault" in error.stderr_tail


@pytest.mark.parametrize("limit", [12, 16, 24, 64])
def test_few_descriptors_are_enough_or_the_error_says_so(tmp_path, limit):
    source = (
        "import resource, sys, offloop\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
        "with offloop.ProcessPool(1) as pool:\n"
        "    error = pool.submit(abs, -3).exception(20)\n"
        "    print(error or 'worked')\n"
    )
    ended = run(source, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "worked" in ended.stdout or "Too many open files" in ended.stdout


@pytest.mark.parametrize("name", ["terminate_workers", "kill_workers"])
def test_terminated_pool_fails_what_runs_and_cancels_what_waits(gate, name):
    with offloop.ProcessPool(1) as pool:
        running = pool.submit(calls.loop_for_ever, gate.paths)
        gate.wait_started()
        waiting = [pool.submit(calls.echo, number) for number in range(50)]
        getattr(pool, name)()
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(calls.echo, 1)
        assert isinstance(running.exception(BOUND_S), concurrent.futures.process.BrokenProcessPool)
        assert all(future.cancelled() for future in waiting)


def test_killed_pool_gives_a_call_that_refuses_to_stop_no_grace(gate):
    with offloop.ProcessPool(1, grace=3600.0) as pool:
        running = pool.submit(calls.refuse_to_stop, gate.paths)
        worker = Watched(gate.wait_started())
        pool.kill_workers()
        worker.wait_exit()
        assert isinstance(running.exception(BOUND_S), concurrent.futures.process.BrokenProcessPool)
        worker.close()


def test_terminating_one_pool_leaves_others_with_the_same_workers_alone(gate):
    with offloop.ProcessPool(2) as one, offloop.ProcessPool(2) as other:
        held = other.submit(calls.hold, gate.paths, "went on")
        gate.wait_started()
        one.terminate_workers()
        gate.release()
        assert held.result(BOUND_S) == "went on"


def test_worker_has_a_name_of_its_own_in_logs(pool):
    name, pid = pool.submit(calls.name_of_process).result(BOUND_S)
    assert name == f"Worker-{pid}"
