"""Runs one module of the interpreter's `test.test_asyncio` with our loop as asyncio's default.

    python loop_suite.py MODULE [EXCLUDED_TEST ...]

A program of its own, since it changes asyncio for the whole process. Its last line of output is a
JSON object: how many tests ran, which were left out, and why the suite itself skipped some.
"""

import asyncio
import asyncio.unix_events
import importlib
import json
import sys
import unittest
import warnings

import offloop

PACKAGE = "test.test_asyncio"


class DefaultLoop(offloop.EventLoop):
    """Our loop under the name of the standard one, whose constructor may be given a selector."""

    def __init__(self, selector=None):
        super().__init__()


def make_default() -> None:
    """Put our loop everywhere where asyncio, or a test, finds the default one."""
    asyncio.SelectorEventLoop = asyncio.EventLoop = DefaultLoop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.DefaultEventLoopPolicy._loop_factory = DefaultLoop


def tests_of(suite):
    """Every single test of a suite."""
    for member in suite:
        if isinstance(member, unittest.TestSuite):
            yield from tests_of(member)
        else:
            yield member


def main(name: str, excluded: list[str]) -> int:
    """Run the module and print what happened; the exit status says whether all tests passed."""
    make_default()
    module = importlib.import_module(f"{PACKAGE}.{name}")
    prefix = f"{module.__name__}."
    chosen, left_out = unittest.TestSuite(), []
    for test in tests_of(unittest.defaultTestLoader.loadTestsFromModule(module)):
        short = test.id().removeprefix(prefix)
        if short in excluded:
            left_out.append(short)
        else:
            chosen.addTest(test)
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=1).run(chosen)
    passed_over = {test.id().removeprefix(prefix): why for test, why in result.skipped}
    summary = {"ran": result.testsRun, "left_out": left_out, "passed_over": passed_over}
    print(json.dumps(summary))
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
