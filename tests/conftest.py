"""Fixtures that Python tests share: pools of two workers, gates, and the command line."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import calls
import offloop
from gates import OpenGate
from peers import is_installed

WORKERS = 2
COMMAND_SECONDS_MAX = 50


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are marked to need a package which is not installed here."""
    missing = [item for item in items if not all(map(is_installed, needed_by(item)))]
    config.hook.pytest_deselected(items=missing)
    items[:] = [item for item in items if item not in missing]


def needed_by(item: pytest.Item) -> Iterator[str]:
    """The packages that a test is marked to need."""
    for mark in item.iter_markers("needs"):
        yield from mark.args


@pytest.fixture(autouse=True, scope="session")
def interrupts_arrive() -> None:
    """Programs of the tests are interrupted; a shell's background job ignores that from birth."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def pool() -> Iterator[offloop.ProcessPool]:
    """A pool of two workers, closed at the end of the test."""
    with offloop.ProcessPool(WORKERS) as pool:
        yield pool


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[OpenGate]:
    """A gate in the test's own directory."""
    gate = OpenGate(tmp_path)
    yield gate
    gate.close()


@pytest.fixture
def held(gate):
    """Make a pool of one worker whose worker is busy until the gate is released."""
    pools = []

    def make(**options):
        pool = offloop.ProcessPool(1, **options)
        pools.append(pool)
        pool.submit(calls.hold, gate.paths)
        gate.wait_started()
        return pool

    yield make
    for pool in pools:
        gate.release()
        pool.shutdown()


LOOPS = {"asyncio": asyncio.run, "offloop": offloop.run}
if is_installed("uvloop"):
    import uvloop

    LOOPS["uvloop"] = uvloop.run


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable:
    """Run a coroutine to its end, under the standard loop, under uvloop and under ours."""
    return LOOPS[request.param]


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
            timeout=COMMAND_SECONDS_MAX,
        )

    return command


@pytest.fixture
def run_source(tmp_path: Path, offloop_command):
    """Write a program, run it with ``offloop run`` and return the ended process."""

    def run(source: str, *arguments: str, options: tuple[str, ...] = ()):
        (tmp_path / "app.py").write_text(textwrap.dedent(source))
        return offloop_command("run", *options, "app.py", *arguments)

    return run
