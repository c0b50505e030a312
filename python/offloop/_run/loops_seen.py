"""Remembers what our event loops tell of themselves, for the report.

A loop is asked when it stops to run, and again at the end if it still exists. Of a program that
makes loops without end, the busiest are kept.

Invariants: no loop is kept alive; at most `LOOPS_KEPT` are remembered.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from dataclasses import dataclass

import offloop

LOOPS_KEPT = 16
"""More than a report shows, so that a loop that is made late has time to become a busy one."""


@dataclass
class SeenLoop:
    """A loop, and what it told last."""

    loop: weakref.ref[offloop.EventLoop]
    thread: str
    statistics: offloop.LoopStatistics


class LoopsSeen:
    """Every loop of ours that ran."""

    def __init__(self) -> None:
        self._seen: list[SeenLoop] = []
        self._counted: weakref.WeakSet[offloop.EventLoop] = weakref.WeakSet()
        self.count = 0

    def note(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask ``loop`` what it did, if it is one of ours."""
        if not isinstance(loop, offloop.EventLoop):
            return
        for seen in self._seen:
            if seen.loop() is loop:
                seen.statistics = loop.statistics()
                return
        if loop not in self._counted:
            self._counted.add(loop)
            self.count += 1
        thread = threading.current_thread().name
        if len(self._seen) == LOOPS_KEPT:
            self._seen.remove(min(self._seen, key=_busy_seconds))
        self._seen.append(SeenLoop(weakref.ref(loop), thread, loop.statistics()))

    def busiest(self, most: int) -> list[SeenLoop]:
        """The busiest of them, at most so many, with what they tell now."""
        for seen in self._seen:
            loop = seen.loop()
            if loop is not None:
                seen.statistics = loop.statistics()
        return sorted(self._seen, key=_busy_seconds, reverse=True)[:most]


def _busy_seconds(seen: SeenLoop) -> float:
    return seen.statistics.busy_seconds
