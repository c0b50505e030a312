"""The command line: programs run as themselves, the report is true, demo and doctor work."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image

from offloop import _doctor
from offloop._run.lag import LagHistogram

SECONDS_MAX = 50


@pytest.fixture
def offloop_command(tmp_path: Path):
    """Run the command line in an empty folder and return the ended process."""

    def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "offloop", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )

    return command


@pytest.fixture
def run_source(tmp_path: Path, offloop_command):
    """Write a program, run it with ``offloop run`` and return the ended process."""

    def run(source: str, *arguments: str, options: tuple[str, ...] = ()):
        (tmp_path / "app.py").write_text(textwrap.dedent(source))
        return offloop_command("run", *options, "app.py", *arguments)

    return run


def squeezed(text: str) -> str:
    """The text with every run of white space as one space, as wrapped lines are compared."""
    return " ".join(text.split())


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


def worst_lag_seconds(report: str) -> float:
    """The worst lag that a report tells."""
    worst, unit = report.split("worst ")[1].split()[:2]
    return float(worst) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


@pytest.mark.parametrize(
    ("source", "status"),
    [("raise SystemExit(7)", 7), ("1 / 0", 1), ("raise KeyboardInterrupt", 130), ("", 0)],
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
    assert "name a script" in offloop_command("run").stderr


@pytest.mark.parametrize(
    "imported",
    [
        "from concurrent.futures import ProcessPoolExecutor",
        "from concurrent.futures.process import ProcessPoolExecutor",
    ],
)
def test_standard_pool_is_adopted_and_stays_a_standard_pool(run_source, imported):
    ended = run_source(
        f"""
        {imported}
        import concurrent.futures, os
        class Mine(ProcessPoolExecutor):
            def submit(self, fn, /, *args, **kwargs):
                return super().submit(fn, *args, **kwargs)
        with Mine(1) as mine, ProcessPoolExecutor(max_workers=1) as pool:
            assert isinstance(pool, ProcessPoolExecutor)
            assert isinstance(mine, concurrent.futures.Executor)
            assert issubclass(Mine, concurrent.futures.process.ProcessPoolExecutor)
            print(list(pool.map(lambda x: x * x, range(4), chunksize=2)))
            print(list(mine.map(lambda x: x + 1, range(4))))
            try:
                pool.submit(os._exit, 3).result()
            except concurrent.futures.process.BrokenProcessPool as error:
                print(type(error).__name__)
            print(pool.submit(abs, -1).result())
        """
    )
    assert ended.stdout.splitlines() == ["[0, 1, 4, 9]", "[1, 2, 3, 4]", "WorkerCrashed", "1"]
    report = squeezed(ended.stderr)
    assert "8 calls in 2 pools (2 adopted), 1 crashed" in report
    assert "_exit: 1 of 1 calls ended their worker (the last by exit status 3)" in report


def test_no_adopt_and_an_explicit_fork_context_keep_the_standard_pool(run_source):
    source = """
        import concurrent.futures, multiprocessing, warnings
        warnings.simplefilter("ignore")
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            print(pool.submit(abs, -1).result(), hasattr(pool, "_executor_manager_thread"))
        """
    kept = run_source(source)
    assert kept.stdout == "1 True\n"
    assert "app.py:5: the standard pool, because of an explicit fork context" in kept.stderr
    left = run_source(source, options=("--no-adopt",))
    assert left.stdout == "1 True\n"
    assert "kept" not in left.stderr


@pytest.mark.parametrize(
    "loop", ["asyncio.new_event_loop()", "__import__('uvloop').new_event_loop()"]
)
def test_loop_made_at_module_level_is_measured(run_source, loop):
    ended = run_source(
        f"""
        import asyncio, time
        loop = {loop}
        async def main():
            await asyncio.sleep(0.1)
            time.sleep(0.25)
            await asyncio.sleep(0.1)
        loop.run_until_complete(main())
        loop.close()
        """
    )
    assert ended.returncode == 0
    assert worst_lag_seconds(ended.stderr) >= 0.23


def test_loop_that_blocks_to_its_very_end_is_measured(run_source):
    ended = run_source(
        """
        import asyncio, time
        async def main():
            time.sleep(0.3)
        asyncio.run(main())
        """
    )
    assert worst_lag_seconds(ended.stderr) >= 0.28


def test_leaving_an_executor_inside_a_coroutine_is_named_with_its_line(run_source):
    ended = run_source(
        """
        import asyncio, time, offloop
        from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
        async def threads():
            with ThreadPoolExecutor() as pool:
                pool.submit(time.sleep, 0.2)
        async def processes():
            pool = ProcessPoolExecutor(1)
            pool.submit(time.sleep, 0.2)
            pool.shutdown()
        async def harmless():
            async with offloop.ProcessPool(1) as pool:
                pool.submit(time.sleep, 0.2)
        async def main():
            await threads()
            await processes()
            await harmless()
        asyncio.run(main())
        with ThreadPoolExecutor() as pool:
            pool.submit(time.sleep, 0.02)
        """
    )
    report = squeezed(ended.stderr)
    assert "app.py:5 in `threads`: leaving `with ThreadPoolExecutor`" in report
    assert "app.py:10 in `processes`: calling `ProcessPoolExecutor.shutdown`" in report
    assert report.count("on the loop's thread stopped it for") == 2


def test_report_names_the_busiest_functions(run_source):
    ended = run_source(
        """
        import asyncio, time, offloop
        def busy(seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                pass
        async def main():
            await asyncio.gather(*(offloop.to_process(busy, 0.05) for _ in range(4)))
            await asyncio.gather(*(offloop.to_thread(time.sleep, 0.01) for _ in range(3)))
        asyncio.run(main())
        """
    )
    rows = [line.split() for line in ended.stderr.splitlines()]
    assert any(row[:3] == ["busy", "processes", "4"] for row in rows)
    assert any(row[:3] == ["time.sleep", "threads", "3"] for row in rows)


def test_no_report_prints_nothing(run_source):
    ended = run_source("print('only this')", options=("--no-report",))
    assert (ended.stdout, ended.stderr) == ("only this\n", "")


def test_percentiles_of_lag_are_within_a_bucket():
    histogram = LagHistogram()
    for millis in range(1, 1001):
        histogram.record(millis / 1000)
    assert histogram.percentile_seconds(50) == pytest.approx(0.5, rel=0.07)
    assert histogram.percentile_seconds(99) == pytest.approx(0.99, rel=0.07)
    assert histogram.worst_seconds == 1.0
    assert histogram.percentile_seconds(100) == 1.0


def test_demo_tells_its_story_and_draws_it(offloop_command, tmp_path):
    ended = offloop_command("demo", "--seconds", "0.5", "--out", "drawn")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for title in ("on the event loop", "in threads", "standard pool per request", "offloop"):
        assert title in ended.stdout
    with Image.open(tmp_path / "drawn" / "demo.png") as timeline:
        assert timeline.width == 2400
    page = (tmp_path / "drawn" / "demo.html").read_text()
    assert page.count("<svg") == 4
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.quick
def test_doctor_finds_what_offloop_needs(offloop_command):
    ended = offloop_command("doctor", "--json")
    assert ended.returncode == 0
    findings = {finding["name"]: finding for finding in json.loads(ended.stdout)}
    assert len(findings) == len(_doctor.PROBES)
    assert {"kernel", "pidfd", "memfd", "Python", "offloop"} <= findings.keys()
    assert all(finding["meaning"] for finding in findings.values())
    assert "offloop can work here." in offloop_command("doctor").stdout


def test_doctor_reports_what_fails_and_says_so_in_its_status(monkeypatch, capsys):
    def probe_pidfd():
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(_doctor, "PROBES", (probe_pidfd,))
    assert _doctor.run_doctor(as_json=False) == 1
    printed = capsys.readouterr().out
    assert "Operation not permitted" in printed
    assert "offloop cannot work here: pidfd" in printed
