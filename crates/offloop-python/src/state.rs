//! The runtime's state as Python sees it: records and counts, each value under its name.
//!
//! What is returned are dictionaries, of which `python/offloop/_state.py` makes immutable records;
//! a name that is not a field there, or the other way round, is an error at the first look.

use std::sync::Arc;

use offloop::{
    ArenaSnapshot, Entry, Event, EventCounts, Fault, FleetSnapshot, OwnerSnapshot, WorkerSnapshot,
    WorkerState,
};
use pyo3::prelude::*;

use crate::error::exit;
use crate::home::existing_home;
use crate::watch::StallFields;

/// `LaneStatistics` of Python.
#[derive(IntoPyObject)]
pub(crate) struct LaneStatistics {
    workers: u32,
    queued: u32,
    prefetched: u32,
    running: u32,
    bytes: u64,
    submitted: u64,
    completed: u64,
    cancelled: u64,
    expired: u64,
    crashed: u64,
    dropped: u64,
    broken: u64,
    retried: u64,
    run_mean_seconds: Option<f64>,
}

impl From<offloop::LaneStatistics> for LaneStatistics {
    fn from(lane: offloop::LaneStatistics) -> Self {
        Self {
            workers: lane.workers,
            queued: lane.queued,
            prefetched: lane.prefetched,
            running: lane.running,
            bytes: lane.bytes,
            submitted: lane.submitted,
            completed: lane.completed,
            cancelled: lane.cancelled,
            expired: lane.expired,
            crashed: lane.lost,
            dropped: lane.dropped,
            broken: lane.broken,
            retried: lane.retried,
            run_mean_seconds: lane.run_mean.map(|mean| mean.as_secs_f64()),
        }
    }
}

/// `Snapshot` of Python.
#[derive(IntoPyObject)]
pub(crate) struct Snapshot {
    fleets: Vec<Fleet>,
    owners: Vec<Owner>,
    arena: Arena,
    lanes_opened: u64,
    calls: LaneStatistics,
    events: Counts,
    last_event: u64,
    failed: Option<String>,
}

#[derive(IntoPyObject)]
struct Fleet {
    number: u32,
    zygote_pid: Option<i32>,
    lanes: Vec<Lane>,
    workers: Vec<Worker>,
    starting: u32,
    idle: u32,
    queued: usize,
    outdated: bool,
    broken: Option<String>,
}

#[derive(IntoPyObject)]
struct Lane {
    open: bool,
    statistics: LaneStatistics,
}

#[derive(IntoPyObject)]
struct Worker {
    pid: i32,
    state: &'static str,
    calls: usize,
}

#[derive(IntoPyObject)]
struct Owner {
    index: u8,
    open: bool,
    unfinished: u64,
    notices: usize,
}

#[derive(IntoPyObject)]
struct Arena {
    bytes_in_use: u64,
    bytes_backed: Option<u64>,
    bytes_max: u64,
}

#[derive(IntoPyObject)]
struct Counts {
    starts: u64,
    restarts: u64,
    start_failures: u64,
    kills: u64,
    ends: u64,
    crashes: u64,
    stalls: u64,
    loop_stalls: u64,
}

/// What the runtime of this process is doing now; all zero before there is one.
#[pyfunction]
pub(crate) fn snapshot() -> Snapshot {
    let found = existing_home().map(|home| home.runtime.snapshot());
    let found = found.unwrap_or_default();
    let ArenaSnapshot {
        bytes_in_use,
        bytes_backed,
        bytes_max,
    } = found.arena;
    Snapshot {
        fleets: found.fleets.into_iter().map(fleet).collect(),
        owners: found.owners.into_iter().map(owner).collect(),
        arena: Arena {
            bytes_in_use,
            bytes_backed,
            bytes_max,
        },
        lanes_opened: found.lanes_opened,
        calls: found.calls.into(),
        events: counts(found.events),
        last_event: found.last_event,
        failed: text(found.failed.as_ref()),
    }
}

fn fleet(fleet: FleetSnapshot) -> Fleet {
    let lane = |lane: offloop::LaneSnapshot| Lane {
        open: lane.open,
        statistics: lane.statistics.into(),
    };
    Fleet {
        number: fleet.number,
        zygote_pid: fleet.zygote_pid,
        lanes: fleet.lanes.into_iter().map(lane).collect(),
        workers: fleet.workers.into_iter().map(worker).collect(),
        starting: fleet.starting,
        idle: fleet.idle,
        queued: fleet.queued,
        outdated: fleet.outdated,
        broken: text(fleet.broken.as_ref()),
    }
}

