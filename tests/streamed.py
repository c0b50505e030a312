"""Functions that the tests stream from workers, and what they leave behind for the test to read."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from calls import Gate


def count(path: str) -> None:
    """Write how often this was called for the file, so that another process can read it."""
    with open(path, "ab", buffering=0) as file:
        file.write(b".")


def counted(path: Path) -> int:
    """How often `count` was called."""
    return path.stat().st_size if path.exists() else 0


def numbers(end: int) -> Iterator[int]:
    """Yield the numbers below `end`."""
    yield from range(end)


async def numbers_later(end: int) -> AsyncIterator[int]:
    """Yield the numbers below `end`, with waits between."""
    for number in range(end):
        if number % 3 == 0:
            await asyncio.sleep(0)
        yield number


class Countdown:
    """An iterator by hand; what it counts is written when it is closed."""

    def __init__(self, start: int, path: str) -> None:
        self.left = start
        self.path = path

    def __iter__(self):
        return self

    def __next__(self) -> int:
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        return self.left

    def close(self) -> None:
        """What a generator has, too."""
        count(self.path)


class Letters:
    """A sequence as Python 2 had it: iterable by `__getitem__` alone."""

    def __getitem__(self, index: int) -> str:
        return "abc"[index]


def countdown(start: int, path: str) -> Countdown:
    """Return an iterator that is no generator."""
    return Countdown(start, path)


def listed(*items):
    """Return an iterable that is no iterator."""
    return list(items)


def returned(value):
    """Return anything at all."""
    return value


def letters() -> Letters:
    """Return what only `iter` knows to be iterable."""
    return Letters()


def endless(made: str, closed: str) -> Iterator[int]:
    """Count what is made, for ever; tell when it is closed."""
    number = 0
    try:
        while True:
            count(made)
            yield number
            number += 1
    finally:
        count(closed)


async def endless_later(made: str, closed: str) -> AsyncIterator[int]:
    """Do the same as `endless`, with waits, and with one when it is closed."""
    number = 0
    try:
        while True:
            count(made)
            yield number
            await asyncio.sleep(0)
            number += 1
    finally:
        await asyncio.sleep(0)
        count(closed)


def then_raise(items: int, error: BaseException) -> Iterator[int]:
    """Yield some items and raise."""
    yield from range(items)
    raise error


def then_die(items: int, begun: str) -> Iterator[int]:
    """Yield some items and kill the process."""
    count(begun)
    yield from range(items)
    os.kill(os.getpid(), signal.SIGKILL)


def then_hang(items: int, gate: Gate, closed: str) -> Iterator[int]:
    """Yield some items and stay in the generator for ever."""
    try:
        yield from range(items)
        gate.report()
        while True:
            time.sleep(0.01)
    finally:
        count(closed)


async def then_wait(items: int, gate: Gate, closed: str) -> AsyncIterator[int]:
    """Yield some items and wait on the event loop for ever."""
    try:
        for number in range(items):
            yield number
        gate.report()
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        count(closed)


async def then_compute(items: int, gate: Gate, closed: str) -> AsyncIterator[int]:
    """Yield some items and never come back to the event loop."""
    try:
        for number in range(items):
            yield number
        gate.report()
        while True:
            time.sleep(0.01)
    finally:
        count(closed)


def deaf(gate: Gate) -> Iterator[int]:
    """Yield an item and stop for nothing but a kill."""
    yield 0
    reported = False
    while True:
        with contextlib.suppress(BaseException):
            if not reported:
                reported = True
                gate.report()
            while True:
                time.sleep(0.01)


def goes_on(gate: Gate) -> Iterator[int]:
    """Yield items after it was told to close."""
    number = 0
    while True:
        try:
            yield number
        except GeneratorExit:
            gate.report("told")
        number += 1


def large(items: int, size: int) -> Iterator[bytes]:
    """Yield long items, each of its own byte."""
    for number in range(items):
        yield bytes([number % 256]) * size


def unpicklable(closed: str) -> Iterator[object]:
    """Yield an item that cannot travel behind one that can."""
    try:
        yield 1
        yield (number for number in range(3))
    finally:
        count(closed)


class Bomb:
    """Unpickles in no process."""

    def __reduce__(self):
        return os.strerror, ("no number",)


def bombs(closed: str) -> Iterator[object]:
    """Yield items that do not unpickle."""
    try:
        yield 1
        while True:
            yield Bomb()
    finally:
        count(closed)


def forks(closed: str) -> Iterator[int]:
    """Yield from two processes, of which only one may."""
    try:
        yield 1
        child = os.fork()
        yield 2
        if child:
            os.waitpid(child, 0)
        yield 3
    finally:
        count(closed)


async def in_one_task(items: int) -> AsyncIterator[bool]:
    """Use what takes one task for granted, across the items."""
    first = asyncio.current_task()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(items):
            other = group.create_task(asyncio.sleep(0, "value"))
            same = asyncio.current_task() is first
            yield same and await other == "value"
