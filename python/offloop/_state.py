"""The one door to the runtime's state: what it does now, and what happened since a reader looked.

All are immutable records whose fields the extension fills by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from _offloop_worker import _offloop
from offloop._watch.records import Stall

__all__ = [
    "Arena",
    "Event",
    "EventCounts",
    "Events",
    "Fleet",
    "FunctionStatistics",
    "Lane",
    "LaneStatistics",
    "Owner",
    "Snapshot",
    "Worker",
    "events_after",
    "function_statistics",
    "snapshot",
]


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """What stands behind a pool is doing, and has done since it was opened."""

    workers: int
    queued: int
    prefetched: int
    running: int
    bytes: int
    submitted: int
    completed: int
    cancelled: int
    expired: int
    crashed: int
    dropped: int
    broken: int
    retried: int
    run_mean_seconds: float | None


@dataclass(frozen=True, slots=True)
class Lane:
    """One queue of calls in a fleet."""

    open: bool
    statistics: LaneStatistics


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process. It is starting, idle, busy, ending, or ended; it holds so many calls."""

    pid: int
    state: str
    calls: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """Workers that were started alike, and the lanes that share them."""

    number: int
    zygote_pid: int | None
    lanes: tuple[Lane, ...]
    workers: tuple[Worker, ...]
    starting: int
    idle: int
    queued: int
    outdated: bool
    broken: str | None


@dataclass(frozen=True, slots=True)
class Owner:
    """What fetches outcomes: the resolver, with index 0, or an event loop."""

    index: int
    open: bool
    unfinished: int
    notices: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Shared memory of arguments, in bytes."""

    bytes_in_use: int
    bytes_backed: int | None
    bytes_max: int


@dataclass(frozen=True, slots=True)
class EventCounts:
    """How often each thing happened; nothing is forgotten here.

    Attributes:
        starts: workers that became ready, those that replaced a crashed one included.
        restarts: those of them that replaced a crashed one.
        start_failures: starts that failed.
        kills: workers that were killed, for their call did not stop or they broke the protocol.
        ends: workers that ended as they were meant to.
        crashes: workers that ended although they should have gone on.
        stalls: times that a callback kept a thread and another one took over.
        loop_stalls: stalls of event loops that the watch has told.
    """

    starts: int
    restarts: int
    start_failures: int
    kills: int
    ends: int
    crashes: int
    stalls: int
    loop_stalls: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The runtime at one moment.

    Attributes:
        fleets: by their numbers.
        owners: by their indices.
        arena: shared memory of arguments.
        lanes_opened: pools that were made.
        calls: the sum over all lanes, including those that have ended.
        events: how often each thing happened.
        last_event: the number of the journal's last entry; 0 before the first.
        failed: why the supervisor has failed, or None.
    """

    fleets: tuple[Fleet, ...]
    owners: tuple[Owner, ...]
    arena: Arena
    lanes_opened: int
    calls: LaneStatistics
    events: EventCounts
    last_event: int
    failed: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the journal; what its kind does not have is None.

    Attributes:
        number: from 1, without gaps.
        at_seconds: when, on the clock of ``time.monotonic``.
        kind: start, restart, start_failure, kill, end, crash, drop, stall, loop_stall, failure or
            stderr_failure.
        fleet: the number of the worker's fleet.
        pid: the worker.
        replaces: the worker that had crashed; of a restart.
        in_call: whether it had started a call; of a crash.
        exit_code, signal: how it ended; of a crash.
        stderr_tail: the end of its standard error; of a crash.
        reason: why, as far as it is known; of a start failure, a crash, a failure of either kind.
        dropped: calls that the fleet's full queues gave up so far; of a drop.
        threads: threads that resolve, those that are kept included; of a stall.
        stall: what is known of it; of a loop_stall, once when it is found and once when it is over.
    """

    number: int
    at_seconds: float
    kind: str
    fleet: int | None
    pid: int | None
    replaces: int | None
    in_call: bool | None
    exit_code: int | None
    signal: int | None
    stderr_tail: str | None
    reason: str | None
    dropped: int | None
    threads: int | None
    stall: Stall | None


@dataclass(frozen=True, slots=True)
class Events:
    """What a reader has not seen, and how many entries were forgotten before it came."""

    missed: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class FunctionStatistics:
    """What became of the calls of one function.

    Attributes:
        name: its module and qualified name.
        calls: those that ran to their end.
        run_seconds: for how long these ran.
        stopped: those that were cancelled, expired, dropped or broken.
        crashes: those that ended with their worker.
        last_exit_code, last_signal: how the last of these workers ended.
    """

    name: str
    calls: int
    run_seconds: float
    stopped: int
    crashes: int
    last_exit_code: int | None
    last_signal: int | None

    @property
    def ended(self) -> int:
        """Calls that are over."""
        return self.calls + self.stopped + self.crashes


def snapshot() -> Snapshot:
    """What the runtime of this process is doing; all zero before the first pool is made."""
    fields: dict[str, Any] = {**_offloop.snapshot()}
    fields["fleets"] = tuple(_fleet(**fleet) for fleet in fields["fleets"])
    fields["owners"] = tuple(Owner(**owner) for owner in fields["owners"])
    fields["arena"] = Arena(**fields["arena"])
    fields["calls"] = LaneStatistics(**fields["calls"])
    fields["events"] = EventCounts(**fields["events"])
    return Snapshot(**fields)


def _fleet(lanes: list[Any], workers: list[Any], **fields: Any) -> Fleet:
    return Fleet(
        lanes=tuple(Lane(lane["open"], LaneStatistics(**lane["statistics"])) for lane in lanes),
        workers=tuple(Worker(**worker) for worker in workers),
        **fields,
    )


def events_after(number: int) -> Events:
    """What happened after the entry of this number; 0 for all that is kept."""
    found = _offloop.events_after(number)
    return Events(found["missed"], tuple(_happening({**event}) for event in found["events"]))


def _happening(fields: dict[str, Any]) -> Event:
    stall = fields.pop("stall")
    return Event(stall=None if stall is None else Stall.of(stall), **fields)


def function_statistics() -> list[FunctionStatistics]:
    """Every function that was sent to a worker, in no order."""
    return [FunctionStatistics(**row) for row in _offloop.function_statistics()]
