"""Whether workers import the main module: its syntax tree decides, and what runs of it now."""

import subprocess
import sys
import textwrap

import pytest

import calls
from gates import run_program
from offloop._main import examine

pytestmark = pytest.mark.quick

IMPORTED = {
    "guarded": "import os\nif __name__ == '__main__':\n    run()\n",
    "guarded the other way round": "if '__main__' == __name__:\n    run()\n",
    "guarded and more": "import sys\nif __name__ == '__main__' and sys.argv:\n    run()\n",
    "guarded beside calls": "import os\nos.umask(0)\nif __name__ == '__main__':\n    pass\n",
    "guarded by its else": "if __name__ != '__main__':\n    x = 1\nelse:\n    run()\n",
    "only defines": "'''Text.'''\nimport os\nX = 1\nY: int = X + 1\nclass A: pass\ndef f(): pass\n",
    "defines under conditions": "try:\n    import a\nexcept ImportError:\n    a = None\n",
}

BY_VALUE = {
    "runs": "import os\nprint(os)\n",
    "runs in a loop": "for n in range(3):\n    pass\n",
    "runs in an assignment": "def run(): pass\nx = run()\n",
    "runs in a block": "with open('x') as f:\n    pass\n",
    "has a guard of another kind": "if __name__ == 'other':\n    run()\n",
    "is no Python": "if if if\n",
}


@pytest.mark.parametrize("source", IMPORTED.values(), ids=IMPORTED)
def test_module_that_is_imported(tmp_path, source):
    path = tmp_path / "main.py"
    path.write_text(source, encoding="utf-8")
    assert examine(str(path), None).is_imported


@pytest.mark.parametrize("source", BY_VALUE.values(), ids=BY_VALUE)
def test_module_that_goes_by_value(tmp_path, source):
    path = tmp_path / "main.py"
    path.write_text(source, encoding="utf-8")
    decided = examine(str(path), None)
    assert not decided.is_imported
    assert decided.reason


def test_names_of_a_module_are_read_from_its_tree(tmp_path):
    source = """
    import os.path as p, sys
    from json import *
    A, (B, *C) = 1, (2, 3)
    D: int = 5
    if A:
        E = 1
    for F in (): pass
    with x as G: pass
    try: pass
    except OSError as H: pass
    def I(): J = 1
    class K:
        L = 1
        M = {}
        M = {1: 2}
    [N for N in ()]
    (O := 3)
    match A:
        case [P, *Q] as R: pass
    D2 = D
    def change():
        global S, A
        S = A = 2
        K.T = 3
    if __name__ == "__main__":
        U = D = 4
        import V
    """
    path = tmp_path / "main.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    decided = examine(str(path), None)
    expected = {*"ABCDEFGHIKOPQR", "p", "sys", "D2", "change"}
    assert expected <= decided.bound
    assert not decided.bound & {*"JLMSTUV", "os"}
    assert {"S", "A", "U", "D", "V"} <= decided.rebound
    assert decided.stored == {"T"}
    assert decided.literals == {"D": 5, "K.L": 1}


def test_pool_that_an_unguarded_line_uses_decides_against_an_import(tmp_path):
    source = """
    import os
    import offloop
    def work(): return os.getpid()
    with offloop.ProcessPool(1) as pool:
        print(pool.submit(work).result() != os.getpid())
    if __name__ == "__main__":
        with offloop.ProcessPool(1) as pool:
            print(pool.submit(work).result() != os.getpid())
    """
    done = run_program(tmp_path, source)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nTrue\n", "")


SOURCE = """
import offloop
FACTOR = 3
class Point:
    def __init__(self, x): self.x = x
def work(point): return Point(point.x * FACTOR)
pool = offloop.ProcessPool(1)
back = pool.submit(work, Point(2)).result()
print(type(back) is Point, back.x)
"""


@pytest.mark.parametrize("start", ["-c", "-", "folder", "archive", "package"])
def test_program_without_a_file_of_its_own_goes_by_value(tmp_path, start):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "folder" / "__init__.py").touch()
    if start == "archive":
        import zipapp

        zipapp.create_archive(tmp_path / "folder", tmp_path / "archive")
    command = {"-c": ["-c", SOURCE], "package": ["-m", "folder"]}.get(start, [start])
    done = subprocess.run(
        [sys.executable, *command],
        input=SOURCE,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True 6\n", "")


def test_modules_that_were_registered_travel_by_value(tmp_path):
    (tmp_path / "developed.py").write_text(
        "limit = 1\nseen = []\n"
        "class Thing:\n    made = 0\n    def __init__(self): Thing.made += 1\n"
        "def use(n): seen.append(n); return limit + n, len(seen)\n"
        "def helper(thing): return use(0), type(thing) is Thing, Thing.made\n",
        encoding="utf-8",
    )
    source = """
    import sys
    import cloudpickle
    import developed, offloop
    cloudpickle.register_pickle_by_value(developed)
    sys.path.remove(sys.path[0])
    with offloop.ProcessPool(1) as pool:
        print(pool.submit(developed.use, 1).result())
        developed.limit = 5
        print(pool.submit(developed.use, 1).result())
        thing = developed.Thing()
        print(pool.submit(developed.helper, thing).result())
        print(type(pool.submit(developed.Thing).result()) is developed.Thing)
        print(list(pool.map(developed.use, [1, 2], chunksize=2)), developed.seen)
    """
    done = run_program(tmp_path, source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "(2, 1)",
        "(6, 2)",
        "((5, 3), True, 1)",
        "True",
        "[(6, 4), (7, 5)] []",
    ]


def test_lambda_of_an_importable_module_sees_its_globals(pool):
    calls.changing = [1]
    try:
        use = eval("lambda: (changing, echo(2))", vars(calls))
        assert pool.submit(use).result(20) == ([1], 2)
        calls.changing.append(2)
        assert pool.submit(use).result(20) == ([1, 2], 2)
    finally:
        del calls.changing
