//! What loops publish of their load, and what of it is recorded.
//!
//! Threads: a loop's own publishes; what is published may be read by any.

use std::sync::{Arc, Mutex, PoisonError};

use offloop::loads::{Doing, LoopGauge, LoopLoads, PUBLISHED_EVERY_NS};
use offloop::recorder::What;
use offloop_core::Instant;
use offloop_core::event_loop::LoopLoad;
use offloop_sys::clock::monotonic_ns;
use offloop_sys::fork;
use offloop_sys::thread::kernel_id;
use pyo3::prelude::*;

use crate::home::existing_home;

/// A loop that goes to sleep tells of this much work at once, and of less with the next.
const UNTOLD_MAX_NS: u64 = 5_000_000;

/// The loops of this process, and which fork it is.
static LOADS: Mutex<Option<(u32, Arc<LoopLoads>)>> = Mutex::new(None);

/// The loops of this process; a forked child begins anew.
pub(crate) fn loads() -> Arc<LoopLoads> {
    let mut loads = LOADS.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = fork::generation();
    if let Some((of, loads)) = loads.as_ref()
        && *of == generation
    {
        return Arc::clone(loads);
    }
    let fresh = Arc::new(LoopLoads::default());
    // What the parent's threads may have been in the middle of is left alone.
    std::mem::forget(loads.replace((generation, Arc::clone(&fresh))));
    fresh
}

/// What a loop has published last.
struct Published {
    at: Instant,
    busy_ns: u64,
    running_ns: u64,
    doing: Doing,
}

/// The publishing end of a loop.
pub(crate) struct Publisher {
    gauge: Option<(u32, Arc<LoopGauge>)>,
    /// When it publishes again, by the clock of its load.
    due: u64,
    published: Published,
}

impl Default for Publisher {
    fn default() -> Self {
        Self {
            gauge: None,
            due: 0,
            published: Published {
                at: Instant::from_nanos(monotonic_ns()),
                busy_ns: 0,
                running_ns: 0,
                doing: Doing::Stopped,
            },
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Those of a parent process are its own.
        if let Some(gauge) = self.gauge() {
            gauge.leave();
        }
    }
}

impl Publisher {
    /// Where it publishes; nowhere yet, or not in this process.
    pub(crate) fn gauge(&self) -> Option<&Arc<LoopGauge>> {
        let (generation, gauge) = self.gauge.as_ref()?;
        (*generation == fork::generation()).then_some(gauge)
    }

    /// It publishes here from now on, if it has no place in this process.
    pub(crate) fn set_gauge(&mut self, gauge: Arc<LoopGauge>) {
        if self.gauge().is_none() {
            let old = self.gauge.replace((fork::generation(), gauge));
            // What the parent's threads may have been in the middle of is left alone.
            std::mem::forget(old);
        }
    }

    /// Whether it is to publish, at a look at what is ready: `waits` for it, or not.
    #[inline]
    pub(crate) fn is_due(&self, now: u64, waits: bool, load: &LoopLoad) -> bool {
        let Published { doing, busy_ns, .. } = self.published;
        now >= self.due
            || waits && (doing == Doing::Busy || load.busy_ns() - busy_ns >= UNTOLD_MAX_NS)
    }

    /// Publishes, and records what was done since the last time. Whether anything records.
    #[cold]
    pub(crate) fn publish(&mut self, now: u64, doing: Doing, load: &mut LoopLoad) -> bool {
        self.due = now.saturating_add(PUBLISHED_EVERY_NS);
        let at = Instant::from_nanos(monotonic_ns());
        let (busy_ns, running_ns) = (load.busy_ns(), load.running_ns());
        let longest_ns = load.take_longest();
        let fresh = Published {
            at,
            busy_ns,
            running_ns,
            doing,
        };
        let before = std::mem::replace(&mut self.published, fresh);
        let Some(gauge) = self.gauge() else {
            return false;
        };
        let thread = kernel_id();
        gauge.publish(at, doing, thread, load);
        let Some(home) = existing_home().filter(|home| home.runtime.recorder().is_on()) else {
            return false;
        };
        let what = What::Load {
            event_loop: gauge.number,
            thread,
            begin: before.at,
            busy_ns: busy_ns.saturating_sub(before.busy_ns),
            running_ns: running_ns.saturating_sub(before.running_ns),
            longest_ns,
        };
        home.runtime.recorder().record(at, what);
        true
    }
}

/// What is known of a loop's Python class: a short name for whose loop it is.
pub(crate) fn kind_of(event_loop: &Bound<'_, PyAny>) -> Arc<str> {
    let class = event_loop.get_type();
    let module = class.module().ok();
    let module = module.as_ref().and_then(|module| module.to_str().ok());
    module
        .and_then(|module| module.split('.').next())
        .map_or_else(|| "".into(), Arc::from)
}
