"""What an event loop has counted of itself, at one moment."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LagHistogram", "LoopStatistics"]


@dataclass(frozen=True, slots=True)
class LagHistogram:
    """How long something had to wait for the loop; an immutable record. All times are seconds.

    Attributes:
        count: how many times were measured.
        total: their sum.
        p50, p90, p99: what half, nine tenths, and all but a hundredth did not exceed; never less
            than the exact value, and more by a sixteenth or 64 ns at most. Zero if count is.
        max: the longest, exactly.
        buckets: pairs of a bucket's upper edge and the count of times in it, in order, without
            empty buckets. The edges are the same in every process; times beyond 18 minutes share a
            bucket with an infinite edge.
    """

    count: int = 0
    total: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    buckets: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LoopStatistics:
    """What an event loop has done and is doing; an immutable record of one moment.

    Attributes:
        lag: for how long the loop did not poll, because it ran callbacks or waited for the GIL.
            What became ready meanwhile waited as long. One measurement from each poll to the next,
            without the time that the poll waits.
        timer_lag: how much later than its time each timer's callback was queued; empty while
            ``loop.time`` is not the loop's own.
        utilisation: the share of its running time for which the loop did not wait, from 0 to 1.
        utilisation_1s, utilisation_10s: the same for the last second and for the last ten, give or
            take an eighth of a second.
        busy_seconds: the time for which it did not wait.
        running_seconds: the time for which it ran.
        rounds: rounds of the loop.
        callbacks: handles that had their turn, including cancelled ones.
        polls: how often the kernel was asked what is ready.
        timers_fired: timers that came due.
        wakeups: how often another thread ended the loop's wait.
        connections_made: stream connections, accepted or made.
        bytes_received, bytes_sent: on stream connections, as they are on the wire.
        ready: handles that are ready to run now.
        ready_max: the most that were ready when a round began.
        timers: timers that are scheduled now.
        descriptors: file descriptors that are watched now, one of them by the loop for itself.
        connections: stream connections that are open now.
    """

    lag: LagHistogram = LagHistogram()
    timer_lag: LagHistogram = LagHistogram()
    utilisation: float = 0.0
    utilisation_1s: float = 0.0
    utilisation_10s: float = 0.0
    busy_seconds: float = 0.0
    running_seconds: float = 0.0
    rounds: int = 0
    callbacks: int = 0
    polls: int = 0
    timers_fired: int = 0
    wakeups: int = 0
    connections_made: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    ready: int = 0
    ready_max: int = 0
    timers: int = 0
    descriptors: int = 0
    connections: int = 0
