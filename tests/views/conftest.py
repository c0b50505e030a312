"""What the tests of the views share; those in a browser are left out where there is none.

``OFFLOOP_TEST_SERVERS=required`` says that there must be one; what is left out is named at the end.
"""

import os

import pytest
from browser import program

LEFT_OUT = (
    {"test_page_in_a_browser.py": "it needs chromium (Debian: apt-get install chromium)"}
    if program() is None and os.environ.get("OFFLOOP_TEST_SERVERS") != "required"
    else {}
)
collect_ignore = list(LEFT_OUT)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last lines which tests did not run, and what to install for them."""
    for test, reason in LEFT_OUT.items():
        terminalreporter.write_line(f"not run: tests/views/{test}: {reason}")
