//! Marks: which callback runs now, for a watch in another thread.
//!
//! While a loop is armed it marks each callback: its number, when it began, what is called, and by
//! which thread; and each round, from one poll to the next. A watch reads that at any moment,
//! without the GIL, and so tells a callback that takes long from many that are short. What a watch
//! reads lives outside of the loop's objects: the watch keeps it, and may be a thread that never
//! attaches. A watchdog is told of each callback and each round that took long when it is over.
//!
//! Invariants: 1. The object of a mark that is shown is alive: the mark has a reference to it.
//!             2. A callback begins where the one before it in its round has ended: the clock is
//!                read once for each.
//! Threads:    the thread that runs the loop marks; any thread reads.

use std::collections::VecDeque;
use std::sync::Arc;

use offloop::watch::{Ended, Line, Pulse};
use offloop_core::event_loop::Stalled;
use offloop_sys::clock::{TickScale, monotonic_ns, ticks};
use offloop_sys::running::Work;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::super::ground::cell::GilCell;
use super::super::ground::trampoline::ffi_bound;
use crate::recording::{self, SLICE_NS};
use crate::watch;
use crate::watch::blocked::BlockedTime;

/// Callbacks that took long whose objects are kept for the watch; older ones are dropped.
const KEPT_MAX: usize = 16;

/// When the loop was armed, by both clocks: the rate of the ticks follows from that.
#[derive(Clone, Copy)]
pub(crate) struct Armed {
    ticks: u64,
    ns: u64,
}

impl Armed {
    pub(crate) fn now() -> Self {
        Self {
            ticks: ticks(),
            ns: monotonic_ns(),
        }
    }

    /// Seconds since `start`, which is in ticks. Counters of two cores may disagree a little.
    fn seconds_since(self, start: u64) -> f64 {
        let now = Self::now();
        let difference = |later: u64, earlier: u64| {
            #[expect(clippy::cast_precision_loss, reason = "a rough interval")]
            let difference = later.saturating_sub(earlier) as f64;
            difference
        };
        let armed_ticks = difference(now.ticks, self.ticks).max(1.0);
        difference(now.ticks, start) * difference(now.ns, self.ns) / armed_ticks * 1e-9
    }
}

/// The marks of a loop.
pub(crate) struct Marks {
    pulse: Arc<Pulse>,
    state: GilCell<State>,
}

struct State {
    /// `None` while callbacks are not marked.
    armed: Option<Armed>,
    /// To the watchdog, if one watches.
    line: Option<Arc<Line>>,
    /// The time of the watch that the line belongs to; `None` before the loop has looked.
    era: Option<u64>,
    /// Ticks: what lasts as long is told to the watchdog, or recorded.
    limit: u64,
    /// Ticks: what lasts as long is told to the watchdog.
    threshold: u64,
    /// What lasts is recorded.
    recorded: bool,
    /// A callback of this round was recorded.
    seen_in_round: bool,
    /// The number under which the loop is recorded.
    number: u64,
    /// When the last callback ended, or the round began.
    at: u64,
    /// The greatest number of a mark that ended while another one was shown.
    ended_behind: u64,
    /// Callbacks that took long: their numbers, what was called, and the context afterwards.
    kept: VecDeque<(u64, Called)>,
}

/// What was called, and the context in which it was.
pub(crate) type Called = (Option<Py<PyAny>>, Option<Py<PyAny>>);

impl Default for Marks {
    fn default() -> Self {
        Self {
            pulse: Arc::default(),
            state: GilCell::new(State {
                armed: None,
                line: None,
                era: None,
                limit: u64::MAX,
                threshold: u64::MAX,
                recorded: false,
                seen_in_round: false,
                number: 0,
                at: 0,
                ended_behind: 0,
                kept: VecDeque::new(),
            }),
        }
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.pulse.close();
    }
}

impl State {
    fn set_limit(&mut self) {
        let recorded = if self.recorded {
            TickScale::measure().ticks(SLICE_NS)
        } else {
            u64::MAX
        };
        self.limit = self.threshold.min(recorded);
    }
}

impl Marks {
    /// Whether callbacks that last are recorded from now on.
    #[cold]
    pub(crate) fn set_recorded(&self, py: Python<'_>, recorded: bool) {
        self.state.with(py, |state| {
            if state.recorded == recorded {
                return;
            }
            state.recorded = recorded;
            state.set_limit();
            if state.line.is_none() {
                state.armed = recorded.then(Armed::now);
                state.at = ticks();
            }
        });
    }

