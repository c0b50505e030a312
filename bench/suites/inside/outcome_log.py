"""A plug-in of pytest that notes the outcome of each test, as the test ends.

Each line of the file that ``OFFLOOP_SUITES_OUTCOMES`` names is a JSON object: a test's id, and
``started`` or what became of one of its phases. So what a run that was cut off has done is known.
"""

import json
import os
from typing import Any


def note(test: str, phase: str, outcome: str, text: str = "") -> None:
    """Add one line; other processes may add to the same file."""
    line = json.dumps({"test": test, "phase": phase, "outcome": outcome, "text": text})
    with open(os.environ["OFFLOOP_SUITES_OUTCOMES"], "a", encoding="utf-8") as file:
        file.write(line + "\n")


def pytest_runtest_logstart(nodeid: str, location: object) -> None:
    """A test begins."""
    note(nodeid, "start", "started")


def pytest_runtest_logreport(report: Any) -> None:
    """A phase of a test has ended; a test that is expected to fail and does counts as skipped."""
    note(report.nodeid, report.when, report.outcome, "" if report.passed else report.longreprtext)


def pytest_collectreport(report: Any) -> None:
    """A module that cannot be imported counts as one failed test."""
    if report.failed:
        note(report.nodeid, "collect", "failed", report.longreprtext)
