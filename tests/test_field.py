"""Programs of the field that were broken once: how they end, what they leave, what they ask."""

import asyncio
import gzip
import os
import signal
import subprocess
import sys
import textwrap
import zipfile

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


WITHOUT_POOL = FINAL.split("        pool =")[0].replace("import offloop", "") + (
    """        print(1, {'n': 1})\n"""
)


def outcome(folder, source):
    """How a program ends, and what it leaves in two files that it never closes."""
    folder.mkdir()
    done = run_program(folder, source, cwd=folder)
    with zipfile.ZipFile(folder / "archive.zip") as archive:
        archived = archive.read("a")
    try:
        with gzip.open(folder / "text.gz", "rt") as text:
            zipped = text.read()
    except EOFError as error:
        # From Python 3.14 on it is lost, with a word of the interpreter's about it.
        zipped = type(error)
    said = done.stderr.replace(str(folder), "FOLDER")
    return done.returncode, said, done.stdout.splitlines(), archived, zipped


@pytest.mark.parametrize("guard", [True, False])
def test_globals_of_the_program_are_finalised_as_ever(tmp_path, guard):
    programs = [
        source if guard else source.replace('__name__ == "__main__"', "True")
        for source in (FINAL, WITHOUT_POOL)
    ]
    ours = outcome(tmp_path / "ours", programs[0])
    assert ours == outcome(tmp_path / "other", programs[1])
    assert (ours[0], *ours[2:4]) == (0, ["1 {'n': 1}", "deleted"], b"b")


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
