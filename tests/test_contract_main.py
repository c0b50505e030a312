"""What programs written for the standard pool do in ``__main__``, and how they are started.

The standard idioms: an initializer that sets globals for later calls, locks and queues as its
arguments, no standard streams (a daemon, a service manager).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gates import run_program

INITIALIZER = """
        from concurrent.futures import ProcessPoolExecutor

        model = None
        LIMIT = 1

        def load(name):
            global model
            model = [name]
            remember(name)

        def remember(name):
            globals()["copy"] = name

        def use(number):
            return model, copy, number + LIMIT

        def same():
            return id(model)

        class Reader:
            def read(self):
                return model[0]

        with {pool}(1, initializer={initializer}) as pool:
            print(list(pool.map(use, range(2))))
            LIMIT = 10
            print(pool.submit(use, 0).result())
            print(pool.submit(lambda: [model, use(5)]).result())
            print(pool.submit(same).result() == pool.submit(lambda: id(model)).result())
            print(pool.submit(Reader().read).result())
"""

SEEN = [
    "[(['loaded'], 'loaded', 1), (['loaded'], 'loaded', 2)]",
    "(['loaded'], 'loaded', 10)",
    "[['loaded'], (['loaded'], 'loaded', 15)]",
    "True",
    "loaded",
]


@pytest.mark.parametrize(
    "initializer", ["load, initargs=('loaded',)", "__import__('functools').partial(load, 'loaded')"]
)
def test_globals_that_the_initializer_sets_are_seen_by_later_calls(tmp_path, initializer):
    source = INITIALIZER.format(pool="offloop.ProcessPool", initializer=initializer)
    done = run_program(tmp_path, "\n        import offloop" + source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SEEN


def run_adopted(folder: Path, source: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run a program under ``offloop run``."""
    import textwrap

    script = folder / "program.py"
    script.write_text(textwrap.dedent(source))
    return subprocess.run(
        [sys.executable, "-m", "offloop", "run", *options, str(script)],
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_globals_that_the_initializer_sets_are_seen_in_an_adopted_pool(tmp_path):
    source = INITIALIZER.format(
        pool="ProcessPoolExecutor", initializer="load, initargs=('loaded',)"
    )
    done = run_adopted(tmp_path, source, "--no-report")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SEEN


def test_initializer_of_another_pool_leaves_no_trace(tmp_path):
    done = run_program(
        tmp_path,
        """
        import offloop

        state = "of the program"

        def set_state(value):
            global state
            state = value

        def read():
            return state

        with offloop.ProcessPool(1, initializer=set_state, initargs=("first",)) as first:
            with offloop.ProcessPool(1, initializer=set_state, initargs=("second",)) as second:
                with offloop.ProcessPool(1) as third:
                    print([pool.submit(read).result() for pool in (first, second, third)])
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['first', 'second', 'of the program']\n"


def test_locks_of_the_default_context_keep_an_adopted_pool_working(tmp_path):
    (tmp_path / "counting.py").write_text(
        "def begin(given, counter):\n"
        "    global lock, count\n"
        "    lock, count = given, counter\n"
        "def add(number):\n"
        "    with lock:\n"
        "        count.value += number\n"
    )
    done = run_adopted(
        tmp_path,
        """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        import counting

        if __name__ == "__main__":
            lock, count = multiprocessing.Lock(), multiprocessing.Value("i", 0)
            with ProcessPoolExecutor(
                2, initializer=counting.begin, initargs=(lock, count)
            ) as pool:
                list(pool.map(counting.add, range(5)))
            print(count.value)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "10\n"


def test_program_without_standard_streams(tmp_path):
    report = tmp_path / "report"
    source = f"""
import os
import offloop
with offloop.ProcessPool(2) as pool:
    crash = type(pool.submit(os.abort).exception(20)).__name__
    text = f"{{pool.submit(pow, 2, 9).result(20)}} {{crash}} {{pool.submit(abs, -1).result(20)}}"
with open({os.fspath(report)!r}, "w") as file:
    file.write(text)
"""
    close_and_run = "import os, sys; os.closerange(0, 3); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", close_and_run, sys.executable, "-c", source]
    ended = subprocess.run(command, timeout=50)
    assert ended.returncode == 0
    assert report.read_text() == "512 WorkerCrashed 1"


def test_locks_that_only_the_pool_knows_live_as_long_as_it(tmp_path):
    done = run_program(
        tmp_path,
        """
        import multiprocessing
        import os
        import offloop

        spawn = multiprocessing.get_context("spawn")

        def begin(lock, count):
            with lock:
                count.value += 1

        with offloop.ProcessPool(
            1, initializer=begin, initargs=(spawn.Lock(), spawn.Value("i"))
        ) as pool:
            for _ in range(2):
                print(type(pool.submit(os.abort).exception(20)).__name__)
            print(pool.submit(abs, -1).result(20))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["WorkerCrashed", "WorkerCrashed", "1"]
