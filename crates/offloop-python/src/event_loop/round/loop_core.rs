//! What rounds know of a loop, and the class that has it.

use std::sync::Arc;

use offloop_sys::readiness::Found;
use pyo3::prelude::*;

use super::super::ground::cell::GilCell;
use super::super::port::LoopPort;
use super::super::streams::stream::Stream;
use super::endings::Endings;
use super::found::Overrides;
use super::idle::Idle;
use super::lent::Lent;
use super::turnstile::Turnstile;

/// What only rounds use of a loop.
pub(super) struct State {
    /// Room for what a poll finds; taken out while a thread waits with it.
    pub(super) found: Option<Found>,
    pub(super) overrides: Overrides,
    /// What was to be run, while the program has it.
    pub(super) lent: Option<Lent>,
    pub(super) slow_callback_s: f64,
    pub(super) task_factory: Option<Py<PyAny>>,
    /// While failed tasks are told of.
    pub(super) endings: Option<Arc<Endings>>,
    /// While the loop is looked at before it waits for ever.
    pub(super) idle: Option<Idle>,
}

/// The native half of `offloop.EventLoop`.
#[pyclass(extends = LoopPort, subclass, frozen, module = "_offloop_worker._offloop")]
pub(crate) struct LoopCore {
    pub(super) state: GilCell<State>,
    pub(super) turnstile: Turnstile,
}

/// Every stream that is not over.
pub(super) fn all_streams<'py>(
    event_loop: &Bound<'py, LoopCore>,
) -> PyResult<Vec<Bound<'py, Stream>>> {
    let (py, port) = (event_loop.py(), event_loop.as_super().get());
    let streams = port.streams.with(py, |streams| streams.all(py));
    let streams = streams.into_iter();
    Ok(streams.map(Bound::cast_into).collect::<Result<_, _>>()?)
}

impl LoopCore {
    /// The containers, if they are lent.
    pub(super) fn lent(&self, py: Python<'_>) -> Option<Lent> {
        self.state.with(py, |state| {
            state.lent.as_ref().map(|lent| lent.clone_ref(py))
        })
    }
}
