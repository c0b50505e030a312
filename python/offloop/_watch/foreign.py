"""Watches loops that are not ours: the standard library's, uvloop, and any other one.

A loop announces itself to asyncio when it begins to run in a thread and when it ends;
`Announcements` hears of that while the watch is on. A loop with a selector tells its rounds: a
method of that one selector is replaced (`watch/selecting.rs`). Any other loop has a timer that
fires four times within the threshold.

Invariants: a loop that does not run is not watched, and has nothing of ours scheduled. While the
            watch is off a loop that runs has nothing of ours scheduled after its next beat.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import sys
import weakref
from collections.abc import Callable
from typing import Any

from _offloop_worker._offloop import BlockedTime, Heartbeat, TaskEnds, WatchedSelect
from offloop._loop.event_loop import EventLoop
from offloop._watch.hooks import Front, hear_announcements, stand_in_front
from offloop._watch.per_loop import PerLoop

__all__ = ["Announcements"]

BEATS_PER_THRESHOLD = 4
"""A stall that begins between two beats is found at most this part of the threshold late."""


Idle = Callable[[asyncio.AbstractEventLoop, bool], float | None]
"""Called with a loop that has nothing to do, and whether that is for ever. Returns in how many
seconds it is to be called again, if that matters."""

_ROUND: Any = asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]


def _tells_rounds(selector: Any) -> bool:
    """Whether the method that asks what is ready can be replaced."""
    return callable(getattr(selector, "select", None)) and hasattr(selector, "__dict__")


def _is_to_beat(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a timer tells of a loop without a selector: one of Python's may have its own time."""
    return not isinstance(loop, asyncio.BaseEventLoop)


def _is_plain(loop: asyncio.AbstractEventLoop, selector: Any) -> bool:
    """Whether a shorter wait changes nothing: for the loop it is a round without events."""
    return (
        isinstance(loop, asyncio.BaseEventLoop)
        and type(loop)._run_once is _ROUND  # type: ignore[attr-defined]
        and type(loop).time is asyncio.BaseEventLoop.time
        and type(selector).__module__ == selectors.__name__
        and "select" not in vars(selector)
    )


def _due_in(reference: weakref.ref[Any]) -> float | None:
    """For how long a loop may wait, by its own lists."""
    loop = reference()
    if loop is None or loop._ready:
        return 0
    if loop._scheduled:
        return max(0, loop._scheduled[0].when() - loop.time())  # type: ignore[no-any-return]
    return None


class _Rounds:
    """Tells the rounds of a loop with a selector, and when it has nothing else to do."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        heartbeat: Heartbeat,
        idle: Idle,
        selector: Any,
        ends: TaskEnds | None,
    ) -> None:
        self._heartbeat = heartbeat
        self.loop = weakref.ref(loop)
        look = None
        if _is_plain(loop, selector):
            due_in = functools.partial(_due_in, self.loop)
            look = (idle, due_in, selector.get_map, _ROUND.__code__)
        self._select = WatchedSelect(heartbeat, selector.select, look)
        if ends is not None:
            self.look_through(ends)
        self._front = Front(selector, "select", self._select)
        self._heartbeat.runs_here()

    def look_through(self, ends: TaskEnds) -> None:
        """Look at the end of each round which tasks are over."""
        self._select.look_through(ends)

    def stop(self) -> None:
        """Tell nothing any more. What covers this may stay: it is passed through."""
        self._heartbeat.waits()
        self._select.stop()
        self._front.step_aside()


class _Beats:
    """Has a loop without a selector beat, as often as `seconds` says; None ends it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        heartbeat: Heartbeat,
        idle: Idle,
        seconds: Callable[[], float | None],
        ends: TaskEnds | None,
    ) -> None:
        self._heartbeat = heartbeat
        self._ends = ends
        self._idle = idle
        self.loop: Callable[[], asyncio.AbstractEventLoop | None] = weakref.ref(loop)
        self._call_later = loop.call_later
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None
        self._rests = 0.0
        self._heartbeat.runs_here()
        self._go_on()

    def _go_on(self) -> None:
        seconds = self._seconds()
        if seconds is None:
            self.stop()
        else:
            self._rests = seconds
            self._handle = self._call_later(seconds, self._beat)

    def _beat(self) -> None:
        self._heartbeat.beats(self._rests)
        if self._ends is not None:
            self._ends.look()
        self._heartbeat.looks_idle(self._idle)
        self._go_on()

    def look_through(self, ends: TaskEnds) -> None:
        """Look at each beat which tasks are over."""
        self._ends = ends

    def stop(self) -> None:
        """Beat no more. The loop beats again when it next begins to run."""
        self._heartbeat.ends_beating(self._rests)
        self.loop = _no_loop
        if self._handle is not None:
            self._handle.cancel()


