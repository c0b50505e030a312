"""`offloop run` runs a program as itself: its arguments, its imports, its end."""

import os
import signal
import subprocess
import sys
import sysconfig
import textwrap

import pytest

from gates import Watched
from peers import NEEDS_UVLOOP


def test_script_runs_as_the_main_program_with_its_own_arguments(run_source, tmp_path):
    ended = run_source(
        """
        import sys, neighbour
        print(__name__, __file__, sys.argv, sys.path[0], __spec__)
        print(sys.modules["__main__"].__dict__ is globals(), neighbour.NAME)
        """,
        "--no-adopt",
        "-m",
        "x",
    )
    assert ended.returncode == 1
    assert "No module named 'neighbour'" in ended.stderr
    (tmp_path / "neighbour.py").write_text("NAME = 'beside it'\n")
    ended = run_source((tmp_path / "app.py").read_text(), "--no-adopt", "-m", "x")
    where = tmp_path.resolve()
    assert ended.stdout.splitlines() == [
        f"__main__ {where}/app.py ['app.py', '--no-adopt', '-m', 'x'] {where} None",
        "True beside it",
    ]


def test_module_runs_as_the_main_program_with_its_own_arguments(offloop_command, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("VALUE = 7\n")
    (package / "__main__.py").write_text(
        "import sys\nfrom .part import VALUE\nprint(__name__, __package__, sys.argv[1:], VALUE)\n"
    )
    ended = offloop_command("run", "-m", "package", "--help", "-h")
    assert ended.stdout == "__main__ package ['--help', '-h'] 7\n"
    assert ended.returncode == 0


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("import sys; sys.exit(True)", 1),
        ("import sys; sys.exit()", 0),
        ("import asyncio, sys\nasync def main(): sys.exit(4)\nasyncio.run(main())", 4),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", 130),
        ("", 0),
    ],
)
def test_exit_status_is_the_programs_own(run_source, source, status):
    ended = run_source(source)
    assert ended.returncode == status
    assert "offloop/_run" not in ended.stderr
    assert "offloop run:" in ended.stderr


def test_what_cannot_be_run_is_refused_in_one_line(offloop_command):
    missing = offloop_command("run", "absent.py")
    assert missing.returncode == 2
    assert missing.stderr.endswith("absent.py': No such file or directory\n")
    assert missing.stderr.count("\n") == 1
    assert offloop_command("run", "-m", "absent").stderr == (
        "offloop run: no module named 'absent'\n"
    )
    assert offloop_command("run", "-m", "absent").returncode == 1


def test_exit_with_a_text_prints_it_and_fails(run_source):
    ended = run_source("import sys; sys.exit('no such port')", options=("--no-report",))
    assert (ended.returncode, ended.stderr) == (1, "no such port\n")


def test_traceback_begins_in_the_program(run_source, tmp_path):
    source = """
        import asyncio, offloop
        def divide(by):
            return 1 / by
        async def main():
            await offloop.to_process(divide, 0)
        if __name__ == "__main__":
            asyncio.run(main())
        """
    ended = run_source(source, options=("--no-report",))
    assert ended.returncode == 1
    own, _, last = ended.stderr.rpartition("Traceback (most recent call last):\n")
    assert last.splitlines()[0] == f'  File "{tmp_path.resolve()}/app.py", line 8, in <module>'
    assert last.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "in divide" in own
    assert "click" not in ended.stderr
    assert "_run" not in ended.stderr


@pytest.mark.parametrize("fault", ["raise ValueError('broken at import')", "def f(:"])
def test_module_that_fails_to_import_shows_its_own_lines(offloop_command, tmp_path, fault):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text(fault + "\n")
    (package / "__main__.py").write_text("")
    ended = offloop_command("run", "--no-report", "-m", "package")
    assert ended.returncode == 1
    assert "package/__init__.py" in ended.stderr
    assert "click" not in ended.stderr
    assert "_run" not in ended.stderr


