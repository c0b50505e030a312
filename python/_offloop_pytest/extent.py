"""Which tests came to their end: only a run of all tests may take stalls out of the file of known
ones, and none whose test did not come that far.

In a run that is divided, the process that began it hears the reports of all. Each other process
says in its last words why its part was not all of it.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["Extent", "name_of"]

_OPTIONS = {
    "lf": "--last-failed",
    "collectonly": "--collect-only",
    "setuponly": "--setup-only",
    "setupplan": "--setup-plan",
    "forked": "--forked",
}
"""Options with which not all tests run, or not where they are measured."""

_ENDINGS = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


class Extent:
    """Hears of all that keeps a test from its end."""

    def __init__(self, config: pytest.Config, *, hears_all: bool) -> None:
        self._config = config
        self._partial: str | None = None if hears_all else "only marked tests were measured"
        self._reported: dict[str, bool] = {}
        """Each test with whether its call came to its end, in the last attempt."""
        self._files: set[str] = set()

    @property
    def partial(self) -> str | None:
        """Why this is no run of all tests, as far as it is known; None if it is one."""
        return self._partial

    def lacks(self, why: str) -> None:
        """This is no run of all tests."""
        self._partial = self._partial or why

    def close(self, session: pytest.Session, *, looks_for_files: bool) -> None:
        """The run is over. Files of tests that it left out are looked for if that matters."""
        if session.exitstatus not in _ENDINGS or session.shouldstop or session.shouldfail:
            self.lacks("the run was stopped")
        for name, written in _OPTIONS.items():
            if self._config.getoption(name, False):
                self.lacks(f"the run has {written}")
        if hasattr(self._config, "workerinput"):
            # It runs a part, and knows no more.
            return
        if len(self._reported) < session.testscollected:
            self.lacks("not all tests ran that were collected")
        if looks_for_files and _leaves_files_out(self._config):
            self.lacks("the command line leaves tests out")

    def is_left_out(self, test: str) -> bool:
        """Whether a test exists that did not come to its end in this run."""
        if test in self._reported:
            return not self._reported[test]
        file = test.partition("::")[0]
        return bool(file) and file not in self._files and (self._config.rootpath / file).exists()

    # Hooks.

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Not all tests run."""
        if items:
            self.lacks("tests were deselected")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file may be broken."""
        if report.failed:
            self.lacks("not all tests could be collected")

    def pytest_keyboard_interrupt(self) -> None:
        """The run was interrupted, or a test has ended it."""
        self.lacks("the run was interrupted")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test is over."""
        test = name_of(report.nodeid)
        self._files.add(test.partition("::")[0])
        if report.when == "call":
            self._reported[test] = report.passed
        elif report.when == "setup" or not report.passed:
            self._reported[test] = False


def name_of(node_id: str) -> str:
    """The name of a test, without the group that a divided run adds to it."""
    head, colons, last = node_id.rpartition("::")
    if last.rfind("@") > last.rfind("]"):
        last = last[: last.rfind("@")]
    return f"{head}{colons}{last}" if colons else node_id


def _leaves_files_out(config: pytest.Config) -> bool:
    """Whether the run leaves out files of tests that one without arguments would have."""
    folder = config.invocation_params.dir
    given = [(folder / argument.partition("::")[0]).resolve() for argument in config.args]
    if any("::" in argument for argument in config.args) or config.getoption("pyargs", False):
        return True
    ignored = [(folder / each).resolve() for each in config.getoption("ignore", None) or ()]
    patterns = [str(folder / each) for each in config.getoption("ignore_glob", None) or ()]

    def is_covered(path: Path) -> bool:
        return (
            any(path.is_relative_to(each) for each in given)
            and not any(path.is_relative_to(each) for each in ignored)
            and not any(fnmatch.fnmatch(str(path), each) for each in patterns)
        )

    roots = list(_whole(config))
    if not (ignored or patterns) and all(is_covered(root.resolve()) for root in roots):
        return False
    return any(not is_covered(file) for root in roots for file in _test_files(config, root))


def _whole(config: pytest.Config) -> Iterator[Path]:
    """Where a run without arguments looks for tests."""
    root = glob.escape(str(config.rootpath))
    patterns = [os.path.join(root, each) for each in config.getini("testpaths")]
    paths = [path for each in patterns for path in sorted(glob.glob(each, recursive=True))]
    yield from map(Path, paths or [str(config.rootpath)])


def _test_files(config: pytest.Config, root: Path) -> Iterator[Path]:
    """The files below a folder that hold tests by their names."""
    if root.is_file():
        yield root.resolve()
        return
    patterns = config.getini("python_files")
    if config.getoption("doctestmodules", False):
        patterns = [*patterns, "*.py"]
    passed = config.getini("norecursedirs")
    for folder, folders, names in os.walk(root.resolve()):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if not any(fnmatch.fnmatch(name, pattern) for pattern in passed)
            and not (here / name / "pyvenv.cfg").exists()
        ]
        for name in names:
            path = here / name
            if name.endswith(".py") and any(path.match(pattern) for pattern in patterns):
                yield path
