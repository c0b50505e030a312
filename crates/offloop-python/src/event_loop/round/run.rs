//! A run of the loop, from its beginning to its end.
//!
//! What a run knows between two callbacks is in the loop's state, under the number of the run:
//! what is left of its round, the context that it has entered, and when it polls. Its thread keeps
//! the number. So another thread can go on with the round while a callback takes long
//! (`offloop_core::event_loop::Runs`).

use std::sync::Arc;

use offloop_core::event_loop::{Lost, PollPace, RunNumber};
use offloop_sys::clock::ticks;
use offloop_sys::running::Work;
use offloop_sys::thread;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::super::handle::context::Entered;
use super::super::port::LoopPort;
use super::loop_core::LoopCore;

/// Rounds are run for as long as this is kept.
pub(super) struct Run<'a, 'py> {
    event_loop: &'a Bound<'py, LoopCore>,
    pub(super) number: RunNumber,
    pub(super) entered: Arc<Entered>,
    /// The callback inside which it began, if the loop is armed.
    inside: Option<Work>,
    /// No outer run goes on.
    is_outermost: bool,
}

impl<'a, 'py> Run<'a, 'py> {
    pub(super) fn begin(event_loop: &'a Bound<'py, LoopCore>) -> PyResult<Self> {
        let (py, port) = (event_loop.py(), event_loop.as_super().get());
        let entered = Arc::new(Entered::default());
        let kept = entered.clone();
        let begun = port.state.with(py, |state| {
            let number = state.runs.begin(thread::ident(), kept);
            if !state.runs.has(number) {
                // Dropped later: the state is in use.
                return Err(state.runs.end(number));
            }
            state.running = !state.schedule.is_lent();
            Ok((number, state.meter.begin()))
        });
        let Ok((number, is_outermost)) = begun else {
            return Err(elsewhere());
        };
        new_pace(event_loop);
        Ok(Self {
            event_loop,
            number,
            entered,
            inside: port.marks.begin_run(),
            is_outermost,
        })
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

    /// Another run has come in the place of this one: goes on if that is possible.
    #[cold]
    pub(super) fn regain(&self) -> PyResult<()> {
        let state = &self.port().state;
        match state.with(self.py(), |state| state.runs.lost(self.number)) {
            Lost::GoOn => Ok(()),
            Lost::Wait(_) | Lost::End(_) => Err(elsewhere()),
        }
    }
}

impl Drop for Run<'_, '_> {
    fn drop(&mut self) {
        let (py, port) = (self.py(), self.port());
        let kept = port.state.with(py, |state| {
            state.running = !self.is_outermost && !state.schedule.is_lent();
            state.meter.end(self.is_outermost);
            state.runs.end(self.number)
        });
        drop(kept);
        port.marks.end_run(py, self.inside);
        // The outer run polls as soon as it can: nothing is known of what became ready.
        new_pace(self.event_loop);
    }
}

fn new_pace(event_loop: &Bound<'_, LoopCore>) {
    let state = &event_loop.get().state;
    state.with(event_loop.py(), |state| state.pace = PollPace::new(ticks()));
}

/// As the standard loop says it.
fn elsewhere() -> PyErr {
    PyRuntimeError::new_err("This event loop is already running")
}
