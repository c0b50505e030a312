//! The pulse of a loop that is not ours.
//!
//! Such a loop tells its rounds and no callbacks: `waits` before it asks the kernel what is ready,
//! `goes_on` afterwards. Both are called by its thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offloop::watch::{Ended, Line, Pulse};
use offloop_core::event_loop::Stalled;
use offloop_core::watch::{Look, Looks};
use offloop_sys::clock::{TickScale, monotonic_ns, ticks};
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use super::blocked::BlockedTime;
use super::{NO_ERA, era, join};

/// What tells a watch of a loop that is not ours.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Heartbeat {
    event_loop: Py<PyWeakrefReference>,
    pulse: Arc<Pulse>,
    era: AtomicU64,
    joined: Mutex<Option<(Arc<Line>, u64)>>,
    looks: Mutex<Looks>,
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.pulse.close();
    }
}

impl Heartbeat {
    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line to the watch that is on, and how many ticks are too many.
    fn line(&self, py: Python<'_>) -> PyResult<Option<(Arc<Line>, u64)>> {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: only the loop's thread looks.
        if self.era.load(Ordering::Relaxed) == era() {
            return Ok(joined.clone());
        }
        let Some(event_loop) = self.event_loop.bind(py).upgrade() else {
            return Ok(None);
        };
        let (era, fresh) = join(&event_loop, &self.pulse, false)?;
        self.pulse.running.set_thread();
        self.era.store(era, Ordering::Relaxed);
        *joined = fresh.map(|fresh| {
            let limit = TickScale::measure().ticks(fresh.threshold_ns);
            (Arc::new(fresh.line), limit)
        });
        Ok(joined.clone())
    }
}

#[pymethods]
impl Heartbeat {
    #[new]
    fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
            pulse: Arc::default(),
            era: AtomicU64::new(NO_ERA),
            joined: Mutex::new(None),
            looks: Mutex::default(),
        })
    }

    /// The loop runs in the calling thread from now on.
    fn runs_here(&self, py: Python<'_>) -> PyResult<()> {
        self.pulse.running.set_thread();
        self.goes_on(py)
    }

    /// The loop asks what is ready: its round is over.
    fn waits(&self, py: Python<'_>) -> PyResult<()> {
        let line = self.line(py)?;
        let now = ticks();
        if let (Some(round), Some((line, limit))) = (self.pulse.running.end_round(), line)
            && now.saturating_sub(round.start) >= limit
        {
            self.pulse.note_blocked(round, now);
            line.tell(Ended {
                stalled: Stalled::Round,
                number: round.number,
                start: round.start,
                end: now,
                round: round.number,
            });
        }
        Ok(())
    }

    /// The loop has something to do: a round begins.
    fn goes_on(&self, py: Python<'_>) -> PyResult<()> {
        let line = self.line(py)?;
        line.iter().for_each(|(line, _)| line.begin_round(ticks()));
        Ok(())
    }

    /// Measures for how long the loop is blocked from now on; None while no watch is on.
    fn blocked_time(&self) -> Option<BlockedTime> {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        joined
            .as_ref()
            .map(|(_line, limit)| BlockedTime::begin(&self.pulse, *limit))
    }

    /// The loop has nothing else to do: `told` looks for tasks that never go on. It is called with
    /// the loop, and whether that waits for ever. Returns for how many seconds it is too early.
    fn looks_idle(
        &self,
        told: &Bound<'_, PyAny>,
        for_ever: bool,
        py: Python<'_>,
    ) -> PyResult<Option<f64>> {
        let look = if for_ever { Look::Whole } else { Look::Circles };
        let begin = monotonic_ns();
        let too_early = self.looks().too_early_ns(look, begin);
        if too_early > 0 {
            return Ok(Some(Duration::from_nanos(too_early).as_secs_f64()));
        }
        if let Some(event_loop) = self.event_loop.bind(py).upgrade() {
            told.call1((event_loop, for_ever))?;
        }
        self.looks().looked(begin, monotonic_ns());
        Ok(None)
    }

    /// A round is over, and another one begins: for a loop that tells of itself now and then.
    fn beats(&self, py: Python<'_>) -> PyResult<()> {
        // Relaxed: only the loop's thread looks.
        if self.era.load(Ordering::Relaxed) == era() {
            self.waits(py)?;
        } else {
            // It was set when another threshold was in force, and so may be late for this one.
            self.pulse.running.end_round();
        }
        self.goes_on(py)
    }
}
