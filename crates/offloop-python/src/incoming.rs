//! What has come of a stream, and the futures of the coroutines that wait for more.
//!
//! Items stay as bytes until they are taken. One future waits for the next thing to come, and only
//! while nothing is there, so a batch of items wakes its consumer once.
//!
//! Invariants: 1. No Python code runs, and no Python object is dropped, while the state is locked.
//!             2. Futures are set on the thread of their loop, by its owner's drain.

use std::sync::{Mutex, MutexGuard, PoisonError};

use offloop::{Item, Outcome};
use offloop_core::{Inbox, Next, Stop};
use pyo3::prelude::*;

/// The items of one call that have come, and what waits for them.
#[derive(Default)]
pub(crate) struct Incoming(Mutex<State>);

#[derive(Default)]
struct State {
    inbox: Inbox<Item, Outcome>,
    /// Waits until `inbox` has something.
    arrival: Option<Py<PyAny>>,
    /// Wait until the call is over.
    ends: Vec<Py<PyAny>>,
}

impl Incoming {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An item has come.
    pub(crate) fn arrive(&self, py: Python<'_>, item: Item) -> PyResult<()> {
        let (unwanted, arrival) = {
            let mut state = self.lock();
            let cost = item.cost;
            (state.inbox.handle_item(item, cost), state.arrival.take())
        };
        drop(unwanted);
        arrival.map_or(Ok(()), |future| set_done(future.bind(py)))
    }

    /// The call has ended.
    pub(crate) fn end(&self, py: Python<'_>, outcome: Outcome) -> PyResult<()> {
        let (unwanted, arrival, ends) = {
            let mut state = self.lock();
            let unwanted = state.inbox.handle_end(outcome);
            let ends = std::mem::take(&mut state.ends);
            (unwanted, state.arrival.take(), ends)
        };
        drop(unwanted);
        let mut result = Ok(());
        for future in arrival.into_iter().chain(ends) {
            // A future that refuses does not keep the rest waiting.
            result = result.and(set_done(future.bind(py)));
        }
        result
    }

    /// Takes what comes next.
    pub(crate) fn take(&self) -> Next<Item, Outcome> {
        self.lock().inbox.take()
    }

    /// Whether there is nothing to take yet.
    pub(crate) fn waits(&self) -> bool {
        self.lock().inbox.waits()
    }

    /// The future that waits now, if one does.
    pub(crate) fn arrival(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = self.lock();
        state.arrival.as_ref().map(|future| future.clone_ref(py))
    }

    /// Has `future` set when something comes; false when that has happened.
    pub(crate) fn await_arrival(&self, future: Py<PyAny>) -> bool {
        let mut state = self.lock();
        if !state.inbox.waits() {
            return false;
        }
        let replaced = state.arrival.replace(future);
        drop(state);
        drop(replaced);
        true
    }

    /// Has `future` set when the call is over; false when it is.
    pub(crate) fn await_end(&self, future: Py<PyAny>) -> bool {
        let mut state = self.lock();
        if state.inbox.has_ended() {
            return false;
        }
        state.ends.push(future);
        true
    }

    /// Nothing more is wanted: what is to be done about the call, and the future that waits for
    /// what will not come.
    pub(crate) fn close(&self) -> (Stop, Option<Py<PyAny>>) {
        let (closed, arrival) = {
            let mut state = self.lock();
            (state.inbox.close(), state.arrival.take())
        };
        let (_items, _end, stop) = closed;
        (stop, arrival)
    }
}

/// Resolves the future of a coroutine that waits for something to happen, unless it has been
/// cancelled.
pub(crate) fn set_done(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !is_done(future)? {
        future.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

/// Whether a future is done.
pub(crate) fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let done = future.call_method0(pyo3::intern!(future.py(), "done"))?;
    done.is_truthy()
}
