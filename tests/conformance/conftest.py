"""Collects the conformance suites only where the interpreter ships CPython's own tests."""

import importlib.util

SUITES = {
    "test.test_concurrent_futures": "test_standard_suite.py",
    "test.test_asyncio": "test_event_loop.py",
}


def is_shipped(suite: str) -> bool:
    """Whether a suite and what it stands on can be imported."""
    try:
        return bool(importlib.util.find_spec("test.support") and importlib.util.find_spec(suite))
    except ModuleNotFoundError:
        return False


collect_ignore = [ours for suite, ours in SUITES.items() if not is_shipped(suite)]


def pytest_report_header() -> list[str]:
    """Say in the first lines which suites are there."""
    return [
        f"conformance: {suite} "
        + ("runs" if is_shipped(suite) else "is not shipped with this interpreter")
        for suite in SUITES
    ]