    /// Records something that took long, if that is wanted; whether the watchdog is to be told.
    #[cold]
    fn record(
        &self,
        py: Python<'_>,
        called: Option<&Bound<'_, PyAny>>,
        (start, end): (u64, u64),
    ) -> bool {
        let length = end.saturating_sub(start);
        let is_round = called.is_none();
        let (number, wanted, is_stall) = self.state.with(py, |state| {
            let known = is_round && state.seen_in_round;
            let length_ns = TickScale::measure().nanoseconds(length);
            let wanted = (state.recorded && !known).then_some(length_ns);
            state.seen_in_round = !is_round;
            (state.number, wanted, length >= state.threshold)
        });
        if let Some(length_ns) = wanted.filter(|length_ns| *length_ns >= SLICE_NS) {
            recording::note_slice(number, length_ns, called, is_round);
        }
        is_stall
    }

    pub(crate) fn arm(&self, py: Python<'_>, armed: Option<Armed>) {
        self.state.with(py, |state| {
            state.armed = armed;
            state.at = ticks();
        });
    }

    #[inline]
    pub(crate) fn are_armed(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.armed.is_some())
    }

    /// Whether the watch was turned on or off, or changed, since the loop last looked.
    #[inline]
    pub(crate) fn is_era_over(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.era) != Some(watch::era())
    }

    /// Joins the watch that is on now, or leaves it.
    #[cold]
    pub(crate) fn begin_era(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        let (era, joined) = watch::join(event_loop, &self.pulse, true)?;
        // Also where a program runs the rounds.
        self.pulse.running.set_thread();
        let goes_on = self.pulse.running.own_round().is_some();
        let number = watch::number_of(event_loop)?;
        let old = self.state.with(py, |state| {
            state.era = Some(era);
            state.number = number;
            if joined.is_some() || state.line.is_some() {
                state.armed = (joined.is_some() || state.recorded).then(Armed::now);
            }
            state.at = ticks();
            state.threshold = joined.as_ref().map_or(u64::MAX, |joined| {
                TickScale::measure().ticks(joined.threshold_ns)
            });
            state.set_limit();
            let line = joined.map(|joined| Arc::new(joined.line));
            std::mem::replace(&mut state.line, line)
        });
        drop(old);
        if !goes_on {
            self.begin_round(py, ticks());
        }
        Ok(())
    }

    /// The calling thread runs the loop from now on. Returns the callback inside which it does.
    pub(crate) fn begin_run(&self, py: Python<'_>) -> Option<Work> {
        let inside = self.pulse.running.work();
        self.pulse.running.set_thread();
        self.begin_round(py, ticks());
        inside
    }

    /// The callback inside which a run began goes on, and is shown again if it still has a mark.
    pub(crate) fn end_run(&self, py: Python<'_>, inside: Option<Work>) {
        let now = ticks();
        self.end_round(py, now);
        let ended_behind = self.state.with(py, |state| state.ended_behind);
        let inside = inside.filter(|work| work.number > ended_behind);
        if let Some(work) = inside {
            // The loop ran other callbacks meanwhile: the time of this one begins anew.
            self.begin_round(py, now);
            self.pulse.running.resume(Work { start: now, ..work });
        }
    }

    /// The loop polls: its round is over.
    #[inline]
    pub(crate) fn end_round(&self, py: Python<'_>, now: u64) {
        let Some(round) = self.pulse.running.end_round() else {
            return;
        };
        let limit = self.state.with(py, |state| state.limit);
        if now.saturating_sub(round.start) >= limit && self.record(py, None, (round.start, now)) {
            self.pulse.note_blocked(round, now);
            self.tell(py, Stalled::Round, (round.number, round.start, now));
        }
    }

    /// What waits for the kernel without the GIL begins the next round by this.
    #[inline]
    pub(crate) fn line(&self, py: Python<'_>) -> Option<Arc<Line>> {
        self.state.with(py, |state| state.line.clone())
    }

    /// A round begins that no line has begun.
    #[inline]
    pub(crate) fn begin_round(&self, py: Python<'_>, now: u64) {
        let line = self.state.with(py, |state| {
            state.at = now;
            state.line.clone()
        });
        line.iter().for_each(|line| line.begin_round(now));
    }

    /// The first callback of the round is about to begin.
    #[inline]
    pub(crate) fn round_began(&self, py: Python<'_>) {
        self.state.with(py, |state| {
            if state.armed.is_some() {
                state.at = ticks();
            }
        });
    }

    /// Measures for how long the loop is blocked from now on; `None` while no watch is on.
    pub(crate) fn blocked_time(&self, py: Python<'_>) -> Option<BlockedTime> {
        let limit = self.state.with(py, |state| state.limit);
        (limit != u64::MAX).then(|| BlockedTime::begin(&self.pulse, limit))
    }

    /// A slice is over that took long.
    #[cold]
    fn tell(&self, py: Python<'_>, stalled: Stalled, (number, start, end): (u64, u64, u64)) {
        let round = self.pulse.running.own_round();
        let ended = Ended {
            stalled,
            number,
            start,
            end,
            round: round.map_or(number, |round| round.number),
        };
        let line = self.line(py);
        line.iter().for_each(|line| line.tell(ended));
    }

    /// Number, age in seconds and callable of what runs now; `None` between callbacks.
    pub(crate) fn current(&self, py: Python<'_>) -> Option<(u64, f64, Option<Py<PyAny>>)> {
        let armed = self.state.with(py, |state| state.armed)?;
        let work = self.pulse.running.work()?;
        let called = self.object(py, work);
        Some((work.number, armed.seconds_since(work.start), called))
    }

    fn object(&self, py: Python<'_>, work: Work) -> Option<Py<PyAny>> {
        let called = work.object as usize as *mut ffi::PyObject;
        if called.is_null() {
            return None;
        }
        // SAFETY: attached: marks are made and removed by attached threads, and this one has not
        // been removed since it was read, so its object is alive (invariant 1).
        Some(unsafe { ffi_bound(py, &called) }.clone().unbind())
    }

    /// What the callback of this number is or was, if it runs now or took long.
    pub(crate) fn called(&self, py: Python<'_>, number: u64) -> Option<Called> {
        if let Some(work) = self.pulse.running.work()
            && work.number == number
        {
            return Some((self.object(py, work), None));
        }
        self.state.with(py, |state| {
            let kept = state.kept.iter().find(|(kept, _)| *kept == number);
            kept.map(|(_, (called, context))| {
                let copy = |object: &Option<Py<PyAny>>| object.as_ref().map(|it| it.clone_ref(py));
                (copy(called), copy(context))
            })
        })
    }

    /// Lets go of what was kept of callbacks that took long.
    pub(crate) fn forget(&self, py: Python<'_>) {
        let kept = self.state.with(py, |state| std::mem::take(&mut state.kept));
        drop(kept);
    }

    pub(crate) fn traverse(
        &self,
        py: Python<'_>,
        visit: &PyVisit<'_>,
    ) -> Result<(), PyTraverseError> {
        self.state.with(py, |state| {
            state.kept.iter().try_for_each(|(_, (called, context))| {
                visit.call(called)?;
                visit.call(context)
            })
        })
    }

    /// The callback took long, and is over.
    #[cold]
    fn over(&self, py: Python<'_>, called: &Bound<'_, PyAny>, times: (u64, u64, u64)) {
        if !self.record(py, Some(called), (times.1, times.2)) {
            return;
        }
        // SAFETY: attached, by the token; a new reference, or null with an error.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) };
        let called = (!called.is_none()).then(|| called.clone().unbind());
        // Without memory for a copy, nothing is known of the context.
        let entry = (times.0, (called, context.ok().map(Bound::unbind)));
        let dropped = self.state.with(py, |state| {
            let full = state.kept.len() >= KEPT_MAX;
            let dropped = if full { state.kept.pop_front() } else { None };
            state.kept.push_back(entry);
            dropped
        });
        drop(dropped);
        self.tell(py, Stalled::Callback, times);
    }
}

