"""What the measured tasks do.

Every task answers with something that depends on its arguments, so that a wrong, stale or missing
answer is noticed. Workers import this module: it imports nothing heavy before it is needed.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Array = NDArray[float64]

#: Elements of an array that are rewritten before each call, and read back on the other side.
SAMPLES = 8

#: Elements of float64 in a page of 4 KiB.
PAGE = 512

_kept: dict[int, Array] = {}


def echo(value: Any) -> Any:
    """Do nothing; the answer is the argument."""
    return value


def now() -> int:
    """Read the clock that all processes share."""
    return time.monotonic_ns()


def burn(iterations: int, seed: int) -> int:
    """Compute in pure Python for a time that is proportional to ``iterations``."""
    value = seed
    for _ in range(iterations):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    return value


def announce(path: str) -> None:
    """Tell the measuring process, through a file, which process runs the task, and since when."""
    started_ns = time.monotonic_ns()
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()} {started_ns}")
    os.rename(draft, path)


def hold(path: str, seconds: float) -> int:
    """Occupy a worker without using its CPU."""
    announce(path)
    time.sleep(seconds)
    return os.getpid()


def hold_until(path: str, gate: str) -> int:
    """Occupy a worker until the measuring process unlocks the gate, a file that it has locked."""
    import fcntl

    announce(path)
    with open(gate, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    return os.getpid()


def spin(path: str, seconds: float) -> int:
    """Keep a worker busy with a pure-Python loop."""
    announce(path)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return os.getpid()


def spin_in_c(path: str, additions: int) -> int:
    """Keep a worker busy in one C call that holds the GIL and never looks at signals."""
    announce(path)
    return sum(itertools.repeat(1, additions))


def positions(seed: int, length: int) -> list[int]:
    """Return where an array of ``length`` elements is rewritten for ``seed``.

    The first element of a page is never among them: those stay as they are.
    """
    places = [(seed * 7919 + number * 3246599) % length for number in range(SAMPLES)]
    return [place + 1 if place % PAGE == 0 else place for place in places]


def stamp(array: Array, seed: int) -> float:
    """Rewrite some elements of the array, and return the sum that its reader must find."""
    places = positions(seed, array.size)
    array[places] = [float(seed % 65536 + number) for number in range(SAMPLES)]
    return _sum(array, places)


def read_sum(array: Array, seed: int) -> float:
    """Read every page of an array and what ``stamp`` wrote, and write to it once.

    The array must be writable, as from the standard pool; and a pool that only maps the bytes
    pays for that here, as it would in a task that uses them.
    """
    places = positions(seed, array.size)
    total = _sum(array, places)
    array[places[0]] += 1.0
    return total


def _sum(array: Array, places: list[int]) -> float:
    # Whole numbers below 2**53: the sum is exact in any order.
    return float(array[places].sum() + array[::PAGE].sum())


def make_array(length: int, seed: int) -> Array:
    """Answer with an array that is kept between calls, with new contents in some places."""
    import numpy

    if length not in _kept:
        _kept.clear()
        _kept[length] = numpy.arange(length, dtype=numpy.float64)
    array = _kept[length]
    stamp(array, seed)
    return array
