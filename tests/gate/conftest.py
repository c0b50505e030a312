"""What tests of the gate share: suites that run in a pytest of their own."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

SECONDS_MAX = 50

RECORDER = """
    import json

    reports = []

    def pytest_runtest_logreport(report):
        text = str(report.longrepr or "") + "".join(text for _, text in report.sections)
        reports.append([report.nodeid.split("::", 1)[-1], report.when, report.outcome, text])

    def pytest_sessionfinish(session):
        if not hasattr(session.config, "workerinput"):
            (session.config.rootpath / "reports.json").write_text(json.dumps(reports))
"""


@dataclass
class Ran:
    """A suite that has run."""

    folder: Path
    status: int
    text: str
    reports: list

    def outcome(self, test: str) -> tuple:
        """The phase that a test failed in, and its text; or how its call ended, and nothing."""
        own = [report for report in self.reports if report[0] == test]
        assert own, self.text
        for _, when, outcome, text in own:
            if outcome == "failed":
                return when, text
        return next(report[2] for report in own if report[1] == "call" or report[2] != "passed"), ""

    def failed(self) -> dict[str, str]:
        """The tests that failed, with the phase."""
        return {test: when for test, when, outcome, _ in self.reports if outcome == "failed"}

    def json(self) -> dict:
        """What the gate has written."""
        return json.loads((self.folder / "gate.json").read_text())


@pytest.fixture
def suite(tmp_path):
    """Write a suite and run it, with the plugins that are named."""

    def run(source, *options, plugins=("asyncio",), ini="", limit="100ms", env=None, others=()):
        (tmp_path / "test_it.py").write_text(textwrap.dedent(source))
        (tmp_path / "conftest.py").write_text(textwrap.dedent(RECORDER))
        for name, text in dict(others).items():
            (tmp_path / name).write_text(textwrap.dedent(text))
        if "asyncio" in plugins:
            ini = f"asyncio_default_fixture_loop_scope = function\n{ini}"
        (tmp_path / "pytest.ini").write_text("[pytest]\n" + ini)
        (tmp_path / "reports.json").unlink(missing_ok=True)
        named = [word for plugin in ("offloop", *plugins) for word in ("-p", plugin)]
        limits = [f"--offloop-max-stall={limit}"] if limit else []
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *named, *limits, *options],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "COLUMNS": "200",
                "PYTHONDONTWRITEBYTECODE": "1",
                **(env or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
        )
        written = tmp_path / "reports.json"
        reports = json.loads(written.read_text()) if written.exists() else []
        return Ran(tmp_path, done.returncode, done.stdout, reports)

    return run
