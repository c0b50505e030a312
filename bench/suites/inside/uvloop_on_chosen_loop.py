"""A plug-in of pytest for uvloop's own suite: its test cases make the chosen loop.

Each of its test cases comes in two kinds, which differ in how they make their loop. Here both make
asyncio's default one, and both expect what the suite expects of asyncio's.
"""

import asyncio
from typing import Any

from uvloop import _testbase

BaseTestCase: Any = _testbase.BaseTestCase
UVTestCase: Any = _testbase.UVTestCase


def pytest_configure(config: object) -> None:
    """Exchange what the suite's two kinds of test cases make."""
    UVTestCase.new_loop = lambda self: asyncio.new_event_loop()
    UVTestCase.new_policy = lambda self: asyncio.DefaultEventLoopPolicy()
    UVTestCase.implementation = "asyncio"
    BaseTestCase.is_asyncio_loop = lambda self: True