fn worker(worker: WorkerSnapshot) -> Worker {
    let state = match worker.state {
        WorkerState::Starting => "starting",
        WorkerState::Idle => "idle",
        WorkerState::Busy => "busy",
        WorkerState::Ending => "ending",
        WorkerState::Ended => "ended",
    };
    Worker {
        pid: worker.pid,
        state,
        calls: worker.calls,
    }
}

fn owner(owner: OwnerSnapshot) -> Owner {
    Owner {
        index: owner.index,
        open: owner.open,
        unfinished: owner.unfinished,
        notices: owner.notices,
    }
}

fn counts(counts: EventCounts) -> Counts {
    Counts {
        starts: counts.starts,
        restarts: counts.restarts,
        start_failures: counts.start_failures,
        kills: counts.kills,
        ends: counts.ends,
        crashes: counts.crashes,
        stalls: counts.stalls,
        loop_stalls: counts.loop_stalls,
    }
}

fn text(fault: Option<&Arc<Fault>>) -> Option<String> {
    fault.map(ToString::to_string)
}

/// `Events` of Python.
#[derive(IntoPyObject)]
pub(crate) struct Events {
    missed: u64,
    events: Vec<Happening>,
}

/// `Event` of Python: what its kind does not have is None.
#[derive(IntoPyObject, Default)]
struct Happening {
    number: u64,
    /// On Python's `time.monotonic`.
    at_seconds: f64,
    kind: &'static str,
    fleet: Option<u32>,
    pid: Option<i32>,
    replaces: Option<i32>,
    in_call: Option<bool>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    stderr_tail: Option<String>,
    reason: Option<String>,
    dropped: Option<u64>,
    threads: Option<u32>,
    stall: Option<StallFields>,
}

/// What the journal says after its entry `number`; 0 for all that is kept.
#[pyfunction]
pub(crate) fn events_after(number: u64) -> Events {
    let found = existing_home().map(|home| home.runtime.events_after(number));
    let found = found.unwrap_or_default();
    Events {
        missed: found.missed,
        events: found.entries.into_iter().map(happening).collect(),
    }
}

fn happening(entry: Entry) -> Happening {
    let at = std::time::Duration::from_nanos(entry.at.as_nanos());
    Happening {
        number: entry.number,
        at_seconds: at.as_secs_f64(),
        ..what(entry.event)
    }
}

fn what(event: Event) -> Happening {
    let of_worker = |kind, fleet, pid| Happening {
        kind,
        fleet: Some(fleet),
        pid: Some(pid),
        ..Happening::default()
    };
    let of = |kind, fleet| Happening {
        kind,
        fleet,
        ..Happening::default()
    };
    match event {
        Event::Start { fleet, pid } => of_worker("start", fleet, pid),
        Event::Restart {
            fleet,
            pid,
            replaces,
        } => Happening {
            replaces: Some(replaces),
            ..of_worker("restart", fleet, pid)
        },
        Event::StartFailure { fleet, fault } => Happening {
            reason: text(fault.as_ref()),
            ..of("start_failure", Some(fleet))
        },
        Event::Kill { fleet, pid } => of_worker("kill", fleet, pid),
        Event::End { fleet, pid } => of_worker("end", fleet, pid),
        Event::Crash {
            fleet,
            crash,
            in_call,
        } => {
            let (exit_code, signal) = exit(crash.status);
            Happening {
                in_call: Some(in_call),
                exit_code,
                signal,
                stderr_tail: Some(crash.stderr_tail.clone()),
                reason: crash.fault.as_ref().map(ToString::to_string),
                ..of_worker("crash", fleet, crash.pid)
            }
        }
        Event::Drop { fleet, dropped } => Happening {
            dropped: Some(dropped),
            ..of("drop", Some(fleet))
        },
        Event::Stall { threads } => Happening {
            threads: Some(threads),
            ..of("stall", None)
        },
        Event::LoopStall { told } => Happening {
            stall: Some(StallFields::of(&told)),
            ..of("loop_stall", None)
        },
        Event::Failure { fault } => Happening {
            reason: text(Some(&fault)),
            ..of("failure", None)
        },
        Event::StderrFailure { fault } => Happening {
            reason: Some(fault.to_string()),
            ..of("stderr_failure", None)
        },
    }
}