def test_script_with_a_fault_of_syntax_shows_that_alone(run_source, tmp_path):
    ended = run_source("def f(:")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[0] == f'  File "{tmp_path}/app.py", line 1'
    assert ended.stderr.endswith("SyntaxError: invalid syntax\n")


def test_console_script_and_module_run_alike(run_source, tmp_path):
    by_module = run_source("import sys; print(sys.argv, __name__)", "-x", options=("--no-report",))
    script = os.path.join(sysconfig.get_path("scripts"), "offloop")
    by_script = subprocess.run(
        [script, "run", "--no-report", "app.py", "-x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert by_script.stdout == by_module.stdout == "['app.py', '-x'] __main__\n"
    assert (by_script.returncode, by_script.stderr) == (0, "")


def test_executor_and_loop_made_at_module_level_work(run_source):
    ended = run_source(
        """
        import asyncio
        from concurrent.futures import ProcessPoolExecutor
        loop = asyncio.new_event_loop()
        pool = ProcessPoolExecutor(2)
        SCALE = 3
        def scaled(value):
            return SCALE * value
        async def main():
            calls = (loop.run_in_executor(pool, scaled, value) for value in range(4))
            return await asyncio.gather(*calls)
        print(loop.run_until_complete(main()))
        loop.close()
        """
    )
    assert (ended.returncode, ended.stdout) == (0, "[0, 3, 6, 9]\n")
    assert "4 calls in 1 pool (1 adopted)" in ended.stderr


STARTS_UNDER_UVLOOP = [
    "asyncio.set_event_loop_policy(uvloop.EventLoopPolicy()); asyncio.run(main())",
    "uvloop.run(main())",
]
if sys.version_info >= (3, 12):
    STARTS_UNDER_UVLOOP.append("asyncio.run(main(), loop_factory=uvloop.new_event_loop)")


@NEEDS_UVLOOP
@pytest.mark.parametrize("start", STARTS_UNDER_UVLOOP)
def test_uvloop_serves_the_program_however_it_is_chosen(run_source, start):
    ended = run_source(
        f"""
        import asyncio, offloop, uvloop
        async def main():
            print(await offloop.to_process(abs, -5), type(asyncio.get_running_loop()).__module__)
        if __name__ == "__main__":
            {start}
        """
    )
    assert (ended.returncode, ended.stdout) == (0, "5 uvloop\n")
    assert "uvloop" in ended.stderr


def test_standard_processes_find_the_main_program(run_source):
    ended = run_source(
        """
        import multiprocessing
        def double(value):
            return 2 * value
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [1, 2]))
        """
    )
    assert (ended.returncode, ended.stdout) == (0, "[2, 4]\n"), ended.stderr


def test_program_that_leaves_by_os_exit_leaves_nothing_behind(run_source):
    ended = run_source(
        """
        import os, offloop
        pool = offloop.ProcessPool(1)
        print(pool.submit(os.getpid).result(), flush=True)
        os._exit(3)
        """
    )
    assert (ended.returncode, ended.stderr) == (3, "")
    try:
        worker = Watched(int(ended.stdout))
    except ProcessLookupError:
        return
    worker.wait_exit(5)
    worker.close()


def test_one_interrupt_ends_the_program_once(tmp_path, gate):
    (tmp_path / "app.py").write_text(
        textwrap.dedent(
            """
            import asyncio, sys
            import calls
            import offloop
            async def main():
                gate = calls.Gate(sys.argv[1], sys.argv[2])
                await offloop.to_process(calls.sleep_for_ever, gate)
            asyncio.run(main())
            """
        )
    )
    with subprocess.Popen(
        [sys.executable, "-m", "offloop", "run", "app.py", gate.paths.started, gate.paths.released],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        worker = Watched(gate.wait_started())
        os.killpg(program.pid, signal.SIGINT)
        _, errors = program.communicate(timeout=30)
    assert program.returncode == 130
    assert errors.count("\nKeyboardInterrupt\n") == 1, errors
    assert "calls.py" not in errors, "a worker spoke as well"
    assert "1 call in 1 pool, 1 cancelled" in errors
    worker.wait_exit(5)
    worker.close()
