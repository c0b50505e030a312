//! A run of the loop, from its beginning to its end.
//!
//! What a run knows of its round is in the loop's state, under the number of the run: what is left,
//! and the context that it has entered. Its thread keeps the number. So another thread can go on
//! with the round while a callback takes long (`offloop_core::event_loop::Runs`).

use std::sync::Arc;

use super::super::ground::threads::this_thread;
use offloop_core::event_loop::{Lost, NotRelieved, PollPace, RunNumber};
use offloop_sys::clock::ticks;
use offloop_sys::running::Work;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::super::handle::context::Entered;
use super::super::port::LoopPort;
use super::endings::Endings;
use super::loop_core::LoopCore;
use super::poll::begin_era;

/// Rounds are run for as long as this is kept.
pub(super) struct Run<'a, 'py> {
    event_loop: &'a Bound<'py, LoopCore>,
    pub(super) number: RunNumber,
    pub(super) entered: Arc<Entered>,
    /// When it polls; at once when it has the loop anew.
    pub(super) pace: PollPace,
    /// What is looked at after each step of a task, as of the last round.
    pub(super) endings: Option<Arc<Endings>>,
    /// The callback inside which it began, if the loop is armed.
    inside: Option<Work>,
}

impl<'a, 'py> Run<'a, 'py> {
    pub(super) fn begin(event_loop: &'a Bound<'py, LoopCore>) -> PyResult<Self> {
        let (py, port) = (event_loop.py(), event_loop.as_super().get());
        if port.marks.is_era_over(py) {
            begin_era(event_loop)?;
        }
        let entered = Arc::new(Entered::default());
        let kept = entered.clone();
        let begun = port.state.with(py, |state| {
            let number = state.runs.begin(this_thread(), kept)?;
            state.meter.begin();
            Ok((number, state.runs_rounds()))
        });
        event_loop.get().turnstile.turn();
        let (number, runs_rounds) = begun.map_err(|_: NotRelieved<_>| {
            // As the standard loop says it.
            PyRuntimeError::new_err("This event loop is already running")
        })?;
        port.unsent
            .with(py, |unsent| unsent.set_running(runs_rounds));
        Ok(Self {
            event_loop,
            number,
            entered,
            pace: PollPace::new(ticks()),
            endings: None,
            inside: port.marks.begin_run(py),
        })
    }

    /// What is to be looked at after each step of a task in this round.
    #[inline]
    pub(super) fn take_endings(&mut self) -> Option<Arc<Endings>> {
        let kept = self.endings.take();
        let rounds = &self.event_loop.get().state;
        rounds
            .with(self.py(), |state| match (&kept, &state.endings) {
                (None, None) => None,
                (Some(ours), Some(theirs)) if Arc::ptr_eq(ours, theirs) => None,
                (_, theirs) => Some(theirs.clone()),
            })
            .unwrap_or(kept)
    }

    pub(super) fn event_loop(&self) -> &'a Bound<'py, LoopCore> {
        self.event_loop
    }

    pub(super) fn py(&self) -> Python<'py> {
        self.event_loop.py()
    }

    pub(super) fn port(&self) -> &'a LoopPort {
        self.event_loop.as_super().get()
    }

    /// Leaves the context that is entered, if there is one.
    pub(super) fn leave(&self) -> PyResult<()> {
        self.entered.leave(self.py())
    }

    /// Another run has come in the place of this one, or wants to. Waits for the loop; false if
    /// this run is to end, since it has relieved another one that goes on now.
    #[cold]
    pub(super) fn regain(&mut self) -> PyResult<bool> {
        let (py, port) = (self.py(), self.port());
        let turnstile = &self.event_loop.get().turnstile;
        // Only this thread can leave it.
        self.leave()?;
        loop {
            let seen = turnstile.turns();
            let lost = port.state.with(py, |state| state.runs.lost(self.number));
            match lost {
                Lost::GoOn => break,
                Lost::End(_) => {
                    turnstile.turn();
                    return Ok(false);
                }
                Lost::Wait(asked) => {
                    if asked.is_some() {
                        turnstile.turn();
                        port.wake(py)?;
                    }
                }
            }
            py.detach(|| turnstile.wait(seen));
            py.check_signals()?;
        }
        port.marks.begin_run(py);
        self.pace = PollPace::new(ticks());
        Ok(true)
    }
}

impl Drop for Run<'_, '_> {
    fn drop(&mut self) {
        let (py, port) = (self.py(), self.port());
        let (kept, runs_rounds) = port.state.with(py, |state| {
            let kept = state.runs.end(self.number);
            let is_over = state.runs.is_empty();
            state.meter.end(is_over);
            (kept, state.runs_rounds())
        });
        self.event_loop.get().turnstile.turn();
        port.unsent
            .with(py, |unsent| unsent.set_running(runs_rounds));
        drop(kept);
        port.marks.end_run(py, self.inside);
    }
}
