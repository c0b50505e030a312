"""How other projects' suites are compared: outcomes of tests, and which loop they ran on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.suites import comparing, report, running, table  # noqa: E402

pytestmark = pytest.mark.quick


def noted(folder: Path, *lines: tuple[str, str, str], loops: str = "asyncio\n") -> Path:
    """What a run on the standard loop leaves in its folder."""
    keys = ("test", "phase", "outcome")
    entries = [{**dict(zip(keys, line, strict=True)), "text": ""} for line in lines]
    (folder / "outcomes").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / "loops").write_text(loops)
    return folder


def test_the_worst_phase_of_a_test_is_its_outcome(tmp_path):
    folder = noted(
        tmp_path,
        ("passes", "start", "started"),
        ("passes", "setup", "passed"),
        ("passes", "call", "passed"),
        ("passes", "teardown", "passed"),
        ("is skipped", "start", "started"),
        ("is skipped", "setup", "skipped"),
        ("is skipped", "teardown", "passed"),
        ("fails at its end", "start", "started"),
        ("fails at its end", "call", "passed"),
        ("fails at its end", "teardown", "failed"),
    )
    assert running.read(folder, running.STANDARD).tests == {
        "passes": "passed",
        "is skipped": "skipped",
        "fails at its end": "failed",
    }


def test_a_test_that_crashed_the_run_has_failed(tmp_path):
    folder = noted(tmp_path, ("crashes", "start", "started"), ("crashes", "setup", "passed"))
    assert running.read(folder, running.STANDARD).tests == {"crashes": "failed"}


def test_a_run_that_made_another_loop_is_refused(tmp_path):
    folder = noted(tmp_path, ("passes", "call", "passed"), loops="asyncio\nasyncio\n")
    assert running.read(folder, running.STANDARD).loops_made == 2
    with pytest.raises(running.NotCompared, match="'asyncio': 2"):
        running.read(folder, running.OURS)


def test_tests_that_one_loop_has_not_run_differ_as_well():
    standard = {"same": "passed", "other": "passed", "only here": "passed"}
    ours = {"same": "passed", "other": "failed", "only there": "failed"}
    assert comparing.differing_tests(standard, ours) == ["other", "only here", "only there"]


def test_a_difference_without_a_reason_is_reported():
    difference = comparing.Difference("test_x", "passed", "failed", is_flaky=False, text="")
    flaky = comparing.Difference("test_y", "passed", "failed", is_flaky=True, text="")
    no_counts = dict.fromkeys(report.OUTCOMES, 0)
    result = comparing.Result(
        suite="nobody's",
        version="1",
        python="3",
        date="2026-01-01",
        counts={running.STANDARD: no_counts, running.OURS: no_counts},
        loops_made={},
        seconds={},
        failed_on_both=["tests/test_z.py::test_z"],
        differences=[difference, flaky],
    )
    assert report.unexplained([result]) == [(result, difference)]
    page = report.page([], [result])
    assert "`test_x`: passed on the standard loop, failed on ours: not explained yet" in page
    assert "`test_y`: passed on the standard loop, failed on ours" in page
    assert "1, in `tests/test_z.py`" in page


def test_every_reason_belongs_to_a_suite():
    names = {suite.name for suite in table.suites()}
    assert {suite for suite, _, _ in table.reasons()} <= names


def test_one_test_is_chosen_in_place_of_the_others():
    (suite,) = table.suites(["uvloop"])
    chosen = running.alone(suite, "tests/test_tcp.py::Test::test_x")
    assert chosen == ["-p", "uvloop_on_chosen_loop", "tests/test_tcp.py::Test::test_x"]
    (suite,) = table.suites(["tornado"])
    beginning = ["-p", "tornado_as_its_runner", "-o", "python_files=*_test.py", "--pyargs"]
    chosen = running.alone(suite, "web_test.py::Test::test_x")
    assert chosen == [*beginning, "tornado.test.web_test::Test::test_x"]
    assert running.alone(suite, "web_test.py") == [*beginning, "tornado.test.web_test"]


def test_left_over_processes_of_a_suite_are_found():
    shell = "sleep 600 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        below = int(child.stdout.readline())
        assert list(running.descendants(child.pid)) == [below]
        child.kill()
        os.kill(below, signal.SIGKILL)
