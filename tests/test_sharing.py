"""What multiprocessing knows of a program is known in its workers: tracker, parent, its tools.

Each program runs on the standard pool with spawned workers, and on ours, with the same result.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gates import PATIENCE_SECONDS, Watched, descendants, eventually, start_program

POOLS = {
    "standard": "concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn'))",
    "offloop": "offloop.ProcessPool(1)",
}

HELPERS = """
    import os
    from multiprocessing.shared_memory import SharedMemory

    def create(leave=True):
        memory = SharedMemory(create=True, size=64)
        memory.buf[0] = 7
        memory.close()
        return memory.name

    def read(name):
        memory = SharedMemory(name)
        value = memory.buf[0]
        memory.close()
        return value

    def read_and_crash(name):
        read(name)
        os.abort()

    def remove(name):
        memory = SharedMemory(name)
        memory.close()
        memory.unlink()

    def exists(name):
        return os.path.exists("/dev/shm/" + name)
"""

PROGRAM = """
    import concurrent.futures, multiprocessing, os, signal, sys
    import offloop
    from sharing import SharedMemory, create, exists, read, read_and_crash, remove

    def make():
        return {pool}

    def retire(pool):
        pool.shutdown()

    if __name__ == "__main__":
"""


def run(folder: Path, pool: str, body: str) -> "subprocess.CompletedProcess[str]":
    """Run ``body`` as the main part of a program on that pool."""
    (folder / "sharing.py").write_text(textwrap.dedent(HELPERS))
    script = folder / "program.py"
    source = textwrap.dedent(PROGRAM).format(pool=POOLS[pool])
    script.write_text(source + textwrap.indent(textwrap.dedent(body), "    "))
    command = [sys.executable, str(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)


def complaints(done) -> list[str]:
    """What the tracker wrote, with what belongs to crashes left out."""
    words = ("resource_tracker", "KeyError", "Traceback", "leaked")
    return [line for line in done.stderr.splitlines() if any(word in line for word in words)]


KEPT = {
    "crash": "pool.submit(read_and_crash, name).exception(30)",
    "kill": "os.kill(pool.submit(os.getpid).result(30), signal.SIGKILL)",
    "end of the pool": "pool.shutdown()",
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("how", KEPT)
@pytest.mark.parametrize("maker", ["program", "worker"])
def test_memory_outlives_the_worker_that_used_it(tmp_path, pool, how, maker):
    source = f"""
        pool = make()
        name = create() if {maker!r} == "program" else pool.submit(create).result(30)
        print(pool.submit(read, name).result(30))
        end = os.pidfd_open(pool.submit(os.getpid).result(30))
        {KEPT[how]}
        if isinstance(pool, offloop.ProcessPool) and {how!r} == "end of the pool":
            # Its worker stays warm; a retired worker is replaced.
            pool = offloop.ProcessPool(1, max_tasks_per_child=3)
            pool.submit(read, name).result(30)
            end = os.pidfd_open(pool.submit(os.getpid).result(30))
            pool.submit(abs, -1).result(30)
        import select
        print(bool(select.select([end], [], [], 30)[0]))
        with make() as other:
            print(read(name), other.submit(read, name).result(30))
            other.submit(remove, name).result(30)
        print(exists(name))
    """
    done = run(tmp_path, pool, source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["7", "True", "7", "7", "False"]
    assert complaints(done) == []


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("maker", ["program", "worker"])
def test_memory_that_was_not_removed_is_removed_once_at_the_end(tmp_path, pool, maker):
    source = f"""
        with make() as pool:
            name = create() if {maker!r} == "program" else pool.submit(create).result(30)
            pool.submit(read, name).result(30)
            print(name)
    """
    done = run(tmp_path, pool, source)
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(f"/dev/shm/{done.stdout.strip()}")
    warned = [line for line in complaints(done) if "leaked" in line]
    assert len(warned) == 1, done.stderr
    assert "1 leaked shared_memory" in warned[0]
    assert "KeyError" not in done.stderr


@pytest.mark.parametrize("pool", POOLS)
def test_locks_that_a_worker_makes_are_the_programs_to_clean(tmp_path, pool):
    source = """
        def make_lock():
            with multiprocessing.get_context("spawn").Lock():
                return "made"

        with make() as pool:
            print(pool.submit(make_lock).result(30))
    """
    # A function inside of the main block: only by value, which the standard pool cannot.
    if pool == "standard":
        source = source.replace("def make_lock", "def unused").replace(
            "make_lock).result(30)", "str, 'made').result(30)"
        )
    done = run(tmp_path, pool, source)
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr
    assert complaints(done) == []


def count_trackers(pid: int) -> int:
    """How many trackers are below a process."""
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(pid)]
    return sum("resource_tracker" in command for command in commands)


def test_program_that_shares_no_memory_starts_no_tracker(tmp_path, gate):
    source = """
        import sys
        import calls
        import offloop

        gate = calls.Gate(sys.argv[1], sys.argv[2])
        with offloop.ProcessPool(1) as pool:
            pool.submit(calls.hold, gate).result()
            from multiprocessing.shared_memory import SharedMemory
            memory = SharedMemory(create=True, size=64)
            pool.submit(calls.hold, gate).result()
            memory.close()
            memory.unlink()
    """
    with start_program(tmp_path, source, gate.paths.started, gate.paths.released) as program:
        for trackers in (0, 1):
            gate.wait_started()
            eventually(lambda expected=trackers: count_trackers(program.pid) == expected)
            gate.release()
        _, errors = program.communicate(timeout=PATIENCE_SECONDS)
    assert (program.returncode, errors) == (0, "")


def test_tracker_ends_with_a_program_that_is_killed(tmp_path, gate):
    source = """
        import sys
        import calls
        import offloop
        from multiprocessing.shared_memory import SharedMemory

        gate = calls.Gate(sys.argv[1], sys.argv[2])

        def create():
            memory = SharedMemory(create=True, size=64)
            gate.report(memory.name)
            gate.wait()

        offloop.ProcessPool(1).submit(create).result()
    """
    with start_program(tmp_path, source, gate.paths.started, gate.paths.released) as program:
        name = gate.wait_report()[1]
        eventually(lambda: count_trackers(program.pid) == 1)
        family = [Watched(pid) for pid in descendants(program.pid)]
        assert os.path.exists(f"/dev/shm/{name}")
        program.kill()
        for process in family:
            process.wait_exit()
            process.close()
        program.communicate(timeout=PATIENCE_SECONDS)
    assert not os.path.exists(f"/dev/shm/{name}")


@pytest.mark.parametrize("pool", POOLS)
def test_worker_knows_its_parent(tmp_path, pool):
    (tmp_path / "asking.py").write_text(
        "import multiprocessing, os\n"
        "def ask():\n"
        "    parent = multiprocessing.parent_process()\n"
        "    return parent.pid, parent.name, parent.is_alive(), parent.join(0.01)\n"
        "def name():\n"
        "    return multiprocessing.current_process().name\n"
    )
    source = """
        import asking

        with make() as pool:
            answer = (os.getpid(), multiprocessing.current_process().name, True, None)
            print(pool.submit(asking.ask).result(30) == answer)
            print(pool.submit(asking.name).result(30) != "MainProcess")
    """
    done = run(tmp_path, pool, source)
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr


def test_worker_imports_nothing_of_multiprocessing_by_itself(tmp_path):
    script = tmp_path / "program.py"
    source = """
        def loaded():
            import sys
            return [name for name in sys.modules if "multiprocessing" in name]

        if __name__ == "__main__":
            import offloop
            with offloop.ProcessPool(1) as pool:
                print(pool.submit(loaded).result(30))
    """
    script.write_text(textwrap.dedent(source))
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("pool", POOLS)
def test_coverage_sees_what_workers_run(tmp_path, pool):
    pytest.importorskip("coverage")
    (tmp_path / "measured.py").write_text(
        "def half(number):\n    if number % 2:\n        return 0\n    return number // 2\n"
    )
    (tmp_path / ".coveragerc").write_text(
        "[run]\nconcurrency = multiprocessing\nparallel = true\nsource_pkgs = measured\n"
    )
    source = """
        import measured

        with make() as pool:
            print(list(pool.map(measured.half, range(4))))
    """

    def measure(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run_source = textwrap.dedent(PROGRAM).format(pool=POOLS[pool])
    (tmp_path / "sharing.py").write_text(textwrap.dedent(HELPERS))
    script = tmp_path / "program.py"
    script.write_text(run_source + textwrap.indent(textwrap.dedent(source), "    "))
    assert measure("run", str(script)) == "[0, 0, 1, 0]\n"
    measure("combine")
    assert "measured.py       4      0   100%" in measure("report", "--precision=0")
