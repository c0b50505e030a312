"""What the gate for pytest costs a suite of empty async tests: `python -m bench.gate`.

Each way to run the suite is run in turn, so that what else the machine does meets all of them. The
least processor time of each is compared, and the context switches are told.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = 1_000
WAYS = {
    "without offloop": [],
    "installed": ["-p", "offloop"],
    "gate": ["-p", "offloop", "--offloop-max-stall=50ms"],
}


def write_suite(folder: Path, tests: int) -> None:
    """Write a suite of empty tests."""
    lines = ["import pytest", "pytestmark = pytest.mark.asyncio"]
    lines += [f"async def test_{number}(): pass" for number in range(tests)]
    (folder / "test_empty.py").write_text("\n".join(lines))
    settings = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
    (folder / "pytest.ini").write_text(settings)


def run(folder: Path, options: list[str]) -> tuple[float, int]:
    """Run the suite once: seconds of the processor, and context switches."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "asyncio", *options],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    switches = after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw
    return seconds, switches


def main() -> None:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=TESTS)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_suite(folder, arguments.tests)
        found: dict[str, list[tuple[float, int]]] = {way: [] for way in WAYS}
        for _ in range(arguments.runs):
            for way, options in WAYS.items():
                found[way].append(run(folder, options))
    base = min(found["without offloop"])[0]
    print(f"{arguments.tests} empty async tests, the least of {arguments.runs} runs")
    for way, runs in found.items():
        seconds, switches = min(runs)
        more = (seconds / base - 1) * 100
        print(f"{way:16} {seconds:7.3f} s of a processor {more:+6.1f} %  {switches} switches")


if __name__ == "__main__":
    main()
