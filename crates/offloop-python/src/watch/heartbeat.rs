//! The pulse of a loop that is not ours.
//!
//! Such a loop tells its rounds and no callbacks: `waits` before it asks the kernel what is ready,
//! `goes_on` afterwards. Both are called by its thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offloop::loads::Doing;
use offloop::watch::{Ended, Line, Pulse};
use offloop_core::event_loop::{LoopLoad, Stalled};
use offloop_core::watch::{Look, Looks};
use offloop_sys::clock::{TickScale, monotonic_ns, thread_cpu_ns, ticks};
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use super::blocked::BlockedTime;
use super::{NO_ERA, era, gauge_of, join};
use crate::event_loop::heard;
use crate::loads::Publisher;
use crate::recording::{SLICE_NS, note_slice};

/// What tells a watch of a loop that is not ours.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Heartbeat {
    event_loop: Py<PyWeakrefReference>,
    pulse: Arc<Pulse>,
    era: AtomicU64,
    joined: Mutex<Option<(Arc<Line>, u64)>>,
    looks: Mutex<Looks>,
    load: Mutex<Load>,
}

/// What the loop has done, by the clock of its ticks.
struct Load {
    /// One for all times: they are compared.
    scale: TickScale,
    load: Box<LoopLoad>,
    publisher: Publisher,
    recorded: bool,
    /// Processor time of the loop's thread at its last beat.
    cpu_ns: u64,
}

/// How a loop that beats spent a round, in ticks from its begin on.
#[derive(Clone, Copy)]
struct Rest {
    /// Until then it waited, as far as the processor time of its thread tells.
    waited: u64,
    /// When the next beat was due.
    due: u64,
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let mut load = self.load();
        let now = load.scale.nanoseconds(ticks());
        let Load {
            load, publisher, ..
        } = &mut *load;
        load.end(now);
        publisher.publish(now, Doing::Stopped, load);
        self.pulse.close();
    }
}

/// What a loop that is idle was looked through for; times in nanoseconds.
pub(super) enum Idle {
    /// Nothing: it is to be looked through after this.
    TooEarly {
        /// From now on.
        next: u64,
    },
    /// Its tasks, and it may have more to do since.
    Looked {
        /// After what time again, if that matters.
        next: Option<u64>,
    },
}

