//! For how long a loop was blocked while a request was served.
//!
//! Units:      seconds in Python.
//! Threads:    the loop's.

use std::sync::Arc;
use std::time::Duration;

use offloop::watch::{Moment, Pulse};
use offloop_sys::clock::{TickScale, ticks};
use pyo3::prelude::*;

/// For how long a loop was blocked since this was made.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct BlockedTime {
    pulse: Arc<Pulse>,
    since: Moment,
    /// Ticks: shorter rounds block nothing.
    limit: u64,
}

impl BlockedTime {
    pub(crate) fn begin(pulse: &Arc<Pulse>, limit: u64) -> Self {
        Self {
            pulse: Arc::clone(pulse),
            since: pulse.moment(ticks()),
            limit,
        }
    }
}

#[pymethods]
impl BlockedTime {
    /// Seconds that belong to rounds which took longer than the watch's threshold.
    fn seconds(&self) -> f64 {
        let blocked = self.pulse.blocked_since(&self.since, ticks(), self.limit);
        Duration::from_nanos(TickScale::measure().nanoseconds(blocked)).as_secs_f64()
    }
}
