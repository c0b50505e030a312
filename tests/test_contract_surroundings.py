"""The pool needs no writable file system, no temporary directory, no environment, no script file.

Each program makes its own surroundings as bad as its user may, and then must work as ever: large
arguments and results, functions by value, a crash, and a worker in the place of the crashed one.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from gates import run_program

# Remounts every file system read-only, or fills the one that `argv[1]` names, in a mount name space
# of its own. A user that may do neither has at least a folder that may not be written.
SPOIL = """
        import ctypes, os, sys

        libc = ctypes.CDLL(None, use_errno=True)
        NEW_MOUNTS, NEW_USER = 0x20000, 0x10000000
        READ_ONLY, REMOUNT, BIND, PRIVATE, RELATIVE = 1, 32, 4096, (1 << 18) | 16384, 1 << 21

        def mount(source, target, kind, flags, options=None):
            arguments = [text and os.fsencode(text) for text in (source, target, kind)]
            return libc.mount(*arguments, ctypes.c_ulong(flags), options) == 0

        def enter():
            entered = libc.unshare(NEW_MOUNTS) == 0 or libc.unshare(NEW_MOUNTS | NEW_USER) == 0
            return entered and mount("none", "/", None, PRIVATE)

        def spoil_everything():
            with open("/proc/self/mounts") as table:
                places = [line.split()[1] for line in table]
            for place in places:
                kept = os.statvfs(place).f_flag
                flags = (kept & 0b10000001110) | (RELATIVE if kept & 4096 else 0)
                mount(None, place, None, REMOUNT | BIND | READ_ONLY | flags)

        def fill(folder):
            if mount("none", folder, "tmpfs", 0, b"size=64k"):
                try:
                    with open(os.path.join(folder, "filling"), "wb", buffering=0) as file:
                        while file.write(bytes(4096)):
                            continue
                except OSError:
                    print("full")
"""

LOCK = """
        if enter():
            spoil_everything()
"""

FILL = """
        if enter():
            fill(sys.argv[1])
            fill("/dev/shm")
"""

USE = """
        import numpy
        import offloop

        def total(array):
            return int(array.sum())

        with offloop.ProcessPool(2) as pool:
            print(pool.submit(total, numpy.ones(1 << 22)).result(20))
            print(len(pool.submit(numpy.ones, 1 << 20).result(20)))
            print(type(pool.submit(os.abort).exception(20)).__name__)
            print(list(pool.map(lambda number: -number, range(3))))
"""

WORKS = [str(1 << 22), str(1 << 20), "WorkerCrashed", "[0, -1, -2]"]


@pytest.fixture
def locked_folder(tmp_path: Path):
    """A folder that its owner may not write, for temporary files and for the home."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def surroundings(folder: Path) -> dict[str, str]:
    """Environment in which everything that is written goes to ``folder``."""
    return {"TMPDIR": str(folder), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def test_read_only_file_system(tmp_path, locked_folder):
    done = run_program(
        tmp_path,
        f"{SPOIL}{LOCK}{USE}",
        env_changes=surroundings(locked_folder),
        cwd=locked_folder,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == WORKS


def test_full_temporary_directory(tmp_path, locked_folder):
    done = run_program(
        tmp_path,
        f"{SPOIL}{FILL}{USE}",
        str(locked_folder),
        env_changes=surroundings(locked_folder),
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line != "full"]
    assert lines == WORKS


def test_environment_with_nothing_in_it(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("import os\n" + "\n".join(line[8:] for line in USE.splitlines()))
    done = subprocess.run(
        [sys.executable, str(script)], env={}, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == WORKS


def test_descriptors_run_out_with_a_typed_error_and_come_back(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os, resource
        from concurrent.futures.process import BrokenProcessPool
        import offloop

        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        with offloop.ProcessPool(1) as pool:
            print(pool.submit(abs, -1).result(20))
            hoard = []
            while True:
                try:
                    hoard.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            print(pool.submit(abs, -2).result(20))
            print(isinstance(pool.submit(os.abort).exception(20), offloop.WorkerCrashed))
            error = pool.submit(abs, -3).exception(30)
            print(error is None or isinstance(error, (OSError, BrokenProcessPool)))
            for descriptor in hoard:
                os.close(descriptor)
        with offloop.ProcessPool(1) as pool:
            print(pool.submit(abs, -4).result(20))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1", "2", "True", "True", "4"]


@pytest.mark.parametrize("how", ["-", "-c"])
def test_program_without_a_file(how):
    source = "\n".join(["import os", *(line[8:] for line in USE.splitlines())])
    command = [sys.executable, how] if how == "-" else [sys.executable, how, source]
    done = subprocess.run(
        command, input=source if how == "-" else "", capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == WORKS


def test_zipped_program(tmp_path):
    import zipapp

    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "helper.py").write_text("def tenfold(value):\n    return value * 10\n")
    (folder / "__main__.py").write_text(
        "import helper, offloop\n"
        "def local(value):\n    return helper.tenfold(value)\n"
        "with offloop.ProcessPool(1) as pool:\n"
        "    print(pool.submit(helper.tenfold, 3).result(20), pool.submit(local, 4).result(20))\n"
    )
    zipapp.create_archive(folder, tmp_path / "program.pyz")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.pyz")],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "30 40\n"
