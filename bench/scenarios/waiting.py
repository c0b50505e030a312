"""Helpers of several scenarios: knowing when a task began, and waiting with a bound."""

from __future__ import annotations

import asyncio
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
            # Looked at here, so that asyncio does not warn that nobody did.
            future.exception()
    return len(done)
