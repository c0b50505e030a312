"""Programs of the field that were broken once: how they end, what they leave, who asks."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest

import offloop
from gates import run_program

BOUND_S = 60

FINAL = """
    import gzip, zipfile
    import offloop
    class Told:
        def __del__(self): print("deleted", flush=True)
    def work(n): return n
    told, used = Told(), {"n": 1}
    if __name__ == "__main__":
        archive = zipfile.ZipFile("archive.zip", "w")
        archive.writestr("a", "b")
        zipped = gzip.open("text.gz", "wt")
        zipped.write("hello")
        pool = offloop.ProcessPool(1)
        print(pool.submit(work, 1).result(), pool.submit(lambda: used).result())
"""


@pytest.mark.parametrize("guard", [True, False])
def test_globals_of_the_program_are_finalised_as_ever(tmp_path, guard):
    source = FINAL if guard else FINAL.replace('__name__ == "__main__"', "True")
    done = run_program(tmp_path, source, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["1 {'n': 1}", "deleted"]
    import gzip
    import zipfile

    with zipfile.ZipFile(tmp_path / "archive.zip") as archive:
        assert archive.read("a") == b"b"
    with gzip.open(tmp_path / "text.gz", "rt") as text:
        assert text.read() == "hello"


INTERRUPTED = """
import time
from concurrent.futures import ProcessPoolExecutor
import offloop
def wait(): time.sleep(3600)
if __name__ == "__main__":
    pool = {pool}(1)
    future = pool.submit(wait)
    while not future.running():
        time.sleep(0.001)
    print("running", flush=True)
    {end}
"""


@pytest.mark.parametrize("end", ["future.result()", "with pool: future.result()"])
@pytest.mark.parametrize("pool", ["offloop.ProcessPool", "ProcessPoolExecutor"])
def test_interrupt_at_the_terminal_ends_the_program(tmp_path, pool, end):
    script = tmp_path / "program.py"
    script.write_text(INTERRUPTED.format(pool=pool, end=end), encoding="utf-8")
    adopt = [] if pool.startswith("offloop") else ["-m", "offloop", "run", "--no-report"]
    process = subprocess.Popen(
        [sys.executable, *adopt, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout.readline() == "running\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=BOUND_S)
    assert process.returncode in (-signal.SIGINT, 130)
    assert errors.count("KeyboardInterrupt") == 1


class Cleaning(offloop.ProcessPool):
    """A pool with something to do at its end."""

    ended = 0

    def shutdown(self, wait=True, *, cancel_futures=False):
        type(self).ended += 1
        super().shutdown(wait, cancel_futures=cancel_futures)


def test_leaving_a_block_calls_a_shutdown_that_a_subclass_has():
    with Cleaning(1) as pool:
        assert pool.submit(abs, -1).result(BOUND_S) == 1

    async def main():
        async with Cleaning(1) as pool:
            return await pool.run(abs, -2)

    assert asyncio.run(main()) == 2
    assert Cleaning.ended == 2


def test_worker_is_listed_as_soon_as_a_call_was_submitted(gate):
    import calls

    with offloop.ProcessPool(1) as pool:
        assert pool._processes == {}
        running = pool.submit(calls.loop_for_ever, gate.paths)
        (process,) = pool._processes.values()
        gate.wait_started()
        process.terminate()
        assert isinstance(running.exception(BOUND_S), offloop.WorkerCrashed)


@pytest.mark.parametrize("start", ["script", "module", "code"])
def test_run_in_a_deleted_directory_keeps_the_path(tmp_path, start):
    (tmp_path / "there.py").write_text("print('imported')\n", encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text("import there\n", encoding="utf-8")
    arguments = {"script": [str(script)], "module": ["-m", "there"], "code": ["-c", "import there"]}
    source = textwrap.dedent(
        f"""
        import os, sys, tempfile
        gone = tempfile.mkdtemp()
        os.chdir(gone)
        os.rmdir(gone)
        os.environ["PYTHONPATH"] = {str(tmp_path)!r}
        command = ["-m", "offloop", "run", "--no-report", *{arguments[start]!r}]
        os.execv(sys.executable, [sys.executable, *command])
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=BOUND_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "imported\n", "")