impl Heartbeat {
    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A round is over; if the loop beats, it has rested.
    fn round_is_over(&self, py: Python<'_>, rest: Option<Rest>) -> PyResult<()> {
        let line = self.line(py)?;
        let now = ticks();
        let round = self.pulse.running.end_round();
        let due = rest.map_or(0, |rest| rest.due);
        let busy_since = |start: u64| start.saturating_add(due).min(now);
        if let (Some(round), Some(rest)) = (round, rest) {
            let mut load = self.load();
            let scale = load.scale;
            let waited = round.start.saturating_add(rest.waited).min(now);
            load.load.begin(scale.nanoseconds(waited));
            load.load.resume_unseen(scale.nanoseconds(waited));
            load.load.look(scale.nanoseconds(busy_since(round.start)));
        }
        let recorded = self.publish(now);
        if let (Some(round), Some((line, limit))) = (round, line) {
            let length = now.saturating_sub(round.start);
            if let Some(number) = recorded {
                let busy = now - busy_since(round.start);
                let length_ns = TickScale::measure().nanoseconds(busy);
                if length_ns >= SLICE_NS {
                    note_slice(number, length_ns, None, true);
                }
            }
            if length < limit {
                return Ok(());
            }
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

    /// What a loop did that was to beat `rested` seconds after its last beat.
    fn rest(&self, rested: f64) -> Rest {
        let mut load = self.load();
        let now_ns = thread_cpu_ns();
        let used_ns = now_ns.saturating_sub(load.cpu_ns);
        load.cpu_ns = now_ns;
        let (scale, due_ns) = (TickScale::measure(), nanoseconds(rested));
        Rest {
            waited: scale.ticks(due_ns.saturating_sub(used_ns)),
            due: scale.ticks(due_ns),
        }
    }

    /// A round begins.
    fn begin_round(&self, py: Python<'_>, now: u64) -> PyResult<()> {
        let line = self.line(py)?;
        line.iter().for_each(|(line, _)| line.begin_round(now));
        Ok(())
    }

    /// The loop asks what is ready. The number under which it is recorded, if it is.
    fn publish(&self, now: u64) -> Option<u64> {
        let mut load = self.load();
        let now = load.scale.nanoseconds(now);
        let Load {
            load,
            publisher,
            recorded,
            ..
        } = &mut *load;
        load.begin(now);
        load.wait(now);
        if publisher.is_due(now, true, load) {
            *recorded = publisher.publish(now, Doing::Waiting, load);
        }
        let gauge = publisher.gauge().filter(|_| *recorded);
        gauge.map(|gauge| gauge.number)
    }

    /// The loop has nothing else to do: `told` looks for tasks that never go on, unless it is too
    /// early. It is called with the loop, and whether that waits for ever.
    pub(super) fn idle(&self, told: &Bound<'_, PyAny>, for_ever: bool) -> PyResult<Idle> {
        let look = if for_ever { Look::Whole } else { Look::Circles };
        let begin = monotonic_ns();
        let too_early = self.looks().too_early_ns(look, begin);
        if too_early > 0 {
            return Ok(Idle::TooEarly { next: too_early });
        }
        let next = self.look(told, for_ever)?;
        self.looks().looked(begin, monotonic_ns());
        Ok(Idle::Looked { next })
    }

    /// Has `told` look. Returns in how many nanoseconds it is to be called again.
    fn look(&self, told: &Bound<'_, PyAny>, for_ever: bool) -> PyResult<Option<u64>> {
        let Some(event_loop) = self.event_loop.bind(told.py()).upgrade() else {
            return Ok(None);
        };
        let next = heard(told, told.call1((event_loop, for_ever)))?;
        let next = next.and_then(|seconds| seconds.extract().ok());
        Ok(next.map(nanoseconds))
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
        if self.load().publisher.gauge().is_none() {
            let thread_name = fresh.as_ref().map(|fresh| Arc::clone(&fresh.thread_name));
            let gauge = gauge_of(&event_loop, thread_name)?;
            self.load().publisher.set_gauge(gauge);
        }
        self.pulse.running.set_thread();
        self.era.store(era, Ordering::Relaxed);
        *joined = fresh.map(|fresh| {
            let limit = TickScale::measure().ticks(fresh.threshold_ns);
            (Arc::new(fresh.line), limit)
        });
        Ok(joined.clone())
    }
}

pub(super) fn nanoseconds(seconds: f64) -> u64 {
    let duration = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
            load: Mutex::new(Load {
                scale: TickScale::measure(),
                load: Box::default(),
                publisher: Publisher::default(),
                recorded: false,
                cpu_ns: 0,
            }),
        })
    }

    /// The loop runs in the calling thread from now on.
    pub(super) fn runs_here(&self, py: Python<'_>) -> PyResult<()> {
        self.pulse.running.set_thread();
        self.load().cpu_ns = thread_cpu_ns();
        self.goes_on(py)
    }

    /// The loop asks what is ready: its round is over.
    pub(super) fn waits(&self, py: Python<'_>) -> PyResult<()> {
        self.round_is_over(py, None)
    }

    /// The loop beats no more. Its next beat was to come `rested` seconds after the last one.
    fn ends_beating(&self, py: Python<'_>, rested: f64) -> PyResult<()> {
        self.round_is_over(py, Some(self.rest(rested)))
    }

    /// The loop has something to do: a round begins.
    pub(super) fn goes_on(&self, py: Python<'_>) -> PyResult<()> {
        let now = ticks();
        let mut load = self.load();
        let at = load.scale.nanoseconds(now);
        load.load.resume(at);
        drop(load);
        self.begin_round(py, now)
    }

    /// Measures for how long the loop is blocked from now on; None while no watch is on.
    fn blocked_time(&self) -> Option<BlockedTime> {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        joined
            .as_ref()
            .map(|(_line, limit)| BlockedTime::begin(&self.pulse, *limit))
    }

    /// The loop has nothing to do for now: `told` looks for tasks that never go on, unless it is
    /// too early.
    fn looks_idle(&self, told: &Bound<'_, PyAny>) -> PyResult<()> {
        self.idle(told, false).map(drop)
    }

    /// A round is over, and another one begins: for a loop that tells of itself now and then. This
    /// was to come `rested` seconds after the last one. The loop was busy for what it is late by,
    /// and for the processor time of its thread before that.
    fn beats(&self, py: Python<'_>, rested: f64) -> PyResult<()> {
        // Relaxed: only the loop's thread looks.
        if self.era.load(Ordering::Relaxed) == era() {
            self.ends_beating(py, rested)?;
        } else {
            // It was set when another threshold was in force, and so may be late for this one.
            self.pulse.running.end_round();
        }
        self.begin_round(py, ticks())
    }
}
