"""The interpreter's own tests of asyncio, with our loop as the default.

Each module of `test.test_asyncio` runs in a process of its own, two at a time, since most of their
time is spent waiting. What does not run stands in `loop_exclusions`, with its reason.
"""

import concurrent.futures
import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from loop_exclusions import EXCLUDED_MODULES, EXCLUDED_TESTS, PASSED_OVER

MODULE_SECONDS_MAX = 170
"""The longest module takes about 20 s on an idle machine."""

AT_ONCE = 2
PROGRAM = Path(__file__).with_name("loop_suite.py")

pytestmark = [pytest.mark.timeout(MODULE_SECONDS_MAX + 10), pytest.mark.quick]


def modules_of_the_suite() -> list[str]:
    """Every test module that the interpreter ships, but for the excluded ones."""
    (folder,) = importlib.util.find_spec("test.test_asyncio").submodule_search_locations
    found = {path.stem for path in Path(folder).glob("test_*.py")}
    return sorted(found - EXCLUDED_MODULES.keys())


MODULES = modules_of_the_suite()
LONGEST_FIRST = ["test_subprocess", "test_events", "test_tasks", "test_ssl", "test_taskgroups"]


@dataclass(frozen=True)
class Ended:
    """How the run of one module ended."""

    status: int
    output: str
    errors: str

    def summary(self) -> dict:
        """What the program says of its tests."""
        return json.loads(self.output.splitlines()[-1])


def run_module(name: str) -> Ended:
    """Run one module in a process group of its own, which ends with it or at the time limit."""
    command = [sys.executable, str(PROGRAM), name, *EXCLUDED_TESTS.get(name, {})]
    # The suite reads these to decide what it tests.
    environment = {key: value for key, value in os.environ.items() if "ASYNCIO" not in key}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as program:
        try:
            output, errors = program.communicate(timeout=MODULE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            output, errors = program.communicate()
            errors = f"{name} ran longer than {MODULE_SECONDS_MAX} s\n{errors}"
    return Ended(program.returncode, output, errors)


@pytest.fixture(scope="module")
def runs(request):
    """Start every module that was chosen; the tests wait for theirs."""
    wanted = {
        item.callspec.params["module"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    }
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    order = sorted(wanted, key=lambda name: (rank.get(name, len(rank)), name))
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
        yield {name: threads.submit(run_module, name) for name in order}


@pytest.mark.parametrize("module", MODULES)
def test_module_of_the_standard_suite_passes_on_our_loop(runs, module):
    ended = runs[module].result()
    assert ended.status == 0, ended.errors
    summary = ended.summary()
    assert summary["ran"] > 0
    excluded = EXCLUDED_TESTS.get(module, {})
    assert set(summary["left_out"]) <= excluded.keys()
    unexplained = {
        test: why
        for test, why in summary["passed_over"].items()
        if not any(part in why for part in PASSED_OVER)
    }
    assert unexplained == {}


def test_every_exclusion_has_a_reason_and_names_something_of_the_suite():
    package = importlib.util.find_spec("test.test_asyncio").submodule_search_locations[0]
    for module, reason in EXCLUDED_MODULES.items():
        assert reason
        assert Path(package, f"{module}.py").exists(), module
    for module, tests in EXCLUDED_TESTS.items():
        source = Path(package, f"{module}.py").read_text()
        for test, reason in tests.items():
            assert reason
            class_name, name = test.split(".")
            assert f"class {class_name}(" in source or sys.version_info < (3, 14), test
            assert f"def {name}(" in source or sys.version_info < (3, 14), test
