"""How much of a loop's turn file operations may use before they let other tasks run.

An operation that finds its data in memory ends without waiting, so a task that reads in a loop
would never let go. What operations cost is counted, and the task that finds the share used up waits
for the next turn before its next operation. Loops in several threads share the count; it makes them
let go a little earlier.
"""

from __future__ import annotations

import asyncio

__all__ = ["OPENING_BYTES", "OPERATION_BYTES", "Share", "share"]

SHARE_BYTES = 256 * 1024
"""Bytes copied, or work that costs as much, in one turn: about half a millisecond at most."""

OPERATION_BYTES = 2 * 1024
"""What an operation costs besides its bytes: a few microseconds."""

OPENING_BYTES = 8 * 1024
"""What opening and closing a file costs: ten to twenty microseconds."""


class Share:
    """What operations have used of their share."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def is_used_up(self) -> bool:
        """Whether the next operation should wait for another turn."""
        return self.used >= SHARE_BYTES

    async def renew(self) -> None:
        """Let the loop's other callbacks run, and begin a new share."""
        self.used = 0
        await asyncio.sleep(0)


share = Share()