def _no_loop() -> None:
    """Like a reference to a loop that is gone."""


class Announcements:
    """Hears of the loops that begin to run, and of those that end."""

    def __init__(self, idle: Idle) -> None:
        self.begun = 0
        """How often a loop has begun to run."""
        self.unwatched: str | None = None
        """The class of the last loop that cannot be watched, if there was one."""
        self._idle = idle
        self._heartbeats: PerLoop[Heartbeat] = PerLoop()
        self._ends: PerLoop[TaskEnds] = PerLoop()
        self._seconds: float | None = None
        self._watched: dict[int, _Rounds | _Beats] = {}
        self._fronts: list[Front] = []

    def set_threshold(self, threshold: float) -> None:
        """Loops beat by this, from their next beat on."""
        self._seconds = threshold / BEATS_PER_THRESHOLD

    def blocked_time(self, loop: asyncio.AbstractEventLoop | None) -> BlockedTime | None:
        """Measures for how long a loop is blocked from now on; None if it is not watched."""
        watched = self._watched.get(id(loop))
        return None if watched is None else watched._heartbeat.blocked_time()

    def look_through(self, loop: asyncio.AbstractEventLoop, ends: TaskEnds) -> bool:
        """Have a loop look which of its tasks are over; whether it can do that."""
        self._ends.set(loop, ends)
        watched = self._watched.get(id(loop))
        if watched is not None and watched.loop() is loop:
            watched.look_through(ends)
        return _tells_rounds(getattr(loop, "_selector", None)) or _is_to_beat(loop)

    def install(self) -> None:
        """Stand between the loops and asyncio's record of the running one."""
        running = asyncio._get_running_loop()
        if isinstance(running, EventLoop):
            # The callback that turns the watch on may be the one that blocks.
            running._join_watch()
        if self._fronts:
            return
        self._fronts += hear_announcements(self._announced)
        uvloop = sys.modules.get("uvloop")
        if uvloop is not None:
            # It keeps the function that it found when it was imported.
            self._fronts.append(stand_in_front(uvloop.Loop, "run_forever", self._run))
        if running is not None:
            self._begin(running)

    def remove(self) -> None:
        """Leave the loops alone. Those with selectors tell on, and no watch hears it."""
        self._seconds = None
        fronts, self._fronts = self._fronts, []
        for front in reversed(fronts):
            front.step_aside()
        running = asyncio._get_running_loop()
        if running is not None:
            self._end(running)

    def _run(self, run_forever: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._begin(loop)
        try:
            run_forever()
        finally:
            self._end(loop)

    def _announced(self, loop: asyncio.AbstractEventLoop | None) -> None:
        leaving = asyncio._get_running_loop()
        if leaving is not None and leaving is not loop:
            self._end(leaving)
        if loop is not None:
            self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        known = self._watched.get(id(loop))
        is_known = known is not None and known.loop() is loop
        self.begun += 1
        if not self._fronts or isinstance(loop, EventLoop) or is_known:
            return
        selector = getattr(loop, "_selector", None)
        ends = self._ends.get(loop)
        if _tells_rounds(selector):
            heartbeat = self._heartbeat_of(loop)
            self._watched[id(loop)] = _Rounds(loop, heartbeat, self._idle, selector, ends)
        elif _is_to_beat(loop):
            heartbeat = self._heartbeat_of(loop)
            beats = _Beats(loop, heartbeat, self._idle, lambda: self._seconds, ends)
            self._watched[id(loop)] = beats
        else:
            self.unwatched = type(loop).__qualname__

    def _heartbeat_of(self, loop: asyncio.AbstractEventLoop) -> Heartbeat:
        heartbeat = self._heartbeats.get(loop)
        if heartbeat is None:
            heartbeat = Heartbeat(loop)
            self._heartbeats.set(loop, heartbeat)
        return heartbeat

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        watched = self._watched.pop(id(loop), None)
        if watched is not None:
            watched.stop()
