"""Counts of a pool at one moment."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PoolStatistics"]


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """What a pool is doing and has done; an immutable record of one moment.

    Attributes:
        workers: worker processes that serve the pool now.
        queued: calls that no worker holds yet.
        prefetched: calls that a worker holds in advance and has not started.
        running: calls that run.
        submitted, completed, cancelled, expired, crashed: calls since the pool was made.
        retried: starts beyond the first, after a worker ended under a call.
    """

    workers: int = 0
    queued: int = 0
    prefetched: int = 0
    running: int = 0
    submitted: int = 0
    completed: int = 0
    cancelled: int = 0
    expired: int = 0
    crashed: int = 0
    retried: int = 0
