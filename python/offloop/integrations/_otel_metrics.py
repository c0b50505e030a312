"""The metrics of OpenTelemetry: what loops, calls and workers do, read when they are exported.

Units:      seconds, bytes, and counts in braces, as the conventions have them.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from _offloop_worker._offloop import watched_loops
from offloop import _state
from offloop._loop.event_loop import EventLoop
from offloop._loop.statistics import LagHistogram, LoopStatistics

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

__all__ = ["Instruments", "RecentLag"]

DURATION_EDGES_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Ends of the buckets of durations, for providers whose views say nothing else."""

Rows = Iterable[tuple[float, Mapping[str, str]]]
"""Values, each with its attributes."""

OUTCOMES = ("completed", "cancelled", "expired", "crashed", "dropped", "broken")
EVENTS = {
    "starts": "start",
    "restarts": "restart",
    "start_failures": "start_failure",
    "kills": "kill",
    "crashes": "crash",
    "ends": "end",
}
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
RECENT_SECONDS_MIN = 50.0
"""How far back lag is told at least; less than the minute between exports that is usual."""
APART_SECONDS_MIN = 1.0
"""How far apart looks are that are kept: there are about fifty of them."""


class Instruments:
    """The instruments of one meter."""

    def __init__(self, meter: Meter) -> None:
        self._is_on = True
        self._lags: weakref.WeakKeyDictionary[EventLoop, RecentLag] = weakref.WeakKeyDictionary()
        self._meter = meter
        self._stall_duration = meter.create_histogram(
            "offloop.stall.duration",
            "s",
            "For how long event loops were blocked.",
            explicit_bucket_boundaries_advisory=DURATION_EDGES_SECONDS,
        )
        self._call_duration = meter.create_histogram(
            "offloop.call.duration",
            "s",
            "Calls in processes and threads, from submission to outcome.",
            explicit_bucket_boundaries_advisory=DURATION_EDGES_SECONDS,
        )
        self._add_loops()
        self._add_calls()
        self._add_workers()

    def stall(self, seconds: float, attributes: Mapping[str, str]) -> None:
        """A stall is over."""
        self._stall_duration.record(seconds, attributes)

    def call(self, seconds: float, attributes: Mapping[str, str]) -> None:
        """A call is over."""
        self._call_duration.record(seconds, attributes)

    def stop(self) -> None:
        """Tell nothing any more."""
        self._is_on = False

    def _add_loops(self) -> None:
        each = self._each_loop
        self._gauge("offloop.loop.lag", "s", "Lag of about the last minute.", self._lag)
        self._gauge(
            "offloop.loop.utilization",
            "1",
            "The share of the last ten seconds for which the loop did not wait.",
            lambda: each(lambda now: now.utilisation_10s),
        )
        self._growing("offloop.loop.time", "s", "Time of the loop.", self._times)
        self._growing(
            "offloop.loop.callbacks",
            "{callback}",
            "Callbacks that the loop has run.",
            lambda: each(lambda now: now.callbacks),
        )
        self._sum(
            "offloop.loop.connections",
            "{connection}",
            "Stream connections that are open.",
            lambda: each(lambda now: now.connections),
        )

    def _add_calls(self) -> None:
        def outcomes() -> Rows:
            calls = _state.snapshot().calls
            for outcome in OUTCOMES:
                yield getattr(calls, outcome), {"offloop.call.outcome": outcome}

        def active() -> Rows:
            calls = _state.snapshot().calls
            yield calls.queued, {"offloop.call.state": "queued"}
            yield calls.prefetched, {"offloop.call.state": "prefetched"}
            yield calls.running, {"offloop.call.state": "running"}

        self._growing("offloop.calls", "{call}", "Calls of processes that ended.", outcomes)
        self._sum("offloop.call.active", "{call}", "Calls that did not end.", active)

    def _add_workers(self) -> None:
        def workers() -> Rows:
            states = dict.fromkeys(("starting", "idle", "busy", "ending"), 0)
            for fleet in _state.snapshot().fleets:
                for worker in fleet.workers:
                    if worker.state in states:
                        states[worker.state] += 1
            for state, count in states.items():
                yield count, {"offloop.worker.state": state}

        def events() -> Rows:
            counts = _state.snapshot().events
            for name, event in EVENTS.items():
                yield getattr(counts, name), {"offloop.worker.event": event}

        def arena() -> Rows:
            yield _state.snapshot().arena.bytes_in_use, {}

        self._sum("offloop.workers", "{worker}", "Worker processes.", workers)
        self._growing("offloop.worker.events", "{event}", "What happened to workers.", events)
        self._sum("offloop.arena.usage", "By", "Shared memory of arguments in use.", arena)

    # What is read when it is exported.

    def _each_loop(self, value: Callable[[LoopStatistics], float]) -> Rows:
        for loop, attributes in self._loops():
            yield value(loop.statistics()), attributes

    def _loops(self) -> Iterator[tuple[EventLoop, dict[str, str]]]:
        for number, loop in watched_loops():
            if isinstance(loop, EventLoop) and not loop.is_closed():
                yield loop, {"offloop.loop.number": str(number)}

    def _times(self) -> Rows:
        for loop, attributes in self._loops():
            now = loop.statistics()
            yield now.busy_seconds, {**attributes, "offloop.loop.state": "busy"}
            idle = max(0.0, now.running_seconds - now.busy_seconds)
            yield idle, {**attributes, "offloop.loop.state": "idle"}

    def _lag(self) -> Rows:
        for loop, attributes in self._loops():
            recent = self._lags.setdefault(loop, RecentLag())
            for name, seconds in recent.read(loop.statistics().lag, time.monotonic()):
                yield seconds, {**attributes, "offloop.loop.quantile": name}

    # How it is read.

    def _callback(self, read: Callable[[], Rows]) -> Callable[[CallbackOptions], list[Observation]]:
        from opentelemetry.metrics import Observation

        def observe(options: CallbackOptions) -> list[Observation]:
            if not self._is_on:
                return []
            return [Observation(value, dict(attributes)) for value, attributes in read()]

        return observe

    def _gauge(self, name: str, *described: Any) -> None:
        unit, text, read = described
        self._meter.create_observable_gauge(name, [self._callback(read)], unit, text)

    def _growing(self, name: str, *described: Any) -> None:
        unit, text, read = described
        self._meter.create_observable_counter(name, [self._callback(read)], unit, text)

    def _sum(self, name: str, *described: Any) -> None:
        unit, text, read = described
        self._meter.create_observable_up_down_counter(name, [self._callback(read)], unit, text)


