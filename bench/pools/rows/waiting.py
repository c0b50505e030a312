"""What several rows need: when a task began, holding workers, waiting with a bound."""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Started:
    """Which process began a task, and when, on the clock of ``time.monotonic_ns``."""

    pid: int
    at_ns: int


class Gate:
    """What ``work.hold_until`` waits at: as long as it is closed, its workers are occupied."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._file = path.open("wb")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def open(self) -> None:
        """Let every task through; copies of the descriptor in forked workers do not matter."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()


async def wait_started(path: Path, seconds: float) -> Started | None:
    """Wait until a task has announced itself in this file; None when it did not in time."""
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            return None
        await asyncio.sleep(0.001)
    pid, at_ns = path.read_text(encoding="ascii").split()
    return Started(int(pid), int(at_ns))


async def settled(futures: Sequence[asyncio.Future[Any]], seconds: float) -> int:
    """Wait for all outcomes with a bound; return how many there are."""
    done, _ = await asyncio.wait(futures, timeout=seconds)
    for future in done:
        if not future.cancelled():
            # Looked at here, so that asyncio does not warn that it never was.
            future.exception()
    return len(done)
