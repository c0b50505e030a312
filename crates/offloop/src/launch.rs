//! What a worker is started with.
//!
//! Workers that were started alike are interchangeable: lanes whose launches are equal share one
//! fleet, and so its warm workers. Everything that could make two workers differ is in here.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use offloop_core::limits;
use offloop_sys::process::Program;

/// The start-up of a fleet's workers.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program of the zygote, which forks the workers.
    pub program: Program,
    /// Bytes that the program gets first: what to import, how to initialise.
    pub setup: Vec<u8>,
    /// Descriptors that travel with `setup`, for arguments that pass only by inheritance.
    pub inherited: Arc<Vec<OwnedFd>>,
    /// The first of the descriptors, the same for all pools: the line to the resource tracker.
    pub tracker: Option<Arc<OwnedFd>>,
    /// The newest of the program's surroundings that `setup` knows; 0 for those it began with.
    pub surroundings: u32,
    /// Calls after which a worker is replaced.
    pub tasks_per_worker_max: Option<u32>,
}

/// A fleet to be: how its workers start, and how long one may take for it.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// The start-up of its workers.
    pub launch: Launch,
    /// From a worker's fork until it takes calls, its initializer included; 300 s unless set. A
    /// worker that takes longer is killed, and its start counts as failed.
    pub start_timeout: Duration,
    /// Whether its program runs an initializer in each worker. If so, the start of a worker that is
    /// not needed any more, when the last lane is closed and drained, is ended.
    pub initializes: bool,
}

impl From<Launch> for FleetConfig {
    fn from(launch: Launch) -> Self {
        Self {
            launch,
            start_timeout: limits::START_TIMEOUT,
            initializes: false,
        }
    }
}

impl Launch {
    /// Whether workers of the two launches can take each other's place. Inherited descriptors
    /// belong to one lane, so launches that have them are never the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_alike(other) && self.inherited.is_empty() && other.inherited.is_empty()
    }

    /// Whether the two say the same, for launches of one lane.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        self.program == other.program
            && self.setup == other.setup
            && self.tasks_per_worker_max == other.tasks_per_worker_max
    }
}
