"""A plug-in of pytest for uvloop's own suite: its test cases make the chosen loop.

Each of its test cases comes in two kinds, which differ in how they make their loop. Here both make
asyncio's default one, and both expect what the suite expects of asyncio's.
"""

import asyncio

from uvloop import _testbase


def pytest_configure(config):
    """Exchange what the suite's two kinds of test cases make."""
    _testbase.UVTestCase.new_loop = lambda self: asyncio.new_event_loop()
    _testbase.UVTestCase.new_policy = lambda self: asyncio.DefaultEventLoopPolicy()
    _testbase.UVTestCase.implementation = "asyncio"
    _testbase.BaseTestCase.is_asyncio_loop = lambda self: True
