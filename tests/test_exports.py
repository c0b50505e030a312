"""The public names: all there, documented, typed, and nothing heavy behind them."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import offloop

pytestmark = pytest.mark.quick

PUBLIC = {
    "ProcessPool",
    "ThreadPool",
    "Future",
    "PoolStatistics",
    "LoopStatistics",
    "LagHistogram",
    "to_process",
    "to_thread",
    "run",
    "EventLoop",
    "EventLoopPolicy",
    "new_event_loop",
    "install",
    "open",
    "read_file",
    "write_file",
    "AsyncFile",
    "OffloopError",
    "WorkerCrashed",
    "DeadlineExceeded",
    "QueueFull",
    "TaskInterrupted",
    "MemoryLimitExceeded",
}


def test_public_names_are_exported_and_no_others_are_missing():
    assert set(offloop.__all__) >= PUBLIC
    for name in offloop.__all__:
        assert hasattr(offloop, name), name


def test_every_public_name_is_documented_and_says_that_it_is_ours():
    for name in sorted(PUBLIC):
        thing = getattr(offloop, name)
        assert inspect.getdoc(thing), name
        assert thing.__module__ == "offloop" or thing.__module__.startswith("offloop."), name


def test_public_methods_are_documented():
    for name in ("submit", "map", "run", "shutdown", "options", "statistics"):
        assert inspect.getdoc(getattr(offloop.ProcessPool, name)), name


def test_packages_are_marked_as_typed():
    package = Path(offloop.__file__).parent
    assert (package / "py.typed").exists()
    assert (package.parent / "_offloop_worker" / "py.typed").exists()
    assert (package.parent / "_offloop_worker" / "_offloop.pyi").exists()


def test_import_is_light():
    heavy = ["numpy", "click", "rich", "aiohttp", "PIL"]
    code = f"import sys, offloop; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"


def test_constructor_takes_the_standard_pools_arguments_in_their_order():
    from concurrent.futures import ProcessPoolExecutor

    standard = list(inspect.signature(ProcessPoolExecutor).parameters)
    ours = list(inspect.signature(offloop.ProcessPool).parameters)
    assert ours[:4] == standard[:4]
    assert set(standard) <= set(ours)