class RecentLag:
    """What was measured in about the last minute, of a histogram that only grows.

    A reader takes nothing from another one: its look only adds a time to count from.

    Threads:    those of all readers.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: deque[tuple[float, dict[float, int]]] = deque()

    def read(self, lag: LagHistogram, now: float) -> Iterator[tuple[str, float]]:
        """Quantiles and the maximum, by the ends of the buckets.

        They are of what came since the last look that is `RECENT_SECONDS_MIN` old; of everything,
        if none is.
        """
        known = self._known(dict(lag.buckets), now)
        fresh = [(end, count - known.get(end, 0)) for end, count in lag.buckets]
        fresh = [(min(end, lag.max), count) for end, count in fresh if count > 0]
        total = sum(count for _, count in fresh)
        if not total:
            return
        for name, share in QUANTILES.items():
            yield name, _quantile(fresh, share * total)
        yield "max", fresh[-1][0]

    def _known(self, counts: dict[float, int], now: float) -> dict[float, int]:
        """What was counted before the time that is told; these counts are kept for later."""
        with self._lock:
            looks = self._looks
            if not looks or now - looks[-1][0] >= APART_SECONDS_MIN:
                looks.append((now, counts))
            while len(looks) > 1 and now - looks[1][0] >= RECENT_SECONDS_MIN:
                looks.popleft()
            at, known = looks[0]
            return known if now - at >= RECENT_SECONDS_MIN else {}


def _quantile(buckets: list[tuple[float, int]], rank: float) -> float:
    below = 0
    for end, count in buckets:
        below += count
        if below >= rank:
            return end
    return buckets[-1][0]
