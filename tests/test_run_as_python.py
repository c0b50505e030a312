"""`offloop run` takes what `python` takes, and the program finds everything as under `python`.

Each program is run by both, in the same folder; what they say of themselves is compared whole.
"""

import os
import pty
import subprocess
import sys
import zipfile

import pytest

PYTHON = (sys.executable,)
OFFLOOP = (sys.executable, "-m", "offloop", "run", "--no-report")
SECONDS_MAX = 50

TELL = """
import sys

def kind(value):
    return value if isinstance(value, (str, dict, type(None), type)) else type(value).__name__

names = {name: kind(value) for name, value in globals().items() if name.startswith("__")}
for name in sorted(names):
    print(name, names[name])
spec = __spec__ and (__spec__.name, __spec__.origin, __spec__.cached, __spec__.parent)
print(spec, getattr(__loader__, "name", None), getattr(__loader__, "path", None))
print(sys.argv, sys.path[0], sys._getframe().f_code.co_filename)
print(sys.modules["__main__"].__dict__ is globals())
"""
FAIL = "def divide():\n    return 1 / 0\ndivide()\n"


@pytest.fixture
def both(tmp_path):
    """Run a command line under `python` and under `offloop run`, in a folder of programs."""
    (tmp_path / "app.py").write_text(TELL)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(TELL)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.py").symlink_to("folder/__main__.py")
    for name in ("app.zip", "app", "app.tar"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("__main__.py", TELL)
    with (tmp_path / "started.pyz").open("wb") as file:
        file.write(b"#!/usr/bin/env python\n" + (tmp_path / "app.zip").read_bytes())
    compile_to(tmp_path / "app.py", tmp_path / "compiled.pyc")
    compile_to(tmp_path / "app.py", tmp_path / "compiled")
    (tmp_path / "garbage.pyc").write_text("this is not code")
    (tmp_path / "module.py").write_text(TELL)
    (tmp_path / "fail.py").write_text(FAIL)

    def run(*arguments, source=None):
        return [run_one(command, tmp_path, arguments, source) for command in (PYTHON, OFFLOOP)]

    return run


def compile_to(source, target):
    """Compile a script, in a process of its own since its lines are to be as in other runs."""
    code = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2])"
    subprocess.run([*PYTHON, "-c", code, source, target], check=True, timeout=SECONDS_MAX)


def run_one(command, folder, arguments, source):
    """Run a command to its end, with `source` as its input."""
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        input=source or "",
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["app.py"],
        ["./app.py", "-c", "--help", "-"],
        ["folder/../app.py", "a b"],
        ["link.py"],
        ["folder", "-m", "x"],
        ["./folder/"],
        ["app.zip"],
        ["./app", "--flag"],
        ["app.tar"],
        ["started.pyz"],
        ["compiled.pyc", "-h"],
        ["compiled"],
        ["-m", "module", "-c", "x"],
        ["-mmodule"],
        ["-c", TELL, "-m", "x", "--", "--loop"],
        ["-c" + TELL],
    ],
)
def test_program_finds_itself_as_under_python(both, arguments):
    python, ours = both(*arguments)
    assert python.returncode == 0, python.stderr
    assert "__name__ __main__" in python.stdout
    assert (ours.stdout, ours.stderr, ours.returncode) == (python.stdout, "", 0)


@pytest.mark.parametrize("arguments", [["-"], ["-", "-c", "--loop", "x"], []])
def test_program_on_standard_input_finds_itself_as_under_python(both, arguments):
    python, ours = both(*arguments, source=TELL)
    assert "__file__ <stdin>" in python.stdout
    assert (ours.stdout, ours.stderr, ours.returncode) == (python.stdout, "", 0)


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        (["fail.py"], None),
        (["-c", FAIL], None),
        (["-c", "def f(:"], None),
        (["-"], FAIL),
        ([], FAIL),
        (["-"], "def f(:\n"),
        (["-c", "import sys; sys.exit(7)"], None),
        (["-c", "raise SystemExit('no such port')"], None),
        ([], "import sys; print(sys.stdin.read() == ''); sys.exit(3)"),
        (["garbage.pyc"], None),
    ],
)
def test_end_is_told_as_under_python(both, arguments, source):
    python, ours = both(*arguments, source=source)
    assert (ours.returncode, ours.stdout) == (python.returncode, python.stdout)
    assert ours.stderr == python.stderr


@pytest.mark.parametrize("arguments", [["absent.py"], ["empty"], ["-m", "absent"]])
def test_what_is_not_there_has_the_status_that_it_has_under_python(both, arguments):
    python, ours = both(*arguments)
    assert python.returncode in (1, 2)
    assert (ours.returncode, ours.stdout) == (python.returncode, "")
    assert ours.stderr.count("\n") == 1


def test_nothing_at_all_is_a_mistake_on_a_terminal(tmp_path):
    controller, terminal = pty.openpty()
    try:
        ended = subprocess.run(
            OFFLOOP,
            cwd=tmp_path,
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
    finally:
        os.close(terminal)
        os.close(controller)
    assert ended.returncode == 2
    assert "name a script" in ended.stderr


POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

SCALE = 3

def scaled(value):
    return SCALE * value

if __name__ == "__main__":
    with ProcessPoolExecutor(1) as pool:
        print(list(pool.map(scaled, [1, 2])))
    print(sys.modules["__mp_main__"] is sys.modules["__main__"])
"""


@pytest.mark.parametrize("arguments", [["-c", POOL], ["-"], ["pool.pyc"], ["pool"]])
def test_pools_of_such_programs_work(tmp_path, arguments):
    (tmp_path / "pool.py").write_text(POOL)
    compile_to(tmp_path / "pool.py", tmp_path / "pool.pyc")
    with zipfile.ZipFile(tmp_path / "pool", "w") as archive:
        archive.writestr("__main__.py", POOL)
    ended = run_one(OFFLOOP, tmp_path, arguments, POOL if arguments == ["-"] else None)
    assert (ended.stdout, ended.stderr) == ("[3, 6]\nTrue\n", "")
