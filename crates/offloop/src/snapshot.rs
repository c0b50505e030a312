//! The records of a snapshot: what the runtime's parts are doing at one moment.
//!
//! They hold numbers and names, and nothing that keeps a worker or a lane alive.

use std::sync::Arc;

use offloop_core::{Instant, LaneStatistics};

use crate::fault::Fault;
use crate::journal::EventCounts;

/// The runtime at one moment; all of it but the arena was true at once.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By their numbers.
    pub fleets: Vec<FleetSnapshot>,
    /// By their indices; the first one is the resolver.
    pub owners: Vec<OwnerSnapshot>,
    /// Shared memory of arguments.
    pub arena: ArenaSnapshot,
    /// Lanes that were opened since the runtime exists.
    pub lanes_opened: u64,
    /// The sum over all lanes, including those that have ended.
    pub calls: LaneStatistics,
    /// How often each thing happened.
    pub events: EventCounts,
    /// The number of the journal's last entry; 0 before the first.
    pub last_event: u64,
    /// Why the supervisor has failed; `None` while it runs.
    pub failed: Option<Arc<Fault>>,
}

/// Workers that were started alike.
#[derive(Clone, Debug)]
pub struct FleetSnapshot {
    /// No other fleet has it.
    pub number: u32,
    /// The process that forks its workers, while there is one.
    pub zygote_pid: Option<i32>,
    /// In the order of their opening.
    pub lanes: Vec<LaneSnapshot>,
    /// Workers that have a process.
    pub workers: Vec<WorkerSnapshot>,
    /// Workers that are not ready yet, with or without a process.
    pub starting: u32,
    /// Workers that have nothing to do.
    pub idle: u32,
    /// Calls that no worker holds.
    pub queued: usize,
    /// The program is not any more what it was when its workers began.
    pub outdated: bool,
    /// Why its workers cannot be started, for as long as none has been since.
    pub broken: Option<Arc<Fault>>,
}

/// One queue of calls in a fleet.
#[derive(Clone, Copy, Debug)]
pub struct LaneSnapshot {
    /// Whether it takes calls.
    pub open: bool,
    /// What it has done in this fleet, and is doing.
    pub statistics: LaneStatistics,
}

/// One worker process.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSnapshot {
    /// Its process id.
    pub pid: i32,
    /// Where it is in its life.
    pub state: WorkerState,
    /// Calls that it has started and not completed, and those that it holds in advance.
    pub calls: usize,
    /// The call that it runs.
    pub running: Option<RunningCall>,
}

/// A call that a worker has started and not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningCall {
    /// The name of the call that its owner has given.
    pub token: u64,
    /// When the worker started it.
    pub started: Instant,
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It has a process, and is not ready.
    Starting,
    /// It is ready, and holds no call.
    Idle,
    /// It holds calls.
    Busy,
    /// It was asked to exit, or killed.
    Ending,
    /// Its process has ended, and its status is awaited.
    Ended,
}

/// One owner, which fetches the outcomes of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerSnapshot {
    /// 0 is the resolver.
    pub index: u8,
    /// The owner is held.
    pub open: bool,
    /// Its calls that are not over.
    pub unfinished: u64,
    /// Notices that it has not fetched.
    pub notices: usize,
}

/// Shared memory of arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaSnapshot {
    /// Bytes of blocks that are in use.
    pub bytes_in_use: u64,
    /// Bytes of memory that it takes from the system; `None` when the system does not say.
    pub bytes_backed: Option<u64>,
    /// The most that may be in use.
    pub bytes_max: u64,
}
