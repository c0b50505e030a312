"""Runs a suite once on one loop, in a session and a network of its own, within its time.

The process that runs it takes in the orphans of its tests, and ends every process that is left, by
its number, when the suite is over.

Errors: `NotCompared` when a run proves nothing: it ran no test, or not on the loop that was asked
        for.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.suites.table import HERE, Suite

STANDARD, OURS = "standard", "offloop"
PR_SET_CHILD_SUBREAPER = 36
MODULE_OF = {STANDARD: "asyncio", OURS: "offloop"}
RANK = ["passed", "skipped", "failed"]
"""What becomes of a test with several phases: the last of these that one of them became."""


class NotCompared(Exception):
    """A suite ran no test, or made a loop that it was not to run on."""


@dataclass
class Outcomes:
    """What one run of a suite showed."""

    loop: str
    tests: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    loops_made: int = 0
    seconds: float = 0.0
    status: int | None = 0
    """The exit status; None when the time was over."""

    def count(self, outcome: str) -> int:
        """How many tests had this outcome."""
        return sum(one == outcome for one in self.tests.values())


def take_in_orphans() -> None:
    """Become the parent of every process whose own parent in a suite ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def run(suite: Suite, loop: str, only: str | None = None) -> Outcomes:
    """Run the suite, or one test of it, on a loop."""
    name = f"{loop}-alone" if only else loop
    folder = suite.folder / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Not below our folder: the paths of UNIX sockets have a limit.
    with tempfile.TemporaryDirectory(prefix="suite-", ignore_cleanup_errors=True) as temporary:
        seconds, status = _run_in(suite, loop, folder, only, temporary)
    outcomes = read(folder, loop)
    outcomes.seconds, outcomes.status = seconds, status
    if not outcomes.tests and not only:
        raise NotCompared(f"{suite.name} ran no test; see {folder / 'output'}")
    return outcomes


def _run_in(
    suite: Suite, loop: str, folder: Path, only: str | None, temporary: str
) -> tuple[float, int | None]:
    """Start the suite and wait for its end; how long it took, and its exit status."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        **suite.environment,
        "PATH": f"{suite.python.parent}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": temporary,
        "OFFLOOP_SUITES_LOOP": loop,
        "OFFLOOP_SUITES_LOOPS_MADE": str(folder / "loops"),
        "OFFLOOP_SUITES_OUTCOMES": str(folder / "outcomes"),
    }
    started = time.monotonic()
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(
            [suite.python, HERE / "inside" / "alone.py", *command(suite, folder, only)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=suite.tests,
            start_new_session=True,
        )
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(suite.test_s * 2 if only else suite.bound_s)
        end_all_children()
    return time.monotonic() - started, status


def command(suite: Suite, folder: Path, only: str | None) -> Sequence[str]:
    """The command that runs the suite, or one test of it."""
    python = str(suite.python)
    if suite.runner == "trial":
        options = [option for option in suite.arguments if option.startswith("-")]
        chosen = [only] if only else [each for each in suite.arguments if each not in options]
        work = ["--temp-directory", str(folder / "trial")]
        return [python, "-m", "twisted.trial", "--reporter=outcomes", *work, *options, *chosen]
    options = ["-p", "outcome_log", "-p", "no:cacheprovider", "-o", "addopts=", "-o"]
    options += ["faulthandler_timeout=0", "--timeout", str(suite.test_s), "-q", "--tb=short"]
    options.append("--continue-on-collection-errors")
    # Settings of a module that was chosen by `--pyargs` stand in its own distribution.
    options += ["--rootdir", str(suite.tests)]
    return [python, "-m", "pytest", *options, *(alone(suite, only) if only else suite.arguments)]


def alone(suite: Suite, only: str) -> Sequence[str]:
    """Arguments that choose one test: those of the suite, its own choice of tests exchanged."""
    kept: list[str] = []
    arguments = list(suite.arguments)
    while arguments:
        argument = arguments.pop(0)
        if argument in ("-p", "-o", "-W"):
            kept += [argument, arguments.pop(0)]
        elif argument in ("-k", "-m", "--ignore", "--ignore-glob"):
            arguments.pop(0)
        elif argument.startswith("--import-mode"):
            kept.append(argument)
        elif argument == "--pyargs":
            # Ids are then those of files in the package.
            module, colons, test = only.partition("::")
            module = module.removesuffix(".py").replace("/", ".")
            return [*kept, argument, f"{arguments[-1]}.{module}{colons}{test}"]
    return [*kept, only]


def end_all_children() -> None:
    """End every process that descends from this one, and wait for it."""
    while remaining := list(descendants(os.getpid())):
        for pid in remaining:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def descendants(pid: int) -> Iterator[int]:
    """The numbers of all processes below one."""
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in thread.read_text().split():
                yield int(child)
                yield from descendants(int(child))


def read(folder: Path, loop: str) -> Outcomes:
    """What a run has noted; refused if it was not on the loop that it was to run on."""
    outcomes = Outcomes(loop)
    noted = folder / "outcomes"
    lines = noted.read_text().splitlines() if noted.is_file() else []
    for entry in map(json.loads, lines):
        test, outcome = entry["test"], entry["outcome"]
        known = outcomes.tests.get(test)
        if outcome == "started":
            outcomes.tests.setdefault(test, outcome)
        elif outcome == "passed" and entry["phase"] != "call":
            # Its other phases pass as well, or there is a line that says so.
            continue
        elif known in (None, "started") or RANK.index(outcome) > RANK.index(known):
            outcomes.tests[test] = outcome
        if outcome == "failed":
            outcomes.texts.setdefault(test, entry["text"])
    for test, outcome in outcomes.tests.items():
        if outcome == "started":
            # It has crashed the run, or outlived the time of the suite.
            outcomes.tests[test] = "failed"
            outcomes.texts[test] = "the run ended in this test"
    made = folder / "loops"
    kinds = collections.Counter(made.read_text().split() if made.is_file() else [])
    outcomes.loops_made = kinds.pop(MODULE_OF[loop], 0)
    if kinds:
        raise NotCompared(f"a run on the loop `{loop}` made other loops as well: {dict(kinds)}")
    return outcomes
