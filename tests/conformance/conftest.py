"""Collects the conformance suite only where the interpreter ships CPython's own tests."""

import importlib.util


def ships_the_suite() -> bool:
    """Whether `test.test_concurrent_futures` and what it stands on can be imported."""
    try:
        return bool(
            importlib.util.find_spec("test.support")
            and importlib.util.find_spec("test.test_concurrent_futures")
        )
    except ModuleNotFoundError:
        return False


collect_ignore = [] if ships_the_suite() else ["test_standard_suite.py"]


def pytest_report_header() -> str:
    """Say in the first lines whether the suite is there."""
    found = "runs" if ships_the_suite() else "is not shipped with this interpreter"
    return f"conformance: test.test_concurrent_futures {found}"
