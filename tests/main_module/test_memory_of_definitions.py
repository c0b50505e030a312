"""What travels by value is bounded: in the program, in the worker, in entries and in bytes."""

import os
from pathlib import Path

import pytest

from gates import run_program

PROGRAM = """
    import os
    import offloop

    def private_kib(pid):
        with open(f"/proc/{pid}/status") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith(
                ("RssAnon", "RssShmem")))

    pool = offloop.ProcessPool(1)
    worker = pool.submit(os.getpid).result()
    def show():
        print(private_kib("self"), private_kib(worker))
"""

GROWTH_KIB_MAX = 40 * 1024
"""What either side may grow by, once it has run for a while: a fraction of what was sent."""

CASES = {
    "lambdas": """
    def run(count):
        for number in range(count):
            assert pool.submit((lambda number: lambda: number)(number)).result() == number
    run(2_000); show(); run(20_000); show()
    """,
    "bodies": """
    def run(begin, end):
        for number in range(begin, end):
            space = {}
            exec(f"def f():\\n    return len({'x ' * 50_000 + str(number)!r})", space)
            assert pool.submit(space["f"]).result() > 100_000
    run(0, 500); show(); run(500, 2_000); show()
    """,
    "a_global_that_changes": """
    text = b""
    def use(): return text[0]
    def run(count):
        global text
        for number in range(count):
            text = bytes([number % 256]) * 1_000_000
            assert pool.submit(use).result() == number % 256
    run(100); show(); run(500); show()
    """,
    "a_lambda_over_a_global_that_changes": """
    text = b""
    def run(count):
        global text
        for number in range(count):
            text = bytes([number % 256]) * 1_000_000
            assert pool.submit(lambda: text[0]).result() == number % 256
    run(100); show(); run(300); show()
    """,
    "a_class_and_its_function_defined_again": """
    def run(count):
        for number in range(count):
            source = "class Z:\\n    text = bytes(20_000)\\n    def m(self): return 1\\n"
            exec(source + "def fz(): return Z().m()", globals())
            assert pool.submit(fz).result() == 1
    run(500); show(); run(4_000); show()
    """,
    "names_that_come_and_go": """
    def run(begin, end):
        for number in range(begin, end):
            globals()[f"name{number}"] = [b"x" * 10_000]
            exec(f"def use{number}(): return len(name{number}[0])", globals())
            assert pool.submit(globals()[f"use{number}"]).result() == 10_000
            del globals()[f"use{number}"], globals()[f"name{number}"]
    run(0, 5_000); show(); run(5_000, 10_000); show()
    """,
    "arguments_of_a_local_class": """
    def run(count):
        for number in range(count):
            class Local:
                text = "x " * 5_000 + str(number)
            assert pool.submit(type, Local()).result() is Local
    run(500); show(); run(2_000); show()
    """,
}


@pytest.mark.parametrize("name", CASES)
def test_memory_stays_flat(tmp_path, name):
    done = run_program(tmp_path, PROGRAM + CASES[name], seconds=100)
    assert done.returncode == 0, done.stderr
    before, after = (tuple(map(int, line.split())) for line in done.stdout.splitlines())
    for side in range(2):
        assert after[side] - before[side] < GROWTH_KIB_MAX, (before, after)


BIG_TABLE = """
    import pickle, sys
    import offloop

    PICKLED = []

    class Table(dict):
        def __reduce__(self):
            PICKLED.append(1)
            return Table, (), None, None, iter(self.items())

    table = Table((n, n) for n in range(300_000))
    plain = dict(table)
    config = {"a": 1}

    def use(n): return table[n], plain[n], config["a"]

    with offloop.ProcessPool(1) as pool:
        for n in range(50):
            assert pool.submit(use, n).result() == (n, n, 1 + (n > 25))
            if n == 25:
                config["a"] = 2
        print(len(PICKLED))
        plain[-1] = "new"
        print(pool.submit(use, 0).result(), pool.submit(lambda: plain[-1]).result())
        table = Table({0: "other"})
        print(pool.submit(use, 0).result(), len(PICKLED) < 5)
"""


def test_large_global_is_pickled_once_for_each_object(tmp_path):
    done = run_program(tmp_path, BIG_TABLE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1", "(0, 0, 2) new", "('other', 0, 2) True"]


def test_function_that_needs_more_than_a_ring_holds_is_refused(tmp_path):
    names = "\n".join(f"    g{n} = [{n}]" for n in range(3_200))
    uses = ", ".join(f"g{n}" for n in range(3_200))
    source = f"""
    import offloop
{names}
    def use(): return len(({uses},))
    def few(): return g0, g1
    with offloop.ProcessPool(1) as pool:
        print(pool.submit(use).exception())
        print(pool.submit(few).result())
    """
    done = run_program(tmp_path, source)
    assert done.returncode == 0, done.stderr
    refusal, few = done.stdout.splitlines()
    assert "3201 names" in refusal
    assert "limit 3072" in refusal
    assert few == "([0], [1])"


def test_as_many_definitions_as_a_ring_holds_arrive(tmp_path):
    names = "\n".join(f"    g{n} = [{n}, {'x' * (n % 400)!r}]" for n in range(3_000))
    uses = ", ".join(f"g{n}" for n in range(3_000))
    source = f"""
    import offloop
{names}
    def use(n): return sum(one[0] for one in ({uses},)) + n
    with offloop.ProcessPool(2) as pool:
        for turn in range(3):
            g5 = [5 + turn]
            print(list(pool.map(use, range(4))))
    """
    done = run_program(tmp_path, source)
    assert done.returncode == 0, done.stderr
    total = sum(range(3_000))
    assert done.stdout.splitlines() == [str([total + t + n for n in range(4)]) for t in range(3)]


def test_forked_child_starts_with_no_definitions(tmp_path):
    source = """
    import os, sys
    import offloop

    state = {"of": "parent"}
    def use(): return state

    with offloop.ProcessPool(1) as pool:
        print(pool.submit(use).result(), flush=True)
        pid = os.fork()
        if pid == 0:
            state["of"] = "child"
            with offloop.ProcessPool(1) as own:
                print(own.submit(use).result(), own.submit(lambda: state).result(), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print(pool.submit(use).result())
    """
    done = run_program(
        tmp_path, "    import warnings\n    warnings.simplefilter('ignore')" + source
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{'of': 'parent'}",
        "{'of': 'child'} {'of': 'child'}",
        "{'of': 'parent'}",
    ]


def test_worker_reads_what_was_sent_though_its_sender_is_gone(tmp_path):
    """A definition in a block outlives its function until the worker has passed it by."""
    source = """
    import gc, os
    import offloop

    def spin(path):
        while not os.path.exists(path):
            pass

    with offloop.ProcessPool(1) as pool:
        path = os.path.join(os.path.dirname(__file__), "go")
        for turn in range(20):
            first = pool.submit(spin, path)
            late = [pool.submit(lambda n=n, text="x" * 1000: (n, len(text))) for n in range(30)]
            for future in late[::2]:
                future.cancel()
            open(path, "w").close()
            kept = [future.result() for future in late[1::2]]
            assert kept == [(n, 1000) for n in range(1, 30, 2)]
            first.result()
            os.unlink(path)
        print("done")
    """
    done = run_program(tmp_path, source)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert not Path(tmp_path, "go").exists()
    assert os.listdir(tmp_path) == ["program.py"]