/// A callback is marked as running until this is dropped.
pub(crate) struct Mark<'a, 'py> {
    py: Python<'py>,
    marks: &'a Marks,
    number: u64,
    /// A reference of ours, or null.
    called: *mut ffi::PyObject,
}

impl<'a, 'py> Mark<'a, 'py> {
    /// Marks a callback that is about to run; `called` is what a watch is to see, or null.
    ///
    /// # Safety
    /// `called` is alive, or null.
    #[inline]
    pub(crate) unsafe fn begin(
        py: Python<'py>,
        marks: &'a Marks,
        called: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: attached, by the token; alive or null, by the caller.
        unsafe { ffi::Py_XINCREF(called) };
        let at = marks.state.with(py, |state| state.at);
        Self {
            py,
            marks,
            number: marks.pulse.running.begin(called as usize as u64, at),
            called,
        }
    }
}

impl Drop for Mark<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        let Self {
            py, marks, number, ..
        } = *self;
        let now = ticks();
        let limit = marks.state.with(py, |state| {
            state.at = now;
            state.limit
        });
        match marks.pulse.running.end(number) {
            Some(start) if now.saturating_sub(start) >= limit => {
                let none = py.None().into_bound(py);
                let called = if self.called.is_null() {
                    &none
                } else {
                    // SAFETY: attached; the reference of `begin`, which is given back below.
                    unsafe { ffi_bound(py, &self.called) }
                };
                marks.over(py, called, (number, start, now));
            }
            Some(_) => {}
            None => {
                // A run began inside this callback, and is not over.
                marks.state.with(py, |state| {
                    state.ended_behind = state.ended_behind.max(number);
                });
            }
        }
        // SAFETY: attached, by the token; the reference of `begin`, and this mark is neither shown
        // any more nor will be: `end_run` shows no mark that ended behind another.
        unsafe { ffi::Py_XDECREF(self.called) };
    }
}
