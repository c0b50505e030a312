"""Fixtures of the tests of streams."""

import pytest

import offloop


@pytest.fixture
def made(tmp_path):
    """Where a stream counts what it has made."""
    return tmp_path / "made"


@pytest.fixture
def closed(tmp_path):
    """Where a stream counts how often it was closed."""
    return tmp_path / "closed"


@pytest.fixture
def single():
    """A pool of one worker, so that it is known which one goes on, on a busy machine too."""
    with offloop.ProcessPool(1, grace=30) as pool:
        yield pool
