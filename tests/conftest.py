"""Fixtures that every Python test shares: pools of two workers, and gates."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

import offloop
from gates import OpenGate

WORKERS = 2


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


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable:
    """Run a coroutine to its end, under the standard loop and under uvloop."""
    return asyncio.run if request.param == "asyncio" else uvloop.run
